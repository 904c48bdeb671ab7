"""From what is stored to what is measured and back: phases, Hounsfield units, priors that fit."""

import pytest
import torch

from invdiff.acquisitions import CT, MRI, Blur
from invdiff.comparison import best_tv, mean_eigenvalue
from invdiff.errors import ConfigError
from invdiff.operators import ComplexFromChannels, Identity, Mask, UndersampledComplexFourier, gaussian_blur
from invdiff.priors.checkpoints import shipped
from invdiff.reconstruction import reconstruct
from invdiff.simulation import simulate
from invdiff.solvers import CG, Adjoint, DiffPIR
from invdiff.space import Space
from invdiff.volumes import Volume, load

SLICE = Space((1, 20, 16))


def images(generator, p=6):
    return torch.rand((p, 1, 20, 16), generator=generator) * 900


@pytest.mark.parametrize("acquisition", [MRI(), MRI(image="real"), CT(), CT(air=0.0), Blur()])
def test_to_the_unknown_and_back(acquisition, generator):
    x = images(generator)
    unknown = acquisition.to_unknown(x, 3)
    assert tuple(unknown.shape[1:]) == acquisition.domain(SLICE).shape
    torch.testing.assert_close(acquisition.to_stored(unknown), x, rtol=1e-5, atol=1e-3)
    assert float(acquisition.to_stored(torch.zeros(1, *acquisition.domain(SLICE).shape)).max()) == acquisition.zero
    assert acquisition.prior in shipped()


def test_the_phase_is_smooth_reproducible_and_as_wide_as_asked(generator):
    x = torch.ones(12, 1, 64, 48)
    z = MRI(phase=0.8).to_unknown(x, 5)
    assert torch.equal(z, MRI(phase=0.8).to_unknown(x, 5))
    assert not torch.equal(z, MRI(phase=0.8).to_unknown(x, 6))
    z = torch.complex(z[:, 0], z[:, 1])
    steps = torch.cat(
        [torch.angle(z[:, 1:] * z[:, :-1].conj()).flatten(), torch.angle(z[..., 1:] * z[..., :-1].conj()).flatten()]
    )
    assert float(steps.abs().max()) < 0.6  # knots 12 voxels apart, two standard deviations up and down
    about = torch.angle(z * z.mean().conj() / z.mean().abs())  # 0.8 rad about the mean: hardly any voxel wraps
    assert float(about.std()) == pytest.approx(0.8, rel=0.1)
    assert float((MRI(phase=0.0).to_unknown(x, 5) - MRI(phase=0.0).to_unknown(x, 5)[:1, :, :1, :1]).abs().max()) < 1e-6


def test_a_real_unknown_is_the_milder_task(small_volume):
    """Half of the lines of a real image are told by their mirror lines: least squares is better at equal lines."""
    scan = load(small_volume)
    error = {}
    for image in ("real", "complex"):
        m = simulate(scan, MRI(image=image, pattern="random"), noise=0.0)
        error[image] = float((reconstruct(m, CG()).mean.data - scan.data).square().mean())
    assert error["real"] < 0.8 * error["complex"]


def test_hounsfield_units_come_back(generator):
    """Enough views and no noise: least squares gives the stored values, air at -1000."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    body = torch.where(x**2 + y**2 < 0.6, 40.0, -1000.0) + torch.where((x - 0.2) ** 2 + y**2 < 0.05, 500.0, 0.0)
    scan = Volume(body[None, :, :, None].contiguous(), torch.eye(4).double().numpy())
    m = simulate(scan, CT(views=90), noise=0.0)
    assert float(m.y.min()) >= 0, "line integrals of what is above air"
    back = reconstruct(m, CG(iterations=200)).mean.data
    assert float((back - scan.data).square().mean().sqrt()) < 10
    recon = reconstruct(m, DiffPIR(steps=2), seeds=(0,))
    assert recon.facts["prior"]["name"] == "ct-body"
    assert recon.facts["intensity_unit"] == 2000
    assert recon.facts["intensity_offset"] == -1000


def test_noise_is_relative_to_the_magnitude(small_volume):
    scan = load(small_volume)
    complex_, real = (simulate(scan, MRI(image=i), noise=0.01).noise.sigma for i in ("complex", "real"))
    assert complex_ == pytest.approx(real, rel=1e-5)


def test_zero_filling_is_a_magnitude(small_volume):
    m = simulate(load(small_volume), MRI(acceleration=1.0, center_fraction=1.0), noise=0.0)
    x = reconstruct(m, Adjoint()).mean.data
    torch.testing.assert_close(x, load(small_volume).data.abs(), rtol=1e-4, atol=1e-1)


def test_mean_eigenvalue():
    space = Space((1, 24, 24))
    assert mean_eigenvalue(Identity(space)) == pytest.approx(1)
    half = torch.zeros((24, 24), dtype=torch.bool)
    half[::2] = True
    assert mean_eigenvalue(Mask(space, half)) == pytest.approx(0.5, rel=0.1)
    A = UndersampledComplexFourier(Space((2, 24, 24)), half)
    assert mean_eigenvalue(A) == pytest.approx(0.5, rel=0.1)
    blur = gaussian_blur(space, (1.0, 1.0))
    assert 0.02 < mean_eigenvalue(blur) < 0.3


@pytest.mark.parametrize(("acquisition", "noise"), [(MRI(), 0.01), (CT(), 0.01)])
def test_the_best_weight_of_tv_is_inside_its_range(acquisition, noise, small_volume):
    scan = load(small_volume)
    scan = scan.like(scan.data - 1000 * isinstance(acquisition, CT))
    m = simulate(scan, acquisition, noise=noise)
    _, weight = best_tv(m, scan)
    scale = mean_eigenvalue(m.operator())
    assert 1.5e-3 < weight / scale < 0.3


def test_channels_come_in_pairs():
    with pytest.raises(ConfigError, match="an even number of channels, found 1x20x16"):
        ComplexFromChannels(SLICE)

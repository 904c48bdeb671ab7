"""The unknown on voxels that its prior knows: which they are, the operator, and what a reconstruction makes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from invdiff import load, reconstruct, save, simulate, stepsizes
from invdiff.acquisitions import CT, MRI, Blur, Denoise, ThickSlices
from invdiff.errors import CapabilityError, ConfigError
from invdiff.learned import learned
from invdiff.noise import GaussianNoise
from invdiff.operators import Composed, Identity, Subdivided, average_pool
from invdiff.planes import Planes
from invdiff.priors import checkpoints
from invdiff.priors.gaussian import posterior
from invdiff.problem import InverseProblem
from invdiff.regrid import Grid, behind, choose, home, lost, onto
from invdiff.solution import solve
from invdiff.solvers import DDRM, DDS, DDS3D, I2SB, MMPS, SCD, TPDM, TV, DiffPIR, PnP
from invdiff.space import Space
from invdiff.steering import Steering
from invdiff.testing.operators import dense
from invdiff.testing.priors import smooth_gaussian
from invdiff.volumes import Volume

CPU = torch.device("cpu")
SEEN = (0.5, 3.0)
FEW = {"seeds": (0,), "antithetic": False}
BOTH = Planes((2, 0))


@pytest.fixture
def volume(small_volume, tmp_path):
    """Four slices, 2.2 mm apart in truth, that are 6 mm thick by their affine: pixels of 2 x 6 mm in other planes."""
    v = load(small_volume)
    save(tmp_path / "thick.nii", Volume(v.data, v.affine @ np.diag([1, 1, 6 / v.spacing[2], 1])))
    return load(tmp_path / "thick.nii")


CHOSEN = {  # spacing, planes: sizes of 60 x 40 x 20 voxels that the prior gets by auto, and by prior
    "near": ((1.0, 1.0, 1.9), (2, 0), (60, 40, 20), (60, 40, 20)),
    "unseen thickness": ((1.0, 1.0, 4.0), (2,), (60, 40, 20), (60, 40, 20)),
    "thick slices": ((1.0, 1.0, 4.0), (2, 0), (60, 40, 80), (60, 40, 80)),
    "no whole number": ((1.0, 1.0, 2.7), (2, 0), (60, 40, 40), (60, 40, 40)),
    "rounded affine": ((1.0000001, 1.0, 3.9999999), (2, 0), (60, 40, 80), (60, 40, 80)),
    "other axis": ((1.0, 5.0, 1.2), (0,), (60, 160, 20), (60, 160, 20)),
    "two long axes": ((1.0, 2.0, 3.0), (2, 0), (60, 80, 60), (60, 80, 60)),
    "all too large": ((5.0, 5.0, 5.0), (2, 0), (120, 80, 40), (120, 80, 40)),
    "large and long": ((4.0, 4.0, 9.0), (2, 0), (120, 80, 60), (120, 80, 60)),
    "too fine": ((0.2, 0.2, 0.2), (2, 0), (60, 40, 20), (24, 16, 8)),
    "too fine and long": ((0.3, 0.3, 3.0), (2, 0), (60, 40, 20), (36, 24, 120)),
    "a little too fine": ((0.3, 0.45, 0.6), (2, 0), (60, 40, 20), (36, 40, 20)),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_which_grid(name):
    spacing, axes, auto, prior = CHOSEN[name]
    scan = Grid((60, 40, 20), spacing)
    fields = [n * mm for n, mm in zip(scan.sizes, spacing, strict=True)]
    for choice, want in (("scan", scan.sizes), ("auto", auto), ("prior", prior)):
        grid = choose(choice, scan, SEEN, axes)
        assert grid.sizes == want, choice
        np.testing.assert_allclose(np.multiply(grid.sizes, grid.spacing), fields, rtol=1e-12)
    assert choose("prior", scan, SEEN, axes).fits(axes, SEEN)
    assert choose("auto", scan, SEEN, axes, allowed=False) == scan
    assert choose("prior", scan, (), axes) == scan


def test_a_narrow_range_is_met_by_any_number_of_voxels():
    """Trained at 1 mm: whole numbers of parts of 1.5 mm are 1.5 or 0.75."""
    scan = Grid((60, 40, 20), (1.5, 1.5, 1.5))
    assert choose("auto", scan, (1.0, 1.0), (2, 0)) == scan
    grid = choose("prior", scan, (1.0, 1.0), (2, 0))
    assert (grid.sizes, grid.spacing) == ((90, 60, 30), (1.0, 1.0, 1.0))


def test_every_grid_of_a_prior_is_near_and_no_coarser_than_it_must_be():
    generator = np.random.default_rng(0)
    for _ in range(300):
        spacing = tuple(np.exp(generator.uniform(np.log(0.2), np.log(9), 3)))
        scan, axes = Grid((64, 48, 40), spacing), tuple(generator.permutation(3)[: generator.integers(1, 4)])
        auto, prior = choose("auto", scan, SEEN, axes), choose("prior", scan, SEEN, axes)
        assert prior.fits(axes, SEEN), (spacing, axes, prior)
        assert all(m % n == 0 for n, m in zip(scan.sizes, auto.sizes, strict=True)), "parts of voxels"
        assert auto in (scan, prior)
        if min(spacing) >= SEEN[0]:
            assert auto == prior, "never coarser where the scan is not too fine"


def test_lost_detail_is_said():
    scan = Grid((60, 40, 20), (0.3, 0.3, 3.0))
    (warning,) = lost(scan, choose("prior", scan, SEEN, (2, 0)))
    assert warning == (
        "the unknown lives on 36 x 24 x 120 voxels of 0.5 x 0.5 x 0.5 mm, the scan has 60 x 40 x 20 voxels of "
        "0.3 x 0.3 x 3 mm: detail finer than the former is lost; --grid scan keeps it"
    )
    assert lost(scan, scan) == lost(scan, scan.of_sizes((60, 80, 20))) == []


def test_behind_whole_numbers_of_parts_closed_forms_stay():
    A = Identity(Space((1, 6, 5), torch.float64))
    B = behind(A, Space((1, 12, 15), torch.float64))
    assert isinstance(B, Subdivided)
    x = torch.randn(2, 1, 12, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(B(x), average_pool(B.domain, (2, 3))(x))
    other = behind(A, Space((1, 9, 3), torch.float64))
    assert type(other) is Composed
    ones = torch.ones(1, 1, 9, 3, dtype=torch.float64)
    torch.testing.assert_close(other(ones), torch.ones(1, 1, 6, 5, dtype=torch.float64))


@pytest.mark.parametrize("sizes", [(4, 8), (4, 12), (5, 8)], ids=["parts", "parts and larger", "areas"])
def test_the_posterior_on_the_grid_of_a_prior_is_the_closed_form(sizes):
    """A Gaussian prior of 8 x 8 voxels, a blurred scan of other ones: mean and spread of R x."""
    prior, sigma = smooth_gaussian(8, cutoff=20.0), 0.05
    scan = Space((1, *sizes), prior.space.dtype)
    A = Blur(fwhm=2.0).operator(scan, (1.0, 1.0), {})
    truth = prior.sample(torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))).double()
    M, R = (dense(behind(B, prior.space)).double() for B in (A, Identity(scan)))
    y = M @ truth.flatten() + sigma * torch.randn(M.shape[0], generator=torch.Generator().manual_seed(2)).double()
    problem = InverseProblem(A, GaussianNoise(sigma), y.float().reshape(1, *scan.shape))

    root = (prior.sample(torch.eye(64).reshape(64, 1, 8, 8)) - prior.mean).flatten(1).double()
    mean, covariance = posterior(prior.mean.flatten().double(), root.T @ root, M, y, sigma)
    want, spread = R @ mean, (R @ covariance @ R.T).diagonal().sqrt()

    there, n = onto(problem, prior.space), 600
    solver = MMPS(steps=60, iterations=40, sigma_max=20.0, sigma_min=1e-3)
    x = home(there, solve(there, prior, solver, seeds=range(n), width=n).samples[:, 0]).flatten(1).double()
    assert x.shape == (n, len(want))
    z = (x.mean(0) - want) / (spread / n**0.5)
    assert float(z.abs().max()) < 4
    assert float((x.std(0) / spread - 1).abs().max()) < 4 / (2 * n) ** 0.5


def test_thick_slices_get_a_grid_of_their_prior(volume):
    m = simulate(volume, MRI(), noise=0.02)
    r = reconstruct(m, DiffPIR(steps=4), planes=BOTH, **FEW)
    assert r.facts["grid"] == {"sizes": (48, 40, 12), "spacing": pytest.approx((2, 2, 2))}
    assert r.facts["network_calls"] == 2 * 2 + 2 * 6, "twelve slices across one plane, 48 across the other"
    assert r.samples.shape == (1, 1, 2, 48, 40, 4), "of the scan"
    assert r.mean.data.shape == volume.data.shape
    assert r.mean.affine.tobytes() == volume.affine.tobytes()
    assert not [w for w in r.facts["warnings"] if "pixels" in w]
    scan = reconstruct(m, DiffPIR(steps=4), planes=BOTH, grid="scan", **FEW)
    assert scan.facts["grid"] is None
    (warning,) = [w for w in scan.facts["warnings"] if "pixels" in w]
    assert warning == (
        "the prior brain-mr-complex was trained on nearly square pixels of 0.5 to 3 mm; slices across axis 0 have "
        "2 x 6 mm; --grid prior gives it such as it knows"
    )


@pytest.mark.parametrize("acquisition", [Denoise(), Blur(fwhm=4.0), CT(views=24), MRI(coils=3)])
def test_the_scale_and_the_fit_are_those_of_the_scan(acquisition, volume):
    """The same unit on both grids; chi2 is that of the scan's own operator and the image that is written."""
    m = simulate(volume, acquisition, noise=0.02)
    units = []
    for grid in ("scan", "auto"):
        r = reconstruct(m, DiffPIR(steps=2), planes=BOTH, grid=grid, **FEW)
        assert (r.facts["grid"] is None) == (grid == "scan")
        units.append((r.facts["intensity_unit"], r.facts["intensity_offset"]))
        problem = m.as_volumes().problem()
        want = float(problem.residual_norm2(r.samples[0])) / (problem.y.numel() * problem.noise.sigma**2)
        factor = 2 if problem.y.is_complex() else 1
        assert r.facts["data_fit"]["first_sample"]["chi2"] == pytest.approx(want / factor, rel=1e-3)
    assert units[0] == units[1]


def test_auto_leaves_slices_and_decompositions_alone(volume):
    m = simulate(volume, Denoise(), noise=0.02, axis=0)
    r = reconstruct(m, PnP(iterations=1), **FEW)
    assert r.facts["grid"] is None
    assert [w for w in r.facts["warnings"] if "pixels" in w]
    thick = simulate(volume, ThickSlices(factor=2), noise=0.02)
    assert reconstruct(thick, DiffPIR(steps=1), planes=BOTH, **FEW).facts["grid"]["sizes"] == (48, 40, 12)
    assert reconstruct(thick, DDRM(steps=1), planes=BOTH, **FEW).facts["grid"] is None
    with pytest.raises(CapabilityError, match="DDRM needs a SVDOperator as its operator; Subdivided is not one"):
        reconstruct(thick, DDRM(steps=1), planes=BOTH, grid="prior", **FEW)


@pytest.mark.parametrize("solver", [DDS(steps=2), TPDM(steps=2), DDS3D(steps=2), PnP(iterations=2)])
def test_any_solver_runs_on_the_grid_of_a_prior(solver, volume):
    m = simulate(volume, MRI(image="real"), noise=0.02)
    prior, scan = (reconstruct(m, solver, planes=BOTH, grid=grid, **FEW).facts for grid in ("prior", "scan"))
    assert prior["grid"]["sizes"] == (48, 40, 12)
    assert prior["data_fit"]["mean"]["relative_residual"] < 1.5 * scan["data_fit"]["mean"]["relative_residual"]


def test_noise_in_common_and_samples_that_owe_nothing_to_each_other(volume):
    m = simulate(volume, Denoise(), noise=0.02)
    planes = Planes((2, 0), shared=0.5)
    two = reconstruct(m, DiffPIR(steps=2), planes=planes, seeds=(0, 1), antithetic=False)
    one = reconstruct(m, DiffPIR(steps=2), planes=planes, seeds=(1,), antithetic=False)
    assert torch.equal(two.samples[1], one.samples[0])


def test_slices_one_by_one_on_the_grid_of_a_prior(volume):
    """Slices across axis 0 have pixels of 2 x 6 mm; 48 of them, each by itself."""
    m = simulate(volume, MRI(), noise=0.02, axis=0)
    r = reconstruct(m, DiffPIR(steps=2), grid="prior", **FEW)
    assert r.facts["grid"] == {"sizes": (48, 40, 12), "spacing": pytest.approx((2, 2, 2))}
    assert r.samples.shape == (1, 48, 2, 40, 4)
    assert not [w for w in r.facts["warnings"] if "pixels" in w]
    assert (r.mean.affine == volume.affine).all()


def test_steering_follows_the_scan_on_the_grid_of_its_prior(volume):
    m = simulate(volume, MRI(), noise=0.02, axis=0)
    how = Steering(levels=2, inner=1, below=9.0, slices=2)
    r = reconstruct(m, SCD(steps=2), grid="prior", steer=how, **FEW)
    assert (r.facts["steering"]["adam_steps"], r.facts["grid"]["sizes"]) == (2, (48, 40, 12))
    assert r.samples.shape == (1, 48, 2, 40, 4)


def test_ladders_serve_any_grid(volume, tmp_path):
    sha = learned(DiffPIR(), simulate(volume, Denoise()), None, dtype="float32", device=CPU, width=8).sha256
    found = stepsizes.Ladder((0, 2, 5), torch.tensor([4.0, 1.0, 0.0]).double(), 1e-3, 2e-3, 5)
    stepsizes.save(tmp_path / "l.json", found, prior_sha256=sha, solver="diffpir", settings={})
    solver = DiffPIR(steps=2, ladder=str(tmp_path / "l.json"))
    r = reconstruct(simulate(volume, Denoise(), noise=0.02), solver, planes=BOTH, **FEW)
    assert (r.facts["network_calls"], r.facts["grid"]["sizes"]) == (2 + 6, (48, 40, 12))


def test_finer_than_the_prior_knows(volume):
    """Voxels of 0.25 mm: slices as they are but for `prior`, which loses detail and says so."""
    fine = Volume(volume.data, volume.affine @ np.diag([0.125, 0.125, 0.125, 1]))
    m = simulate(fine, Denoise(), noise=0.02)
    assert reconstruct(m, PnP(iterations=1), planes=BOTH, **FEW).facts["grid"] is None
    r = reconstruct(m, PnP(iterations=4), grid="prior", **FEW)
    assert r.facts["grid"]["sizes"] == (24, 20, 4)
    assert r.facts["warnings"][0].startswith("the unknown lives on 24 x 20 x 4 voxels of 0.5 x 0.5 x 0.75 mm, the scan")
    smooth = behind(Identity(Space((1, 48, 40))), Space((1, 24, 20)))
    x = r.mean.data[0].movedim(2, 0)[:, None]
    torch.testing.assert_close(smooth(smooth.pinv(x, iterations=200)), x, atol=1e-3 * float(x.abs().max()), rtol=0)


def test_refusals(volume, tmp_path):
    m = simulate(volume, MRI(), noise=0.02)
    with pytest.raises(ConfigError, match="TV has no prior, so that it has no other grid; leave --grid prior"):
        reconstruct(m, TV(), grid="prior", **FEW)
    assert reconstruct(m, TV(iterations=1), **FEW).facts["grid"] is None
    message = "I2SB begins with the degraded image on the scan's own voxels, so that it has no other grid"
    with pytest.raises(ConfigError, match=message):
        reconstruct(m, I2SB(steps=1), grid="prior", **FEW)
    with pytest.raises(ConfigError, match="the grid of the unknown is auto, scan or prior, got 'fine'"):
        reconstruct(m, PnP(iterations=1), grid="fine", **FEW)
    net, card = checkpoints.load(checkpoints.find("brain-mr-complex"))
    unknown = tmp_path / "p.safetensors"
    checkpoints.save(unknown, net, replace(card, name="heads", spacing=[]))
    message = "the prior heads does not say which voxels it was trained on, so that it has no grid of its own; leave"
    with pytest.raises(ConfigError, match=message):
        reconstruct(m, PnP(iterations=1), prior=unknown, grid="prior", **FEW)
    assert reconstruct(m, PnP(iterations=1), prior=unknown, planes=BOTH, **FEW).facts["grid"] is None


def test_a_bridge_stays_on_the_grid_of_the_scan(volume):
    m = simulate(volume, MRI(acceleration=4), noise=0.01)
    assert reconstruct(m, I2SB(steps=1), **FEW).facts["grid"] is None

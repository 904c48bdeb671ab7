"""CT from settings to measurements: geometries, doses, reconstructions, refusals."""

import math

import numpy as np
import pytest
import torch

from invdiff import measurements
from invdiff.acquisitions import CT, ConeCT, HelicalCT
from invdiff.attenuation import MU_WATER
from invdiff.errors import ConfigError
from invdiff.noise import GaussianNoise
from invdiff.operators import FanBeam, ParallelRadon
from invdiff.reconstruction import reconstruct
from invdiff.simulation import simulate
from invdiff.solvers import CG, TV, DiffPIR, Direct
from invdiff.volumes import Volume

MM = 4.0


@pytest.fixture(autouse=True)
def _nothing_on_disk(monkeypatch):
    monkeypatch.setenv("INVDIFF_CACHE_DIR", "off")


def body(*sizes, length=1.0):
    """Water with a bone and a lung, in Hounsfield units, smooth; voxels of 4 mm."""
    x = torch.stack(torch.meshgrid(*(torch.arange(n) - n // 2 for n in sizes), indexing="ij"), -1).float()
    r = x / torch.tensor([sizes[0] / 2, sizes[1] / 2, length * sizes[2] / 2])

    def ball(centre, radius):
        return torch.sigmoid(25 * (radius - (r - torch.tensor(centre)).norm(dim=-1)))

    hu = (
        -1000
        + 1030 * ball((0.0, 0.0, 0.0), 0.7)
        + 500 * ball((0.3, 0.0, 0.0), 0.15)
        - 600 * ball((-0.3, 0.1, 0.0), 0.2)
    )
    return Volume(hu[None], np.diag([MM, MM, MM, 1.0]))


@pytest.fixture(scope="module")
def slices():
    return body(48, 44, 6)


SETTINGS = {
    "parallel": CT(views=90),
    "limited": CT(views=60, arc=150),
    "shifted": CT(views=90, arc=360, offset=0.25, cell=3.0),
    "fan": CT(views=120, arc=360, geometry="fan"),
    "short scan": CT(views=90, geometry="fan", short_scan=True),
    "half-fan": CT(views=160, arc=360, geometry="fan", detectors=50, offset=12.25, cell=6.0),
    "dose": CT(views=90, photons=1e6),
    "fan at a dose": CT(views=120, arc=360, geometry="fan", photons=1e6, filter="hann"),
}
VOLUMES = {
    "cone": ConeCT(views=40),
    "cone at a dose": ConeCT(views=40, photons=1e6),
    "helix": HelicalCT(views_per_turn=30, feed=12.0),
}


def error(m, solver, scan):
    """Root mean square over the body, in Hounsfield units."""
    inside = scan.data > -300
    return float((reconstruct(m, solver).mean.data - scan.data)[inside].square().mean().sqrt())


@pytest.mark.parametrize("name", SETTINGS)
def test_from_a_scan_to_a_reconstruction(name, slices, tmp_path):
    simulated = simulate(slices, SETTINGS[name], noise=0.001, seed=3)
    measurements.save(tmp_path / "y.h5", simulated)
    m = measurements.load(tmp_path / "y.h5")
    assert m.acquisition == SETTINGS[name]
    assert torch.equal(m.y, simulated.y)
    by_cg = reconstruct(m, CG(iterations=30))
    assert by_cg.facts["data_fit"]["mean"]["relative_residual"] < 0.02
    by_prior = reconstruct(m, DiffPIR(steps=2), seeds=(0,))
    assert bool(torch.isfinite(by_prior.mean.data).all())
    if name != "limited":
        assert error(m, Direct(), slices) < 60


@pytest.mark.parametrize("name", VOLUMES)
def test_from_a_scan_to_a_reconstruction_of_volumes(name, tmp_path):
    scan = body(24, 20, 8, length=5.0)  # nearly the same in each slice: rows of 4 mm blur what is not
    simulated = simulate(scan, VOLUMES[name], noise=0.001, seed=3)
    assert simulated.y.shape[0] == 1
    measurements.save(tmp_path / "y.h5", simulated)
    m = measurements.load(tmp_path / "y.h5")
    assert m.acquisition == VOLUMES[name]
    assert torch.equal(m.y, simulated.y)
    by_cg = reconstruct(m, CG(iterations=10))
    assert by_cg.mean.data.shape == scan.data.shape
    assert by_cg.facts["data_fit"]["mean"]["relative_residual"] < 0.05
    middle = (slice(None), slice(None), slice(None), slice(3, 6))
    got, want = reconstruct(m, Direct()).mean.data[middle], scan.data[middle]
    inside = want > -300
    assert abs(float((got - want)[inside].mean())) < 40


def test_settings_that_were_there_measure_what_they_did(slices):
    m = simulate(slices, CT(), noise=0.0)
    images = slices.data[0].permute(2, 0, 1)[:, None]
    want = ParallelRadon(m.space, torch.arange(60, dtype=torch.float64) * math.pi / 60)(images + 1000)
    assert torch.equal(m.y, want)
    assert isinstance(m.operator(), ParallelRadon)
    assert m.maps == {}


def test_a_short_scan_is_as_long_as_it_must_be(slices):
    A = simulate(slices, SETTINGS["short scan"], noise=0.0).operator()
    assert isinstance(A, FanBeam)
    step = A.angles[1] - A.angles[0]
    assert A.angles[-1] + step == pytest.approx(math.pi + 2 * float(np.abs(A.gamma).max()))
    assert math.pi < A.angles[-1] + step < 1.5 * math.pi


def test_a_fan_is_in_mm(slices):
    A = simulate(slices, CT(geometry="fan", source_to_axis=400, source_to_detector=800, cell=6), noise=0.0).operator()
    assert isinstance(A, FanBeam)
    assert (A.R, A.spacing) == (100.0, 0.75)


@pytest.fixture(scope="module")
def measured(slices):
    """Sixteen times the same slices at a dose: enough rays for sharp statistics."""
    scan = Volume(slices.data.repeat(1, 1, 1, 16), slices.affine)
    return scan, simulate(scan, CT(views=30, photons=2e4), seed=5)


class TestDose:
    """Counts of photons."""

    def test_the_noise_is_white_and_known(self, measured):
        scan, m = measured
        A = CT(views=30, photons=2e4).operator(m._stored, (MM, MM), {})
        integral, mu = A(scan.data[0].permute(2, 0, 1)[:, None] + 1000), MU_WATER / 1000
        p = mu * integral
        assert float(p.max()) == pytest.approx(MU_WATER * 48 * 0.7 * MM, rel=0.25), "of 134 mm of water and some bone"
        assert isinstance(m.noise, GaussianNoise)
        assert m.noise.sigma * mu == pytest.approx(2e4**-0.5)
        z = (m.y - m.maps["weights"][:, None] * integral) / m.noise.sigma
        n = z.numel()
        for part in (z, z[p > 1.5], z[p < 0.1]):
            n = part.numel()
            assert n > 1e4
            assert abs(float(part.mean())) < 4 / n**0.5 + 0.01
            assert float(part.std()) == pytest.approx(1, abs=0.02)
        assert abs(float((z[:, :, :, 1:] * z[:, :, :, :-1]).mean())) < 4 / n**0.5

    def test_one_stream_for_each_slice(self, measured):
        scan, m = measured
        again = simulate(scan, CT(views=30, photons=2e4), seed=5)
        other = simulate(scan, CT(views=30, photons=2e4), seed=6)
        assert torch.equal(m.y, again.y)
        assert not torch.equal(m.y, other.y)
        assert not torch.equal(m.y[0], m.y[6]), "the same slice, other counts"
        few = simulate(Volume(scan.data[..., :6], scan.affine), CT(views=30, photons=2e4), seed=5)
        assert torch.equal(few.y, m.y[:6])

    def test_weights_pay(self, slices):
        """A metal rod: rays through it carry next to nothing, and least squares knows it."""
        data = slices.data.clone()
        data[:, 30:33, 20:23] = 9000
        scan = Volume(data, slices.affine)
        m = simulate(scan, CT(views=90, photons=3e3), seed=1)
        weighted = error(m, CG(iterations=8), slices)
        logs = m.y / m.maps["weights"][:, None] / MM
        blind = measurements.Measurement(logs, CT(views=90), {}, m.noise, m.shape, m.axis, m.header)
        assert weighted < 0.9 * error(blind, CG(iterations=8), slices)

    def test_no_photon_at_all_is_half_of_one(self, slices):
        data = slices.data.clone()
        data[:, 10:38, 10:36] = 60000
        m = simulate(Volume(data, slices.affine), CT(views=10, photons=100.0), seed=1)
        assert bool(torch.isfinite(m.y).all())
        assert float(m.maps["weights"].min()) == pytest.approx((0.5 / 100) ** 0.5)

    def test_attenuation_that_is_stored_as_such(self, slices):
        mu = Volume(MU_WATER * (1 + slices.data / 1000), slices.affine)
        a = simulate(slices, CT(views=20, photons=1e5), seed=2)
        b = simulate(mu, CT(views=20, photons=1e5, air=0.0), seed=2)
        torch.testing.assert_close(a.y * MU_WATER / 1000, b.y, rtol=1e-2, atol=2e-2)

    def test_total_variation_has_the_weight_that_it_has_without(self, slices):
        """Its weight counts in units of y, so these must not depend on how the noise was asked for."""
        few, none = (simulate(slices, CT(views=60, photons=n), noise=0.0, seed=1) for n in (1e6, None))
        assert 0.1 < few.operator().norm2 / none.operator().norm2 / MM**2 < 1
        assert error(few, TV(iterations=60), slices) < 20

    def test_more_photons_less_noise(self, slices):
        errors = [error(simulate(slices, CT(views=90, photons=n), seed=1), Direct(), slices) for n in (1e3, 1e5)]
        assert errors[1] < 0.3 * errors[0]


BAD = {
    "short scan of parallel rays": (
        CT(short_scan=True),
        {},
        "short_scan is for fans; parallel rays need an arc of 180",
    ),
    "photons through neither": (
        CT(photons=1e4, air=100.0),
        {},
        r"photons need Hounsfield units \(air = -1000\) or 1/mm",
    ),
    "another law": (CT(photons=1e4), {"model": "ricelike"}, "photons make noise of their own; leave RiceLike out"),
    "source in the body": (
        CT(geometry="fan", source_to_axis=100.0),
        {},
        "source is 25 from the axis, inside the image",
    ),
    "source in the volume": (ConeCT(source_to_axis=100.0), {}, "the source is 100 from the axis, inside the image"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name, slices, monkeypatch):
    class RiceLike(GaussianNoise):
        pass

    acquisition, more, message = BAD[name]
    if more:
        monkeypatch.setattr("invdiff.registry.find", lambda group, name: RiceLike)
    with pytest.raises(ConfigError, match=message):
        simulate(slices, acquisition, **more)


@pytest.mark.parametrize("acquisition", [CT(geometry="fan"), CT(photons=1e4), CT(cell=2.0)])
def test_millimetres_need_square_pixels(acquisition):
    scan = body(12, 10, 2)
    flat = Volume(scan.data, np.diag([1.0, 1.2, 2.0, 1.0]))
    with pytest.raises(
        ConfigError, match=r"needs square pixels, found 1 x 1.2 mm in images of 1x12x10 float32; resample"
    ):
        simulate(flat, acquisition)
    assert simulate(flat, CT()).y.shape[0] == 2, "in pixels they are taken as square"

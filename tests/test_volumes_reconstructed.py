"""Whole volumes with priors of slices: the same measurement as one problem, in one plane or in several."""

from dataclasses import replace

import pytest
import torch

from invdiff import load, reconstruct, simulate
from invdiff.acquisitions import CT, MRI, ThickSlices
from invdiff.errors import CapabilityError, ConfigError
from invdiff.planes import Planes, unseen
from invdiff.priors.checkpoints import Card
from invdiff.solvers import DDRM, DiffPIR, Direct, PnP

FEW = {"seeds": (0,), "antithetic": False}


@pytest.fixture
def volume(small_volume):
    return load(small_volume)


@pytest.mark.parametrize("acquisition", [MRI(), MRI(coils=3), CT(views=20)], ids=["mri", "coils", "ct"])
@pytest.mark.parametrize("axis", [0, 2])
def test_a_volume_measured_slice_by_slice_is_the_same_problem(acquisition, axis, volume):
    m = simulate(volume, acquisition, axis=axis)
    whole = m.as_volumes()
    assert whole.y.shape[:2] == (1, volume.data.shape[1 + axis])
    a, b = (reconstruct(one, Direct(), **FEW).mean.data for one in (m, whole))
    torch.testing.assert_close(a, b, atol=1e-3 * float(a.abs().max()), rtol=1e-3)
    assert whole.as_volumes() is whole


def test_one_plane_is_slice_by_slice(volume):
    """A method without noise: the same network on the same slices, and a proximal step in closed form."""
    m = simulate(volume, MRI(), noise=0.02)
    slices = reconstruct(m, PnP(iterations=4), **FEW)
    whole = reconstruct(m, PnP(iterations=4), planes=Planes((2,)), **FEW)
    assert whole.facts["network_calls"] == slices.facts["network_calls"] == 4, "four slices, eight in a call"
    torch.testing.assert_close(slices.mean.data, whole.mean.data, atol=0.1, rtol=1e-3)
    assert whole.facts["planes"] == {"axes": (2,), "ratio": 2.0, "shared": 0.0, "auxiliary": None}
    assert slices.facts["planes"] is None


def test_perpendicular_planes_take_turns(volume):
    m = simulate(volume, MRI(), noise=0.02)
    r = reconstruct(m, DiffPIR(steps=4), planes=Planes((2, 0)), **FEW)
    # Two levels of 4 slices in one call each, two of 48 slices in six.
    assert r.facts["network_calls"] == 2 * 1 + 2 * 6
    assert r.mean.data.shape == volume.data.shape
    assert (r.mean.affine == volume.affine).all()


def test_what_is_measured_as_a_volume_has_the_prior_of_its_slices(volume):
    thick = simulate(volume, ThickSlices(factor=2), noise=0.01)
    r = reconstruct(thick, DiffPIR(steps=2), **FEW)
    assert r.mean.data.shape == volume.data.shape
    assert bool(torch.isfinite(r.mean.data).all())


def test_refusals(volume):
    m = simulate(volume, MRI())
    with pytest.raises(CapabilityError, match="DDRM needs a SVDOperator as its operator; Slicewise is not one"):
        reconstruct(m, DDRM(steps=2), planes=Planes((2,)), **FEW)
    with pytest.raises(ConfigError, match=r"planes are stored axes, each once, of 0, 1 and 2, got \(2, 2\)"):
        Planes((2, 2))
    with pytest.raises(ConfigError, match=r"planes are stored axes, each once, of 0, 1 and 2, got \(3,\)"):
        Planes((3,))


def test_planes_and_pixels_that_were_not_seen_are_told():
    card = Card("heads", {"in_channels": 1}, 0.0, 1.0, planes="2", spacing=[0.8, 2.0])
    assert unseen(card, (1.0, 1.0, 5.0), (90, 90, 20), (2,)) == []
    planes, pixels = unseen(card, (1.0, 1.0, 5.0), (90, 90, 20), (2, 0))
    assert planes == "the prior heads was trained on slices across axis 2, not across axis 0"
    assert pixels == (
        "the prior heads was trained on nearly square pixels of 0.8 to 2 mm; slices across axis 0 have 1 x 5 mm; "
        "--grid prior gives it such as it knows"
    )
    assert len(unseen(card, (0.5, 0.5, 1.0), (90, 90, 20), (2,))) == 1
    assert unseen(replace(card, spacing=[]), (0.1, 9.0, 1.0), (90, 90, 20), (2,)) == []
    (thin,) = unseen(replace(card, planes="all"), (1.0, 1.0, 1.0), (90, 90, 6), (0,))
    assert thin == "slices across axis 0 are 6 voxels wide, which is too few for the prior heads to know anything of"


def test_they_are_in_the_record(volume):
    m = simulate(volume, ThickSlices(factor=2), noise=0.01)
    r = reconstruct(m, DiffPIR(steps=1), planes=Planes((2, 0)), prior="ct-body", **FEW)
    assert not [w for w in r.facts["warnings"] if "pixels" in w], "2 x 2.2 mm"


def test_shared_noise_makes_samples_differ_alike_in_all_slices(volume):
    m = simulate(volume, MRI(acceleration=8), noise=0.01)
    jumps = []
    for shared in (0.0, 0.9):
        r = reconstruct(m, DiffPIR(steps=6), planes=Planes((2,), shared=shared), seeds=(0, 1), antithetic=False)
        apart = r.samples[0] - r.samples[1]  # where two samples differ, by their noise alone
        jumps.append(float(apart.diff(dim=4).square().mean() / apart.square().mean()))
    assert jumps[1] < 0.75 * jumps[0], "2 for slices that have nothing in common"
    with pytest.raises(ConfigError, match=r"slices share between 0 and 1 of their noise, got 1\.5"):
        Planes((2,), shared=1.5)

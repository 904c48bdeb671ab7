"""The bridges that ship: small, undamaged, and better in one call than what they begin with."""

import pytest

from invdiff import library, reconstruct, registry, simulate
from invdiff.acquisitions import MRI
from invdiff.metrics import evaluate
from invdiff.priors import checkpoints
from invdiff.solvers import CDDB, I2SB, Direct
from invdiff_datasets import epi_2mm


@pytest.mark.parametrize("name", library.shipped("bridges"))
def test_shipped_bridges(name):
    path = library.find(name)
    card = checkpoints.verify(path)
    assert card.name == name
    assert card.bridge is not None
    assert card.licence
    assert card.quality
    assert path.stat().st_size < 25e6


def test_all_that_ships_is_small():
    assert sum(library.find(name).stat().st_size for name in library.all_shipped()) < 90e6


def test_acquisitions_name_bridges_that_ship():
    named = {cls().bridge for cls in registry.names("acquisitions").values()} - {None}
    assert named == set(library.shipped("bridges"))


@pytest.fixture(scope="module")
def found():
    """Two slices of the EPI scan, 4x: PSNR and chi2 by solver."""
    volume = epi_2mm()
    truth = type(volume)(volume.data[..., 11:13].contiguous(), volume.affine)
    m = simulate(truth, MRI(), noise=0.01)
    runs = {"direct": Direct(), "one": I2SB(steps=1), "i2sb": I2SB(steps=2), "cddb": CDDB(steps=2)}
    out = {}
    for name, solver in runs.items():
        r = reconstruct(m, solver, seeds=(0,))
        psnr = evaluate(r.mean.data[0].numpy(), truth.data[0].numpy())["psnr"]
        out[name] = psnr, r.facts["data_fit"]["mean"]["chi2"], r.facts["network_calls"]
    return out


def test_one_call_is_worth_two_decibels(found):
    assert found["one"][0] > found["direct"][0] + 2
    assert found["one"][2] == 1


def test_the_data_add_to_that_and_noise_is_not_fitted(found):
    assert found["cddb"][0] > found["i2sb"][0] + 1
    assert found["cddb"][1] == pytest.approx(1, abs=0.01)
    assert found["i2sb"][1] > 5

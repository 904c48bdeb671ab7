"""A family of acquisitions: what it draws, what it refuses, and why."""

import pytest
import torch

from invdiff.acquisitions import CT, MRI
from invdiff.bridges import Family
from invdiff.errors import ConfigError, PriorError

HEADS = Family("mri", {"acceleration": "4..8", "pattern": "random,equispaced", "coils": "1"}, "0.5%..0.02")


def drawn(family, count=200):
    g = torch.Generator().manual_seed(0)
    return [family.draw(g) for _ in range(count)]


def test_settings_are_drawn_within_their_ranges():
    found = drawn(HEADS)
    accelerations = torch.tensor([a.acceleration for a, _ in found])
    assert 4 <= accelerations.min() < 4.2
    assert 7.8 < accelerations.max() <= 8
    assert {a.pattern for a, _ in found} == {"random", "equispaced"}
    levels = [level for _, level in found]
    assert 0.005 <= min(levels) < 0.006
    assert 0.019 < max(levels) <= 0.02
    assert all(isinstance(a, MRI) and a.coils == 1 for a, _ in found)


def test_whole_numbers_stay_whole_and_both_ends_are_drawn():
    views = {a.views for a, _ in drawn(Family("ct", {"views": "30..33"}))}
    assert views == {30, 31, 32, 33}


def test_a_complex_unknown_has_two_channels():
    assert HEADS.channels == 2
    assert Family("mri", {"image": "real"}).channels == 1
    assert Family("ct").channels == 1


def test_it_tells_itself():
    assert str(HEADS) == "mri acceleration=4..8 pattern=random,equispaced coils=1"


def test_its_own_scans_are_let_in():
    for acquisition, _ in drawn(HEADS, 20):
        HEADS.refuse("b", acquisition)
    HEADS.refuse("b", MRI(acceleration=4, pattern="given", phase=0.0))


def test_noise_that_was_not_seen_is_told():
    scan = MRI(acceleration=5, phase=2.0)
    assert HEADS.warnings("b", scan, 0.01) == HEADS.warnings("b", scan, None) == []
    said = "the bridge b was trained for noise 0.5%..0.02, this scan has 0.05: train one for it"
    assert HEADS.warnings("b", scan, 0.05) == [said]


def test_settings_that_training_left_alone_are_told():
    scan = MRI(acceleration=5, partial_fourier=0.6)
    said = "the bridge b was trained with partial_fourier = 1.0, this scan has 0.6: train one for it"
    assert HEADS.warnings("b", scan, None) == [said]


@pytest.mark.parametrize(
    ("acquisition", "said"),
    [
        (CT(), r"the bridge b was trained for mri acceleration=4\.\.8 .*; this scan was measured by ct: train one"),
        (MRI(acceleration=12), r"this scan has acceleration = 12: train one for this scan, or take a prior"),
        (MRI(acceleration=3, coils=8), r"this scan has acceleration = 3, coils = 8: "),
        (MRI(pattern="gaussian"), "this scan has pattern = gaussian"),
    ],
)
def test_other_scans_are_refused(acquisition, said):
    with pytest.raises(PriorError, match=said):
        HEADS.refuse("b", acquisition)


@pytest.mark.parametrize(
    ("kind", "settings", "noise", "said"),
    [
        ("mir", {}, "0.01", "no acquisition 'mir'; did you mean 'mri'?"),
        ("mri", {"aceleration": "4"}, "0.01", "MRI has no setting 'aceleration'; did you mean 'acceleration'?"),
        (
            "mri",
            {"acceleration": "0.5..4"},
            "0.01",
            "acceleration: Input should be greater than or equal to 1, got 0.5",
        ),
        ("mri", {"acceleration": "8..4"}, "0.01", "a range is written from its lower to its upper end, such as 4..8"),
        ("mri", {}, "0.02..0.01", "a range is written from its lower to its upper end"),
        ("mri", {}, "a..b", "noise is a fraction such as 0.01 or 1%, got 'a'"),
        ("mri", {"dimension": "3d"}, "0.01", "a bridge works on slices, mri with these settings measures volumes"),
        ("thickslices", {}, "0.01", "a bridge works on slices, thickslices with these settings measures volumes"),
    ],
)
def test_what_is_no_family(kind, settings, noise, said):
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        Family(kind, settings, noise)

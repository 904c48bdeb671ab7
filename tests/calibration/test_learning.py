"""What is learned where the answer is known: factors, coverage of what was left out, what counts, refusals."""

import numpy as np
import pytest

from invdiff.calibration import body, check, compared, learn, method
from invdiff.calibration.learning import quantiles
from invdiff.calibration.scans import GIVEN, RULE, Slice
from invdiff.errors import ConfigError, FileError, ShapeError
from invdiff.metrics.calibration import LEVELS
from invdiff.predictive import Law

NINETY = LEVELS.index(0.9)


def right(calibration, wider):
    """Its intervals cover what they say where the truth is spread `wider` than the law."""
    law = Law.of(8, antithetic=True)
    np.testing.assert_allclose(law.level(calibration.factors * law.multiple(LEVELS) / wider), LEVELS, atol=0.01)
    assert calibration.factors[NINETY] == pytest.approx(wider, rel=0.02)


def test_a_calibrated_solver_gets_one(world):
    found, held = learn([world()])
    right(found, 1)
    assert held.before["coverage"][NINETY] == pytest.approx(0.9, abs=0.01)
    assert held.after["coverage"][NINETY] == pytest.approx(0.9, abs=0.01)
    assert (found.slices, found.voxels, found.mask) == (12, 12 * 40 * 40, GIVEN)


@pytest.mark.parametrize("wider", [0.6, 1.5])
def test_a_wrong_spread_is_corrected_on_scans_not_seen(wider, world):
    found, held = learn([world(wider)])
    right(found, wider)
    assert abs(held.before["coverage"][NINETY] - 0.9) > 0.05
    np.testing.assert_allclose(held.after["coverage"], LEVELS, atol=0.01)
    other = check(found, [world(wider, seed=1, unit=3000.0, name="other")])
    np.testing.assert_allclose(other.after["coverage"], LEVELS, atol=0.01)
    assert other.before["coverage"] != other.after["coverage"]
    uneven = {when: np.std(getattr(other, when)["pit"]) for when in ("before", "after")}
    assert uneven["after"] < 0.2 * uneven["before"]
    ratio = other.after["width90"] / other.before["width90"]
    assert ratio == pytest.approx(found.factors[NINETY], rel=0.01)
    low, high = other.most
    assert 0.88 < low < other.after["coverage"][NINETY] < high < 0.92


def test_another_number_of_samples_has_its_own_law(world, facts, volume):
    """The factors are in units of the law: learned from eight, right for two."""
    found, _ = learn([world(1.5)])
    rng = np.random.default_rng(5)
    pair, truth = rng.normal(size=(1, 60, 60, 8)), 1.5 * rng.normal(size=(1, 60, 60, 8))
    images = map(volume, (0 * pair, np.sqrt(2) * abs(pair), truth))
    two = compared("two", *images, facts | {"seeds": [0, 1], "intensity_unit": 1.0}, mask=volume(np.ones(pair.shape)))
    assert check(found, [two]).after["coverage"][NINETY] == pytest.approx(0.9, abs=0.01)


def test_the_median_over_slices_heeds_no_outlier(world):
    found, held = learn([world([1.2] * 10 + [30.0, 30.0])])
    assert found.factors[NINETY] == pytest.approx(1.2, rel=0.03)
    assert found.high[NINETY] > 5 > found.low[NINETY]
    assert min(held.slices["after"]) < 0.2


def test_each_scan_counts_once(world):
    """Not each slice: the long scan does not outvote the others."""
    scans = [world(1.0, slices=4, name="a"), world(1.4, slices=4, seed=1, name="b"), world(3.0, slices=40, name="c")]
    found, held = learn(scans)
    assert found.factors[NINETY] == pytest.approx(1.4, rel=0.04)
    assert found.held_out == "subjects"
    assert [row["name"] for row in held.scans] == ["a", "b", "c"]
    assert held.scans[0]["after"] > 0.95 > 0.8 > held.scans[2]["after"], "judged by the others alone"


def test_what_is_left_out(world):
    """Blocks of one scan or of one subject: a scan of one slice kind cannot judge itself."""
    halves = [1.0] * 6 + [2.0] * 6
    found, held = learn([world(halves)])
    assert found.held_out == "blocks of slices of one subject"
    assert held.slices["after"][0] > 0.93 > 0.87 > held.slices["after"][-1]
    again, _ = learn([world(1.0, name="a", subject="01"), world(1.0, seed=1, name="b", subject="01")])
    assert again.held_out == "blocks of slices of one subject"
    assert [s["name"] for s in again.scans] == ["a", "b"]


def test_the_quantile_of_a_finite_sample():
    """The ceil((n + 1) level)-th smallest score, which covers a further one at least as often."""
    error = np.arange(1.0, 101)
    got = quantiles(Slice(0.5, error, np.ones(100)), 0.0)
    assert got.tolist() == [11, 21, 31, 41, 51, 61, 71, 81, 91, 96, 100]
    shrunk = quantiles(Slice(0.5, error, np.ones(100)), 3**0.5)
    np.testing.assert_allclose(shrunk, got / 2)


def test_voxels_without_spread_get_an_interval(world, facts, volume):
    error = np.random.default_rng(0).normal(size=(1, 40, 40, 4))
    still = [volume(v) for v in (0 * error, 0 * error, error)]
    scan = compared("still", *still, facts | {"intensity_unit": 1.0}, mask=volume(np.ones(error.shape)))
    found, held = learn([scan], floor=0.5)
    assert held.before["coverage"][NINETY] == 0
    assert held.after["coverage"][NINETY] == pytest.approx(0.9, abs=0.02)
    assert found.floor == 0.5


def test_the_body_is_what_is_not_air():
    x, y, _ = np.mgrid[:60, :50, :4]
    rng = np.random.default_rng(0)
    away = (x - 30.0) ** 2 + (y - 25.0) ** 2
    image = -1000 + 20 * rng.normal(size=x.shape) + 1000 * (away < 20**2)
    image[away < 6**2] = -1000  # a lung: air inside
    found = body(image)
    assert found[away < 18**2].all()
    assert not found[away > 23**2].any()


def test_by_default_only_the_body_counts(facts, volume):
    x, y, _ = np.mgrid[:60, :50, :3]
    inside = ((x - 30.0) ** 2 + (y - 25.0) ** 2 < 20**2)[None]
    image = np.where(inside, 100.0, 0.0)
    scan = compared("disk", volume(image), volume(image * 0 + 5), volume(image + 7), facts)
    assert scan.mask == RULE
    count = sum(len(s.error) for s in scan.slices)
    assert inside.sum() <= count < 1.15 * inside.sum()
    assert {round(float(e), 4) for s in scan.slices for e in s.error} == {7 / 200}
    assert [round(s.height, 3) for s in scan.slices] == [0.167, 0.5, 0.833]


def test_scans_that_were_reconstructed_in_other_ways_are_refused(world):
    settings = {"kind": "diffpir", "steps": 50, "ladder": "ladder.json"}
    with pytest.raises(
        ConfigError, match=r"a and b differ in solver.steps \(12, 50\); calibrate what was reconstructed"
    ):
        learn([world(name="a"), world(name="b", also={"solver": settings})])
    with pytest.raises(ConfigError, match=r"a and b differ in samples \(8, 4\)"):
        learn([world(name="a"), world(name="b", also={"seeds": [0, 1, 2, 3]})])


def test_settings_of_the_acquisition_may_differ_and_are_left_out(world):
    faster = {"acquisition": {"kind": "mri", "acceleration": 8.0}}
    renamed = {"prior": {"name": "a copy", "sha256": "ab" * 32}}
    found, _ = learn([world(name="a"), world(name="b", also=faster | renamed)])
    assert found.method["acquisition"] == "mri"
    assert "acquisition.acceleration" not in found.method


def test_method_is_what_a_sidecar_says(facts):
    got = method(facts | {"planes": {"axes": (2, 0)}, "warm": {"along": "slices"}, "steering": {}, "prior": None})
    assert got["solver.ladder"] == "ladder.json", "no path of somebody's machine"
    assert (got["planes"], got["warm"], got["steered"], got["prior_sha256"]) == ([2, 0], "slices", True, None)
    with pytest.raises(
        FileError, match=r"r.nii: its .json is not that of a reconstruction \('prior'\); reconstruct ag"
    ):
        method({"metrics": 3}, "r.nii")
    with pytest.raises(FileError, match=r"its .json is not that of a reconstruction"):
        method(facts | {"intensity_unit": "many"})


def test_messages(world, facts, volume):
    one, two = np.ones((1, 40, 40, 2)), np.ones((1, 40, 40, 3))
    with pytest.raises(
        ShapeError, match=r"a: the reference has shape \(1, 40, 40, 3\), the reconstruction \(1, 40, 40, 2"
    ):
        compared("a", volume(one), volume(one), volume(two), facts)
    with pytest.raises(ShapeError, match=r"a: the standard deviation has shape"):
        compared("a", volume(one), volume(two), volume(one), facts)
    with pytest.raises(
        ShapeError, match=r"a: the mask has shape \(40, 40, 3\), the reconstruction \(40, 40, 2\); give the"
    ):
        compared("a", volume(one), volume(one), volume(one), facts, mask=volume(two))
    with pytest.raises(
        ShapeError, match="a: no slice has 100 voxels inside the mask; give another --mask or a larger s"
    ):
        compared("a", volume(one), volume(one), volume(one), facts, mask=volume(0 * one))
    with pytest.raises(
        ConfigError, match="a slice equals its reference: there is no error to learn from; give the truth"
    ):
        learn([compared("a", volume(one), volume(one), volume(one), facts, mask=volume(one))])
    with pytest.raises(ShapeError, match="a calibration needs two slices or more with enough of the body, found 1"):
        learn([world(slices=1)])

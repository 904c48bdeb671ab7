"""Intervals that cover as often as they say, and tests that are scipy's."""

import numpy as np
import pytest
from scipy.stats import bootstrap, wilcoxon

from invdiff.metrics.statistics import difference, holm, interval, rank_test

R = np.random.default_rng(0)
A = R.normal(30, 3, 25)
B = A + 0.4 + R.exponential(0.8, 25)


@pytest.mark.parametrize("draw", [lambda rng: rng.normal(0.5, 1, 40), lambda rng: rng.exponential(0.5, 40)])
def test_intervals_cover_the_true_difference_as_often_as_they_say(draw):
    """400 studies of 40 pairs whose true difference is 0.5: 90 % of the intervals hold it, and miss on both sides."""
    rng = np.random.default_rng(1)
    ends = np.array([interval(draw(rng), confidence=0.9, resamples=999, seed=k)[:2] for k in range(400)])
    below, above = (ends[:, 1] < 0.5).mean(), (ends[:, 0] > 0.5).mean()
    assert 0.86 < 1 - below - above < 0.94
    assert min(below, above) > 0.02


def test_the_interval_is_scipys_of_pairs():
    """Pairs drawn together, as scipy does it with two samples."""
    want = bootstrap(
        (A, B), lambda a, b, axis: b.mean(axis) - a.mean(axis), paired=True, vectorized=True, n_resamples=999,
        confidence_level=0.8, method="BCa", rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    low, high, kind = interval(B - A, confidence=0.8, resamples=999, seed=5)
    assert (low, high) == pytest.approx((want.low, want.high), rel=1e-9)
    assert kind == "bca"


def test_the_seed_is_handed_in():
    assert interval(B - A, seed=3) == interval(B - A, seed=3)
    assert interval(B - A, seed=3) != interval(B - A, seed=4)


def test_degenerate_intervals():
    """Equal differences have no acceleration; a single pair has no interval."""
    assert interval(np.full(8, 0.25)) == (0.25, 0.25, "percentile")
    assert interval(np.array([0.25])) is None


def test_many_pairs_are_drawn_a_batch_at_a_time(monkeypatch):
    low, high, _ = interval(B - A)
    monkeypatch.setattr("invdiff.metrics.statistics.AT_ONCE", 5000)
    assert interval(B - A)[:2] == pytest.approx((low, high), rel=0.05)


def test_wilcoxon_is_scipys():
    assert rank_test(B - A) == (wilcoxon(B, A).pvalue, None)
    some = np.where(np.arange(25) < 5, 0, B - A)
    assert rank_test(some) == (wilcoxon(some).pvalue, None)


def test_too_few_pairs_for_wilcoxon():
    assert rank_test(np.arange(1, 6.0)) == (None, "Wilcoxon's test needs 6 pairs that differ, got 5")
    assert rank_test(np.array([0, 0, 0, 0, 0, 1, 2, 3.0])) == (None, "Wilcoxon's test needs 6 pairs that differ, got 3")
    assert rank_test(np.arange(1, 7.0))[0] == pytest.approx(2 / 2**6)


def test_holm():
    """The least p times the number of tests, the next times one less, and so on; never falling, at most 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([]) == []


def test_difference():
    found = difference(A, B, confidence=0.9, resamples=999, seed=2)
    assert found["pairs"] == 25
    assert found["difference"] == pytest.approx(B.mean() - A.mean())
    assert (found["mean_a"], found["mean_b"]) == (A.mean(), B.mean())
    assert (found["low"], found["high"], found["interval"]) == interval(B - A, confidence=0.9, resamples=999, seed=2)
    assert found["low"] < found["difference"] < found["high"]
    assert (found["p"], found["note"]) == rank_test(B - A)
    alone = difference(A[:1], B[:1])
    assert [alone[k] for k in ("low", "high", "interval", "p")] == [None] * 4
    assert alone["note"] == "Wilcoxon's test needs 6 pairs that differ, got 1"

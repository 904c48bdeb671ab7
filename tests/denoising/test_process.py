"""Di-Fusion's process: its coefficients, its noise and its walk."""

import pytest
import torch

from invdiff.denoising import process
from invdiff.denoising.process import ABAR, grid, jump, label, reverse, shuffled, state, weights


def test_the_schedule_is_the_published_one():
    assert float(ABAR[300]) == pytest.approx(0.98506, abs=2e-4)
    assert float(1 - ABAR[50]) ** 0.5 == pytest.approx(0.05, abs=1e-3)
    assert float(ABAR[-1]) == pytest.approx(0.029, abs=2e-3)
    run, walk = grid()[:26], grid()[26:]
    assert (run, walk) == (list(range(300, 49, -10)), list(range(49, -1, -1)))
    assert grid(30) == list(range(29, -1, -1)), "a walk that begins below the run"


def test_coefficients_sum_to_one():
    for t in range(1, 300):
        assert sum(weights(t)) == pytest.approx(1, abs=1e-6)
        assert weights(t)[0] == pytest.approx(1 / (t + 1), rel=0.02)
    for t, s in ((300, 290), (999, 10), (50, 49), (300, 0)):
        assert sum(jump(t, s)) == pytest.approx(1, abs=1e-4 if t <= 300 else 0.5)


def test_a_state_of_the_truth_stays():
    """The published jumps shrink it to 0.25 at t = 50."""
    c = torch.full((2, 1, 4, 4), 0.7)
    seen = []

    def estimate(x, t, left):
        seen.append(x.clone())
        return torch.full_like(x, 0.7)

    out = reverse(estimate, c, grid(), lambda clean, left: torch.zeros(len(left), dtype=torch.bool))
    assert len(seen) == 76
    assert all(float((x - 0.7).abs().max()) < 2e-5 for x in seen)
    torch.testing.assert_close(out, c)


def test_each_image_ends_by_itself():
    """The second has enough after three steps, the first never; neither changes the other."""
    start = torch.randn((2, 1, 3, 3), generator=torch.Generator().manual_seed(0))
    calls = []

    def estimate(x, t, left):
        calls.append((t, left.tolist()))
        return 0.9 * x

    def enough(clean, left):
        return torch.tensor([bool(k == 1 and len(calls) >= 3) for k in left.tolist()])

    both = reverse(estimate, start, grid(), enough)
    assert calls[2] == (280, [0, 1])
    assert calls[3] == (270, [0])
    never = lambda clean, left: torch.zeros(len(left), dtype=torch.bool)  # noqa: E731
    torch.testing.assert_close(both[:1], reverse(lambda x, t, left: 0.9 * x, start[:1], grid(), never))


def test_shuffling_keeps_the_law_and_not_the_place(generator):
    x, other = torch.randn((3, 1, 16, 16), generator=generator), torch.randn((3, 1, 16, 16), generator=generator)
    e, d = shuffled(x, other, generator).flatten(1), (x - other).flatten(1)
    d = d - d.mean(1, keepdim=True)
    assert float(e.mean(1).abs().max()) < 1e-6
    torch.testing.assert_close(e.sort(1).values, d.sort(1).values)
    assert abs(float((e * d).mean() / d.square().mean())) < 4 / (3 * 256) ** 0.5, "no pixel keeps its own"


@pytest.mark.parametrize("fusion", ["code", "paper"])
def test_the_state(fusion, generator):
    x, other = torch.randn((2, 1, 64, 64), generator=generator), torch.randn((2, 1, 64, 64), generator=generator)
    level = torch.tensor([0.999, 0.9925])
    z = state(x, other, 9, level, generator, fusion=fusion)
    leak = weights(9)[0] if fusion == "paper" else 0.0
    for k in range(2):
        along = float((z[k] * x[k]).mean() / x[k].square().mean())
        assert along == pytest.approx(float(level[k]) * leak, abs=4 / 64)
        spread = float((z[k] - level[k] * (leak * x[k] + (1 - leak) * other[k])).std())
        assert spread == pytest.approx(float((1 - level[k] ** 2).sqrt()) * float((x[k] - other[k]).std()), rel=1e-2)


def test_the_label_tells_levels_apart():
    """As published, an embedding of l in [0.9925, 1] is nearly constant."""
    told = label(ABAR[torch.tensor([1, 10, 100, 299])].sqrt().float())
    assert float(told.diff().min()) > 0.1
    assert process.LATTER == 300

import pytest
import torch

from invdiff.rng import Rng, SharedRng, generator


def test_a_draw_depends_on_its_key_only():
    like = torch.empty(3, 1, 4, 5)
    together = Rng([(0, 0), (0, 1), (7, 1)]).normal("a", 2, like)
    for row, stream in enumerate([(0, 0), (0, 1), (7, 1)]):
        assert torch.equal(Rng([stream]).normal("a", 2, like[:1])[0], together[row])
    assert not torch.equal(together, Rng([(0, 0), (0, 1), (7, 1)]).normal("b", 2, like))
    assert not torch.equal(together, Rng([(0, 0), (0, 1), (7, 1)]).normal("a", 3, like))
    assert len({float(r.sum()) for r in together}) == 3


def test_streams_are_standard_normal_and_unrelated():
    n = 400
    x = Rng([(seed, 0) for seed in range(n)]).normal("start", 0, torch.empty(n, 500, dtype=torch.float64))
    assert abs(float(x.mean())) < 4 / (n * 500) ** 0.5
    assert abs(float(x.var()) - 1) < 4 * (2 / (n * 500)) ** 0.5
    neighbours = (x[1:] * x[:-1]).mean(1) * 500**0.5
    assert abs(float(neighbours.mean())) < 4 / (n - 1) ** 0.5


def test_antithetic_pairs():
    like = torch.empty(4, 6)
    paired = Rng([(s, 0) for s in range(4)], antithetic=True).normal("a", 0, like)
    plain = Rng([(s, 0) for s in range(4)]).normal("a", 0, like)
    assert torch.equal(paired[::2], plain[::2])
    assert torch.equal(paired[1::2], -plain[::2])


def test_complex_and_message():
    z = Rng([(0, 0)]).normal("a", 0, torch.empty(1, 1000, dtype=torch.complex64))
    assert float(z.real.std()) == pytest.approx(1, abs=0.1)
    with pytest.raises(ValueError, match="2 streams, the batch has 3 rows"):
        Rng([(0, 0), (1, 0)]).normal("a", 0, torch.empty(3, 1))
    assert torch.rand(1, generator=generator("x", 1)) == torch.rand(1, generator=generator("x", 1))


def test_counts_depend_on_their_key_only():
    rate = torch.tensor([[3.0, 50.0], [3.0, 50.0], [0.0, 1.0]])
    together = Rng([(0, 0), (0, 1), (7, 1)]).poisson("a", 2, rate)
    assert together.dtype == rate.dtype
    for row, stream in enumerate([(0, 0), (0, 1), (7, 1)]):
        assert torch.equal(Rng([stream]).poisson("a", 2, rate[row : row + 1])[0], together[row])
    assert float(together[2, 0]) == 0
    with pytest.raises(ValueError, match="1 streams, the batch has 3 rows"):
        Rng([(0, 0)]).poisson("a", 0, rate)


def test_slices_share_a_part_of_their_noise():
    """Standard normal each, of that correlation; a row depends on its own stream alone."""
    like = torch.empty(2, 1, 30, 40, 50)
    x = SharedRng([(3, 0), (4, 7)], axis=1, share=0.3).normal("n", 5, like)
    assert float(x.mean()) == pytest.approx(0, abs=0.02)
    assert float(x.std()) == pytest.approx(1, abs=0.02)
    a, b = x[:, :, :, 0], x[:, :, :, 17]
    assert float((a * b).mean()) == pytest.approx(0.3, abs=0.05)
    assert float((x[..., 0] * x[..., 17]).mean()) == pytest.approx(0, abs=0.05), "the other axes share nothing"
    assert torch.equal(SharedRng([(4, 7)], axis=1, share=0.3).normal("n", 5, like[:1]), x[1:])
    same = SharedRng([(3, 0)], axis=2, share=1.0).normal("n", 0, like[:1])
    assert torch.equal(same, same[..., :1].expand_as(same))

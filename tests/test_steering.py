"""Steering: nothing without Adam steps, the base untouched, a shifted prior brought to the data, every refusal."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from invdiff import load, reconstruct, simulate
from invdiff.acquisitions import MRI
from invdiff.errors import CapabilityError, ConfigError, DivergedError, PriorError
from invdiff.networks import Network, UNet
from invdiff.noise import GaussianNoise
from invdiff.operators import Identity, Mask
from invdiff.priors import GaussianPrior
from invdiff.priors.checkpoints import Card, save
from invdiff.priors.network import NetworkPrior
from invdiff.priors.steered import SteeredPrior
from invdiff.problem import InverseProblem
from invdiff.solution import solve
from invdiff.solvers import DDS, DPS, SCD, TV, DiffPIR
from invdiff.space import Space
from invdiff.steering import Steering, steer, steered, variation
from invdiff.testing.solvers import affine_law

SPACE = Space((1, 16, 16))
QUICK = {"rank": 2, "levels": 3, "below": 9.0, "inner": 2, "slices": 2}


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = UNet(1, (16, 32), 1).eval()
        for p in out.parameters():
            p.data += 0.05 * torch.randn_like(p)
    return out


def network_prior(width=3):
    return NetworkPrior(net(), SPACE, mean=0.3, std=0.2, width=width)


def masked(noise=0.05, count=5):
    g = torch.Generator().manual_seed(1)
    A = Mask(SPACE, torch.rand((16, 16), generator=g) < 0.5)
    x = torch.rand((count, 1, 16, 16), generator=g)
    return InverseProblem(A, GaussianNoise(noise), A(x) + noise * torch.randn((count, *A.range.shape), generator=g))


@pytest.mark.parametrize("parity", ["safe", "paper"])
def test_without_adam_steps_scd_is_dds_bit_for_bit(parity):
    problem, base = masked(), network_prior()
    prior = SteeredPrior(base, rank=2)
    assert steer(prior, problem, Steering(**QUICK | {"inner": 0}))["adam_steps"] == 0
    settings = {"steps": 4, "gamma": 0.7, "cg_iterations": 3, "zeta": 0.5, "parity": parity}
    got = solve(problem, prior, SCD(**settings), seeds=(0, 1), width=3).samples
    assert torch.equal(got, solve(problem, base, DDS(**settings), seeds=(0, 1), width=3).samples)


def test_the_base_is_untouched_and_reset_forgets():
    problem, base = masked(), network_prior()
    before = {k: v.clone() for k, v in base.state_dict().items()}
    prior = SteeredPrior(base, rank=2)
    x, sigma = torch.rand(3, *SPACE.shape), torch.full((3,), 0.2)
    first = base.denoise(x, sigma)
    facts = steer(prior, problem, Steering(**QUICK, learning_rate=1e-2))
    assert facts["adam_steps"] == 6
    assert not torch.equal(prior.denoise(x, sigma), first)
    assert all(torch.equal(v, before[k]) for k, v in base.state_dict().items())
    assert torch.equal(base.denoise(x, sigma), first)
    prior.reset()
    assert torch.equal(prior.denoise(x, sigma), first)


def test_the_weights_depend_on_the_seed_and_the_slices_alone():
    """Not on how many slices there are beside those that were drawn, nor on the width of the prior."""
    problem = masked()

    def weights(prior, problem, **settings):
        facts = steer(prior, problem, Steering(**QUICK | settings))
        return facts["slices"], prior.changes.state_dict()

    slices, first = weights(SteeredPrior(network_prior(), 2), problem)
    again, second = weights(SteeredPrior(network_prior(width=5), 2), problem)
    assert slices == again
    assert len(slices) == 2
    assert all(torch.equal(first[k], second[k]) for k in first)
    other, third = weights(SteeredPrior(network_prior(), 2), problem, seed=1)
    assert other != slices or not all(torch.equal(first[k], third[k]) for k in first)


def test_steering_costs_the_same_for_any_number_of_slices():
    calls = [
        steer(SteeredPrior(network_prior(), 2), masked(count=n), Steering(**QUICK))["network_calls"] for n in (2, 12)
    ]
    assert calls[0] == calls[1] == 3 * (2 + 2), "K of the changed network, and one of each per level"


class Shift(nn.Module):
    """x0 = W (x, 1): its constant is the mean that it believes in."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(2, 1, 1, bias=False)
        self.layer.weight.data = torch.tensor([0.0, 0.2])[None, :, None, None]

    def forward(self, x):
        return self.layer(torch.cat([x, torch.ones_like(x)], 1))


class Constant(Network):
    """A prior of one grey image."""

    adaptable = (Shift,)

    def __init__(self):
        super().__init__()
        self.config, self.multiple_of, self.block = {"in_channels": 1}, 1, Shift()

    def forward(self, x, label):
        return self.block(x)


def test_a_prior_of_another_mean_is_brought_to_the_data():
    """Truth 0.8 everywhere, the prior believes 0.2; of 16 x 16 pixels 40 are seen."""
    g = torch.Generator().manual_seed(0)
    A = Mask(SPACE, torch.randperm(256, generator=g).reshape(16, 16) < 40)
    truth = torch.full((1, *SPACE.shape), 0.8)
    problem = InverseProblem(A, GaussianNoise(0.02), A(truth) + 0.02 * torch.randn((1, *A.range.shape), generator=g))
    base = NetworkPrior(Constant(), SPACE, mean=0.2, std=0.1, parameterisation="vp-x0", width=1)
    prior = SteeredPrior(base, rank=1)
    how = Steering(rank=1, levels=10, inner=20, learning_rate=0.02, gamma=0.1, tv=0.0)
    facts = steer(prior, problem, how)
    assert facts["chi2_last"] < 1.2 < 100 < facts["chi2_first"]
    settings = {"steps": 10, "gamma": 0.3}
    error = {
        "dds": float((solve(problem, base, DDS(**settings), width=1).mean - truth).abs().mean()),
        "scd": float((solve(problem, prior, SCD(**settings), width=1).mean - truth).abs().mean()),
    }
    assert error["dds"] > 0.4
    assert error["scd"] < 0.05


def test_small_steps_bring_the_loss_down_one_by_one():
    """One level, noise that is never reached: chi2 falls with each Adam step."""
    problem = masked(noise=1e-3)
    from invdiff import steering

    prior = SteeredPrior(network_prior(), rank=2)
    solver = SCD(gamma=0.1, cg_iterations=3, sampler="ddim")
    descent = steering._Descent(problem.rows([0, 1]), prior, solver, Steering(inner=12, learning_rate=1e-4, tv=0.0))
    descent.at_level(torch.rand(2, *SPACE.shape, generator=torch.Generator().manual_seed(4)), 0.2)
    assert descent.steps == 12
    assert all(b < a for a, b in zip(descent.chi2, descent.chi2[1:], strict=False))


def test_no_step_is_taken_above_the_level_that_is_set():
    facts = steer(SteeredPrior(network_prior(), 2), masked(), Steering(**QUICK | {"below": 1.0}))
    assert facts["adam_steps"] == 4, "of the levels 4, 0.6 and 0.007 two are below 1"


def test_no_step_is_taken_where_the_data_are_reached():
    problem = masked(noise=10.0)
    facts = steer(SteeredPrior(network_prior(), 2), problem, Steering(**QUICK))
    assert facts["adam_steps"] == 0
    assert facts["chi2_first"] < 1


def test_dds_solves_its_linear_system():
    """Conjugate gradients of as many steps as the rank give the direct solution."""
    problem = masked(count=2)
    x0 = torch.rand(2, *SPACE.shape, dtype=torch.float32)
    A = problem.operator
    got = DDS(gamma=2.0, cg_iterations=40).towards_data(problem, x0)
    gamma = 2.0 / A.mean_square
    s2 = A.singular_values**2
    torch.testing.assert_close(got, (x0 + gamma * A.adjoint(problem.y)) / (1 + gamma * s2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("zeta", "ratios"), [(0.0, (0.894, 0.945, 0.994)), (1.0, (0.789, 0.877, 0.985))])
def test_dds_leaves_the_null_space_to_its_sampler(zeta, ratios):
    """Prior variance 0.25, nothing measured there: that of DDIM at 50, 100 and 1000 levels, by exact recursion."""
    space = Space((1, 1, 3), torch.float64)
    prior = GaussianPrior(torch.zeros(1, 1, 3).double(), torch.full((1, 1, 3), 0.25).double())
    A = Mask(space, torch.tensor([[True, False, False]]))
    problem = InverseProblem(A, GaussianNoise(0.0), torch.tensor([[[0.7]]]).double())
    for levels, ratio in zip((50, 100, 1000), ratios, strict=True):
        solver = DDS(steps=levels, schedule="ddpm", sampler="ddim", zeta=zeta)
        mean, std = affine_law(solver, problem, prior, math.sqrt(0.25 + float(solver.sigmas(prior)[0]) ** 2))
        assert float(mean[0, 0, 0]) == pytest.approx(0.7, abs=1e-6)
        assert float(std[0, 0, 0]) == pytest.approx(0, abs=1e-6)
        assert float(std[0, 0, 1] ** 2) / 0.25 == pytest.approx(ratio, rel=0.02)


def test_adapted_weights_are_kept_and_used_again(tmp_path):
    problem, base = masked(), network_prior()
    prior, facts = steered(base, problem, Steering(**QUICK, learning_rate=1e-2), {"sha256": "abc"})
    assert facts["adam_steps"] == 6
    assert 0 < facts["share_of_network"] < 0.5
    prior.save(tmp_path / "a.safetensors", "abc")
    again, facts = steered(
        network_prior(), problem, Steering(weights=str(tmp_path / "a.safetensors")), {"sha256": "abc"}
    )
    assert facts["weights"] == "a.safetensors"
    x, sigma = torch.rand(3, *SPACE.shape), torch.full((3,), 0.2)
    assert torch.equal(again.denoise(x, sigma), prior.denoise(x, sigma))


def test_weights_of_something_else_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    how = Steering(weights=str(path))
    for content, message in (
        (None, "a.safetensors is no file of adapted weights"),
        (b"nothing", "a.safetensors is no file of adapted weights"),
    ):
        if content:
            path.write_bytes(content)
        with pytest.raises(PriorError, match=message):
            steered(network_prior(), masked(), how, {"sha256": "abc"})
    save(path, net(), Card("plain", net().config, 0.3, 0.2))
    with pytest.raises(PriorError, match="has no adapted weights; make them with --save-steer"):
        steered(network_prior(), masked(), how, {"sha256": "abc"})
    SteeredPrior(network_prior(), 2).save(path, "abc")
    with pytest.raises(PriorError, match=r"was adapted from another prior \(checksum differs\); name that by --prior"):
        steered(network_prior(), masked(), how, {"sha256": "abd"})


def test_refusals_before_any_work():
    base = network_prior()
    with pytest.raises(ConfigError, match="steering stops at the noise level and needs noise > 0; give a small one"):
        steer(SteeredPrior(base, 2), masked(noise=0.0), Steering(**QUICK))
    with pytest.raises(ConfigError, match=r"rank 17 is more than the 16 channels of layer down\.0\.0"):
        steered(base, masked(), Steering(rank=17), {"sha256": ""})
    with pytest.raises(ConfigError, match="only a prior of slices can be steered"):
        steered(None, masked(), Steering(), None)
    plain = type("Plain", (Constant,), {"adaptable": ()})()
    rigid = NetworkPrior(plain, SPACE, mean=0.2, std=0.1, parameterisation="vp-x0")
    with pytest.raises(PriorError, match="Plain has no residual or attention blocks to adapt; choose another prior"):
        SteeredPrior(rigid)


def test_a_diverging_run_says_what_to_change():
    with pytest.raises(DivergedError, match=r"steering, sigma .*: not finite; lower steer.learning_rate"):
        steer(SteeredPrior(network_prior(), 2), masked(), Steering(**QUICK, learning_rate=1e30))


def test_variation_is_the_mean_difference_of_neighbours():
    x = torch.tensor([[[[0.0, 1.0, 3.0], [0.0, 1.0, 3.0]]]])
    assert float(variation(x)) == pytest.approx(1.5)


@pytest.fixture(scope="module")
def measured(epi_path, small_volume):
    return simulate(load(small_volume), MRI(acceleration=2, image="real"), noise=0.01)


def test_any_solver_runs_on_a_steered_prior(measured):
    how = Steering(**QUICK)
    plain = reconstruct(measured, DiffPIR(steps=2), seeds=(0,))
    r = reconstruct(measured, DiffPIR(steps=2), seeds=(0,), steer=how)
    assert r.facts["steering"]["adam_steps"] > 0
    assert json.loads(json.dumps(r.facts["steering"])) == r.facts["steering"]
    assert r.steered is not None
    assert plain.facts["steering"] is plain.steered is None
    assert not torch.equal(r.samples, plain.samples)
    assert reconstruct(measured, DPS(steps=2), seeds=(0,), steer=how).samples.isfinite().all()


def test_scd_steers_by_itself_and_classical_solvers_refuse(measured):
    r = reconstruct(measured, SCD(steps=2), seeds=(0,), steer=Steering(**QUICK))
    assert r.facts["nfe_per_sample"] == 4
    with pytest.raises(ConfigError, match="only a prior of slices can be steered"):
        reconstruct(measured, TV(iterations=2), steer=Steering())


def test_noise_that_is_not_gaussian_is_refused():
    from invdiff.noise import PoissonNoise

    problem = InverseProblem(Identity(SPACE), PoissonNoise(10.0), torch.ones(1, *SPACE.shape))
    with pytest.raises(CapabilityError, match="SCD needs a GaussianNoise as its noise"):
        steered(network_prior(), problem, Steering(**QUICK), {"sha256": ""})


def test_weights_that_do_not_say_whose_they_are(tmp_path):
    """As another library would write them: peft's keys, without our checksum."""
    prior = NetworkPrior(UNet(channels=(8, 16), blocks=1), Space((1, 16, 16)), mean=0.0, std=1.0)
    path = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"adapter": '{"peft_type": "LORA", "r": 2}'})
    with pytest.raises(PriorError, match="does not say which prior it was adapted from; make it with --save-steer"):
        SteeredPrior.load(path, prior, "0")

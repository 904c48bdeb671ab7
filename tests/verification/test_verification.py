"""verify: the posteriors are what they say, perfect samples pass, and planted mistakes are found."""

import math
from pathlib import Path

import pytest
import torch

from invdiff import registry
from invdiff.errors import ConfigError
from invdiff.operators import Sense
from invdiff.solvers import CG, DiffPIR
from invdiff.verification import Distance, distance, known, run, tables, verify
from invdiff.verification import operators as families
from invdiff.verification.expected import EXPECTED, Expected
from invdiff.verification.fixed_points import POINTS
from invdiff.verification.problems import matrix, reals
from invdiff.verification.run import check


def test_every_solver_has_an_expectation_or_a_fixed_point():
    solvers = registry.names("solvers")
    assert set(EXPECTED) == {n for n, c in solvers.items() if c.gives == "sample"}
    assert set(POINTS) == {n for n, c in solvers.items() if c.gives == "point estimate"}


@pytest.mark.parametrize("k", known(), ids=lambda k: k.name)
def test_the_posterior_is_bayes_rule(k):
    """log posterior = log prior + log likelihood + constant, at points all over."""
    x = k.draw(50) + 0.05 * torch.randn(50, 64, generator=torch.Generator().manual_seed(0)).double()
    images = x.reshape(-1, 1, 8, 8)
    joint = k.prior.log_prob(images, torch.zeros(50).double())
    residual = reals(k.problem.operator(images)) - reals(k.problem.y)
    joint -= (residual**2).sum(1) / (2 * k.problem.noise.sigma**2)
    each = [torch.distributions.MultivariateNormal(m, C).log_prob(x)
            for m, C in zip(k.means, k.covariances, strict=True)]  # fmt: skip
    posterior = torch.logsumexp(k.weights.log() + torch.stack(each, 1), 1)
    torch.testing.assert_close(joint - joint[0], posterior - posterior[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("k", known(), ids=lambda k: k.name)
def test_exact_samples_pass_as_exact(k):
    assert Expected().holds(distance(k, k.draw(400, 11)))


@pytest.mark.parametrize(
    ("spoil", "which"),
    [
        (lambda x, k: x + 0.3 * k.std, "mean"),
        (lambda x, k: k.mean + 0.7 * (x - k.mean), "std"),
        (lambda x, k: k.mean + 1.4 * (x - k.mean), "std"),
    ],
)
def test_biased_samples_do_not(spoil, which):
    k = known()[3]
    found = distance(k, spoil(k.draw(400, 11), k))
    assert not Expected().holds(found)
    assert found.wasserstein > Expected().wasserstein, which


def test_one_hump_of_two_is_found_by_the_wasserstein_distance():
    """Right mean and spread of every voxel, wrong law."""
    k = next(k for k in known() if k.name == "mixture, mri")
    g = torch.Generator().manual_seed(0)
    x = k.mean + k.std * torch.randn(400, 64, generator=g).double()
    found = distance(k, x)
    assert found.mean < 0.15
    assert abs(found.std - 1) < 0.1
    assert not Expected().holds(found)


def test_not_a_number_does_not_hold():
    assert not Expected().holds(Distance(math.nan, 1.0, 1.0, 0.0))
    assert not Expected().holds(Distance(0.0, math.nan, 1.0, 0.0))


def test_a_wrong_adjoint_is_found(monkeypatch):
    monkeypatch.setattr(registry, "names", lambda group: {"cg": CG})
    right = Sense.adjoint
    monkeypatch.setattr(Sense, "adjoint", lambda self, y: 1.001 * right(self, y))
    found = verify()
    assert not found.operators["cartesian mri, 4 coils"]["ok"]
    assert found.operators["blur"]["ok"]
    assert not found.ok


def test_operator_families_hold():
    for name, A in families.families().items():
        assert families.check(A).ok, name


def test_a_wrong_solver_is_found(monkeypatch):
    right = DiffPIR.estimate

    def blind(self, problem, prior, x, sigma, sigma_next):
        return right(self, problem.rows(range(len(x))), prior, x * 1.02, sigma, sigma_next)

    assert verify(["diffpir"]).ok
    monkeypatch.setattr(DiffPIR, "estimate", blind)
    assert not verify(["diffpir"]).ok


def test_unknown_solver():
    with pytest.raises(ConfigError, match="no solver 'difpir'; did you mean 'diffpir'"):
        verify(["difpir"])


def test_matrix_counts_complex_values_as_pairs():
    k = known()[3]
    x = k.draw(3)
    torch.testing.assert_close(x @ matrix(k.problem.operator).T, reals(k.problem.operator(x.reshape(-1, 1, 8, 8))))


def test_tables_have_a_row_for_each():
    found = verify(["diffpir", "cg"])
    shown = tables.markdown(found)
    assert "| diffpir | linear | 12 |" in shown
    assert "| cg | linear, no prior |" in shown
    assert "ok   diffpir    gaussian, mri" in tables.text(found)
    assert tables.text(found).endswith(f"all hold; {found.seconds:.0f} s")


def test_the_page_of_the_documentation_has_every_solver(tmp_path):
    """docs/solvers.md is generated (`make solvers`); generating changes what lies between the marks only."""
    page = Path(__file__).parents[2] / "docs" / "solvers.md"
    text = page.read_text()
    table = text[text.index(tables.BEGIN) : text.index(tables.END)]
    for name in registry.names("solvers"):
        assert f"| {name} | {tables.needs(name)} |" in table, name
    copy = tmp_path / "solvers.md"
    copy.write_text(text)
    tables.write(copy, verify(["cg"]))
    assert copy.read_text().split(tables.BEGIN)[0] == text.split(tables.BEGIN)[0]
    assert copy.read_text().split(tables.END)[1] == text.split(tables.END)[1]


def test_a_point_estimator_of_another_package_does_not_hold_unproved():
    class Theirs(CG):
        pass

    row = check(Theirs)
    assert row == {"gives": "point estimate", "problems": {}, "ok": False}


def test_the_bridge_of_a_known_problem_is_its_posterior_in_one_step():
    k = next(k for k in known() if k.name == "gaussian, mri")
    x1 = k.problem.operator.direct(k.problem.y)
    mean = k.bridge.clean(x1, x1, len(k.bridge.process) - 1)
    torch.testing.assert_close(mean.flatten(), k.mean, atol=1e-4, rtol=0)  # x_t is x1 plus a little noise
    assert next(k for k in known() if k.name.startswith("mixture")).bridge is None


def test_verify_takes_one_thread_and_gives_the_others_back(monkeypatch):
    seen = []
    monkeypatch.setattr(run, "check", lambda cls: seen.append(torch.get_num_threads()) or {"ok": True})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        verify(["dds"])
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)

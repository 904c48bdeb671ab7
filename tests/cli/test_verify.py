"""`invdiff verify`: JSON, text, and the exit code of a solver that is not as documented."""

import json

from invdiff.verification.expected import EXPECTED, Expected


def test_cli(cli):
    run = cli("verify", "--solver", "diffpir", "--solver", "CG", "--json")
    document = json.loads(run.out)
    assert document["ok"]
    assert set(document["solvers"]) == {"diffpir", "cg"}
    assert set(document["solvers"]["diffpir"]["problems"]["gaussian, mri"]) >= {"mean", "std", "chi2", "wasserstein"}
    assert run.code == 0
    assert cli("verify", "--solver", "cg").out.startswith("ok   cg")


def test_cli_fails_with_names(cli, monkeypatch):
    monkeypatch.setitem(EXPECTED, "diffpir", Expected())
    run = cli("verify", "--solver", "diffpir")
    assert run.code == 8
    assert run.err == "invdiff: GateError: not as documented: diffpir\n"

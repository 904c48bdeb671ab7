"""`invdiff doctor`: what it finds, what it says to do, and when it fails."""

import json
import os

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from invdiff import library, selftest
from invdiff.errors import PriorError
from invdiff_cli.doctor import machine, software, stores
from invdiff_datasets import epi_2mm

GIB = 2**30


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Folders of this test alone."""
    monkeypatch.setattr("invdiff.library.folder", lambda: tmp_path / "share" / "priors")
    monkeypatch.setenv("INVDIFF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("INVDIFF_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "share" / "priors"


def found(findings):
    return {f.name: f for f in findings}


def test_all_is_well(cli):
    """The whole of it, self-test included; others may be busy, which is a warning."""
    done = cli("doctor", "--json")
    document = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert document["ok"]
    by_name = {f["name"]: f for f in document["findings"]}
    assert {f["state"] for f in by_name.values()} <= {"ok", "warning"}
    assert {f["group"] for f in by_name.values()} == {
        "software", "machine", "priors, cache and data", "self-test, 10 s at most",
    }  # fmt: skip
    assert {
        "python", "invdiff", "torch", "numpy", "other packages", "extra dmri", "processor", "threads", "load", "memory",
        "device", "precision", "shipped priors", "installed priors", "cache", "folder of cache", "folder of data",
        "folder of installed priors", "operators", "network of brain-mr", "reconstruction", "writing",
    } <= set(by_name)  # fmt: skip
    tests = [f for f in by_name.values() if f["group"].startswith("self-test")]
    assert [f["state"] for f in tests] == ["ok"] * 4
    assert "brain-mr, brain-mr-complex, ct-body, ellipses" in by_name["shipped priors"]["found"]
    assert by_name["threads"]["found"].startswith("torch uses ")
    assert by_name["precision"]["found"].startswith("the network runs in ")


def test_the_report_says_what_to_do(cli, home, tmp_path, monkeypatch):
    home.mkdir(parents=True)
    (home / "knee.json").write_text(json.dumps({"sha256": "0" * 64, "bytes": 1, "card": {}}))
    (home / "knee.safetensors").write_bytes(b"x")
    (home / "good.json").write_text("{")
    monkeypatch.setattr("psutil.getloadavg", lambda: (100.0, 0, 0))
    done = cli("doctor", "--no-test")
    assert done.code == 8
    lines = done.out.splitlines()
    assert lines[0] == "software"
    knee = next(line for line in lines if "prior knee" in line)
    assert knee.startswith("  problem  prior knee: the installed prior knee is damaged (its checksum is ")
    assert "install it again: invdiff prior install FILE --force, or invdiff prior remove knee" in knee
    assert "the record of the installed prior good is damaged" in done.out
    assert "  ok       installed priors: none" in done.out
    load = next(line for line in lines if " load: " in line)
    assert load.startswith("  warning  load: 100.0 processes wanted to run in the last minute, on ")
    assert load.endswith("; others are busy: runs take longer; fewer threads (OMP_NUM_THREADS=1) may help")
    assert "self-test" not in done.out
    assert lines[-1].startswith("2 problems, ")
    assert done.err == "invdiff: GateError: not well: prior good, prior knee; see the report\n"
    as_json = cli("doctor", "--no-test", "--json")
    assert as_json.code == 8
    assert not json.loads(as_json.out)["ok"]


@pytest.mark.parametrize(
    ("finding", "state", "text"),
    [
        (machine.threads(2, 2, None), "ok", "torch uses 2, OMP_NUM_THREADS is not set"),
        (machine.threads(2, 8, "8"), "warning", "more than cores are slower: export OMP_NUM_THREADS=2"),
        (machine.load(4, 1.0), "ok", "1.0 processes wanted to run in the last minute, on 4 cores"),
        (machine.load(4, 3.5), "warning", "others are busy"),
        (machine.memory_left(16 * GIB, 32 * GIB), "ok", "16.0 of 32.0 GiB are free"),
        (
            machine.memory_left(2 * GIB, 32 * GIB),
            "warning",
            "ask before a run: invdiff plan y.h5; --mem-gb makes it fit",
        ),
        (machine.memory_left(GIB // 2, 4 * GIB), "problem", "close other programs, or use another computer"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_limits_of_the_machine(finding, state, text):
    assert finding.state == state
    assert text in f"{finding.found}; {finding.todo}"


def test_cores_are_those_that_may_be_used():
    assert 1 <= machine.usable_cores() <= os.cpu_count()


def test_folders(tmp_path, monkeypatch):
    fine = stores.room("cache", tmp_path / "not" / "yet")
    assert fine.state == "ok"
    assert fine.found.startswith(f"{tmp_path}/not/yet, ")
    monkeypatch.setattr(stores, "ROOM", 1e30)
    assert (stores.room("cache", tmp_path).state, stores.room("cache", tmp_path).todo) == (
        "warning",
        "make room on that disk",
    )
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert stores.room("cache", tmp_path).todo == f"chmod u+w {tmp_path}"
    assert "cannot be written" in stores.room("cache", tmp_path).found


def test_the_cache_is_measured_or_off(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a.npz").write_bytes(bytes(2_500_000))
    assert found(stores.findings())["cache"].found == "1 files, 2.5 MB of 8.6 GB at most"
    monkeypatch.setenv("INVDIFF_CACHE_DIR", "off")
    every = found(stores.findings())
    assert every["cache"].found == "off (INVDIFF_CACHE_DIR)"
    assert "folder of cache" not in every


def test_a_shipped_prior_that_changed(monkeypatch):
    monkeypatch.setattr(stores, "sha256", lambda path: "0" * 64)
    finding = stores.shipped()
    assert (finding.state, finding.todo) == ("problem", "install again")
    assert "changed since the release" in finding.found


def test_versions_are_compared(monkeypatch):
    real = software.version
    monkeypatch.setattr(software, "version", lambda name: {"torch": "2.5.1", "dipy": "1.0"}.get(name) or real(name))
    every = found(software.findings())
    assert (every["torch"].state, every["torch"].found) == ("problem", "2.5.1, needs >=2.6")
    assert every["torch"].todo == "pip install 'torch>=2.6'"
    assert (every["extra dmri"].state, every["extra dmri"].found) == ("warning", "dipy 1.0 do not fit")
    assert every["extra dmri"].todo == "pip install 'invdiff[dmri]'"
    assert every["nibabel"].state == "ok"


def test_what_is_not_installed(monkeypatch):
    real = software.version

    def version(name):
        if name in ("finufft", "scipy"):
            raise software.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(software, "version", version)
    every = found(software.findings())
    assert (every["scipy"].state, every["scipy"].found) == ("problem", "missing, needs >=1.11")
    assert (every["extra mri"].state, every["extra mri"].found) == ("ok", "not installed (finufft)")
    assert every["extra mri"].todo == "if you need it: pip install 'invdiff[mri]'"


def test_sources_without_a_package(monkeypatch):
    def gone(name):
        raise software.PackageNotFoundError(name)

    monkeypatch.setattr(software, "requires", gone)
    every = found(software.findings())
    assert (every["packages"].state, every["packages"].todo) == ("warning", "pip install -e . to have them checked")


def test_an_old_python(monkeypatch):
    monkeypatch.setattr("platform.python_version_tuple", lambda: ("3", "9", "1"))
    every = found(software.findings())
    assert (every["python"].state, every["python"].todo) == ("problem", "install Python 3.11 or newer")


def test_versions_that_were_tested(tmp_path):
    path = tmp_path / "constraints.txt"
    path.write_text("# a comment==1\nPyYAML==6.0.3\nscipy_stubs==1.2\n")
    assert software.tested(path) == {"pyyaml": "6.0.3", "scipy-stubs": "1.2"}
    assert software.tested(tmp_path / "none") == {}


# the self-test


def test_each_test_can_fail(monkeypatch):
    monkeypatch.setattr(selftest.operators, "ADJOINT", 0.0)
    monkeypatch.setattr(selftest, "WELL_FITTED", (2.0, 3.0))
    monkeypatch.setattr(selftest, "write_atomic", lambda path, write: write(path))

    def damaged(path):
        raise PriorError("does not answer as its card says")

    monkeypatch.setattr(selftest.checkpoints, "verify", damaged)
    results = {r.name: r for r in selftest.run(epi_2mm(), seconds=1000)}
    assert [r.ok for r in results.values()] == [False] * 4
    assert results["network of brain-mr"].found == "PriorError: does not answer as its card says"
    assert results["reconstruction"].found.endswith("to be within 2 and 3")
    assert results["writing"].found == "OSError: as it is meant to"


def test_a_damaged_network_is_found(tmp_path, monkeypatch):
    """Real weights of which one tensor was lost no longer answer as their card says."""
    path, copy = library.find("brain-mr"), tmp_path / "brain-mr.safetensors"
    weights = load_file(path)
    name = max(weights, key=lambda n: weights[n].numel())
    weights[name] = weights[name] * 0
    with safe_open(path, framework="pt") as f:
        save_file(weights, copy, f.metadata())
    monkeypatch.setattr(selftest, "find", lambda name: copy)
    result = next(r for r in selftest.run(epi_2mm(), seconds=1000) if r.name == "network of brain-mr")
    assert not result.ok
    assert "its network does not answer as its card says; the weights are damaged, get it again" in result.found


def test_no_test_starts_once_the_time_is_over(cli, monkeypatch):
    now = iter(range(0, 1000, 8))
    results = list(selftest.run(epi_2mm(), seconds=10.0, clock=lambda: next(now)))
    assert [r.ok for r in results] == [True, None, None, None]
    assert results[1].found == "not run, 10 s were over"
    monkeypatch.setattr("invdiff_cli.doctor.SECONDS", -1.0)
    done = cli("doctor")
    assert done.code == 0
    assert "  warning  writing: not run, -1 s were over; run invdiff doctor again when the computer is idle" in done.out


def test_a_failed_test_has_its_code(cli, monkeypatch):
    monkeypatch.setattr(
        selftest, "run", lambda scan, seconds: iter([selftest.Result("writing", "it did not", False, 0.1)])
    )
    done = cli("doctor")
    assert done.code == 8
    assert "  problem  writing: it did not (0.1 s); install invdiff again; `invdiff verify` tells more" in done.out
    assert done.err == "invdiff: GateError: not well: writing; see the report\n"


def test_help_has_an_example(cli):
    assert "Example: invdiff doctor" in cli("doctor", "--help").out

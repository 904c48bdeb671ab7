"""The house itself: names that must not leak, imports that must stay light, a README that runs."""

import importlib
import pkgutil
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import invdiff
import invdiff_datasets
from invdiff import library
from invdiff.errors import FileError, InvdiffError

ROOT = Path(__file__).parent.parent


def test_datasets_is_not_ours():
    """HF's package of that name must stay importable: our folders hold no __init__.py of their own."""
    for folder in ("cli", "datasets", "tests"):
        assert not (ROOT / folder / "__init__.py").exists()
    code = "import importlib.util as u; s = u.find_spec('datasets'); print(s and s.origin)"
    origin = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=True).stdout
    assert "invdiff" not in origin


def test_public_names_resolve():
    for name in invdiff.__all__:
        assert getattr(invdiff, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'reconstrcut'"):
        invdiff.reconstrcut  # noqa: B018


def test_no_module_hides_a_public_name():
    """`import invdiff.x` binds x: were there a module `solve`, `from invdiff import solve` would find that."""
    modules = {m.name for m in pkgutil.iter_modules(invdiff.__path__)}
    assert "solution" in modules
    assert not modules & set(invdiff.__all__)


def test_wheel_holds_three_packages_and_its_data(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        top = next(n for n in names if n.endswith("top_level.txt"))
        assert sorted(wheel.read(top).decode().split()) == ["invdiff", "invdiff_cli", "invdiff_datasets"]
    for data in ("invdiff/py.typed", "invdiff/catalogue.json", "invdiff/priors/weights/brain-mr.safetensors"):
        assert data in names
    assert "invdiff_datasets/scans.yaml" in names
    parts = ("assets/niivue.min.js", "assets/niivue.LICENSE.txt", "assets/viewer.js", "templates/page.html.j2")
    assert {f"invdiff_cli/report/{part}" for part in parts} <= set(names)


def test_exit_codes_are_the_documented_ones():
    errors = importlib.import_module("invdiff.errors")
    codes = {c.__name__: c.exit_code for c in vars(errors).values() if isinstance(c, type)}
    assert codes == {
        "InvdiffError": 1, "ConfigError": 2, "CapabilityError": 2, "ShapeError": 4, "FileError": 4,
        "GeometryError": 4, "DatasetError": 4, "PriorError": 5, "OutOfMemoryError": 6, "DivergedError": 7,
        "GateError": 8,
    }  # fmt: skip
    assert all(issubclass(getattr(errors, n), InvdiffError) for n in codes)


def test_no_demo_scan_was_trained_on():
    cards = invdiff_datasets.cards()
    from invdiff.priors import checkpoints

    for name in library.all_shipped():
        used = {row["sha256"] for row in checkpoints.read_card(library.find(name)).scans}
        assert used or name == "ellipses", "phantoms are no scans"
        assert used <= {c.sha256 for c in cards.values() if c.split == "train"}


def test_epi_sample(monkeypatch):
    volume = invdiff_datasets.epi_2mm()
    assert tuple(volume.data.shape) == (1, 128, 96, 24)
    assert not volume.series
    monkeypatch.setattr("invdiff_datasets.samples.sha256", lambda path: "other")
    with pytest.raises(FileError, match="not the file expected; install nibabel again"):
        invdiff_datasets.epi_2mm()


def test_readme_python_runs(tmp_path, small_volume, monkeypatch):
    """Every Python block of the README, with its scan replaced by a small one."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    assert blocks
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scan.nii.gz").write_bytes(small_volume.read_bytes())
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})

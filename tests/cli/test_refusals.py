"""Bad input: one line on stderr that says what is wrong, the promised exit code, and every file as it was."""

import errno
import gzip
import json
import re
from dataclasses import asdict

import h5py
import nibabel
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from invdiff.networks.unet import UNet
from invdiff.priors import checkpoints
from invdiff.solvers import CG

QUICK = ("--steps", 2, "--samples", 1)


def nifti(path, data, affine=None):
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4) if affine is None else affine), path)


def raw_header(path, **fields):
    """Change header fields behind nibabel's back."""
    data = bytearray(path.read_bytes())
    header = nibabel.Nifti1Header(bytes(data[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    data[:348] = header.binaryblock
    path.write_bytes(bytes(data))


def missing(path):
    del path


def truncated(path):
    nifti(path, np.ones((9, 8, 7), np.float32))
    path.write_bytes(path.read_bytes()[:-50])


def truncated_gzip(path):
    nifti(path, np.ones((9, 8, 7), np.float32))
    path.write_bytes(gzip.compress(path.read_bytes())[:-20])


def text(path):
    path.write_text("this is no scan\n" * 99)


def empty(path):
    path.write_bytes(b"")


def folder(path):
    path.mkdir()


def with_nan(path):
    data = np.ones((9, 8, 7), np.float32)
    data[1, 2, 3] = np.nan
    nifti(path, data)


def with_inf(path):
    nifti(path, np.full((9, 8, 7), np.inf, np.float32))


def flat(path):
    nifti(path, np.ones((9, 8), np.float32))


def no_voxels(path):
    nifti(path, np.ones((9, 8, 7), np.float32))
    raw_header(path, dim=[3, 9, 0, 7, 1, 1, 1, 1])


def singular(path):
    nifti(path, np.ones((9, 8, 7), np.float32))
    raw_header(path, srow_x=[0, 0, 0, 0], sform_code=2)


VOLUMES = {
    missing: "no such file",
    truncated: "truncated",
    truncated_gzip: "truncated",
    text: "is not a NIfTI file",
    empty: "is not a NIfTI file",
    folder: "folder",
    with_nan: "NaN",
    with_inf: "nfinite",
    flat: "2 axes (9 x 8), a volume needs 3",
    no_voxels: "empty",
    singular: "singular",
}


@pytest.mark.parametrize("make", VOLUMES, ids=lambda m: m.__name__)
def test_bad_volumes(make, tmp_path, refused, small_volume):
    path = tmp_path / "scan.nii"
    make(path)
    for args in (
        ("simulate", "mri", path, "-o", tmp_path / "y.h5"),
        ("evaluate", path, "--reference", small_volume),
        ("evaluate", small_volume, "--reference", path),
        ("train", "prior", path, "-o", tmp_path / "p.safetensors"),
    ):
        if make is folder and args[0] == "train":
            continue  # a folder is what it asks for
        message = refused(4, *args)
        assert VOLUMES[make] in message
        assert "scan.nii" in message


def change(path, *, drop=(), **attributes):
    with h5py.File(path, "r+") as f:
        for name in drop:
            del (f.attrs if name in f.attrs else f)[name]
        f.attrs.update(attributes)


def swap(path, name, value):
    with h5py.File(path, "r+") as f:
        del f[name]
        f[name] = value


def stored(path):
    with h5py.File(path) as f:
        return f["y"][()]


def gaussian(sigma):
    return f'{{"kind": "gaussiannoise", "sigma": {sigma}}}'


MEASUREMENTS = {
    "missing": (lambda p: p.unlink(), "no such measurement file; make one with `invdiff simulate`"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:2000]), "no readable HDF5 file, perhaps truncated"),
    "half": (lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), "no readable HDF5 file, perhaps trunc"),
    "text": (lambda p: p.write_text("y = A x"), "no readable HDF5 file"),
    "empty": (lambda p: p.write_bytes(b""), "no readable HDF5 file"),
    "other HDF5": (lambda p: change(p, drop=["format"]), "is no invdiff measurement; make one with `invdiff sim"),
    "version": (lambda p: change(p, version=99), "has version 99, this invdiff reads version 2"),
    "no version": (lambda p: change(p, drop=["version"]), "has version None, this invdiff reads version 2"),
    "no y": (lambda p: change(p, drop=["y"]), "the field 'y' is missing"),
    "no header": (lambda p: change(p, drop=["header"]), "the field 'header' is missing"),
    "no noise": (lambda p: change(p, drop=["noise"]), "the field 'noise' is missing"),
    "no shape": (lambda p: change(p, drop=["shape"]), "the field 'shape' is missing"),
    "no axis": (lambda p: change(p, drop=["axis"]), "the field 'axis' is missing"),
    "no physics": (lambda p: change(p, drop=["acquisition"]), "the field 'acquisition' is missing"),
    "no facts": (lambda p: change(p, drop=["facts"]), "the field 'facts' is missing"),
    "no maps": (lambda p: change(p, drop=["maps"]), "the map"),
    "negative sigma": (lambda p: change(p, noise=gaussian("-1.0")), "noise must be a finite number >= 0, got -1"),
    "NaN sigma": (lambda p: change(p, noise=gaussian("NaN")), "noise must be a finite number >= 0, got nan"),
    "word as sigma": (
        lambda p: change(p, noise=gaussian('"loud"')),
        "GaussianNoise.sigma: Input should be a valid number",
    ),
    "other noise": (lambda p: change(p, noise='{"kind": "pink"}'), "noise that is not known here: no noise 'pink'"),
    "axis 7": (
        lambda p: change(p, axis=7),
        "contradicts itself: shape (1, 48, 40, 4) is not (C, X, Y, Z), or axis 7 not in it",
    ),
    "flat shape": (
        lambda p: change(p, shape=(1, 48, 40)),
        "contradicts itself: shape (1, 48, 40) is not (C, X, Y, Z), or",
    ),
    "other shape": (lambda p: change(p, shape=(1, 24, 40, 4)), "contradicts itself"),
    "other physics": (
        lambda p: change(p, acquisition='{"kind": "pet"}'),
        "has an acquisition or noise that is not known here: ",
    ),
    "other setting": (lambda p: change(p, acquisition='{"kind": "mri", "speed": 3}'), "MRI has no setting 'speed'"),
    "physics no JSON": (lambda p: change(p, acquisition="mri"), "a field is damaged (Expecting value: line 1"),
    "fewer slices": (lambda p: swap(p, "y", stored(p)[:3]), "y has 3 slices, shape (1, 48, 40, 4) has 4"),
    "narrower slices": (lambda p: swap(p, "y", stored(p)[..., :-1]), "contradicts itself: y has shape (4, "),
    "real k-space": (lambda p: swap(p, "y", stored(p).real), "y is torch.float32, its physics give torch.complex64"),
    "NaN in y": (lambda p: swap(p, "y", stored(p) * np.nan), "NaN or infinite values"),
    "text as header": (
        lambda p: swap(p, "header", np.frombuffer(b"no header", np.uint8)),
        "contradicts itself: is not a NIfTI file (it begins with b'no heade')",
    ),
    "y a group": (lambda p: swap(p, "y", np.bytes_("words")), "a field is damaged ("),
}


@pytest.mark.parametrize("case", MEASUREMENTS)
def test_bad_measurements(case, y, tmp_path, refused):
    damage, message = MEASUREMENTS[case]
    damage(y)
    assert message in refused(4, "reconstruct", y, "-o", tmp_path / "r.nii.gz", "--solver", "cg")


def tiny(path, *, in_channels=2, bias=0.0, **changes):
    net = UNet(in_channels=in_channels, channels=(8,), blocks=1)
    torch.nn.init.constant_(net.head.bias, bias)
    card = checkpoints.Card(name="tiny", config=net.config, mean=0.3, std=0.3)
    checkpoints.save(path, net, card)
    if changes:
        facts = asdict(card) | changes
        facts = {k: v for k, v in facts.items() if v is not None}
        save_file(load_file(path), path, {"card": json.dumps(facts)})


def cut(path):
    tiny(path)
    path.write_bytes(path.read_bytes()[:-99])


PRIORS = {
    "one channel": (
        lambda p: tiny(p, in_channels=1),
        "1-channel slices (1, H, W), not on 2x48x40 float32; complex MRI",
    ),
    "missing file": (lambda p: None, "no prior at"),
    "truncated": (cut, "is not a readable safetensors file"),
    "text": (lambda p: p.write_text("weights"), "is not a readable safetensors file"),
    "empty": (lambda p: p.write_bytes(b""), "is not a readable safetensors file"),
    "no card": (lambda p: save_file({"w": torch.zeros(2)}, p), "has no card: it is no invdiff prior"),
    "card of another version": (lambda p: tiny(p, version=9), "a card of version 9, this invdiff reads version 2"),
    "card of another net": (
        lambda p: tiny(p, config={"in_channels": 2, "channels": [16], "blocks": 1, "patch": 2}),
        "the weights do not fit their card",
    ),
    "card with an unknown field": (lambda p: tiny(p, colour="red"), "card"),
    "card without a mean": (lambda p: tiny(p, mean=None), "card"),
}


@pytest.mark.parametrize("case", PRIORS)
def test_bad_priors(case, y, tmp_path, refused):
    prior = tmp_path / "p.safetensors"
    make, message = PRIORS[case]
    make(prior)
    got = refused(5, "reconstruct", y, "-o", tmp_path / "r.nii.gz", "--prior", prior, *QUICK)
    assert message in got


def test_a_prior_name_that_does_not_exist(y, tmp_path, refused):
    message = refused(5, "reconstruct", y, "-o", tmp_path / "r.nii.gz", "--prior", "brain-ct", *QUICK)
    assert "no prior 'brain-ct'; those that ship: brain-mr, brain-mr-complex, ct-body" in message


def test_a_tiny_prior_that_fits_is_used(y, tmp_path, cli):
    prior = tmp_path / "p.safetensors"
    tiny(prior)
    assert cli("reconstruct", y, "-o", tmp_path / "r.nii.gz", "--prior", prior, *QUICK).code == 0


@pytest.mark.parametrize("bias", [3e38, float("nan"), float("inf")])
def test_a_diverging_run_names_step_and_sigma_and_writes_nothing(bias, y, tmp_path, refused):
    prior = tmp_path / "p.safetensors"
    tiny(prior, bias=bias)
    recon = tmp_path / "r.nii.gz"
    recon.write_bytes(b"old")
    for solver in ("diffpir", "dps"):
        message = refused(7, "reconstruct", y, "-o", recon, "--prior", prior, "--solver", solver, *QUICK, "--force")
        assert message.startswith("invdiff: DivergedError: ")
        assert re.search(r"(DiffPIR|DPS), step [01], sigma [0-9.]+: not finite; [a-z]", message)


def test_existing_outputs(y, tmp_path, refused, small_volume):
    for name in ("r.nii.gz", "r_std.nii.gz", "r.json", "r.run.yaml"):
        (tmp_path / name).write_bytes(b"old")
        message = refused(2, "reconstruct", y, "-o", tmp_path / "r.nii.gz", *QUICK, "--samples", 2)
        assert f"{name} exists; pass --force to replace it" in message
        (tmp_path / name).unlink()
    assert "y.h5 exists; pass --force" in refused(2, "simulate", "mri", small_volume, "-o", y)
    (tmp_path / "p.safetensors").write_bytes(b"old")
    assert "exists; pass --force" in refused(2, "train", "prior", small_volume, "-o", tmp_path / "p.safetensors")
    (tmp_path / "demo.png").write_bytes(b"old")
    assert "demo.png exists; pass --force" in refused(2, "demo", "-o", tmp_path)


@pytest.fixture
def unheard(monkeypatch):
    """The work must not begin before the outputs are known to be writable."""

    def never(*args, **kwargs):
        raise AssertionError("began to work")

    monkeypatch.setattr("invdiff.volumes.load", never)
    monkeypatch.setattr("invdiff.measurements.load", never)


@pytest.mark.usefixtures("unheard")
def test_outputs_that_have_no_place(y, tmp_path, refused, small_volume):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "sub.h5").mkdir()
    (tmp_path / "sub.nii").mkdir()
    for place, reason in (("nowhere", "does not exist; make it first"), ("file", "Not a directory")):
        there = tmp_path / place
        assert reason in refused(4, "simulate", "mri", small_volume, "-o", there / "z.h5")
        assert reason in refused(4, "reconstruct", y, "-o", there / "r.nii.gz", "--solver", "cg")
        assert reason in refused(4, "train", "prior", small_volume, "-o", there / "p.safetensors")
    message = refused(4, "simulate", "mri", small_volume, "-o", tmp_path / "sub.h5", "--force")
    assert "it is a folder" in message
    message = refused(4, "reconstruct", y, "-o", tmp_path / "sub.nii", "--force")
    assert "it is a folder" in message
    assert "cannot make the folder" in refused(4, "demo", "-o", tmp_path / "file" / "demo")


def test_a_read_only_file_system(y, tmp_path, refused, monkeypatch):
    def mkstemp(**kwargs):
        raise OSError(errno.EROFS, "Read-only file system", kwargs["dir"])

    monkeypatch.setattr("tempfile.mkstemp", mkstemp)
    message = refused(4, "reconstruct", y, "-o", tmp_path / "r.nii.gz", "--solver", "cg")
    assert "permission denied or read-only; choose another folder" in message


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cuba"])
def test_devices_that_do_not_exist(device, y, tmp_path, refused):
    message = refused(2, "reconstruct", y, "-o", tmp_path / "r.nii", "--solver", "cg", "--device", device)
    assert f"device '{device}' is not available here; use auto or cpu" in message


def test_shapes_that_differ(small_volume, tmp_path, refused):
    nifti(tmp_path / "a.nii", np.ones((9, 8, 7), np.float32))
    message = refused(4, "evaluate", tmp_path / "a.nii", "--reference", small_volume)
    assert "has shape (1, 9, 8, 7)" in message
    assert "has (1, 48, 40, 4)" in message
    message = refused(4, "evaluate", small_volume, "--reference", small_volume, "--mask", tmp_path / "a.nii")
    assert "(9, 8, 7)" in message


def test_a_mask_without_voxels(small_volume, tmp_path, refused):
    nifti(tmp_path / "m.nii", np.zeros((48, 40, 4), np.float32))
    message = refused(4, "evaluate", small_volume, "--reference", small_volume, "--mask", tmp_path / "m.nii")
    assert "mask" in message


RUN_FILES = {
    "unknown key": ({"samplse": 2}, 2, "has an unknown key 'samplse'; did you mean 'samples'?"),
    "unknown setting": ({"settings": {"stpes": 2}}, 2, "DiffPIR has no setting 'stpes'; did you mean 'steps'?"),
    "unknown solver": ({"solver": "difpir"}, 2, "no solver 'difpir'; did you mean 'diffpir'?"),
    "setting out of range": ({"settings": {"lam": -1}}, 2, "DiffPIR.lam: Input should be greater than 0, got -1"),
    "settings as a list": ({"settings": [1]}, 2, "settings"),
    "samples in words": ({"samples": "two"}, 2, "samples"),
    "half a sample": ({"samples": 0.5}, 2, "samples"),
    "no sample": ({"samples": 0}, 2, "samples"),
    "seed in words": ({"seed": "one"}, 2, "seed"),
    "no width": ({"width": 0}, 2, "width"),
    "no such grid": ({"grid": "fine"}, 2, "grid: Input should be 'auto', 'scan' or 'prior', got fine"),
    "threads in words": ({"threads": "all"}, 2, "threads"),
    "no threads": ({"threads": 0}, 2, "threads"),
    "maybe save": ({"save_samples": "perhaps"}, 2, "save_samples"),
    "a number as key": ({1: 2}, 2, "unknown key 1"),
    "device as list": ({"device": [1]}, 2, "device"),
    "dtype as list": ({"dtype": [1]}, 2, "dtype"),
    "prior as list": ({"prior": [1]}, 2, "prior"),
    "a list": ([1, 2], 4, "holds no settings; a run file is a YAML mapping"),
    "nothing": (None, 4, "holds no settings"),
}


@pytest.mark.parametrize("case", RUN_FILES)
def test_bad_run_files(case, y, tmp_path, refused):
    content, code, message = RUN_FILES[case]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    got = refused(code, "reconstruct", y, "-o", tmp_path / "r.nii.gz", "--config", tmp_path / "run.yaml")
    assert message in got


def test_unreadable_run_files(y, tmp_path, refused):
    args = ("reconstruct", y, "-o", tmp_path / "r.nii.gz", "--config", tmp_path / "run.yaml")
    assert "cannot read" in refused(4, *args)
    (tmp_path / "run.yaml").write_text("solver: [diffpir")
    assert "is not YAML" in refused(4, *args)
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00binary")
    assert "is not YAML" in refused(4, *args)


def test_a_run_file_whose_inputs_have_changed(y, tmp_path, refused, cli, small_volume):
    prior = tmp_path / "p.safetensors"
    tiny(prior)
    assert cli("reconstruct", y, "-o", tmp_path / "r.nii", *QUICK, "--prior", prior).code == 0
    again = ("reconstruct", "-o", tmp_path / "again.nii", "--config", tmp_path / "r.run.yaml")
    tiny(prior, bias=0.5)
    assert "p.safetensors is not the prior of that run (checksum differs)" in refused(5, *again)
    assert cli("simulate", "mri", small_volume, "-o", y, "--seed", 9, "--force").code == 0
    assert "y.h5 is not the file of that run (checksum differs); name it as an argument" in refused(4, *again)
    y.unlink()
    assert "no such measurement file" in refused(4, *again)


def test_nothing_to_train_on(tmp_path, refused):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "notes.txt").write_text("none")
    message = refused(4, "train", "prior", tmp_path / "scans", "-o", tmp_path / "p.safetensors")
    assert "no .nii or .nii.gz volumes in " in message


def test_an_interrupted_run(y, tmp_path, refused, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(CG, "iterate", stop)
    message = refused(130, "reconstruct", y, "-o", tmp_path / "r.nii", "--solver", "cg")
    assert message == "invdiff: interrupted; nothing was written"


def test_out_of_memory(y, tmp_path, refused, monkeypatch):
    def full(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(CG, "iterate", full)
    message = refused(6, "reconstruct", y, "-o", tmp_path / "r.nii", "--solver", "cg")
    assert "CG does not fit in memory: it takes more than there was, " in message
    monkeypatch.setattr("invdiff.measurements.load", full)
    message = refused(6, "reconstruct", y, "-o", tmp_path / "r.nii", "--solver", "cg")
    assert message == "invdiff: out of memory; use a smaller volume"


def test_a_bug_keeps_its_traceback(y, tmp_path, monkeypatch):
    from invdiff_cli.app import app

    def bug(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(CG, "iterate", bug)
    with pytest.raises(ZeroDivisionError):
        app(["reconstruct", str(y), "-o", str(tmp_path / "r.nii"), "--solver", "cg"])


def test_the_real_program_says_one_line_too(program, tmp_path):
    tiny(tmp_path / "p.safetensors", bias=float("inf"))
    nifti(tmp_path / "scan.nii", np.random.default_rng(0).random((16, 16, 2), np.float32))
    assert program("simulate", "mri", "scan.nii", "-o", "y.h5").code == 0
    done = program("reconstruct", "y.h5", "-o", "r.nii", "--prior", "p.safetensors", "--steps", 2)
    assert (done.code, done.out, done.err.count("\n")) == (7, "", 1)
    done = program("reconstruct", "scan.nii", "-o", "r.nii")
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.safetensors", "scan.nii", "y.h5"]

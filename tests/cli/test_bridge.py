"""`invdiff train bridge`: a card that loads, a scan reconstructed with it, and each refusal."""

import json

import pytest
import yaml

from invdiff.priors import checkpoints

TINY = ("--set", "width=8", "--set", "batch=2", "--set", "crop=16", "--steps", 2)
FAMILY = ("--acquisition", "mri", "--set", "acquisition.acceleration=2..5", "--noise", "0.005..0.02")


@pytest.fixture
def bridge(small_volume, tmp_path, cli):
    path = tmp_path / "heads.safetensors"
    done = cli("train", "bridge", small_volume, "-o", path, *FAMILY, *TINY, "--name", "heads", "--licence", "CC0")
    assert (done.code, done.out, done.err) == (0, "", "")
    return path


def test_a_trained_bridge_has_a_card_and_a_picture(bridge, tmp_path, cli):
    assert sorted(p.name for p in tmp_path.glob("heads*")) == ["heads.png", "heads.safetensors"]
    card = checkpoints.verify(bridge)
    assert card.bridge == {
        "process": "i2sb", "beta_max": 0.3, "spread": 0.5, "conditional": False,
        "family": {"kind": "mri", "settings": {"acceleration": "2..5"}, "noise": "0.005..0.02"},
    }  # fmt: skip
    assert (card.channels, card.architecture, card.licence) == (2, "demodulated", "CC0")
    assert set(card.training["validation"]) == {"0.25", "0.5", "0.75", "1"}
    told = cli("prior", "info", bridge).out
    assert "heads (bridge)" in told
    assert "trained for: mri acceleration=2..5 noise=0.005..0.02" in told
    assert "bridge: process i2sb, beta_max 0.3, spread 0.5, x1 not shown" in told


def test_a_scan_is_reconstructed_and_its_run_file_repeats_it(bridge, measured, tmp_path, cli):
    how = ("--solver", "cddb", "--prior", bridge, "--steps", 2, "--samples", 2)
    done = cli("reconstruct", measured, "-o", tmp_path / "a.nii", *how)
    assert (done.code, done.out) == (0, ""), done.err
    facts = json.loads((tmp_path / "a.json").read_text())
    assert (facts["prior"]["name"], facts["nfe_per_sample"], facts["gives"]) == (
        "heads",
        2,
        "mean of 2 posterior samples",
    )
    assert facts["data_fit"]["first_sample"]["chi2"] > 0.99, "noise is not fitted"
    (said,) = (w for w in facts["warnings"] if "bridge" in w)
    assert said.startswith("the spread of these samples is no uncertainty: a bridge that is not shown the degraded")
    assert yaml.safe_load((tmp_path / "a.run.yaml").read_text())["prior"] == "./heads.safetensors"
    assert cli("reconstruct", "--config", tmp_path / "a.run.yaml", "-o", tmp_path / "b.nii").code == 0
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()


def test_one_step_is_a_mean_and_has_no_spread(bridge, small_volume, measured, tmp_path, cli):
    """And so is each of a deterministic bridge: no map of zeros that looks like certainty."""
    how = ("--solver", "cddb", "--steps", 1)
    assert cli("reconstruct", measured, "-o", tmp_path / "a.nii", *how, "--prior", bridge).code == 0
    flat = tmp_path / "flat.safetensors"
    assert cli("train", "bridge", small_volume, "-o", flat, *FAMILY, *TINY, "--process", "indi").code == 0
    done = cli("reconstruct", measured, "-o", tmp_path / "b.nii", "--solver", "i2sb", "--steps", 2, "--prior", flat)
    assert done.code == 0, done.err
    for name in "ab":
        assert not (tmp_path / f"{name}_std.nii").exists()
        facts = json.loads((tmp_path / f"{name}.json").read_text())
        assert (facts["gives"], facts["seeds"]) == ("point estimate", [0])
    assert yaml.safe_load((tmp_path / "a.run.yaml").read_text())["samples"] == 1


def test_noise_that_the_bridge_has_not_seen_is_told(bridge, small_volume, tmp_path, cli):
    y = tmp_path / "loud.h5"
    assert cli("simulate", "mri", small_volume, "-o", y, "--noise", 0.1).code == 0
    how = ("--solver", "i2sb", "--prior", bridge, "--steps", 1, "--samples", 1)
    done = cli("reconstruct", y, "-o", tmp_path / "a.nii", *how)
    assert done.code == 0
    assert "invdiff: warning: the bridge heads was trained for noise 0.005..0.02, this scan has 0.1" in done.err


def test_one_that_sees_x1_and_one_that_goes_on_from_another(bridge, small_volume, measured, tmp_path, cli):
    wide = tmp_path / "wide.safetensors"
    args = (*FAMILY, *TINY, "--conditional", "--start", bridge)
    assert cli("train", "bridge", small_volume, "-o", wide, *args).code == 0
    card = checkpoints.read_card(wide)
    assert (card.config["in_channels"], card.channels, card.bridge["conditional"]) == (4, 2, True)
    done = cli(
        "reconstruct",
        measured,
        "-o",
        tmp_path / "a.nii",
        "--solver",
        "i2sb",
        "--prior",
        wide,
        "--steps",
        1,
        "--samples",
        1,
    )
    assert done.code == 0, done.err


def test_a_killed_run_goes_on_to_the_same_weights(small_volume, tmp_path, cli, monkeypatch):
    """A run that stops after its first checkpoint, and the same line again."""
    from invdiff_cli.train.run import Run

    def stop(self):
        checkpoint(self)
        raise KeyboardInterrupt

    checkpoint = Run._checkpoint
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    args = (*FAMILY, *TINY[:-1], 6, "--checkpoint-every", 2)
    assert cli("train", "bridge", small_volume, "-o", whole, *args).code == 0
    with monkeypatch.context() as m:
        m.setattr(Run, "_checkpoint", stop)
        assert cli("train", "bridge", small_volume, "-o", parts, *args).code == 130
    assert parts.with_suffix(".checkpoint").exists()
    other = cli("train", "bridge", small_volume, "-o", parts, *args, "--set", "acquisition.acceleration=2..6")
    assert other.code == 2
    assert "parts.checkpoint belongs to a run on other data" in other.err
    assert cli("train", "bridge", small_volume, "-o", parts, *args).code == 0
    from safetensors.torch import load_file

    a, b = load_file(whole), load_file(parts)
    assert all(a[name].equal(b[name]) for name in a)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("--process", "ot-ode", "--conditional"), 2, "a deterministic bridge that is shown x1 learns a subtraction"),
        (("--process", "indi", "--conditional"), 2, "a deterministic bridge that is shown x1 learns a subtraction"),
        (
            ("--set", "acquisition.dimension=3d"),
            2,
            "a bridge works on slices, mri with these settings measures volumes",
        ),
        (("--set", "acquisition.acceleration=8..4"), 2, "a range is written from its lower to its upper end"),
        (("--set", "acquisition.aceleration=4"), 2, "MRI has no setting 'aceleration'; did you mean 'acceleration'?"),
        (("--set", "beta=4"), 2, "BridgeTraining has no setting 'beta'; did you mean 'beta_max'?"),
        (("--noise", "2..1"), 2, "a range is written from its lower to its upper end"),
        (("--start", "brain-mr"), 2, "has 1 channel(s), this run 2; use another start"),
        (("-o", "b.pt"), 2, "b.pt: weights are written as .safetensors; choose this ending"),
    ],
)
def test_training_is_refused(args, code, message, small_volume, tmp_path, cli):
    done = cli("train", "bridge", small_volume, "-o", tmp_path / "b.safetensors", "--acquisition", "mri", *TINY, *args)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert not list(tmp_path.glob("b.*"))


def test_a_bridge_for_another_acquisition_is_refused(bridge, small_volume, tmp_path, cli):
    family = "the bridge heads was trained for mri acceleration=2..5; "
    for args, said in (
        (("ct", "--views", 20), "this scan was measured by ct: train one for this scan"),
        (("mri", "--acceleration", 9), "this scan has acceleration = 9: train one for this scan"),
        (("mri", "--image", "real"), "the bridge was trained on 2-channel slices (2, H, W), not on 1x48x40"),
    ):
        y = tmp_path / "other.h5"
        assert cli("simulate", args[0], small_volume, "-o", y, *args[1:], "--force").code == 0
        done = cli("reconstruct", y, "-o", tmp_path / "r.nii", "--solver", "cddb", "--prior", bridge)
        assert done.code == 5
        assert said in done.err
        assert family in done.err or "2-channel" in said


def test_priors_and_bridges_are_not_mistaken_for_each_other(bridge, measured, small_volume, tmp_path, cli):
    y = tmp_path / "blurred.h5"
    assert cli("simulate", "blur", small_volume, "-o", y).code == 0
    to = ("-o", tmp_path / "r.nii")
    for args, code, said in (
        ((measured, "--prior", bridge), 5, "heads is a bridge, no prior: it knows no images without their degraded"),
        ((measured, "--solver", "cddb", "--prior", "brain-mr-complex"), 5, "brain-mr-complex is a prior, no bridge"),
        (
            (y, "--solver", "cddb"),
            2,
            "no bridge for this blur ships with invdiff; train one with `invdiff train bridge",
        ),
        ((measured, "--solver", "cddb", "--prior", bridge, "--steer"), 2, "only a prior of slices can be steered"),
        ((measured, "--solver", "cddb", "--steps", 1000), 2, "CDDB.steps: Input should be less than or equal to 999"),
        ((measured, "--solver", "cddb", "--set", "step=2"), 2, "CDDB.step: Input should be less than 2"),
    ):
        done = cli("reconstruct", *args, *to)
        assert done.code == code
        assert said in done.err
    done = cli("sample", bridge, "-o", tmp_path / "s.nii")
    assert "heads is a bridge, no prior" in done.err

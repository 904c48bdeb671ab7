"""The file of a calibration: what is written is read, it stays small, and what is damaged is refused."""

import dataclasses
import json

import numpy as np
import pytest

from invdiff.calibration import learn, load, save
from invdiff.calibration.file import _checksum
from invdiff.errors import ConfigError, FileError
from invdiff.predictive import Law


@pytest.fixture(scope="module")
def learned(world):
    return learn([world(1.5)])[0]


def test_round_trip(learned, tmp_path):
    path = tmp_path / "calibration.json"
    save(path, learned)
    assert load(path) == learned
    with pytest.raises(ConfigError, match=r"calibration.json exists; pass --force to replace it"):
        save(path, learned)
    save(path, dataclasses.replace(learned, floor=0.01), force=True)
    assert load(path).floor == 0.01
    content = json.loads(path.read_text())
    assert content["scans"] == [{"name": "scan", "sha256": "scan"}]
    assert content["method"]["solver"] == "diffpir"
    assert content["intended_use"] == "research only"


def test_it_stays_below_10_kb(learned, tmp_path):
    scans = tuple({"name": f"sub-{n:04d}_rec-diffpir_desc-mean_T1w.nii.gz", "sha256": "0" * 64} for n in range(500))
    path = tmp_path / "many.json"
    save(path, dataclasses.replace(learned, scans=scans))
    assert path.stat().st_size < 10_000
    assert json.loads(path.read_text())["scans_not_listed"] == 460
    assert len(load(path).scans) == 40


def test_the_law_is_that_of_the_run(learned):
    for samples, antithetic in ((8, True), (3, False)):
        plain = Law.of(samples, antithetic=antithetic)
        wide = learned.law(samples, antithetic=antithetic, unit=100.0)
        np.testing.assert_allclose(wide.multiple(0.9), learned.factors[8] * plain.multiple(0.9))
        assert wide.floor == pytest.approx(0.2)


def test_differences(learned):
    same = dict(learned.method)
    assert learned.differences(same) == []
    assert learned.differences(same | {"prior": "a copy"}) == []
    assert learned.differences(same | {"samples": 4, "solver.steps": 50}) == [
        "solver.steps 12, here 50",
        "samples 8, here 4",
    ]
    other = {k: v for k, v in same.items() if not k.startswith("solver.")} | {"solver": "daps", "solver.steps": 50}
    assert learned.differences(other) == ["solver diffpir, here daps"], "not its settings, too"
    foreign = same | {"prior": "mine", "prior_sha256": "cd" * 32, "acquisition": "ct"}
    assert learned.differences(foreign) == [
        "acquisition mri, here ct",
        "prior brain-mr (abababab), here mine (cdcdcdcd)",
    ]


def changed(**fields):
    """Change fields, and make the checksum right again."""

    def change(text):
        content = json.loads(text) | fields
        content.pop("checksum")
        return json.dumps(content | {"checksum": _checksum(content)})

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:200], r"c.json is no JSON, perhaps truncated; make it again with `invdiff calibrate`"),
        (lambda text: "[1, 2]", r"c.json is no invdiff calibration; make one with"),
        (lambda text: '{"command": "reconstruct"}', r"c.json is no invdiff calibration"),
        (
            lambda text: text.replace('"version": 1', '"version": 7'),
            "has version 7, this invdiff reads version 1; calib",
        ),
        (lambda text: text.replace('"floor": 0.002', '"floor": 0.2'), "is damaged or was changed by hand"),
        (changed(levels=[0.9, 0.5]), "contradicts itself: levels, factors and floor are not those of intervals"),
        (changed(factors=None), "contradicts itself"),
        (changed(factors=[9.0] * 5 + [1.0] * 6), "contradicts itself"),
        (changed(factors=[0.0] * 11), "contradicts itself"),
        (changed(floor=-1.0), "contradicts itself"),
        (changed(method={}), "contradicts itself"),
    ],
)
def test_a_damaged_file_is_refused(damage, message, learned, tmp_path):
    path = tmp_path / "c.json"
    save(path, learned)
    path.write_text(damage(path.read_text()))
    with pytest.raises(FileError, match=message):
        load(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileError, match=r"cannot read .*none.json: No such file or directory; make a calibration with"):
        load(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match=r"binary.json is no JSON"):
        load(tmp_path / "binary.json")

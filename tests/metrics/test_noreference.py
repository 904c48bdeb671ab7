import hashlib
import json

import pytest

from invdiff.errors import FileError
from invdiff.metrics.noreference import data_fit

FIT = {"mean": {"relative_residual": 0.02, "chi2": 0.9}, "first_sample": {"relative_residual": 0.03, "chi2": 1.0}}


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "recon.nii.gz"
    path.write_bytes(b"voxels")
    return path


@pytest.mark.parametrize("sums", [None, {"recon.nii.gz": hashlib.sha256(b"voxels").hexdigest(), "other": "00"}])
def test_what_the_run_says(image, sums):
    facts = {"data_fit": FIT} | ({"output_sha256": sums} if sums else {})
    (image.parent / "recon.json").write_text(json.dumps(facts))
    assert data_fit(image) == {"data_residual": 0.02, "chi2": 0.9}


def test_chi2_may_be_unknown(image):
    (image.parent / "recon.json").write_text(json.dumps({"data_fit": {"mean": {"relative_residual": 1, "chi2": None}}}))
    assert data_fit(image) == {"data_residual": 1, "chi2": None}


def test_no_sidecar(image):
    with pytest.raises(FileError, match=r"no recon.json beside recon.nii.gz: how it fits its measurement is not known"):
        data_fit(image)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"data_fit": 3}', '{"data_fit": {"mean": {}}}', "{", "\xff"])
def test_another_json(image, text):
    (image.parent / "recon.json").write_text(text, encoding="latin-1")
    with pytest.raises(FileError, match=r"recon.json is no sidecar of `invdiff reconstruct`: it has no data_fit"):
        data_fit(image)


def test_the_sidecar_of_another_image(image):
    facts = {"data_fit": FIT, "output_sha256": {"recon.nii.gz": "00"}}
    (image.parent / "recon.json").write_text(json.dumps(facts))
    with pytest.raises(FileError, match=r"recon.json was written for another recon.nii.gz \(checksum differs\)"):
        data_fit(image)

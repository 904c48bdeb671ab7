"""Each refusal says, in one line, what was asked, what was found and what to do."""

import errno
import gzip
import os
import re
from pathlib import Path
from typing import Any, TypeAlias

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from invdiff.errors import ConfigError, FileError, GeometryError, InvdiffError
from invdiff.volumes import Volume, from_header_bytes, load, save

Nib: TypeAlias = Any  # nibabel carries no annotations
nib: Nib = nibabel


def good(data: NDArray[Any] | None = None, kind: Nib = nib.Nifti1Image, **fields: object) -> bytes:
    """The bytes of a file by nibabel, 3 x 4 x 5 float32 unless told otherwise, with raw header fields set."""
    image = kind(np.ones((3, 4, 5), np.float32) if data is None else data, np.eye(4))
    raw = image.to_bytes()
    size = image.header.sizeof_hdr
    header = kind.header_class(raw[:size], check=False)
    for name, value in fields.items():
        header[name] = value
    return bytes(header.binaryblock + raw[size:])


def holed(value: float) -> bytes:
    data = np.ones((3, 4, 5, 2), np.float32)
    data[1, 2, 3, 1] = data[2, 3, 4, 1] = value
    return good(data)


COMPLEX, RGB = np.dtype(np.complex64), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
CORRUPT = bytearray(gzip.compress(good(), mtime=0))
CORRUPT[-8] ^= 1  # checksum
GARBLED = gzip.compress(good())[:10] + b"\x07" * 200  # no such kind of block
AGAIN = "copy or download it again"

BAD: dict[str, tuple[bytes, type[InvdiffError], str]] = {
    "empty": (b"", FileError, r"is not a NIfTI file \(it is empty, 0 bytes\); give a .nii or .nii.gz file"),
    "short": (b"ab", FileError, r"is not a NIfTI file \(it begins with b'ab'\)"),
    "text": (b"hello " * 100, FileError, r"is not a NIfTI file \(it begins with b'hello he'\); give a .nii"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(500), FileError, r"is not a NIfTI file \(it begins with b'\\x89PNG"),
    "gzipped text": (gzip.compress(b"hello " * 99), FileError, r"is not a NIfTI file \(it begins with b'hello he'\)"),
    "magic alone": (b"abcdn+2\0" + bytes(600), FileError, r"is not a NIfTI file \(it begins with b'abcdn"),
    "analyze": (good(magic=b""), FileError, "is not a NIfTI file"),
    "header of a pair": (good(magic=b"ni1"), FileError, "is the header of a .hdr/.img pair; convert the pair to one"),
    "truncated header": (good()[:300], FileError, r"the header is truncated \(300 bytes\); copy or download the file"),
    "truncated NIfTI-2": (good(kind=nib.Nifti2Image)[:500], FileError, r"the header is truncated \(500 bytes\)"),
    "truncated voxels": (good()[:-1], FileError, f"holds 239 of 240 bytes of voxels, the file is truncated; {AGAIN}"),
    "truncated extensions": (good(vox_offset=4096), FileError, "592 bytes, voxels should begin at 4096: the file is"),
    "truncated gzip": (gzip.compress(good())[:-20], FileError, f"the gzip stream ends early, .* truncated; {AGAIN}"),
    "gzip of 5 bytes": (gzip.compress(good())[:5], FileError, "the gzip stream ends early"),
    "corrupt gzip": (bytes(CORRUPT), FileError, rf"the gzip stream is damaged \(CRC check failed\); {AGAIN}"),
    "garbled gzip": (GARBLED, FileError, r"the gzip stream is damaged \(.*block type\)"),
    "offset 0": (good(vox_offset=0), FileError, "the header is damaged: voxels cannot begin at byte 0; copy or"),
    "offset 352.5": (good(vox_offset=352.5), FileError, "the header is damaged: voxels cannot begin at byte 352.5"),
    "offset nan": (good(vox_offset=np.nan), FileError, "the header is damaged: voxels cannot begin at byte nan"),
    "nan": (holed(np.nan), FileError, r"2 of 120 voxels are NaN .* first at \[1, 2, 3\] of frame 1; clean the"),
    "inf": (holed(-np.inf), FileError, r"2 of 120 voxels are NaN or infinite"),
    "too large": (good(np.full((1, 1, 2), 1e300)), FileError, r"2 of 2 voxels are .* the first at \[0, 0, 0\]; clean"),
    "too large by slope": (good(np.full((1, 1, 2), 9e9), kind=nib.Nifti2Image, scl_slope=1e300), FileError, "2 of 2"),
    "2-D": (good(np.ones((3, 4))), GeometryError, r"2 axes \(3 x 4\), a volume needs 3; store a .* slice as 3 x 4 x 1"),
    "5-D": (good(np.ones((2, 3, 4, 1, 3))), GeometryError, r"5 axes \(2 x 3 x 4 x 1 x 3\), at most 4 are read"),
    "zero": (good(dim=[3, 4, 0, 5, 1, 1, 1, 1]), GeometryError, r"the volume is empty \(4 x 0 x 5\); nothing can be"),
    "zero frames": (good(dim=[4, 4, 3, 5, 0, 1, 1, 1]), GeometryError, r"the volume is empty \(4 x 3 x 5 x 0\)"),
    "negative": (good(dim=[3, -1, 1, 1, 1, 1, 1, 1]), GeometryError, r"the volume is empty \(-1 x 1 x 1\)"),
    "no axes": (good(dim=[0] * 8), GeometryError, r"the volume is empty \(no axes\)"),
    "singular sform": (good(srow_x=[0, 0, 0, 0]), GeometryError, "the affine is singular: .*; correct sform or qform"),
    "nan sform": (good(srow_x=[np.nan, 0, 0, 0]), GeometryError, "no finite 4x4 matrix with last row 0 0 0 1: .*nan"),
    "bad quaternion": (good(sform_code=0, qform_code=1, quatern_b=2), GeometryError, r"the qform is damaged"),
    "nan fallback": (good(sform_code=0, pixdim=[1, np.nan, 1, 1, 0, 0, 0, 0]), GeometryError, "no finite 4x4 matrix"),
    "complex": (good(np.ones((3, 4, 5), COMPLEX)), FileError, "holds complex64 voxels, only real ones are read; save"),
    "colour": (good(np.ones((3, 4, 5), RGB)), FileError, "holds RGB voxels, which are no single real intensity"),
    "1-bit": (good(datatype=1), FileError, "holds 1-bit voxels"),
    "unknown type": (good(datatype=99), FileError, "holds type 99 voxels"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_file(case: str, tmp_path: Path) -> None:
    raw, error, message = BAD[case]
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(raw)
    with pytest.raises(error, match=f"^{re.escape(str(path))}: .*{message}") as caught:
        load(path)
    assert str(caught.value).count(";") == 1  # what was found; what to do
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"scan.nii: no such file; check the name"):
        load(tmp_path / "scan.nii")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is a folder; name a file in it"):
        load(tmp_path)


def test_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        FileError, match=r"scan.nii: cannot be read: Not a directory; check the path and its permissions"
    ):
        load(tmp_path / "file" / "scan.nii")


def test_header_bytes_that_are_none() -> None:
    with pytest.raises(FileError, match="is not a NIfTI file"):
        from_header_bytes(b"nonsense" * 99, torch.zeros(1, 3, 4, 5))


@pytest.fixture
def volume() -> Volume:
    return Volume(torch.rand(2, 9, 8, 7, generator=torch.Generator().manual_seed(0)), np.eye(4))


@pytest.mark.parametrize("name", ["a.mgz", "a.nii.bz2", "a", "nii.gz", "a.img"])
def test_save_to_another_ending(volume: Volume, name: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=f"{name}: a volume is written as .nii or .nii.gz; choose one of these endings"):
        save(tmp_path / name, volume)


def test_save_refuses_an_existing_file(volume: Volume, tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(b"precious")
    with pytest.raises(ConfigError, match=r"a.nii exists; pass --force to replace it"):
        save(path, volume)
    assert path.read_bytes() == b"precious"
    save(path, volume, force=True)
    assert torch.equal(load(path).data, volume.data)


def test_save_refuses_voxels_that_are_not_finite(volume: Volume, tmp_path: Path) -> None:
    volume.data[1, 2, 3, 4] = torch.nan
    with pytest.raises(FileError, match=r"a.nii: 1 of 1008 voxels are NaN .* the first at \[2, 3, 4\] of frame 1"):
        save(tmp_path / "a.nii", volume)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_full_disk(volume: Volume, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    path.write_bytes(b"precious")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda _, mode: os.fdopen(os.open("/dev/full", os.O_WRONLY), mode))
        with pytest.raises(FileError, match=f"cannot write .*{name}: no space left on the device; free some"):
            save(path, volume, force=True)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == b"precious"


def test_read_only_folder(volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", refuse)  # chmod stops no superuser
    with pytest.raises(FileError, match=r"cannot write .*a.nii: permission denied or read-only; choose another folder"):
        save(tmp_path / "a.nii", volume)


def test_missing_folder_and_folder_that_is_a_file(volume: Volume, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"cannot write .*: the folder .*none does not exist; make it first"):
        save(tmp_path / "none" / "a.nii", volume)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match=r"cannot write .*: Not a directory"):
        save(tmp_path / "file" / "a.nii", volume)

"""DICOM series, written by pydicom: order, place, units, and what makes a series no volume."""

import sys

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

from invdiff.errors import ConfigError, FileError, GeometryError
from invdiff.importers.dicom import read

OBLIQUE = np.array([[0.8, 0.6, 0.0], [0.0, 0.0, -1.0]])  # along a row, along a column
PIXELS = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)  # slices, rows, columns


def header(series="1.2.3", description="T1"):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.SOPClassUID, ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPClassUID, generate_uid()
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.SeriesInstanceUID, ds.SeriesDescription, ds.Modality = series, description, "CT"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    return ds


def single(path, n, *, position=None, pixels=None, orientation=OBLIQUE, **fields):
    """One slice; `fields` set to None are left out."""
    ds = header(fields.pop("series", "1.2.3"))
    image = PIXELS[n] if pixels is None else pixels
    ds.Rows, ds.Columns = image.shape
    ds.ImageOrientationPatient = orientation.ravel().tolist()
    normal = np.cross(*OBLIQUE)
    ds.ImagePositionPatient = (np.array([10, -20, 30]) + 2.5 * n * normal if position is None else position).tolist()
    ds.PixelSpacing, ds.SliceThickness = [0.9, 0.7], 2
    ds.RescaleSlope, ds.RescaleIntercept = 2 + n, -1000
    for name, value in fields.items():
        delattr(ds, name) if value is None else setattr(ds, name, value)
    ds.PixelData = image.tobytes()
    ds.save_as(path, enforce_file_format=True)


@pytest.fixture
def folder(tmp_path):
    """Six slices whose names tell nothing of their order."""
    for n, name in enumerate("dbfaec"):
        single(tmp_path / f"{name}.dcm", n)
    (tmp_path / "notes.txt").write_text("no DICOM file")
    return tmp_path


def test_a_series_is_sorted_rescaled_and_placed(folder):
    volume = read(folder)
    assert tuple(volume.data.shape) == (1, 4, 5, 6)
    for n in range(6):
        np.testing.assert_array_equal(volume.data[0, :, :, n], PIXELS[n].T * (2.0 + n) - 1000)
    # The centre of voxel (column, row, slice) in LPS, from the standard's own formula (C.7.6.2.1.1).
    column, row, n = 3, 1, 4
    position = np.array([10, -20, 30]) + 2.5 * n * np.cross(*OBLIQUE)
    lps = position + column * 0.7 * OBLIQUE[0] + row * 0.9 * OBLIQUE[1]
    np.testing.assert_allclose(volume.affine @ [column, row, n, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-6)
    np.testing.assert_allclose(volume.spacing, (0.7, 0.9, 2.5))


def test_one_slice_is_as_thick_as_it_says(tmp_path):
    single(tmp_path / "a.dcm", 0)
    assert read(tmp_path).spacing == pytest.approx((0.7, 0.9, 2))


def test_a_gantry_tilt_shears_the_affine(tmp_path):
    shift = np.array([0, 0.3, 2.5])
    for n in range(3):
        single(tmp_path / f"{n}.dcm", n, position=n * shift)
    affine = read(tmp_path).affine
    np.testing.assert_allclose(np.abs(affine[:3, 2]), np.abs(shift), atol=1e-6)


def enhanced(path, positions, *, own_rescale=False):
    ds = header()
    ds.Rows, ds.Columns, ds.NumberOfFrames = 5, 4, len(positions)
    shared, orientation, measures, rescale = Dataset(), Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = OBLIQUE.ravel().tolist()
    measures.PixelSpacing, measures.SliceThickness = [0.9, 0.7], 2.5
    rescale.RescaleSlope, rescale.RescaleIntercept = 0.5, 10
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([orientation]), Sequence([measures])
    shared.PixelValueTransformationSequence = Sequence([rescale])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for n, p in enumerate(positions):
        frame, plane = Dataset(), Dataset()
        plane.ImagePositionPatient = list(p)
        frame.PlanePositionSequence = Sequence([plane])
        if own_rescale:
            mine = Dataset()
            mine.RescaleSlope, mine.RescaleIntercept = n + 1, 0
            frame.PixelValueTransformationSequence = Sequence([mine])
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    ds.PixelData = PIXELS[: len(positions)].tobytes()
    ds.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("own_rescale", [False, True])
def test_enhanced_multi_frame_files(own_rescale, tmp_path):
    normal = np.cross(*OBLIQUE)
    enhanced(tmp_path / "all.dcm", [2.5 * n * normal for n in (2, 0, 1)], own_rescale=own_rescale)
    volume = read(tmp_path)
    slopes, intercept = ((1, 2, 3), 0) if own_rescale else ((0.5,) * 3, 10)
    for slot, n in enumerate((1, 2, 0)):
        np.testing.assert_allclose(volume.data[0, :, :, slot], PIXELS[n].T * slopes[n] + intercept)
    np.testing.assert_allclose(volume.spacing, (0.7, 0.9, 2.5))


def test_a_missing_slice_is_named_with_its_distance(folder):
    (folder / "a.dcm").unlink()  # slice 3
    with pytest.raises(
        GeometryError, match=r"5 slices are not equally spaced: 5 mm from slice 2 to 3 .* 2.5 mm elsewhere"
    ):
        read(folder)
    with pytest.raises(GeometryError, match="1 missing\\?\\); complete or separate them"):
        read(folder)


def test_unequal_slices(folder):
    single(folder / "g.dcm", 0, position=np.array([10, -20, 30]) + 2.5 * 5.5 * np.cross(*OBLIQUE))
    with pytest.raises(GeometryError, match=r"7 slices are not equally spaced: 1.25 mm from slice 5 to 6"):
        read(folder)


def test_a_series_of_time_points(folder):
    single(folder / "g.dcm", 2)
    with pytest.raises(GeometryError, match=r"slices 2 and 3 lie at the same place, \(.*\) mm: echoes or times"):
        read(folder)


def test_images_that_differ(folder):
    single(folder / "z.dcm", 0, pixels=np.zeros((5, 3), np.int16))
    with pytest.raises(GeometryError, match=r"z.dcm has 5 x 3 pixels of 0.9 x 0.7 mm.*a.dcm has 5 x 4 pixels"):
        read(folder)
    single(folder / "z.dcm", 0, orientation=np.array([[1.0, 0, 0], [0, 1, 0]]))
    with pytest.raises(GeometryError, match=r"orientation \[\[1.0, 0.0, 0.0\], \[0.0, 1.0, 0.0\]\]"):
        read(folder)


def test_several_series_are_listed_and_one_may_be_chosen(folder):
    single(folder / "other.dcm", 0, series="9.8.7")
    with pytest.raises(
        ConfigError, match=r"holds 2 series; choose one by --series: .*1.2.3 \(6 files, T1\); 9.8.7 \(1 f"
    ):
        read(folder)
    with pytest.raises(ConfigError, match="choose one by --series"):
        read(folder, series="5")
    assert read(folder, series="9.8.7").data.shape == (1, 4, 5, 1)


def test_folders_without_a_series(tmp_path):
    with pytest.raises(FileError, match="holds no DICOM images"):
        read(tmp_path)
    with pytest.raises(FileError, match="is no folder; give the one that holds the files"):
        read(tmp_path / "none")


@pytest.mark.parametrize("field", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_images_without_a_place(field, tmp_path):
    single(tmp_path / "a.dcm", 0, **{field: None})
    with pytest.raises(FileError, match=f"a.dcm lacks {field}, so it has no place in the world"):
        read(tmp_path)


def test_colour(tmp_path):
    single(tmp_path / "a.dcm", 0, SamplesPerPixel=3)
    with pytest.raises(FileError, match="holds colour"):
        read(tmp_path)


def test_pixels_that_cannot_be_read(tmp_path):
    single(tmp_path / "a.dcm", 0)
    path = tmp_path / "a.dcm"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FileError, match=r"a.dcm: pixels cannot be read \(Explicit VR Little Endian\); copy it again"):
        read(tmp_path)
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ds.PixelData = pydicom.encaps.encapsulate([b"\0" * 16])
    ds["PixelData"].VR = "OB"
    ds.save_as(path, enforce_file_format=True)
    with pytest.raises(FileError, match=r"pixels cannot be read \(JPEG 2000.*decompress it by gdcmconv --raw"):
        read(tmp_path)


def test_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ConfigError, match=r'needs the package pydicom; install it by: pip install "invdiff\[dicom\]"'):
        read(tmp_path)


def test_from_the_command_line(folder, tmp_path_factory):
    from invdiff import volumes
    from invdiff_cli.app import app

    out = tmp_path_factory.mktemp("out") / "scan.nii.gz"
    with pytest.raises(SystemExit) as e:
        app(["import", "dicom", str(folder), "-o", str(out)])
    assert not e.value.code
    np.testing.assert_allclose(volumes.load(out).affine, read(folder).affine, atol=1e-5)


@pytest.mark.parametrize(
    "fields",
    [{"ImageOrientationPatient": [1, 0, 0]}, {"PixelSpacing": [0.9]}, {"ImagePositionPatient": [1, 2]}],
    ids=lambda f: next(iter(f)),
)
def test_malformed_fields(fields, tmp_path):
    single(tmp_path / "a.dcm", 0, **fields)
    with pytest.raises(FileError, match=r"a\.dcm: a field is malformed \(.*\); export the series again"):
        read(tmp_path)

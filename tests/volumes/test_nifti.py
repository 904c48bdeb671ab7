"""NIfTI files keep every header field, extension and voxel; moves keep both forms true."""

import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from invdiff.errors import ShapeError
from invdiff.testing.volumes import check_round_trip, check_same_place, header_fields, voxels
from invdiff.volumes import Volume, from_header_bytes, header_bytes, load, save

Nib: TypeAlias = Any  # nibabel carries no annotations
nib: Nib = nibabel
EXAMPLES = Path(nibabel.__file__).parent / "tests" / "data"
DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"]


def rotation(rng: Generator) -> NDArray[np.float64]:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn: NDArray[np.float64] = q * np.sign(np.linalg.det(q))
    return turn


def fill_place(header: Nib, rng: Generator) -> None:
    """A sheared sform and an unrelated qform, either handedness, anisotropic, far from the origin."""
    zooms = np.exp(rng.uniform(np.log(0.05), np.log(20), 3))
    header["pixdim"][:4] = [rng.choice([-1, 1]), *zooms]
    header["quatern_b"], header["quatern_c"], header["quatern_d"] = nib.quaternions.mat2quat(rotation(rng))[1:]
    header["qoffset_x"], header["qoffset_y"], header["qoffset_z"] = rng.uniform(-300, 300, 3)
    sform = rotation(rng) @ (np.eye(3) + np.triu(rng.uniform(-0.3, 0.3, (3, 3)), 1)) * zooms * rng.choice([-1, 1], 3)
    for row, name in enumerate(["srow_x", "srow_y", "srow_z"]):
        header[name] = [*sform[row], rng.uniform(-300, 300)]


def fill_rest(header: Nib, rng: Generator) -> None:
    """Every other field, sensible or not."""
    header["pixdim"][4:] = rng.choice([0, 1, 2.5, np.nan], 4)
    for name in ["intent_p1", "intent_p2", "intent_p3", "toffset", "slice_duration", "cal_max", "cal_min"]:
        header[name] = rng.normal()
    for name in ["slice_start", "slice_end", "slice_code", "intent_code"]:
        header[name] = rng.integers(0, 7)
    header["dim_info"] = rng.integers(0, 256)
    header["xyzt_units"] = rng.choice([0, 1, 2, 3]) + rng.choice([0, 8, 16, 24, 32, 40, 48])
    header["descrip"], header["aux_file"], header["intent_name"] = b"a scan, 7 T", b"none", b"x" * 16
    unused = {"data_type": b"abc", "db_name": b"db", "extents": 16384, "session_error": 3, "regular": b"r"}
    for name, value in {**unused, "glmax": 255, "glmin": -1, "unused_str": b"fifteen letters"}.items():
        if name in header.keys():  # it has no `in`
            header[name] = value


def extension_block(contents: list[tuple[int, bytes]], order: str) -> bytes:
    block = b"\1\0\0\0" if contents else bytes(4)
    for code, content in contents:
        size = -(-(len(content) + 8) // 16) * 16
        block += np.array([size, code], order + "i4").tobytes() + content.ljust(size - 8, b"\0")
    return block


def numbers(rng: Generator, dtype: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    if dtype.startswith("f"):
        return (rng.normal(size=shape) * 10.0 ** rng.integers(-3, 6)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """The bytes of a NIfTI file as scanners and tools have never written one."""
    rng = default_rng(draw(st.integers(0, 2**32)))
    order: Literal["<", ">"] = draw(st.sampled_from(["<", ">"]))
    header: Nib = draw(st.sampled_from([nib.Nifti1Header, nib.Nifti2Header]))(endianness=order)
    shape = (*draw(st.tuples(*[st.integers(1, 7)] * 3)), *draw(st.sampled_from([(), (1,), (2,), (5,)])))
    fill_rest(header, rng)
    fill_place(header, rng)
    header["sform_code"], header["qform_code"] = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    dtype = draw(st.sampled_from(DTYPES))
    header.set_data_dtype(dtype)
    header["scl_slope"], header["scl_inter"] = draw(
        st.sampled_from([(0, 5), (1, 0), (np.nan, 0), (-0.37, 1e3), (1, 7)])
    )
    header["dim"] = [len(shape), *shape, *rng.integers(0, 9, 7 - len(shape))]
    # Not 2, DICOM: where pydicom is installed nibabel, the oracle, refuses any that is not.
    codes = st.tuples(st.sampled_from([0, 4, 6, 34, 44, 1000]), st.binary(max_size=40))
    extensions = extension_block(draw(st.lists(codes, max_size=3)), order)
    gap = bytes(draw(st.sampled_from([0, 3] if extensions[0] else [0, 3, 16])))  # 16 would confuse nibabel
    header["vox_offset"] = len(header.binaryblock) + len(extensions) + len(gap)
    data = numbers(rng, dtype, shape).astype(np.dtype(dtype).newbyteorder(order)).tobytes("F")
    return bytes(header.binaryblock) + extensions + gap + data


@contextmanager
def on_disk(raw: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source.nii"
        path.write_bytes(raw)
        yield path


def stored(path: Path) -> Nib:
    """nibabel's header of a file that invdiff wrote."""
    return nib.load(path).header


@settings(max_examples=300, deadline=None)
@given(files())
def test_round_trip_keeps_every_bit(raw: bytes) -> None:
    with on_disk(raw) as path:
        check_round_trip(path, path.parent)


def test_only_these_fields_are_rewritten(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", some(3, 4, 5).astype(np.int16), scl_slope=2, scl_inter=3, cal_min=4, cal_max=5)
    save(tmp_path / "b.nii", load(path))
    header = nib.Nifti1Header((tmp_path / "b.nii").read_bytes()[:348])  # nib.load would hide the slope
    expected = {"datatype": 16, "bitpix": 32, "cal_min": 0, "cal_max": 0, "scl_slope": 1, "scl_inter": 0}
    assert {name: int(header[name]) for name in expected} == expected
    before, after = header_fields(path), header_fields(tmp_path / "b.nii")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == expected.keys()


@settings(max_examples=100, deadline=None)
@given(files())
def test_affine_is_nibabels_in_millimetres(raw: bytes) -> None:
    with on_disk(raw) as path:
        volume = load(path)
        image = nib.load(path)
        unit = {1: 1000.0, 3: 0.001}.get(int(image.header["xyzt_units"]) % 8, 1.0)
        np.testing.assert_allclose(volume.affine[:3], image.affine[:3] * unit, rtol=1e-15)
        np.testing.assert_allclose(volume.spacing, nib.affines.voxel_sizes(image.affine) * unit, rtol=1e-12)
        assert volume.orientation == "".join(nib.aff2axcodes(image.affine))


def check_moved_file(moved: Volume, source: Volume, before: Nib, path: Path) -> None:
    """On disk, as in memory, each voxel is where it was: by the best affine, and by each coded form of its own."""
    save(path, moved, force=True)
    check_same_place(load(path), source, atol=2e-2)  # float32: 300 mm to 3e-5 mm, voxels from 0.05 mm, sheared
    move = np.rint(np.linalg.solve(source.affine, moved.affine))
    after = stored(path)
    for form in ["sform", "qform"]:
        code = int(before[f"{form}_code"])
        if code:
            assert int(after[f"{form}_code"]) == code
            expected = getattr(before, f"get_{form}")() @ move
            np.testing.assert_allclose(getattr(after, f"get_{form}")(), expected, rtol=1e-4, atol=1e-3)
    axes = np.abs(move[:3, :3]).argmax(axis=0)
    np.testing.assert_array_equal(after["pixdim"][1:4], before["pixdim"][1:4][axes])
    np.testing.assert_array_equal(after["pixdim"][4:], before["pixdim"][4:])
    again = from_header_bytes(header_bytes(load(path)), moved.data)
    np.testing.assert_array_equal(again.affine, load(path).affine)


@settings(max_examples=150, deadline=None)
@given(files(), st.randoms(use_true_random=False))
def test_crop_moves_both_forms_on_disk(raw: bytes, random: Random) -> None:
    with on_disk(raw) as path:
        source = load(path)
        start = [random.randrange(n) for n in source.data.shape[1:]]
        shape = [random.randint(1, n - a) for n, a in zip(source.data.shape[1:], start, strict=True)]
        cropped = source.crop(start, shape)
        check_same_place(cropped, source)
        check_moved_file(cropped, source, stored(path), path.with_name("moved.nii"))
        before, after = header_fields(path), header_fields(path.with_name("moved.nii"))
        for name in ["quatern_b", "quatern_c", "quatern_d", "pixdim", "qform_code"]:  # a crop turns nothing
            assert before[name] == after[name]


@settings(max_examples=150, deadline=None)
@given(files())
def test_canonical_moves_both_forms_on_disk(raw: bytes) -> None:
    with on_disk(raw) as path:
        source = load(path)
        turned = source.canonical()
        assert turned.orientation == "RAS"
        check_same_place(turned, source)
        check_moved_file(turned, source, stored(path), path.with_name("moved.nii"))


@pytest.mark.parametrize("name", ["example4d.nii.gz", "example_nifti2.nii.gz", "anatomical.nii", "functional.nii"])
def test_real_files_make_the_round_trip(name: str, tmp_path: Path) -> None:
    volume = check_round_trip(EXAMPLES / name, tmp_path)
    np.testing.assert_array_equal(volume.affine, nib.load(EXAMPLES / name).affine)


def test_example4d_keeps_its_extensions(tmp_path: Path) -> None:
    path = tmp_path / "copy.nii.gz"
    save(path, load(EXAMPLES / "example4d.nii.gz"))
    found, expected = stored(path).extensions, stored(EXAMPLES / "example4d.nii.gz").extensions
    assert found == expected
    assert len(found) == 2


def write(path: Path, data: NDArray[Any], affine: NDArray[np.float64] | None = None, **fields: object) -> Path:
    """A file by nibabel, with raw header fields set afterwards."""
    image = nib.Nifti1Image(data, np.diag([1, 2, 3, 1]) if affine is None else affine)
    raw = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(bytes(header.binaryblock) + raw[348:])
    return path


def some(*shape: int) -> NDArray[np.float32]:
    return default_rng(0).normal(size=shape).astype(np.float32)


def test_without_codes_a_copy_keeps_none_but_a_crop_says_where_it_is(tmp_path: Path) -> None:
    source = load(write(tmp_path / "a.nii", some(4, 5, 6), sform_code=0, qform_code=0))
    assert source.orientation == "LAS"  # the fallback of NIfTI readers
    save(tmp_path / "b.nii", source)
    assert (stored(tmp_path / "b.nii")["sform_code"], stored(tmp_path / "b.nii")["qform_code"]) == (0, 0)
    save(tmp_path / "c.nii", source.crop((0, 0, 0), (4, 5, 3)))
    assert stored(tmp_path / "c.nii")["sform_code"] == 2
    check_same_place(load(tmp_path / "c.nii"), source)


def test_another_affine_goes_to_the_sform_alone(tmp_path: Path) -> None:
    source = load(write(tmp_path / "a.nii", some(4, 5, 6), qform_code=1, sform_code=3, xyzt_units=3))
    affine = np.diag([0.5, 0.25, 2.0, 1.0])
    affine[0, 3] = 7
    save(tmp_path / "b.nii", Volume(torch.zeros(1, 8, 8, 8), affine, source.header))
    header = stored(tmp_path / "b.nii")
    assert (header["sform_code"], header["qform_code"], header["xyzt_units"]) == (3, 0, 3)
    np.testing.assert_allclose(load(tmp_path / "b.nii").affine, affine)
    np.testing.assert_allclose(header["pixdim"][1:4], [500, 250, 2000])  # micrometres


def test_slice_order_is_forgotten_only_where_it_no_longer_holds(tmp_path: Path) -> None:
    affine = np.array([[0, 0, -3.0, 0], [1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]])  # stored axes point to A, S, L
    info = 1 | 2 << 2 | 3 << 4
    path = write(tmp_path / "a.nii", some(4, 5, 6), affine, dim_info=info, slice_code=1, slice_start=0, slice_end=5)
    source = load(path)
    save(tmp_path / "plane.nii", source.crop((1, 1, 0), (2, 2, 6)))
    assert stored(tmp_path / "plane.nii")["slice_code"] == 1
    save(tmp_path / "cut.nii", source.crop((0, 0, 0), (4, 5, 5)))
    assert (stored(tmp_path / "cut.nii")["slice_code"], stored(tmp_path / "cut.nii")["slice_end"]) == (0, 0)
    save(tmp_path / "flip.nii", source.canonical())
    assert stored(tmp_path / "flip.nii").get_dim_info() == (1, 2, 0)
    assert stored(tmp_path / "flip.nii")["slice_code"] == 0


@pytest.mark.parametrize("order", ["<", ">"])
def test_extensions_that_describe_axes_go_when_the_axes_change(order: str, tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    image = nib.Nifti1Image(some(4, 5, 6, 3), np.eye(4), nib.Nifti1Header(endianness=order))
    for code, content in [(6, b"a comment"), (34, b"1.0 1.1 1.2"), (4, b"<AFNI/>"), (44, b"{}")]:
        image.header.extensions.append(nib.nifti1.Nifti1Extension(code, content))
    nib.save(image, path)
    source = load(path)
    for name, volume in {"crop": source.crop((0, 0, 0), (4, 5, 5)), "mean": source.like(source.data[:1])}.items():
        save(tmp_path / f"{name}.nii", volume)
        assert stored(tmp_path / f"{name}.nii").extensions.get_codes() == [6, 44]
        np.testing.assert_array_equal(voxels(tmp_path / f"{name}.nii")[..., 0], volume.data[0])


@pytest.mark.parametrize(
    ("frames", "series", "expected"),
    [(1, None, (4, 5, 6, 1)), (1, False, (4, 5, 6)), (2, None, (4, 5, 6, 2)), (2, False, (4, 5, 6, 2))],
)
def test_frames_of_a_series(frames: int, series: bool | None, expected: tuple[int, ...], tmp_path: Path) -> None:
    source = load(write(tmp_path / "a.nii", some(4, 5, 6, 3), pixdim=[1, 1, 2, 3, np.nan, 0, 0, 0]))
    save(tmp_path / "b.nii", source.like(source.data[:frames], series=series))
    assert stored(tmp_path / "b.nii").get_data_shape() == expected
    assert header_fields(tmp_path / "a.nii")["pixdim"] == header_fields(tmp_path / "b.nii")["pixdim"]


def test_one_frame_of_a_3d_file_stays_3d_and_may_become_a_series(tmp_path: Path) -> None:
    source = load(write(tmp_path / "a.nii", some(4, 5, 6)))
    save(tmp_path / "b.nii", source.like(source.data + 1))
    assert stored(tmp_path / "b.nii").get_data_shape() == (4, 5, 6)
    save(tmp_path / "c.nii", source.like(source.data.repeat(3, 1, 1, 1)))
    assert stored(tmp_path / "c.nii").get_data_shape() == (4, 5, 6, 3)
    save(tmp_path / "d.nii", source.like(source.data, series=True))
    assert stored(tmp_path / "d.nii").get_data_shape() == (4, 5, 6, 1)


def test_singleton_axes_beyond_the_fourth_are_dropped(tmp_path: Path) -> None:
    source = load(write(tmp_path / "a.nii", some(4, 5, 6, 2, 1, 1)))
    assert source.data.shape == (2, 4, 5, 6)
    save(tmp_path / "b.nii", source)
    assert stored(tmp_path / "b.nii").get_data_shape() == (4, 5, 6, 2)
    np.testing.assert_array_equal(voxels(tmp_path / "b.nii"), voxels(tmp_path / "a.nii")[..., 0, 0])


def test_a_single_slice_is_a_volume(tmp_path: Path) -> None:
    assert check_round_trip(write(tmp_path / "a.nii", some(7, 5, 1)), tmp_path).data.shape == (1, 7, 5, 1)


def test_slope_is_applied_in_double_precision(tmp_path: Path) -> None:
    data = np.array([[[2**24 + 1, -(2**24) - 3, 5]]], np.int32)
    path = write(tmp_path / "a.nii", data, scl_slope=0.5, scl_inter=0.25)
    expected = torch.from_numpy((data * 0.5 + 0.25).astype(np.float32))
    torch.testing.assert_close(load(path).data[0], expected, rtol=0, atol=0)


def test_loaded_voxels_do_not_depend_on_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", some(3, 3, 3))
    volume = load(path)
    path.write_bytes(b"")
    volume.data.add_(1)  # writable, in memory
    torch.testing.assert_close(volume.data[0], torch.from_numpy(some(3, 3, 3) + 1))


@pytest.mark.parametrize("qfac", [0.0, 5.0])
def test_odd_qfac_counts_as_one_and_is_kept(qfac: float, tmp_path: Path) -> None:
    pixdim = [qfac, 1, 2, 3, 0, 0, 0, 0]
    path = write(tmp_path / "a.nii", some(3, 4, 5), sform_code=0, qform_code=1, pixdim=pixdim)
    assert check_round_trip(path, tmp_path).spacing == (1, 2, 3)


def test_odd_voxel_sizes_are_read_as_nibabel_reads_them_and_are_kept(tmp_path: Path) -> None:
    pixdim = [-1, -2, 0, 3, 0, 0, 0, 0]
    path = write(tmp_path / "a.nii", some(3, 4, 5), sform_code=0, qform_code=1, pixdim=pixdim)
    volume = check_round_trip(path, tmp_path)
    assert volume.spacing == (2, 1, 3)
    np.testing.assert_array_equal(volume.affine, nib.load(path).affine)


def test_a_damaged_qform_beside_a_good_sform_survives_a_copy_and_is_switched_off_by_a_crop(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", some(3, 4, 5), sform_code=1, qform_code=1, quatern_b=2.0)
    source = check_round_trip(path, tmp_path)
    save(tmp_path / "b.nii", source.crop((1, 1, 1), (2, 2, 2)))
    assert (stored(tmp_path / "b.nii")["sform_code"], stored(tmp_path / "b.nii")["qform_code"]) == (1, 0)
    check_same_place(load(tmp_path / "b.nii"), source)


def test_a_volume_without_a_file_gets_a_plain_header(tmp_path: Path) -> None:
    affine = np.array([[-1.5, 0, 0, 10], [0, 0, 2, -20], [0, 0.5, 0, 30], [0, 0, 0, 1]])
    save(tmp_path / "a.nii.gz", Volume(torch.arange(24.0).reshape(1, 2, 3, 4), affine))
    image = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(image.affine, affine)
    np.testing.assert_allclose(image.header.get_zooms(), [1.5, 0.5, 2])
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert check_round_trip(tmp_path / "a.nii.gz", tmp_path).orientation == "LSA"


def test_gzip_holds_no_name_and_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume(torch.ones(1, 3, 4, 5), np.eye(4))
    save(tmp_path / "a.nii.gz", volume)
    monkeypatch.setattr("time.time", lambda: 1e9)
    save(tmp_path / "another-name.NII.GZ", volume)
    raw = (tmp_path / "a.nii.gz").read_bytes()
    assert raw == (tmp_path / "another-name.NII.GZ").read_bytes()
    assert raw[3:8] == bytes(5)  # no name, time zero


def test_the_content_tells_whether_a_file_is_gzipped(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.nii", some(3, 4, 5))
    (tmp_path / "b.nii").write_bytes(gzip.compress(plain.read_bytes()))
    assert torch.equal(load(tmp_path / "b.nii").data, load(plain).data)


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_axis_too_long_for_nifti_1(order: str, tmp_path: Path) -> None:
    long = torch.zeros(1, 2**15, 1, 1)
    header = nib.Nifti1Header(endianness=order)
    nib.save(nib.Nifti1Image(some(1, 1, 1), np.eye(4), header), tmp_path / "a.nii")
    source = load(tmp_path / "a.nii")
    with pytest.raises(
        ShapeError, match=r"b.nii: 32768 voxels along an axis; this NIfTI version counts to 32767, split"
    ):
        save(tmp_path / "b.nii", Volume(long, source.affine, source.header))
    save(tmp_path / "c.nii", Volume(long, np.eye(4)))  # without a source: NIfTI-2
    assert load(tmp_path / "c.nii").data.shape == long.shape


def test_header_bytes_refuse_another_grid(tmp_path: Path) -> None:
    source = load(write(tmp_path / "a.nii", some(3, 4, 5)))
    with pytest.raises(ShapeError, match=r"the header is for grid \(3, 4, 5\), the data have \(3, 4, 6\)"):
        from_header_bytes(header_bytes(source), torch.zeros(1, 3, 4, 6))

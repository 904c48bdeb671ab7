"""Archives that mean well, and archives that do not."""

import io
import lzma
import stat
import tarfile
import zipfile

import pytest

from invdiff.errors import DatasetError, FileError
from invdiff_datasets import unpack as module
from invdiff_datasets.listed import check_listed
from invdiff_datasets.unpack import is_archive, unpack

FILES = {"sub-01/a.txt": b"one", "sub-01/deep/b.txt": b"two", "sub-02/c.txt": b"three" * 1000}


def tar(path, files, mode="w", **odd):
    with tarfile.open(path, mode) as t:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            t.addfile(info, io.BytesIO(content))
        for name, (kind, target) in odd.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            t.addfile(info)
    return path


def zipped(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as z:
        for name, content in files.items():
            z.writestr(name, content)
    return path


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_every_kind(tmp_path, kind):
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        zipped(archive, FILES)
    else:
        tar(archive, FILES, "w:" + kind.partition(".")[2])
    found = unpack(archive, tmp_path / "out")
    assert content(tmp_path / "out") == FILES
    assert found == sorted(tmp_path / "out" / name for name in FILES)
    assert is_archive(archive.name)
    assert sorted(p.name for p in tmp_path.iterdir()) == [archive.name, "out"]


def test_one_folder_at_the_top_is_left_out_and_an_old_one_is_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    inside = {f"./disc1/{name}": data for name, data in FILES.items()}
    unpack(tar(tmp_path / "a.tar", inside), tmp_path / "out")
    assert content(tmp_path / "out") == FILES
    only = unpack(tar(tmp_path / "b.tar", FILES), tmp_path / "out", choose=lambda names: {"sub-01/a.txt"})
    assert content(tmp_path / "out") == {"sub-01/a.txt": b"one"}, "sub-01 is not the top: sub-02 stands beside it"
    assert only == [tmp_path / "out" / "sub-01" / "a.txt"]
    unpack(tar(tmp_path / "c.tar", {"single.txt": b"x"}), tmp_path / "out")
    assert content(tmp_path / "out") == {"single.txt": b"x"}


OUTSIDE = ["../evil", "a/../../evil", "/tmp/evil", "C:evil", "a\\..\\evil"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("make", [tar, zipped])
def test_paths_that_lead_outside(tmp_path, make, name):
    archive = make(tmp_path / f"a.{'tar' if make is tar else 'zip'}", FILES | {name: b"evil"})
    with pytest.raises(
        DatasetError, match=r"a\.(tar|zip) has '.*evil', which would lie outside its folder; nothing wa"
    ):
        unpack(archive, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == [archive.name]
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_of_a_tar(tmp_path, kind):
    archive = tar(tmp_path / "a.tar", FILES, link=(kind, "/etc/passwd"))
    with pytest.raises(DatasetError, match=r"a.tar has 'link', a link or a device; nothing was unpacked"):
        unpack(archive, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]


def test_links_of_a_zip(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        z.writestr(info, "/etc/passwd")
    with pytest.raises(DatasetError, match="'link', a link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz", "zip"])
def test_bombs(tmp_path, kind):
    """Twenty megabytes in twenty kilobytes; what the archive says of its sizes is not believed."""
    bomb = {"zeros": bytes(20_000_000)}
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        zipped(archive, bomb)
        archive.write_bytes(archive.read_bytes().replace((20_000_000).to_bytes(4, "little"), b"\x10\0\0\0"))
    else:
        tar(archive, bomb, "w:" + kind.partition(".")[2])
    assert archive.stat().st_size < 50_000
    message = "holds more than 1.. MB, which was not announced|cannot be unpacked"
    with pytest.raises(DatasetError, match=message):
        unpack(archive, tmp_path / "out")
    with pytest.raises(
        DatasetError, match=r"more than 1.0 MB, which was not announced; nothing was u|cannot be unpacked"
    ):
        unpack(archive, tmp_path / "out", most=10**6)
    assert [p.name for p in tmp_path.iterdir()] == [archive.name]


def test_more_than_announced(tmp_path):
    archive = tar(tmp_path / "a.tar", FILES)
    assert unpack(archive, tmp_path / "out", most=sum(map(len, FILES.values())))
    with pytest.raises(
        DatasetError, match=r"a.tar holds more than 0.0 MB, which was not announced; nothing was unpacked"
    ):
        unpack(archive, tmp_path / "out", most=5005)
    assert content(tmp_path / "out") == FILES, "what was there stays"


def test_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MEMBERS", 2)
    with pytest.raises(DatasetError, match=r"a.tar has more than 2 members; nothing was unpacked"):
        unpack(tar(tmp_path / "a.tar", FILES), tmp_path / "out")


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.xz", "zip"])
def test_damaged(tmp_path, kind):
    archive = tmp_path / f"a.{kind}"
    big = FILES | {"noise": lzma.compress(bytes(range(256)) * 50)}
    if kind == "zip":
        zipped(archive, big)
    else:
        tar(archive, big, "w:" + kind.partition(".")[2])
    whole = archive.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"<html>not found</html>", b""):
        archive.write_bytes(damaged)
        with pytest.raises(DatasetError, match=r"a\..* cannot be unpacked \(.*\); it may be damaged, fetch it again"):
            unpack(archive, tmp_path / "out")
        assert [p.name for p in tmp_path.iterdir()] == [archive.name]


def test_the_same_name_twice(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as t:
        for _ in range(2):
            t.addfile(tarfile.TarInfo("a"), io.BytesIO(b""))
    with pytest.raises(FileError, match=r"a.tar cannot be unpacked into .*out: File exists"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_a_list_of_checksums_inside(tmp_path):
    """As The Cancer Imaging Archive packs a series: an MD5 for each image, none for its licence."""
    good = "Filename,MD5Hash\r\n1.dcm,f97c5d29941bfb1b2fdab0874906ab82\r\n2.dcm,b8a9f715dbb64fd5c56e7783c6820a61\r\n"
    series = {"1.dcm": b"one", "2.dcm": b"two", "LICENSE": b"CC BY", "md5hashes.csv": good.encode()}

    def run(files):
        archive = zipped(tmp_path / "s.zip", files)
        check = lambda folder: check_listed(folder, name="md5hashes.csv", archive="s.zip")  # noqa: E731
        return unpack(archive, tmp_path / "out", check=check)

    assert len(run(series)) == 4
    for files, message in (
        (series | {"2.dcm": b"tow"}, r"s.zip: 1 files are not as md5hashes.csv says \(2.dcm\); fetch it again"),
        ({k: v for k, v in series.items() if k != "1.dcm"}, r"1 files are not as md5hashes.csv says \(1.dcm\)"),
        (series | {"3.dcm": b"three"}, r"1 files are not as md5hashes.csv says \(3.dcm\)"),
        (
            {k: v for k, v in series.items() if k != "md5hashes.csv"},
            "s.zip has no md5hashes.csv, the list of its check",
        ),
        (series | {"md5hashes.csv": b"Filename,MD5Hash\n"}, "2 files are not as md5hashes.csv says"),
        (series | {"md5hashes.csv": b"Name,Hash\n1.dcm,1\n"}, "2 files are not as md5hashes.csv says"),
        (series | {"md5hashes.csv": b"Filename,MD5Hash\n1.dcm\n"}, "2 files are not as md5hashes.csv says"),
    ):
        with pytest.raises(DatasetError, match=message):
            run(files)
        assert len(content(tmp_path / "out")) == 4, "what was there stays"

"""Public sets from a server on this computer: cards, what is chosen of them, what lies on the disk afterwards."""

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

import invdiff_datasets
from invdiff.errors import ConfigError, DatasetError, FileError
from invdiff.volumes import load
from invdiff.volumes.gradients import load_gradients
from invdiff_datasets import aapm, openneuro, samples
from invdiff_datasets.base import Card, Citation, File
from invdiff_datasets.choosing import Choice, jobs
from invdiff_datasets.ledger import Ledger
from invdiff_datasets.obtain import obtain, resolved
from invdiff_datasets.place import Place, data_folder
from invdiff_datasets.splits import split_of
from invdiff_datasets.web import Patience

SETS = invdiff_datasets.sets()
PATIENCE = Patience(attempts=2, sleep=lambda seconds: None)
RNG = np.random.default_rng(0)


def md5(content):
    return f"md5:{hashlib.md5(content).hexdigest()}"


def tar(files, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as t:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            t.addfile(info, io.BytesIO(content))
    return out.getvalue()


def heads(contrast, count=12):
    return {f"IXI{k:03}-Guys-{k}-{contrast}.nii.gz": RNG.bytes(500 + k) for k in range(1, count + 1)}


T1, T2 = heads("T1"), heads("T2")
TARS = {"/IXI-T1.tar": tar(T1), "/IXI-T2.tar": tar(T2), "/IXI.xls": b"ages"}


@pytest.fixture
def card(web):
    """A set as IXI is one."""
    web.files.update(TARS)
    t1 = File(
        "IXI-T1.tar", f"{web.url}/IXI-T1.tar", len(TARS["/IXI-T1.tar"]), md5(TARS["/IXI-T1.tar"]), "T1", into="T1"
    )
    t2 = File("IXI-T2.tar", f"{web.url}/IXI-T2.tar", subset="T2", into="T2")
    table = File("IXI.xls", f"{web.url}/IXI.xls")
    return Card(
        "heads", "Heads", "https://example.org/heads", "CC-BY-SA-3.0", "by subject", files=(t1, t2, table),
        citation=Citation("Heads, 2020.", "heads2020", "10.1/heads"), subject="IXI[0-9]+",
    )  # fmt: skip


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "data", "heads")


def run(card, place, said=None, **how):
    choice, said = Choice(**how), [] if said is None else said
    return obtain(card, jobs(card, choice), place, choice, patience=PATIENCE, say=said.append)


def test_cards_say_what_a_stranger_must_know():
    assert set(SETS) == {"ixi", "oasis", "fastmri", "openneuro", "aapm"}
    for name, card in SETS.items():
        assert card.kind == "set"
        assert card.citation.text
        assert re.fullmatch("[a-z0-9]+", card.citation.key)
        assert card.source.startswith("https://")
        assert card.split in ("by subject", "by file")
        assert re.compile(card.subject)
        assert card.files or card.loader
        assert len({f.path for f in card.files}) == len(card.files)
        for f in card.files:
            assert f.url is None or (f.url.startswith("https://") and f.url.endswith(f.path))
            assert f.checksum is None or re.fullmatch("md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", f.checksum)
            assert (f.into is None) == (not f.path.endswith((".tar", ".tar.gz", ".tar.xz")))
            assert f.split == (None if card.split == "by subject" else f.split)
        if name == "fastmri":
            assert {f.split for f in card.files} == {"train", "validation", "test"}
            assert all(f.split[:4] in f.path or f.split == "validation" for f in card.files)
    assert {"T1", "T2", "PD"} < set(SETS["ixi"].subsets)
    assert SETS["ixi"].registration is None
    assert "Dataset Sharing Agreement" in SETS["fastmri"].registration
    assert "Data Use Agreement" in SETS["oasis"].registration
    assert not any(f.url for f in SETS["fastmri"].files)


def test_find():
    assert invdiff_datasets.find("ixi") == SETS["ixi"]
    assert invdiff_datasets.find("openneuro:ds000001@1.0.0").name == "openneuro:ds000001@1.0.0"
    with pytest.raises(ConfigError, match="no data is called 'ixy'; did you mean 'ixi'"):
        invdiff_datasets.find("ixy")


def test_subjects_are_told_by_names():
    from invdiff_datasets.choosing import subject_of

    for name, path, subject in (
        ("ixi", "T1/IXI002-Guys-0828-T1.nii.gz", "IXI002"), ("ixi", "IXI-T1.tar", ""), ("ixi", "bvals.txt", ""),
        ("oasis", "disc1/OAS1_0001_MR2/RAW/OAS1_0001_MR2_mpr-1_anon.img", "OAS1_0001"),
        ("oasis", "oasis_cross-sectional_disc1.tar.gz", ""),
        ("fastmri", "knee_singlecoil_val/file1000000.h5", "file1000000"),
        ("fastmri", "brain_multicoil_val_batch_0/file_brain_AXT1_200_2000001.h5", "file_brain_AXT1_200_2000001"),
        ("openneuro", "sub-01/anat/sub-01_T1w.nii.gz", "sub-01"), ("aapm", "C002/full_images.zip", "C002"),
    ):  # fmt: skip
        assert subject_of(SETS[name], path) == subject


def test_splits_are_forever_and_near_their_shares():
    assert [split_of(s) for s in ("IXI002", "IXI012", "sub-01", "OAS1_0001")] == [
        "test",
        "validation",
        "validation",
        "train",
    ]
    many = [split_of(f"sub-{k:05}") for k in range(5000)]
    for name, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert many.count(name) / 5000 == pytest.approx(share, abs=4 * (share * (1 - share) / 5000) ** 0.5)


def test_a_set_with_all_that_stands_beside_it(card, place, web):
    said = []
    rows = run(card, place, said)
    files = {p.relative_to(place.folder).as_posix(): p.read_bytes() for p in place.folder.rglob("*") if p.is_file()}
    want = {f"T1/{n}": c for n, c in T1.items()} | {f"T2/{n}": c for n, c in T2.items()} | {"IXI.xls": b"ages"}
    assert files == want, "archives are gone once they are unpacked"
    beside = sorted(p.name for p in place.root.iterdir() if not p.name.startswith("."))
    assert beside == ["heads", "heads.CITATION.txt", "heads.card.json", "heads.files.tsv", "heads.lock.json"]
    cited = (place.root / "heads.CITATION.txt").read_text()
    for fact in (
        "Heads",
        "CC-BY-SA-3.0",
        "https://example.org/heads",
        "Heads, 2020. https://doi.org/10.1/heads (BibTeX",
    ):
        assert fact in cited
    told = json.loads((place.root / "heads.card.json").read_text())
    assert told["licence"] == "CC-BY-SA-3.0"
    assert [f["path"] for f in told["files"]] == ["IXI-T1.tar", "IXI-T2.tar", "IXI.xls"]
    lock = json.loads((place.root / "heads.lock.json").read_text())["files"]
    for name, content in TARS.items():
        assert lock[name[1:]]["sha256"] == hashlib.sha256(content).hexdigest()
    assert rows == Ledger(place).rows
    assert len(rows) == 25
    one = next(r for r in rows if "IXI005" in r.path and r.subset == "T2")
    assert one.path == "heads/T2/IXI005-Guys-5-T2.nii.gz"
    assert (one.bytes, one.source, one.subject, one.split) == (505, "IXI-T2.tar", "IXI005", split_of("IXI005"))
    assert {(r.subject, r.split) for r in rows if r.subset == "T1"} == {
        (r.subject, r.split) for r in rows if r.subset == "T2"
    }
    assert [s for s in said if "the source publishes no checksum" in s and s.startswith("IXI-T2.tar: ")]
    assert not [s for s in said if "IXI-T1.tar: " in s]


def test_what_is_here_is_not_fetched_again(card, place, web):
    run(card, place)
    asked, said = len(web.asked), []
    assert len(run(card, place, said)) == 25
    assert len(web.asked) == asked
    assert said == ["IXI-T1.tar is here already", "IXI-T2.tar is here already", "IXI.xls is here already"]
    next((place.folder / "T1").iterdir()).unlink()
    (place.folder / "IXI.xls").write_bytes(b"sage")
    said.clear()
    with pytest.raises(ConfigError, match=r"IXI.xls is another file \(its sha256 is .*\); pass --force to replace it"):
        run(card, place, said)
    assert said[:3] == ["IXI-T2.tar is here already", "fetching IXI-T1.tar", "unpacking IXI-T1.tar"]
    run(card, place, force=True)
    assert (place.folder / "IXI.xls").read_bytes() == b"ages"
    assert len(list((place.folder / "T1").iterdir())) == 12


def test_what_was_not_fetched_is_not_replaced(card, place):
    run(card, place, subsets=["T1"], limit=2)
    mine = place.folder / "T1" / "mine.nii.gz"
    mine.write_bytes(b"mine")
    with pytest.raises(
        ConfigError, match=r"T1 has files that were not fetched \(mine.nii.gz\); pass --force to replac"
    ):
        run(card, place, subsets=["T1"])
    assert mine.read_bytes() == b"mine"
    run(card, place, subsets=["T1"], force=True)
    assert not mine.exists()


def test_the_first_fetch_is_held_to(card, place, web):
    """Where a source publishes no checksum, what it sends later must be what it sent first."""
    run(card, place, subsets=["T2"])
    web.files["/IXI-T2.tar"] = tar(heads("T2"))
    assert len(web.files["/IXI-T2.tar"]) == len(TARS["/IXI-T2.tar"])
    for p in (place.folder / "T2").iterdir():
        p.unlink()
    with pytest.raises(
        DatasetError, match=r"IXI-T2.tar: its sha256 is .*, the first fetch \(.*heads.lock.json\) says "
    ):
        run(card, place, subsets=["T2"])
    web.files["/IXI-T2.tar"] += bytes(512)
    with pytest.raises(
        DatasetError, match=r"the source has \d+ bytes now, the first fetch .* says \d+: it is another f"
    ):
        run(card, place, subsets=["T2"])
    (place.root / "heads.lock.json").unlink()
    assert len(run(card, place, subsets=["T2"])) == 13


def test_parts(card, place):
    rows = run(card, place, subsets=["T1"], limit=3)
    assert sorted(r.subject for r in rows) == ["", "IXI001", "IXI002", "IXI003"], "the first by name, and the table"
    assert (place.folder / "IXI-T1.tar").is_file(), "of a part the archive stays: the rest may be wanted"
    assert len(run(card, place, subsets=["T1"], limit=2)) == 4, "two of three are here"
    said = []
    assert len(run(card, place, said, subsets=["T1"])) == 13
    assert not (place.folder / "IXI-T1.tar").exists()


def test_an_archive_that_is_kept_is_not_fetched_again(card, place, web):
    run(card, place, subsets=["T1"], limit=3)
    asked = len(web.asked)
    run(card, place, subsets=["T1"])
    assert len(web.asked) == asked


def test_a_file_that_no_ledger_knows_is_taken_if_its_checksum_holds(card, place, web):
    """After a kill the ledger may lag behind by a few files."""
    card = replace(card, files=(replace(card.files[2], checksum=md5(b"ages")),))
    place.folder.mkdir(parents=True)
    (place.folder / "IXI.xls").write_bytes(b"ages")
    assert [r.path for r in run(card, place)] == ["heads/IXI.xls"]
    assert web.asked == []


def test_an_archive_that_came_whole_before_a_kill_is_unpacked(card, place, web):
    place.folder.mkdir(parents=True)
    (place.folder / "IXI-T2.tar").write_bytes(TARS["/IXI-T2.tar"])
    assert len(run(replace(card, files=(card.files[1],)), place)) == 12
    assert web.asked == []
    assert not (place.folder / "IXI-T2.tar").exists()


def test_the_ledger_is_written_under_way(card, place, monkeypatch):
    monkeypatch.setattr("invdiff_datasets.ledger.EVERY", 0)
    web_gone = replace(card, files=(card.files[0], replace(card.files[1], url=card.files[1].url + "x")))
    with pytest.raises(DatasetError, match=r"IXI-T2.tarx: is not there"):
        run(web_gone, place)
    assert len(Ledger(place).rows) == 12


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"subsets": ["T3"]}, "heads has no subset 'T3'; did you mean 'T1'|heads has no subset 'T3'"),
        ({"limit": 0}, "--limit must be at least 1, got 0"),
        ({"archives": [Path("notes.pdf")]}, "'notes.pdf' is no file of heads, and no archive"),
        (
            {"links": ["https://example.org/IXI-T1.tar"], "subsets": ["T2"]},
            "nothing of heads is both given and wanted; ",
        ),
    ],
)
def test_choices_that_make_no_sense(card, how, message):
    with pytest.raises(ConfigError, match=message):
        jobs(card, Choice(**how))


def test_a_set_with_registration(web, place):
    """Without links of one's own it says what to do; with them they are used and nowhere kept."""
    card = SETS["fastmri"]
    with pytest.raises(
        ConfigError, match=r"fastmri has to be applied for: Apply at https://fastmri.med.nyu.edu/ and ac"
    ):
        jobs(card, Choice())
    scans = {f"singlecoil_val/file100000{k}.h5": RNG.bytes(900) for k in range(3)}
    web.files["/v2.0/knee_singlecoil_val.tar.xz"] = content = tar(scans, "w:xz")
    link = f"{web.url}/v2.0/knee_singlecoil_val.tar.xz?AWSAccessKeyId=me&Signature=s%2Fecret&Expires=1"
    place = replace(place, name="fastmri")
    rows = run(card, place, links=[link], limit=2)
    assert [(Path(r.path).name, r.split) for r in rows] == [
        ("file1000000.h5", "validation"),
        ("file1000001.h5", "validation"),
    ]
    assert web.asked[0][0].endswith("Signature=s%2Fecret&Expires=1")
    kept = b"".join(p.read_bytes() for p in place.root.rglob("*") if p.is_file())
    assert b"ecret" not in kept
    assert b"127.0.0.1" not in kept
    right = {"knee_singlecoil_val.tar.xz": hashlib.sha256(content).hexdigest()}
    assert len(run(card, place, links=[link], checksums=right)) == 3
    with pytest.raises(
        DatasetError, match=r"its sha256 is .*, the file given with --checksums says 000000000000\.\.\."
    ):
        run(card, replace(place, name="again"), links=[link], checksums={n: "0" * 64 for n in right})
    web.faults.append((403, {}))
    with pytest.raises(DatasetError, match="refuses; a personal link may have expired") as e:
        run(card, replace(place, name="third"), links=[link])
    assert "ecret" not in str(e.value)


def test_an_archive_that_is_here(card, place, tmp_path):
    mine = tmp_path / "IXI-T1.tar"
    mine.write_bytes(TARS["/IXI-T1.tar"])
    assert len(run(card, place, archives=[mine])) == 12
    assert mine.is_file(), "what the user brings is left alone"
    mine.write_bytes(TARS["/IXI-T1.tar"][:-1] + b"x")
    with pytest.raises(
        DatasetError, match=r"IXI-T1.tar: its md5 is .*, the card says .*; it is damaged or another file,"
    ):
        run(card, replace(place, name="other"), archives=[mine])
    assert mine.is_file()
    with pytest.raises(DatasetError, match=r"none/IXI-T2.tar: no such file"):
        run(card, place, archives=[tmp_path / "none" / "IXI-T2.tar"])
    table = tmp_path / "IXI.xls"
    table.write_bytes(b"my ages")
    run(card, place, archives=[table])
    assert (place.folder / "IXI.xls").read_bytes() == b"my ages"
    extra = tmp_path / "more.tar"
    extra.write_bytes(tar(heads("MRA", 2)))
    assert [r.subject for r in run(card, place, archives=[extra])] == ["IXI001", "IXI002"]


def test_a_damaged_archive_is_told_and_nothing_is_listed(card, place, web):
    card = replace(card, files=(replace(card.files[1], path="IXI-T2.tar"),))
    web.files["/IXI-T2.tar"] = b"<html>maintenance</html>" * 100
    with pytest.raises(DatasetError, match=r"IXI-T2.tar cannot be unpacked \(.*\); it may be damaged, fetch it again"):
        run(card, place)
    assert Ledger(place).rows == []
    web.files["/IXI-T2.tar"] = TARS["/IXI-T2.tar"]
    assert len(run(card, place)) == 12


def test_no_room_is_found_out_before(card, place, web):
    huge = replace(card.files[0], bytes=10**16, checksum=None)
    with pytest.raises(
        DatasetError, match=r"heads needs 20000000.00 GB in .*; make room or choose another folder with --"
    ):
        run(replace(card, files=(huge,)), place)
    assert web.asked == []


def test_names_of_files_cannot_lead_outside(card, place, web):
    bad = File("../evil.xls", f"{web.url}/IXI.xls")
    with pytest.raises(DatasetError, match="would lie outside its folder"):
        run(replace(card, files=(bad,)), place)
    assert not (place.root.parent / "evil.xls").exists()


HOLDS = """
import sys, time
from pathlib import Path
from invdiff_datasets.place import Place
with Place(Path(sys.argv[1]), "heads").locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_fetch_at_a_time(card, place):
    """A second one is refused while the first lives; a lock that a dead process left is none."""
    place.make()
    with subprocess.Popen([sys.executable, "-c", HOLDS, place.root], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DatasetError, match=r"heads is being fetched into .*data already; wait for that fetch"):
            run(card, place)
        other.kill()
    assert len(run(card, place)) == 25


def test_records_that_are_damaged(card, place):
    run(card, place)
    (place.root / "heads.files.tsv").write_text("path\tbytes\nx\tmany\n")
    with pytest.raises(DatasetError, match=r"heads.files.tsv is damaged \(.*\); delete it and fetch the set again"):
        Ledger(place)
    (place.root / "heads.files.tsv").unlink()
    (place.root / "heads.lock.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"heads.lock.json is damaged \(.*\); delete it to trust the source anew"):
        run(card, place)


def test_a_folder_that_cannot_be_made(card, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"cannot make the folder .*file/data: Not a directory"):
        run(card, Place(tmp_path / "file" / "data", "heads"))


def test_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("INVDIFF_DATA_DIR", str(tmp_path))
    assert data_folder() == tmp_path
    monkeypatch.delenv("INVDIFF_DATA_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert data_folder() == tmp_path / "invdiff" / "data"


# OpenNeuro

LISTING = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>openneuro.org</Name>{}</ListBucketResult>"""
BIDS = {
    "dataset_description.json": json.dumps({
        "Name": "Gambling", "License": "CC0", "Authors": ["A. One", "B. Two"], "HowToAcknowledge": "Cite us.",
        "DatasetDOI": "doi:10.18112/openneuro.ds000001.v1.0.0",
    }).encode(),
    "participants.tsv": b"participant_id\n",
    "sub-01/anat/sub-01_T1w.nii.gz": b"T1 of 1", "sub-01/func/sub-01_task-x_bold.nii.gz": b"bold of 1",
    "sub-02/anat/sub-02_T1w.nii.gz": b"T1 of 2", "sub-02/anat/sub-02 odd+name_inplaneT2.nii.gz": b"T2 of 2",
    ".git/config": b"[core]",
}  # fmt: skip


@pytest.fixture
def bucket(web, monkeypatch):
    """The bucket of OpenNeuro with one data set, whose listing has two pages."""
    monkeypatch.setattr(openneuro, "BUCKET", f"{web.url}/openneuro.org")
    rows = []
    for name, content in BIDS.items():
        key = f"ds000001/{name}".replace("+", "%2B").replace(" ", "+")
        tag = md5(content)[4:] if "sub-02_T1w" not in name else "0123-2"
        rows.append(f"<Contents><Key>{key}</Key><ETag>&quot;{tag}&quot;</ETag><Size>{len(content)}</Size></Contents>")
        web.files[f"/openneuro.org/ds000001/{name}".replace("+", "%2B").replace(" ", "%20")] = content
    pages = (rows[:4], "<NextContinuationToken>to/ken=</NextContinuationToken>"), (rows[4:], "")
    first, second = (LISTING.format("".join(page) + token).encode() for page, token in pages)
    query = "/openneuro.org/?list-type=2&prefix=ds000001%2F&encoding-type=url"
    web.files[query], web.files[f"{query}&continuation-token=to%2Fken%3D"] = first, second
    return web


def ask(name):
    return resolved(invdiff_datasets.find(name), PATIENCE)


def test_openneuro(bucket, tmp_path):
    card = ask("openneuro:ds000001@1.0.0")
    assert (card.title, card.licence) == ("Gambling (OpenNeuro ds000001)", "CC0-1.0")
    assert card.citation.whole == (
        "A. One, B. Two. Gambling. OpenNeuro ds000001. Cite us. https://doi.org/10.18112/openneuro.ds000001.v1.0.0 "
        "(BibTeX key ds000001)"
    )
    assert card == ask("openneuro:ds000001"), "the newest is named"
    assert card.subsets == ["anat/T1w", "func/bold", "anat/inplaneT2"]
    assert [f.checksum is None for f in card.files] == [False, False, False, False, True, False]
    place = Place.of(card, tmp_path)
    rows = run(card, place, subsets=["anat"], limit=2)
    got = {p.relative_to(place.folder).as_posix(): p.read_bytes() for p in place.folder.rglob("*") if p.is_file()}
    assert place.name == "ds000001-1.0.0"
    assert got == {k: v for k, v in BIDS.items() if "func" not in k and ".git" not in k}
    assert {r.subject for r in rows} == {"", "sub-01", "sub-02"}
    assert [Path(r.path).name for r in run(card, place, subsets=["T1w"], limit=1) if r.subject] == ["sub-01_T1w.nii.gz"]
    assert next(r.split for r in rows if r.subject == "sub-01") == split_of("sub-01")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        (
            "openneuro:ds1",
            ConfigError,
            "'openneuro:ds1' names no data set; write openneuro:ds000001, or openneuro:ds0000",
        ),
        ("openneuro", ConfigError, "'openneuro' names no data set"),
        ("openneuro:../x", ConfigError, "names no data set"),
        (
            "openneuro:ds000001@2.0.0",
            DatasetError,
            r"has snapshot 1.0.0 of ds000001, not 2.0.0; ask for that one, or ge",
        ),
        ("openneuro:ds999999", DatasetError, r"ds999999/dataset_description.json: is not there; .*\(status 404\)"),
    ],
)
def test_openneuro_names(bucket, name, kind, message):
    with pytest.raises(kind, match=message):
        ask(name)


def test_openneuro_listings_that_say_nothing(bucket):
    query = "/openneuro.org/?list-type=2&prefix=ds000001%2F&encoding-type=url"
    bucket.files[query] = LISTING.format("").encode()
    with pytest.raises(DatasetError, match="the bucket of OpenNeuro has no files of ds000001; is it public"):
        ask("openneuro:ds000001")
    bucket.files[query] = b"<html"
    with pytest.raises(DatasetError, match="the listing cannot be read"):
        ask("openneuro:ds000001")


def test_openneuro_without_a_doi(bucket):
    bucket.files["/openneuro.org/ds000001/dataset_description.json"] = b'{"Name": "Gambling"}'
    card = ask("openneuro:ds000001")
    assert (card.name, card.licence, card.citation.doi) == ("openneuro:ds000001", "not stated", None)
    with pytest.raises(DatasetError, match=r"has snapshot of unknown number of ds000001, not 1.0.0"):
        ask("openneuro:ds000001@1.0.0")


# The Cancer Imaging Archive


def series(patient, kind, uid, licence="https://creativecommons.org/licenses/by/4.0/"):
    return {"PatientID": patient, "SeriesDescription": kind, "SeriesInstanceUID": uid, "LicenseURI": licence,
            "FileSize": 3000, "ImageCount": 2}  # fmt: skip


def packed(files):
    """As the archive packs a series: with its list of checksums, and anew each time."""
    out = io.BytesIO()
    rows = ["Filename,MD5Hash", *(f"{n},{md5(c)[4:]}" for n, c in files.items())]
    with zipfile.ZipFile(out, "w") as z:
        for name, content in (files | {"LICENSE": b"CC BY 4.0", "md5hashes.csv": "\n".join(rows).encode()}).items():
            z.writestr(name, content)
    return out.getvalue()


@pytest.fixture
def archive(web, monkeypatch):
    monkeypatch.setattr(aapm, "API", web.url)
    rows = [
        series("C002", "Full Dose Images", "1.2.1"), series("C002", "Low Dose Images", "1.2.2"),
        series("L058", "Full Dose Images", "1.2.3"), series("L058", "Full dose projections", "1.2.4"),
        series("C002", "Full Dose Images", "1.2.5"), series("ACR", "Phantom", "1.2.6"),
        series("N001", "Full Dose Images", "1.2.7"),
    ]  # fmt: skip
    web.files["/getSeries"] = json.dumps(rows).encode()
    for k in range(1, 6):
        name = f"/getImageWithMD5Hash?SeriesInstanceUID=1.2.{k}"
        web.files[name] = packed({f"{i}.dcm": RNG.bytes(1000) for i in (1, 2)})
        web.tags[name] = None
    return web


def test_aapm(archive, tmp_path):
    card = ask("aapm")
    assert [f.into for f in card.files] == [
        "C002/full_images", "C002/full_images_2", "C002/low_images", "L058/full_images", "L058/full_projections",
    ]  # fmt: skip
    place = Place.of(card, tmp_path)
    archive.faults.extend([("chunked", 1000), ("chunked",)])
    rows = run(card, place, subsets=["full_images"], limit=1)
    assert {(r.subject, r.subset, r.split) for r in rows} == {("C002", "full_images", split_of("C002"))}
    names = sorted(Path(r.path).relative_to("aapm").as_posix() for r in rows if r.path.endswith(".dcm"))
    assert names == [f"C002/full_images{k}/{i}.dcm" for k in ("", "_2") for i in (1, 2)]
    lock = json.loads((tmp_path / "aapm.lock.json").read_text())["files"]
    assert {e["sha256"] for e in lock.values()} == {None}, "a zip that is packed anew has no checksum"
    (tmp_path / "aapm" / "C002" / "full_images" / "1.dcm").unlink()
    archive.files["/getImageWithMD5Hash?SeriesInstanceUID=1.2.1"] = packed({"1.dcm": b"one", "2.dcm": b"two"})
    assert len(run(card, place, subsets=["full_images"], limit=1)) == 8


def test_aapm_faults(archive, tmp_path):
    place = Place(tmp_path, "aapm")
    bad = packed({"1.dcm": b"one"}).replace(b"one", b"eno")
    archive.files["/getImageWithMD5Hash?SeriesInstanceUID=1.2.2"] = bad
    with pytest.raises(DatasetError, match=r"low_images.zip.* cannot be unpacked|files are not as md5hashes.csv says"):
        run(ask("aapm"), place, subsets=["low_images"])
    rows = [series("C002", "Full Dose Images", "1.2.1", "https://www.cancerimagingarchive.net/restricted")]
    archive.files["/getSeries"] = json.dumps(rows).encode()
    with pytest.raises(
        DatasetError, match=r"gives C002 under https://www.cancerimagingarchive.net/restricted, the card"
    ):
        ask("aapm")
    for nothing in (b"[]", b'{"error": 1}', b"[1]"):
        archive.files["/getSeries"] = nothing
        with pytest.raises(DatasetError, match=r"lists no series of LDCT-and-Projection-data; see https://www.canc"):
            ask("aapm")


# samples inside packages


def test_samples_are_copied_as_they_are(tmp_path, epi_path):
    place = Place(tmp_path, "epi_2mm")
    (path,) = samples.copy(invdiff_datasets.find("epi_2mm"), place)
    assert path.read_bytes() == epi_path.read_bytes()
    assert len(nibabel.load(path).header.extensions) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epi_2mm.CITATION.txt", "epi_2mm.card.json", "epi_2mm.nii.gz"]
    samples.copy(invdiff_datasets.find("epi_2mm"), place)  # once more is no harm
    path.write_bytes(b"mine")
    with pytest.raises(
        ConfigError, match=r"epi_2mm.nii.gz is there and is another file; remove it or choose another fo"
    ):
        samples.copy(invdiff_datasets.find("epi_2mm"), place)
    assert path.read_bytes() == b"mine"


def test_the_diffusion_sample_is_one(tmp_path):
    paths = samples.copy(invdiff_datasets.find("dwi_tiny"), Place(tmp_path, "dwi_tiny"))
    assert [p.name for p in paths] == ["dwi_tiny.nii.gz", "dwi_tiny.bval", "dwi_tiny.bvec"]
    assert load(paths[0]).data.shape == (102, 6, 10, 10)
    assert len(load_gradients(*paths[1:])) == 102


def test_samples_of_packages_that_are_not_there(tmp_path, monkeypatch):
    card = invdiff_datasets.find("dwi_tiny")
    gone = replace(card, files=(replace(card.files[0], inside="no_such_package/a.nii"),))
    with pytest.raises(
        ConfigError, match="lies inside no_such_package, which is not installed; pip install 'no_such_pa"
    ):
        samples.copy(gone, Place(tmp_path, "x"))
    monkeypatch.setitem(samples.EXTRAS, "no_such_package", "dmri")
    with pytest.raises(ConfigError, match=r"which is not installed; pip install 'invdiff\[dmri\]'"):
        samples.copy(gone, Place(tmp_path, "x"))
    other = replace(card, files=(replace(card.files[0], checksum=f"sha256:{'0' * 64}"),))
    with pytest.raises(FileError, match="is missing or not the file expected; install dipy again from PyPI"):
        samples.copy(other, Place(tmp_path, "x"))


def test_the_page_names_all():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    named = [*SETS, *(c.name for c in invdiff_datasets.cards().values() if c.kind == "sample")]
    assert [name for name in named if f"`{name}" not in page] == []
    for name in ("ixi", "oasis"):
        assert f"{SETS[name].size / 1e9:.1f} GB" in page

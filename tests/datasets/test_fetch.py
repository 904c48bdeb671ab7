"""One file from a server with faults: whole and right in the end, or an error that says what to do."""

import hashlib
import os
import signal
import ssl
import subprocess
import sys
import time
from email.utils import formatdate

import numpy as np
import pytest

from invdiff.errors import DatasetError
from invdiff_datasets import fetch as module
from invdiff_datasets.fetch import Held, fetch, room
from invdiff_datasets.web import Patience, check, read, read_json, shown

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def web(web):
    web.files["/a.tar"] = CONTENT
    return web


@pytest.fixture
def slept():
    return []


@pytest.fixture
def get(web, tmp_path, slept):
    """Fetch /a.tar; nobody sleeps."""

    def run(url=None, **how):
        patience = how.pop("patience", Patience(attempts=3, sleep=slept.append))
        return fetch(url or f"{web.url}/a.tar", tmp_path / "a.tar", patience=patience, **how)

    return run


def left(folder):
    return sorted(p.name for p in folder.iterdir())


def test_whole(get, web, tmp_path):
    moves = []
    got = get(progress=lambda done, total: moves.append((done, total)))
    assert (got.bytes, got.sha256) == (len(CONTENT), SHA256)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    assert left(tmp_path) == ["a.tar"]
    assert moves[-1] == (len(CONTENT), len(CONTENT))
    assert web.asked == [("/a.tar", None, None)]


def test_an_empty_file_is_a_file(get, web, tmp_path):
    web.files["/a.tar"] = b""
    assert get().bytes == 0
    assert left(tmp_path) == ["a.tar"]


def test_cut_several_times_and_resumed(get, web, tmp_path, slept):
    """Each attempt goes on from the byte where the last one broke; those that bring bytes are not in vain."""
    web.faults.extend([("cut", 50_000), ("cut", 100_000), ("cut", 1), ("cut", 2), ("cut", 3), ("cut", 4)])
    assert get().sha256 == SHA256
    tag = f'"{MD5}"'
    starts = [0, 50_000, 150_000, 150_001, 150_003, 150_006, 150_010]
    assert web.asked == [("/a.tar", f"bytes={n}-" if n else None, tag if n else None) for n in starts]
    assert slept == [1.0] * 6
    assert left(tmp_path) == ["a.tar"]


def test_given_up_when_nothing_comes_and_kept_for_the_next_call(get, web, tmp_path, slept):
    web.faults.extend([("cut", 70_000), ("cut", 0), ("cut", 0), ("cut", 0)])
    with pytest.raises(DatasetError, match=r"a.tar: the connection broke after 70000 of 300000 bytes; gave up after 3 a"
                       r"ttempts in vain; 0.1 MB are kept, the same command goes on from there"):  # fmt: skip
        get()
    assert slept == [1.0, 2.0]
    assert left(tmp_path) == ["a.tar.part", "a.tar.part.json"]
    assert get().sha256 == SHA256
    assert web.asked[-1][1] == "bytes=70000-"


def test_no_server(get, web, tmp_path, slept):
    closed = web.url
    web.shutdown()
    web.server_close()
    with pytest.raises(DatasetError, match=r"no connection \(Connection refused\); gave up after 3 attempts in vain$"):
        get(f"{closed}/a.tar")
    assert left(tmp_path) == []


def test_a_server_without_ranges_starts_again(get, web, slept):
    web.ranges = False
    web.faults.extend([("cut", 50_000), ("cut", 40_000)])
    assert get().sha256 == SHA256
    assert [asked[1] for asked in web.asked] == [None, "bytes=50000-", "bytes=40000-"]
    assert len(slept) == 2
    web.faults.extend([("cut", 9000)] * 5)
    with pytest.raises(DatasetError, match="gave up after 3 attempts in vain"):
        get()


@pytest.mark.parametrize("fault", ["well", "deaf"])
def test_a_file_that_changes_between_attempts(get, web, tmp_path, fault):
    """Half of one version and half of another is neither, even if a server does not heed If-Range."""
    web.faults.extend([("cut", 60_000), ("cut", 0), ("cut", 0), ("cut", 0)])
    with pytest.raises(DatasetError):
        get()
    other = CONTENT[::-1]
    web.files["/a.tar"] = other
    web.faults.append((fault,))
    assert get().sha256 == hashlib.sha256(other).hexdigest()
    assert (tmp_path / "a.tar").read_bytes() == other


def test_a_part_that_is_all_of_the_file(get, web, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    (tmp_path / "a.tar.part.json").write_text(f'{{"validator": "\\"{MD5}\\""}}')
    assert get().sha256 == SHA256
    assert len(web.asked) == 1


def test_a_part_that_is_longer_than_the_file(get, web, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(CONTENT + b"x")
    (tmp_path / "a.tar.part.json").write_text(f'{{"validator": "\\"{MD5}\\""}}')
    assert get().sha256 == SHA256


@pytest.mark.parametrize("record", ["", "{", "[]", '{"validator": 3}', '{"validator": null}'])
def test_a_part_of_who_knows_what_is_not_used(get, web, tmp_path, record):
    (tmp_path / "a.tar.part").write_bytes(b"x" * 1000)
    (tmp_path / "a.tar.part.json").write_text(record)
    assert get().sha256 == SHA256
    assert web.asked == [("/a.tar", None, None)]


@pytest.mark.parametrize("tag", [None, 'W/"1"'])
def test_a_weak_tag_or_none_is_no_reason_to_go_on(get, web, tag):
    web.tags["/a.tar"] = tag
    web.faults.append(("cut", 50_000))
    assert get().sha256 == SHA256
    assert [asked[1] for asked in web.asked] == [None, None]


@pytest.mark.parametrize("checksum", [f"sha256:{SHA256}", f"md5:{MD5}", f"md5:{MD5.upper()}"])
def test_the_right_checksum(get, checksum):
    assert get(held=Held(checksum, "the card", len(CONTENT))).sha256 == SHA256


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_removes_the_file(get, tmp_path, kind):
    got, want = {"sha256": SHA256, "md5": MD5}[kind][:12], "0" * 12
    message = (
        rf"a.tar: its {kind} is {got}..., the card says {want}...; it was damaged on the way or is another file no"
    )
    with pytest.raises(DatasetError, match=message + "w, and was removed: fetch it again"):
        get(held=Held(f"{kind}:{'0' * 64}", "the card"))
    assert left(tmp_path) == []


def test_truncated_with_the_right_status(get, web, tmp_path):
    """The server says that the file is shorter than it is; its checksum or its size tell."""
    web.faults.append(("short", 1000))
    with pytest.raises(DatasetError, match="was damaged on the way or is another file now"):
        get(held=Held(f"md5:{MD5}", "the card"))
    web.faults.append(("short", 1000))
    with pytest.raises(DatasetError, match="the source has 1000 bytes now, the card says 300000: it is another file"):
        get(held=Held(f"md5:{MD5}", "the card", len(CONTENT)))
    assert left(tmp_path) == []


def test_busy_and_told_when_to_come_back(get, web, slept):
    web.faults.extend([(503, {"Retry-After": "7"}), (429, {"Retry-After": formatdate(time.time() + 30, usegmt=True)})])
    assert get().sha256 == SHA256
    assert slept[0] == 7.0
    assert slept[1] == pytest.approx(30, abs=2)


def test_busy_without_end(get, web, slept):
    web.faults.extend([(500, {}), (502, {"Retry-After": "soon"}), (504, {})])
    with pytest.raises(DatasetError, match=r"the server is busy \(status 504\); gave up after 3 attempts in vain"):
        get()
    assert slept == [1.0, 2.0]
    web.faults.append((503, {"Retry-After": "3600"}))
    with pytest.raises(
        DatasetError, match=r"busy \(status 503\); the server asks to come back in 3600 s, try again th"
    ):
        get()


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, r"is not there; the source may have moved it, see `invdiff data info` for its page \(status 404\)"),
        (410, r"is gone; see `invdiff data info` for the page of the source \(status 410\)"),
        (403, r"refuses; a personal link may have expired: ask for a new one \(status 403\)"),
        (401, r"needs a registration, see `invdiff data info` \(status 401\)"),
        (418, r"cannot be fetched \(status 418\)"),
    ],
)
def test_refusals_are_final_and_name_no_secret(get, web, slept, tmp_path, status, message):
    web.faults.append((status, {}))
    with pytest.raises(DatasetError, match=message) as e:
        get(f"{web.url}/a.tar?Signature=secret")
    assert "secret" not in str(e.value)
    assert (slept, left(tmp_path)) == ([], [])


def test_a_slow_line_is_waited_for(get, web):
    web.files["/a.tar"] = CONTENT[:2000]
    web.faults.append(("drip", 100, 0.001))
    moves = []
    get(progress=lambda done, total: moves.append(done))
    assert len(moves) > 2, "what is there is taken at once"
    assert len(web.asked) == 1


def test_a_line_that_only_drips_is_given_up_and_gone_on_with(get, web):
    """The clock of this test runs a minute at each look: 100 bytes a minute are too few."""
    now = iter(range(0, 10**6, 50))
    web.files["/a.tar"] = CONTENT[:2000]
    web.faults.append(("drip", 100, 0.002))
    assert get(clock=lambda: next(now)).bytes == 2000
    assert len(web.asked) > 1
    assert web.asked[1][1].startswith("bytes=")


def test_redirects(get, web):
    web.faults.append((302, {"Location": "/a.tar"}))
    assert get(f"{web.url}/old.tar").sha256 == SHA256
    for scheme in ("http", "ftp"):
        web.faults.append((302, {"Location": f"{scheme}://example.org/a.tar?key=secret"}))
        with pytest.raises(DatasetError, match=f"only https is fetched, this address is {scheme}") as e:
            get(f"{web.url}/old.tar")
        assert "secret" not in str(e.value)
    web.faults.append((302, {"Location": "file:///etc/passwd"}))
    with pytest.raises(DatasetError, match=r"cannot be fetched \(status 302\)"):
        get(f"{web.url}/old.tar")


def test_a_redirect_from_https_to_this_computer_is_refused():
    from urllib.request import Request

    from invdiff_datasets.web import _Redirects

    with pytest.raises(DatasetError, match=r"example.org/a: redirects to http://127.0.0.1/b, which is not https"):
        _Redirects().redirect_request(Request("https://example.org/a?k=1"), None, 302, "", {}, "http://127.0.0.1/b")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.org/a.tar", "only https is fetched, this address is http"),
        ("ftp://example.org/a.tar", "only https is fetched, this address is ftp"),
        ("/etc/passwd", "only https is fetched, this address is without a scheme"),
        ("https://me:secret@example.org/a", "an address with a user name or a password is not fetched; leave them out"),
        ("https://example.org/a b?k=secret", "an address has no blanks; write them as %20"),
    ],
)
def test_addresses_that_are_not_fetched(url, message):
    with pytest.raises(DatasetError, match=message) as e:
        check(url)
    assert "secret" not in str(e.value)
    assert shown("https://u:p@h:1/x?y#z") == "https://h:1/x"


def test_a_length_that_nobody_knows(get, web, tmp_path):
    web.faults.append(("chunked",))
    assert get().sha256 == SHA256
    web.faults.extend([("chunked", 5000), ("chunked",)])
    assert get().sha256 == SHA256
    web.faults.append(("endless",))
    assert get(held=Held(f"md5:{MD5}", "the card")).sha256 == SHA256
    web.faults.append(("endless",))
    before = left(tmp_path)
    with pytest.raises(DatasetError, match="the server does not say how long the file is, and nobody its checksum"):
        get()
    assert left(tmp_path) == before


# A key that is used nowhere else, and a certificate for this computer that nobody vouches for.
SELF_SIGNED = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/39OYLAfub10oanH
s/9DafAUmtaEbx1r+uE/hUfsyZuhRANCAARPxYtUxTpZvqPmuRmM3XkStAuQc4aU
Ukn4zFrtLJ4sbPVufzK+66728meBpJp5alqhTgdRsGNiiyOm2qjfzYC4
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBkTCCATagAwIBAgIUccLzcWTP3umr8mY8RItB9plJbywwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDEwNTIxMFoYDzIxMjYxMTA2
MTA1MjEwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARPxYtUxTpZvqPmuRmM3XkStAuQc4aUUkn4zFrtLJ4sbPVufzK+6672
8meBpJp5alqhTgdRsGNiiyOm2qjfzYC4o2QwYjAdBgNVHQ4EFgQULt78o1MXqNvc
9nZ/JYODHiG3i8EwHwYDVR0jBBgwFoAULt78o1MXqNvc9nZ/JYODHiG3i8EwDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0kAMEYC
IQCtUDgJpothdDCyG+rg3NZNNr2oaa7gPdFXAmKuLP+6iwIhAKZ+aJtjyHSfokuc
sGKk3/FKkPRxXDgCKvgZbNh+6qsS
-----END CERTIFICATE-----
"""


def test_a_certificate_that_nobody_vouches_for(get, web, tmp_path, slept):
    (tmp_path / "pem").write_text(SELF_SIGNED)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    web.socket = context.wrap_socket(web.socket, server_side=True)
    with pytest.raises(DatasetError, match=r"a.tar: its certificate does not hold \(self.signed certificate\)$"):
        get(f"{web.url.replace('http', 'https')}/a.tar?key=secret")
    assert slept == []


def test_compressed_on_the_way(get, web):
    """A server may call an archive that is compressed encoded; anything else would have to be decoded."""
    web.files["/a.tar.gz"] = CONTENT
    web.faults.append(("well", "gzip"))
    assert get(f"{web.url}/a.tar.gz").sha256 == SHA256
    web.faults.append((200, {"Content-Encoding": "gzip"}))
    with pytest.raises(
        DatasetError, match="sent compressed though asked not to; fetch it with a browser and use --from"
    ):
        get()


def test_no_room(get, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "RESERVE", 2**70)
    with pytest.raises(
        DatasetError, match=r"a.tar needs 0.00 GB in .*, [0-9.]+ GB are free; make room or choose anothe"
    ):
        get()
    with pytest.raises(DatasetError, match=r"x needs 5.00 GB in"):
        room(tmp_path, 5 * 10**9, "x")


def test_a_place_that_cannot_be_written(get, tmp_path):
    (tmp_path / "a.tar.part").mkdir()
    with pytest.raises(
        DatasetError, match=r"cannot write .*a.tar.part: Is a directory; choose another folder with --to"
    ):
        get()


def test_a_full_disk(get, tmp_path):
    (tmp_path / "a.tar.part").symlink_to("/dev/full")
    with pytest.raises(DatasetError, match=r"cannot write .*a.tar.part: No space left on device; what was got is kept"):
        get()


KILLED = """
import sys, time
from pathlib import Path
from invdiff_datasets.fetch import fetch
fetch(sys.argv[1], Path(sys.argv[2]), progress=lambda done, total: print(done, flush=True))
"""


def test_killed_and_resumed(get, web, tmp_path):
    """kill -9 of the real thing, twice, in the middle; the third goes on and the bytes are the same."""
    for _ in range(2):
        web.faults.append(("drip", 5000, 0.02))
        command = [sys.executable, "-c", KILLED, f"{web.url}/a.tar", str(tmp_path / "a.tar")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
            for _ in range(5):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    had = (tmp_path / "a.tar.part").stat().st_size
    assert 0 < had < len(CONTENT)
    assert get().sha256 == SHA256
    first, second, third = (asked[1] for asked in web.asked)
    assert first is None
    assert 0 < int(second[6:-1]) < int(third[6:-1]) == had
    assert left(tmp_path) == ["a.tar"]


def test_short_answers(web, slept, monkeypatch):
    patience = Patience(attempts=2, sleep=slept.append)
    web.files["/list"] = b'{"a": [1, 2]}'
    web.faults.append(("cut", 3))
    assert read_json(f"{web.url}/list?key=secret", patience) == {"a": [1, 2]}
    web.files["/list"] = b"<html>"
    with pytest.raises(DatasetError, match=r"/list: the answer is no JSON \(Expecting value"):
        read_json(f"{web.url}/list?key=secret", patience)
    web.faults.extend([("cut", 3), ("cut", 3)])
    with pytest.raises(
        DatasetError, match="the connection broke, 3 bytes are missing; gave up after 2 attempts in vain"
    ):
        read(f"{web.url}/list", patience)
    monkeypatch.setattr("invdiff_datasets.web.MOST", 2**20)
    web.files["/list"] = b"x" * (2**20 + 1)
    with pytest.raises(DatasetError, match="the answer is longer than 1 MiB"):
        read(f"{web.url}/list", patience)

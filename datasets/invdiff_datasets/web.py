"""Opening addresses: https only, after redirects too; what may pass is told from what may not."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from invdiff import __version__
from invdiff.errors import DatasetError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
BUSY = (408, 425, 429, 500, 502, 503, 504)
COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".txz", ".zip")
TIMEOUT = 60.0  # seconds without an answer
MOST = 64 * 2**20  # bytes of a listing


class Passing(Exception):
    """A fault that may pass: a dropped connection, a busy server. `wait`: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Patience:
    """How often and how long.

    Attributes:
        attempts: in vain, one after the other, before it is given up.
        first: seconds before the second attempt; each further pause is twice as long.
        most: seconds of a pause at most; a server that asks for more is asked another day.
        sleep: waits.
    """

    attempts: int = 8
    first: float = 1.0
    most: float = 120.0
    sleep: Callable[[float], None] = time.sleep

    def pause(self, failed: int, fault: Passing) -> None:
        """Wait after so many attempts in vain.

        Raises:
            DatasetError: there were too many, or the server asks for too long a pause.
        """
        if failed >= self.attempts:
            raise DatasetError(f"{fault}; gave up after {failed} attempts in vain")
        if fault.wait > self.most:
            raise DatasetError(f"{fault}; the server asks to come back in {fault.wait:.0f} s, try again then")
        self.sleep(max(fault.wait, min(self.first * 2 ** (failed - 1), self.most)))


def shown(url: str) -> str:
    """An address without what may be personal: user, password, query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def check(url: str) -> None:
    """Raise DatasetError for an address that is not https (http will do on this computer), or that names a user."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise DatasetError(f"{shown(url)}: only https is fetched, this address is {parts.scheme or 'without a scheme'}")
    if any(c <= " " for c in url):
        raise DatasetError(f"{shown(url)!r}: an address has no blanks; write them as %20")
    if "@" in parts.netloc:
        raise DatasetError(f"{shown(url)}: an address with a user name or a password is not fetched; leave them out")


def get(url: str, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    """The answer to a GET, its status below 400 or 416.

    Raises:
        Passing: the network or the server is in trouble that may pass.
        DatasetError: an address that may not be fetched, is not there, or refuses.
    """
    check(url)
    asked = {"User-Agent": f"invdiff/{__version__}", "Accept-Encoding": "identity", **(headers or {})}
    try:
        answer: HTTPResponse = build_opener(_Redirects).open(Request(url, headers=asked), timeout=TIMEOUT)
    except HTTPError as e:
        if e.code == 416:
            return e  # type: ignore[return-value]  # it is a response
        with e:
            raise _refusal(url, e.code, e.headers) from None
    except DatasetError:
        raise
    except (URLError, OSError, HTTPException) as e:
        reason = e.reason if isinstance(e, URLError) else e
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DatasetError(f"{shown(url)}: its certificate does not hold ({reason.verify_message})") from None
        raise Passing(f"{shown(url)}: no connection ({_words(reason)})") from None
    encoded = answer.headers.get("Content-Encoding", "identity") != "identity"
    if encoded and not urlsplit(url).path.endswith(COMPRESSED):  # some servers call a .gz encoded, and send it as it is
        answer.close()
        raise DatasetError(f"{shown(url)}: sent compressed though asked not to; fetch it with a browser and use --from")
    return answer


def read(url: str, patience: Patience) -> bytes:
    """All of a short answer, e.g. a listing; raises DatasetError."""
    failed = 0
    while True:
        try:
            return _read(url)
        except Passing as fault:
            failed += 1
            patience.pause(failed, fault)


def read_json(url: str, patience: Patience) -> Any:  # noqa: ANN401 - JSON
    """A short answer in JSON; raises DatasetError."""
    try:
        return json.loads(read(url, patience))
    except ValueError as e:
        raise DatasetError(f"{shown(url)}: the answer is no JSON ({e})") from None


def _read(url: str) -> bytes:
    with get(url) as answer:
        try:
            content = answer.read(MOST + 1)
        except (OSError, HTTPException) as e:
            raise Passing(f"{shown(url)}: the connection broke ({_words(e)})") from None
        if len(content) > MOST:
            raise DatasetError(f"{shown(url)}: the answer is longer than {MOST // 2**20} MiB")
        if answer.length:
            raise Passing(f"{shown(url)}: the connection broke, {answer.length} bytes are missing")
    return content


class _Redirects(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        here = urlsplit(req.full_url)
        if urlsplit(newurl).scheme != "https" and here.scheme == "https":
            raise DatasetError(f"{shown(req.full_url)}: redirects to {shown(newurl)}, which is not https")
        check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _refusal(url: str, code: int, headers: Message) -> Exception:
    if code in BUSY:
        return Passing(f"{shown(url)}: the server is busy (status {code})", _retry_after(headers.get("Retry-After")))
    what = {
        401: "needs a registration, see `invdiff data info`",
        403: "refuses; a personal link may have expired: ask for a new one",
        404: "is not there; the source may have moved it, see `invdiff data info` for its page",
        410: "is gone; see `invdiff data info` for the page of the source",
    }
    return DatasetError(f"{shown(url)}: {what.get(code, 'cannot be fetched')} (status {code})")


def _retry_after(text: str | None) -> float:
    """Seconds, from seconds or a date."""
    if not text:
        return 0.0
    try:
        return max(0.0, float(text) if text.isdigit() else parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 0.0


def _words(e: object) -> str:
    """Of an error, without the addresses that it may name."""
    return (getattr(e, "strerror", None) or str(e) or type(e).__name__).split("http")[0].strip()

"""Links and checksums that a user brings, as the mails and files of the sources have them."""

from __future__ import annotations

import re
from pathlib import Path

from invdiff.errors import ConfigError, FileError


def links_in(given: list[str]) -> list[str]:
    """Links themselves, and those in the text files that are named; curl commands are text, too.

    Raises:
        ConfigError: neither a link nor a file, or a file without links. The value is not shown: it may be a link.
    """
    found: list[str] = []
    for value in given:
        if re.match(r"https?://", value):
            found.append(value)
            continue
        links = re.findall(r"https?://[^\s\"'<>]+", _read(value)) if Path(value).is_file() else []
        if not links:
            raise ConfigError("--link (INVDIFF_LINKS) takes a link or a text file that has some; got neither")
        found += links
    return found


def checksums_in(path: Path) -> dict[str, str]:
    """SHA-256 by file name, from lines of `checksum  name`; raises FileError for a file without any."""
    rows = re.findall(r"^([0-9a-fA-F]{64})\s+[* ]?(\S.*?)\s*$", _read(str(path)), flags=re.M)
    if not rows:
        raise FileError(f"{path} has no lines of a SHA-256 and a file name; get it from the source again")
    return {Path(name).name: checksum.lower() for checksum, name in rows}


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as e:
        raise FileError(f"{path} cannot be read: {e.strerror}") from e

"""What importers say of the files they read, and of packages they lack."""

from __future__ import annotations

from pathlib import Path

from invdiff.errors import ConfigError, FileError
from invdiff.files import sha256


def source(path: Path, kind: str) -> dict[str, object]:
    """Facts of a file: its format, name and checksum; raises FileError when there is none."""
    if not path.is_file():
        raise FileError(f"{path}: no such file; check the name")
    return {"imported": kind, "source": path.name, "source_sha256": sha256(path)}


def missing_extra(package: str, extra: str) -> ConfigError:
    """What to install for a format."""
    return ConfigError(f'reading this needs the package {package}; install it by: pip install "invdiff[{extra}]"')

"""The priors and bridges on this computer: shipped, or installed by the user. Reads no weights, needs no torch.

An installed prior is two files in the user's data folder: NAME.safetensors, and NAME.json with its card, size and
checksum. The checksum is compared each time the prior is looked up, so later damage is found.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_data_path

from invdiff.errors import ConfigError, FileError, PriorError
from invdiff.files import all_or_none, is_prior_file, sha256

KINDS: tuple[Literal["priors"], Literal["bridges"]] = ("priors", "bridges")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Entry:
    """An installed prior.

    Attributes:
        name: on its card, and of its files.
        sha256, bytes: checksum and size of the weights file at installation.
        card: the fields of its `Card`.
        path: the weights file.
    """

    name: str
    sha256: str
    bytes: int
    card: dict[str, Any]
    path: Path


def folder() -> Path:
    """Where installed priors are kept; need not exist."""
    return user_data_path("invdiff", appauthor=False) / "priors"


def shipped(kind: Literal["priors", "bridges"] = "priors") -> list[str]:
    """Names of the priors, or bridges, inside the package."""
    weights = files("invdiff") / kind / "weights"
    return sorted(f.name.removesuffix(".safetensors") for f in weights.iterdir() if f.name.endswith(".safetensors"))


def all_shipped() -> list[str]:
    """Names of both."""
    return shipped() + shipped("bridges")


def installed() -> list[Entry]:
    """Installed priors by name; reads their records only, not the weights.

    Raises:
        PriorError: a record that cannot be read.
    """
    return [_record(path) for path in sorted(folder().glob("*.json"))]


def find(name: str) -> Path:
    """File of a prior that ships or is installed, or the file that is named.

    Raises:
        PriorError: none of these; an installed prior that is missing or has changed since its installation.
    """
    for kind in KINDS:
        if name in shipped(kind):
            with as_file(files("invdiff") / kind / "weights" / f"{name}.safetensors") as path:
                return path
    if is_prior_file(name):
        return Path(name)
    if not _is_installed(name):
        raise PriorError(f"no prior {name!r}; {_known()}; a file name ends in .safetensors")
    entry = _record(folder() / f"{name}.json")
    again = f"install it again: invdiff prior install FILE --force, or invdiff prior remove {name}"
    if not entry.path.is_file():
        raise PriorError(f"the installed prior {name} has lost its weights ({entry.path}); {again}")
    found = sha256(entry.path)
    if found != entry.sha256:
        was = f"its checksum is {found[:12]}..., at installation it was {entry.sha256[:12]}..."
        raise PriorError(f"the installed prior {name} is damaged ({was}); {again}")
    return entry.path


def install(file: Path, *, sha256: str | None = None, force: bool = False) -> Entry:
    """Check a prior file and copy it, whole or not at all, to the user's data folder under the name on its card.

    Args:
        file: a prior with a card, .safetensors.
        sha256: the checksum it must have, 64 hexadecimal digits.
        force: replace an installed prior of the same name.

    Raises:
        ConfigError: a checksum that is none; a name that ships or cannot be a file's; a name that is installed already.
        PriorError: another checksum; a missing, truncated or foreign file; another card version; weights that do not
            answer as the card says.
        FileError: the data folder cannot be written.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ConfigError(f"a SHA-256 checksum has 64 hexadecimal digits, got {sha256!r}")
    from invdiff.priors import checkpoints

    if sha256 is not None and file.is_file():
        _same(file, sha256.lower())
    card = checkpoints.verify(file)
    check_name(card.name)
    target = folder()
    if _is_installed(card.name) and not force:
        raise ConfigError(f"a prior {card.name} is installed already; pass --force to replace it")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise FileError(f"cannot make the folder {target}: {e.strerror}") from e
    return _copy(file, target, asdict(card))


def remove(name: str) -> None:
    """Delete an installed prior.

    Raises:
        ConfigError: a name that ships or cannot be a file's.
        PriorError: nothing of that name is installed.
        FileError: the data folder cannot be written.
    """
    check_name(name)
    if not _is_installed(name):
        raise PriorError(f"no prior {name!r} is installed; {_known()}")
    try:
        for ending in (".safetensors", ".json"):
            (folder() / f"{name}{ending}").unlink(missing_ok=True)
    except OSError as e:
        raise FileError(f"cannot remove {name} from {folder()}: {e.strerror}") from e


def check_name(name: str) -> None:
    """Raise ConfigError for a name that ships, or that is no plain file name: no folders, no leading dot."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"a prior cannot be called {name!r}; a name has up to 64 letters, digits, dots, - or _, and no folder"
        )
    if name in all_shipped():
        raise ConfigError(f"{name} ships with invdiff: it can be neither replaced nor removed; choose another name")


def _copy(file: Path, target: Path, card: dict[str, Any]) -> Entry:
    name = str(card["name"])
    with all_or_none(target) as draft:
        copy = draft / f"{name}.safetensors"
        shutil.copyfile(file, copy)
        facts = {"sha256": sha256(copy), "bytes": copy.stat().st_size, "card": card}
        (draft / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    return _record(target / f"{name}.json")


def _same(file: Path, want: str) -> None:
    found = sha256(file)
    if found != want:
        raise PriorError(f"{file} has the checksum {found}, not {want}; it is damaged or another file, get it again")


def _is_installed(name: str) -> bool:
    return NAME.fullmatch(name) is not None and (folder() / f"{name}.json").is_file()


def _record(path: Path) -> Entry:
    name = path.name.removesuffix(".json")
    try:
        facts = json.loads(path.read_text())
        return Entry(name, facts["sha256"], int(facts["bytes"]), facts["card"], path.with_suffix(".safetensors"))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise PriorError(
            f"the record of the installed prior {name} is damaged ({path}); remove it and install it again"
        ) from e


def _known() -> str:
    mine = sorted(p.name.removesuffix(".json") for p in folder().glob("*.json"))
    return f"those that ship: {', '.join(all_shipped())}; installed: {', '.join(mine) or 'none'}"

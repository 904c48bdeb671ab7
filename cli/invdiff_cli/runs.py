"""What a reconstruction leaves on disk, and the run file that repeats it."""

from __future__ import annotations

import json
import os
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invdiff.errors import FileError
from invdiff.files import sha256, write_text
from invdiff_cli import tsv

FILES = {"settings": "ladder", "steer": "weights"}

if TYPE_CHECKING:
    from collections.abc import Iterable

    from invdiff.reconstruction import Reconstruction
    from invdiff.volumes import Volume


def stem(output: Path) -> str:
    """File name without .nii or .nii.gz."""
    return output.name.removesuffix(".gz").removesuffix(".nii")


def sibling(output: Path, ending: str) -> Path:
    """`recon.nii.gz` and `_std.nii.gz` -> `recon_std.nii.gz`, in the same folder."""
    return output.with_name(stem(output) + ending)


def part(output: Path, name: str) -> Path:
    """Another volume of a reconstruction: `recon_std.nii.gz`; `sub-01_desc-std_T1w.nii.gz` where it has desc-mean."""
    if "_desc-mean" in output.name:
        return output.with_name(output.name.replace("_desc-mean", f"_desc-{name}"))
    return sibling(output, f"_{name}{endings(output)}")


def endings(output: Path) -> str:
    """.nii or .nii.gz, as the output has it."""
    return ".nii.gz" if output.name.endswith(".gz") else ".nii"


def outputs(output: Path, seeds: int, *, samples: bool, steer: bool = False, maps: Iterable[Path] = ()) -> list[Path]:
    """Every file that a run with that many samples will write."""
    extra = [part(output, "std")] if seeds > 1 else []
    extra += [sample(output, n) for n in range(seeds)] if samples else []
    extra += [sibling(output, "_steer.safetensors")] if steer else []
    extra += maps
    return [output, *extra, sibling(output, ".json"), sibling(output, ".run.yaml")]


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A mapping; `what` says what the file is, and who writes it.

    Raises:
        FileError: missing, or not a JSON object.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as e:
        raise FileError(f"cannot read {path}: {e.strerror}; it is {what}") from e
    except ValueError as e:
        raise FileError(f"{path} is no JSON, perhaps truncated; it is {what}") from e
    if not isinstance(content, dict):
        raise FileError(f"{path} holds no JSON object; it is {what}")
    return content


def read_yaml(path: Path) -> dict[str, Any]:
    """A run file.

    Raises:
        FileError: missing, or not a YAML mapping.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except OSError as e:
        raise FileError(f"cannot read {path}: {e.strerror}") from e
    except (UnicodeDecodeError, yaml.YAMLError) as e:
        raise FileError(f"{path} is not YAML: {str(e).splitlines()[0]}") from e
    if not isinstance(content, dict):
        raise FileError(f"{path} holds no settings; a run file is a YAML mapping, see any recon.run.yaml")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Atomically, two-space indented; what is infinite is null."""
    write_text(path, tsv.as_json(content) + "\n")


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    """Atomically, in the order of the mapping."""
    import yaml

    write_text(path, yaml.safe_dump(content, sort_keys=False))


def relative(path: Path, folder: Path) -> str:
    """A file as seen from the folder of the run file."""
    return os.path.relpath(path.resolve(), folder.resolve())


def record_files(run: dict[str, Any], folder: Path) -> dict[str, str]:
    """Make the files that settings name relative to the run file's folder, in place; their checksums."""
    sums = {}
    for group, key in FILES.items():
        if name := run.get(group, {}).get(key):
            sums[f"{key}_sha256"] = sha256(Path(name))
            run[group] = run[group] | {key: relative(Path(name), folder)}
    return sums


def find_files(run: dict[str, Any], config: Path, named: Iterable[str]) -> None:
    """Make the files that settings of a run file name relative to here, in place.

    Args:
        run: what the file says.
        config: its path.
        named: settings that the command line gives, so that the run file's do not count.

    Raises:
        FileError: not the very file of that run.
    """
    for group, key in FILES.items():
        name = run.get(group, {}).get(key)
        if not isinstance(name, str) or name.lower() in ("none", "null") or key in named:
            continue
        path, want = config.parent / name, run.get(f"{key}_sha256")
        if want is not None and path.is_file() and sha256(path) != want:
            raise FileError(f"{path} is not the file of that run (checksum differs); name it by --set {key}= to use it")
        run[group][key] = str(path)


def write_run(path: Path, run: dict[str, Any], source: Path, folder: Path, *, kind: str = "measurement") -> None:
    """The run file: settings, seeds, and the source (a measurement or an image) relative to its final folder."""
    content = {kind: relative(source, folder), f"{kind}_sha256": sha256(source), **run}
    write_yaml(path, content)


def sample(output: Path, number: int) -> Path:
    """`recon.nii.gz` -> `recon_sample003.nii.gz`."""
    return part(output, f"sample{number:03d}")


def save_all(
    output: Path, r: Reconstruction, samples: Iterable[Path], maps: Iterable[tuple[str, Volume]] = ()
) -> dict[str, str]:
    """Write mean, spread and maps by name, and move the samples, which are written, beside them; the checksums."""
    from invdiff import volumes

    own = [(output, r.mean)] + ([(part(output, "std"), r.std)] if r.std is not None else [])
    written = []
    for path, volume in chain(own, ((part(output, name), volume) for name, volume in maps)):
        written.append(path)
        volumes.save(path, volume, force=True)
    written += [path.replace(output.with_name(path.name)) for path in samples]
    return {path.name: sha256(path) for path in written}

"""What a long run has done so far, on disk, so that a killed one goes on to the same bits.

Random numbers depend on seed, name and step alone, and an iterate holds all that its solver carries: finished chunks
and the last iterate of the one in progress are the whole state.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from invdiff.errors import ConfigError, FileError
from invdiff.files import write_atomic
from invdiff.solvers.base import Iterate

EVERY = 120.0


class Checkpoint:
    """A folder with one file for each finished chunk, one for an iterate, and `run.json`, which says whose they are.

    Args:
        folder: made when there is something to keep; if it is there, the run goes on from what it holds.
        run: all that decides about the bits of the run, JSON-able.
        every: seconds between two iterates that are kept.

    Raises:
        ConfigError: the folder holds another run.
        FileError: it is no checkpoint, or cannot be written.
    """

    def __init__(self, folder: Path, run: dict[str, Any], *, every: float = EVERY) -> None:
        self.folder, self.every, self.kept = folder, every, time.monotonic()
        self.first = 0
        self.run = json.loads(json.dumps(run))  # as it comes back: tuples are lists
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            _check_same(folder, self.run)

    def after(self, chunks: int) -> Checkpoint:
        """The same, for a part of the run that counts its chunks from 0 and has so many before it."""
        twin = copy(self)
        twin.first, twin.kept = self.first + chunks, time.monotonic()  # all before is on disk
        return twin

    def finished(self, chunk: int) -> Tensor | None:
        """The result of a chunk, (B, *shape), if it is there."""
        path = self._chunk(chunk)
        return _tensors(path)["x"] if path.exists() else None

    def latest(self, chunk: int, device: torch.device) -> Iterate | None:
        """The iterate from which a chunk goes on, if there is one; on the device."""
        path = self.folder / "iterate.safetensors"
        if not path.exists():
            return None
        facts = _facts(path)  # without the tensors, which every later chunk would read in vain
        if facts["chunk"] != self.first + chunk:
            return None
        strides = facts["strides"]
        found = {name: _laid_out(value, strides[name]).to(device) for name, value in _tensors(path).items()}
        memory = tuple(found[f"memory{i}"] for i in range(facts["memory"]))
        return Iterate(facts["step"], facts["sigma"], found["x"], found["denoised"], memory)

    def keep(self, chunk: int, it: Iterate) -> None:
        """Write an iterate, if the last one was written long enough ago."""
        if time.monotonic() - self.kept >= self.every:
            self.save(chunk, it)

    def save(self, chunk: int, it: Iterate) -> None:
        """Write an iterate in the place of the last."""
        tensors = {"x": it.x, "denoised": it.denoised} | {f"memory{i}": m for i, m in enumerate(it.memory)}
        strides = {name: value.stride() for name, value in tensors.items()}
        facts = {
            "chunk": self.first + chunk,
            "step": it.step,
            "sigma": it.sigma,
            "memory": len(it.memory),
            "strides": strides,
        }
        self._put(self.folder / "iterate.safetensors", tensors, facts)
        self.kept = time.monotonic()

    def finish(self, chunk: int, x: Tensor) -> None:
        """Write the result of a chunk."""
        self._put(self._chunk(chunk), {"x": x}, {"chunk": self.first + chunk})

    def remove(self) -> None:
        """Once the result is safe, or the run cannot end well."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _chunk(self, number: int) -> Path:
        return self.folder / f"chunk{self.first + number:05d}.safetensors"

    def _put(self, path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        if not (self.folder / "run.json").exists():
            self._begin()
        # Copies: safetensors takes no two names for one memory.
        own = {name: x.detach().cpu().clone(memory_format=torch.contiguous_format) for name, x in tensors.items()}
        try:
            write_atomic(path, lambda p: _save(p, own, facts))
        except FileError:
            if not list(self.folder.glob("*.safetensors")):  # nothing to go on from
                self.remove()
            raise

    def _begin(self) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as e:
            raise FileError(f"cannot make the folder {self.folder}: {e.strerror}; choose another place") from e
        write_atomic(self.folder / "run.json", lambda p: _write(p, self.run))


def steps_done(folder: Path, length: int) -> int:
    """How many steps a run of chunks of that length has behind it, for progress bars."""
    chunks = len(list(folder.glob("chunk*.safetensors")))
    path = folder / "iterate.safetensors"
    facts = _facts(path) if path.exists() else {"chunk": -1}
    return chunks * length + (facts["step"] + 1 if facts["chunk"] == chunks else 0)


def _check_same(folder: Path, run: dict[str, Any]) -> None:
    try:
        found = json.loads((folder / "run.json").read_text())
    except (OSError, ValueError) as e:
        raise FileError(f"{folder} is no checkpoint of a run; name another output, or move it away") from e
    other = [key for key in run | found if run.get(key) != found.get(key)]
    if other:
        raise ConfigError(
            f"{folder} is the checkpoint of another run: {other[0]} was {found.get(other[0])}, now it is "
            f"{run.get(other[0])}; repeat that run to end it, delete the folder, or name another output"
        )


def _tensors(path: Path) -> dict[str, Tensor]:
    with _damage_told(path):
        return load_file(path)


def _facts(path: Path) -> dict[str, Any]:
    with _damage_told(path), safe_open(path, framework="pt") as f:
        facts: dict[str, Any] = json.loads(f.metadata()["facts"])
        return facts


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as e:
        raise FileError(f"{path} is damaged; delete it, and the run goes on from what was before it") from e


def _laid_out(x: Tensor, strides: list[int]) -> Tensor:
    """The same numbers in the same order in memory, on which the last bits of sums depend."""
    out = torch.empty_strided(x.shape, strides, dtype=x.dtype)
    return out.copy_(x) if all(s or n == 1 for s, n in zip(strides, x.shape, strict=True)) else x


def _save(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    try:
        save_file(tensors, path, {"facts": json.dumps(facts)})
    except SafetensorError as e:
        raise OSError(str(e)) from e


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")

"""Memory: what there is, what this process holds, and what tensors take while something runs.

The tracker sees every tensor that torch makes, and nothing else: numba, FFT workspaces and what the allocator keeps of
freed tensors are seen by the watch, which looks at the process as a whole.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from invdiff.errors import OutOfMemoryError

T = TypeVar("T")
MIB, GIB = 2**20, 2**30
EVERY = 0.003  # seconds between two looks at the process
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


class Tracker(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is entered, on any device, meta too.

    Counted are storages: views of one count once, and what was there before counts nothing.

    Args:
        limit: bytes above which the tensor that passes them raises OutOfMemoryError.
        device: the kind of device whose tensors count; all if None.

    Attributes:
        live: bytes now.
        peak: most bytes so far.
        own: the same, of tensors alone, without what was charged.
    """

    def __init__(self, limit: float = float("inf"), device: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit, self.device = limit, device
        self.live = self.peak = self.own = 0
        self._charged = 0
        self._sizes: dict[int, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler to tell it so: two seconds and 60 MiB

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - what the operation gives
        """Run an operation and count what it makes."""
        for t in _tensors((args, kwargs)):
            self._note(t, 0)
        out = func(*args, **(kwargs or {}))
        for t in _tensors(out):
            self._note(t, t.untyped_storage().nbytes() if self.device in (None, t.device.type) else 0)
        return out

    def charge(self, size: int) -> Tensor:
        """A tensor that counts as `size` bytes for as long as it lives."""
        token = torch.empty(())
        storage = token.untyped_storage()
        self._charged += size
        weakref.finalize(storage, self._discharge, size).atexit = False
        self._grow(size)
        return token

    def within(self, run: Callable[[], T]) -> tuple[T, int]:
        """What `run` gives, and the most bytes that it took."""
        start, before = self.live, self.peak
        self.peak = start
        out = run()
        most, self.peak = self.peak - start, max(before, self.peak)
        return out, most

    def _note(self, t: Tensor, size: int) -> None:
        storage = t.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = size
        weakref.finalize(storage, self._drop, key).atexit = False
        self._grow(size)

    def _grow(self, size: int) -> None:
        self.live += size
        self.peak, self.own = max(self.peak, self.live), max(self.own, self.live - self._charged)
        if self.live > self.limit:
            raise OutOfMemoryError(f"tensors take more than {self.limit / GIB:.2f} GiB")

    def _drop(self, key: int) -> None:
        self.live -= self._sizes.pop(key)

    def _discharge(self, size: int) -> None:
        self.live, self._charged = self.live - size, self._charged - size


def _tensors(tree: Any) -> Iterator[Tensor]:  # noqa: ANN401 - what torch operations take and give
    return (t for t in tree_leaves(tree) if isinstance(t, Tensor) and t.layout is torch.strided)


class Watch:
    """Looks at the memory of the process, or of a CUDA device, while it is entered.

    Attributes:
        peak: most bytes that were held.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.peak = device, 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self.device)
            return
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, held(self.device))

    def _look(self) -> None:
        while not self._done.wait(EVERY):
            self.peak = max(self.peak, held(self.device))


def ran_out(e: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    return isinstance(e, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(e)


def held(device: torch.device) -> int:
    """Bytes that this process holds: of tensors on a CUDA device, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def trim() -> None:
    """Give memory of freed tensors back to the system, where the allocator (glibc's) would keep it for later."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@cache
def keep() -> None:
    """Let the allocator (glibc's) keep 64 MiB of what is freed, for the next tensors of up to 32 MiB.

    As it comes it gives memory back after every megabyte or two, which the system then hands out again page by page,
    set to zero: a tenth to a fifth of the time of multi-coil MRI. It holds for the whole process, and for one whose
    environment says something else of the allocator nothing is changed.
    """
    told = {"GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_"}
    if not told & os.environ.keys():
        with suppress(AttributeError, OSError, TypeError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_TRIM_THRESHOLD, 64 * MIB)
            mallopt(_MMAP_THRESHOLD, 32 * MIB)


def free(device: torch.device) -> int:
    """Bytes that this process could have on top of what it holds."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    return min([int(psutil.virtual_memory().available), *left_in_groups()])


def left_in_groups(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Bytes left in each control group with a limit that this process is in; containers and batch systems set them."""
    out = []
    for line in own.read_text().splitlines() if own.is_file() else []:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = groups / "memory" if controllers else groups
        limit, usage, cache = _V1 if controllers else _V2
        folder = root / name.lstrip("/")
        for place in (folder, *folder.parents):
            if (place / limit).is_file() and (most := (place / limit).read_text().strip()) != "max":
                stat = dict(row.split() for row in (place / "memory.stat").read_text().splitlines())
                used = int((place / usage).read_text()) - int(stat.get(cache, 0))  # files are let go first
                out.append(max(0, int(most) - used))
            if place == root:
                break
    return out


_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")

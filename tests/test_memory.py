"""Bytes of tensors against closed forms, of networks against themselves, and what a machine or container has left."""

import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from invdiff.errors import OutOfMemoryError
from invdiff.memory import MIB, Tracker, Watch, free, held, left_in_groups
from invdiff.networks import UNet
from invdiff.rehearsal import Call, Cast

CPU = torch.device("cpu")


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_storages_count_once_and_are_given_back(device):
    there = torch.zeros(100, device=device)
    with Tracker() as tracker:
        a = torch.zeros(1000, dtype=torch.float64, device=device)
        views = [a[:10], a.reshape(10, 100).T, there[:3], there.view(10, 10)]
        assert (tracker.live, tracker.peak) == (8000, 8000), "a view takes nothing, nor what was there before"
        b = a + 1
        assert tracker.live == 16000
        del a
        assert tracker.live == 16000, "its views hold it"
        del views
        assert tracker.live == 8000
        b += 1
        assert (tracker.live, tracker.peak) == (8000, 16000)
        del b
    assert (tracker.live, tracker.peak) == (0, 16000)


def test_the_peak_of_a_chain_of_products():
    """Without gradients two matrices at a time; with, one of each layer, or of each checkpoint."""
    n, count = 64, 6
    size = 4 * n * n
    W = [torch.randn(n, n) for _ in range(count)]
    with Tracker() as plain, torch.no_grad():
        x = torch.zeros(n, n)
        for w in W:
            x = x @ w
    assert plain.peak == 2 * size
    with Tracker() as kept:
        x = torch.zeros(n, n, requires_grad=True)
        for w in W:
            x = torch.tanh(x @ w)  # keeps its answer
        assert kept.live == (1 + count) * size, "the start, and an answer of each layer"
        del w
    with Tracker() as again:
        x = torch.zeros(n, n, requires_grad=True)
        for w in W:
            x = checkpoint(lambda x, w: torch.tanh(torch.tanh(torch.tanh(x @ w))), x, w, use_reentrant=False)
        assert again.live == (1 + count) * size, "three to a layer, of which a checkpoint keeps one"


def test_charges_and_the_limit():
    with Tracker() as tracker:
        token = tracker.charge(10**12)
        kept = torch.zeros(250)
        assert (tracker.live, tracker.own) == (10**12 + 1004, 1004)
        del token
        assert (tracker.live, tracker.peak) == (1000, 10**12 + 1004)
        _, most = tracker.within(lambda: kept + 1)
        assert most == 1000
        assert tracker.peak == 10**12 + 1004
    with Tracker(2**28) as tracker:
        token = tracker.charge(2**28 - 4)
        assert len(token.shape) == 0
        with pytest.raises(OutOfMemoryError, match=r"tensors take more than 0\.25 GiB"):
            torch.zeros(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gradient", [False, True])
def test_a_network_takes_on_meta_what_it_takes_and_in_proportion_to_its_rows(dtype, gradient):
    net = UNet(channels=(16, 32), blocks=1).to(dtype=dtype, memory_format=torch.channels_last).requires_grad_(False)
    there = UNet(channels=(16, 32), blocks=1).to("meta", dtype, memory_format=torch.channels_last)

    def most(net, rows, device=CPU):
        with Tracker() as tracker:
            Call(net, (rows, 1, 48, 40), dtype, device, gradient).run()
        assert tracker.live < 1000, "nothing is left"
        return tracker.peak

    one, two, eight = (most(net, rows) for rows in (1, 2, 8))
    assert eight - two == 6 * (two - one), "linear in the rows"
    assert abs(eight - 8 * one) < 0.02 * eight
    meta = most(there.requires_grad_(False), 8, torch.device("meta"))
    assert abs(meta - eight) < 0.03 * eight  # meta keeps moments of bfloat16 layers in float32
    with Tracker() as tracker, torch.no_grad():
        assert Cast(tracker).bytes_of(Call(net, (8, 1, 48, 40), dtype, CPU, gradient)).most == 8 * one


def test_what_waits_for_a_gradient_is_most_of_what_it_takes():
    net = UNet(channels=(16, 32), blocks=1).requires_grad_(False)
    with Tracker() as tracker, torch.no_grad():
        cast = Cast(tracker)
        plain, back = (cast.bytes_of(Call(net, (4, 1, 48, 40), torch.float32, CPU, g)) for g in (False, True))
    assert plain.kept == 0
    assert 2 * plain.most < back.kept < back.most < 1.3 * back.kept


def test_the_watch_sees_what_torch_does_not():
    gc.collect()
    before = held(CPU)
    with Watch(CPU) as watch, Tracker() as tracker:
        block = bytearray(200 * MIB)
        block[:: 2**12] = b"1" * len(block[:: 2**12])
        deadline = time.monotonic() + 10  # on a busy machine it looks late
        while watch.peak < before + 180 * MIB and time.monotonic() < deadline:
            time.sleep(0.01)
        del block
    assert tracker.peak == 0
    assert 180 * MIB < watch.peak - before < 260 * MIB
    assert free(CPU) > 0


def test_limits_of_control_groups(tmp_path: Path):
    """Version 2, a job inside a container; then version 1."""
    own = tmp_path / "own"
    own.write_text("0::/job/step\n")
    for folder, most, used, cache in (("job", "1000", "400", "100"), ("job/step", "max", "300", "0")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "memory.max").write_text(most + "\n")
        (tmp_path / folder / "memory.current").write_text(used + "\n")
        (tmp_path / folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")
    assert left_in_groups(tmp_path, own) == [700]
    own.write_text("9:cpu:/\n4:cpuset,memory:/pod\n")
    pod = tmp_path / "memory" / "pod"
    pod.mkdir(parents=True)
    (pod / "memory.limit_in_bytes").write_text("500\n")
    (pod / "memory.usage_in_bytes").write_text("600\n")
    (pod / "memory.stat").write_text("total_inactive_file 20\n")
    assert left_in_groups(tmp_path, own) == [0]
    assert left_in_groups(tmp_path, tmp_path / "none") == []


FAULTS = """
import resource, sys, torch
from invdiff.memory import keep
if sys.argv[1] == "keep":
    keep()
x = torch.zeros(2**18)
for _ in range(3):
    x = x + 1 + 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    x = x + 1 + 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    run = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(run, env=clean | environment, check=True, capture_output=True, text=True).stdout)


def test_memory_of_freed_tensors_is_used_again():
    """200 tensors of 1 MiB, 256 pages each: with the allocator as it comes most are handed out again one by one."""
    assert faults("keep") < 2000
    told = faults("keep", MALLOC_MMAP_THRESHOLD_="65536")
    assert told > 40_000, "an environment that says how memory is had is obeyed"

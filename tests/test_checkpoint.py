"""The state of a run on disk: what comes back, and what is refused."""

import json

import pytest
import torch

from invdiff.checkpoint import Checkpoint, steps_done
from invdiff.errors import ConfigError, FileError
from invdiff.solvers import Iterate

RUN = {"solver": {"kind": "dds", "steps": 5}, "seeds": (0, 1)}
CPU = torch.device("cpu")


def images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_an_iterate_comes_back_with_its_memory_and_its_order_in_memory(tmp_path):
    x = images(2, 1, 4, 5, 6).movedim(2, 4)
    it = Iterate(3, 0.1, x, x, (images(2, 7), images(3).expand(2, 3), x))
    Checkpoint(tmp_path / "c", RUN).save(4, it)
    again = Checkpoint(tmp_path / "c", RUN)
    assert again.latest(3, CPU) is None
    found = again.latest(4, CPU)
    assert (found.step, found.sigma, len(found.memory)) == (3, 0.1, 3)
    for a, b in zip((found.x, found.denoised, *found.memory), (it.x, it.denoised, *it.memory), strict=True):
        assert torch.equal(a, b)
    assert (found.x.stride(), found.memory[2].stride()) == (x.stride(), x.stride())


def test_finished_chunks_and_steps_are_counted(tmp_path):
    folder = tmp_path / "c"
    kept = Checkpoint(folder, RUN)
    assert not folder.exists(), "a run that has done nothing leaves nothing"
    assert steps_done(folder, 10) == 0
    for chunk in (0, 1):
        kept.save(chunk, Iterate(9, 0.0, images(2), images(2)))
        kept.finish(chunk, images(2, 3))
    assert steps_done(folder, 10) == 20
    kept.save(2, Iterate(3, 0.0, images(2), images(2)))
    assert steps_done(folder, 10) == 24
    assert torch.equal(Checkpoint(folder, RUN).finished(1), images(2, 3))
    assert Checkpoint(folder, RUN).finished(2) is None
    kept.remove()
    assert not folder.exists()


def test_an_iterate_is_kept_now_and_then(tmp_path):
    kept = Checkpoint(tmp_path / "c", RUN, every=1000.0)
    kept.keep(0, Iterate(0, 1.0, images(2), images(2)))
    assert not (tmp_path / "c").exists()
    kept.every = 0.0
    kept.keep(0, Iterate(1, 1.0, images(2), images(2)))
    assert kept.latest(0, CPU).step == 1


def test_another_run_is_refused_with_the_first_difference(tmp_path):
    Checkpoint(tmp_path / "c", RUN).finish(0, images(2))
    message = r"c is the checkpoint of another run: seeds was \[0, 1\], now it is \[0, 2\]; repeat that run to end it"
    with pytest.raises(ConfigError, match=message):
        Checkpoint(tmp_path / "c", RUN | {"seeds": [0, 2]})
    with pytest.raises(ConfigError, match="steer was None, now it is True"):
        Checkpoint(tmp_path / "c", RUN | {"steer": True})


def test_what_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "c").mkdir()
    Checkpoint(tmp_path / "c", RUN)  # empty: a run that was killed before its first file
    (tmp_path / "c" / "letter.txt").write_text("dear")
    with pytest.raises(FileError, match="c is no checkpoint of a run; name another output, or move it away"):
        Checkpoint(tmp_path / "c", RUN)
    with pytest.raises(FileError, match=r"letter\.txt is no checkpoint of a run"):
        Checkpoint(tmp_path / "c" / "letter.txt", RUN)


def test_a_damaged_file_is_named(tmp_path):
    kept = Checkpoint(tmp_path / "c", RUN)
    kept.finish(0, images(2))
    path = tmp_path / "c" / "chunk00000.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FileError, match=r"chunk00000\.safetensors is damaged; delete it, and the run goes on from"):
        kept.finished(0)


def test_a_folder_that_cannot_be_made(tmp_path):
    kept = Checkpoint(tmp_path / "nowhere" / "c", RUN)
    with pytest.raises(FileError, match=r"cannot make the folder .*c: No such file or directory; choose another place"):
        kept.finish(0, images(2))


def test_run_json_says_whose_it_is(tmp_path):
    Checkpoint(tmp_path / "c", RUN).finish(0, images(2))
    assert json.loads((tmp_path / "c" / "run.json").read_text()) == json.loads(json.dumps(RUN))

"""Priors in the user's folder: checked on the way in, found by name, and no name reaches outside."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from invdiff import library
from invdiff.errors import ConfigError, FileError, PriorError
from invdiff.files import sha256
from invdiff.networks.unet import UNet
from invdiff.priors import checkpoints

FOLDER = library.folder
TRICKS = ["../other", "..", ".", "", ".hidden", "a/b", "/etc/passwd", "a\\b", "a b", "-f", "x" * 65, "a\nb"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(library, "folder", lambda: tmp_path / "data" / "invdiff" / "priors")
    return tmp_path / "data"


@pytest.fixture
def make(tmp_path):
    def write(name="knee", seed=0):
        torch.manual_seed(seed)
        net = UNet(channels=(64,), blocks=1)
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.05)
        path = tmp_path / f"file-{seed}.safetensors"
        checkpoints.save(path, net, checkpoints.Card(name=name, config=net.config, mean=0.2, std=0.3))
        return path

    return write


def test_the_folder_is_the_users(home):
    assert FOLDER().parts[-2:] == ("invdiff", "priors")


def files(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_installed_priors_are_found_like_those_that_ship(make, home):
    assert library.installed() == []
    file = make()
    entry = library.install(file, sha256=sha256(file).upper())
    assert (entry.name, entry.bytes, entry.sha256) == ("knee", file.stat().st_size, sha256(file))
    assert library.installed() == [entry]
    assert checkpoints.Card(**entry.card) == dataclasses.replace(checkpoints.read_card(file))
    found = checkpoints.find("knee")
    assert found.read_bytes() == file.read_bytes()
    assert files(home) == ["knee.json", "knee.safetensors"]
    file.unlink()
    assert checkpoints.load(found)[1].name == "knee"
    library.remove("knee")
    assert files(home) == []
    with pytest.raises(PriorError, match=r"no prior 'knee'; those that ship: .*brain-mr.*; installed: none"):
        library.find("knee")


def test_replacing_needs_force(make, home):
    first, second = make(), make(seed=1)
    library.install(first)
    with pytest.raises(ConfigError, match="knee is installed already; pass --force"):
        library.install(second)
    assert library.find("knee").read_bytes() == first.read_bytes()
    library.install(second, force=True)
    assert library.find("knee").read_bytes() == second.read_bytes()
    assert files(home) == ["knee.json", "knee.safetensors"]


def damage(path):
    raw = bytearray(path.read_bytes())
    raw[-1000] ^= 255
    path.write_bytes(raw)


def test_damage_after_the_installation_is_found(make):
    library.install(make())
    damage(library.folder() / "knee.safetensors")
    with pytest.raises(PriorError, match=r"the installed prior knee is damaged \(its checksum is .*, at installation"):
        checkpoints.find("knee")
    (library.folder() / "knee.safetensors").unlink()
    with pytest.raises(PriorError, match="knee has lost its weights"):
        checkpoints.find("knee")
    (library.folder() / "knee.json").write_text("{")
    for call in (library.installed, lambda: library.find("knee")):
        with pytest.raises(PriorError, match="the record of the installed prior knee is damaged"):
            call()
    library.remove("knee")
    assert library.installed() == []


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def other_version(path):
    facts = dataclasses.asdict(checkpoints.read_card(path)) | {"version": 1}
    save_file(load_file(path), path, {"card": json.dumps(facts)})


def other_weights(path):
    """A file in good order whose numbers are not those that the card was written for."""
    card = json.dumps(dataclasses.asdict(checkpoints.read_card(path)))
    save_file(
        {k: torch.roll(v.flatten(), 1).reshape(v.shape) for k, v in load_file(path).items()}, path, {"card": card}
    )


BAD = {
    truncated: "may be truncated, get it again",
    other_version: "has a card of version 1, this invdiff reads version 2; update invdiff",
    other_weights: "does not answer as its card says; the weights are damaged",
}


@pytest.mark.parametrize("change", BAD, ids=lambda f: f.__name__)
def test_what_is_refused(change, make, home):
    file = make()
    change(file)
    with pytest.raises(PriorError, match=BAD[change]):
        library.install(file)
    assert files(home) == []


def test_wrong_checksums(make, home):
    with pytest.raises(PriorError, match=r"has the checksum [0-9a-f]{64}, not 0{64}; it is damaged or another file"):
        library.install(make(), sha256="0" * 64)
    with pytest.raises(ConfigError, match="a SHA-256 checksum has 64 hexadecimal digits, got 'abc'"):
        library.install(make(), sha256="abc")
    assert files(home) == []


@pytest.mark.parametrize("name", TRICKS)
def test_names_that_reach_outside(name, make, home, tmp_path):
    victim = tmp_path / "data" / "invdiff" / "other.json"
    victim.parent.mkdir(parents=True)
    victim.write_text("{}")
    for call in (lambda: library.remove(name), lambda: library.install(make(name))):
        with pytest.raises(ConfigError, match="a prior cannot be called"):
            call()
    assert files(home) == ["other.json"]


def test_names_that_ship_are_taken(make, home):
    with pytest.raises(ConfigError, match="brain-mr ships with invdiff: it can be neither replaced nor removed"):
        library.install(make("brain-mr"), force=True)
    with pytest.raises(ConfigError, match="brain-mr ships with invdiff"):
        library.remove("brain-mr")
    assert files(home) == []
    assert "weights" in str(checkpoints.find("brain-mr"))


def test_a_data_folder_that_cannot_be_made(make, home):
    home.write_text("a file where the folder should be")
    with pytest.raises(FileError, match="cannot make the folder"):
        library.install(make())

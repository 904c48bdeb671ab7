import hashlib
import json
from dataclasses import asdict, replace

import pytest

from invdiff.errors import ConfigError
from invdiff.metrics import PRESETS, Protocol, preset


def test_the_hash_is_that_of_the_settings():
    for protocol in PRESETS.values():
        text = json.dumps(dict(sorted(asdict(protocol).items())))
        assert protocol.hash == hashlib.sha256(text.encode()).hexdigest()[:12]
        assert protocol.facts() == asdict(protocol) | {"hash": protocol.hash}


def test_each_setting_changes_the_hash():
    changes = [
        {}, {"name": "mine"}, {"ssim": "3d"}, {"window": "uniform"}, {"sample_covariance": True}, {"data_range": "max"},
        {"range_of": "slice"}, {"mask": True}, {"version": 2},
    ]  # fmt: skip
    assert {next(iter(c)) for c in changes[1:]} == set(asdict(Protocol()))
    assert len({replace(Protocol(), **change).hash for change in changes}) == len(changes)


def test_hashes_stay():
    """Rows that were written years apart are compared by them."""
    hashes = {name: (p.hash, replace(p, mask=True).hash) for name, p in PRESETS.items()}
    assert hashes == {
        "invdiff": ("603f53b32e64", "d355106f4ab4"),
        "fastmri": ("fd0083ee258c", "8bc1c8e45e1f"),
        "skimage": ("21bdc6ef1456", "49926a3c781c"),
    }


def test_presets_by_name():
    assert preset("fastmri") is PRESETS["fastmri"]
    assert preset("fastmri", "3d") == replace(PRESETS["fastmri"], ssim="3d")
    assert preset("invdiff") == Protocol()
    with pytest.raises(ConfigError, match="no protocol 'imagenet'; choose one of fastmri, invdiff, skimage"):
        preset("imagenet")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ssim": "4d"}, "protocol invdiff: ssim is one of 2d, 3d, got 4d"),
        ({"window": "hann", "name": "mine"}, "protocol mine: window is one of gaussian, uniform, got hann"),
        ({"data_range": "255"}, "data_range is one of max-min, max, got 255"),
        ({"range_of": "mask"}, "range_of is one of volume, slice, got mask"),
        ({"range_of": "slice", "ssim": "3d"}, "a 3-D SSIM has no range of each slice; take ssim 2d"),
    ],
)
def test_messages(settings, message):
    with pytest.raises(ConfigError, match=message):
        Protocol(**settings)

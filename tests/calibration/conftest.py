import numpy as np
import pytest
import torch

from invdiff.calibration import compared
from invdiff.volumes import Volume


@pytest.fixture(scope="session")
def facts():
    """What a sidecar says, as far as a calibration asks."""
    return {
        "solver": {"kind": "diffpir", "steps": 12, "ladder": "/somewhere/ladder.json"},
        "acquisition": {"kind": "mri", "acceleration": 4.0},
        "prior": {"name": "brain-mr", "sha256": "ab" * 32},
        "seeds": list(range(8)),
        "antithetic": True,
        "planes": None,
        "warm": None,
        "steering": None,
        "intensity_unit": 200.0,
    }


@pytest.fixture(scope="session")
def volume():
    """A volume of an array (C, X, Y, Z)."""
    return lambda data: Volume(torch.from_numpy(np.asarray(data, np.float32)), np.eye(4))


@pytest.fixture(scope="session")
def world(facts, volume):
    """A scan with a Gaussian posterior, sampled by eight in pairs; the truth is spread `wider` than it, by slice."""

    def make(wider=1.0, *, slices=12, seed=0, name="scan", also=(), unit=200.0, **options):
        rng = np.random.default_rng(seed)
        shape = (1, 40, 40, slices)
        centre, std = 100 + rng.normal(size=shape), rng.uniform(0.05, 0.2, shape) * unit
        half = std * rng.normal(size=(4, *shape))
        samples = centre + np.concatenate([half, -half])
        truth = centre + np.broadcast_to(wider, slices) * std * rng.normal(size=shape)
        images = [volume(v) for v in (samples.mean(0), samples.std(0, ddof=1), truth)]
        how = facts | {"intensity_unit": unit} | dict(also)
        return compared(name, *images, how, **{"mask": volume(np.ones(shape)), "sha256": name} | options)

    return make

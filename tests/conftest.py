import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config, items):
    """Slow tests are left out of the default run, and counted as deselected rather than skipped."""
    if not config.getoption("--slow"):
        slow = [i for i in items if "slow" in i.keywords]
        config.hook.pytest_deselected(items=slow)
        items[:] = [i for i in items if "slow" not in i.keywords]


@pytest.fixture(autouse=True)
def _no_network(socket_disabled):
    """Everything works offline; a test that opens a socket fails."""


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def epi_path():
    """The real EPI series that ships inside nibabel, 128 x 96 x 24 x 2."""
    return Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"


@pytest.fixture(scope="session")
def small_volume(tmp_path_factory, epi_path):
    """Four real slices, 48 x 40, with an oblique affine, as a file."""
    image = nibabel.load(epi_path)
    block = np.asarray(image.dataobj[40:88, 30:70, 10:14, 0]).astype(np.int16)
    path = tmp_path_factory.mktemp("scan") / "small.nii.gz"
    header = image.header.copy()
    header.set_data_shape(block.shape)
    header.extensions.clear()
    nibabel.save(nibabel.Nifti1Image(block, image.affine, header), path)
    return path

import numpy as np
import pytest

from invdiff.denoising import Series
from invdiff.denoising.mppca import analysed
from invdiff.noise import GaussianNoise
from invdiff_datasets.diffusion import gradient_table, head

SIGMA = 30.0


@pytest.fixture(scope="session")
def phantom():
    """A head of 40 x 32 x 6 voxels, 20 directions, two b0s."""
    return head((40, 32, 6), gradient_table({1000: 20}, b0=2))


@pytest.fixture(scope="session")
def noisy(phantom):
    """The same with Gaussian noise, 5 % of the signal without weighting."""
    return phantom.noisy(GaussianNoise(SIGMA), seed=1)


@pytest.fixture(scope="session")
def series(phantom, noisy):
    sigma = np.full(phantom.mask.shape, SIGMA, np.float32)
    data = array(noisy)
    return Series(data, phantom.gradients, phantom.mask, sigma, analysed(data)[0])


def array(volume):
    return np.ascontiguousarray(volume.data.numpy().transpose(1, 2, 3, 0))

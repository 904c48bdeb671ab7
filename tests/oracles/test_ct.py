"""CT against ASTRA (GPL) and deepinv, which stay out of the development environment: `make oracles`."""

import math

import astra
import numpy as np
import pytest
import torch

from invdiff.operators import FanBeam, ParallelRadon
from invdiff.space import Space

H, W = 44, 37  # of which one is even


@pytest.fixture
def image():
    return np.random.default_rng(0).random((H, W)).astype(np.float32)


def astra_project(kind, projection, volume, image):
    """Sinogram (views, detectors) of ASTRA's CPU projector."""
    projector = astra.create_projector(kind, projection, volume)
    identifier, y = astra.create_sino(image, projector)
    astra.data2d.delete(identifier)
    astra.projector.delete(projector)
    return y


def about_our_axis():
    """ASTRA's volume with its origin in the centre of pixel (H // 2, W // 2); its y runs against the rows."""
    return astra.create_vol_geom(H, W, -W // 2 - 0.5 + W % 2, W - W // 2 - 0.5, -(H - H // 2) + 0.5, H // 2 + 0.5)


@pytest.mark.parametrize(("pitch", "offset"), [(1.0, 0.0), (0.7, 1.25)])
def test_parallel_beams_are_astras_linear_projector(pitch, offset, image):
    """The same interpolation of Joseph's: column cos - row sin = t is ASTRA's x cos + y sin."""
    theta, D = np.arange(11) * 0.4 + 0.03, 71
    vectors = np.stack([-np.sin(theta), np.cos(theta)]), np.stack([np.cos(theta), np.sin(theta)])
    middle = (D - 1) / 2 - D // 2 + offset
    geometry = astra.create_proj_geom(
        "parallel_vec", D, np.concatenate([vectors[0], middle * pitch * vectors[1], pitch * vectors[1]]).T.copy()
    )
    want = astra_project("linear", geometry, about_our_axis(), image)
    A = ParallelRadon(Space((1, H, W)), theta, D, pitch=pitch, offset=offset)
    got = A(torch.from_numpy(image)[None, None])[0, 0].numpy()
    assert np.linalg.norm(got - want) < 2e-5 * np.linalg.norm(want)


def test_fans_are_astras(image):
    """Another kernel (lengths of intersection), so on noise only in the mean, on a smooth image within 1 %."""
    from skimage.filters import gaussian

    smooth = gaussian(image, 2).astype(np.float32)
    smooth[:4] = smooth[-4:] = smooth[:, :4] = smooth[:, -4:] = 0
    smooth = gaussian(smooth, 1).astype(np.float32)
    beta, D, R, L, pitch, offset = np.arange(11) * 0.55 + 0.03, 91, 60.0, 100.0, 1.3, 0.25
    # Ours: source at -R (cos, sin) in (row, column), cells along (-sin, cos); theirs: (x, y) = (column, -row).
    ray, across = np.stack([np.sin(beta), -np.cos(beta)]), np.stack([np.cos(beta), np.sin(beta)])
    centre = (L - R) * ray + ((D - 1) / 2 - D // 2 + offset) * pitch * across
    vectors = np.concatenate([-R * ray, centre, pitch * across]).T.copy()
    geometry = astra.create_proj_geom("fanflat_vec", D, vectors)
    want = astra_project("line_fanflat", geometry, about_our_axis(), smooth)
    A = FanBeam(Space((1, H, W)), beta, R, L, D, pitch=pitch, offset=offset)
    got = A(torch.from_numpy(smooth)[None, None])[0, 0].numpy()
    assert np.linalg.norm(got - want) < 0.01 * np.linalg.norm(want)
    shifted = FanBeam(Space((1, H, W)), beta, R, L, D, pitch=pitch, offset=offset + 1)
    other = shifted(torch.from_numpy(smooth)[None, None])[0, 0].numpy()
    assert np.linalg.norm(other - want) > 0.03 * np.linalg.norm(want), "a shift would be seen"


def test_parallel_beams_are_deepinvs():
    """Its projector turns the image by bilinear interpolation, so within 1 % on a smooth one."""
    from deepinv.physics import Tomography
    from skimage.filters import gaussian

    n = 64  # an odd detector, so that the axes agree
    image = np.zeros((n, n))
    image[20:45, 15:40] = 1
    image[28:36, 30:50] += 1
    smooth = torch.from_numpy(gaussian(image, 2)).float()[None, None]
    degrees = torch.arange(0.0, 180.0, 20.0)
    physics = Tomography(angles=degrees, img_width=n, circle=False, normalize=False)
    want = physics.A(smooth)[0, 0].T.numpy()
    A = ParallelRadon(Space((1, n, n)), degrees * math.pi / 180, want.shape[1])
    got = A(smooth)[0, 0].numpy()
    assert np.linalg.norm(got - want) < 0.01 * np.linalg.norm(want)

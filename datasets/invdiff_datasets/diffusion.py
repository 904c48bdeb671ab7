"""Diffusion MRI that is made: a head of crossing fibres whose signal, fibres and tissues are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from invdiff.noise import NoiseModel
from invdiff.rng import Rng
from invdiff.volumes import Volume
from invdiff.volumes.gradients import Gradients

Floats = NDArray[np.float64]
PARALLEL, ACROSS = 1.7e-3, 0.3e-3  # mm^2/s, of fibres (Jones 2013)
CSF, GREY = 3.0e-3, 0.8e-3  # mm^2/s, the same in all directions
SIGNAL = {"csf": 1000.0, "grey": 700.0, "white": 500.0}  # without weighting


@dataclass(frozen=True, eq=False)
class Phantom:
    """A series without noise, and what it is made of.

    Attributes:
        series: (V, X, Y, Z).
        gradients: its table.
        mask: the head, (X, Y, Z).
        fibres: directions of up to three bundles, (X, Y, Z, 3, 3); fractions: theirs, (X, Y, Z, 3), the rest is water
            that diffuses alike in all directions.
    """

    series: Volume
    gradients: Gradients
    mask: NDArray[np.bool_]
    fibres: Floats
    fractions: Floats

    def noisy(self, noise: NoiseModel, seed: int = 0) -> Volume:
        """The series with noise, volume by volume of its own."""
        data = self.series.data
        return self.series.like(noise.sample(data, Rng([(seed, v) for v in range(len(data))])))


def gradient_table(shells: dict[int, int], b0: int = 1, seed: int = 0) -> Gradients:
    """Directions spread over each half sphere by electrostatic repulsion (Jones et al., MRM 1999), b0s spread evenly.

    Args:
        shells: number of directions by b-value in s/mm^2.
        b0: how many volumes have no weighting.
        seed: of the start.
    """
    rng = np.random.default_rng(seed)
    vectors = np.concatenate([spread(n, rng) for n in shells.values()])
    bvals = np.repeat(np.array(list(shells), float), list(shells.values()))
    order = rng.permutation(len(bvals)) if len(shells) > 1 else np.arange(len(bvals))
    at = np.linspace(0, len(bvals), b0, endpoint=False).astype(int)
    return Gradients(np.insert(bvals[order], at, 0.0), np.insert(vectors[order], at, 0.0, axis=0))


def spread(count: int, rng: np.random.Generator, rounds: int = 300) -> Floats:
    """Directions (count, 3) of unit length that repel each other and each other's opposites."""
    g = rng.standard_normal((count, 3))
    g /= np.linalg.norm(g, axis=1, keepdims=True)
    for k in range(rounds):
        both = np.concatenate([g, -g])
        apart = g[:, None] - both
        distance = np.linalg.norm(apart, axis=2)
        force = np.divide(apart, distance[..., None] ** 3, where=distance[..., None] > 1e-9, out=np.zeros_like(apart))
        g = g + 0.5 / (1 + k) * force.sum(1) / count
        g /= np.linalg.norm(g, axis=1, keepdims=True)
    return g


def head(shape: Sequence[int], gradients: Gradients, spacing: float = 2.0, seed: int = 0) -> Phantom:
    """A head with a callosum that arches, pyramids that rise through it, association fibres that cross both.

    Args:
        shape: (X, Y, Z) voxels.
        gradients: of the series.
        spacing: side of a voxel in mm.
        seed: of the texture.
    """
    rng = np.random.default_rng(seed)
    axes = [(np.arange(n) + 0.5) / n * 2 - 1 for n in shape]
    u, v, w = np.meshgrid(*axes, indexing="ij")
    w = 0.6 * w  # few slices are a part of a head
    radius = np.sqrt((u / 0.88) ** 2 + (v / 0.95) ** 2 + (w / 1.1) ** 2)
    inside = radius < 1
    folds = np.sin(13 * np.arctan2(v, u) + 4 * np.sin(3 * w + 2 * u)) + 0.7 * np.sin(16 * u + 5 * w) * np.sin(13 * v)
    white = _soft(0.72 + 0.09 * folds - radius)
    ventricles = _soft(1 - np.sqrt(((abs(u) - 0.12 - 0.3 * v**2) / 0.07) ** 2 + (v / 0.4) ** 2 + (w / 0.5) ** 2), 0.1)
    fractions, fibres = _bundles(u, v, w, white * (1 - ventricles))
    texture = [1 + 0.05 * _smooth(rng, shape, s) for s in (1.0, 2.0, 1.5)]
    csf = np.clip(ventricles + _soft(radius - 0.93 - 0.07 * folds) * inside, 0, 1)
    amounts = {"csf": csf, "white": (1 - csf) * white, "grey": (1 - csf) * (1 - white)}
    s0 = sum(SIGNAL[name] * amount for name, amount in amounts.items()) * texture[0] * inside
    rest = 1 - fractions.sum(-1)
    still = np.where(csf > 0.5, CSF, GREY * texture[1])
    b, g = gradients.bvals, gradients.bvecs
    series = np.empty((len(b), *shape), np.float32)
    for k in range(len(b)):
        along = (fibres @ g[k]) ** 2
        tensors = np.exp(-b[k] * texture[2][..., None] * (ACROSS + (PARALLEL - ACROSS) * along))
        series[k] = s0 * ((fractions * tensors).sum(-1) + rest * np.exp(-b[k] * still))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    return Phantom(Volume(torch.from_numpy(series), affine, series=True), gradients, inside, fibres, fractions)


def _bundles(u: Floats, v: Floats, w: Floats, white: Floats) -> tuple[Floats, Floats]:
    """Fractions (..., 3) and directions (..., 3, 3) of callosum, pyramids and association fibres."""
    zero, one = np.zeros_like(u), np.ones_like(u)
    arch = np.stack([one, zero, -1.2 * u], -1)  # left to right, sinking to both sides
    rise = np.stack([0.5 * u, 0.2 * v, one], -1)  # fanning out upwards
    run = np.stack([-0.6 * u * v, one, 0.3 * v], -1)  # front to back, around the ventricles
    amounts = [
        _soft(0.16 - abs(abs(v) - 0.22 - 0.3 * u**2)),
        _soft(0.1 - abs(abs(u) - 0.34)) * _soft(0.5 - abs(v)),
        _soft(0.11 - abs(abs(u) - 0.56 + 0.2 * v**2)) + _soft(abs(v) - 0.5),
    ]
    total = np.maximum(sum(amounts), 1.0)
    fractions = np.stack([0.85 * white * a / total for a in amounts], -1)
    fibres = np.stack([d / np.linalg.norm(d, axis=-1, keepdims=True) for d in (arch, rise, run)], -2)
    return fractions, fibres


def _soft(x: Floats, width: float = 0.015) -> Floats:
    """1 where x is above zero, 0 below, over a voxel or two."""
    return 1 / (1 + np.exp(-np.clip(x / width, -40, 40)))


def _smooth(rng: np.random.Generator, shape: Sequence[int], sigma: float) -> Floats:
    """Noise of unit variance, correlated over `sigma` voxels."""
    x = gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return np.clip(x / x.std(), -3, 3)

"""Coil sensitivity maps: simulated ones, and estimates from the calibration region of k-space.

Maps have unit norm over the coils. What they cannot know, a phase at each voxel, is fixed by a virtual coil: the
combination of all coils that holds most of the signal is made real, so that the image keeps that coil's smooth phase.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from invdiff.errors import ConfigError, ShapeError
from invdiff.linalg import root_sum_of_squares
from invdiff.rng import generator

# Samples of the calibration region along each axis. Farther out real scans hold more noise than signal, which ESPIRiT's
# threshold would take for signal; images for `adaptive` need the resolution.
WIDEST = {"espirit": 24, "adaptive": 64}
BLOCK = 2**24  # complex numbers held at once while maps are made: 128 MiB


def simulate(coils: int, shape: Sequence[int], spacing: Sequence[float], seed: int) -> Tensor:
    """Smooth maps of small loops around the image, as the quasi-static field of magnetic dipoles (Hoult 1976).

    Loops stand on a ring around the first two axes, 1.3 half-diagonals away, and look at its centre; in 3-D every
    other one stands a quarter of the third side higher, the rest lower.

    Args:
        coils: how many, >= 2.
        shape: voxels along each of 2 or 3 axes.
        spacing: voxel size along each in mm.
        seed: of the turn of the ring and of the phase of each loop.

    Returns:
        (coils, *shape), complex64; the sum of squares over the coils is 1.
    """
    side = torch.tensor([n * mm for n, mm in zip(shape, spacing, strict=True)], dtype=torch.float64)
    axes = [(torch.arange(n) - (n - 1) / 2).double() * mm for n, mm in zip(shape, spacing, strict=True)]
    r = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    g = generator(seed, "coils")
    turn, phase = torch.rand((), generator=g).double(), torch.rand(coils, generator=g).double()
    angle = 2 * math.pi * (torch.arange(coils) / coils + turn)
    loop = 1.3 * float(side[:2].norm()) / 2 * torch.stack([angle.cos(), angle.sin()], -1)
    if len(shape) == 3:
        height = side[2] / 4 * (1 - 2 * (torch.arange(coils) % 2))
        loop = torch.cat([loop, height[:, None]], -1)
    offset = r - loop.reshape(coils, *[1] * len(shape), -1)
    distance = offset.norm(dim=-1)
    moment = -(loop / loop.norm(dim=-1, keepdim=True)).reshape(coils, *[1] * len(shape), -1)
    along = (moment * offset).sum(-1, keepdim=True) / distance[..., None]
    B = (3 * along * offset / distance[..., None] - moment) / distance[..., None] ** 3
    maps = torch.polar(torch.ones(coils).double(), 2 * math.pi * phase).reshape(-1, *[1] * len(shape))
    maps = maps * torch.complex(B[..., 0], -B[..., 1])
    return (maps / root_sum_of_squares(maps, 0)).to(torch.complex64)


def calibration(kspace: Tensor, mask: Tensor, *, least: int = 6, most: int = 64) -> Tensor:
    """The largest fully measured box around DC.

    Args:
        kspace: (P, coils, *spatial) with DC at index 0, or packed as `Mask` does, (P, coils, n).
        mask: boolean, (*spatial), DC at index 0.
        least: fewest samples along each axis.
        most: where the box is cut along an axis: the far ends of k-space are noise.

    Returns:
        (P, coils, *box), DC in the middle, index n // 2.

    Raises:
        ConfigError: when the box is smaller than `least` along an axis.
        ShapeError: when k-space and mask do not fit.
    """
    counts = {tuple(mask.shape), (int(mask.sum()),)}
    if tuple(kspace.shape[2:]) not in counts:
        raise ShapeError(f"k-space of {tuple(kspace.shape)} does not fit a mask of {tuple(mask.shape)}")
    axes = tuple(range(2, 2 + mask.ndim))
    box = _box(torch.fft.fftshift(mask), most)
    size = tuple(b.stop - b.start for b in box)
    if min(size) < least:
        found = " x ".join(map(str, size))
        raise ConfigError(
            f"coil maps need a fully measured centre of k-space, at least {least} lines along each axis; this one has "
            f"{found}; raise center_fraction, or give coil_maps = true"
        )
    if kspace.ndim == 3:
        full = kspace.new_zeros(*kspace.shape[:2], mask.numel())
        kspace = full.index_copy(2, mask.flatten().nonzero()[:, 0], kspace).unflatten(2, mask.shape)
    return torch.fft.fftshift(kspace, dim=axes)[(..., *box)].contiguous()


def estimate(kspace: Tensor, mask: Tensor, method: Literal["espirit", "adaptive"]) -> Tensor:
    """Maps of each problem from its own calibration region.

    Args:
        kspace: (P, coils, *spatial) with DC at index 0, or packed as `Mask` does, (P, coils, n).
        mask: boolean, (*spatial), DC at index 0.
        method: `espirit`, or `adaptive` on images of low resolution.

    Returns:
        (P, coils, *spatial), complex; unit norm over the coils or 0.

    Raises:
        ConfigError: no calibration region, see `calibration`; maps that are 0 everywhere.
    """
    region = calibration(kspace, mask, most=WIDEST[method])
    if method == "adaptive":
        return adaptive(_low_resolution(region, mask.shape))
    maps = espirit(region, mask.shape)
    if not bool(maps.any()):
        found = " x ".join(map(str, region.shape[2:]))
        raise ConfigError(
            f"ESPIRiT finds no coil maps in a centre of k-space of {found}: "
            "raise center_fraction, or give coil_maps = adaptive or true"
        )
    return maps


def _low_resolution(region: Tensor, shape: Sequence[int]) -> Tensor:
    """Images of the middle of k-space (P, coils, *box), its ends faded out against ringing."""
    axes = tuple(range(2, region.ndim))
    full = region.new_zeros(*region.shape[:2], *shape)
    inside: list[slice] = []
    for axis, n in zip(axes, shape, strict=True):
        size = region.shape[axis]
        window = torch.hann_window(size + 2, periodic=False, dtype=region.real.dtype)[1:-1]
        region = region * window.reshape([-1 if a == axis else 1 for a in range(region.ndim)])
        inside.append(slice(n // 2 - size // 2, n // 2 - size // 2 + size))
    full[(slice(None), slice(None), *inside)] = region
    return torch.fft.ifftn(torch.fft.ifftshift(full, dim=axes), dim=axes, norm="ortho")


def _box(mask: Tensor, most: int) -> tuple[slice, ...]:
    """The box around DC that holds most samples and no gap; of even sizes either half may be the longer."""
    total = torch.nn.functional.pad(mask.long(), (1, 0) * mask.ndim)
    volume = torch.ones((), dtype=torch.long)
    spans = []
    for axis, n in enumerate(mask.shape):
        sizes = torch.arange(1, min(n, most) + 1)
        start = torch.cat([n // 2 - sizes // 2, n // 2 - (sizes - 1) // 2])
        stop = torch.minimum(start + sizes.repeat(2), torch.tensor(n))
        total = total.cumsum(axis)
        total = total.index_select(axis, stop) - total.index_select(axis, start)
        volume = volume[..., None] * (stop - start)
        spans.append((start, stop))
    best = torch.unravel_index(torch.where(total == volume, volume, 0).argmax(), volume.shape)
    return tuple(slice(int(a[i]), int(b[i])) for (a, b), i in zip(spans, best, strict=True))


def espirit(
    kspace: Tensor, shape: Sequence[int], *, kernel: int = 6, threshold: float = 0.02, crop: float = 0.95
) -> Tensor:
    """The first set of ESPIRiT maps (Uecker et al., MRM 2014).

    Patches of k-space span a small subspace; projecting all patches onto it and averaging is, voxel by voxel, a small
    matrix over the coils, whose eigenvectors of eigenvalue 1 are the sensitivities.

    Args:
        kspace: calibration region, (P, coils, *box), complex, two or three axes, each at least `kernel` long.
        shape: spatial shape of the maps.
        kernel: side of a patch.
        threshold: singular values of the patches that count as signal, relative to the largest.
        crop: eigenvalues, at most 1, below which a voxel is taken to be empty: all maps are 0 there.

    Returns:
        (P, coils, *shape), complex; unit norm over the coils or 0.

    Raises:
        ConfigError: when the region is smaller than the kernel, or empty.
        ShapeError: when region and shape have different numbers of axes.
    """
    dims = len(shape)
    if kspace.ndim != 2 + dims:
        raise ShapeError(f"a calibration region of {tuple(kspace.shape)} does not fit maps of {tuple(shape)}")
    if min(kspace.shape[2:]) < kernel:
        found = " x ".join(map(str, kspace.shape[2:]))
        raise ConfigError(
            f"a calibration region of {found} is smaller than the kernel, {kernel}; raise center_fraction or lower it"
        )
    filters = torch.stack([_projection(k, kernel, threshold) for k in kspace])
    reference = _virtual_coil(kspace)
    rows = max(1, BLOCK // (kspace.shape[1] ** 2 * len(kspace) * math.prod(shape[1:])))
    parts = [
        _maps_of(_interpolate(filters, shape, range(shape[0])[start : start + rows]), reference, crop)
        for start in range(0, shape[0], rows)
    ]
    return torch.cat(parts, dim=2)


def _projection(region: Tensor, kernel: int, threshold: float) -> Tensor:
    """The averaged projection as a filter of k-space: (coils, *box) -> (coils, coils, *(2 kernel - 1))."""
    coils, dims = len(region), region.ndim - 1
    patches = region
    for axis in range(dims):
        patches = patches.unfold(1 + axis, kernel, 1)
    A = patches.flatten(-dims).movedim(0, -2).flatten(0, dims - 1).flatten(1)  # (patches, coils * kernel^dims)
    # By the eigenvectors of A^H A, which has the size of the kernel however large the region is.
    power, V = torch.linalg.eigh(A.mH @ A)
    if float(power[-1]) <= 0:
        raise ConfigError("the calibration region is 0: no coil maps can be found in it")
    V = V[:, power > threshold**2 * power[-1]].conj()
    kernels = V.T.reshape(-1, coils, *[kernel] * dims)
    # The sum over all pairs of positions at equal offsets is a correlation, so a product after a Fourier transform.
    axes = tuple(range(2, 2 + dims))
    spectrum = torch.fft.ifftn(kernels, s=[2 * kernel - 1] * dims, dim=axes, norm="forward")
    gram = torch.einsum("jc...,jd...->cd...", spectrum, spectrum.conj())
    return torch.fft.ifftn(gram, dim=axes) / kernel**dims


def _interpolate(filters: Tensor, shape: Sequence[int], rows: range) -> Tensor:
    """Filters (P, coils, coils, *taps) as matrices at the voxels of some rows, (P, rows, *shape[1:], coils, coils)."""
    G = filters
    for axis, n in enumerate(shape):
        taps = filters.shape[3 + axis]
        offset = torch.fft.fftfreq(taps, 1 / taps, dtype=torch.float64, device=filters.device)
        voxel = torch.arange(n, dtype=torch.float64, device=filters.device)
        voxel = voxel[rows.start : rows.stop] if axis == 0 else voxel
        angle = -2 * math.pi / n * voxel[:, None] * offset
        E = torch.polar(torch.ones_like(angle), angle).to(filters.dtype)
        G = torch.tensordot(G, E, dims=([3], [1]))  # the axis done goes to the end
    return G.movedim((1, 2), (-2, -1))


def _maps_of(G: Tensor, reference: Tensor, crop: float) -> Tensor:
    value, vector = leading(G)
    vector = vector * (value > crop)[..., None]
    return _aligned(vector, reference).movedim(-1, 1)


def adaptive(images: Tensor, *, block: int = 7) -> Tensor:
    """Maps from coil images (Walsh et al., MRM 2000): the eigenvectors of the coils' local covariance.

    Args:
        images: (P, coils, *spatial), complex; of low resolution, if they come from a calibration region.
        block: side of the neighbourhood in voxels, odd.

    Returns:
        (P, coils, *spatial), complex; unit norm over the coils, or 0 where all images are.
    """
    coils, n = images.shape[1:3]
    reference = _virtual_coil(images)
    half = block // 2
    rows = max(1, BLOCK // (coils**2 * len(images) * math.prod(images.shape[3:])))
    parts = []
    for start in range(0, n, rows):
        low, high = max(0, start - half), min(n, start + rows + half)
        covariance = _covariance(images[:, :, low:high], block)[:, :, :, start - low :][:, :, :, :rows]
        value, vector = leading(covariance.movedim((1, 2), (-2, -1)))
        parts.append(_aligned(vector * (value > 0)[..., None], reference).movedim(-1, 1))
    return torch.cat(parts, dim=2)


def _covariance(images: Tensor, block: int) -> Tensor:
    """Mean of m m^H over a neighbourhood, (P, coils, *spatial) -> (P, coils, coils, *spatial)."""
    outer = torch.view_as_real(images[:, :, None] * images[:, None].conj()).movedim(-1, 1).contiguous()
    flat = outer.flatten(0, 3)[:, None]
    for axis in range(2, flat.ndim):  # a box is separable
        window = [block if a == axis else 1 for a in range(2, flat.ndim)]
        pool = torch.nn.functional.avg_pool2d if flat.ndim == 4 else torch.nn.functional.avg_pool3d
        flat = pool(flat, window, 1, [w // 2 for w in window])
    re, im = flat[:, 0].reshape(outer.shape).unbind(1)
    return torch.complex(re, im)


def leading(G: Tensor, *, squarings: int = 8) -> tuple[Tensor, Tensor]:
    """Largest eigenvalue and its eigenvector of Hermitian matrices >= 0, (*, n, n) -> (*) and (*, n).

    By squaring, G^256 in eight products: several times faster than a full decomposition of many small matrices. Two
    eigenvalues nearer than 1 % leave a mixture of their vectors, whose value is right all the same.
    """
    power = G
    for _ in range(squarings):
        power = power / power.diagonal(dim1=-2, dim2=-1).real.sum(-1).clamp_min(1e-30)[..., None, None]
        power = power @ power
    column = power.diagonal(dim1=-2, dim2=-1).real.argmax(-1)[..., None, None].expand(*power.shape[:-1], 1)
    vector = power.gather(-1, column)
    vector = vector / torch.linalg.vector_norm(vector, dim=-2, keepdim=True).clamp_min(1e-30)
    return (vector.mH @ (G @ vector)).real[..., 0, 0], vector[..., 0]


def _virtual_coil(data: Tensor) -> Tensor:
    """Weights of the coils that hold most of the signal of all problems together, (P, coils, *) -> (coils,)."""
    flat = data.movedim(1, 0).flatten(1)
    return torch.linalg.eigh(flat @ flat.mH)[1][:, -1]


def _aligned(vector: Tensor, reference: Tensor) -> Tensor:
    """Vectors (*, coils) turned so that reference^H vector is real and >= 0."""
    return vector * (vector @ reference.conj()).sgn().conj()[..., None]

"""What networks predict, turned into E[x_0 | z] once: the only place that knows of VP, flows and alpha-blending.

Every model perturbs data as x_t = a x_0 + b e. With s = b / a and z = x_t / a = x_0 + s e they are all the same object;
each function below brings z to the network's own coordinates, calls it once, and reads the clean estimate off.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.linalg import rows
from invdiff.schedules import ddpm

Call = Callable[[Tensor, Tensor], Tensor]  # (network input, noise label (B,)) -> network output
Adapter = Callable[[Call, Tensor, Tensor, Tensor], Tensor]  # (call, z, sigma (B,), sigma_data) -> clean estimate


def edm(call: Call, z: Tensor, sigma: Tensor, sigma_data: Tensor) -> Tensor:
    """F of Karras et al. 2022, Eq. 7; label ln(s) / 4."""
    s = rows(sigma, z)
    total = torch.sqrt(s**2 + sigma_data**2)
    return (sigma_data / total) ** 2 * z + s * sigma_data / total * call(z / total, sigma.log() / 4)


def vp_eps(call: Call, z: Tensor, sigma: Tensor, sigma_data: Tensor) -> Tensor:
    """Noise prediction on DDPM's linear table of 1000 betas; label: the table's index, interpolated in log s."""
    s = rows(sigma, z)
    return z - s * call(z / torch.sqrt(1 + s**2), ddpm_index(sigma))


def vp_v(call: Call, z: Tensor, sigma: Tensor, sigma_data: Tensor) -> Tensor:
    """v = a e - b x_0 on the same table (Salimans and Ho 2022): D = a x_t - b v."""
    s = rows(sigma, z)
    a = 1 / torch.sqrt(1 + s**2)
    return a**2 * z - s * a * call(a * z, ddpm_index(sigma))


def flow(call: Call, z: Tensor, sigma: Tensor, sigma_data: Tensor) -> Tensor:
    """v = e - x_0 along x_t = (1 - t) x_0 + t e (rectified flow); label t = s / (1 + s)."""
    t = sigma / (1 + sigma)
    x = (1 - rows(t, z)) * z
    return x - rows(t, z) * call(x, t)


def iadb(call: Call, z: Tensor, sigma: Tensor, sigma_data: Tensor) -> Tensor:
    """d = x_0 - e along x = (1 - al) e + al x_0 (Heitz et al. 2023); label al = 1 / (1 + s)."""
    al = 1 / (1 + sigma)
    x = rows(al, z) * z
    return x + (1 - rows(al, z)) * call(x, al)


def score(call: Call, z: Tensor, sigma: Tensor, sigma_data: Tensor) -> Tensor:
    """Score of a variance-exploding model (Song et al. 2021), Tweedie's formula; label s."""
    return z + rows(sigma, z) ** 2 * call(z, sigma)


ADAPTERS: dict[str, Adapter] = {
    "edm": edm,
    "vp-eps": vp_eps,
    "vp-v": vp_v,
    "flow": flow,
    "iadb": iadb,
    "score": score,
}


def ddpm_index(sigma: Tensor) -> Tensor:
    """Index, 0 to 999, of each noise level in DDPM's table, linear in log s; levels outside take the nearest end."""
    table = ddpm(1000)[:-1].flip(0).log().to(sigma)
    level = sigma.log().clamp(table[0], table[-1]).contiguous()
    right = torch.searchsorted(table, level).clamp(1, len(table) - 1)
    low, high = table[right - 1], table[right]
    return right - 1 + (level - low) / (high - low)

"""What networks predict, turned into E[x_0 | z] once: the only place that knows of VP, flows and alpha-blending.

Every model perturbs data as x_t = a x_0 + b e. With s = b / a and z = x_t / a = x_0 + s e they are all the same object;
each function below brings z to the network's own coordinates, calls it once, and reads the clean estimate off. The
label, how the network is told the noise level, is a matter of its own: one model predicts noise with an index, another
with a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import PriorError
from invdiff.linalg import rows
from invdiff.priors.tables import table

Call = Callable[[Tensor], Tensor]  # network input -> network output, at the label of this noise level
Label = Callable[[Tensor], Tensor]  # sigma (B,) -> label (B,)
Adapter = Callable[[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor, Tensor], Tensor]


def edm(call: Call, z: Tensor, s: Tensor, sigma_data: Tensor) -> Tensor:
    """F of Karras et al. 2022, Eq. 7."""
    total = torch.sqrt(s**2 + sigma_data**2)
    return (sigma_data / total) ** 2 * z + s * sigma_data / total * call(z / total)


def vp_eps(call: Call, z: Tensor, s: Tensor, sigma_data: Tensor) -> Tensor:
    """e from x_t = a z, a^2 + b^2 = 1 (Ho et al. 2020)."""
    return z - s * call(z / torch.sqrt(1 + s**2))


def vp_v(call: Call, z: Tensor, s: Tensor, sigma_data: Tensor) -> Tensor:
    """v = a e - b x_0 (Salimans and Ho 2022): D = a x_t - b v."""
    a = 1 / torch.sqrt(1 + s**2)
    return a**2 * z - s * a * call(a * z)


def vp_x0(call: Call, z: Tensor, s: Tensor, sigma_data: Tensor) -> Tensor:
    """x_0 itself from x_t = a z."""
    return call(z / torch.sqrt(1 + s**2))


def flow(call: Call, z: Tensor, s: Tensor, sigma_data: Tensor) -> Tensor:
    """v = e - x_0 along x_t = (1 - t) x_0 + t e, t = s / (1 + s) (rectified flow)."""
    t = s / (1 + s)
    x = (1 - t) * z
    return x - t * call(x)


def iadb(call: Call, z: Tensor, s: Tensor, sigma_data: Tensor) -> Tensor:
    """d = x_0 - e along x = (1 - al) e + al x_0, al = 1 / (1 + s) (Heitz et al. 2023)."""
    al = 1 / (1 + s)
    x = al * z
    return x + (1 - al) * call(x)


def score(call: Call, z: Tensor, s: Tensor, sigma_data: Tensor) -> Tensor:
    """Score of a variance-exploding model (Song et al. 2021), Tweedie's formula."""
    return z + s**2 * call(z)


def ve(call: Call, z: Tensor, s: Tensor, sigma_data: Tensor) -> Tensor:
    """The score times s: the variance-exploding model as EDM's code wraps it (Karras et al. 2022, Table 1)."""
    return z + s * call(z)


@dataclass(frozen=True)
class Parameterisation:
    """What a network predicts, and the label it knows the noise level by; no label: the schedule's table has it."""

    estimate: Callable[[Call, Tensor, Tensor, Tensor], Tensor]
    label: Label | None
    levels: tuple[float, float] | None  # noise levels that training covers by custom; None: the table's ends


def _time(sigma: Tensor) -> Tensor:
    return sigma / (1 + sigma)


FLOW_LEVELS = (1e-3, 999.0)  # times 0.001 to 0.999; at time 1 the noise level is infinite
ADAPTERS: dict[str, Parameterisation] = {
    "edm": Parameterisation(edm, lambda sigma: sigma.log() / 4, (0.002, 80.0)),
    "vp-eps": Parameterisation(vp_eps, None, None),
    "vp-v": Parameterisation(vp_v, None, None),
    "vp-x0": Parameterisation(vp_x0, None, None),
    "flow": Parameterisation(flow, _time, FLOW_LEVELS),
    "flow-1000": Parameterisation(flow, lambda sigma: 1000 * _time(sigma), FLOW_LEVELS),
    "iadb": Parameterisation(iadb, lambda sigma: 1 / (1 + sigma), FLOW_LEVELS),
    "score": Parameterisation(score, lambda sigma: sigma, (0.01, 50.0)),
    "ve": Parameterisation(ve, lambda sigma: (sigma / 2).log(), (0.02, 100.0)),
}


def adapter(parameterisation: str, schedule: str = "linear") -> Adapter:
    """(network (x, label), z, sigma (B,), sigma_data) -> clean estimate.

    Raises:
        PriorError: unknown parameterisation or, where it is one with a table, unknown schedule.
    """
    kind = find(parameterisation)
    label = kind.label or table(schedule).label

    def estimate(call: Callable[[Tensor, Tensor], Tensor], z: Tensor, sigma: Tensor, sigma_data: Tensor) -> Tensor:
        return kind.estimate(lambda x: call(x, label(sigma)), z, rows(sigma, z), sigma_data)

    return estimate


def levels(parameterisation: str, schedule: str = "linear") -> tuple[float, float]:
    """Noise levels, least and greatest, that such a network was trained on; raises PriorError as `adapter` does."""
    kind = find(parameterisation)
    return kind.levels or table(schedule).ends


def find(parameterisation: str) -> Parameterisation:
    """What the name on a card stands for; raises PriorError for an unknown one."""
    if parameterisation not in ADAPTERS:
        raise PriorError(f"parameterisation {parameterisation!r} is unknown; there are: {', '.join(ADAPTERS)}")
    return ADAPTERS[parameterisation]

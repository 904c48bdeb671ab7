"""What a bridge promises to solvers: the clean image that a state between the two ends stands for."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from invdiff.bridges.process import Process
from invdiff.errors import ConfigError
from invdiff.space import Space


class Bridge(nn.Module, ABC):
    """A map learned for one kind of degradation; not a prior: it knows no images without their degraded form.

    Args:
        space: of both ends.
        process: the way between them.
        conditional: whether it is shown x1 beside the state.

    Raises:
        ConfigError: a deterministic process with x1 shown: x0 = (x_t - a x1) / (1 - a) then, and all that is learned is
            this subtraction, which has no meaning at x_t = x1.
    """

    def __init__(self, space: Space, process: Process, *, conditional: bool) -> None:
        super().__init__()
        if conditional and not process.stochastic:
            raise ConfigError(
                "a deterministic bridge that is shown x1 learns a subtraction, not images; leave one of them out"
            )
        self.space, self.process, self.conditional = space, process, conditional

    @abstractmethod
    def clean(self, x: Tensor, x1: Tensor, t: int) -> Tensor:
        """E[x0 | x_t = x], or given x1 too: (B, *space.shape) twice -> the same; differentiable in x."""

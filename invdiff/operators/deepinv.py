"""Linear physics of deepinv as an operator; deepinv itself is not imported."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from invdiff.errors import CapabilityError, ShapeError
from invdiff.operators.base import LinearOperator
from invdiff.operators.sparse import linear
from invdiff.space import Space


class Physics(Protocol):
    """What is asked of a `deepinv.physics.LinearPhysics`."""

    def A(self, x: Tensor) -> Tensor:
        """(B, *shape) -> (B, *measured)."""

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Back."""


class FromDeepinv(LinearOperator):
    """A deepinv `LinearPhysics` with its own A and A_adjoint; its noise model is left aside.

    Complex images and k-space are pairs of real channels there, and stay so. Some of deepinv's adjoints are
    approximations by default (of `Tomography`, say `adjoint_via_backprop=True`): solvers need exact ones.

    Args:
        physics: any object with A and A_adjoint; its tensors move along when it is a module.
        space: the images, (C, *spatial).

    Raises:
        CapabilityError: an object without A or A_adjoint, or measurements that are no tensor.
        ShapeError: physics that do not take such images.
    """

    def __init__(self, physics: Physics, space: Space) -> None:
        super().__init__()
        name = type(physics).__name__
        if not (callable(getattr(physics, "A", None)) and callable(getattr(physics, "A_adjoint", None))):
            raise CapabilityError(f"{name} has no A and A_adjoint; only linear physics can be wrapped")
        self.physics = physics
        device = next((t.device for t in _tensors(physics)), torch.device("cpu"))
        try:
            with torch.no_grad():
                y = physics.A(torch.zeros((1, *space.shape), dtype=space.dtype, device=device))
        except (RuntimeError, ValueError, IndexError) as e:
            raise ShapeError(f"{name} does not take images of {space}: {str(e).splitlines()[0]}") from e
        if not isinstance(y, Tensor):
            raise CapabilityError(f"{name} measures a {type(y).__name__}, not a tensor; wrap its parts one by one")
        self.domain, self.range = space, Space(tuple(y.shape[1:]), y.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Physics.A."""
        return linear(self.physics.A, self.physics.A_adjoint, x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Physics.A_adjoint."""
        return linear(self.physics.A_adjoint, self.physics.A, y)


def _tensors(physics: Physics) -> list[Tensor]:
    if not isinstance(physics, nn.Module):
        return []
    module = cast(nn.Module, physics)
    return [*module.parameters(), *module.buffers()]

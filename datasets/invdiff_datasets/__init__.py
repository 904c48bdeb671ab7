"""Where volumes come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invdiff_datasets.base import Card, cards, find, sets

if TYPE_CHECKING:
    from invdiff_datasets.samples import epi_2mm

__all__ = ["Card", "cards", "epi_2mm", "find", "sets"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - cards are read without torch, volumes are not
    if name == "epi_2mm":
        from invdiff_datasets.samples import epi_2mm

        return epi_2mm
    raise AttributeError(f"module 'invdiff_datasets' has no attribute {name!r}")

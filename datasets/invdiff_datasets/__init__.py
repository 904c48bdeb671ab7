"""Where volumes come from."""

from invdiff_datasets.base import Card, cards
from invdiff_datasets.samples import epi_2mm

__all__ = ["Card", "cards", "epi_2mm"]

"""Checkpoints of other code bases: how each family's state dict tells its architecture."""

from invdiff.priors.foreign import adm, diffusers, edm, ncsnpp
from invdiff.priors.foreign.base import Context, Family, Found

FAMILIES = {family.name: family for family in (adm.FAMILY, edm.FAMILY, ncsnpp.FAMILY, diffusers.FAMILY)}

__all__ = ["FAMILIES", "Context", "Family", "Found"]

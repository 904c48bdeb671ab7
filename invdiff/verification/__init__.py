"""Whether this installation computes what it says: operators against their laws, solvers against known posteriors."""

from invdiff.verification.measures import Distance, distance
from invdiff.verification.problems import Known, known
from invdiff.verification.run import Verification, verify

__all__ = ["Distance", "Known", "Verification", "distance", "known", "verify"]

"""Where a registration begins: a matrix from headers, centres or moments; a deformation from a discrete search."""

from .discrete import SEARCHES, deformation
from .start import INITS, modality, start

__all__ = ["INITS", "SEARCHES", "deformation", "modality", "start"]

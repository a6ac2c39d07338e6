"""Where a registration begins: a matrix from headers, centres or moments; a deformation from a discrete search."""

from .discrete import SEARCHES, deformation
from .group import GROUP_INITS, group_start
from .start import INITS, modality, start

__all__ = ["GROUP_INITS", "INITS", "SEARCHES", "deformation", "group_start", "modality", "start"]

"""`none`: what the headers say, the row that every other is compared with.

Imitates: no registration. World coordinates of both images are taken as one, as a viewer overlays them. The plan has a
stage without iterations, whose objective says what the images have in common as they lie.

Must not import: api, io, numba, cupy.
"""

from __future__ import annotations

from ..image import Image
from ..models import linear_stage
from ..planning import Plan
from ..schedule import default_factors
from .base import Baseline


def none(fixed: Image, moving: Image) -> Plan:
    """The identity."""
    coarsest = default_factors(fixed.grid, most=4)[0]
    return Plan("none", "identity", (linear_stage("translation", fixed.grid, {"name": "mi"}, [coarsest], [0]),),
                search="none")


NONE = Baseline(
    name="none", version="1.0",
    imitates="no registration: the images as their headers place them",
    source="none",
    differs="nowhere; it is an error where the images do not overlap at all, which a score of 0 would hide",
    plan=none)

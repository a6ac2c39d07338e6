"""`flirt-mi`: a linear map from coarse to fine by mutual information.

Imitates: FLIRT (FSL), -dof 12 -cost mutualinfo with its default schedule: images at 8, 4, 2 and 1 mm with 32, 64, 128
and 256 bins; up to 7 parameters at 8 mm, then 12. FLIRT's own default cost is the correlation ratio. Jenkinson and
Smith, Medical Image Analysis 2001, doi:10.1016/S1361-8415(01)00036-6; Jenkinson et al., NeuroImage 2002,
doi:10.1006/nimg.2002.1132.

Must not import: api, io, numba, cupy.
"""

from __future__ import annotations

from ..image import Image
from ..models import linear_stage
from ..planning import Plan
from .base import LINEAR, Baseline, levels_of

#: model and resolution in mm of each stage, and bins of the histogram at 1 mm
STAGES, BINS = (("rigid", 8), ("affine", 8), ("affine", 4), ("affine", 2), ("affine", 1)), 256


def flirt(fixed: Image, moving: Image) -> Plan:
    """Six parameters, then twelve; a resolution is that of the image where that is coarser."""
    grid, steps = fixed.grid, []
    for kind, mm in STAGES:
        level = levels_of(grid, (max(1.0, mm / grid.resolution), 1.0), (LINEAR, LINEAR))[0]
        bins = min(BINS, max(BINS // 8, round(BINS / max(1.0, level.factor * grid.resolution))))
        if (kind, level) not in [step[:2] for step in steps]:
            steps.append((kind, level, bins))
    stages = [linear_stage(kind, grid, {"name": "mi", "bins": bins}, [level.factor], [level.iterations])
              for kind, level, bins in steps]
    return Plan("flirt-mi", "auto", tuple(stages), search="none")


FLIRT_MI = Baseline(
    name="flirt-mi", version="1.0",
    imitates="FSL: flirt -dof 12 -cost mutualinfo, images at 8, 4, 2 and 1 mm with 32 to 256 bins",
    source="Jenkinson et al., NeuroImage 2002, doi:10.1006/nimg.2002.1132",
    differs="a contest of four starts in place of a search over angles; a quasi-Newton method in place of Powell's; "
            "6 parameters at first, not 7; the histogram's windows are splines; a resolution finer than the image's is "
            "left out",
    plan=flirt)

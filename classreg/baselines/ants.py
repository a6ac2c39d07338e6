"""`syn` and `syn-mi`: symmetric normalisation.

Imitates: ANTs (Avants et al.). `syn` is antsRegistrationSyN.sh -t s with the radius 4: rigid and affine with mutual
information of 32 bins, 8x4x2x1, from centres of mass; then SyN[0.1,3,0] with CC[4], 100x70x50x20 iterations at 8x4x2x1,
convergence 1e-6 over 10. `syn-mi` is ants.registration(type_of_transform="SyN"): affine with mutual information, then
SyN[0.2,3,0] with Mattes mutual information of 32 bins, 40x20x0 iterations at 4x2x1. Avants et al., Medical Image
Analysis 2008, doi:10.1016/j.media.2007.06.004; Avants et al., NeuroImage 2011, doi:10.1016/j.neuroimage.2010.09.025.

In SyN[step, update, total] both images move to a middle: each of the two fields takes the smoothed gradient (a variance
of 3 voxels), scaled so that its longest vector is `step` voxels. Here both are the two halves of one velocity, which so
takes twice the step. ANTs composes its fields by linear interpolation, which smooths them a little at each step
although the variance of the total field is 0; adding velocities does not, so that a Gaussian of half a voxel stands in
for it (chosen on five pairs of slices, by overlap and deviation of log J).

Must not import: api, io, numba, cupy.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from ..grid import Grid
from ..image import Image
from ..planning import Plan, Stage
from .base import NEVER, Baseline, affine_stages, levels_of

SOURCE = ("Avants et al., Medical Image Analysis 2008, doi:10.1016/j.media.2007.06.004; Avants et al., NeuroImage "
          "2011, doi:10.1016/j.neuroimage.2010.09.025")

DIFFERS = ("both halves of the map belong to one stationary velocity, smoothed by half a voxel, where ANTs composes "
           "two fields and keeps their inverses; linear stages use every voxel and a quasi-Newton method, not a "
           "fifth of the voxels and steepest descent; forces are those of whole windows, not of their centres; "
           "windows are in mm of the finest spacing; intensities are cut off at the percentiles 0.05 and 99.95; a "
           "level gives on its best field, not its last")

#: voxels by which the velocity is smoothed, for what composing fields by linear interpolation does to them
COMPOSING = 0.5


def syn_stage(grid: Grid, metric: dict, step: float, factors: Sequence[float], iterations: Sequence[int]) -> Stage:
    """SyN[step, 3, 0]."""
    return Stage("syn", {"name": "halves"}, metric, {"name": "greedy", "pace": "even", "step": 2 * step,
                                                     "patience": NEVER},
                 levels_of(grid, factors, iterations),
                 ({"name": "gaussian", "sigma": sqrt(3), "acts_on": "update"},
                  {"name": "gaussian", "sigma": COMPOSING, "acts_on": "velocity"}), tolerance=1e-6)


def syn(fixed: Image, moving: Image) -> Plan:
    """antsRegistrationSyN.sh with local correlation."""
    linear = affine_stages(fixed.grid, {"name": "mi", "bins": 32}, (8, 4, 2, 1))
    deformable = syn_stage(fixed.grid, {"name": "lncc", "radius": 4, "flat": 1e-3}, 0.1, (8, 4, 2, 1),
                           (100, 70, 50, 20))
    return Plan("syn", "mass", (*linear, deformable), search="none")


def syn_mi(fixed: Image, moving: Image) -> Plan:
    """ants.registration's SyN."""
    metric = {"name": "mi", "bins": 32}
    linear = affine_stages(fixed.grid, metric, (6, 4, 2, 1), ("affine",))
    return Plan("syn-mi", "mass", (*linear, syn_stage(fixed.grid, metric, 0.2, (4, 2), (40, 20))), search="none")


SYN = Baseline(
    name="syn", version="1.0",
    imitates="ANTs: antsRegistrationSyN.sh -t s, rigid and affine with MI, then SyN[0.1,3,0] with CC of radius 4",
    source=SOURCE, differs=DIFFERS, plan=syn)

SYN_MI = Baseline(
    name="syn-mi", version="1.0",
    imitates="ANTs: ants.registration(type_of_transform='SyN'), affine, then SyN[0.2,3,0] with Mattes MI of 32 bins",
    source=SOURCE, differs=DIFFERS, plan=syn_mi)

"""`demons`: diffeomorphic demons.

Imitates: SimpleITK's DiffeomorphicDemonsRegistrationFilter as its users run it: rigid and affine by mutual information,
then demons with 50 iterations at each of 4x2x1, StandardDeviations 1.5 and SmoothDisplacementField on, the rest at its
defaults (no smoothing of the update, steps of at most half a voxel). Vercauteren et al., NeuroImage 2009,
doi:10.1016/j.neuroimage.2008.10.040; Thirion, Medical Image Analysis 1998, doi:10.1016/S1361-8415(98)80022-4.

A step is -F / (H + damping) at each voxel by itself, F the force of the squared differences and H the squared gradient
of the warped image: the demons' step, but for the squared difference in its denominator, in whose place the cap on the
step keeps it short. It is composed with the field, which is then smoothed by a Gaussian.

Must not import: api, io, numba, cupy.
"""

from __future__ import annotations

from ..image import Image
from ..planning import Plan, Stage
from .base import NEVER, Baseline, affine_stages, levels_of

FACTORS = (4, 2, 1)


def demons(fixed: Image, moving: Image) -> Plan:
    """Rigid and affine, then histogram matching and demons."""
    deformable = Stage(
        "demons", {"name": "dense", "compositive": True}, {"name": "ssd"},
        {"name": "greedy", "pace": "newton", "step": 0.5, "damping": 0.01, "patience": NEVER},
        levels_of(fixed.grid, FACTORS, (50, 50, 50)),
        ({"name": "gaussian", "sigma": 0.0, "acts_on": "update"},
         {"name": "gaussian", "sigma": 1.5, "acts_on": "displacement"}), tolerance=0.0)
    return Plan("demons", "geometry", (*affine_stages(fixed.grid, {"name": "mi", "bins": 50}, FACTORS), deformable),
                search="none", matching=True)


DEMONS = Baseline(
    name="demons", version="1.1",
    imitates="SimpleITK's DiffeomorphicDemonsRegistrationFilter: 50 iterations at each of 4x2x1, StandardDeviations "
             "1.5, after rigid and affine by Mattes MI of 50 bins",
    source="Vercauteren et al., NeuroImage 2009, doi:10.1016/j.neuroimage.2008.10.040",
    differs="the gradient is that of the "
            "warped image, not the mean of both; coarse levels are smoothed by half the shrink factor, not by 2 and "
            "1 mm; a level ends once the value rises, and gives on its best field; linear stages use every voxel and a "
            "quasi-Newton method, not a hundredth of the voxels and steepest descent, which loses its way",
    plan=demons)

"""`niftyreg-f3d`: fast free-form deformation.

Imitates: NiftyReg 1.5 (Modat et al.), reg_aladin and then reg_f3d -aff with its defaults: normalised mutual information
of 64 bins, a lattice of 5 voxels on the finest of 3 levels, bending energy with the weight 0.001 and linear elasticity
with 0.01, up to 600, 300 and 150 iterations of conjugate gradients from coarse to fine. Modat et al., Computer Methods
and Programs in Biomedicine 2010, doi:10.1016/j.cmpb.2009.09.002.

reg_f3d maximises (1 - be - le) NMI - be B - le L. Its B is the mean over control points of all squared second
derivatives along the lattice, in mm and per cell: h^4 times that in world coordinates, and so worth 16 times as much on
a level whose cells h are twice as long; classreg's bending is half the mean in 1 / mm^2. So each level is a stage, with
a weight of 2 h^4 be / (1 - be - le). L is the mean squared strain, which is `elastic` with mu = 1 and lambda = 0.

Must not import: api, io, numba, cupy.
"""

from __future__ import annotations

from ..image import Image
from ..planning import Plan, Stage
from .base import Baseline, affine_stages, levels_of

CELL, BENDING, ELASTIC = 5, 0.001, 0.01

FACTORS = (4, 2, 1)


def f3d(fixed: Image, moving: Image) -> Plan:
    """Affine by local correlation, then a lattice that is halved from level to level."""
    share, stages = 1 - BENDING - ELASTIC, []
    for level in levels_of(fixed.grid, FACTORS, (600, 300, 150)):
        cell = CELL * level.factor * fixed.grid.resolution
        stages.append(Stage(
            f"f3d {level.factor}x", {"name": "bspline", "spacing": cell}, {"name": "nmi", "bins": 64},
            {"name": "lbfgs"}, (level,),
            ({"name": "bending", "weight": 2 * cell**4 * BENDING / share},
             {"name": "elastic", "weight": ELASTIC / share, "shear": 1.0, "dilation": 0.0})))
    linear = affine_stages(fixed.grid, {"name": "lncc", "radius": 2}, FACTORS)
    return Plan("niftyreg-f3d", "geometry", (*linear, *stages), search="none")


F3D = Baseline(
    name="niftyreg-f3d", version="1.0",
    imitates="NiftyReg: reg_aladin, then reg_f3d with its defaults: NMI of 64 bins, a lattice of 5 voxels, 3 levels, "
             "-be 0.001 -le 0.01",
    source="Modat et al., Computer Methods and Programs in Biomedicine 2010, doi:10.1016/j.cmpb.2009.09.002",
    differs="the affine is found by local correlation, not by matching blocks; cells are 5 of the finest spacing along "
            "all axes, where NiftyReg has 5 voxels of each; a quasi-Newton method in place of conjugate gradients; "
            "energies are exact integrals, not sums over control points, and strain keeps what small rotations add",
    plan=f3d)

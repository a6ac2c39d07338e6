"""`greedy`: the greedy diffeomorphic registration of brains by local correlation.

Imitates: greedy 1.3 and 1.4 (Yushkevich), `-a -dof 12 -m WNCC 2x2x2 -ia-image-centers -n 100x50x10`, then
`-it affine -m WNCC 2x2x2 -n 100x50x10` with its defaults `-s 1.732vox 0.7071vox -e 1.0 -tscale SCALE`. Yushkevich et
al., Alzheimer's & Dementia 2016, doi:10.1016/j.jalz.2016.06.205.

A level has factors 4, 2, 1 of the voxel. Each step is the gradient of the local correlation in windows of 5 voxels a
side, smoothed by a Gaussian of 1.732 voxels and scaled so that its longest vector is one voxel; it is composed with the
field, which is then smoothed by 0.7071 voxel. The affine is found with the same metric from aligned image centres.

Must not import: api, io, numba, cupy.
"""

from __future__ import annotations

from ..image import Image
from ..planning import Plan, Stage
from .base import NEVER, Baseline, affine_stages, levels_of

FACTORS, ITERATIONS = (4, 2, 1), (100, 50, 10)

#: variance, of images with unit variance, below which structure is noise; greedy adds noise
#: to the images instead (chosen on five pairs of slices, by overlap and deviation of log J)
FLAT = 0.02


def greedy(fixed: Image, moving: Image) -> Plan:
    """Affine by local correlation, then composed steps of one voxel."""
    metric = {"name": "lncc", "radius": 2, "flat": FLAT}
    deformable = Stage(
        "greedy", {"name": "dense", "compositive": True}, metric,
        {"name": "greedy", "pace": "even", "step": 1.0, "patience": NEVER},
        levels_of(fixed.grid, FACTORS, ITERATIONS),
        ({"name": "gaussian", "sigma": 1.732, "acts_on": "update"},
         {"name": "gaussian", "sigma": 0.7071, "acts_on": "displacement"}), tolerance=0.0)
    return Plan("greedy", "geometry", (*affine_stages(fixed.grid, metric, FACTORS, ("affine",)), deformable),
                search="none")


GREEDY = Baseline(
    name="greedy", version="1.0",
    imitates="greedy (picsl_greedy): -a -dof 12 and deformable, -m WNCC 2x2x2 -n 100x50x10; -s 1.732vox 0.7071vox",
    source="Yushkevich et al., Alzheimer's & Dementia 2016, doi:10.1016/j.jalz.2016.06.205",
    differs="levels grow toward isotropic where greedy shrinks every axis; windows and widths are in mm of the finest "
            "spacing, not in voxels of each axis; windows without structure are damped, where greedy adds noise to "
            "both images; the affine is found without jitter; a level ends once the value rises, and gives on its best "
            "field",
    plan=greedy)

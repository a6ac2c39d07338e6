"""Gaussian smoothing of the update ("fluid") or of the whole field ("elastic").

The Green's function of an infinite sum of powers of the Laplacian; it has no energy, only `smooth`.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..bounds import number
from ..grid import Grid
from ..stencil import smooth
from .base import check_acts_on


class Gaussian:
    """A Gaussian whose width follows the resolution of the level.

    Parameters
    ----------
    sigma : float
        Standard deviation in units of the level's resolution (its finest spacing in mm), isotropic in mm;
        0 to 1000.
    acts_on : {"update", "displacement", "velocity"}
        What is smoothed.
    """

    def __init__(self, sigma: float = 1.0, acts_on: str = "update"):
        check_acts_on("gaussian", acts_on)
        self.sigma, self.acts_on = number("gaussian: sigma", sigma, 0, most=1000), acts_on

    def smooth(self, field: np.ndarray, grid: Grid, out: np.ndarray) -> np.ndarray:
        """The field (d, z, y, x) on `grid`, smoothed into `out`."""
        return smooth(field, self.sigma * grid.resolution / grid.spacing3, out)

"""Rigidity of a region (a bone, an implant): how far the map's Jacobian is from a rotation there. No unit.

    weight * mean over the region of  1/4 |J^T J - 1|^2,     J = d phi / d x = A (1 + grad u)

It is 0 where J turns and does nothing else (a mirrored region would cost nothing either, but lies beyond a fold). To
first order it is the squared strain, 1/4 |grad u + grad u^T|^2, but unlike that it does not grow with the angle of a
turn. The orthonormality condition of Staring et al., Medical Physics 2007, doi:10.1118/1.2776236.

Must not import: optimisers, engine, numba, cupy, file libraries.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..bounds import number
from ..errors import InputError
from ..grid import Grid
from ..image import Image
from ..kernels.cpu import slopes as kernels
from ..regularisers.base import Where


class Rigidity:
    """A region that is to move rigidly.

    Parameters
    ----------
    region : Image
        1 inside and 0 outside, in the space of the fixed image; weights between them are allowed. Parts of it turn and
        shift together if they touch.
    weight : float
    """

    acts_on = "displacement"

    def __init__(self, region: Image, weight: float = 1.0):
        self.region, self.weight = Where(region, "rigidity"), number("rigidity: weight", weight, 0)
        if not self.region.image.array.any():
            raise InputError("rigidity: the region is empty; give an image that is 1 where the map is to be rigid")

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return self.region.image.grid.ndim

    def prepare(self, grid: Grid, dtype=np.float32) -> None:
        """Take the fixed grid of a level."""
        self._grid = grid

    def __call__(self, theta: np.ndarray, transform) -> tuple[float, np.ndarray | None]:
        """Value, and gradient in the tangent."""
        d = self._grid.ndim
        if hasattr(transform, "tangent"):  # one J everywhere
            a = transform.matrix(theta)[:d, :d]
            strain = a.T @ a - np.eye(d)
            pull = np.einsum("pij,ij->p", transform.tangent(theta)[:, :d, :d], self.weight * a @ strain)
            return float(self.weight / 4 * np.sum(strain**2)), pull
        field = transform.displacement(theta)
        slopes = transform.slopes(field, self._grid)
        region = self.region.at(slopes.points, field.dtype)
        share = float(np.mean(region, dtype=np.float64))
        if share == 0:  # too small for the points of this level
            return 0.0, None
        metric = np.zeros((3, 3))
        metric[:d, :d] = transform.matrix[:d, :d].T @ transform.matrix[:d, :d]
        value, gradient = slopes.density(field, kernels.rigidity, metric, self.weight / share, where=region,
                                         name="rigidity gradient")
        if gradient is not None and getattr(transform, "compositive", False):
            out = workspace().buffer("rigidity tangent", field.shape, field.dtype)
            gradient = transform.to_tangent(field, gradient, out)
        return value, gradient

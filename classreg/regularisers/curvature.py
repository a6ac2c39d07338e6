"""Curvature: half the mean of the squared Laplacian of every component, in 1 / mm^2.

    1/2 mean of sum_k (Laplacian u_k)^2;  affine fields cost nothing, nor do harmonic ones, where `bending` differs.

Dense fields leave the second difference across the border out. Fischer and Modersitzki, J. Math. Imaging Vis. 2003,
doi:10.1023/A:1021897212261.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..grid import Grid
from ..image import Image
from .base import Energy, cosine_filter
from .quadratic import VALUE, each_component, long_axes, quadratic


class Curvature(Energy):
    """Half the mean squared Laplacian, times `weight` (mm^2); or with `sigma`, a filter (1 + (sigma^2 / 2 L)^2)^-1."""

    quadratic = True

    def __init__(self, weight: float = 1.0, where: Image | None = None, sigma: float | None = None,
                 acts_on: str = "displacement"):
        super().__init__(weight, where, sigma, acts_on)

    def __call__(self, theta: np.ndarray, read) -> tuple[float, np.ndarray]:
        """Value and gradient in the coefficients."""
        if self.reads == "slopes":
            return read.laplacian(theta, self.weight, self.weights(read, theta.dtype), self.name)
        axes, terms = long_axes(theta), []
        for a in axes:  # (sum of second derivatives)^2, its cross terms in both orders
            for b in axes:
                orders = {a: (2, 2)} if a == b else {a: (2, 0), b: (0, 2)}
                terms.append((self.weight, tuple(orders.get(k, VALUE) for k in range(3))))
        return quadratic(theta, read, each_component(theta, terms), self.name)

    def smooth(self, field: np.ndarray, grid: Grid, out: np.ndarray) -> np.ndarray:
        """The field (d, z, y, x) on `grid`, smoothed into `out`."""
        return cosine_filter(field, grid, self.sigma, 2, out)

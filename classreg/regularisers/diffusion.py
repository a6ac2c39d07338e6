"""Diffusion: half the mean of |grad u|^2 (no unit; u and x in mm). Fischer and Modersitzki, 1999.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..grid import Grid
from ..image import Image
from ..kernels.cpu import slopes as kernels
from .base import Energy, cosine_filter
from .quadratic import VALUE, each_component, long_axes, quadratic


class Diffusion(Energy):
    """Half the mean squared gradient, times `weight`; or with `sigma`, a filter (1 - sigma^2 / 2 Laplacian)^-1."""

    quadratic = True

    def __init__(self, weight: float = 1.0, where: Image | None = None, sigma: float | None = None,
                 acts_on: str = "displacement"):
        super().__init__(weight, where, sigma, acts_on)

    def __call__(self, theta: np.ndarray, read) -> tuple[float, np.ndarray]:
        """Value and gradient in the coefficients."""
        if self.reads == "slopes":
            return read.density(theta, kernels.quadratic, self.weight, 0.0, 0.0,
                                where=self.weights(read, theta.dtype), name=self.name)
        terms = [(self.weight, tuple((1, 1) if i == k else VALUE for i in range(3))) for k in long_axes(theta)]
        return quadratic(theta, read, each_component(theta, terms), self.name)

    def smooth(self, field: np.ndarray, grid: Grid, out: np.ndarray) -> np.ndarray:
        """The field (d, z, y, x) on `grid`, smoothed into `out`."""
        return cosine_filter(field, grid, self.sigma, 1, out)

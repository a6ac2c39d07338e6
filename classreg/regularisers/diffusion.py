"""Diffusion: half the mean of |grad u|^2 (no unit; u and x in mm). Fischer and Modersitzki, 1999.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from .quadratic import quadratic


class Diffusion:
    """Half the mean squared gradient of the displacement, times `weight`."""

    acts_on = "displacement"
    reads = "grams"
    quadratic = True

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, theta: np.ndarray, grams) -> tuple[float, np.ndarray]:
        """Value and gradient in the coefficients."""
        axes = [k for k in range(3) if theta.shape[k + 1] > 1]
        terms = [(self.weight, tuple(int(i == k) for i in range(3))) for k in axes]
        return quadratic(theta, grams, terms, "diffusion gradient")

"""Sum of squared differences, as a weighted mean:  E = 1/2 sum w (M - F)^2 / sum w,   dE/dM = w (M - F) / sum w.

For images whose intensities mean the same; each is normalised on its own before.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from .base import Metric, adjoint_buffer, combine, moments


class SSD(Metric):
    """Mean of half the squared difference."""

    zero = 1e-9
    symmetric = True

    def __call__(self, warped: np.ndarray, weight: np.ndarray):
        """Value and adjoint."""
        value, adjoint = 0.0, adjoint_buffer(warped)
        for f, m, out in zip(self.fixed, warped, adjoint):
            n, _, _, ff, mm, fm = moments(f, m, weight)
            n = max(n, 1e-12) * len(warped)
            value += 0.5 * (ff + mm - 2 * fm) / n
            combine(f, m, weight, -1 / n, 1 / n, 0, out)
        return value, adjoint

    def curvature(self, warped: np.ndarray, weight: np.ndarray):
        """Weight over its sum, the exact Hessian in the warped values; one channel for all."""
        scale = 1 / (max(float(weight.sum(dtype=np.float64)), 1e-12) * len(warped))
        out = workspace().buffer("ssd curvature", (1, *weight.shape), weight.dtype)
        return np.multiply(weight, weight.dtype.type(scale), out=out), None

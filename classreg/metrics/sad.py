"""Smoothed sum of absolute differences (Charbonnier), as a weighted mean: with r = M - F,

    E = sum w (sqrt(r^2 + delta^2) - delta) / sum w,       dE/dM = w r / sqrt(r^2 + delta^2) / sum w.

Near r = 0 this is r^2 / (2 delta), far away |r| - delta: what only one image has, such as a lesion or an implant, pulls
no harder the brighter it is. The curvature is that of iteratively reweighted least squares, w / sqrt(r^2 + delta^2) /
sum w: the parabola with it touches E and lies above it. Source: Charbonnier et al., IEEE TIP 1997,
doi:10.1109/83.551699.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..bounds import number
from ..kernels.cpu import pointwise
from .base import Metric, adjoint_buffer


class SAD(Metric):
    """Mean smoothed absolute difference, mean over channels.

    Parameters
    ----------
    delta : float
        Difference at which the square turns into the absolute value, in deviations of the normalised images; above 0.
    """

    zero = 1e-9
    symmetric = True

    def __init__(self, delta: float = 0.1):
        self.delta = number("sad: delta", delta)

    def __call__(self, warped: np.ndarray, weight: np.ndarray):
        """Value and adjoint."""
        ws, value, adjoint = workspace(), 0.0, adjoint_buffer(warped)
        for f, m, out in zip(self.fixed, warped, adjoint):
            n, total = ws.total(pointwise.charbonnier, len(f), 2, f, m, weight, self.delta)
            n = max(n, 1e-12) * len(warped)
            value += total / n
            ws.run(pointwise.charbonnier_adjoint, len(f), f, m, weight, self.delta, 1 / n, out)
        return float(value), adjoint

    def curvature(self, warped: np.ndarray, weight: np.ndarray):
        """Of iteratively reweighted least squares, (C, z, y, x)."""
        ws, h = workspace(), workspace().buffer("sad curvature", warped.shape, warped.dtype)
        scale = 1 / (max(float(weight.sum(dtype=np.float64)), 1e-12) * len(warped))
        for f, m, out in zip(self.fixed, warped, h):
            ws.run(pointwise.charbonnier_curvature, len(f), f, m, weight, self.delta, scale, out)
        return h, None

"""Mutual information with a Parzen window, a hat on the fixed image and a cubic B-spline on the moving one, negated:

    P(a, b) = sum w hat(xi_F - a) beta(xi_M - b) / sum w,     E = -sum P log(P / (P_F P_M)),
    dE/dM = -w / (n h) sum_ab hat(xi_F - a) beta'(xi_M - b) log(P / (P_F P_M)).

Bin ranges are fixed when the level is prepared (the images are normalised and clipped before), so value and gradient
agree. Source: Mattes et al., IEEE TMI 2003, doi:10.1109/TMI.2003.809072; Thevenaz and Unser, IEEE TIP 2000.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

from numbers import Integral

import numpy as np

from ..backend import workspace
from ..errors import OptionError
from ..kernels.cpu import histogram
from .base import Metric, adjoint_buffer

#: bins left free at each end of a table, so that the window's four taps fit
PAD = 2

#: samples in a bin below which its neighbours' differences say nothing
FEWEST = 30


class MutualInformation(Metric):
    """Minus the mutual information in nats, mean over channels.

    Parameters
    ----------
    bins : int
        Histogram bins per image, 4 to 256.
    """

    def __init__(self, bins: int = 32):
        if not (isinstance(bins, Integral) and 4 <= bins <= 256):
            raise OptionError(f"mi: bins must be a whole number, at least 4 bins and at most 256, got {bins!r}")
        self.bins = int(bins)

    def prepare(self, fixed: np.ndarray, moving: np.ndarray, grid) -> None:
        """Take the fixed data; fix the bin ranges of both images for the level."""
        super().prepare(fixed, moving, grid)
        self.ranges = [(_range(f), _range(m)) for f, m in zip(fixed, moving)]

    def __call__(self, warped: np.ndarray, weight: np.ndarray):
        """Value and adjoint."""
        ws, value, adjoint = workspace(), 0.0, adjoint_buffer(warped)
        self._tables = []
        size = self.bins + 2 * PAD
        slab = max(1, -(-len(weight) // 32))
        tables = np.empty((-(-len(weight) // slab), size, size))
        for f, m, out, limits in zip(self.fixed, warped, adjoint, self.ranges):
            origin, scale = np.array([self._bins(r) for r in limits]).T.copy()
            tables[:] = 0
            ws.run(histogram.joint, len(f), f, m, weight, origin, scale, tables, slab=slab)
            table = tables.sum(axis=0)
            n = max(table.sum(), 1e-12)
            p = table / n
            pf, pm = p.sum(1, keepdims=True), p.sum(0, keepdims=True)
            with np.errstate(divide="ignore", invalid="ignore"):
                score = np.where(p > 0, np.log(p / (pf * pm)), 0.0)
            self._tables.append((p, n))
            value -= float((p * score).sum()) / len(warped)
            ws.run(histogram.joint_adjoint, len(f), f, m, weight, origin, scale, score / (-n * len(warped)), out)
        return value, adjoint

    def curvature(self, warped: np.ndarray, weight: np.ndarray):
        """Fisher information on an intensity of the warped image, given the fixed one, of the last call's histogram.

        I(m) = sum over f of (d P(f|m) / dm)^2 / P(f|m): what Fisher scoring takes for the second derivative of
        -log P(f|m). Where f = g(m) + noise it is g'^2 / variance, the curvature of least squares. (C, z, y, x).
        """
        out = workspace().buffer("mi curvature", warped.shape, warped.dtype)
        for m, h, limits, (p, n) in zip(warped, out, self.ranges, self._tables):
            origin, scale = self._bins(limits[1])
            seen = p.sum(0)
            given = p / np.maximum(seen, 1e-12)
            slope = np.gradient(given, axis=1)
            information = (slope**2 / np.maximum(given, 1e-3)).sum(0) * (seen * n > FEWEST)
            workspace().run(histogram.look_up, len(m), m, weight, origin, scale,
                            information * scale**2 / (n * len(warped)), h)
        return out, None

    def _bins(self, limits):
        """Origin and scale of bin positions."""
        scale = (self.bins - 1) / (limits[1] - limits[0])
        return PAD - limits[0] * scale, scale


def _range(values):
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)

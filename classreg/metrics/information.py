"""Mutual information and its normalised form, from a joint histogram P with Parzen windows, both negated.

    P(a, b) = sum w window(xi_F - a) beta(xi_M - b) / sum w,     H = -sum P log P, of F, M or both,
    mi    E = -(H_F + H_M - H_FM) = -sum P log(P / (P_F P_M)),   nmi   E = 1 - (H_F + H_M) / H_FM,
    dE/dM = -w / (n h) sum_ab window(xi_F - a) beta'(xi_M - b) score(a, b),
    mi    score = log(P / (P_F P_M)),    nmi   score = (Y log P - log P_F - log P_M) / H_FM,   Y = (H_F + H_M) / H_FM.

beta is the cubic B-spline; the fixed image has a hat (linear B-spline) or a box (zero-order B-spline), which Mattes
takes: the value is then not smooth in F, but F does not move, so the derivative is exact with either. Bin ranges are
fixed when the level is prepared (the images are normalised and clipped before), so value and gradient agree.
Of a pair, where both images move, both windows are cubic B-splines: neither image is preferred. Source: Mattes et al.,
IEEE TMI 2003, doi:10.1109/TMI.2003.809072; Thevenaz and Unser, IEEE TIP 2000; nmi: Studholme et al., Pattern
Recognition 1999, doi:10.1016/S0031-3203(98)00091-0.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..bounds import whole
from ..errors import unknown
from ..kernels.cpu import histogram, histogram_pair
from .base import Metric, adjoint_buffer, joint_weight

#: bins left free at each end of a table, so that the window's four taps fit
PAD = 2

#: samples in a bin below which its neighbours' differences say nothing
FEWEST = 30


#: windows of the fixed image, and how many bins each covers
WINDOWS = {"hat": 2, "box": 1}


class MutualInformation(Metric):
    """Minus the mutual information in nats, mean over channels.

    Parameters
    ----------
    bins : int
        Histogram bins per image, 4 to 256.
    window : {"hat", "box"}
        Parzen window of the fixed image: linear B-spline, or zero-order B-spline (Mattes), which is cheaper.
    """

    name = "mi"
    symmetric = True

    def __init__(self, bins: int = 32, window: str = "hat"):
        self.bins = whole(f"{self.name}: bins", bins, 4, 256)
        if window not in WINDOWS:
            raise unknown(f"window of {self.name}", window, WINDOWS)
        self.window = window

    def prepare(self, fixed: np.ndarray, moving: np.ndarray, grid) -> None:
        """Take the fixed data; fix the bin ranges of both images for the level."""
        super().prepare(fixed, moving, grid)
        self.ranges = [(range_of(f), range_of(m)) for f, m in zip(fixed, moving)]

    def __call__(self, warped: np.ndarray, weight: np.ndarray):
        """Value and adjoint."""
        value, adjoint, rows = 0.0, adjoint_buffer(warped), WINDOWS[self.window]
        self._tables = []
        for f, m, out, limits in zip(self.fixed, warped, adjoint, self.ranges):
            found, score, bins = self._look(histogram.joint, f, m, weight, limits, rows)
            value -= found / len(warped)
            workspace().run(histogram.joint_adjoint, len(f), f, m, weight, *bins, rows, score / -len(warped), out)
        return value, adjoint

    def pair(self, a: np.ndarray, b: np.ndarray, weight_a: np.ndarray, weight_b: np.ndarray):
        """Value and both adjoints; the bin ranges are those of `prepare`, in its order of images."""
        ws, value, weight = workspace(), 0.0, joint_weight(weight_a, weight_b)
        adjoint_a, adjoint_b = adjoint_buffer(a), ws.buffer("adjoint b", b.shape, b.dtype)
        self._tables = []
        for f, m, out, other, limits in zip(a, b, adjoint_a, adjoint_b, self.ranges):
            found, score, bins = self._look(histogram_pair.joint_pair, f, m, weight, limits)
            value -= found / len(a)
            ws.run(histogram_pair.joint_pair_adjoint, len(f), f, m, weight, *bins, score / -len(a), out, other)
        return value, adjoint_a, adjoint_b

    def _look(self, kernel, f, m, weight, limits, *rows):
        """What a channel shares, its derivative by the table, origins and scales of the bins; keeps the table."""
        size, slab = table_size(self.bins), table_slab(len(weight))
        origin, scale = np.array([bins_of(r, self.bins) for r in limits]).T.copy()
        tables = np.zeros((-(-len(weight) // slab), size, size))
        workspace().run(kernel, len(f), f, m, weight, origin, scale, *rows, tables, slab=slab)
        table = tables.sum(axis=0)
        n = max(table.sum(), 1e-12)
        found, score, factor = self.score(table / n)
        self._tables.append((table / n, n, factor))
        return found, score / n, (origin, scale)

    def score(self, p: np.ndarray):
        """Of a joint histogram: what it shares, the derivative of that by P, and the share of log P(F|M) in it."""
        with np.errstate(divide="ignore", invalid="ignore"):
            score = np.where(p > 0, np.log(p / (p.sum(1, keepdims=True) * p.sum(0, keepdims=True))), 0.0)
        return float((p * score).sum()), score, 1.0

    def curvature(self, warped: np.ndarray, weight: np.ndarray):
        """Fisher information on an intensity of the warped image, given the fixed one, of the last call's histogram.

        I(m) = sum over f of (d P(f|m) / dm)^2 / P(f|m): what Fisher scoring takes for the second derivative of
        -log P(f|m). Where f = g(m) + noise it is g'^2 / variance, the curvature of least squares. (C, z, y, x).
        """
        tables = [(*table, limits[1]) for table, limits in zip(self._tables, self.ranges)]
        return self._fisher(warped, weight, tables, "mi curvature"), None

    def pair_curvature(self, a: np.ndarray, b: np.ndarray, weight_a: np.ndarray, weight_b: np.ndarray):
        """The same of the last `pair`, on either image given the other."""
        weight, found = joint_weight(weight_a, weight_b), list(zip(self._tables, self.ranges))
        of_a = [(p.T, n, factor, limits[0]) for (p, n, factor), limits in found]
        of_b = [(p, n, factor, limits[1]) for (p, n, factor), limits in found]
        return self._fisher(a, weight, of_a, "mi curvature a"), self._fisher(b, weight, of_b, "mi curvature b")

    def _fisher(self, warped, weight, tables, name):
        """Information on intensities along the columns of each channel's (table, count, factor, range)."""
        out = workspace().buffer(name, warped.shape, warped.dtype)
        for m, h, (p, n, factor, limits) in zip(warped, out, tables):
            origin, scale = bins_of(limits, self.bins)
            workspace().run(histogram.look_up, len(m), m, weight, origin, scale,
                            information(p, n) * scale**2 * factor / (n * len(warped)), h)
        return out


class NormalisedMutualInformation(MutualInformation):
    """One minus the normalised mutual information (H_F + H_M) / H_FM, mean over channels: from 0 down to -1.

    Parameters
    ----------
    bins, window
        As for `MutualInformation`.
    """

    name = "nmi"

    def score(self, p: np.ndarray):
        """Of a joint histogram: (H_F + H_M) / H_FM - 1, its derivative by P, and the share of log P(F|M) in that."""
        def log(q):
            return np.log(q, out=np.zeros_like(q), where=q > 0)

        both, of_f, of_m = log(p), log(p.sum(1, keepdims=True)), log(p.sum(0, keepdims=True))
        joint = -float((p * both).sum())
        if joint <= 0:  # no weight
            return 0.0, np.zeros_like(p), 1.0
        y = -float((p * (of_f + of_m)).sum()) / joint
        return y - 1, np.where(p > 0, y * both - of_f - of_m, 0.0) / joint, y / joint


def information(p: np.ndarray, n: float) -> np.ndarray:
    """Fisher information on the variable of the columns, per bin squared, of shares (rows, columns) of n samples."""
    seen = p.sum(0)
    given = p / np.maximum(seen, 1e-12)
    slope = np.gradient(given, axis=1)
    return (slope**2 / np.maximum(given, 1e-3)).sum(0) * (seen * n > FEWEST)


def range_of(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest value; of a constant image half a unit to either side."""
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def bins_of(limits: tuple[float, float], bins: int) -> tuple[float, float]:
    """Origin and scale of bin positions."""
    scale = (bins - 1) / (limits[1] - limits[0])
    return PAD - limits[0] * scale, scale


def table_size(bins: int) -> int:
    """Entries of a table along an axis."""
    return bins + 2 * PAD


def table_slab(planes: int) -> int:
    """Planes that share a table."""
    return max(1, -(-planes // 32))

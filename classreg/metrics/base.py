"""What metrics share: the fixed data of a level, and the pass that every moment-based metric makes.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..image import Image
from ..kernels.cpu import pointwise


class Metric:
    """Base of the metrics: keeps the fixed data of the level."""

    #: whether neighbourhoods are needed, so that samples cannot be drawn at random
    dense = False
    #: whether `pair` is there and the order of the two images does not matter
    symmetric = False
    #: values up to here cannot be told from those of identical images: nothing is left to do
    zero = -np.inf

    def describe(self, image: Image) -> Image:
        """What is warped instead of the image: the image itself."""
        return image

    def prepare(self, fixed: np.ndarray, moving: np.ndarray, grid) -> None:
        """Take the fixed data (channels, z, y, x) on `grid`, and see the moving data once (ranges, scales)."""
        self.fixed = fixed

    def take(self, fixed: np.ndarray) -> None:
        """Take the fixed data at other samples (channels, z, y, x); ranges and scales stay those of the level."""
        self.fixed = fixed

    def pair(self, a: np.ndarray, b: np.ndarray, weight_a: np.ndarray, weight_b: np.ndarray):
        """Value of two warped images and the adjoint of each; what counts is the product of their weights.

        For values that do not mind which image is called fixed: the adjoint of each is that of a call where it is the
        warped one. Arrays live until the next evaluation.
        """
        weight = joint_weight(weight_a, weight_b)
        self.fixed = a
        value, adjoint = self(b, weight)
        adjoint_b = workspace().buffer("adjoint b", b.shape, b.dtype)
        np.copyto(adjoint_b, adjoint)
        self.fixed = b
        return value, self(a, weight)[1], adjoint_b

    def pair_curvature(self, a: np.ndarray, b: np.ndarray, weight_a: np.ndarray, weight_b: np.ndarray):
        """The curvature in each image after `pair`, (C, z, y, x) each; for metrics with a curvature."""
        weight = joint_weight(weight_a, weight_b)
        self.fixed = b
        curvature_a = self.curvature(a, weight)[0]
        self.fixed = a
        with workspace().named("pair "):  # the first one must stay
            return curvature_a, self.curvature(b, weight)[0]


def joint_weight(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product of two weights; lives until the next evaluation."""
    return np.multiply(a, b, out=workspace().buffer("pair weight", a.shape, a.dtype))


def moments(fixed: np.ndarray, warped: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted sums of 1, F, M, FF, MM, FM of one channel (z, y, x), float64."""
    return workspace().total(pointwise.moments, fixed.shape[0], 6, fixed, warped, weight)


def combine(fixed: np.ndarray, warped: np.ndarray, weight: np.ndarray, a: float, b: float, c: float, out: np.ndarray):
    """out = weight (a F + b M + c), one channel."""
    workspace().run(pointwise.combine, fixed.shape[0], fixed, warped, weight, float(a), float(b), float(c), out)
    return out


def adjoint_buffer(warped: np.ndarray) -> np.ndarray:
    """Where metrics write d value / d warped; lives until the next evaluation."""
    return workspace().buffer("adjoint", warped.shape, warped.dtype)


def centred(sums: np.ndarray):
    """n, means and central second moments (sums) from raw sums."""
    n, f, m, ff, mm, fm = sums
    safe = max(n, 1e-12)
    return n, f / safe, m / safe, ff - f * f / safe, mm - m * m / safe, fm - f * m / safe


def unit_curvature(fixed: np.ndarray, warped: np.ndarray, weight: np.ndarray, scale: float = 1.0):
    """Curvature of scale / 2 times the squared distance of m / |m| from a constant, m = M - mean M, mean over channels.

    (C, z, y, x), and what to deflate with: per channel its mean and m itself, (2 C * C, z, y, x); both live until the
    next evaluation.
    """
    ws, k = workspace(), len(warped)
    h = ws.buffer("unit curvature", warped.shape, warped.dtype)
    directions = ws.buffer("unit directions", (2, k, *warped.shape), warped.dtype)
    h[...], directions[...] = 0, 0
    for c, (f, m) in enumerate(zip(fixed, warped)):
        n, _, mean_m, _, mm, _ = centred(moments(f, m, weight))
        if mm <= 1e-9 * n or n <= 0:
            continue
        combine(f, m, weight, 0, 0, scale / (k * mm), h[c])
        combine(f, m, weight, 0, 0, np.sqrt(scale / (k * mm * n)), directions[0, c, c])
        a = np.sqrt(scale / k) / mm
        combine(f, m, weight, 0, a, -a * mean_m, directions[1, c, c])
    return h, directions.reshape(-1, *warped.shape[1:])

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

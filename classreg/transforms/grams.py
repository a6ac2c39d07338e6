"""What quadratic energies read off a transform: Gram matrices along each axis, and how the axes lie.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..grid import Grid
from ..spline import Band


@dataclass(frozen=True, eq=False)
class Grams:
    """Inner products of derivatives of the basis, a product of three one-dimensional ones.

    Attributes
    ----------
    axes : per axis z, y, x, a function (r, s) -> Band
        The Gram matrix of r-th with s-th derivatives (mm): b . G c is a mean over the axis.
    frame : array, (d, d)
        E: unit vectors of the last d array axes, in columns; world components x, y[, z] in rows.
    """

    axes: tuple[Callable[[int, int], Band], ...]
    frame: np.ndarray
    _diagonals: dict = field(default_factory=dict, repr=False)

    def diagonals(self, axis: int, kinds, n: int, dtype) -> np.ndarray:
        """Diagonals (see `Band.diagonals`) for some pairs of orders along an axis of n coefficients, (pairs, 7, n)."""
        key = axis, tuple(kinds), dtype
        if key not in self._diagonals:
            found = [self.axes[axis](*orders).diagonals for orders in kinds]
            self._diagonals[key] = np.stack(found or np.zeros((1, 7, n))).astype(dtype)
        return self._diagonals[key]


def frame_of(grid: Grid) -> np.ndarray:
    """E of a grid."""
    return np.ascontiguousarray(grid.axes)

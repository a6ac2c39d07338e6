"""What quadratic energies read off a transform: Gram matrices along each axis, and how the axes lie.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


def frame_of(grid: Grid) -> np.ndarray:
    """E of a grid."""
    return np.ascontiguousarray(grid.axes)

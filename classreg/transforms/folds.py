"""Where a spline lattice may fold: a lower bound of its Jacobian determinant over whole cells, not at samples alone.

On a cell, each derivative of a B-spline lies between the smallest and the largest of its coefficients, which are
differences of control points. With F the middles of these intervals, and g half their lengths,
    |det(F + x) - det F|  <=  sum |cofactor of F| g + products of two and three columns of F and g,   |x| <= g.
Cells for which that leaves a positive determinant cannot fold; the others are halved, which is exact, and looked at
again. D[:, a] is the derivative of u along array axis a in mm, E holds the axes' unit vectors, J = det(E + D) / det(E).

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..backend import workspace
from ..kernels.cpu import folds as kernels

#: a cell is halved at most this often
DEPTH = 5

#: cells whose control points are copied together
CHUNK = 1 << 14


def suspects(theta: np.ndarray, sizes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Cells in which a fold is not ruled out, or is there.

    Parameters
    ----------
    theta : array, (d, *lattice)
        Control points in mm, over the last d axes.
    sizes : array, (d,)
        Length of a cell along those axes, mm.
    frame : array, (d, d)
        Their unit vectors in world space, in columns.

    Returns
    -------
    array of bool, (*cells)
    """
    out = ~gentle(theta, sizes, frame)
    where = np.argwhere(out)
    d = len(theta)
    windows = sliding_window_view(theta, (4,) * d, axis=tuple(range(1, d + 1)))
    for start in range(0, len(where), CHUNK):
        some = tuple(where[start:start + CHUNK].T)
        out[some] = least_determinants(np.moveaxis(windows[(slice(None), *some)], 0, 1), sizes, frame) <= 0
    return out


def least_determinants(boxes: np.ndarray, sizes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """A lower bound of J on each cell, (n,); `boxes` (n, d, 4, .., 4) are the control points around each, in mm."""
    n, d = boxes.shape[:2]
    boxes = np.ascontiguousarray(boxes, np.float64).reshape(n, d, -1, 4, 4)
    out = np.empty(n)
    workspace().run(kernels.least, n, boxes, np.asarray(sizes, float), np.asarray(frame, float), DEPTH, out, slab=512)
    return out


def gentle(theta: np.ndarray, sizes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Cells that cannot fold because the rows of E^-1 D sum to less than one, (*cells) bool."""
    d = len(theta)
    turned = np.einsum("ij,j...->i...", np.linalg.inv(frame), theta)
    total = 0.0
    for a in range(d):
        slope = np.abs(np.diff(turned, axis=1 + a)) / sizes[a]
        for b in range(d):
            slope = sliding_window_view(slope, 3 if a == b else 4, axis=1 + b).max(-1)
        total = total + slope
    return total.max(0) < 1

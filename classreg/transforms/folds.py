"""Where a spline lattice may fold: a lower bound of its Jacobian determinant over whole cells, not at samples alone.

On a cell the determinant is a polynomial of degree 3 d - 1 along each axis, so its Bernstein coefficients bound it from
below, closely, and more closely on halves of the cell. Cells in which the rows of E^-1 D sum to less than one, by
the extremes of the coefficients, need no look. D[:, a] is the derivative of u along array axis a in mm, E holds the
axes' unit vectors. Source: Farin, Curves and Surfaces for CAGD, 2002 (the convex hull property).

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..backend import workspace
from ..kernels.cpu import folds as kernels
from ..spline import basis, refine_band

#: a cell is halved at most this often
DEPTH = 3

#: cells looked at together
CHUNK = 1 << 13


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
    d = len(theta)
    theta, sizes = theta.astype(np.float64), np.asarray(sizes, float)
    out = ~_gentle(theta, sizes, frame)
    windows = sliding_window_view(theta, (4,) * d, axis=tuple(range(1, d + 1)))
    where = np.argwhere(out)
    for start in range(0, len(where), CHUNK):
        some = tuple(where[start:start + CHUNK].T)
        out[some] = _folded(np.moveaxis(windows[(slice(None), *some)], 0, 1), sizes, frame)
    return out


def least_determinants(boxes: np.ndarray, sizes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """A lower bound of the determinant over each cell, (n,).

    `boxes` (n, d, 4, .., 4) are the control points around one cell each, in mm; `sizes` (d,) the cells' lengths.
    """
    n, d = boxes.shape[:2]
    value, slope, to_bernstein = _nodes(3 * d)
    one = np.ones((1, 1))
    planes = (value, slope, to_bernstein) if d == 3 else (one, one, one)
    boxes = np.ascontiguousarray(boxes, np.float64).reshape(n, d, *boxes.shape[2:] if d == 3 else (1, 4, 4))
    out = np.empty(n)
    workspace().run(kernels.least, n, boxes, *planes, value, slope, to_bernstein, sizes, frame, out, slab=256)
    return out


@lru_cache(maxsize=2)
def _nodes(count: int):
    """Values and slopes (count, 4) of the basis at equally spaced nodes, and what takes values there to Bernstein."""
    t = np.linspace(0, 1, count)
    k = np.arange(count)
    bernstein = np.array([comb(count - 1, j) for j in k]) * t[:, None]**k * (1 - t[:, None])**(count - 1 - k)
    return basis(t), basis(t, 1), np.linalg.inv(bernstein)


def _gentle(theta, sizes, frame):
    """Cells that cannot fold because the rows of E^-1 D sum to less than one."""
    d = len(theta)
    turned = np.einsum("ij,j...->i...", np.linalg.inv(frame), theta)
    total = 0.0
    for a in range(d):
        slope = np.abs(np.diff(turned, axis=1 + a)) / sizes[a]
        for b in range(d):
            slope = sliding_window_view(slope, 3 if a == b else 4, axis=1 + b).max(-1)
        total = total + slope
    return total.max(0) < 1


def _folded(boxes, sizes, frame):
    """Whether each cell folds, as far as halving it `DEPTH` times can tell."""
    out = np.zeros(len(boxes), bool)
    owner = np.arange(len(boxes))
    split = refine_band(1).matrix()  # the 4 control points of a cell to the 5 of its halves
    d = boxes.shape[1]
    for depth in range(DEPTH + 1):
        open_ = least_determinants(boxes, sizes, frame) <= 0
        if not open_.any() or depth == DEPTH:
            out[owner[open_]] = True
            return out
        boxes, owner = boxes[open_], owner[open_]
        for a in range(d):
            boxes = np.moveaxis(np.einsum("...i,ji->...j", np.moveaxis(boxes, 2 + a, -1), split), -1, 2 + a)
        boxes = sliding_window_view(boxes, (4,) * d, axis=tuple(range(2, 2 + d)))
        boxes = np.moveaxis(boxes.reshape(len(owner), d, 2**d, *(4,) * d), 2, 1).reshape(-1, d, *(4,) * d)
        owner, sizes = np.repeat(owner, 2**d), sizes / 2
    return out

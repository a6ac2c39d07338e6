"""Where a spline lattice may fold: a lower bound of its Jacobian determinant over whole cells, not at samples alone.

On a cell the determinant is a polynomial of degree 3 d - 1 along each axis, so its Bernstein coefficients bound it from
below, closely, and more closely on halves of the cell. Cells in which the rows of E^-1 D sum to less than one, by
the extremes of the coefficients, need no look. D[:, a] is the derivative of u along array axis a in mm, E holds the
axes' unit vectors, J = det(E + D) / det(E). Source: Farin, Curves and Surfaces for CAGD, 2002 (convex hull property).

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

#: cells whose control points are copied together
CHUNK = 1 << 14

#: cells worked side by side
LANES = 8


def suspects(theta: np.ndarray, sizes: np.ndarray, frame: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Cells in which a fold is not ruled out, or is there.

    Parameters
    ----------
    theta : array, (d, *lattice)
        Control points in mm, over the last d axes.
    sizes : array, (d,)
        Length of a cell along those axes, mm.
    frame : array, (d, d)
        Their unit vectors in world space, in columns.
    among : array of bool, (*cells), optional
        Which cells are looked at; all of them by default.

    Returns
    -------
    array of bool, (*cells)
    """
    for axis, n in enumerate(theta.shape[1:], 1):
        if n == 1:  # one control point along an axis of one sample: the same spline as with four equal ones
            theta = np.repeat(theta, 4, axis)
    out = ~gentle(theta, sizes, frame)
    if among is not None:
        out &= among
    where = np.argwhere(out)
    d = len(theta)
    windows = sliding_window_view(theta, (4,) * d, axis=tuple(range(1, d + 1)))
    for start in range(0, len(where), CHUNK):
        some = tuple(where[start:start + CHUNK].T)
        out[some] = _folded(np.moveaxis(windows[(slice(None), *some)], 0, 1), np.asarray(sizes, float), frame)
    return out


def least_determinants(boxes: np.ndarray, sizes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """A lower bound of J on each cell, (n,); `boxes` (n, d, 4, .., 4) are the control points around each, in mm."""
    n, d = boxes.shape[:2]
    padded = np.zeros((-(-n // LANES) * LANES, d, 4 if d == 3 else 1, 4, 4))
    padded[:n] = boxes.reshape(n, *padded.shape[1:])
    lanes = np.ascontiguousarray(np.moveaxis(padded.reshape(-1, LANES, *padded.shape[1:]), 1, -1))
    nodes, one = _nodes(3 * d), np.ones((1, 1))
    out = np.empty((len(lanes), LANES))
    workspace().run(kernels.least, len(lanes), lanes, *(nodes if d == 3 else (one, one, one)), *nodes,
                    np.asarray(sizes, float), np.ascontiguousarray(frame, float), out, slab=64)
    return out.ravel()[:n]


@lru_cache(maxsize=2)
def _nodes(count: int):
    """Values and slopes (count, 4) of the basis at equally spaced nodes, and what takes values there to Bernstein."""
    t, k = np.linspace(0, 1, count), np.arange(count)
    bernstein = np.array([comb(count - 1, j) for j in k]) * t[:, None]**k * (1 - t[:, None])**(count - 1 - k)
    return basis(t), basis(t, 1), np.linalg.inv(bernstein)


def _folded(boxes, sizes, frame):
    """Whether each cell folds, as far as halving it `DEPTH` times can tell."""
    out = np.zeros(len(boxes), bool)
    owner = np.arange(len(boxes))
    d = boxes.shape[1]
    for depth in range(DEPTH + 1):
        unproved = least_determinants(boxes, sizes, frame) <= 0
        if not unproved.any() or depth == DEPTH:
            out[owner[unproved]] = True
            break
        boxes, owner, sizes = _halves(boxes[unproved]), np.repeat(owner[unproved], 2**d), sizes / 2
    return out


def _halves(boxes):
    """The control points of the 2^d halves of each cell, (2^d n, d, 4, .., 4), by exact subdivision."""
    n, d = boxes.shape[:2]
    split = refine_band(1).matrix()
    for axis in range(2, 2 + d):
        boxes = np.moveaxis(np.einsum("...i,ji->...j", np.moveaxis(boxes, axis, -1), split), -1, axis)
    boxes = sliding_window_view(boxes, (4,) * d, axis=tuple(range(2, 2 + d)))
    return np.moveaxis(boxes.reshape(n, d, 2**d, *(4,) * d), 2, 1).reshape(-1, d, *(4,) * d)


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

"""Banded operators along one axis, and the uniform cubic B-spline in one dimension.

Everything separable on a grid - evaluating a spline lattice, shrinking an image, refining a field - is one `Band` per
axis: three one-dimensional passes, and their transposes for gradients.

    S(t) = sum_k c_k B3(t - k),  B3 the cubic B-spline with support 4;  control point k of a lattice lies at t = k - 1.

Must not import: anything above floor 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

import numpy as np

from .backend import workspace
from .kernels.cpu import filters

BLOCK = 4096

#: a slab makes so many samples at least: less is done sooner than handed to another thread
SAMPLES = 1 << 15


@dataclass(frozen=True, eq=False)
class Band:
    """A linear operator from n to m samples, row i reaching `taps` neighbours from `starts[i]` on.

    Parameters
    ----------
    starts : array of int64, (m,)
    weights : array of float64, (m, taps)
    n : int
        Samples it takes; every start + taps <= n.
    """

    starts: np.ndarray
    weights: np.ndarray
    n: int

    def adjoint(self, array: np.ndarray, axis: int, name: str | None = None) -> np.ndarray:
        """Its transpose along `axis`: from m to n samples."""
        return self.transposed.apply(array, axis, name)

    def apply(self, array: np.ndarray, axis: int, name: str | None = None, out: np.ndarray | None = None):
        """The operator along `axis` of `array`; into `out`, or the buffer `name`, if one is given."""
        axis %= array.ndim
        outer, inner, size = prod(array.shape[:axis]), prod(array.shape[axis + 1:]), len(self.starts)
        shape = array.shape[:axis] + (size,) + array.shape[axis + 1:]
        ws = workspace()
        if out is None:
            out = np.empty(shape, array.dtype) if name is None else ws.buffer(name, shape, array.dtype)
        weights = self._single if array.dtype == np.float32 else self.weights.astype(array.dtype)
        array = np.ascontiguousarray(array)
        if inner == 1:
            ws.run(filters.band_last, outer, array.reshape(outer, -1), self.starts, weights, out.reshape(outer, size),
                   slab=max(outer // 32, SAMPLES // size, 1))
        else:
            work = outer * -(-inner // BLOCK)
            ws.run(filters.band, work, array.reshape(outer, -1, inner), self.starts, weights, BLOCK,
                   out.reshape(outer, size, inner), slab=max(work // 32, SAMPLES // (size * min(inner, BLOCK)), 1))
        return out

    @cached_property
    def _single(self) -> np.ndarray:
        """The weights in float32."""
        return self.weights.astype(np.float32)

    @cached_property
    def transposed(self) -> Band:
        """The transposed operator: rows gather, so that each is written once."""
        m, taps = self.weights.shape
        row, column = np.repeat(np.arange(m), taps), (self.starts[:, None] + np.arange(taps)).ravel()
        value = self.weights.ravel()
        row, column, value = row[value != 0], column[value != 0], value[value != 0]
        first, last = np.full(self.n, m - 1), np.zeros(self.n, np.int64)
        np.minimum.at(first, column, row)
        np.maximum.at(last, column, row)
        width = min(m, max(1, int((last - first).max(initial=0)) + 1 + 3) // 4 * 4)
        starts = np.clip(first, 0, m - width).astype(np.int64)
        weights = np.zeros((self.n, width))
        np.add.at(weights, (column, row - starts[column]), value)
        return Band(starts, weights, m)

    @cached_property
    def diagonals(self) -> np.ndarray:
        """Of a square operator that reaches three samples to either side at most: (7, n), (t, i) weighs i + t - 3."""
        out = np.zeros((7, self.n))
        for i, s in enumerate(self.starts):
            for t, w in enumerate(self.weights[i]):
                if w != 0:
                    out[s + t - i + 3, i] = w
        return out

    def matrix(self) -> np.ndarray:
        """The dense (m, n) matrix."""
        out = np.zeros((len(self.starts), self.n))
        for i, s in enumerate(self.starts):
            out[i, s:s + self.weights.shape[1]] += self.weights[i]
        return out


def band(rows: np.ndarray, first: np.ndarray, n: int, keep: bool = False) -> Band:
    """A band from weights (m, taps) that start at `first`; what reaches outside 0..n-1 is folded to the edge sample."""
    m, taps = rows.shape
    width = min(taps, n)
    starts = np.clip(first, 0, n - width).astype(np.int64)
    index = np.clip(first[:, None] + np.arange(taps), 0, n - 1) - starts[:, None]
    weights = np.zeros((m, width))
    np.add.at(weights, (np.arange(m)[:, None], index), rows)
    return Band(starts, weights, n)


def basis(t: np.ndarray, derivative: int = 0) -> np.ndarray:
    """The four cubic B-splines that are not zero at fraction t of a cell (0..1), or their derivative; (*t, 4)."""
    t = np.asarray(t, float)
    s = 1 - t
    if derivative == 0:
        rows = (s**3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (4 - 6 * s**2 + 3 * s**3) / 6, t**3 / 6)
    elif derivative == 1:
        rows = (-(s**2) / 2, 1.5 * t**2 - 2 * t, -1.5 * s**2 + 2 * s, t**2 / 2)
    else:
        rows = (s, 3 * t - 2, 3 * s - 2, t)
    return np.stack(rows, -1)


def points_of(cells: int) -> int:
    """Control points of a lattice of `cells` cells; a one-sample axis has no cell and one point."""
    return cells + 3 if cells else 1


def spline_band(positions: np.ndarray, cells: int, derivative: int = 0) -> Band:
    """Evaluate a lattice of `cells` cells, or its derivative per cell, at positions 0..cells (in cells)."""
    if cells == 0:
        return Band(np.zeros(len(positions), np.int64), np.full((len(positions), 1), float(derivative == 0)), 1)
    i = np.clip(np.floor(positions), 0, cells - 1)
    return Band(i.astype(np.int64), basis(np.asarray(positions) - i, derivative), cells + 3)


def refine_band(cells: int) -> Band:
    """Exact subdivision: a lattice of `cells` cells to the same spline on 2 `cells` cells.

    A new point halfway between two old ones weighs them (4, 4) / 8, one on an old point (1, 6, 1) / 8.
    """
    if cells == 0:
        return Band(np.zeros(1, np.int64), np.ones((1, 1)), 1)
    k = np.arange(2 * cells + 3)
    rows = np.where((k % 2 == 0)[:, None], [4 / 8, 4 / 8, 0.0], [1 / 8, 6 / 8, 1 / 8])
    return band(rows, k // 2, cells + 3)


@lru_cache(maxsize=128)  # asked for at every evaluation
def spline_gram(cells: int, size: float, derivative: int, other: int | None = None) -> Band:
    """Integrals of products of r-th and s-th derivatives of the basis over the lattice, over its length: (n, n).

    `size` is the length of a cell in mm; b . G c is the mean of (d^r S_b / dx^r) (d^s S_c / dx^s) in mm^-(r + s), with
    r = `derivative` and s = `other`, by default the same. Seven diagonals.
    """
    other = derivative if other is None else other
    if cells == 0:
        return Band(np.zeros(1, np.int64), np.full((1, 1), float(derivative == other == 0)), 1)
    t, w = np.polynomial.legendre.leggauss(4)
    b, c = (basis((t + 1) / 2, r) for r in (derivative, other))
    local = np.einsum("q,qi,qj->ij", w / 2, b, c) * size ** (-derivative - other) / cells
    n = cells + 3
    rows = np.zeros((n, 7))
    for i in range(4):
        for j in range(4):
            rows[i:i + cells, j - i + 3] += local[i, j]
    return band(rows, np.arange(n) - 3, n)


@lru_cache(maxsize=128)
def difference_gram(n: int, size: float, derivative: int, other: int | None = None) -> Band:
    """The same for n samples `size` mm apart and finite differences.

    First differences lie between samples, second ones on those with two neighbours. Squares are means over where they
    lie (of values, by the trapezoidal rule); a value beside a first difference is the mean of the two samples.
    """
    other = derivative if other is None else other
    (a, start), (b, _) = (_differences(n, size, r, max(derivative, other)) for r in (derivative, other))
    weight = np.full(len(a), 1 / max(n - 2 if derivative == other == 2 else n - 1, 1))
    if derivative == other == 0 and n > 1:
        weight[[0, -1]] /= 2
    width = a.shape[1]
    rows = np.zeros((n, 2 * width - 1))
    for w, u, v, first in zip(weight, a, b, start):
        for i in range(width):
            rows[first + i, width - 1 - i:2 * width - 1 - i] += w * u[i] * v
    return band(rows, np.arange(n) - width + 1, n)


def _differences(n, size, derivative, beside):
    """Rows (m, beside + 1) of differences of an order, or of values beside those of order `beside`; their starts."""
    stencil = {(0, 0): [1.0], (0, 1): [0.5, 0.5], (1, 1): [-1.0, 1.0], (0, 2): [0.0, 1.0, 0.0],
               (2, 2): [1.0, -2.0, 1.0]}[derivative, beside]
    m = max(n - beside, 0)
    return np.tile(np.array(stencil) * size ** -derivative, (m, 1)), np.arange(m)


@lru_cache(maxsize=64)
def difference_band(n: int, size: float, derivative: int) -> Band:
    """Differences at n samples `size` mm apart: first ones to the next sample (at the end, from the last one), second
    ones between both neighbours (at the ends, zero)."""
    rows = np.tile([-1.0, 1.0, 0.0] if derivative == 1 else [1.0, -2.0, 1.0], (n, 1)) * size ** -derivative
    first = np.arange(n) - (derivative == 2)
    if n <= derivative:
        rows[:] = 0
    elif derivative == 1:
        first[-1] -= 1
    else:
        rows[[0, -1]] = 0
    return band(rows, first, n)


def solve_band(evaluate: Band, cells: int, ridge: float = 1e-4) -> Band:
    """Least squares: samples to the lattice of `cells` cells that `evaluate` takes nearest to them.

    (B^T B + ridge * G)^-1 B^T, with B the matrix of `evaluate` and G the Gram matrix of second derivatives, so that
    what no sample fixes is straight. Every row reaches all samples: for fields, not for iterations.
    """
    b = evaluate.matrix()
    n, m = b.shape
    gram = spline_gram(cells, 1.0, 2).matrix() if cells else np.zeros((m, m))
    normal = np.einsum("ki,kj->ij", b, b) + ridge * n * gram
    return Band(np.zeros(m, np.int64), np.linalg.solve(normal, b.T), n)


def linear_band(positions: np.ndarray, n: int) -> Band:
    """Linear interpolation of n samples at fractional positions, clamped to the ends."""
    p = np.clip(np.asarray(positions, float), 0, n - 1)
    i = np.minimum(np.floor(p), max(n - 2, 0))
    f = p - i
    return band(np.stack([1 - f, f], -1), i.astype(np.int64), n)


def gaussian_band(positions: np.ndarray, n: int, sigma: float) -> Band:
    """A Gaussian of `sigma` samples centred at fractional positions; weights sum to 1, edge samples repeated."""
    positions = np.asarray(positions, float)
    if sigma < 1e-3:
        return linear_band(positions, n)
    radius = int(np.ceil(2.5 * sigma + 0.5))
    first = np.round(positions).astype(np.int64) - radius
    offset = first[:, None] + np.arange(2 * radius + 1) - positions[:, None]
    rows = np.exp(-0.5 * (offset / sigma) ** 2)
    return band(rows / rows.sum(1, keepdims=True), first, n)

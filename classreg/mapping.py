"""The normal form of every transform: phi(x) = A (x + u(x)).

A is a world-to-world matrix, u a displacement in mm sampled on a grid (or None) and interpolated linearly; outside its
grid u keeps its value at the border. phi takes fixed world points to moving world points.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from .backend import workspace
from .grid import Grid, lift
from .kernels.cpu import sample as kernels


def no_field(d: int, dtype=np.float32) -> np.ndarray:
    """The empty field that stands for "none" in the kernels."""
    return np.empty((d, 0, 0, 0), dtype)


def push(matrix: np.ndarray, d: int) -> np.ndarray:
    """The (3, 3) linear part for the kernels; the third column is zero in 2-D, where there is no third component."""
    out = np.array(matrix[:3, :3])
    if d == 2:
        out[:, 2] = 0
    return out


@dataclass(frozen=True, eq=False)
class Mapping:
    """phi(x) = A (x + u(x)), fixed world to moving world, mm.

    Parameters
    ----------
    matrix : array, (d + 1, d + 1)
        A, world to world.
    field : array or None, (d, *grid.shape)
        u in mm: components x, y[, z]; spatial axes in array order. With points instead of a grid, (d, n).
    grid : Grid or None
        Where the field is sampled; None for values at points.

    Examples
    --------
    >>> Mapping(np.eye(4)).apply([[1.0, 2.0, 3.0]])
    array([[1., 2., 3.]])
    """

    matrix: np.ndarray
    field: np.ndarray | None = None
    grid: Grid | None = None

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return len(self.matrix) - 1

    @property
    def field3(self) -> np.ndarray:
        """The field as (d, z, y, x); the empty field if there is none."""
        if self.field is None:
            return no_field(self.ndim)
        return np.ascontiguousarray(self.field).reshape((self.ndim, *self.grid.shape3))

    def displacement(self, points) -> np.ndarray:
        """u at world points (n, d), in mm."""
        points = np.atleast_2d(np.asarray(points, float))
        if self.field is None:
            return np.zeros_like(points)
        index = self.grid.to_index(points).T
        return np.stack([map_coordinates(c, index, order=1, mode="nearest", output=float) for c in self.field], -1)

    def apply(self, points) -> np.ndarray:
        """phi at world points (n, d)."""
        points = np.atleast_2d(np.asarray(points, float))
        return (points + self.displacement(points)) @ self.matrix[:-1, :-1].T + self.matrix[:-1, -1]

    def total_displacement(self, grid: Grid) -> np.ndarray:
        """phi(x) - x on a grid, (d, *grid.shape) float32, in mm."""
        d = self.ndim
        linear = self.matrix - np.eye(d + 1)
        at = np.einsum("ij,...j->i...", linear[:d, :d], grid.points()) + linear[:d, d].reshape((d,) + (1,) * d)
        u = self.resampled(grid)
        if u is not None:
            at += np.einsum("ij,j...->i...", self.matrix[:d, :d], u)
        return at.astype(np.float32)

    def resampled(self, grid: Grid) -> np.ndarray | None:
        """The field on another grid, (d, *grid.shape), linear, clamped."""
        if self.field is None or self.grid is grid or self.grid.same_as(grid, 1e-9):
            return self.field
        d = self.ndim
        out = np.empty((d, *grid.shape3), self.field.dtype)
        to_index = np.linalg.solve(self.grid.affine3, grid.affine3)[:3]
        workspace().run(kernels.warp, out.shape[1], self.field3, to_index, np.zeros((3, 3)),
                        no_field(d, out.dtype), out, np.empty(grid.shape3, out.dtype))
        return out.reshape((d, *grid.shape))

    def compose(self, inner: Mapping, grid: Grid | None = None) -> Mapping:
        """self after inner: x -> self(inner(x)), sampled on `grid`, by default inner's.

        Without either, a linear inner mapping carries self's grid and field along exactly: A1 (A2 x + u(A2 x)).
        """
        matrix, d = self.matrix @ inner.matrix, self.ndim
        if inner.field is None and self.field is None:
            return Mapping(matrix)
        grid = inner.grid if grid is None else grid
        if grid is None:
            back = np.linalg.inv(inner.matrix)
            field = np.einsum("ij,j...->i...", back[:d, :d], self.field).astype(self.field.dtype)
            return Mapping(matrix, field, Grid(self.grid.shape, back @ self.grid.affine))
        points = grid.points().reshape(-1, d)
        total = self.apply(inner.apply(points))
        back = np.linalg.inv(matrix)
        u = total @ back[:d, :d].T + back[:d, d] - points
        return Mapping(matrix, np.ascontiguousarray(u.T.reshape((d, *grid.shape)), np.float32), grid)

    def inverse(self, grid: Grid, tolerance: float = 1e-3, iterations: int = 100) -> tuple[Mapping, np.ndarray]:
        """psi with phi(psi(y)) = y on `grid` (of the moving side), and the residual |phi(psi(y)) - y| in mm.

        With x = A^-1 y + e the equation is e = -u(x); it is iterated with a step per voxel that is halved where the
        residual grows or turns back, as it does where phi expands. Where the residual stays large (outside the image
        of phi, in a fold, or next to one) the inverse does not hold.
        """
        back = np.linalg.inv(self.matrix)
        if self.field is None:
            return Mapping(back), np.zeros(grid.shape)
        d = self.ndim
        field = self.field3
        lin = lift(back)
        to_index = (self.grid.inverse3 @ lin @ grid.affine3)[:3]
        step_to_index = push(self.grid.inverse3, d)
        e = np.zeros((d, *grid.shape3), np.float32)
        value, weight = np.empty_like(e), np.empty(grid.shape3, np.float32)
        pace, last = np.ones(grid.shape3, np.float32), np.full(grid.shape3, np.inf, np.float32)
        before = np.zeros_like(e)
        ws = workspace()
        for _ in range(iterations):
            ws.run(kernels.warp, e.shape[1], field, to_index, step_to_index, e, value, weight)
            value += e  # minus the residual
            size = np.sqrt((value**2).sum(0))
            if size.max() < tolerance / 4:
                break
            pace[(size > last) | ((value * before).sum(0) < -0.5 * size**2)] *= 0.5
            last = size
            before[...] = value
            e -= pace * value
        ws.run(kernels.warp, e.shape[1], field, to_index, step_to_index, e, value, weight)
        forward = self.matrix[:d, :d].astype(np.float32)
        residual = np.sqrt((np.einsum("ij,j...->i...", forward, value + e) ** 2).sum(0)).reshape(grid.shape)
        v = np.einsum("ij,j...->i...", forward, e).reshape((d, *grid.shape))
        return Mapping(back, np.ascontiguousarray(v), grid), residual


def invert_points(matrix: np.ndarray, displacement, points, tolerance: float = 1e-4,
                  iterations: int = 200) -> np.ndarray:
    """x with A (x + u(x)) = y for world points y (n, d); NaN where none is found within 0.1 mm.

    `displacement(x)` gives u at points (n, d); None for a linear mapping.
    """
    back = np.linalg.inv(matrix)
    start = np.atleast_2d(np.asarray(points, float)) @ back[:-1, :-1].T + back[:-1, -1]
    if displacement is None:
        return start
    x, pace, last = start.copy(), np.ones(len(start)), np.full(len(start), np.inf)
    before = np.zeros_like(x)
    for _ in range(iterations):
        r = start - displacement(x) - x
        size = np.linalg.norm(r, axis=1)
        if size.max() < tolerance:
            break
        pace[(size > last) | ((r * before).sum(1) < -0.5 * size**2)] *= 0.5
        last, before = size, r
        x += pace[:, None] * r
    x[np.linalg.norm(start - displacement(x) - x, axis=1) > 0.1] = np.nan
    return x

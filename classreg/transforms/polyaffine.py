"""Local affine motion, log-Euclidean: phi = A o exp(v), v blended from affine velocities over overlapping patches.

    v(x) = sum_p w_p(x) L_p (x - c; 1),     w_p >= 0,  sum_p w_p = 1

L_p, d x (d + 1), is the logarithm of patch p's affine map about c, the centre of the fixed grid: no matrix logarithm
is taken, and exp(v) is invertible whatever the L_p are. Arsigny et al., J Math Imaging Vis 2009,
doi:10.1007/s10851-008-0135-9.

Windows are products of quadratic B-splines on a lattice of cells along the axes of the fixed grid, each over three
cells: near to a raised cosine in shape, smooth enough for exp(v) to be a diffeomorphism (v has one continuous
derivative, which linear hats have not), and, unlike raised cosines, sums of windows of half the size, so that halving
the cells leaves v as it is. With t the position along the axes in cells and t_p the centre of a patch, the parameters
are b and m of

    L_p (x - c; 1) = b_p + sum_k m_pk 2 (t_k - t_pk)

so that a unit of each moves points by 1 mm in the middle, or at the border, of the patch's cell. v is one
one-dimensional pass per axis of the windows and of the windows times 2 (t - t_p) side by side, its adjoint the
transposes. The gradient is exact, through the squarings of `velocity`.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..backend import workspace
from ..errors import OptionError
from ..grid import Grid
from ..mapping import Mapping
from ..sampling import Points
from ..spline import Band, band
from ..stencil import add_scaled, dot
from .dense import at_points
from .velocity import Velocity, exponential, exponential_back, flow, logarithm

#: a cell has at least so many samples of the fixed grid along each axis
LEAST = 4


@dataclass(eq=False)
class Polyaffine:
    """Affine velocities on a lattice of patches, after a world matrix.

    Parameters
    ----------
    grid : Grid
        The fixed grid at full resolution; the lattice is aligned with it.
    matrix : array, (d + 1, d + 1)
        A, world to world.
    cells : int
        Cells along the longest axis on levels of up to twice the finest resolution, rounded to a power of two; each
        coarser level has half as many, down to one. The other axes have cells of about the same size in mm.
    """

    grid: Grid
    matrix: np.ndarray
    cells: int = 16
    acts_on = "velocity"
    _level: Grid | None = None
    _bands: dict = field(default_factory=dict, repr=False)

    def __post_init__(self):
        if self.cells < 1:
            raise OptionError(f"polyaffine: cells must be at least 1, got {self.cells}")

    def cells_of(self, theta: np.ndarray) -> tuple[int, int, int]:
        """Cells per axis of `grid.shape3`; a one-sample axis has none."""
        return tuple(n - 2 if n > 1 else 0 for n in theta.shape[1:])

    def cell_size(self, cells) -> np.ndarray:
        """Length of a cell in mm per axis of `grid.shape3`, (3,)."""
        return (np.array(self.grid.shape3) - 1).clip(1) * self.grid.spacing3 / np.maximum(cells, 1)

    def wanted(self, grid: Grid) -> tuple[int, int, int]:
        """Cells per axis for a level."""
        extent = (np.array(self.grid.shape3) - 1) * self.grid.spacing3
        coarser = round(np.log2(max(1.0, grid.resolution / self.grid.resolution / 2)))
        size = extent.max() / max(1.0, self.cells / 2**coarser)
        return tuple(2 ** max(0, min(round(np.log2(e / size)), int(np.log2(e / s / LEAST)))) if e > 0 else 0
                     for e, s in zip(extent, self.grid.spacing3))

    def identity(self) -> np.ndarray:
        """No velocity on one cell, (d (d + 1), z, y, x): b, then m along each array axis, components x, y[, z], mm."""
        d = self.grid.ndim
        return np.zeros((d * (d + 1), *(3 if n > 1 else 1 for n in self.grid.shape3)), np.float32)

    def refine(self, theta: np.ndarray, grid: Grid) -> np.ndarray:
        """The same velocity on the lattice of a level."""
        self._level = grid
        for axis, wanted in enumerate(self.wanted(grid)):
            while self.cells_of(theta)[axis] < wanted:
                theta = self._halve(theta, axis)
        return theta

    def _halve(self, theta, axis):
        """The same velocity with cells half as long along an axis: a new window takes over from two old ones."""
        d, n = self.grid.ndim, self.cells_of(theta)[axis]
        k = np.arange(2 * n + 2)
        share = band(np.where((k % 2 == 0)[:, None], [0.75, 0.25], [0.25, 0.75]), k // 2, n + 2)
        shift = band(np.tile([0.375, -0.375], (len(k), 1)), k // 2, n + 2)  # share times the way between their centres
        out = share.apply(theta, axis + 1)
        own = slice((axis - 2 + d) * d, (axis - 1 + d) * d)
        out[own] *= theta.dtype.type(0.5)
        out[:d] += shift.apply(theta[own], axis + 1)
        return out

    def fit(self, displacement: np.ndarray, grid: Grid, iterations: int = 30) -> np.ndarray:
        """Parameters of a displacement (d, *grid.shape3) in mm on a grid with the axes of the fixed one.

        The velocity nearest to its logarithm, of those on the coarsest lattice and then on each finer one: least
        squares by conjugate gradients, from the lattice before.
        """
        goal = logarithm(np.ascontiguousarray(displacement, np.float32), grid)
        theta, wanted = self.identity(), self.wanted(self.grid)
        while True:
            theta = self._least_squares(theta, goal, grid, iterations)
            short = [axis for axis, n in enumerate(self.cells_of(theta)) if n < wanted[axis]]
            if not short:
                self._level = grid
                return theta
            for axis in short:
                theta = self._halve(theta, axis)

    def _least_squares(self, theta, goal, grid, iterations):
        rest = self.adjoint(goal - self.velocity(theta, grid), theta.shape, grid).copy()
        way, size = rest.copy(), dot(rest, rest)
        last = 1e-8 * size
        for _ in range(iterations):
            if not size > last:
                break
            v = self.velocity(way, grid)
            pace = size / dot(v, v)
            theta = add_scaled(theta, pace, way, np.empty_like(theta))
            add_scaled(rest, -pace, self.adjoint(v, theta.shape, grid), rest)
            before, size = size, dot(rest, rest)
            add_scaled(rest, size / before, way, way)
        return theta

    def forward(self, theta: np.ndarray, at: Grid | Points):
        """The mapping on `at`, and its way back: `back(image_back, adjoint)` is the gradient, like theta.

        At points, the displacement of the level's grid is interpolated.
        """
        d, path = self.grid.ndim, []
        if not isinstance(at, Grid):
            level = self._level
            u = exponential(self.velocity(theta, level), level, path=path)
            return at_points(self.matrix, u, level, at, lambda pulled: self.adjoint(
                exponential_back(path, level, pulled), theta.shape, level))
        u = exponential(self.velocity(theta, at), at, path=path)
        return Mapping(self.matrix, u.reshape((d, *at.shape)), at), PolyaffineBack(path, at, self, theta.shape)

    def field_of(self, theta: np.ndarray, at: Grid) -> np.ndarray:
        """exp(v) - id in mm, (d, z, y, x)."""
        return exponential(self.velocity(theta, at), at)

    def velocity(self, theta: np.ndarray, at: Grid) -> np.ndarray:
        """v in mm on a grid with the axes of the fixed one, (d, z, y, x); in a buffer."""
        d, ws, bands = self.grid.ndim, workspace(), self.bands(self.cells_of(theta), at)
        b, rest = theta[:d], theta[d:]
        for axis in (3, 2, 1)[:d]:
            plain, both = bands[axis - 1]
            m, rest = rest[-d:], rest[:-d]
            shape = list(b.shape)
            shape[axis] *= 2
            pairs = ws.buffer(f"polyaffine pairs {axis}", shape, theta.dtype)
            pairs[_every(axis, 0)], pairs[_every(axis, 1)] = b, m
            b = both.apply(pairs, axis, f"polyaffine {axis}")
            if len(rest):
                rest = plain.apply(rest, axis, f"polyaffine rest {axis}")
        return b

    def adjoint(self, force: np.ndarray, shape: tuple, at: Grid) -> np.ndarray:
        """The transpose of `velocity`: (d, z, y, x) on `at` to the parameters' shape; in a buffer."""
        d, ws, bands = self.grid.ndim, workspace(), self.bands(tuple(n - 2 if n > 1 else 0 for n in shape[1:]), at)
        b, rest = force, force[:0]
        for axis in (1, 2, 3)[3 - d:]:
            plain, both = bands[axis - 1]
            pairs = both.adjoint(b, axis, f"polyaffine pairs {axis}")
            out = ws.buffer(f"polyaffine gradient {axis}", (2 * d + len(rest), *b.shape[1:axis], shape[axis],
                                                            *b.shape[axis + 1:]), force.dtype)
            if len(rest):
                plain.transposed.apply(rest, axis, out=out[d:-d])
            out[:d], out[-d:] = pairs[_every(axis, 0)], pairs[_every(axis, 1)]
            b, rest = out[:d], out[d:]
        return out

    def bands(self, cells, at: Grid) -> tuple[tuple[Band, Band], ...]:
        """Per axis z, y, x: the windows on a grid, and windows and moments in turn."""
        key = (cells, at.shape3, at.affine3.tobytes())
        if key not in self._bands:
            to_index, out = np.linalg.solve(self.grid.affine3, at.affine3), []
            for k, n in enumerate(self.grid.shape3):
                index = to_index[k, k] * np.arange(at.shape3[k]) + to_index[k, 3]
                out.append(windows(np.clip(index / max(n - 1, 1), 0, 1) * cells[k], cells[k]))
            self._bands[key] = tuple(out)
        return self._bands[key]

    def patches(self, theta: np.ndarray, at: Grid | None = None) -> np.ndarray:
        """Length of a cell in mm along the last d axes, (d,): what regularisers need of the lattice."""
        return self.cell_size(self.cells_of(theta))[3 - self.grid.ndim:]

    def logarithms(self, theta: np.ndarray) -> np.ndarray:
        """L_p of all patches, (z, y, x, d, d + 1): v(x) = sum_p w_p(x) L_p (x - c; 1), c the centre of the grid."""
        d, cells = self.grid.ndim, self.cells_of(theta)
        axes = self.grid.affine[:d, :d] / self.grid.spacing
        b, *m = np.moveaxis(theta.astype(np.float64).reshape(d + 1, d, *theta.shape[1:]), 1, -1)
        linear = np.stack(m, -1) * (2 / self.patches(theta)) @ np.linalg.inv(axes)
        away = [(np.arange(n) - 0.5) / max(c, 1) - 0.5 if c else np.zeros(1) for n, c in zip(theta.shape[1:], cells)]
        away = np.stack(np.meshgrid(*away, indexing="ij"), -1)[..., 3 - d:] * (np.array(self.grid.shape) - 1)
        away = away @ self.grid.affine[:d, :d].T
        return np.concatenate([linear, (b - np.einsum("...ij,...j->...i", linear, away))[..., None]], -1)

    def stationary(self, theta: np.ndarray) -> tuple[np.ndarray, Grid]:
        """v in mm, (d, z, y, x), and the grid of its samples; in a buffer."""
        level = self._level or self.grid
        return self.velocity(theta, level), level

    def flow(self, theta: np.ndarray, at: Grid | Points, start: Mapping | None = None) -> np.ndarray:
        """exp(v) - id in mm at `at`, or at start(x) for the x of `at`, following v: see `Velocity.flow`."""
        return flow(*self.stationary(theta), at, start)

    def inverse(self, theta: np.ndarray, grid: Grid) -> tuple[Velocity, np.ndarray]:
        """exp(-v) o A^-1 as a velocity model and its parameters; `grid` is the moving one. See `Velocity.inverse`."""
        v, level = self.stationary(theta)
        return Velocity(self.grid, self.matrix, _level=level).inverse(v, grid)

    def retract(self, theta: np.ndarray, step: np.ndarray) -> np.ndarray:
        """theta + step."""
        return theta + step

    def reach(self, step: np.ndarray) -> float:
        """Longest of the patches' own velocities, mm, root mean square over the corners of their cell."""
        return float(np.sqrt((step * step).sum(0).max()))


@dataclass(frozen=True, eq=False)
class PolyaffineBack:
    """To a step of the parameters: back through the squarings, then the transposed passes; see `SquaringsBack`."""

    path: list
    grid: Grid
    model: Polyaffine
    shape: tuple

    def __call__(self, image_back, adjoint: np.ndarray) -> np.ndarray:
        """Gradient in the parameters, (d (d + 1), z, y, x)."""
        force = exponential_back(self.path, self.grid, image_back.force(adjoint))
        return self.model.adjoint(force, self.shape, self.grid)


def windows(positions: np.ndarray, cells: int) -> tuple[Band, Band]:
    """Windows w at positions 0..cells, (m, cells + 2); and w, 2 (t - t_p) w in turn, (m, 2 (cells + 2))."""
    if cells == 0:
        ones = np.ones((len(positions), 1))
        start = np.zeros(len(positions), np.int64)
        return Band(start, ones, 1), Band(start, np.concatenate([ones, 0 * ones], 1), 2)
    first = np.clip(np.floor(positions), 0, cells - 1)
    t = positions - first
    w = np.stack([(1 - t) ** 2, 1 + 2 * t * (1 - t), t**2], -1) / 2
    moments = w * 2 * (t[:, None] + 0.5 - np.arange(3))
    first = first.astype(np.int64)
    return Band(first, w, cells + 2), Band(2 * first, np.stack([w, moments], -1).reshape(len(t), 6), 2 * (cells + 2))


def _every(axis: int, which: int) -> tuple:
    """Every second entry along an axis, from `which` on."""
    return (slice(None),) * axis + (slice(which, None, 2),)

"""Free-form deformation: phi(x) = A (x + u(x)), u a cubic B-spline on a lattice aligned with the fixed grid.

The lattice spans the fixed samples with some cells per axis, and one control point more on each side than cell corners
(cells + 3 points); halving the cells is exact. u is evaluated by three one-dimensional passes, its gradient by their
transposes. Source: Rueckert et al., IEEE TMI 1999, doi:10.1109/42.796284.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ..backend import workspace
from ..grid import Grid
from ..jacobian import jacobian_determinant
from ..kernels.cpu import folds as kernels
from ..kernels.cpu import points
from ..mapping import Mapping
from ..sampling import Points
from ..spline import Band, points_of, refine_band, solve_band, spline_band, spline_gram
from ..stencil import peak
from .folds import suspects
from .grams import Grams, frame_of
from .slopes import Slopes

#: a Jacobian determinant by central differences counts as a fold up to here
LEAST = 1e-3


@dataclass(frozen=True, eq=False)
class BSpline:
    """A cubic B-spline lattice on the fixed grid, after a world matrix.

    Parameters
    ----------
    grid : Grid
        The fixed grid at full resolution; the lattice is aligned with it.
    spacing : float, or one per array axis
        Length of a cell in mm on the finest level; never shorter than a voxel.
    matrix : array, (d + 1, d + 1)
        A, world to world.
    doublings : int
        How often the lattice is refined from the coarsest level to the finest.
    """

    grid: Grid
    spacing: float | tuple[float, ...]
    matrix: np.ndarray
    doublings: int = 0
    scatters = True
    _bands: dict = field(default_factory=dict, repr=False)
    _slopes: dict = field(default_factory=dict, repr=False)
    _grams: dict = field(default_factory=dict, repr=False)

    @property
    def spacing3(self) -> np.ndarray:
        """`spacing` per axis of `grid.shape3`, (3,)."""
        each = np.broadcast_to(np.asarray(self.spacing, float), (self.grid.ndim,))
        return np.concatenate([np.ones(3 - self.grid.ndim), each])

    @property
    def least_cells(self) -> tuple[int, int, int]:
        """Cells of the coarsest lattice per axis of `grid.shape3`."""
        out = []
        for n, s, wanted in zip(self.grid.shape3, self.grid.spacing3, self.spacing3):
            finest = np.ceil((n - 1) * s / max(wanted, s) - 1e-9)
            out.append(int(max(1, np.ceil(finest / 2**self.doublings))) if n > 1 else 0)
        return tuple(out)

    def cells_of(self, theta: np.ndarray) -> tuple[int, int, int]:
        """Cells per axis of a lattice."""
        return tuple(n - 3 if n > 1 else 0 for n in theta.shape[1:])

    def cell_size(self, cells) -> np.ndarray:
        """Length of a cell in mm per axis of `grid.shape3`, (3,)."""
        return (np.array(self.grid.shape3) - 1).clip(1) * self.grid.spacing3 / np.maximum(cells, 1)

    def identity(self) -> np.ndarray:
        """A lattice of zeros, (d, z, y, x), in mm."""
        return np.zeros((self.grid.ndim, *map(points_of, self.least_cells)), np.float32)

    def fit(self, field: np.ndarray, grid: Grid, tolerance: float = 0.1) -> np.ndarray:
        """The lattice nearest to a displacement (d, *grid.shape3) in mm on a grid with the axes of the fixed one.

        Least squares, one axis after the other (the tensor product of the solutions is the solution), with a trace of
        bending so that points which no sample reaches follow their neighbours. Of the lattices from the coarsest to
        the finest, the first whose deviation is `tolerance` of the grid's resolution (root mean square), or the last.
        """
        field = np.ascontiguousarray(field, np.float32)
        for doubled in range(self.doublings + 1):
            cells = tuple(2**doubled * n for n in self.least_cells)
            theta, bands = field, self.bands(cells, grid)
            for axis, band in enumerate(bands, 1):
                theta = solve_band(band, cells[axis - 1]).apply(theta, axis)
            again = theta
            for axis, band in enumerate(bands, 1):
                again = band.apply(again, axis)
            if np.sqrt(np.mean((again - field) ** 2, dtype=np.float64) * len(field)) <= tolerance * grid.resolution:
                break
        return theta

    def taken(self, theta: np.ndarray, other: BSpline) -> np.ndarray:
        """The coarsest lattice of this transform that is nearest to a lattice of another one on the same grid.

        Least squares along each axis at samples closer than either's cells; exact where cells are divided.
        """
        for axis, (old, new) in enumerate(zip(other.cells_of(theta), self.least_cells), 1):
            at = np.linspace(0, 1, 4 * max(old, new) + 1)
            there = spline_band(at * old, old).matrix()
            back = solve_band(spline_band(at * new, new), new, 1e-12).matrix()
            rows = np.einsum("ij,jk->ik", back, there)
            theta = Band(np.zeros(len(rows), np.int64), rows, rows.shape[1]).apply(theta, axis)
        return theta

    def refine(self, theta: np.ndarray, grid: Grid) -> np.ndarray:
        """The same deformation on the lattice of a level: the finest whose cells hold two of its samples."""
        wanted = self.doublings - int(round(np.log2(max(1.0, 2 * grid.resolution / np.min(self.spacing)))))
        while max(self.cells_of(theta)) < max(self.least_cells) * 2**wanted:
            for axis, cells in enumerate(self.cells_of(theta)):
                theta = refine_band(cells).apply(theta, axis + 1)
        return theta

    def forward(self, theta: np.ndarray, at: Grid | Points):
        """The mapping on `at`, and its way back: `back(image_back, adjoint)` is the gradient on the lattice."""
        if isinstance(at, Points):
            where = self._cells_at(theta, at.world)
            u, theta = np.empty((len(theta), len(at.world)), theta.dtype), np.require(theta, None, ("C", "W"))
            workspace().run(points.spline, len(at.world), theta, *where, u, slab=1 << 10)
            return Mapping(self.matrix, u), PointsBack(theta.shape, where)
        u = self.spread(theta, at).reshape((self.grid.ndim, *at.shape))
        return Mapping(self.matrix, u, at), GridBack(self.bands(self.cells_of(theta), at))

    def spread(self, step: np.ndarray, at: Grid) -> np.ndarray:
        """The displacement in mm that a step adds on `at`, (d, z, y, x); in the buffer of `forward`."""
        bands = self.bands(self.cells_of(step), at)
        for axis in (3, 2, 1)[:self.grid.ndim]:  # along the one sample of a plane there is nothing to do
            step = bands[axis - 1].apply(step, axis, f"bspline {axis}")
        return step

    def gather(self, force: np.ndarray, at: Grid, like: np.ndarray, squared: bool = False) -> np.ndarray:
        """The transpose of `spread` for a lattice like another; `squared`, that of its squared entries."""
        return gather(self.bands(self.cells_of(like), at, squared), force)

    def bands(self, cells, at: Grid, squared: bool = False) -> tuple[Band, Band, Band]:
        """The operators z, y, x that evaluate a lattice of `cells` on a grid with the axes of the fixed one."""
        key = (cells, at.shape3, at.affine3.tobytes(), squared)
        if key not in self._bands:
            to_index = np.linalg.solve(self.grid.affine3, at.affine3)
            out = []
            for k, n in enumerate(self.grid.shape3):
                index = to_index[k, k] * np.arange(at.shape3[k]) + to_index[k, 3]
                band = spline_band(np.clip(index / max(n - 1, 1), 0, 1) * cells[k], cells[k])
                out.append(Band(band.starts, band.weights**2, band.n) if squared else band)
            self._bands[key] = tuple(out)
        return self._bands[key]

    def displacement(self, theta: np.ndarray) -> np.ndarray:
        """The coefficients of the displacement: the lattice itself."""
        return theta

    def grams(self, theta: np.ndarray, at: Grid) -> Grams:
        """Gram matrices of the basis' derivatives: exact integrals on the lattice."""
        cells = self.cells_of(theta)
        if cells not in self._grams:
            axes = tuple(partial(spline_gram, n, s) for n, s in zip(cells, self.cell_size(cells)))
            self._grams[cells] = Grams(axes, frame_of(self.grid))
        return self._grams[cells]

    def slopes(self, theta: np.ndarray, at: Grid | None = None) -> Slopes:
        """The operator that gives a lattice's derivatives at the corners of its cells and halfway between them."""
        cells = self.cells_of(theta)
        if cells not in self._slopes:
            sizes = self.cell_size(cells)
            bands = []
            for n, size in zip(cells, sizes):
                at = np.arange(2 * n + 1) / 2
                rows = [spline_band(at, n, r) for r in range(3)]
                bands.append(tuple(Band(b.starts, b.weights / size**r, b.n) for r, b in enumerate(rows)))
            d = self.grid.ndim
            affine = self.grid.affine.copy()
            affine[:d, :d] *= (sizes / 2 / self.grid.spacing3)[3 - d:]
            points = Grid(tuple(2 * n + 1 for n in cells[3 - d:]), affine)
            self._slopes[cells] = Slopes(tuple(bands), frame_of(self.grid), points)
        return self._slopes[cells]

    def folded(self, theta: np.ndarray, changed: np.ndarray | None = None) -> np.ndarray:
        """Control points that move a place where the map folds or may fold, (*lattice) bool.

        By a bound everywhere on the lattice (`folds.suspects`), and at the samples of the fixed grid by central
        differences, which average over two samples and can be negative where the map is one to one. `changed`,
        (*lattice) bool, says which control points are others than in a lattice that folds nowhere else.
        """
        d, cells = self.grid.ndim, self.cells_of(theta)
        frame, shape = self.slopes(theta).frame, tuple(max(n, 1) for n in cells)
        among = None
        if changed is not None:
            among = np.zeros(shape, bool)
            for shift in np.ndindex(*(4 if n else 1 for n in cells)):
                among |= changed[tuple(slice(k, k + n) for k, n in zip(shift, shape))]
            among = among.reshape(shape[3 - d:])
        bad = suspects(theta.reshape(d, *theta.shape[4 - d:]), self.cell_size(cells)[3 - d:], frame, among)
        bad = bad.reshape(shape)
        at = self._folded_samples(theta, frame) * [n / max(m - 1, 1) for n, m in zip(cells, self.grid.shape3)]
        bad[tuple(np.minimum(at.astype(int), np.array(shape) - 1).T)] = True
        out = np.zeros(theta.shape[1:], bool)
        for shift in np.ndindex(*(4 if n else 1 for n in cells)):
            out[tuple(slice(k, k + n) for k, n in zip(shift, shape))] |= bad
        return out

    def _folded_samples(self, theta, frame):
        """Samples of the fixed grid where it folds, (n, 3) indices."""
        u = self.forward(theta, self.grid)[0].field.reshape(len(theta), *self.grid.shape3)
        counts = np.zeros((u.shape[1], 1))
        workspace().run(kernels.count, len(counts), u, frame, self.grid.spacing3, LEAST, counts, slab=1)
        out = [np.empty((0, 3), int)]
        for z in np.flatnonzero(counts):  # in few planes, of which differences reach one further
            near = slice(max(z - 1, 0), z + 2)
            some = u[:, near] if self.grid.ndim == 3 else u[:, 0]
            low = jacobian_determinant(some, Grid(some.shape[1:], self.grid.affine)) <= LEAST
            at = np.argwhere(low[z - near.start] if self.grid.ndim == 3 else low)
            out.append(np.column_stack([np.full(len(at), z), at]))
        return np.concatenate(out)

    def retract(self, theta: np.ndarray, step: np.ndarray) -> np.ndarray:
        """theta + step."""
        return theta + step

    def reach(self, step: np.ndarray) -> float:
        """Bound on how far a step moves a point, mm (a spline stays within its control points)."""
        return peak(step, np.eye(3) if len(step) == 3 else np.diag([1.0, 1.0, 0.0]))

    def _cells_at(self, theta, world):
        """What `kernels/cpu/points.py` takes: the points, the matrix (3, 4) from world to cells, and the cells."""
        cells = np.array(self.cells_of(theta))
        scale = cells / (np.array(self.grid.shape3) - 1).clip(1)
        to_cells = np.ascontiguousarray(scale[:, None] * self.grid.inverse3[:3])
        return np.require(world, np.float64, ("C", "W")), to_cells, cells


@dataclass(frozen=True, eq=False)
class GridBack:
    """Force on a grid to control points: the transposed passes."""

    bands: tuple[Band, Band, Band]

    def __call__(self, image_back, adjoint: np.ndarray) -> np.ndarray:
        """Gradient (d, z, y, x) on the lattice."""
        return gather(self.bands, image_back.force(adjoint))


def gather(bands, force: np.ndarray) -> np.ndarray:
    """The transposed passes along z, y and x, without z in a plane."""
    for axis in (1, 2, 3)[3 - len(force):]:
        force = bands[axis - 1].adjoint(force, axis, f"bspline back {axis}")
    return force


@dataclass(frozen=True, eq=False)
class PointsBack:
    """Force at points to control points."""

    shape: tuple
    where: tuple

    def __call__(self, image_back, adjoint: np.ndarray) -> np.ndarray:
        """Gradient (d, z, y, x) on the lattice."""
        force, ws = image_back.force(adjoint).reshape(self.shape[0], -1), workspace()
        out = ws.buffer("bspline back 3", self.shape, adjoint.dtype)
        ws.run(points.spline_back, len(out), force, *self.where, out, slab=1)
        return out

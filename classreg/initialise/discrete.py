"""A start for large deformations: a coarse smooth displacement from a discrete search, where it beats none.

Both images are described by self-similarity (MIND-SSC) on one coarse grid of the fixed image. For each cell of a
control grid and each shift d of a lattice that covers the reach of the search, C(d) is the mean squared difference of
descriptors. The field minimises C and stays smooth by turns,

    d = argmin_d C(d) + theta |d - u|^2  per cell,     u = G * d,     theta growing,

which decouples a convex smoothness from a cost of any shape; a second, finer pass searches around the first. Sources:
Heinrich et al., MICCAI 2013, doi:10.1007/978-3-642-40811-3_24 (descriptor, see `descriptors`); MICCAI 2014,
doi:10.1007/978-3-319-10443-0_61 (coupled convex search).

All lengths are shares of the field of view or of the grid's own spacing, and all vectors are world mm: any grid does.

Must not import: registries, io, matplotlib, numba.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..descriptors import Patch, describe
from ..engine import Control, run
from ..errors import ConvergenceError
from ..grid import Grid
from ..image import Image
from ..kernels.cpu import discrete as kernels
from ..kernels.cpu import folds
from ..mapping import Mapping
from ..metrics import LNCC
from ..objective import Objective
from ..optimisers import Greedy
from ..pyramid import factors, shrink
from ..regularisers import Diffusion, Gaussian
from ..sampling import sample
from ..schedule import Level
from ..stencil import smooth
from ..transforms import Dense
from ..transforms.dense import resize
from ..transforms.grams import frame_of

SEARCHES = ("auto", "discrete", "none")

#: samples along the longest axis of the working grid
SAMPLES = 72

#: farthest shift of the search, as a share of the longest axis
REACH = 0.12

#: (cell, step) of the two passes, in samples of the working grid; the second searches `NARROW` steps either way
PASSES = ((4, 2), (2, 1))
NARROW = 2

#: weights of the coupling, in units of the mean cost per squared step
THETAS = (0.001, 0.003, 0.01, 0.03, 0.1)

#: smoothing between them, in cells
SIGMA = 1.0

#: half the patch of the descriptor, and how far apart its neighbours are, in samples
PATCH, DILATION = 1, 1

#: iterations that a candidate of the contest is refined for
ROUNDS = 30

#: radius of local correlation in the contest, whatever the stage's own is, in samples of the level
WINDOW = 2

#: charge for the mean squared gradient of u
STRAIN = 0.5

#: share of the value by which no displacement must be beaten
MARGIN = 0.07

#: least Jacobian determinant of the field
LEAST_JACOBIAN = 0.2


def deformation(fixed: Image, moving: Image, matrix: np.ndarray, metric, search: str = "auto",
                control: Control | None = None) -> tuple[tuple[np.ndarray, Grid] | None, str]:
    """Where a deformation begins: (u (d, *grid.shape3) in mm, its grid) or None for no displacement; and a sentence.

    With "auto" both starts are refined for some iterations on a coarse level by greedy steps; the sum of
    misfit and a charge for strain decides, and a near tie goes to no displacement. With "discrete" there is no contest.

    Parameters
    ----------
    fixed, moving : Image
        Normalised (`pyramid.normalised`), on any grids.
    matrix : array, (d + 1, d + 1)
        A, fixed world to moving world.
    metric
        That of the stage which follows; local correlation is taken in small windows, with its default
        noise floor.
    search : {"auto", "discrete"}
    control : Control, optional
        May end the contest early, for the plain start.
    """
    control = control or Control()
    if isinstance(metric, LNCC):  # wide windows overlook what a start gets wrong
        metric = LNCC(radius=WINDOW)
    found = discrete(fixed, moving, matrix)
    workspace().release()
    if found is None:
        return None, "none (a line cannot be searched)"
    grid = found[1]
    found = u, grid = found[0].reshape((grid.ndim, *grid.shape3)), grid
    far = float(np.sqrt((u**2).sum(0).max()))
    if search == "discrete":
        return found, f"discrete search (up to {far:.1f} mm)"
    h = float(np.max(fixed.grid.extent)) / SAMPLES
    fine, coarse = ((shrink(fixed, k * h), shrink(moving, k * h)) for k in (1, 2))
    values = []
    for candidate in (np.zeros_like(u), u):
        try:
            values.append(_race(fine, coarse, matrix, candidate, grid, metric, control))
        except ConvergenceError:
            values.append(np.inf)
        if control.stopped:
            return None, "none (stopped before the contest ended)"
    better = values[1] < (values[0] - MARGIN * abs(values[0]) if np.isfinite(values[0]) else np.inf)
    figures = f"misfit and strain {values[1]:.4f} against {values[0]:.4f} without"
    return ((found, f"discrete search (up to {far:.1f} mm; {figures})") if better
            else (None, f"none (a discrete search is no better: {figures})"))


def _race(fine, coarse, matrix, u, grid: Grid, metric, control: Control) -> float:
    """A field refined for some iterations on the coarse images: misfit on the fine ones plus the charge for strain."""
    f, m = fine
    model = Dense(f.grid, matrix, compositive=True)
    theta = model.fit(u, grid)
    own = Control(time_limit=control.time_limit, start=control.start)
    theta, _ = run("search", *coarse, model, metric, [Gaussian(1.7), Gaussian(0.5, "displacement")], Greedy(),
                   (Level(1, ROUNDS),), theta, own)
    control.stopped = own.stopped
    theta = model.refine(theta, f.grid)
    strain, _ = Diffusion(2 * STRAIN)(theta, model.grams(theta, f.grid))
    return float(Objective(metric.describe(f), metric.describe(m), model, metric)(theta).value + strain)


def discrete(fixed: Image, moving: Image, matrix: np.ndarray) -> tuple[np.ndarray, Grid] | None:
    """u in mm with phi(x) = A (x + u(x)), (d, *grid.shape) float32, and its grid; None for images that are lines.

    Parameters
    ----------
    fixed, moving : Image
        Normalised (`pyramid.normalised`), on any grids.
    matrix : array, (d + 1, d + 1)
        A, fixed world to moving world.
    """
    resolution = float(np.max(fixed.grid.extent)) / SAMPLES
    f, m = shrink(fixed, resolution), shrink(moving, resolution)
    grid = f.grid
    patch = _patch(grid.shape3)
    if not len(patch.pairs):
        return None
    sizes, counts, wide = _reach(grid, resolution)
    described = describe(f.data, patch), f.weight3 if f.weight is not None else np.ones(grid.shape3, np.float32)
    warped, weight, _ = sample(m, Mapping(matrix), wide)
    there = Image(describe(warped, patch).reshape((-1, *wide.shape)), wide, weight.reshape(wide.shape).copy())
    u = np.zeros((3, *grid.shape3), np.float32)
    for (cell, step), count in zip(sizes, counts):
        u = _searched(u, grid, described, there, cell, step, count)
    return _unfolded(u[:grid.ndim], grid).reshape((grid.ndim, *grid.shape)), grid


def held(fixed: Grid) -> float:
    """About how many values a search on this fixed grid holds at its peak: descriptors, and costs."""
    resolution = float(np.max(fixed.extent)) / SAMPLES
    grid = fixed.coarsen(factors(fixed, resolution))
    sizes, counts, wide = _reach(grid, resolution)
    costs = np.prod(np.array(grid.shape3) / sizes[0][0]) * np.prod(2 * counts[0] + 1)
    return float(len(_patch(grid.shape3).pairs) * (2 * grid.size + 2 * wide.size) + 2 * costs)


def _reach(grid: Grid, resolution: float):
    """Per pass (cell, step) in samples and how many steps are searched either way, (3,) each; the grid with margins."""
    long = np.array(grid.shape3) > 1
    sizes = [[_samples(k * resolution, grid) for k in each] for each in PASSES]
    reach = REACH * float(np.max(grid.extent))
    far = np.where(long, np.ceil(reach / (sizes[0][1] * grid.spacing3) - 0.5), 0).astype(int)
    near = np.where(long, NARROW, 0)
    return sizes, (far, near), _padded(grid, far * sizes[0][1] + near * sizes[1][1])


def _searched(u: np.ndarray, grid: Grid, described, there: Image, cell, step, count) -> np.ndarray:
    """The field after a search of `count` steps either way around it; (3, z, y, x) in mm before and after."""
    d, margin = grid.ndim, count * step
    around = _padded(grid, margin)
    base = np.pad(u, [(0, 0), *((p, p) for p in margin)], mode="edge")[:d].reshape((d, *around.shape))
    moving, inside, _ = sample(there, Mapping(np.eye(d + 1), base, around), around, name="described")
    control = grid.coarsen(cell[3 - d:])
    bounds = [_cells(n, k, c) for n, k, c in zip(grid.shape3, control.shape3, cell)]
    index = np.stack(np.meshgrid(*[np.arange(-c, c + 1) for c in count], indexing="ij"), -1).reshape(-1, 3) * step
    # neighbours look alike, so a pass of wide steps need not look at every plane and row
    volume, mean = _volume(*described, moving, inside, bounds, step[:2], index + margin)
    unit = np.float32(np.max((step * grid.spacing3)[np.array(grid.shape3) > 1]))
    shifts = (index @ grid.affine3[:3, :3].T / unit).astype(np.float32)
    first = resize(u, grid, control)
    field = first
    for theta in THETAS:
        centre = np.ascontiguousarray((field - first).reshape(3, -1).T / unit)
        found = np.empty_like(centre)
        workspace().run(kernels.cheapest, len(volume), volume, shifts, theta * mean, centre, found, slab=64)
        moved = first + unit * np.ascontiguousarray(found.T).reshape(field.shape)
        field = smooth(moved, SIGMA * np.max(control.spacing3) / control.spacing3, np.empty_like(field))
    return resize(field, control, grid)


def _samples(length: float, grid: Grid) -> np.ndarray:
    """A length in mm in whole samples per axis of `shape3`, (3,), at least 1; 1 along one-sample axes."""
    return np.where(np.array(grid.shape3) > 1, np.maximum(1, np.round(length / grid.spacing3)), 1).astype(int)


def _volume(fixed, weight, moving, inside, bounds, pace, shifts) -> tuple[np.ndarray, float]:
    """Cost per cell and shift, (cells, shifts), and its mean.

    What a shift takes outside the moving image costs what a shift of that cell costs on average, so that the border
    neither draws nor repels.
    """
    out = np.empty((*map(len, bounds), len(shifts)), np.float32)
    total, = workspace().total(kernels.cost, len(out), 1, fixed, weight, moving, inside, *bounds, pace, shifts, out,
                               slab=1)
    return out.reshape(-1, len(shifts)), max(float(total) / out.size, 1e-12)


def _patch(shape3) -> Patch:
    """What descriptors compare: 12 pairs of neighbours in 3-D, 4 in a plane, none on a line."""
    long = np.array(shape3) > 1
    return Patch.of(np.flatnonzero(long), np.full(3, DILATION), np.where(long, PATCH, 0))


def _padded(grid: Grid, margin) -> Grid:
    """The grid with `margin` (3,) more samples on both sides of each axis."""
    margin = np.asarray(margin)[3 - grid.ndim:]
    affine = grid.affine.copy()
    affine[:-1, -1] = grid.to_world(-margin)
    return Grid(tuple(np.array(grid.shape) + 2 * margin), affine)


def _cells(n: int, cells: int, size: int) -> np.ndarray:
    """First and last + 1 sample of each cell, (cells, 2): `size` samples around the control points of `coarsen`."""
    edges = np.ceil((n - cells * size) / 2 + size * np.arange(cells + 1)).astype(np.int64).clip(0, n)
    return np.stack([edges[:-1], edges[1:]], -1)


def _unfolded(u: np.ndarray, grid: Grid) -> np.ndarray:
    """The field smoothed, and after some rounds shrunk, until its Jacobian determinant is safely positive."""
    rounds, frame = 0, frame_of(grid)
    while workspace().total(folds.count, u.shape[1], 1, u, frame, grid.spacing3, LEAST_JACOBIAN)[0] > 0:
        if rounds < 4:
            u = smooth(u, PASSES[0][0] * grid.resolution / grid.spacing3, np.empty_like(u))
        else:
            u = u * np.float32(0.7)
        rounds += 1
    return u

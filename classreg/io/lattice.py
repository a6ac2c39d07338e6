"""Cubic B-spline lattices of other tools as classreg's, and classreg's as theirs.

A lattice is a grid of control points, and u(x) = sum over k of B(index of x - k) u_k. It holds where four points per
axis are around x: at indices 1 <= i < n - 2. classreg's own lies over a grid of samples, with its points 1 and n - 2 at
the first and the last sample; other tools lay theirs where they like. A lattice that does not lie over the fixed
samples in that way gets a grid of samples of its own, so the spline stays one and is exact wherever it is evaluated.

Must not import: metrics, the engine, cli, SimpleITK, nibabel.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..fitted import FittedTransform
from ..grid import Grid
from ..transforms import BSpline

CLOSE = 2e-5  # cells by which control points may miss the samples that they lie on: headers hold float32


def exported(transform: FittedTransform, before: int = 1, after: int = 1) -> tuple[Grid, np.ndarray]:
    """The lattice of a fitted spline and its control points u (d, *shape) in mm, float64, with points added around it.

    The inside does not feel what is added: the border repeated. Point k lies at cell position k - 1 - before of the
    samples; on an axis of one sample a cell is a voxel, and all points are alike.
    """
    grid, theta = transform.transform.grid, transform.theta
    theta = theta.reshape((grid.ndim, *theta.shape[-grid.ndim:])).astype(np.float64)
    n = np.array(grid.shape)
    step = np.where(n > 1, (n - 1) / np.maximum(np.array(theta.shape[1:]) - 3, 1), 1.0)
    pad = [(before, after) if m > 1 else (before + 1, after + 2) for m in grid.shape]
    theta = np.pad(theta, [(0, 0), *pad], mode="edge")
    affine = grid.affine.copy()
    affine[:-1, :-1] *= step
    affine[:-1, -1] = grid.to_world(-(1 + before) * step)
    return Grid(theta.shape[1:], affine), theta


def spline(lattice: Grid, u: np.ndarray, matrix: np.ndarray, fixed: Grid) -> FittedTransform | None:
    """A (x + u(x)) with control points u (d, *lattice.shape) in mm; None if the lattice does not hold `fixed`."""
    found = _over(lattice, u, fixed) or _beside(lattice, u, fixed)
    if found is None:
        return None
    grid, theta = found
    theta = np.ascontiguousarray(theta if fixed.ndim == 3 else theta[:, None], np.float32)
    return FittedTransform("bspline", BSpline(grid, float(lattice.spacing.min()), matrix), theta, fixed)


def widened(lattice: Grid, u: np.ndarray, fixed: Grid) -> tuple[Grid, np.ndarray]:
    """The lattice with its border repeated as far as it takes to hold all of `fixed`."""
    index = lattice.to_index(fixed.corners())
    before = np.maximum(0, np.ceil(1 - index.min(0))).astype(int)
    after = np.maximum(0, np.floor(index.max(0)) + 3 - lattice.shape).astype(int)
    if (before + after > 4 * np.array(lattice.shape)).any():
        raise InputError(f"the control points around {np.round(lattice.centre, 1).tolist()} mm lie elsewhere than the "
                         f"image around {np.round(fixed.centre, 1).tolist()} mm; it is not the one they were fitted on")
    affine = lattice.affine.copy()
    affine[:-1, -1] = lattice.to_world(-before)
    return Grid(tuple(lattice.shape + before + after), affine), np.pad(u, [(0, 0), *zip(before, after)], mode="edge")


def holds(lattice: Grid, fixed: Grid) -> bool:
    """Whether all samples of `fixed` have four control points around them along each axis."""
    index = lattice.to_index(fixed.corners())
    return bool((index.min(0) >= 1).all() and (index.max(0) < np.array(lattice.shape) - 2).all())


def _over(lattice: Grid, u: np.ndarray, fixed: Grid) -> tuple[Grid, np.ndarray] | None:
    """The fixed grid and the control points that classreg's own lattice over it has, if it is that one."""
    d = fixed.ndim
    to_fixed = np.linalg.solve(fixed.affine, lattice.affine)
    step, start = np.diag(to_fixed)[:d], to_fixed[:d, d]
    rest = to_fixed[:d, :d] - np.diag(step)
    if step.min() <= 0 or (np.abs(rest) @ lattice.shape / step).max() > CLOSE:
        return None
    kept = [slice(None)]
    for axis, (points, samples) in enumerate(zip(lattice.shape, fixed.shape), 1):
        if samples == 1:
            if np.ptp(u, axis=axis).max() > 0:
                return None
            kept.append(slice(0, 1))
            continue
        ends = np.array([-start[axis - 1], samples - 1 - start[axis - 1]]) / step[axis - 1]
        first, last = np.rint(ends).astype(int)
        if np.abs(ends - [first, last]).max() > CLOSE or first < 1 or last > points - 2 or first >= last:
            return None
        kept.append(slice(first - 1, last + 2))
    return fixed, u[tuple(kept)]


def _beside(lattice: Grid, u: np.ndarray, fixed: Grid) -> tuple[Grid, np.ndarray] | None:
    """Samples along the lattice's own axes, about as fine as the fixed ones, between its points 1 and n - 2."""
    if not holds(lattice, fixed):
        return None
    d = fixed.ndim
    axes, own = lattice.axes, fixed.axes
    fine = np.maximum(1, np.ceil(lattice.spacing / fixed.spacing[np.abs(own.T @ axes).argmax(0)] - 1e-6)).astype(int)
    affine = lattice.affine.copy()
    affine[:d, :d] /= fine
    affine[:d, d] = lattice.to_world(np.ones(d))
    return Grid(tuple((np.array(lattice.shape) - 3) * fine + 1), affine), u

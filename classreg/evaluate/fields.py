"""Displacement fields and transforms beside each other, and on their own: RMSE, inverse consistency, curl, bending.

    RMSE                 sqrt(mean |y_1 - y_2|^2)            mm
    inverse consistency  |psi(phi(x)) - x|                   mm, or voxels of the grid
    curl                 |rot u|, in 2-D |du_y/dx - du_x/dy|  no unit
    bending energy       mean of sum_ikl (d^2 u_i / dx_k dx_l)^2   1 / mm^2

Derivatives are taken in world space, so a turn of the grid changes nothing.

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..errors import InputError, OptionError, unknown
from ..fitted import FittedTransform
from ..grid import Grid
from ..mapping import Mapping
from .checks import displacement_on, mask_of
from .surfaces import UNITS

#: points that are mapped together
CHUNK = 1 << 18

Map = FittedTransform | Mapping | Callable


def field_rmse(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Root mean square of |a - b| over the samples of two displacements (d, *shape), in their unit.

    >>> field_rmse(np.zeros((2, 1, 2)), [[[3.0, 0.0]], [[4.0, 0.0]]]).__round__(4)
    3.5355
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape or a.ndim < 2:
        raise InputError(f"the displacements have shapes {a.shape} and {b.shape}; both need (d, *shape) of one grid")
    square = ((a - b) ** 2).sum(0)[mask_of(mask, a.shape[1:])]
    if not np.isfinite(square).all():
        raise InputError(f"{int((~np.isfinite(square)).sum())} samples of the displacements are not finite; mask them")
    return float(np.sqrt(square.mean()))


def transform_rmse(first: Map, second: Map, at: Grid | np.ndarray, mask: np.ndarray | None = None) -> float:
    """Root mean square distance in mm between where two transforms take the samples of a grid, or points (n, d).

    Parameters
    ----------
    first, second : FittedTransform, Mapping or function
        Maps of world points (n, d) to world points.
    at : Grid or array, (n, d)
    mask : array, optional
        On the grid, or one number per point: counts only where it is above 0.

    Raises
    ------
    InputError
        If the mask does not fit, or a mapped point is not finite.
    """
    total, count = 0.0, 0
    for points in _chunks(at, mask):
        square = ((_through(first, points) - _through(second, points)) ** 2).sum(1)
        total, count = total + float(square.sum()), count + len(points)
    return float(np.sqrt(total / count))


def inverse_consistency(forward: Map, backward: Map, at: Grid | np.ndarray, mask: np.ndarray | None = None,
                        unit: str = "mm", grid: Grid | None = None) -> dict:
    """How far backward(forward(x)) is from x.

    Parameters
    ----------
    forward, backward : FittedTransform, Mapping or function
        Maps of world points (n, d): fixed to moving, and moving to fixed.
    at : Grid or array, (n, d)
        Samples of the fixed grid, or points in fixed world space.
    mask : array, optional
        On the grid, or one number per point: counts only where it is above 0.
    unit : {"mm", "voxel"}
        Voxels of `grid`, the error's components along its axes each divided by their spacing.
    grid : Grid, optional
        Whose voxels; by default `at`.

    Returns
    -------
    dict
        "mean", "p99", "max", the number of points "n", the "convention".

    Raises
    ------
    InputError
        If the mask does not fit, a mapped point is not finite, or voxels are asked for without a grid.
    OptionError
        For an unknown unit.

    Notes
    -----
    Small says that the two maps undo each other, not that either is right. Points that leave the moving image count:
    mask them out where the backward map has nothing to go by.
    """
    if unit not in UNITS:
        raise unknown("unit", unit, UNITS)
    grid = at if grid is None and isinstance(at, Grid) else grid
    if unit == "voxel" and grid is None:
        raise InputError("unit='voxel' needs a grid, and the points have none; pass grid=")
    to_unit = None if unit == "mm" else np.linalg.inv(grid.affine[:-1, :-1])
    errors = []
    for points in _chunks(at, mask):
        gap = _through(backward, _through(forward, points)) - points
        gap = gap if to_unit is None else np.einsum("ij,nj->ni", to_unit, gap)
        errors.append(np.sqrt((gap**2).sum(1)))
    errors = np.concatenate(errors)
    return {"mean": float(errors.mean()), "p99": float(np.quantile(errors, 0.99)), "max": float(errors.max()),
            "n": len(errors), "convention": {"unit": unit, "direction": "backward(forward(x)) - x"}}


def curl_magnitude(field: np.ndarray, grid: Grid) -> np.ndarray:
    """Length of the curl of a displacement at every sample: twice the local rotation, for small ones in radians.

    Parameters
    ----------
    field : array, (d, *grid.shape)
        u in mm, world components first.
    grid : Grid

    Returns
    -------
    array, grid.shape

    Raises
    ------
    InputError
        If the field does not fit the grid or is not finite.

    Notes
    -----
    Central differences inside, one-sided ones at the border; an axis with one sample contributes none.

    Examples
    --------
    >>> grid = Grid.from_spacing((3, 3), spacing=2.0)
    >>> x, y = np.moveaxis(grid.points(), -1, 0)
    >>> float(curl_magnitude(np.stack([-0.1 * y, 0.1 * x]), grid).max())
    0.2
    """
    u, d = displacement_on(field, grid), grid.ndim
    index_per_mm = np.linalg.inv(grid.affine[:d, :d])
    slope = [[0.0] * d for _ in range(d)]  # du_i / dx_j
    for axis in range(d):
        if grid.shape[axis] > 1:
            for i in range(d):
                along = np.gradient(u[i], axis=axis)
                for j in range(d):
                    slope[i][j] = slope[i][j] + along * index_per_mm[axis, j]
    pairs = [(1, 0)] if d == 2 else [(2, 1), (0, 2), (1, 0)]
    return np.sqrt(sum((slope[i][j] - slope[j][i]) ** 2 for i, j in pairs) + np.zeros(grid.shape))


def bending_energy(field: np.ndarray, grid: Grid, mask: np.ndarray | None = None) -> float:
    """Mean over the inner samples of the squared second derivatives of a displacement, in 1 / mm^2.

    Parameters
    ----------
    field : array, (d, *grid.shape)
        u in mm, world components first.
    grid : Grid
        Three samples or one along each axis.
    mask : array, grid.shape, optional
        Counts only inner samples where it is above 0.

    Raises
    ------
    InputError
        If the field or mask do not fit, the field is not finite, or the mask has no inner sample.
    OptionError
        If an axis has two samples, which show no second derivative.

    Notes
    -----
    Twice what the regulariser `bending` adds to the energy at weight 1, up to discretisation. Mixed derivatives count
    twice, as in Rueckert et al., IEEE TMI 18 (1999), doi:10.1109/42.796284. Differences [1, -2, 1], and central ones of
    central ones for mixed terms; the outermost samples are left out.
    """
    u, d = displacement_on(field, grid), grid.ndim
    if 2 in grid.shape:
        raise OptionError(f"the grid is {grid.shape}; second derivatives need three samples along an axis, or one")
    long = [a for a in range(d) if grid.shape[a] > 1]
    inner = tuple(slice(1, -1) if a in long else slice(None) for a in range(d))
    inside = mask_of(mask, grid.shape)[inner]
    if not inside.any():
        raise InputError("no inner sample of the grid is in the mask; bending needs neighbours on all sides")
    index_per_mm = np.linalg.inv(grid.affine[:d, :d])
    total = 0.0
    for component in u:
        second = {(a, b): _second(component, a, b)[inner][inside] for a in long for b in long if a <= b}
        for k in range(d):
            for m in range(d):
                world = sum(second[min(a, b), max(a, b)] * (index_per_mm[a, k] * index_per_mm[b, m])
                            for a in long for b in long)
                total += float(np.mean(np.square(world)))
    return total


def _second(values, a, b):
    """Second difference along two axes; the outermost samples, which wrap round, are not for use."""
    if a == b:
        return np.roll(values, 1, a) - 2 * values + np.roll(values, -1, a)
    along = np.roll(values, -1, a) - np.roll(values, 1, a)
    return (np.roll(along, -1, b) - np.roll(along, 1, b)) / 4


def _through(transform: Map, points: np.ndarray) -> np.ndarray:
    """World points through whatever maps them, from its first end to its second."""
    if isinstance(transform, FittedTransform):
        out = transform.map_points(points, frm=transform.frm, to=transform.to)
    else:
        out = transform.apply(points) if isinstance(transform, Mapping) else np.asarray(transform(points), float)
    if out.shape != points.shape or not np.isfinite(out).all():
        raise InputError(f"a transform maps {points.shape} points to {out.shape}, {int((~np.isfinite(out)).sum())} "
                         "coordinates not finite; mask out points where it is not defined")
    return out


def _chunks(at: Grid | np.ndarray, mask) -> Iterator[np.ndarray]:
    """The points to measure at, some at a time."""
    if isinstance(at, Grid):
        index = np.argwhere(mask_of(mask, at.shape))
        for start in range(0, len(index), CHUNK):
            yield at.to_world(index[start:start + CHUNK])
        return
    points = np.asarray(at, float)
    if points.ndim != 2 or points.shape[1] not in (2, 3) or len(points) == 0:
        raise InputError(f"points of shape {points.shape}; expected a Grid, or (n, 2) or (n, 3) world points, n > 0")
    points = points[mask_of(mask, (len(points),))]
    for start in range(0, len(points), CHUNK):
        yield points[start:start + CHUNK]

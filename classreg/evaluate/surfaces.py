"""Distances between the surfaces of two labels: Hausdorff, its 95 % quantile, mean distances, surface Dice.

Every piece of surface A has a distance to the nearest piece of surface B, and the other way round. The pieces are

    "surfel"   the centres of the cells that the surface crosses, each with its area (see `surfels`); DeepMind's
               `surface-distance`, which Learn2Reg takes;
    "voxel"    the centres of the label's voxels that have a face neighbour outside, all weighing the same (MedPy).

Distances are exact on any grid, oblique, anisotropic or sheared: they are taken between world points, in mm; in
voxels where asked for. 2-D maps have contours for surfaces, and so has a volume of one slice. The image border
closes a label that touches it. With one label empty, distances are infinite and overlap is 0; with both, all is NaN.

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

from ..errors import InputError, OptionError, unknown
from ..grid import Grid
from .checks import foreground, label_maps, positive
from .surfels import areas, codes

ELEMENTS = ("surfel", "voxel")
UNITS = ("mm", "voxel")


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances of all pieces of two surfaces, ascending, each with its area.

    Attributes
    ----------
    a_to_b, b_to_a : array, (n_a,), (n_b,)
        Distance of each piece of one surface to the nearest piece of the other; infinite if there is none.
    area_a, area_b : array, (n_a,), (n_b,)
        Area of the pieces in mm^2 (mm in 2-D) or voxels; 1 each for "voxel" elements.
    elements, unit : str
        What the pieces are, and the unit of the distances.
    """

    a_to_b: np.ndarray
    b_to_a: np.ndarray
    area_a: np.ndarray
    area_b: np.ndarray
    elements: str
    unit: str


def surface_distances(a: np.ndarray, b: np.ndarray, grid: Grid, elements: str = "surfel",
                      unit: str = "mm") -> SurfaceDistances:
    """All distances between the surfaces of two masks on one grid.

    Parameters
    ----------
    a, b : array, (*grid.shape)
        Masks: what is above 0 is inside.
    grid : Grid
        Where the samples lie; `Grid.from_spacing(shape, spacing)` for an array with spacing.
    elements : {"surfel", "voxel"}
    unit : {"mm", "voxel"}
        Voxels ignore the spacing, as Learn2Reg's script does.

    Raises
    ------
    InputError
        If the masks do not fit the grid, or it has less than two axes with more than one sample.
    OptionError
        For unknown elements or unit.

    Examples
    --------
    >>> a, b = np.zeros((2, 9, 9)), np.zeros((2, 9, 9))
    >>> a[:, 2:5, 2:5] = b[:, 2:5, 4:7] = 1
    >>> hausdorff(surface_distances(a, b, Grid.from_spacing(a.shape, (5.0, 1.0, 1.5))))
    3.0
    """
    if elements not in ELEMENTS:
        raise unknown("surface elements", elements, ELEMENTS)
    if unit not in UNITS:
        raise unknown("unit", unit, UNITS)
    a, b = np.asarray(a) > 0, np.asarray(b) > 0
    for mask, which in ((a, "first"), (b, "second")):
        if mask.shape != grid.shape:
            raise InputError(f"the {which} mask has shape {mask.shape}, the grid {grid.shape}; resample it to the grid")
    long = [axis for axis, n in enumerate(grid.shape) if n > 1]
    if len(long) < 2:
        raise InputError(f"a grid of shape {grid.shape} has no surfaces: two axes need more than one sample")
    flat = tuple(axis for axis, n in enumerate(grid.shape) if n == 1)
    linear = grid.affine[:-1, :-1][:, long] if unit == "mm" else np.eye(len(long))
    (at_a, area_a), (at_b, area_b) = (_pieces(m.squeeze(flat), linear, elements) for m in (a, b))
    a_to_b, area_a = _nearest(at_a, area_a, at_b)
    b_to_a, area_b = _nearest(at_b, area_b, at_a)
    return SurfaceDistances(a_to_b, b_to_a, area_a, area_b, elements, unit)


def hausdorff(s: SurfaceDistances) -> float:
    """Largest distance of either surface from the other."""
    if 0 in (s.a_to_b.size, s.b_to_a.size):
        return _without(s)
    return float(max(s.a_to_b[-1], s.b_to_a[-1]))


def hd95(s: SurfaceDistances, pooling: str = "max") -> float:
    """95 % quantile of the distances: robust against a few pieces far off.

    Parameters
    ----------
    pooling : {"max", "pooled"}
        The larger of the two directed quantiles (DeepMind), or one quantile of both lists together (MedPy).

    Notes
    -----
    Surfels: the smallest distance that 95 % of the area does not exceed. Voxels: interpolated linearly between
    distances, as by `numpy.percentile`.
    """
    if pooling not in ("max", "pooled"):
        raise unknown("pooling", pooling, ("max", "pooled"))
    if 0 in (s.a_to_b.size, s.b_to_a.size):
        return _without(s)
    lists = [(s.a_to_b, s.area_a), (s.b_to_a, s.area_b)]
    if pooling == "pooled":
        distance, area = (np.concatenate(x) for x in zip(*lists))
        order = np.argsort(distance, kind="stable")
        lists = [(distance[order], area[order])]
    if s.elements == "voxel":
        return float(max(np.percentile(distance, 95) for distance, _ in lists))
    return float(max(_weighted(distance, area, 0.95) for distance, area in lists))


def asd(s: SurfaceDistances) -> float:
    """Mean distance from surface a to surface b, weighted by area; not the same as from b to a."""
    return _mean(s.a_to_b, s.area_a, s.area_b)


def assd(s: SurfaceDistances, pooling: str = "pooled") -> float:
    """Symmetric mean distance.

    Parameters
    ----------
    pooling : {"pooled", "mean"}
        The mean over all pieces of both surfaces (MedPy 0.5), or the mean of the two directed means.
    """
    if pooling == "mean":
        return (asd(s) + _mean(s.b_to_a, s.area_b, s.area_a)) / 2
    if pooling != "pooled":
        raise unknown("pooling", pooling, ("pooled", "mean"))
    both, weight = np.concatenate([s.a_to_b, s.b_to_a]), np.concatenate([s.area_a, s.area_b])
    return _mean(both, weight, weight)


def surface_dice(s: SurfaceDistances, tolerance: float) -> float:
    """Share of both surfaces that is at most `tolerance` from the other one; 0 to 1.

    The tolerance is in the unit of the distances, and the number means nothing without it.
    """
    if not (np.isscalar(tolerance) and np.isfinite(tolerance) and tolerance >= 0):
        raise OptionError(f"tolerance is {tolerance!r}; it must be a finite distance of at least 0")
    total = s.area_a.sum() + s.area_b.sum()
    if total == 0:
        return float("nan")
    near = s.area_a[s.a_to_b <= tolerance].sum() + s.area_b[s.b_to_a <= tolerance].sum()
    return float(near / total)


def surface_scores(warped: np.ndarray, fixed: np.ndarray, grid: Grid, labels: Iterable[int] | None = None,
                   tolerance: float = 1.0, elements: str = "surfel", unit: str = "mm") -> dict:
    """Surface measures of two label maps, label by label.

    Parameters
    ----------
    warped, fixed : array of integers, (*grid.shape)
        Label maps; "a" and "b" of `SurfaceDistances`.
    grid : Grid
    labels : iterable of int, optional
        By default all labels in either map, without the background 0.
    tolerance : float
        Of the surface Dice, in `unit`.
    elements, unit
        As for `surface_distances`.

    Returns
    -------
    dict
        "scores": label -> {"hd", "hd95", "hd95_pooled", "asd", "assd", "assd_mean", "surface_dice"};
        "convention": what was measured how. ASD goes from the warped to the fixed surface.
    """
    warped, fixed = label_maps(warped, fixed)
    tolerance = positive("tolerance", tolerance)
    scores = {}
    for label in foreground(warped, fixed, labels):
        s = surface_distances(warped == label, fixed == label, grid, elements, unit)
        scores[label] = {"hd": hausdorff(s), "hd95": hd95(s), "hd95_pooled": hd95(s, "pooled"), "asd": asd(s),
                         "assd": assd(s), "assd_mean": assd(s, "mean"), "surface_dice": surface_dice(s, tolerance)}
    return {"scores": scores,
            "convention": {"elements": elements, "unit": unit, "tolerance": tolerance, "asd": "warped to fixed",
                           "weights": "area" if elements == "surfel" else "none",
                           "empty": "one map without the label: infinite; both: NaN"}}


def _pieces(mask, linear, elements):
    """World points (n, d) and areas (n,) of a mask's surface; the origin does not matter."""
    found = np.argwhere(mask)
    if len(found) == 0:
        return np.zeros((0, len(linear))), np.zeros(0)
    low, high = found.min(0), found.max(0) + 1
    part = mask[tuple(slice(i, j) for i, j in zip(low, high))]
    if elements == "voxel":
        where = np.argwhere(part & ~binary_erosion(part))
        return np.einsum("ij,nj->ni", linear, where + low), np.ones(len(where))
    code = codes(part)
    where = np.argwhere((code > 0) & (code < (1 << (1 << mask.ndim)) - 1))
    return np.einsum("ij,nj->ni", linear, where + low - 0.5), areas(linear)[code[tuple(where.T)]]


def _nearest(points, area, others):
    """Distances of points to the nearest of the others, ascending, and their areas in that order."""
    distance = np.full(len(points), np.inf)
    if len(points) and len(others):
        distance = cKDTree(others).query(points)[0]
    order = np.argsort(distance, kind="stable")
    return distance[order], area[order]


def _mean(distance, area, other):
    if area.size == 0:
        return float("inf" if other.size else "nan")
    return float((distance * area).sum() / area.sum())


def _without(s):
    """What a distance is if one surface is missing, or both are."""
    return float("nan" if s.a_to_b.size == s.b_to_a.size else "inf")


def _weighted(distance, area, share):
    """The first distance up to which at least this share of the area lies."""
    reached = np.cumsum(area) / area.sum()
    return distance[min(np.searchsorted(reached, share), len(distance) - 1)]

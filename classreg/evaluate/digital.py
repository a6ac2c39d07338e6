"""Folds between samples: the determinants of all simplices, and the volume of those that are turned inside out.

A displacement that alternates from one sample to the next folds, and central differences do not see it. Between the
samples the map is taken as linear on simplices: with w the displacement in index units, e_a the axes and s_a = +-1,

    J_s = det [columns  s_a (phi(i + s_a e_a) - phi(i))],   phi(i) = i + w(i),   all 2^d choices of s,

and in 3-D also the two tetrahedra in the middle of a cube, j1* and j2*, with i for a corner and three diagonal steps
for edges (2 at the identity). The map is a digital diffeomorphism where all of these are above 0, and

    NDV = sum over samples and determinants of  1/2 max(-J, 0) / d!    (10 in 3-D; in 2-D 4, the area NDA),

the 1/2 because a cube is cut in two ways. Outside the grid the displacement keeps its value at the border.
Source: Liu et al., IJCV 132 (2024), doi:10.1007/s11263-024-02047-1.

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

from itertools import product
from math import factorial

import numpy as np

from ..errors import OptionError, unknown
from ..grid import Grid
from ..jacobian import SLAB, determinant, jacobian_determinant
from .checks import displacement_on, mask_of

SCHEMES = ("central", "forward", "backward", "digital")

#: of the tetrahedra in the middle of a cube: pairs of axes along which the three edges go
DIAGONALS = {-1: ((0, 1), (0, 2), (1, 2)), 1: ((0, 1), (1, 2), (0, 2))}


def one_sided_determinant(field: np.ndarray, grid: Grid, signs) -> np.ndarray:
    """Jacobian determinant by forward or backward differences along each axis.

    Parameters
    ----------
    field : array, (d, *grid.shape)
        u in mm, world components (x, y[, z]) first, spatial axes in array order.
    grid : Grid
        Where u is sampled; any spacing, orientation and shear.
    signs : sequence of +1 or -1, (d,)
        Forward or backward, for each array axis.

    Returns
    -------
    array, grid.shape
        1 at the identity. Beyond the border u is as at the border, so the last forward difference is 0.

    Raises
    ------
    InputError
        If the field does not fit the grid or is not finite.
    OptionError
        If the signs are none.

    Examples
    --------
    >>> grid = Grid.from_spacing((3, 4), spacing=2.0)
    >>> one_sided_determinant(0.5 * grid.points()[..., 0] * [[[1]], [[0]]], grid, (1, 1))[0].tolist()
    [1.5, 1.5, 1.5, 1.0]
    """
    signs = tuple(signs)
    if len(signs) != grid.ndim or not set(signs) <= {1, -1}:
        raise OptionError(f"signs are {signs}; give +1 (forward) or -1 (backward) for each of {grid.ndim} array axes")
    return _corner(_padded(_index_field(field, grid)), signs)


def folding_share(field: np.ndarray, grid: Grid, scheme: str = "central", mask: np.ndarray | None = None) -> float:
    """Share of the samples that fold, in percent, by one of several schemes.

    Parameters
    ----------
    field, grid
        As for `one_sided_determinant`.
    scheme : {"central", "forward", "backward", "digital"}
        Central differences, one-sided at the border (what most papers print); one-sided ones along all axes; or a
        fold in any of the simplices around the sample.
    mask : array, grid.shape, optional
        Counts only samples where it is above 0.

    Raises
    ------
    InputError
        If the field or the mask do not fit the grid, or the field is not finite.
    OptionError
        For an unknown scheme.
    """
    if scheme not in SCHEMES:
        raise unknown("scheme", scheme, SCHEMES)
    if scheme == "digital":
        return digital_folding(field, grid, mask)["folding"]
    field = displacement_on(field, grid)
    inside = mask_of(mask, grid.shape)
    if scheme == "central":
        det = jacobian_determinant(field, grid)
    else:
        det = one_sided_determinant(field, grid, [1 if scheme == "forward" else -1] * grid.ndim)
    return 100.0 * float((det[inside] <= 0).mean())


def digital_folding(field: np.ndarray, grid: Grid, mask: np.ndarray | None = None) -> dict:
    """Non-diffeomorphic volume, and the share of samples that fold in any simplex.

    Parameters
    ----------
    field, grid, mask
        As for `folding_share`.

    Returns
    -------
    dict
        "ndv" in voxels, "ndv_mm" in mm^d, "ndv_percent" of the mask's samples; "folding", the percentage of samples
        with a determinant of at most 0 among all (10 in 3-D, 4 in 2-D); the "convention".

    Raises
    ------
    InputError
        As `folding_share`.

    Notes
    -----
    Worked in slabs of 16 planes. An axis with one sample contributes no derivative.
    """
    inside, w = mask_of(mask, grid.shape), _index_field(field, grid)
    d, volume, folded = grid.ndim, 0.0, 0
    simplices = [(_corner, signs) for signs in product((1, -1), repeat=d)]
    if d == 3:
        simplices += [(_centre, sign) for sign in DIAGONALS]
    for start in range(0, grid.shape[0], SLAB):
        stop = min(start + SLAB, grid.shape[0])
        low, high = max(start - 1, 0), min(stop + 1, grid.shape[0])
        part, keep = _padded(w[:, low:high]), slice(start - low, stop - low)
        chosen, bad = inside[start:stop], np.zeros(inside[start:stop].shape, bool)
        for kind, signs in simplices:
            values = kind(part, signs)[keep]
            bad |= values <= 0
            volume += 0.5 * float(np.maximum(-values[chosen], 0).sum()) / factorial(d)
        folded += int((bad & chosen).sum())
    count = int(inside.sum())
    return {"ndv": volume, "ndv_mm": volume * grid.voxel_volume, "ndv_percent": 100.0 * volume / count,
            "folding": 100.0 * folded / count,
            "convention": {"determinants": len(simplices), "border": "displacement repeated",
                           "folded": "any determinant at most 0"}}


def _index_field(field, grid):
    """The displacement in index units, components along the array axes."""
    to_index = np.linalg.inv(grid.affine[:-1, :-1])
    return np.einsum("ij,j...->i...", to_index, displacement_on(field, grid))


def _padded(w):
    return np.pad(w, [(0, 0)] + [(1, 1)] * (w.ndim - 1), mode="edge")


def _shifted(w, step):
    """w at i + step, from the padded w."""
    return w[(slice(None), *(slice(1 + s, n - 1 + s) for s, n in zip(step, w.shape[1:])))]


def _corner(w, signs):
    d = len(w)
    here, columns = _shifted(w, [0] * d), []
    for axis, sign in enumerate(signs):
        step = [sign if a == axis else 0 for a in range(d)]
        columns.append([sign * c + (a == axis) for a, c in enumerate(_shifted(w, step) - here)])
    return determinant(columns)


def _centre(w, sign):
    here, columns = _shifted(w, [0] * 3), []
    for pair in DIAGONALS[sign]:
        step = [sign if a in pair else 0 for a in range(3)]
        columns.append([c + s for s, c in zip(step, _shifted(w, step) - here)])
    return determinant(columns)

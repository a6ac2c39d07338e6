"""The Jacobian determinant of a sampled displacement, J = det(I + du/dx), du/dx in world space.

J is the local change of volume (area in 2-D): 1 where nothing changes, 0.5 where the map halves a volume, at
most 0 where it folds.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

import numpy as np

from .errors import InputError
from .grid import Grid

SLAB = 16


def jacobian_determinant(field: np.ndarray, grid: Grid) -> np.ndarray:
    """Jacobian determinant of x -> x + u(x) at every sample of the grid.

    Parameters
    ----------
    field : array, (d, *grid.shape)
        u in mm, world components (x, y[, z]) first, spatial axes in array order.
    grid : Grid
        Where u is sampled; any spacing, orientation and shear.

    Returns
    -------
    array, grid.shape, float32

    Raises
    ------
    InputError
        If the field does not fit the grid.

    Notes
    -----
    Central differences inside, one-sided ones at the border (the rule of `numpy.gradient`); an axis with one
    sample contributes no derivative. Central differences do not see a displacement that alternates from one
    sample to the next. Worked in slabs of 16 planes in float64, to save memory.

    Examples
    --------
    >>> grid = Grid.from_spacing((3, 4), spacing=2.0)
    >>> float(jacobian_determinant(-0.5 * grid.points()[..., 0] * [[[1]], [[0]]], grid).max())
    0.5
    """
    field = np.asarray(field)
    d = grid.ndim
    if field.shape != (d, *grid.shape):
        raise InputError(f"the displacement has shape {field.shape}; on this grid it must be "
                         f"{(d, *grid.shape)}: world components first")
    # du_i/dx_j is the sum over array axes a of du_i/dindex_a dindex_a/dx_j
    index_per_mm = np.linalg.inv(grid.affine[:d, :d])
    out = np.empty(grid.shape, np.float32)
    planes = grid.shape[0]
    for start in range(0, planes, SLAB):
        stop = min(start + SLAB, planes)
        low, high = max(start - 1, 0), min(stop + 1, planes)
        part = field[:, low:high].astype(float)
        jacobian = [[np.full(part.shape[1:], float(i == j)) for j in range(d)] for i in range(d)]
        for axis in range(d):
            if grid.shape[axis] == 1:
                continue
            for i in range(d):
                slope = np.gradient(part[i], axis=axis)
                for j in range(d):
                    jacobian[i][j] += slope * index_per_mm[axis, j]
        out[start:stop] = determinant(jacobian)[start - low:stop - low]
    return out


def determinant(m: list[list[np.ndarray]]) -> np.ndarray:
    """Determinant of a 2 x 2 or 3 x 3 matrix whose entries are arrays of one shape."""
    if len(m) == 2:
        return m[0][0] * m[1][1] - m[0][1] * m[1][0]
    return (m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
            - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
            + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]))

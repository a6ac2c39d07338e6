"""Series of single slices move in their plane: as 2-D images, and back to where the slice lies.

A frame (1, y, x) anywhere in space is a 2-D image in millimetres along its own axes; what is found there,

    phi(x) = A (x + u(x))   becomes   P A P^-1 (x + P u(P^-1 x)),

with P the rigid matrix that takes the plane to the world; along the normal nothing moves.

Must not import: metrics, optimisers, numba, cupy, matplotlib.
"""

from __future__ import annotations

import numpy as np

from ..fitted import FittedTransform
from ..grid import Grid, lift
from ..image import Image
from ..mapping import Mapping


def plane_of(grid: Grid) -> np.ndarray | None:
    """P, (4, 4), of a 3-D grid of one slice; None of others."""
    if grid.ndim == 2 or grid.shape[0] != 1:
        return None
    x, y = grid.affine[:3, 2], grid.affine[:3, 1]
    first = x / np.linalg.norm(x)
    second = y - (y * first).sum() * first
    second /= np.linalg.norm(second)
    out = np.eye(4)
    out[:3, 0], out[:3, 1], out[:3, 2], out[:3, 3] = first, second, np.cross(first, second), grid.affine[:3, 3]
    return out


def flat(image: Image) -> Image:
    """A frame of one slice as an image of its plane; others as they are."""
    plane = plane_of(image.grid)
    if plane is None:
        return image
    affine = (np.linalg.inv(plane) @ image.grid.affine)[np.ix_([0, 1, 3], [1, 2, 3])]
    affine[:2, 2] = 0  # rounding
    return Image(image.array.reshape(image.grid.shape[1:]), Grid(image.grid.shape[1:], affine))


def raised(transform: FittedTransform, grid: Grid) -> FittedTransform:
    """A transform of the plane of a grid of one slice as one of the world; of other grids as it is."""
    plane = plane_of(grid)
    if plane is None:
        return transform
    matrix = plane @ lift(transform.matrix) @ np.linalg.inv(plane)
    matrix[3] = 0, 0, 0, 1
    more = dict(frm=transform.frm, to=transform.to)
    if transform.linear:
        return FittedTransform.from_matrix(matrix, grid, grid, **more)
    field = transform.on(transform.grid).field
    u = (plane[:3, 0, None, None] * field[0] + plane[:3, 1, None, None] * field[1])[:, None]
    mapping = Mapping(matrix, np.ascontiguousarray(u, np.float32), grid)
    return FittedTransform.from_mapping(mapping, grid, grid, model=transform.model, **more)

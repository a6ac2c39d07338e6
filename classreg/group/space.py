"""The grid of the common space, chosen from those of the images.

Must not import: metrics, optimisers, numba, cupy, matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..grid import Grid
from ..transforms.halves import like


def common_grid(grids: Sequence[Grid], matrices: Sequence[np.ndarray]) -> Grid:
    """Where a group meets once each image went back along its matrix, common world to image world.

    Images on one grid meet on that grid. Otherwise the axes are the mean of the images' axes (each image's taken in the
    order and the sense that is nearest to z, y, x), the spacing along each is the geometric mean of theirs, and the
    grid reaches along each as far as two images do, and at least as far as half of the shortest: what one image sees
    alone, nothing can be aligned with. No image is preferred, and their order does not matter.

    Examples
    --------
    >>> a = Grid.from_spacing((40, 50), spacing=2.0)
    >>> b = Grid.from_spacing((80, 100), spacing=1.0, origin=(-0.5, 9.5))
    >>> common_grid([a, b], [np.eye(3), np.eye(3)])
    Grid(49 x 71, spacing 1.414 x 1.414 mm, centre [49.0, 44.0])
    """
    if all(grid.same_as(grids[0], 1e-6) for grid in grids[1:]):
        return grids[0]
    d, upright = grids[0].ndim, Grid.from_spacing(grids[0].shape)
    ways, spacings, shapes, ends = [], [], [], []
    for grid, matrix in zip(grids, matrices):
        affine, shape = like(np.linalg.inv(matrix) @ grid.affine, grid.shape, upright)
        spacing = np.linalg.norm(affine[:d, :d], axis=0)
        ways.append(affine[:d, :d] / spacing)
        spacings.append(spacing)
        shapes.append(shape)
        ends.append((affine[:d, :d] @ ((shape - 1) / 2) + affine[:d, d], spacing * shape))
    u, _, vt = np.linalg.svd(sum(ways))
    axes, spacings, shapes = u @ vt, np.array(spacings), np.array(shapes)
    many = (shapes > 1) | (shapes == 1).all(0)  # one slice says nothing of how far apart slices are
    spacing = np.exp((np.log(spacings) * many).sum(0) / many.sum(0))
    low = np.sort([axes.T @ middle - length / 2 for middle, length in ends], axis=0)[1]
    high = np.sort([axes.T @ middle + length / 2 for middle, length in ends], axis=0)[-2]
    least = np.min([length for _, length in ends], axis=0) / 2
    middle, length = (low + high) / 2, np.maximum(high - low, least)
    shape = np.where((shapes == 1).all(0), 1, np.maximum(1, np.round(length / spacing - 0.01))).astype(int)
    affine = np.eye(d + 1)
    affine[:d, :d] = axes * spacing
    affine[:d, d] = axes @ middle - affine[:d, :d] @ ((shape - 1) / 2)
    return Grid(tuple(shape), affine)

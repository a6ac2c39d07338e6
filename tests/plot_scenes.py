"""Scenes for pictures and reports: oblique, anisotropic, off-origin grids in every order and sign of their axes."""

from __future__ import annotations

import numpy as np

from classreg.engine import Record
from classreg.fitted import FittedTransform
from classreg.grid import Grid
from classreg.image import Image
from classreg.mapping import Mapping
from classreg.result import Result


def rotation(ndim):
    """A turn of 14 degrees in the plane x, y, in 3-D tilted by 7 about x."""
    a, b = np.deg2rad((14, 7))
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return tilt @ turn if ndim == 3 else turn[:2, :2]


def oblique(order=(2, 1, 0), signs=(1, 1, 1), shape=(20, 24, 28), spacing=(3.0, 1.5, 1.0)):
    """A grid off the origin: array axis `order[w]` runs along (turned) world axis w, towards `signs[w]`."""
    d = len(shape)
    affine = np.eye(d + 1)
    turn = rotation(d)
    for world, (axis, sign) in enumerate(zip(order, signs)):
        affine[:d, axis] = sign * turn[:, world] * spacing[axis]
    affine[:d, d] = [-37.0, 61.0, 113.0][:d]
    return Grid(shape, affine)


def blob(grid, index):
    array = np.zeros(grid.shape, np.float32)
    array[tuple(slice(max(0, i - 1), i + 2) for i in index)] = 100
    return Image(array, grid)


def brain(grid, shift=0.0):
    """A smooth ball with stripes, moved by `shift` mm along world x."""
    points = grid.points() - grid.centre
    points[..., 0] -= shift
    inside = np.linalg.norm(points / (0.4 * np.ptp(grid.corners(), axis=0)), axis=-1) < 1
    return Image((inside * (100 + 40 * np.sin(points.sum(-1) / 5))).astype(np.float32), grid)


def history():
    return [dict(stage=stage, level=level, iteration=i, value=1 / (1 + i + level), step=0.5, seconds=0.01,
                 terms={"lncc": 0.4, "bending": 0.1})
            for stage in ("affine", "bspline") for level in (0, 1) for i in range(6)]


def made(moving_grid=None, angle=0.0):
    """A result whose transform is known: u pushes 4 mm along (oblique) x in the middle, A shifts and turns."""
    grid = oblique(signs=(-1, 1, 1))
    points = grid.points() - grid.centre
    bump = np.exp(-(points**2).sum(-1) / (2 * 12.0**2))
    u = (4 * rotation(3)[:, 0, None, None, None] * bump).astype(np.float32)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = 3, -2, 1
    transform = FittedTransform.from_mapping(Mapping(matrix, u, grid), grid, moving_grid or grid)
    records = [Record(levels=2, iterations=6, **record) for record in history()]
    return Result(transform, brain(grid), brain(moving_grid or grid), records, "", None, matrix, 1.0)


def arrays(figure):
    return [np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images]

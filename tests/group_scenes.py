"""Groups with a known truth: one smooth anatomy, seen by images on different grids, in different contrasts."""

from __future__ import annotations

import numpy as np

from classreg.grid import Grid
from classreg.image import Image
from classreg.transforms.linear import exp_rotation

SIZES = {2: ((44, 52), (60, 40), (50, 50)), 3: ((20, 24, 28), (30, 22, 18), (24, 26, 22))}
SPACINGS = {2: ((2.0, 1.5), (1.5, 2.2), (1.8, 1.8)), 3: ((3.5, 3.0, 2.5), (2.5, 3.2, 4.0), (3.0, 2.8, 3.2))}
CENTRE = np.array([40.0, -25.0, 60.0])

#: what images make of the anatomy, which runs from 0 to about 1: rising, falling, and neither
CONTRASTS = (lambda v: v, lambda v: 1 - v**1.5, lambda v: np.sin(3.3 * v))


def anatomy(points: np.ndarray) -> np.ndarray:
    """Blobs about `CENTRE` at world points (..., d)."""
    d = points.shape[-1]
    rng = np.random.default_rng(5)
    out = 0.0
    for _ in range(14):
        where, width = rng.uniform(-20, 20, 3)[:d] + CENTRE[:d], rng.uniform(4, 9)
        out = out + rng.uniform(0.3, 0.8) * np.exp(((points - where) ** 2).sum(-1) / (-2 * width**2))
    return out


def rigid(turns, shift, ndim: int) -> np.ndarray:
    """A turn (degrees) about `CENTRE` and a shift (mm) as a world matrix (d + 1, d + 1)."""
    out, c = np.eye(ndim + 1), CENTRE[:ndim]
    out[:ndim, :ndim] = exp_rotation(np.radians(turns), ndim)
    out[:ndim, ndim] = c - out[:ndim, :ndim] @ c + shift
    return out


def rigid_group(ndim: int, seed: int = 0, contrasts=(0, 0, 0), size: float = 1.0, same: bool = False, count: int = 3):
    """Images, and the matrices that take the anatomy's world to each image's."""
    rng, images, matrices = np.random.default_rng(seed), [], []
    for k in range(count):
        turns = size * rng.uniform(-12, 12, 1 if ndim == 2 else 3)
        matrices.append(rigid(turns, size * rng.uniform(-5, 5, ndim), ndim))
        which = 0 if same else k % 3
        shape, spacing = SIZES[ndim][which], SPACINGS[ndim][which]
        tilt = exp_rotation(np.radians((7.0 + 5 * which,) if ndim == 2 else (3.0, -4.0, 7.0 + 5 * which)), ndim)
        if which == 1:
            tilt = tilt @ np.diag([-1.0] + [1.0] * (ndim - 1))  # a flipped axis
        grid = Grid.from_spacing(shape, spacing, direction=tilt)
        off = rng.uniform(-2, 2, ndim)
        affine = grid.affine.copy()
        affine[:-1, -1] += CENTRE[:ndim] - grid.centre + off
        grid = Grid(shape, affine)
        back = np.linalg.inv(matrices[-1])
        values = anatomy(grid.points() @ back[:-1, :-1].T + back[:-1, -1])
        images.append(Image(CONTRASTS[contrasts[k % len(contrasts)]](values).astype(np.float32), grid))
    return images, matrices


def disagreement(result, matrices) -> float:
    """Root mean square distance in mm between what the images of a group find at one common point, in the anatomy."""
    d = result.grid.ndim
    points = result.grid.points().reshape(-1, d)
    found = []
    for transform, matrix in zip(result.transforms, matrices):
        back = np.linalg.inv(matrix)
        found.append(transform.map_points(points, transform.frm, transform.to) @ back[:d, :d].T + back[:d, d])
    mean = np.mean(found, 0)
    found = (np.stack(found) - mean)[:, ((mean - CENTRE[:d]) ** 2).sum(-1) < 22**2]
    return float(np.sqrt((found**2).sum(-1).mean()))

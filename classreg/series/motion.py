"""The motion of the frames as numbers.

Of each frame t, phi_t takes points of the common space to where the same anatomy lies in the frame. Its rigid part is
the rotation R and the translation b of least squares, phi_t(x) ~ c + b + R (x - c), about the middle c of the points:

    translation       b in mm, along the axes of the world (LPS)
    rotation          the vector of R in degrees, about the same axes by the rule of the right hand
    fd_mm             framewise displacement, sum |b_t - b_{t-1}| + 50 mm sum |r_t - r_{t-1}|, r in radians:
                      Power et al., NeuroImage 2012, doi:10.1016/j.neuroimage.2011.10.018
    step_mm           root mean square over the points of |phi_t(x) - phi_{t-1}(x)|
    largest_mm        of |phi_t(x) - x| over the points

Must not import: metrics, optimisers, numba, cupy, matplotlib.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence

import numpy as np

from ..fitted import FittedTransform
from ..grid import Grid
from ..io.atomic import atomic_path

#: mm of the sphere on whose surface turns count in the framewise displacement
RADIUS = 50.0

#: points along each axis that stand for the grid
ACROSS = 16


def points_of(grid: Grid) -> np.ndarray:
    """World points that stand for a grid, (n, d)."""
    ways = [np.unique(np.linspace(0, n - 1, ACROSS).round()) for n in grid.shape]
    return grid.to_world(np.stack(np.meshgrid(*ways, indexing="ij"), -1).reshape(-1, grid.ndim))


def motion_of(transforms: Sequence[FittedTransform], times: np.ndarray) -> dict[str, np.ndarray]:
    """The table: for each column the numbers of all frames, (frames,).

    Parameters
    ----------
    transforms : sequence of FittedTransform
        Common space to each frame, 2-D or 3-D.
    times : array, (frames,)

    Returns
    -------
    dict
        frame, time_s; x_mm, y_mm, z_mm; x_deg, y_deg, z_deg; fd_mm, step_mm, largest_mm. In 2-D x_mm, y_mm and
        turn_deg. The steps of the first frame are 0.
    """
    points = points_of(transforms[0].grid)
    moved = np.stack([t.map_points(points, t.frm, t.to) for t in transforms])
    d, centre = points.shape[1], points.mean(0)
    parts = [_rigid(points - centre, there - centre) for there in moved]
    shifts, turns = np.stack([b for b, _ in parts]), np.stack([r for _, r in parts])
    step = np.zeros(len(moved))
    step[1:] = np.sqrt(((moved[1:] - moved[:-1]) ** 2).sum(-1).mean(-1))
    fd = np.zeros(len(moved))
    fd[1:] = np.abs(np.diff(shifts, axis=0)).sum(1) + RADIUS * np.abs(np.diff(turns, axis=0)).sum(1)
    out = {"frame": np.arange(len(moved)), "time_s": np.asarray(times, float)}
    out |= {f"{axis}_mm": shifts[:, k] for k, axis in enumerate("xyz"[:d])}
    turns = np.degrees(turns)
    out |= {"turn_deg": turns[:, 0]} if d == 2 else {f"{axis}_deg": turns[:, k] for k, axis in enumerate("xyz")}
    largest = np.sqrt(((moved - points) ** 2).sum(-1)).max(-1)
    return out | {"fd_mm": fd, "step_mm": step, "largest_mm": largest}


def _rigid(points: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Translation and rotation vector (radians; of the plane its angle) of least squares between centred points."""
    from scipy.spatial.transform import Rotation

    shift = there.mean(0)
    u, _, vt = np.linalg.svd((there - shift).T @ points)
    turn = u @ np.diag([*[1.0] * (points.shape[1] - 1), np.sign(np.linalg.det(u @ vt))]) @ vt
    if len(turn) == 2:
        return shift, np.array([np.arctan2(turn[1, 0], turn[0, 0])])
    return shift, Rotation.from_matrix(turn).as_rotvec()


def write_motion(table: dict[str, np.ndarray], path: str | os.PathLike) -> None:
    """The table as comma-separated text with a line of names; whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        for row in zip(*table.values()):
            writer.writerow([int(v) if isinstance(v, np.integer) else f"{v:.6g}" for v in row])

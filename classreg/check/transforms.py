"""Does a transform keep its protocol?

Must not import: cli, plot, report.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..grid import Grid
from ..metrics import SSD
from ..objective import Objective
from ..sampling import Points
from .scenes import COMPOSITIVE_STEPS, STEPS, check_slope, displacement, require, scene, small, tangent


def transform(make: Callable[[Grid], object]) -> None:
    """Check a transform: identity, retract, refine, grid against points, gradient in the tangent, reach.

    Parameters
    ----------
    make : callable
        Takes the fixed grid, returns a new transform whose identity does not move points.

    Raises
    ------
    AssertionError
        With what broke and the numbers.

    Examples
    --------
    >>> from classreg.transforms import Linear
    >>> transform(Linear)
    """
    for ndim in (2, 3):
        fixed, moving = scene(ndim)
        grid, coarse = fixed.grid, fixed.grid.coarsen(2)
        part = make(grid)
        start = part.refine(part.identity(), coarse).astype(np.float64)
        small("the identity moves points, mm", displacement(part, start, coarse), 1e-9)
        theta = part.retract(start, tangent(part, start, fixed, moving, coarse, 1.5))
        longest = np.abs(displacement(part, theta, coarse)).max()
        require(longest > 0.05, f"retract by a step of 1.5 mm moved no point by more than {longest:.3g} mm")
        before = displacement(part, theta, grid)
        theta = part.refine(theta, grid)
        small("refine changed the mapping, mm", displacement(part, theta, grid) - before, 1e-9)
        step = tangent(part, theta, fixed, moving, grid, 1.0)
        same = part.retract(theta, np.zeros_like(step)).copy()
        small("retract by zero moves points, mm", displacement(part, same, grid) - before, 1e-9)
        _reach(part, theta, step, grid)
        points = Points(grid.points().reshape(-1, ndim))
        here = displacement(part, theta, points)
        small("grid and points disagree, mm", here - before.reshape(ndim, -1), 1e-9)
        for at in (grid, points):
            if part.forward(theta, at)[1] is not None:
                _gradient(part, theta, step, Objective(fixed, moving, part, SSD(), at=at, order=3))


def _reach(part, theta, step, grid):
    """`reach` says how far a step moves points: within a factor of four of the longest motion."""
    new = part.retract(theta, 0.01 * step).copy()
    moved = displacement(part, new, grid) - displacement(part, theta, grid)
    longest, said = np.linalg.norm(moved, axis=0).max(), part.reach(0.01 * step)
    require(longest / 4 <= said <= 4 * longest,
            f"a step reaches {said:.3g} mm by `reach`, points move {longest:.3g} mm")


def _gradient(part, theta, step, objective):
    slope = np.sum(objective(theta).gradient * step)
    check_slope(f"{type(part).__name__}, {objective.fixed.grid.ndim}-D, {type(objective.at).__name__}",
                lambda h: objective(part.retract(theta, h * step).copy()).value, slope,
                COMPOSITIVE_STEPS if getattr(part, "compositive", False) else STEPS)

"""Does a prior keep its protocol?

Must not import: cli, plot, report.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..image import Image
from ..transforms import BSpline, Dense, Linear, Velocity
from .scenes import STEPS, check_slope, require, scene, small, tangent

#: relative steps and errors for compositive models: the edge of a label is a voxel wide, and differences blur it
COMPOSITIVE = ((1e-4, 0.15), (1e-2, 0.15))

#: the models that a prior is tried on
MODELS = {
    "affine": lambda g, a: Linear(g, "affine"), "rigid": lambda g, a: Linear(g, "rigid"),
    "similarity": lambda g, a: Linear(g, "similarity"), "bspline": lambda g, a: BSpline(g, 6.0, a),
    "dense": lambda g, a: Dense(g, a), "greedy": lambda g, a: Dense(g, a, compositive=True),
    "svf": lambda g, a: Velocity(g, a),
}


def prior(make: Callable[[Image, Image], object]) -> None:
    """Check a prior: its value, and its gradient in the tangent of every model that it takes.

    Parameters
    ----------
    make : callable
        Takes the fixed and the moving image of a scene (2-D or 3-D; moving(x + SHIFT) = fixed(x)), returns a new prior.

    Raises
    ------
    AssertionError
        With what broke and the numbers.

    Examples
    --------
    >>> from classreg.priors import SingularValues
    >>> prior(lambda fixed, moving: SingularValues())
    """
    tried = 0
    for ndim in (2, 3):
        fixed, moving = scene(ndim)
        matrix = np.eye(ndim + 1)
        matrix[:ndim] += 0.05 * np.random.default_rng(ndim).standard_normal((ndim, ndim + 1))
        matrix[:ndim, ndim] += (np.eye(ndim) - matrix[:ndim, :ndim]) @ fixed.grid.centre
        for name, model in MODELS.items():
            transform, part = model(fixed.grid, matrix), make(fixed, moving)
            if all(hasattr(transform, what) for what in getattr(part, "needs", ())):
                if hasattr(part, "prepare"):
                    part.prepare(fixed.grid, np.float64)
                _gradient(part, transform, fixed, moving, f"{type(part).__name__} of {name}, {ndim}-D")
                tried += 1
    require(tried, f"{type(part).__name__} needs {getattr(part, 'needs', ())}, which no model has")


def _gradient(part, transform, fixed, moving, what):
    grid = fixed.grid
    theta = transform.refine(transform.identity(), grid).astype(np.float64)
    theta = transform.retract(theta, tangent(transform, theta, fixed, moving, grid, 1.3)).copy()
    step = tangent(transform, theta, fixed, moving, grid, 1.0)
    value, gradient = part(theta, transform)
    require(np.isscalar(value) and np.isfinite(value) and value >= 0,
            f"{what}: the value must be a finite number of at least 0, got {value!r}")
    small(f"{what}: called twice, the values differ by", part(theta, transform)[0] - value, 0)
    slope = 0.0 if gradient is None else float(np.sum(gradient * step))
    steps = COMPOSITIVE if getattr(transform, "compositive", False) else STEPS
    if gradient is None or np.abs(gradient).max() < 1e-12:  # of rigid models, size and shape
        small(f"{what}: no gradient, but the value changes by",
              part(transform.retract(theta, step).copy(), transform)[0] - value, 1e-9)
        return
    require(gradient.shape == step.shape, f"{what}: the gradient must be {step.shape}, got {gradient.shape}")
    check_slope(what, lambda h: part(transform.retract(theta, h * step).copy(), transform)[0], slope, steps)

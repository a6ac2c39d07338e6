"""Does an optimiser keep its protocol?

Must not import: cli, plot, report.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..backend import Workspace
from ..engine import check_needs
from ..metrics import SSD
from ..objective import Objective
from ..regularisers import Gaussian
from ..transforms import Dense, Linear
from .scenes import SHIFT, require, scene, small


def optimiser(make: Callable) -> None:
    """Check an optimiser: it finds a known minimum, keeps the best theta it saw, and ends no worse than it began.

    Parameters
    ----------
    make : callable
        Returns a new optimiser.

    Raises
    ------
    AssertionError
        With what broke and the numbers.

    Examples
    --------
    >>> from classreg.optimisers import LBFGS
    >>> optimiser(LBFGS)
    """
    part = make()
    name, allowed = type(part).__name__, {"gradient", "curvature", "smooth"}
    require(part.needs and set(part.needs) <= allowed,
            f"{name}.needs is {part.needs}; allowed are {sorted(allowed)}")
    for ndim in (2, 3):
        fixed, moving = scene(ndim)
        model, regularisers = Linear(fixed.grid, "translation"), []
        if "smooth" in part.needs:
            model = Dense(fixed.grid, np.eye(ndim + 1), compositive=True)
            regularisers = [Gaussian(1.0, "update"), Gaussian(0.5, "displacement")]
        check_needs(part, model, SSD(), regularisers)
        identity = model.refine(model.identity(), fixed.grid).astype(np.float64)
        with Workspace(1):
            objective = Objective(fixed, moving, model, SSD(), regularisers)
            begin, state = _run(part, objective, identity)
        if "smooth" in part.needs:
            require(state.best_value < 0.1 * begin,
                    f"{name}, {ndim}-D: the value fell from {begin} to {state.best_value} only")
        else:
            error = np.abs(state.best - SHIFT[:ndim]).max()
            require(error < 0.1, f"{name}, {ndim}-D: {error:.3f} mm from the minimum: {state.done}")
        truth = identity + SHIFT[:ndim].reshape((ndim,) + (1,) * (identity.ndim - 1))
        with Workspace(1):
            _run(make(), Objective(fixed, moving, model, SSD(), regularisers), truth)


def _run(part, objective, theta):
    """Up to 150 steps; the value at the start, and the last state."""
    name, begin = type(part).__name__, objective(theta).value
    state = part.init(objective, theta)
    small(f"{name}.init: state.value is not that of the start", state.value - begin, 1e-12)
    for _ in range(150):
        theta = part.step(objective, theta, state)
        again = objective(theta).value
        small(f"{name}: state.value is not that of theta", state.value - again, 1e-9)
        require(state.best_value <= min(begin, again) + 1e-12,
                f"{name}: the best value is {state.best_value}; seen were {begin} and {again}")
        if state.done:
            break
    small(f"{name}: state.best_value is not that of state.best",
          objective(state.best).value - state.best_value, 1e-9)
    return begin, state

"""Gradient descent with a line search: the plainest there is, and the slowest.

    theta <- theta - a g,  a by backtracking (`linesearch.py`) from twice the last one

The gradient lives in the tangent of the transform, whose coordinates are in mm, so one a serves turns and shifts.
Nocedal and Wright, Numerical Optimization, chapter 3.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..bounds import number
from .linesearch import backtrack
from .state import State


class Descent:
    """Steepest descent.

    Parameters
    ----------
    first_step : float
        Motion of the first trial step, in units of the level's resolution; later ones are at most four times as long.
        Above 0.
    tolerance : float
        Stop below this motion, in the same units; at least 0.
    """

    needs = frozenset({"gradient"})
    carries = ("length",)

    def __init__(self, first_step: float = 0.5, tolerance: float = 0.005):
        self.first_step = number("descent: first_step", first_step)
        self.tolerance = number("descent: tolerance", tolerance, 0)

    def init(self, objective, theta: np.ndarray) -> State:
        """Evaluate the start."""
        e = objective(theta)
        if not np.isfinite(e.value):
            return State(e.value, e.terms, theta, e.value)
        e = objective.renew(e)
        return State(e.value, e.terms, theta, e.value, memory={"down": -e.gradient, "length": None})

    def step(self, objective, theta: np.ndarray, state: State) -> np.ndarray:
        """One accepted step; `done` where none decreases the value."""
        down, length = state.memory["down"], state.memory["length"]
        unit, reach = objective.grid.resolution, objective.transform.reach(down)
        if not (reach > 0 and np.isfinite(reach)):
            state.done = "the gradient is zero"
            return theta
        first = self.first_step * unit / reach
        length = first if length is None else min(2 * length, 4 * first)
        step, gradient = (workspace().like(name, down) for name in ("step", "uphill"))
        trial = backtrack(objective, theta, state.value, down, np.negative(down, out=gradient), length,
                          0.01 * self.tolerance * unit / reach, step)
        state.step = trial.length * reach
        if not trial.evaluation.value < state.value:
            state.done = "no step decreases the value"
            return theta
        e = objective.renew(trial.evaluation)
        np.negative(e.gradient, out=down)
        state.accept(trial.theta, e)
        state.memory["length"] = trial.length
        if state.step < self.tolerance * unit:
            state.done = "the last step is below the tolerance"
        return trial.theta

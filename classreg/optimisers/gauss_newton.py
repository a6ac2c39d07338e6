"""Gauss-Newton with Levenberg-Marquardt damping, for linear models.

With J = d warped / d theta, and a metric that offers a curvature h and directions V to deflate,
    (J^T h J - (J^T V)(J^T V)^T + lambda diag) step = -gradient,
lambda shrinking after a success and growing after a failure. Marquardt, SIAM 1963, doi:10.1137/0111030.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

import numpy as np

from ..bounds import number
from .state import State


class GaussNewton:
    """Damped Gauss-Newton.

    Parameters
    ----------
    tolerance : float
        Stop below this motion, in units of the level's resolution; at least 0.
    """

    needs = frozenset({"curvature"})
    carries = ("damping",)

    def __init__(self, tolerance: float = 0.005):
        self.tolerance = number("gauss_newton: tolerance", tolerance, 0)

    def init(self, objective, theta: np.ndarray) -> State:
        """Evaluate the start."""
        e = objective(theta)
        if not np.isfinite(e.value):
            return State(e.value, e.terms, theta, e.value)
        e = objective.renew(e)
        return State(e.value, e.terms, theta, e.value, memory={"normal": e.normal, "damping": 1e-3})

    def step(self, objective, theta: np.ndarray, state: State) -> np.ndarray:
        """One accepted step; `done` where none decreases the value."""
        g, h = state.memory["normal"]
        diagonal = np.maximum(np.diag(h), 1e-9 * max(np.diag(h).max(), 1e-30))
        longest = 8 * objective.grid.resolution
        for _ in range(10):
            step = -np.linalg.solve(h + state.memory["damping"] * np.diag(diagonal), g)
            reach = objective.transform.reach(step)
            if reach > longest:
                step *= longest / reach
            state.step = objective.transform.reach(step)
            if state.step < 1e-6 * longest:
                break
            new = objective.transform.retract(theta, step)
            e = objective(new, hold=True)
            if e.value < state.value:
                e = objective.renew(e)
                state.accept(new, e)
                state.memory.update(normal=e.normal, damping=max(state.memory["damping"] / 10, 1e-7))
                if state.step < self.tolerance * objective.grid.resolution:
                    state.done = "the last step is below the tolerance"
                return new
            state.memory["damping"] = max(10 * state.memory["damping"], 1e-3)
        state.done = "no step decreases the value"
        return theta

"""Limited-memory BFGS with a backtracking line search.

Steps and gradient differences are taken in the tangent at the current theta; for models whose `retract` is addition
this is plain L-BFGS, for rotations the pairs are carried along unchanged, which is right to first order in the (small)
increments. Nocedal and Wright, Numerical Optimization, algorithms 3.1 and 7.4.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

import numpy as np

from ..bounds import number, whole
from ..stencil import add_scaled, dot
from .linesearch import backtrack
from .state import State


class LBFGS:
    """L-BFGS.

    Parameters
    ----------
    memory : int
        Pairs kept, 0 to 1000; without any it is steepest descent.
    first_step : float
        Motion of the first trial step, in units of the level's resolution; later ones are at most four times as long.
        Above 0.
    tolerance : float
        Stop below this motion, in the same units; at least 0.
    """

    needs = frozenset({"gradient"})
    carries = ("pairs", "last")

    def __init__(self, memory: int = 6, first_step: float = 0.5, tolerance: float = 0.005):
        self.memory, self.first_step = whole("lbfgs: memory", memory, 0, 1000), number("lbfgs: first_step", first_step)
        self.tolerance = number("lbfgs: tolerance", tolerance, 0)

    def init(self, objective, theta: np.ndarray) -> State:
        """Evaluate the start."""
        e = objective(theta)
        if not np.isfinite(e.value):
            return State(e.value, e.terms, theta, e.value)
        e = objective.renew(e)
        return State(e.value, e.terms, theta, e.value, memory={"at": e, "pairs": [], "last": None})

    def step(self, objective, theta: np.ndarray, state: State) -> np.ndarray:
        """One accepted step; `done` where none decreases the value."""
        pairs, last = state.memory["pairs"], state.memory["last"]
        g = state.memory["at"].gradient.copy()
        if last is not None:  # the step that led here, and the gradient where it began
            s, before = last
            y = add_scaled(g, -1.0, before, np.empty_like(g))
            curvature = dot(s, y)
            if curvature > 1e-10 * np.sqrt(dot(s, s) * dot(y, y)):
                pairs.append((s, y, curvature))
                del pairs[: max(0, len(pairs) - self.memory)]
        return self._move(objective, theta, state, g)

    def _move(self, objective, theta, state, g):
        """A step from where the gradient is g."""
        pairs = state.memory["pairs"]
        unit = objective.grid.resolution
        direction = self._direction(g, pairs)
        slope = dot(direction, g)
        if not slope < 0:
            pairs.clear()
            direction, slope = -g, -dot(g, g)
        reach = objective.transform.reach(direction)
        if not (reach > 0 and np.isfinite(reach)):
            state.done = "the gradient is zero"
            return theta
        length = min(1.0, 4 * self.first_step * unit / reach) if pairs else self.first_step * unit / reach
        step = np.empty_like(direction)
        trial = backtrack(objective, theta, state.value, direction, g, length, 0.01 * self.tolerance * unit / reach,
                          step)
        state.step = trial.length * reach
        if not trial.evaluation.value < state.value:
            if pairs:  # a stale model of the curvature: forget it and try the gradient once
                pairs.clear()
                return self._move(objective, theta, state, g)
            state.done = "no step decreases the value"
            return theta
        e = objective.renew(trial.evaluation)
        state.accept(trial.theta, e)
        state.memory["at"], state.memory["last"] = e, (step, g)
        if state.step < self.tolerance * unit:
            state.done = "the last step is below the tolerance"
        return trial.theta

    @staticmethod
    def _direction(g, pairs):
        """Minus the inverse Hessian times g: the two-loop recursion."""
        q = -g
        kept = []
        for s, y, sy in reversed(pairs):
            a = dot(s, q) / sy
            add_scaled(q, -a, y, q)
            kept.append(a)
        if pairs:
            s, y, sy = pairs[-1]
            q *= q.dtype.type(sy / dot(y, y))
        for (s, y, sy), a in zip(pairs, reversed(kept)):
            add_scaled(q, a - dot(y, q) / sy, s, q)
        return q

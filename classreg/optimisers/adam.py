"""Adam, its step length in mm: every coordinate moves by about `step` times the level's resolution per iteration,
falling to a tenth of it along a half cosine. Kingma and Ba, ICLR 2015, arXiv:1412.6980.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

import numpy as np

from ..bounds import number, whole
from .state import State


class Adam:
    """Adam with a decaying step.

    Parameters
    ----------
    step : float
        First step, in units of the level's resolution; above 0.
    decay : int
        Iterations over which the step falls to a tenth; at least 1.
    """

    needs = frozenset({"gradient"})
    carries = ("first", "second", "count")

    def __init__(self, step: float = 0.2, decay: int = 40):
        self.first, self.decay = number("adam: step", step), whole("adam: decay", decay, 1)

    def init(self, objective, theta: np.ndarray) -> State:
        """Evaluate the start."""
        e = objective(theta)
        if not np.isfinite(e.value):
            return State(e.value, e.terms, theta, e.value)
        zero = np.zeros_like(e.gradient)
        return State(e.value, e.terms, theta, e.value,
                     memory={"gradient": e.gradient.copy(), "first": zero, "second": zero.copy(), "count": 0})

    def step(self, objective, theta: np.ndarray, state: State) -> np.ndarray:
        """One step, taken whether or not it decreases the value."""
        m = state.memory
        g, first, second = m["gradient"], m["first"], m["second"]
        m["count"] = k = m["count"] + 1
        if not np.any(g):
            state.done = "the gradient is zero"
            return theta
        first += (g - first) * g.dtype.type(0.1)
        second += (g * g - second) * g.dtype.type(0.001)
        fall = 0.1 + 0.45 * (1 + np.cos(np.pi * min(1.0, k / self.decay)))
        rate = self.first * objective.grid.resolution * fall
        floor = 1e-8 * float(np.sqrt(second.max()))
        scale = rate / (1 - 0.9**k) * np.sqrt(1 - 0.999**k)
        step = first * g.dtype.type(-scale) / (np.sqrt(second) + g.dtype.type(floor))
        for _ in range(10):  # a barrier refuses what would fold
            new = objective.transform.retract(theta, step)
            e = objective(new)
            if np.isfinite(e.value):
                m["gradient"] = e.gradient.copy()
                break
            step *= step.dtype.type(0.5)
        state.step = objective.transform.reach(step)
        state.keep(new, e)
        return new

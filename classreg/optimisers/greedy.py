"""Greedy descent for dense models: smooth the force, take a step of fixed length, smooth the field.

    w = -s G_update * force,  max |w| = `step` times the level's resolution;   theta <- G_field * retract(theta, w)

The length is a cap: it is halved whenever the value has not improved for `patience` steps. Since every step is short
and smooth, compositive models stay diffeomorphic. Christensen et al., IEEE TIP 1996; Yushkevich et al., 2016.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..errors import OptionError
from .state import State


class Greedy:
    """Greedy smoothed descent.

    Parameters
    ----------
    step : float
        Longest motion of a step, in units of the level's resolution.
    patience : int
        Steps without a better value before the length is halved.
    tolerance : float
        Stop below this length, in the same units.
    """

    needs = frozenset({"smooth"})

    def __init__(self, step: float = 0.5, patience: int = 5, tolerance: float = 0.02):
        self.first, self.patience, self.tolerance = step, patience, tolerance

    def init(self, objective, theta: np.ndarray) -> State:
        """Evaluate the start."""
        e = objective(theta)
        return State(e.value, e.terms, theta, e.value,
                     memory={"force": e.gradient, "length": self.first, "waited": 0})

    def step(self, objective, theta: np.ndarray, state: State) -> np.ndarray:
        """One step, taken whether or not it decreases the value."""
        m, ws, grid = state.memory, workspace(), objective.fixed.grid
        update = ws.buffer("update", theta.shape, theta.dtype)
        self._filter(objective, "update").smooth(m["force"], grid, update)
        reach = objective.transform.reach(update)
        if not reach > 0:
            state.done = "the force is zero"
            return theta
        update *= theta.dtype.type(-m["length"] * grid.resolution / reach)
        field = self._filter(objective, objective.transform.acts_on)
        moved = objective.transform.retract(theta, update, out=m["force"])
        new = field.smooth(moved, grid, self._free(theta, state))
        value = state.best_value
        e = objective(new)
        state.step = m["length"] * grid.resolution
        state.keep(new, e)
        m["force"] = e.gradient
        m["waited"] = 0 if e.value < value else m["waited"] + 1
        if m["waited"] >= self.patience:
            m["length"], m["waited"] = m["length"] / 2, 0
            if m["length"] < self.tolerance:
                state.done = "the step length fell below the tolerance"
        return new

    @staticmethod
    def _free(theta, state):
        """A field to write into: not the current theta, not the best one."""
        ws = workspace()
        for k in range(3):
            out = ws.buffer(f"greedy {k}", theta.shape, theta.dtype)
            if out is not theta and out is not state.best:
                return out
        raise AssertionError("three buffers always leave one free")

    @staticmethod
    def _filter(objective, what):
        for r in objective.regularisers:
            if hasattr(r, "smooth") and r.acts_on == what:
                return r
        raise OptionError(f"the greedy optimiser needs a regulariser that smooths the {what}: "
                          f"add gaussian with acts_on={what!r}")

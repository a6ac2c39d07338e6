"""Greedy descent for dense models: smooth force and curvature, take a Gauss-Newton step per voxel, smooth the field.

    w = - (G_update F) / (G_update H + damping <H>),  |w| below `step` times the level's resolution
    theta <- G_field retract(theta, w)

F is the force and H the diagonal of the Gauss-Newton matrix (the metric's curvature times the squared gradient of the
warped image), <H> its typical value at the start of the level. Every place so moves at its own pace, however weak its
contrast; where there is next to none, the damping lets the neighbours decide. `step` is a cap that is halved whenever
the value has not improved for `patience` steps. With pace="even" all places move by one factor instead,
w = -a G_update F, a such that the longest |w| is just `step`: the steps of one length that ANTs and greedy take.

Every step is short and all but smooth, so that compositive models hardly fold; nothing proves that they do not.
Christensen et al., IEEE TIP 1996; Vercauteren et al., NeuroImage 2009; Yushkevich et al., 2016.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..bounds import number, whole
from ..errors import OptionError, unknown
from ..kernels.cpu import dense
from ..regularisers import smooths
from .state import State

PACES = ("newton", "even")


class Greedy:
    """Greedy smoothed descent.

    Parameters
    ----------
    step : float
        Longest motion of a step, in units of the level's resolution; above 0.
    damping : float
        Share of the typical curvature that is added everywhere: the larger, the more weak structure is left to its
        neighbours, and the slower. Above 0.
    patience : int
        Steps without a better value before the length is halved; at least 1.
    tolerance : float
        Stop below this length, in the same units; at least 0.
    pace : {"newton", "even"}
        Whether each place moves by its own curvature, or all by one factor.
    """

    needs = frozenset({"smooth"})
    carries = ("damping", "length", "waited")

    def __init__(self, step: float = 0.5, damping: float = 0.15, patience: int = 5, tolerance: float = 0.02,
                 pace: str = "newton"):
        if pace not in PACES:
            raise unknown("pace of greedy", pace, PACES)
        self.pace = pace
        self.first, self.damping = number("greedy: step", step), number("greedy: damping", damping)
        self.patience = whole("greedy: patience", patience, 1)
        self.tolerance = number("greedy: tolerance", tolerance, 0)

    def init(self, objective, theta: np.ndarray) -> State:
        """Evaluate the start."""
        e = objective(theta)
        if not np.isfinite(e.value):
            return State(e.value, e.terms, theta, e.value)
        force, typical = self._force(e)
        return State(e.value, e.terms, theta, e.value,
                     memory={"force": force, "damping": self.damping * typical, "length": self.first, "waited": 0})

    def step(self, objective, theta: np.ndarray, state: State) -> np.ndarray:
        """One step, taken whether or not it decreases the value."""
        m, ws, grid = state.memory, workspace(), objective.grid
        if not m["damping"] > 0:
            state.done = "the force is zero"
            return theta
        longest = m["length"] * grid.resolution
        update = (self._newton if self.pace == "newton" else self._even)(objective, theta, m, longest)
        if update is None:
            state.done = "the force is zero"
            return theta
        field = self._filter(objective, objective.transform.acts_on)
        value = state.best_value
        for _ in range(10):  # a barrier refuses what would fold
            moved = objective.transform.retract(theta, update, out=ws.buffer("scratch", theta.shape, theta.dtype))
            new = field.smooth(moved, grid, self._free(theta, state))
            e = objective(new)
            if np.isfinite(e.value):
                break
            update *= update.dtype.type(0.5)
        state.step = longest
        state.keep(new, e)
        if not np.isfinite(e.value):
            return new
        m["force"], _ = self._force(e)
        m["waited"] = 0 if e.value < value else m["waited"] + 1
        if m["waited"] >= self.patience:
            m["length"], m["waited"] = m["length"] / 2, 0
            if m["length"] < self.tolerance:
                state.done = "the step length fell below the tolerance"
        return new

    def _force(self, evaluation):
        """What steps are made of, and the typical curvature."""
        return evaluation.normal if self.pace == "newton" else (evaluation.gradient, 1.0)

    def _newton(self, objective, theta, m, longest):
        """-G F / (G H + damping), in place of F."""
        ws, grid = workspace(), objective.grid
        images = len(m["force"]) - len(theta)  # a diagonal for each, after the forces of all
        force, diagonal = m["force"][:-images], m["force"][-images:]
        spare, fluid = ws.buffer("scratch", theta.shape, theta.dtype), self._filter(objective, "update")
        for one, room in zip(diagonal, spare):  # each by itself: numbers, not the components of a vector
            np.maximum(fluid.smooth(one[None], grid, room[None])[0], 0, out=one)  # not every filter keeps the sign
        smooth, update = fluid.smooth(force, grid, spare), force  # smoothed, the force may be written over
        for f, h, w in zip(*(a.reshape(images, -1, *grid.shape3) for a in (smooth, diagonal, update))):
            ws.run(dense.newton, f.shape[1], f, h[0], m["damping"], longest, w)
        return update

    def _even(self, objective, theta, m, longest):
        """-G F, in place of F, with a longest vector of `longest` mm; None where there is no force."""
        spare = workspace().buffer("scratch", theta.shape, theta.dtype)
        smooth = self._filter(objective, "update").smooth(m["force"], objective.grid, spare)
        reach = objective.transform.reach(smooth)
        if not reach > 0:
            return None
        return np.multiply(smooth, smooth.dtype.type(-longest / reach), out=m["force"])

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
            if smooths(r) and r.acts_on == what:
                return r
        raise OptionError(f"the greedy optimiser needs a regulariser that smooths the {what}: "
                          f"add gaussian with acts_on={what!r}")

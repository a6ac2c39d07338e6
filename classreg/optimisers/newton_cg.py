"""Gauss-Newton for deformations, its equations solved by conjugate gradients, with Levenberg-Marquardt damping.

    (H + damping D) s = -gradient,   D the diagonal of H (`hessian.py`), which also preconditions,

is solved until the residual has fallen to a share of the gradient that shrinks with it, or `inner` products were
taken; then a line search along s. The damping shrinks after a full step and grows after a shortened one. Where H bends
down along a direction, as rounding or what a metric deflates can make it, the solution so far is taken (Steihaug).
Nocedal and Wright, Numerical Optimization, algorithms 7.1 and 7.2; Marquardt, SIAM 1963, doi:10.1137/0111030.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..bounds import number, whole
from ..stencil import add_scaled, dot, total
from .linesearch import backtrack
from .state import State

#: damping at the start of a level, and its least
DAMPING, LEAST = 1e-2, 1e-6

#: of the gradient, the residual that ends the inner iterations at the latest
ENOUGH = 0.1

#: of its mean, what D is at least: where neither image nor regulariser holds a parameter, the damping must
FLOOR = 0.1


class NewtonCG:
    """Gauss-Newton without a matrix.

    Parameters
    ----------
    inner : int
        Products with the Hessian per step at most; at least 1.
    longest : float
        Motion of a step at most, in units of the level's resolution; above 0.
    tolerance : float
        Stop below this motion, in the same units; at least 0.
    """

    needs = frozenset({"curvature", "product"})

    def __init__(self, inner: int = 20, longest: float = 4.0, tolerance: float = 0.005):
        self.inner, self.longest = whole("newton_cg: inner", inner, 1), number("newton_cg: longest", longest)
        self.tolerance = number("newton_cg: tolerance", tolerance, 0)

    def init(self, objective, theta: np.ndarray) -> State:
        """Evaluate the start."""
        e = objective(theta)
        if not np.isfinite(e.value):
            return State(e.value, e.terms, theta, e.value)
        e = objective.renew(e)
        h = e.hessian
        return State(e.value, e.terms, theta, e.value,
                     memory={"hessian": h, "damping": DAMPING, "first": np.sqrt(dot(h.gradient, h.gradient))})

    def step(self, objective, theta: np.ndarray, state: State) -> np.ndarray:
        """One accepted step; `done` where none decreases the value."""
        m, unit = state.memory, objective.grid.resolution
        if not m["first"] > 0:
            state.done = "the gradient is zero"
            return theta
        direction = self._solve(m["hessian"], m["damping"], m["first"])
        reach = objective.transform.reach(direction)
        if not (reach > 0 and np.isfinite(reach)):
            state.done = "the gradient is zero"
            return theta
        first = min(1.0, self.longest * unit / reach)
        trial = backtrack(objective, theta, state.value, direction, m["hessian"].gradient, first,
                          0.01 * self.tolerance * unit / reach, workspace().like("step", theta))
        state.step = trial.length * reach
        if not trial.evaluation.value < state.value:
            state.done = "no step decreases the value"
            return theta
        full = trial.length == first
        m["damping"] = max(m["damping"] / 10, LEAST) if full else max(10 * m["damping"], DAMPING)
        e = objective.renew(trial.evaluation)
        m["hessian"] = e.hessian
        state.accept(trial.theta, e)
        if state.step < self.tolerance * unit:
            state.done = "the last step is below the tolerance"
        return trial.theta

    def _solve(self, hessian, damping, first):
        """-(H + damping D)^-1 gradient, about; preconditioned conjugate gradients from zero."""
        g, ws = hessian.gradient, workspace()
        s, r, z, p, product = (ws.like(f"cg {k}", g) for k in range(5))
        typical = total(hessian.diagonal) / hessian.diagonal.size
        np.maximum(hessian.diagonal, hessian.diagonal.dtype.type(max(FLOOR * typical, 1e-30)), out=hessian.diagonal)
        size = np.sqrt(dot(g, g))
        enough = size * min(ENOUGH, np.sqrt(size / first))
        s[...] = 0
        np.negative(g, out=r)
        np.divide(r, hessian.diagonal, out=z)
        np.copyto(p, z)
        rz = dot(r, z)
        for k in range(self.inner):
            hessian.times(p, product)
            np.multiply(p, hessian.diagonal, out=z)
            add_scaled(product, damping, z, product)
            bend = dot(p, product)
            if not bend > 0:
                if k == 0:
                    np.copyto(s, p)
                break
            add_scaled(s, rz / bend, p, s)
            add_scaled(r, -rz / bend, product, r)
            if np.sqrt(dot(r, r)) <= enough:
                break
            np.divide(r, hessian.diagonal, out=z)
            rz, before = dot(r, z), rz
            add_scaled(z, rz / before, p, p)
        return s

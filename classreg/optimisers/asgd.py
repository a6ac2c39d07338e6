"""Adaptive stochastic gradient descent: other samples at every step, gains that find themselves.

    theta <- theta - a / (t + offset + 1)^power  g(theta, samples)
    t     <- max(0, t + f(-<g, g before>)),   f(x) = low + (1 - low) / (1 - exp(-x / width) / low),   low = -0.8

Successive gradients that agree keep the time t, and with it the gain, where it is; gradients that point to and fro (f
tends to 1) let it run. Klein, Pluim, Staring and Viergever, IJCV 2009, doi:10.1007/s11263-008-0168-y.

The first gain is that of Qiao et al., IEEE TMI 2016, doi:10.1109/TMI.2015.2476354: such that mean + 2 deviations of the
motion of points is `step`. They take the motion that the exact gradient makes, times a factor for the noise; here it is
measured on gradients of as few samples as the run uses, which hold the noise already. `width` is a tenth of the
deviation of the inner product of two such gradients. With `noise`, steps are shorter by the square root of

    share = mean <g, g'> / mean <g, g>,    g and g' of different samples at one place,

what the exact gradient has in the square of that of samples. In Klein's gain the motion of the exact gradient is a step
times this share, which comes to the same where motion grows as the gradient does. It is measured at random places about
as far from the start as a step goes, since at an optimum it is zero.

A run returns the mean of its iterates, the later the more (Shamir and Zhang, ICML 2013, with eta = 3), or its last one,
or its start, whichever is best on one set of samples four times as large.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..bounds import number
from ..draws import Random
from ..stencil import add_scaled, dot
from .state import State

#: gradients whose motion and noise are measured at the start of a level
TRIES = 10

#: points whose motion is measured, and how many times the samples of a step the last comparison takes
PROBES, COMPARED = 1024, 4

#: a step moves no point by more than this many times what it should move most of them by
LONGEST = 4

#: share of the exact gradient below which it is not known
LEAST = 1e-3

#: f(-infinity); eta of the mean of iterates
LOW, ETA = -0.8, 3


class ASGD:
    """Adaptive stochastic gradient descent.

    Parameters
    ----------
    step : float
        Motion of the first steps, in units of the level's resolution; above 0.
    offset : float
        A of the gain: the larger, the slower the first decay; 0 to 1e6.
    power : float
        Of the gain's decay; 0 to 10.
    length : float, optional
        Motion of the first steps in mm, instead of `step`; above 0.
    noise : bool
        Shorter steps where gradients of samples are mostly noise.
    """

    needs = frozenset({"gradient"})
    stochastic = True

    def __init__(self, step: float = 1.0, offset: float = 20.0, power: float = 1.0, length: float | None = None,
                 noise: bool = False):
        self.first, self.noise = number("asgd: step", step), noise
        self.offset, self.power = number("asgd: offset", offset, 0, most=1e6), number("asgd: power", power, 0, most=10)
        self.length = None if length is None else number("asgd: length", length)

    def _motion(self, objective) -> float:
        """That of the first steps, mm."""
        return self.first * objective.grid.resolution if self.length is None else self.length

    def init(self, objective, theta: np.ndarray) -> State:
        """Measure motion and noise of gradients, and evaluate the start."""
        e = objective(theta)
        state = State(e.value, e.terms, theta, e.value)
        if not np.isfinite(e.value):
            return state
        g, other = e.gradient.copy(), np.empty_like(e.gradient)
        motion, width = self._measure(objective, theta, state, g, other)
        gain = self._motion(objective) / motion if motion > 0 else 0.0
        state.memory = {"gradient": g, "other": other, "mean": np.zeros_like(g), "start": theta, "count": 0,
                        "time": 0.0, "width": width, "gain": gain * (self.offset + 1) ** self.power}
        return state

    def step(self, objective, theta: np.ndarray, state: State) -> np.ndarray:
        """One step, taken whether or not it decreases the value, and an evaluation on other samples."""
        m, epoch = state.memory, objective.epoch
        g, new_g, mean = m["gradient"], m["other"], m["mean"]
        if not m["gain"] > 0:
            state.done = "the gradient is zero"
            return theta
        objective.draw()
        gain = m["gain"] / (m["time"] + self.offset + 1) ** self.power
        step = np.multiply(g, g.dtype.type(-gain), out=workspace().like("step", g))
        reach, longest = objective.transform.reach(step), LONGEST * self._motion(objective)
        if reach > longest:  # near a barrier, where gradients have no bound
            step *= step.dtype.type(longest / reach)
        for _ in range(10):
            new = objective.transform.retract(theta, step)
            e = objective(new)
            if np.isfinite(e.value):
                break
            step *= step.dtype.type(0.5)  # a barrier refuses what would fold: a sign of steps too long
            m["time"] += 1.0
        else:  # nowhere to go: stay for these samples
            step[...] = 0
            new, e = theta, objective(theta)
        if not np.isfinite(e.value):
            state.value, state.terms = e.value, e.terms
            return theta
        np.copyto(new_g, e.gradient)
        m["gradient"], m["other"] = new_g, g
        m["time"] = max(0.0, m["time"] + sigmoid(-dot(new_g, g), m["width"]))
        m["count"] = k = m["count"] + 1
        add_scaled(mean, -1.0, step, mean)  # the mean of the iterates, as a step from the last
        mean *= mean.dtype.type(1 - (ETA + 1) / (k + ETA))
        state.step = objective.transform.reach(step)
        (state.keep if objective.epoch == epoch else state.accept)(new, e)
        return new

    def finish(self, objective, theta: np.ndarray, state: State) -> np.ndarray:
        """The best of the start, the last iterate, their mean, and where values compare the best seen."""
        if not state.memory.get("count"):
            return state.best
        objective.draw(COMPARED)
        found = [state.memory["start"], theta, objective.transform.retract(theta, state.memory["mean"]), state.best]
        values = [objective(t).value for t in found]
        state.best, state.best_value = min(zip(found, values), key=lambda pair: pair[1])
        return state.best

    def _measure(self, objective, theta, state, g, other):
        """Mean + 2 deviations of the motion (mm) that a gradient makes, and the width of f.

        Where samples are drawn, gradient and state are those of the last ones.
        """
        transform = objective.transform
        probes = Random(PROBES).on(objective.fixed, np.random.default_rng(0))()
        here = positions(transform, theta, probes)
        unit = objective.grid.resolution
        motions, products = [], []
        for _ in range(TRIES):
            reach = transform.reach(g)
            if reach > 0 and np.isfinite(reach):
                step = g * g.dtype.type(unit / reach)
                moved = positions(transform, transform.retract(theta, step), probes) - here
                lengths = np.sqrt((moved**2).sum(-1)) * reach / unit
                motions.append(lengths.mean() + 2 * lengths.std())
            epoch = objective.epoch
            objective.draw()
            if objective.epoch == epoch:
                break
            e = objective(theta)
            state.accept(theta, e)
            np.copyto(other, g)
            np.copyto(g, e.gradient)
            products.append(dot(g, other))
        motion = float(np.mean(motions)) if motions else 0.0
        if self.noise and products:
            motion /= np.sqrt(self._share(objective, theta, probes, here, g))
        return motion, 0.1 * float(np.std(products)) if products else 0.0

    def _share(self, objective, theta, probes, here, like) -> float:
        """Of the square of gradients of samples, the share of the exact gradient, from 0.001 to 1."""
        transform, rng = objective.transform, np.random.default_rng(0)
        exact, whole = 0.0, 0.0
        for _ in range(TRIES):
            step = rng.standard_normal(like.shape).astype(like.dtype)
            moved = positions(transform, transform.retract(theta, step), probes) - here
            step *= like.dtype.type(self._motion(objective) / max(np.sqrt((moved**2).sum(-1).mean()), 1e-12))
            place, pair = transform.retract(theta, step), []
            for _ in range(2):
                objective.draw()
                if np.isfinite((e := objective(place)).value):
                    pair.append(e.gradient.copy())
            if len(pair) == 2:
                exact += dot(*pair)
                whole += (dot(pair[0], pair[0]) + dot(pair[1], pair[1])) / 2
        return float(np.clip(exact / whole, LEAST, 1)) if whole > 0 else 1.0


def positions(transform, theta, points) -> np.ndarray:
    """Where phi takes points, (n, d) mm."""
    phi, _ = transform.forward(theta, points)
    x = points.world if phi.field is None else points.world + phi.field.T
    d = points.ndim
    return (x[:, None] * phi.matrix[:d, :d]).sum(-1) + phi.matrix[:d, d]


def sigmoid(x: float, width: float) -> float:
    """f of the module's head: 0 at 0, from -0.8 to 1."""
    return LOW + (1 - LOW) / (1 - np.exp(np.clip(-x / max(width, 1e-300), -50, 50)) / LOW)

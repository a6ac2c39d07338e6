"""Does an optimiser keep its protocol?

Must not import: cli, plot, report.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..backend import Workspace
from ..draws import Random
from ..engine import check_needs
from ..metrics import SSD
from ..objective import Objective
from ..regularisers import Diffusion, Gaussian
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
    name, allowed = type(part).__name__, {"gradient", "curvature", "product", "smooth"}
    require(part.needs and set(part.needs) <= allowed,
            f"{name}.needs is {part.needs}; allowed are {sorted(allowed)}")
    for ndim in (2, 3):
        fixed, moving = scene(ndim)
        model, regularisers = Linear(fixed.grid, "translation"), []
        if "smooth" in part.needs:
            model = Dense(fixed.grid, np.eye(ndim + 1), compositive=True)
            regularisers = [Gaussian(1.0, "update"), Gaussian(0.5, "displacement")]
        elif "product" in part.needs:
            model, regularisers = Dense(fixed.grid, np.eye(ndim + 1)), [Diffusion(1e-3)]
        check_needs(part, model, SSD(), regularisers)
        identity = model.refine(model.identity(), fixed.grid).astype(np.float64)
        with Workspace(1):
            objective = Objective(fixed, moving, model, SSD(), regularisers)
            begin, state = _run(part, objective, identity)
        if isinstance(model, Dense):
            require(state.best_value < 0.1 * begin,
                    f"{name}, {ndim}-D: the value fell from {begin} to {state.best_value} only")
        else:
            error = np.abs(state.best - SHIFT[:ndim]).max()
            require(error < 0.1, f"{name}, {ndim}-D: {error:.3f} mm from the minimum: {state.done}")
        truth = identity + SHIFT[:ndim].reshape((ndim,) + (1,) * (identity.ndim - 1))
        with Workspace(1):
            _run(make(), Objective(fixed, moving, model, SSD(), regularisers), truth)
        if getattr(part, "stochastic", False):
            _draws(make, fixed, moving, model)


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


def _draws(make, fixed, moving, model):
    """With other samples at every step: it finds the minimum, and the seed alone says by which way."""
    name, ways = type(make()).__name__, []
    for seed, threads in ((0, 1), (0, 3), (1, 1)):
        part, theta, way = make(), model.identity(), []
        with Workspace(threads):
            draw = Random(256).on(fixed, np.random.default_rng(seed))
            objective = Objective(fixed, moving, model, SSD(), draw=draw)
            state = part.init(objective, theta)
            for _ in range(200):
                epoch = objective.epoch
                theta = part.step(objective, theta, state)
                require(objective.epoch > epoch, f"{name} is declared stochastic; a step drew no samples")
                small(f"{name}: state.value is not that of theta", state.value - objective(theta).value, 1e-9)
                way.append((state.value, theta.tobytes()))
            error = np.abs(part.finish(objective, theta, state) - SHIFT[:fixed.grid.ndim]).max()
        require(error < 0.1, f"{name}, {fixed.grid.ndim}-D, drawn samples: {error:.3f} mm from the minimum")
        ways.append(way)
    require(ways[0] == ways[1], f"{name}: the same seed went two ways with 1 and 3 threads")
    require(ways[0] != ways[2], f"{name}: two seeds went the same way")

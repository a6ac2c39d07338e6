"""Does a regulariser keep its protocol?

Must not import: cli, plot, report.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..regularisers import is_energy
from ..transforms import BSpline, Dense, Polyaffine
from .scenes import STEPS, check_slope, require, scene, small


def regulariser(make: Callable) -> None:
    """Check a regulariser: energy and its gradient, on lattices and dense fields; smoothing.

    Parameters
    ----------
    make : callable
        Returns a new regulariser.

    Raises
    ------
    AssertionError
        With what broke and the numbers.

    Examples
    --------
    >>> from classreg.regularisers import Gaussian
    >>> regulariser(Gaussian)
    """
    part = make()
    name = type(part).__name__
    require(part.acts_on in ("displacement", "velocity", "update"), f"{name}.acts_on is {part.acts_on!r}")
    require(callable(part) or hasattr(part, "smooth"), f"{name} has neither an energy nor `smooth`")
    for ndim in (2, 3):
        grid, matrix = scene(ndim)[0].grid, np.eye(ndim + 1)
        if is_energy(part):
            for carrier in (BSpline(grid, 4.0, matrix), Dense(grid, matrix), Polyaffine(grid, matrix, cells=4)):
                needs = (getattr(part, "reads", "grams"), *getattr(part, "needs", ()))
                if all(hasattr(carrier, name) for name in needs):
                    _energy(part, carrier, grid)
        if hasattr(part, "smooth"):
            filtering = make()
            if is_energy(part):
                filtering.sigma = 1.5
            _smooth(filtering, grid)


def _energy(part, carrier, grid):
    """An energy of the coefficients of `carrier`: positive, with its gradient, blind to constants."""
    name, rng = type(part).__name__, np.random.default_rng(grid.ndim)
    zero = carrier.refine(carrier.identity(), grid).astype(np.float64)
    theta, step = rng.standard_normal((2, *zero.shape))
    grams = getattr(carrier, getattr(part, "reads", "grams"))(theta, grid)
    for _ in range(200):  # a barrier is 0 far from it, infinite beyond
        energies = [part(theta + h * step, grams)[0] for h in (0, 2e-2, -2e-2)]
        if np.isfinite(energies).all() and energies[0] > 0:
            break
        theta = theta * (1.03 if energies[0] == 0 else 0.98)
    if part(theta / 2, grams)[0] > 0:  # well within it
        theta = theta / 2
    energy, gradient = part(theta, grams)
    require(np.isfinite(energy) and energy > 0, f"{name}: the energy of noise is {energy}")
    require(gradient.shape == theta.shape,
            f"{name}: the gradient must be {theta.shape}, got {gradient.shape}")
    check_slope(f"{name} on {type(carrier).__name__}, {grid.ndim}-D", lambda h: part(theta + h * step, grams)[0],
                np.sum(gradient * step), STEPS)
    constant = zero.copy()
    constant[:grid.ndim] += rng.standard_normal((grid.ndim, 1, 1, 1))
    small(f"{name}: the energy of a constant over that of noise", part(constant, grams)[0] / energy, 1e-9)


def _smooth(part, grid):
    """A filter of fields: into `out`, smoother than before, blind to constants."""
    name = type(part).__name__
    field = np.random.default_rng(5).standard_normal((grid.ndim, *grid.shape3))
    kept, out = field.copy(), np.empty_like(field)
    require(part.smooth(field, grid, out) is out, f"{name}.smooth must return the array it was given")
    require(np.array_equal(field, kept), f"{name}.smooth changed its input")
    before, after = np.var(field), np.var(out)
    require(after < before, f"{name}.smooth took the variance of noise from {before:.4g} to {after:.4g}")
    constant = np.full_like(field, 2.5)
    small(f"{name}.smooth changes a constant", part.smooth(constant, grid, out) - 2.5, 1e-9)

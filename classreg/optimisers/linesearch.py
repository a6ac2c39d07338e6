"""Backtracking line search under one weight.

A step a p is taken if it lowers the value by a share of what the slope s = <gradient, p> promises (Armijo),
    f(theta + a p) <= f(theta) + 1e-4 a s;
else a becomes the minimum of the parabola through f(theta), s and f(theta + a p), a quarter where that value is
infinite, between a tenth and half of a. Nocedal and Wright, Numerical Optimization, section 3.5.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..stencil import add_scaled

#: share of the promised decrease that a step must reach
SHARE = 1e-4

#: trial steps at most
TRIALS = 12


class Trial(NamedTuple):
    """The last step tried: its length in units of the direction, where it leads, and the objective there."""

    length: float
    theta: np.ndarray
    evaluation: object


def backtrack(objective, theta: np.ndarray, value: float, direction: np.ndarray, slope: float, length: float,
              least: float, step: np.ndarray) -> Trial:
    """Shorten a step along `direction` until the value falls enough.

    Parameters
    ----------
    objective
        Evaluated with `hold=True`, so that all values have one weight.
    theta, value : array, float
        Where the search begins.
    direction : array
        A tangent direction, along which the value changes by `slope` < 0 per unit.
    length, least : float
        First trial, and below which none is made, in units of the direction.
    step : array
        Receives the last step, length * direction.

    Returns
    -------
    Trial
        Its value may be no lower than `value`: then no step was found.
    """
    for _ in range(TRIALS):
        add_scaled(direction, length - 1, direction, step)
        new = objective.transform.retract(theta, step)
        e = objective(new, hold=True)
        if e.value <= value + SHARE * length * slope or length < least:
            break
        drop = e.value - value - length * slope
        tried = length
        length *= min(0.5, max(0.1, -length * slope / (2 * drop))) if np.isfinite(drop) else 0.25
    else:
        length = tried
    return Trial(length, new, e)

"""Backtracking line search under one weight.

A step a p is taken if it lowers the value by a share of what the slope s = <gradient, p> promises (Armijo),
    f(theta + a p) <= f(theta) + 1e-4 a s;
else a becomes the minimum of the parabola through f(theta), s and f(theta + a p), a quarter where that value is
infinite, between a tenth and half of a. Nocedal and Wright, Numerical Optimization, section 3.5.

Where a barrier is infinite, p is first held back there and around, some times, and s follows: one place that is about
to fold must not shorten the step of all others.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..stencil import add_scaled, dot

#: share of the promised decrease that a step must reach
SHARE = 1e-4

#: times that a direction is held back where it would fold, before all of it is shortened
EASED = 4

#: trial steps at most
TRIALS = 12


class Trial(NamedTuple):
    """The last step tried: its length in units of the direction, where it leads, and the objective there."""

    length: float
    theta: np.ndarray
    evaluation: object


def backtrack(objective, theta: np.ndarray, value: float, direction: np.ndarray, gradient: np.ndarray,
              length: float, least: float, step: np.ndarray) -> Trial:
    """Shorten a step along `direction` until the value falls enough.

    Parameters
    ----------
    objective
        Evaluated with `hold=True`, so that all values have one weight.
    theta, value : array, float
        Where the search begins.
    direction, gradient : array
        A tangent direction, along which the value falls, and the gradient there. The direction may be changed.
    length, least : float
        First trial, and below which none is made, in units of the direction.
    step : array
        Receives the last step, length * direction.

    Returns
    -------
    Trial
        Its value may be no lower than `value`: then no step was found.
    """
    eased, slope = (0 if hasattr(objective, "ease") else EASED), dot(direction, gradient)
    for _ in range(TRIALS):
        add_scaled(direction, length - 1, direction, step)
        new = objective.transform.retract(theta, step)
        e = objective(new, hold=True)
        if e.value == np.inf and eased < EASED and objective.ease(direction, new):
            eased, slope = eased + 1, min(dot(direction, gradient), 0.0)
            continue
        if e.value <= value + SHARE * length * slope or length < least:
            break
        drop = e.value - value - length * slope
        tried = length
        length *= min(0.5, max(0.1, -length * slope / (2 * drop))) if np.isfinite(drop) else 0.25
    else:
        length = tried
    return Trial(length, new, e)

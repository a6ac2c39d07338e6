"""Bending energy: half the mean of the squared second derivatives, in 1 / mm^2.

    1/2 mean of sum_kl (d^2 u / dx_k dx_l)^2;  affine fields cost nothing. Rueckert et al., IEEE TMI 1999.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from .quadratic import each_component, long_axes, quadratic


class Bending:
    """Half the mean squared second derivatives of the displacement, times `weight` (mm^2)."""

    acts_on = "displacement"
    reads = "grams"
    quadratic = True

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, theta: np.ndarray, grams) -> tuple[float, np.ndarray]:
        """Value and gradient in the coefficients."""
        axes, terms = long_axes(theta), []
        for a in axes:
            for b in axes:
                if a <= b:
                    order = [(k == a) + (k == b) for k in range(3)]
                    terms.append((self.weight * (1 if a == b else 2), tuple((n, n) for n in order)))
        return quadratic(theta, grams, each_component(theta, terms), "bending gradient")

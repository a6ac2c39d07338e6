"""Bending energy: half the mean of the squared second derivatives, in 1 / mm^2.

    1/2 mean of sum_kl (d^2 u / dx_k dx_l)^2;  affine fields cost nothing. Rueckert et al., IEEE TMI 1999.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from .quadratic import quadratic


class Bending:
    """Half the mean squared second derivatives of the displacement, times `weight` (mm^2)."""

    acts_on = "displacement"
    reads = "grams"
    quadratic = True

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, theta: np.ndarray, grams) -> tuple[float, np.ndarray]:
        """Value and gradient in the coefficients."""
        axes = [k for k in range(3) if theta.shape[k + 1] > 1]
        terms = []
        for a in axes:
            for b in axes:
                if a <= b:
                    orders = [0, 0, 0]
                    orders[a] += 1
                    orders[b] += 1
                    terms.append((self.weight * (1 if a == b else 2), tuple(orders)))
        return quadratic(theta, grams, terms, "bending gradient")

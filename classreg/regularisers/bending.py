"""Bending energy: half the mean of the squared second derivatives, in 1 / mm^2.

    1/2 mean of sum_kl (d^2 u / dx_k dx_l)^2;  affine fields cost nothing. Rueckert et al., IEEE TMI 1999.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..image import Image
from .base import Energy
from .quadratic import each_component, long_axes, quadratic


class Bending(Energy):
    """Half the mean squared second derivatives, times `weight` (mm^2)."""

    quadratic = True

    def __init__(self, weight: float = 1.0, where: Image | None = None, acts_on: str = "displacement"):
        super().__init__(weight, where, None, acts_on)

    def __call__(self, theta: np.ndarray, read) -> tuple[float, np.ndarray]:
        """Value and gradient in the coefficients."""
        if self.reads == "slopes":
            return read.bending(theta, self.weight, self.weights(read, theta.dtype), self.name)
        axes, terms = long_axes(theta), []
        for a in axes:
            for b in axes:
                if a <= b:
                    order = [(k == a) + (k == b) for k in range(3)]
                    terms.append((self.weight * (1 if a == b else 2), tuple((n, n) for n in order)))
        return quadratic(theta, read, each_component(theta, terms), self.name)

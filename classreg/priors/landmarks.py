"""Landmarks: where phi takes points of the fixed image, against where they belong in the moving one. No unit.

    weight * mean of rho(|phi(x) - y| / scale),     rho(t) = t^2 / 2 up to 1, t - 1/2 beyond

Huber's rho pulls every landmark, but one that is off by far more than `scale` no more than one that is off by it, so
a wrong pair spoils little. Huber, Ann. Math. Statist. 1964, doi:10.1214/aoms/1177703732.

Must not import: optimisers, engine, numba, cupy, file libraries.
"""

from __future__ import annotations

import numpy as np

from ..bounds import number
from ..errors import InputError
from ..image import real_numbers
from ..sampling import Points
from .base import Pull


class Landmarks:
    """Corresponding points.

    Parameters
    ----------
    fixed, moving : array, (n, d)
        World points x and y in mm, one pair per row.
    weight : float
    scale : float
        Distance in mm up to which a landmark pulls in proportion.
    """

    def __init__(self, fixed: np.ndarray, moving: np.ndarray, weight: float = 1.0, scale: float = 5.0):
        self.weight, self.scale = number("landmarks: weight", weight, 0), number("landmarks: scale", scale)
        self.fixed, self.moving = (real_numbers(p, f"landmarks, {end}").astype(float)
                                   for end, p in (("fixed", fixed), ("moving", moving)))
        if self.fixed.shape != self.moving.shape or self.fixed.ndim != 2 or self.fixed.shape[1] not in (2, 3) \
                or len(self.fixed) == 0:
            raise InputError(f"landmarks: {self.fixed.shape} fixed and {self.moving.shape} moving coordinates; both "
                             "must be (n, d) world points in mm, n > 0, in the same order")
        bad = ~np.isfinite(self.fixed + self.moving).all(1)
        if bad.any():
            raise InputError(f"landmarks: {int(bad.sum())} of {len(bad)} pairs are not finite, the first in row "
                             f"{int(bad.argmax())}; remove these rows from both lists")

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return self.fixed.shape[1]

    def __call__(self, theta: np.ndarray, transform) -> tuple[float, np.ndarray]:
        """Value, and gradient in the tangent."""
        phi, back = transform.forward(theta, Points(self.fixed))
        d, u = self.ndim, 0 if phi.field is None else phi.field.T
        off = ((self.fixed + u) @ phi.matrix[:d, :d].T + phi.matrix[:d, d] - self.moving) / self.scale
        size = np.sqrt(np.sum(off**2, 1))
        value = np.where(size <= 1, size**2 / 2, size - 0.5).mean()
        pull = off / np.maximum(size, 1)[:, None] * (self.weight / (self.scale * len(off)))
        return float(self.weight * value), back(Pull(pull, self.fixed, phi.matrix), theta)

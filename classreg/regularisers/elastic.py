"""Linear elasticity: the mean energy density of a material with the Lame constants mu and lambda (no unit).

    mean of  mu / 4 |grad u + grad u^T|^2 + lambda / 2 (div u)^2

Constants and, to first order, rotations cost nothing. In terms of D[a, k], the derivative of component k along array
axis a, and P = E^-1 (see `transforms/slopes.py`), half of

    sum C[ak, bl] D[a, k] D[b, l],   C = mu (delta_kl (P P^T)_ab + P_al P_bk) + lambda P_ak P_bl,

so components may lie in world axes and derivatives along any grid's. It has no `smooth`: under a border without slope,
cosine waves do not part the displacements, which grad div mixes; the border that does (none across, free along) would
hold the displacement across the border at 0. Broit, 1981.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..errors import OptionError
from ..image import Image
from ..kernels.cpu import slopes as kernels
from .base import Energy
from .quadratic import VALUE, long_axes, quadratic


class Elastic(Energy):
    """The linear elastic energy, times `weight`.

    Parameters
    ----------
    weight : float
    shear, dilation : float
        mu and lambda; with a dilation of 0 volume changes as easily as shape.
    where : Image, optional
        How much it counts at each place.
    acts_on : {"displacement", "velocity"}
    """

    quadratic = True

    def __init__(self, weight: float = 1.0, shear: float = 1.0, dilation: float = 0.5, where: Image | None = None,
                 acts_on: str = "displacement"):
        super().__init__(weight, where, None, acts_on)
        self.shear, self.dilation = positive("elastic: shear", shear), positive("elastic: dilation", dilation)

    def __call__(self, theta: np.ndarray, read) -> tuple[float, np.ndarray]:
        """Value and gradient in the coefficients."""
        mu, lam = self.weight * self.shear, self.weight * self.dilation
        if self.reads == "slopes":
            return read.density(theta, kernels.quadratic, 0.0, mu, lam,
                                where=self.weights(read, theta.dtype), name=self.name)
        axes, d = long_axes(theta), len(theta)
        p = np.linalg.inv(read.frame)
        p[np.abs(p) < 1e-9] = 0
        terms = []
        for a in axes:
            for b in axes:
                orders = {a: (1, 1)} if a == b else {a: (1, 0), b: (0, 1)}
                orders = tuple(orders.get(i, VALUE) for i in range(3))
                pa, pb = p[a - 3 + d], p[b - 3 + d]
                c = mu * (np.eye(d) * np.sum(pa * pb) + np.outer(pb, pa)) + lam * np.outer(pa, pb)
                terms += [(c[k, l], orders, k, l) for k in range(d) for l in range(d) if c[k, l] != 0]
        return quadratic(theta, read, terms, self.name)


def positive(what: str, value: float) -> float:
    """The value, or OptionError if it is below 0."""
    if not value >= 0:
        raise OptionError(f"{what} must be at least 0, got {value}")
    return value

"""Neighbouring patches move alike: half the mean squared difference of their affine velocities, over their distance.

    1/2 sum over axes k of the mean over pairs p, q next to each other along k of
        (mean over the cell between them of |L_p (x - c; 1) - L_q (x - c; 1)|^2) / h_k^2,

h_k the length of a cell in mm: no unit, and a weight means the same for patches of any size. A velocity that is affine
everywhere costs nothing. After the regularisation of log-affine maps in Arsigny et al., J Math Imaging Vis 2009,
doi:10.1007/s10851-008-0135-9.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np


class Neighbours:
    """The energy, times `weight`."""

    acts_on = "velocity"
    reads = "patches"

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, theta: np.ndarray, sizes) -> tuple[float, np.ndarray]:
        """Value and gradient in the parameters b, m of the patches; see `Polyaffine` for their order."""
        d, value, gradient = len(sizes), 0.0, np.zeros_like(theta)
        for k, size in enumerate(sizes):
            axis = k + 4 - d
            n = theta.shape[axis] - 1
            if n < 1:
                continue
            low, high = (tuple(slice(s, s + n) if a == axis else slice(None) for a in range(4)) for s in (0, 1))
            pairs = theta[low][0].size
            own = slice((k + 1) * d, (k + 2) * d)
            apart = theta[high] - theta[low]
            middle = apart[:d] - theta[low][own] - theta[high][own]  # of their velocities, halfway between them
            factor = self.weight / (pairs * size**2)
            value += 0.5 * factor * float((middle**2).sum(dtype=np.float64)
                                          + (apart[d:] ** 2).sum(dtype=np.float64) / 3)
            middle *= middle.dtype.type(factor)
            apart *= apart.dtype.type(factor / 3)
            for side, sign in ((low, -1), (high, 1)):
                part = gradient[side]
                part[d:] += sign * apart[d:]
                part[:d] += sign * middle
                part[own] -= middle
        return value, gradient

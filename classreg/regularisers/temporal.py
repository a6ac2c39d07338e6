"""How much images that follow each other differ in their motion:  mean over t of mean over x of |p_{t+1} - p_t|^2.

p are the parameters of the images in mm: displacements, velocities, control points, or the coordinates of a logarithm,
of which a unit moves the grid by about 1 mm; the energy is in mm^2, and its weight in 1 / mm^2. It couples the images
of a group, which then have an order: of a time series whose frames show one movement, and not of independent shots.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..stencil import add_scaled, dot


class Temporal:
    """Mean squared step from image to image, times `weight`."""

    #: it is given the parameters of all images, (N, ...), at once
    couples = True
    acts_on = "displacement"

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, parts: np.ndarray) -> tuple[float, np.ndarray]:
        """Value, and gradient in all parameters, in a buffer."""
        ws = workspace()
        out = ws.buffer("temporal gradient", parts.shape, parts.dtype)
        step = ws.buffer("temporal step", parts.shape[1:], parts.dtype)
        out[...] = 0
        value, scale = 0.0, self.weight / ((len(parts) - 1) * int(np.prod(parts.shape[2:])))
        for k in range(len(parts) - 1):
            np.subtract(parts[k + 1], parts[k], out=step)
            value += scale * dot(step, step)
            add_scaled(out[k + 1], 2 * scale, step, out[k + 1])
            add_scaled(out[k], -2 * scale, step, out[k])
        return float(value), out

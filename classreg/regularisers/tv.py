"""Total variation: the mean length of the gradient of u, all components together, smoothed at 0 (no unit).

    mean of  sqrt(|grad u|^2 + smoothing^2) - smoothing

A jump along a surface costs its height times its area however sharp it is, so tissues may slide along each other; it
is not quadratic, and isotropic in space and in the components. Vishnevskiy et al., IEEE TMI 2017,
doi:10.1109/TMI.2016.2610583.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..bounds import number
from ..image import Image
from ..kernels.cpu import slopes as kernels
from .base import Energy


class TV(Energy):
    """The mean length of the gradient, times `weight`.

    Parameters
    ----------
    weight : float
    smoothing : float
        The strain below which it is nearly quadratic, as `diffusion` with weight / smoothing.
    where : Image, optional
        How much it counts at each place.
    acts_on : {"displacement", "velocity"}
    """

    def __init__(self, weight: float = 1.0, smoothing: float = 0.05, where: Image | None = None,
                 acts_on: str = "displacement"):
        super().__init__(weight, where, None, acts_on)
        self.smoothing, self.reads = number("tv: smoothing", smoothing), "slopes"

    def __call__(self, theta: np.ndarray, slopes) -> tuple[float, np.ndarray | None]:
        """Value and gradient in the coefficients; None for a gradient of zero."""
        return slopes.density(theta, kernels.variation, self.weight, self.smoothing,
                              where=self.weights(slopes, theta.dtype), name=self.name)

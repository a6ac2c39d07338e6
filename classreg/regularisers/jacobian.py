"""Change of volume: half the mean of log(J)^2 with J = det d(x + u)/dx (no unit); infinite where J <= 0.

To halve a volume costs as much as to double it. J is looked at where the transform gives slopes: a step that folds
there is refused, between the points nothing is promised (see `volume` for that). Rohlfing et al., IEEE TMI 2003,
doi:10.1109/TMI.2003.814791.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..image import Image
from ..kernels.cpu import slopes as kernels
from .base import Energy, unfolded

#: the determinant up to which a place is smoothed before a level that would begin with folds
LEAST = 0.05


class Jacobian(Energy):
    """Half the mean of log(J)^2, times `weight`.

    Parameters
    ----------
    weight : float
    where : Image, optional
        How much it counts at each place; where 0, folds pass.
    """

    def __init__(self, weight: float = 1.0, where: Image | None = None):
        super().__init__(weight, where)
        self.reads = "slopes"

    def __call__(self, theta: np.ndarray, slopes) -> tuple[float, np.ndarray | None]:
        """Value and gradient in the coefficients; None for a gradient of zero."""
        return slopes.density(theta, kernels.volume_change, self.weight, where=self.weights(slopes, theta.dtype),
                              name=self.name)

    def mend(self, theta: np.ndarray, transform, everywhere: bool = False) -> np.ndarray:
        """The coefficients, smoothed around places that fold, if the energy is infinite where a level begins."""
        def folded(t, *_):
            field = transform.displacement(t)
            return transform.slopes(field).low(field, LEAST)

        field = transform.displacement(theta)
        if everywhere or np.isfinite(self(field, transform.slopes(field))[0]):
            return theta
        return unfolded(theta, folded)

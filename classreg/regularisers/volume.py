"""A barrier against folds: the mean over points of  log((J - least) / (below - least))^2  where J < below.

It is infinite where J <= least; J = det d(x + u)/dx is looked at where the transform gives slopes. Above `below` it
costs nothing, so it leaves ordinary deformations alone; no step of a line search passes it. After the penalty of
log J in Rohlfing et al., IEEE TMI 2003, doi:10.1109/TMI.2003.814791.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..errors import OptionError
from .base import unfolded


class Volume:
    """The barrier, times `weight` (no unit).

    Parameters
    ----------
    weight : float
    below : float
        The Jacobian determinant from which on it acts.
    least : float
        The determinant at which it is infinite.
    """

    acts_on = "displacement"
    reads = "slopes"
    needs = ("folded",)

    def __init__(self, weight: float = 1.0, below: float = 0.3, least: float = 0.05):
        if not (weight > 0 and 0 <= least < below <= 1):
            raise OptionError("volume: weight must be above 0, and 0 <= least < below <= 1; got "
                              f"weight={weight}, least={least}, below={below}")
        self.weight, self.below, self.least = weight, below, least

    def __call__(self, theta: np.ndarray, slopes) -> tuple[float, np.ndarray | None]:
        """Value and gradient in the coefficients; None for a gradient of zero."""
        return slopes.barrier(theta, self.below, self.least, self.weight)

    def sunk(self, theta: np.ndarray, transform) -> np.ndarray:
        """Coefficients around places where the energy is infinite, or nearly, (z, y, x) bool."""
        return transform.slopes(theta).low(theta, 2 * self.least)

    def mend(self, theta: np.ndarray, transform, everywhere: bool = False) -> np.ndarray:
        """The coefficients, smoothed around places that fold, until the energy is finite.

        With `everywhere`, until no fold is left between or at the samples of the fixed grid either; a lattice that
        resists is shrunk towards the identity.
        """
        if everywhere:
            return unfolded(theta, transform.folded)
        return unfolded(theta, lambda t, *_: self.sunk(t, transform))

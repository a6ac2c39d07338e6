"""All correlations of the images at once:  E = 1 - |K|_F / N,   dE/dK = - K / (N |K|_F).

K is the correlation matrix (see `components.py`). 0 where every image is a linear function of every other, rising or
falling. Source: the sum of squared pairwise correlations as in Huizinga et al., Medical Image Analysis 2016,
doi:10.1016/j.media.2015.12.004; the form is ours.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from .components import Correlations


class Correlation(Correlations):
    """One minus the root mean square of all correlations, each image's with itself among them."""

    zero = 1e-9

    def of(self, matrix: np.ndarray):
        """The value of a correlation matrix, and its derivative by it."""
        size = max(float(np.sqrt((matrix**2).sum())), 1e-12)
        return 1 - size / len(matrix), matrix / (-len(matrix) * size)

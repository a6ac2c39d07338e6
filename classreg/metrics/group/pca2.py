"""All eigenvalues of the correlation matrix of the images, weighed by their rank.

    E = 2 / (N (N - 1)) sum_i (i - 1) l_i,     l_1 >= l_2 >= ...

They sum to N, and the later ones cost more, so that all correlation moves into the first few; no number of components
has to be chosen. 0 for images that are linear functions of each other, about 1 for independent ones, and of
two images 1 - their correlation. dE/dK = 2 / (N (N - 1)) sum_i (i - 1) v_i v_i^T.
Source: Huizinga et al., Medical Image Analysis 2016, doi:10.1016/j.media.2015.12.004, there sum_i i l_i.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from .components import Correlations


class PCA2(Correlations):
    """Rank-weighted eigenvalues; for images of one kind whose contrast changes by few factors."""

    zero = 1e-9

    def of(self, matrix: np.ndarray):
        """The value of a correlation matrix, and its derivative by it."""
        values, vectors = np.linalg.eigh(matrix)
        count = len(values)
        rank = np.arange(count)[::-1] * 2 / (count * (count - 1))  # eigenvalues ascend
        return float((rank * values).sum()), np.sum(rank * vectors[:, None] * vectors[None], axis=-1)

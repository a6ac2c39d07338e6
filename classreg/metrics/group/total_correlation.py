"""Minus the total correlation of images that are jointly Gaussian:  E = 1/(2 N) log det((K + e) / (1 + e)).

K is the correlation matrix (see `components.py`), dE/dK = (K + e)^-1 / (2 N). 0 for independent images; e = 0.001 keeps
it finite where one image is a linear function of the others.
Source: Guyader et al., Scientific Reports 2018, doi:10.1038/s41598-018-31474-7; e is ours.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from .components import Correlations

#: added to the diagonal of the correlation matrix
RIDGE = 1e-3


class TotalCorrelation(Correlations):
    """Minus the Gaussian total correlation per image, in nats."""

    def of(self, matrix: np.ndarray):
        """The value of a correlation matrix, and its derivative by it."""
        count = len(matrix)
        full = (matrix + RIDGE * np.eye(count)) / (1 + RIDGE)
        np.fill_diagonal(full, 1.0)  # of constant images too
        value = 0.5 / count * float(np.linalg.slogdet(full)[1])
        return value, np.linalg.inv(full) * (0.5 / (count * (1 + RIDGE)))

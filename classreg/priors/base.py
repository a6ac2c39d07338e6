"""What priors share: a pull at points, handed to the backward step of any transform.

Must not import: optimisers, engine, numba, cupy, file libraries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Pull:
    """Stands for a sampled image where a transform's `back` asks for one: d value / d phi(x) at points x.

    Attributes
    ----------
    pull : array, (n, d)
        1/mm.
    points : array, (n, d)
        x, in mm.
    matrix : array, (d + 1, d + 1)
        A of phi(x) = A (x + u(x)).
    """

    pull: np.ndarray
    points: np.ndarray
    matrix: np.ndarray

    def force(self, adjoint) -> np.ndarray:
        """d value / d u, (d, 1, 1, n): A^T pull."""
        d = len(self.matrix) - 1
        return np.einsum("ni,ij->jn", self.pull, self.matrix[:d, :d]).reshape(d, 1, 1, -1)

    def reduce(self, adjoint) -> np.ndarray:
        """d value / d A of a linear model, (1, 4, 4), lifted."""
        d = len(self.matrix) - 1
        out = np.zeros((1, 4, 4))
        lifted = np.column_stack([self.points, np.ones(len(self.points))])
        out[0][np.ix_(range(d), [*range(d), 3])] = np.einsum("ni,nj->ij", self.pull, lifted)
        return out

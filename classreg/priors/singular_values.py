"""Singular values of a linear model: its size and its stretch in one direction against another. No unit.

    weight * (size * d * m^2 + anisotropy * sum_k (l_k - m)^2),   l_k = log s_k,  m = mean of l_k

s_k are the singular values of the linear part L = U diag(s) V^T, d s_k / d L = u_k v_k^T; with size = anisotropy it is
weight * sum_k l_k^2. A weight of 0.6 lets sizes differ by some 10 %, 0.05 by some 50 %. It keeps an affine model sound
where an image shows only part of what the other does. After Hachicha et al., MILLanD at MICCAI 2023.

Must not import: optimisers, engine, numba, cupy, file libraries.
"""

from __future__ import annotations

import numpy as np

from ..bounds import number


class SingularValues:
    """Size and anisotropy of a linear model.

    Parameters
    ----------
    weight : float
    size, anisotropy : float
        How much each of the two counts.
    """

    needs = ("tangent",)

    def __init__(self, weight: float = 0.2, size: float = 1.0, anisotropy: float = 1.0):
        self.weight, self.size, self.anisotropy = (number(f"singular_values: {name}", value, 0) for name, value in (
            ("weight", weight), ("size", size), ("anisotropy", anisotropy)))

    def __call__(self, theta: np.ndarray, transform) -> tuple[float, np.ndarray]:
        """Value, and gradient in the tangent, (p,)."""
        d = transform.grid.ndim
        u, s, vt = np.linalg.svd(transform.matrix(theta)[:d, :d])
        logs = np.log(s)
        mean = logs.mean()
        value = self.weight * (self.size * d * mean**2 + self.anisotropy * np.sum((logs - mean) ** 2))
        slope = 2 * self.weight * (self.size * mean + self.anisotropy * (logs - mean)) / s
        pull = np.einsum("ik,k,kj->ij", u, slope, vt)
        return float(value), np.einsum("pij,ij->p", transform.tangent(theta)[:, :d, :d], pull)

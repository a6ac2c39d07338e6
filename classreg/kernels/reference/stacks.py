"""What metrics of a stack (N, C, z, y, x) with weights (N, z, y, x) are made of.

Must not import: anything above floor 0, numba.
"""

from __future__ import annotations

import numpy as np


def _mean(stack, weights):
    """Weighted mean over the images, (C, z, y, x), and the sum of the weights, (z, y, x)."""
    w = weights.astype(float)[:, None]
    count = w.sum(0)
    return (w * stack).sum(0) / np.where(count > 0, count, 1), count[0]


def variation(stack, weights):
    """Sums of w_j (u_j - mean)^2 over images and channels, and of W - sum w_j^2 / W, W the sum of the weights."""
    w, (mean, count) = weights.astype(float), _mean(stack, weights)
    free = count - (w**2).sum(0) / np.where(count > 0, count, 1)
    return np.array([(w[:, None] * (stack - mean) ** 2).sum(), free.sum()])


def variation_adjoint(stack, weights, scale):
    """scale * w_j (u_j - mean)."""
    return scale * weights.astype(float)[:, None] * (stack - _mean(stack, weights)[0])

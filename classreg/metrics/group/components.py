"""What metrics of correlations share: means and deviations, the correlation matrix, and its leading components.

Only samples that all images see count, each by the product w of the weights:

    Z_j = (u_j - mu_j) / s_j,     K_ij = sum w Z_i Z_j / n,     n = sum w,
    f(K):  df/du_j = 2 w / (n s_j) [(Z G)_j - (K G)_jj Z_j],    G = df/dK.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ...backend import workspace
from ...kernels.cpu import gram as kernels
from .base import GroupMetric, adjoints_buffer

#: variance, in the images' unit, below which an image is taken as constant and left out
FLAT = 1e-9


def joint_weight(weights: np.ndarray) -> np.ndarray:
    """The product of all weights; lives until the next evaluation."""
    out = workspace().buffer("joint weight", weights.shape[1:], weights.dtype)
    workspace().run(kernels.together, weights.shape[1], weights, out)
    return out


def standards(stack: np.ndarray, c: int, weight: np.ndarray):
    """n, means and the inverses of the deviations of a channel; 0 in the place of the latter for constant images."""
    count = len(stack)
    sums = workspace().total(kernels.sizes, stack.shape[2], 1 + 2 * count, stack, c, weight)
    n = max(float(sums[0]), 1e-12)
    mean = sums[1:1 + count] / n
    return n, mean, inverse_deviations(sums[1 + count:] / n - mean**2)


def inverse_deviations(variance: np.ndarray) -> np.ndarray:
    """1 / sqrt of variances; 0 for those of constant images."""
    return np.where(variance > FLAT, 1 / np.sqrt(np.maximum(variance, FLAT)), 0.0)


def correlations(stack: np.ndarray, c: int, weight: np.ndarray):
    """n, means, inverse deviations, and the correlation matrix (N, N) of a channel; rows of constant images are 0."""
    count = len(stack)
    width = 1 + count + count * (count + 1) // 2
    sums = workspace().total(kernels.gram, stack.shape[2], width, stack, c, weight)
    n = max(float(sums[0]), 1e-12)
    mean, matrix = sums[1:1 + count] / n, np.zeros((count, count))
    matrix[np.tril_indices(count)] = sums[1 + count:] / n
    matrix += np.tril(matrix, -1).T
    matrix -= np.outer(mean, mean)
    inverse = inverse_deviations(np.diag(matrix))
    return n, mean, inverse, matrix * np.outer(inverse, inverse)


def leading(matrix: np.ndarray, count: int) -> np.ndarray:
    """The eigenvectors (count, N) of the largest eigenvalues of a symmetric matrix, largest first."""
    return np.linalg.eigh(matrix)[1][:, ::-1][:, :count].T.copy()


class Correlations(GroupMetric):
    """Base of the metrics that are a function of the correlation matrix, as a mean over channels."""

    joint = True

    def __call__(self, stack: np.ndarray, weights: np.ndarray):
        """Value, and one adjoint per image."""
        value, out, weight, channels = 0.0, adjoints_buffer(stack), joint_weight(weights), stack.shape[1]
        for c in range(channels):
            n, mean, inverse, matrix = correlations(stack, c, weight)
            found, slope = self.of(matrix)
            value += found / channels
            to = slope - np.diag((matrix * slope).sum(1))  # matrix and slope are symmetric
            to *= 2 / (n * channels) * np.outer(inverse, inverse)
            workspace().run(kernels.mix, stack.shape[2], stack, c, weight, to, -(to * mean).sum(1), out)
        return float(value), list(out)

    def of(self, matrix: np.ndarray):
        """The value of a correlation matrix, and its derivative by it."""
        raise NotImplementedError

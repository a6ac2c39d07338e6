"""What the first principal components of the images leave unexplained:  E = (N - sum_{i <= m} v_i^T K v_i) / (N - m).

K is the correlation matrix (see `components.py`), v_i its leading eigenvectors: sum_{i <= m} l_i of them. 0 where m
factors explain all, about 1 for independent images; of two images and m = 1, 1 - their correlation. The v_i are latent:
a refresh improves them by orthogonal iteration, which K never enters as a matrix, so that an iteration costs a multiple
of m N; the first of a level takes them from K. Between refreshes E is an upper bound of the value with eigenvectors,
and touches it with the same gradient where they are exact,

    dE/du_j = - 2 w / ((N - m) n s_j) sum_i v_ij [y_i - (K v_i)_j Z_j],     y_i = sum_j v_ij Z_j.

Source: Huizinga et al., Medical Image Analysis 2016, doi:10.1016/j.media.2015.12.004; iterating the v_i is ours.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ...backend import workspace
from ...bounds import whole
from ...kernels.cpu import gram as kernels
from .base import GroupMetric, adjoints_buffer
from .components import correlations, joint_weight, leading, standards

#: rounds of orthogonal iteration of a refresh
ROUNDS = 2


class PCA(GroupMetric):
    """Share of the correlation that the first components do not explain; mean over channels.

    Parameters
    ----------
    components : int
        How many, at least 1; one fewer than there are images at most.
    """

    joint, zero = True, 1e-9

    def __init__(self, components: int = 1):
        self.components, self._vectors = whole("pca: components", components, 1), None

    def prepare(self, images, grid) -> None:
        """The components begin anew."""
        self._vectors = None

    def refresh(self, stack: np.ndarray, weights: np.ndarray) -> None:
        """Let the components follow the images."""
        weight, count = joint_weight(weights), min(self.components, len(stack) - 1)
        if self._vectors is None:
            self._vectors = [leading(correlations(stack, c, weight)[3], count) for c in range(stack.shape[1])]
            return
        for c, vectors in enumerate(self._vectors):
            self._vectors[c] = orthogonal_iteration(stack, c, weight, vectors, ROUNDS)

    def __call__(self, stack: np.ndarray, weights: np.ndarray):
        """Value, and one adjoint per image."""
        if self._vectors is None:
            self.refresh(stack, weights)
        value, out, weight, (count, channels) = 0.0, adjoints_buffer(stack), joint_weight(weights), stack.shape[:2]
        for c, vectors in enumerate(self._vectors):
            n, mean, inverse = standards(stack, c, weight)
            scores, product = scored(stack, c, weight, vectors, n, mean, inverse)
            scale = 1 / (channels * (count - len(vectors)))
            value += scale * (np.count_nonzero(inverse) - float((vectors * product).sum()))
            k = -2 * scale / n * inverse
            own = -k * (vectors * product).sum(0) * inverse
            workspace().run(kernels.unproject, stack.shape[2], scores, stack, c, weight, (k * vectors).T.copy(), own,
                            -own * mean, out)
        return float(value), list(out)


def scored(stack, c, weight, vectors, n, mean, inverse):
    """The scores y_i = sum_j v_ij Z_j, (m, z, y, x), and K v_i, (m, N)."""
    scores = workspace().buffer("scores", (len(vectors), *weight.shape), stack.dtype)
    matrix = vectors * inverse
    workspace().run(kernels.project, stack.shape[2], stack, c, matrix, -(matrix * mean).sum(1), scores)
    sums = workspace().total(kernels.products, stack.shape[2], vectors.size, scores, stack, c, weight)
    return scores, sums.reshape(vectors.shape) * inverse / n


def orthogonal_iteration(stack, c, weight, vectors, rounds):
    """Orthonormal vectors (m, N) nearer to the leading ones of the correlation matrix, which is not formed."""
    n, mean, inverse = standards(stack, c, weight)
    for _ in range(rounds):
        _, product = scored(stack, c, weight, vectors, n, mean, inverse)
        u, _, vt = np.linalg.svd(product, full_matrices=False)
        turned = np.sum(u[:, :, None] * vt[None], axis=1)  # the nearest orthonormal rows: no vector changes its place
        vectors = turned if np.isfinite(turned).all() else vectors
    return vectors

"""The variance of the images at each sample, averaged over the samples.

    E = sum_x sum_j w_j (u_j - m)^2 / D,   m = sum_j w_j u_j / W,   W = sum_j w_j,
    D = N / (N - 1) sum_x (W - sum_j w_j^2 / W),         dE/du_j = 2 w_j (u_j - m) / D.

With all weights 1, D is n N and E the population variance. W - sum w^2 / W says how much the images seen at a sample
can differ: N - 1 where all are seen, and 0 where one is alone, which would otherwise pass for agreement. Gauss-Newton
takes 2 w_j / D, the Hessian for steps that sum to zero over the images. For one contrast.
Source: Metz et al., Medical Image Analysis 2011, doi:10.1016/j.media.2010.10.003.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ...backend import workspace
from ...kernels.cpu import stack as kernels
from .base import GroupMetric, adjoints_buffer


class Variance(GroupMetric):
    """Mean over samples and channels of the variance over the images."""

    zero = 1e-9

    def __call__(self, stack: np.ndarray, weights: np.ndarray):
        """Value, and one adjoint per image."""
        out = adjoints_buffer(stack)
        square, scale = self._sums(stack, weights)
        workspace().run(kernels.dispersion_adjoint, stack.shape[2], stack, weights, 2 * scale, out)
        return square * scale, list(out)

    def curvature(self, stack: np.ndarray, weights: np.ndarray):
        """Weight over its sum, per image and channel; nothing to deflate with."""
        scale = stack.dtype.type(2 * self._sums(stack, weights)[1])
        out = workspace().buffer("group curvature", stack.shape, stack.dtype)
        np.multiply(weights[:, None], scale, out=out)
        return list(out), None

    @staticmethod
    def _sums(stack, weights):
        """Sum of squares, and 1 / D of the mean over channels."""
        square, free = workspace().total(kernels.dispersion, stack.shape[2], 2, stack, weights)
        count = len(stack)
        return float(square), (count - 1) / (max(float(free), 1e-12) * count * stack.shape[1])

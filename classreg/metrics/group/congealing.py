"""The entropy of the intensities at each sample, over the stack of images, averaged over the samples.

    E = - sum_x sum_i c_i log(q_i / W) / sum c,     q_i = sum_j w_j exp(-|u_i - u_j|^2 / (2 s^2)),     W = sum_j w_j,
    dE/du_i = 1 / (s^2 sum c) sum_j exp(-|u_i - u_j|^2 / (2 s^2)) (u_i - u_j) (c_i w_j / q_i + c_j w_i / q_j).

A Gaussian Parzen window over the few values of a sample: with a wide one the variance, with a narrow one a search for
modes that lets outliers be. c_i = w_i (W - w_i) / (N - 1) is an image's weight where others are seen. E is 0 for
identical images: the entropy of the window itself is left out. Channels make one vector. The width is latent: it falls
with the spread of the stack, s = max(width, root mean square deviation of the images from their mean). For one contrast
and many images; the cost grows with N^2.
Source: Learned-Miller, IEEE TPAMI 2006, doi:10.1109/TPAMI.2006.34; the gradient form after Balci et al., MICCAI
workshop 2007, the fall of the width is ours.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ...backend import workspace
from ...bounds import number
from ...kernels.cpu import stack as kernels
from ...stencil import total
from .base import GroupMetric, adjoints_buffer, company

#: width of a window that is asked to be narrower, in the images' unit
NARROWEST = 1e-3


class Congealing(GroupMetric):
    """Mean entropy over the stack in nats, less that of identical images.

    Parameters
    ----------
    width : float
        Least deviation of the window, in deviations of the images' intensities.
    """

    zero = 1e-9

    def __init__(self, width: float = 0.2):
        self.width, self._now = number("congealing: width", width, NARROWEST), None

    def prepare(self, images, grid) -> None:
        """The width begins anew."""
        self._now = None

    def refresh(self, stack: np.ndarray, weights: np.ndarray) -> None:
        """Let the width follow the spread of the stack."""
        square, free = workspace().total(kernels.dispersion, stack.shape[2], 2, stack, weights)
        self._now = max(self.width, float(np.sqrt(square / (max(free, 1e-12) * stack.shape[1]))))

    def __call__(self, stack: np.ndarray, weights: np.ndarray):
        """Value, and one adjoint per image."""
        if self._now is None:
            self.refresh(stack, weights)
        ws, planes, out, lone = workspace(), stack.shape[2], adjoints_buffer(stack), company(weights)
        each, over = ws.buffer("surprise", weights.shape[1:], stack.dtype), 0.5 / self._now**2
        n = max(total(lone), 1e-12)
        ws.run(kernels.surprise, planes, stack, weights, lone, over, each)
        ws.run(kernels.surprise_adjoint, planes, stack, weights, lone, over, 2 * over / n, out)
        return total(each) / n, list(out)

    def curvature(self, stack: np.ndarray, weights: np.ndarray):
        """2 c_i / (s^2 sum c): that of images that agree, and no less than that of others (q_i <= W)."""
        out, lone = workspace().buffer("group curvature", stack.shape, stack.dtype), company(weights)
        np.multiply(lone[:, None], stack.dtype.type(2 / (self._now**2 * max(total(lone), 1e-12))), out=out)
        return list(out), None

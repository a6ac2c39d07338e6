"""What metrics of a stack (N, C, z, y, x) with weights (N, z, y, x) are made of.

Must not import: anything above floor 0, numba.
"""

from __future__ import annotations

import numpy as np

from .intensities import parzen


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


def company(weights):
    """w_j (W - w_j) / (N - 1)."""
    w = weights.astype(float)
    return w * (w.sum(0) - w) / (len(w) - 1)


def class_histogram(image, weight, posterior, origin, scale, bins):
    """sum over samples of weight * posterior_k * window(image)_b, (K, bins)."""
    window = parzen(origin + scale * image.astype(float), bins)[0]
    return (weight * posterior.astype(float)).reshape(len(posterior), -1) @ window


def class_adjoint(image, weight, posterior, origin, scale, score):
    """weight * scale * sum over k of posterior_k * sum over b of window'(image)_b * score[k, b]."""
    slopes = parzen(origin + scale * image.astype(float), score.shape[1])[1]
    given = (score @ slopes.T).reshape(posterior.shape)
    return scale * weight.astype(float) * (posterior * given).sum(0)


def class_posterior(stack, weights, origins, scales, tables, start, spatial, factor, least):
    """least + (1 - K least) softmax of start + log spatial + factor * weighted tables at the intensities."""
    K, bins = tables.shape[2:]
    log = np.zeros((K, *weights.shape[1:])) + start[:, None, None, None]
    if len(spatial):
        log += np.log(np.maximum(spatial.astype(float), 1e-8))
    for j, c in np.ndindex(stack.shape[:2]):
        at = np.clip(origins[j, c] + scales[j, c] * stack[j, c].astype(float), 1.0, bins - 2.0001)
        for k in range(K):
            log[k] += factor * weights[j] * np.interp(at, np.arange(bins), tables[j, c, k])
    p = np.exp(log - log.max(0))
    return least + (1 - K * least) * p / p.sum(0)

"""Clusters of the intensities that images have at a sample, as starts of classes: k-means with missing values.

    d(x, k)^2 = sum_m w_m (u_m - mu_km)^2 / sum_m w_m

On some of the samples, taken at regular distances: a start needs no more. Starting centres are drawn as in Arthur and
Vassilvitskii, SODA 2007 (k-means++).

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

from math import ceil

import numpy as np

#: samples that a start is found on
SAMPLES = 1 << 14

#: rounds of k-means
ROUNDS = 12


def step_of(shape) -> int:
    """Samples from one that is kept to the next, along each axis of a grid."""
    long = [n for n in shape if n > 1]
    return ceil((np.prod(shape) / SAMPLES) ** (1 / max(len(long), 1)))


def thinned(stack: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every s-th sample along each axis, copied, so that at most about `SAMPLES` remain."""
    shape = weights.shape[1:]
    step = step_of(shape)
    at = (..., *(slice(step // 2 if n > step else 0, None, step) for n in shape))
    return np.ascontiguousarray(stack[at]), np.ascontiguousarray(weights[at])


def k_means(stack: np.ndarray, weights: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    """The cluster of each sample, (z, y, x), 0 to classes - 1.

    Parameters
    ----------
    stack : array, (N, C, z, y, x)
    weights : array, (N, z, y, x)
        Samples where all are 0 belong to any cluster.
    """
    count, channels = stack.shape[:2]
    values = stack.reshape(count * channels, -1).astype(np.float64)
    w = np.repeat(weights.reshape(count, -1).astype(np.float64), channels, 0)
    seen = w.sum(0)
    mean = (w * values).sum(1) / np.maximum(w.sum(1), 1e-12)

    def distances(centre):
        return (w * (values - centre[:, None]) ** 2).sum(0) / np.maximum(seen, 1e-12)

    nearest, centres = (seen > 0).astype(float), []
    for _ in range(classes):
        total = np.cumsum(nearest)
        at = min(int(np.searchsorted(total, rng.random() * total[-1], side="right")), len(nearest) - 1)
        centres.append(np.where(w[:, at] > 0, values[:, at], mean))
        found = distances(centres[-1]) * (seen > 0)
        nearest = found if len(centres) == 1 else np.minimum(nearest, found)
    for _ in range(ROUNDS):
        labels = np.argmin([distances(centre) for centre in centres], axis=0)
        for k in range(classes):
            inside = w * (labels == k)
            size = inside.sum(1)
            centres[k] = np.where(size > 0, (inside * values).sum(1) / np.maximum(size, 1e-12), centres[k])
    return labels.reshape(weights.shape[1:])


def memberships(labels: np.ndarray, classes: int, dtype, sure: float = 0.9) -> np.ndarray:
    """(classes, z, y, x): `sure` for the class of a sample, the rest shared by the others."""
    other = (1 - sure) / max(classes - 1, 1)
    return np.stack([np.where(labels == k, sure, other) for k in range(classes)]).astype(dtype)

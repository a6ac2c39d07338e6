"""Intensities given classes: joint tables of an image and a class, their derivative, and the classes given intensities.

`posterior` is (K, Z, Y, X). Bin positions are as in `histogram.py`, with a quadratic B-spline as window, around the
middle of the bin that they fall into. Positions and weights are worked row by row, in vector registers. Of a sample all
classes follow each other, each with a table of its own: a sum need not wait for the one before, as it must where
neighbours fall into one bin.
"""

import numpy as np

from . import kernel
from .histogram import bins_of


@kernel
def class_histogram(z0, z1, slab, image, weight, posterior, origin, scale, tables):
    """tables[slab, k, b] += weight * posterior_k * window(image)_b."""
    K, _, Y, X = posterior.shape
    bins = tables.shape[2]
    table, one = np.zeros((K, bins)), np.uint64(1)
    i, t = np.empty(X, np.int32), np.empty(X, image.dtype)
    b0, b1, b2 = np.empty_like(t), np.empty_like(t), np.empty_like(t)
    half = image.dtype.type(0.5)
    for z in range(z0, z1):
        for y in range(Y):
            bins_of(image[z, y], origin, scale, bins, i, t)
            for x in range(X):
                w, f = weight[z, y, x], t[x]
                b2[x] = half * w * f * f
                b1[x] = w * (half + f - f * f)
                b0[x] = w - b1[x] - b2[x]
            for x in range(X):
                b, u, v, w = np.uint64(i[x]), b0[x], b1[x], b2[x]
                for k in range(np.uint64(K)):
                    p = posterior[k, z, y, x]
                    table[k, b - one] += p * u
                    table[k, b] += p * v
                    table[k, b + one] += p * w
    for k in range(K):
        for b in range(bins):
            tables[slab, k, b] += table[k, b]


@kernel
def class_adjoint(z0, z1, slab, image, weight, posterior, origin, scale, score, out):
    """out = weight * scale * sum over k of posterior_k * sum over b of window'(image)_b * score[k, b]."""
    K, _, Y, X = posterior.shape
    bins = score.shape[1]
    T = out.dtype.type
    slope = np.zeros((K, bins), out.dtype)
    for k in range(K):
        for b in range(bins - 1):
            slope[k, b] = scale * (score[k, b + 1] - score[k, b])
    low, high, one = T(1), T(bins - 2.0001), np.uint64(1)
    i, t = np.empty(X, np.int32), np.empty(X, out.dtype)
    at, total = np.empty(X, np.uint64), np.empty(X, out.dtype)
    for z in range(z0, z1):
        for y in range(Y):
            bins_of(image[z, y], origin, scale, bins, i, t)
            for x in range(X):
                at[x], total[x] = np.uint64(i[x]), T(0)
            for k in range(np.uint64(K)):
                for x in range(X):
                    a = slope[k, at[x] - one]
                    total[x] += posterior[k, z, y, x] * (a + t[x] * (slope[k, at[x]] - a))
            for x in range(X):
                xi = T(origin) + T(scale) * image[z, y, x]
                out[z, y, x] = weight[z, y, x] * total[x] if low <= xi <= high else T(0)


@kernel
def class_posterior(z0, z1, slab, stack, weights, origins, scales, tables, start, spatial, factor, least, out):
    """out_k = least + (1 - K least) softmax over k of
    start_k + log spatial_k + factor * sum over j, c of weight_j * tables[j, c, k] at the bin position of stack_jc.

    Tables are linear between bins; `spatial` is (K, Z, Y, X), or (0, 1, 1, 1) for none.
    """
    N, C, _, Y, X = stack.shape
    K, bins = len(out), tables.shape[3]
    T = out.dtype.type
    table, begin = (tables * factor).astype(out.dtype), start.astype(out.dtype)
    rows = np.empty((K, X), out.dtype)
    i, t = np.empty(X, np.int32), np.empty(X, out.dtype)
    most, total = np.empty(X, out.dtype), np.empty(X, out.dtype)
    floor, rest = T(least), T(1 - K * least)
    for z in range(z0, z1):
        for y in range(Y):
            for k in range(K):
                for x in range(X):
                    rows[k, x] = begin[k]
            if len(spatial) > 0:
                for k in range(K):
                    for x in range(X):
                        rows[k, x] += np.log(max(spatial[k, z, y, x], T(1e-8)))
            for j in range(N):
                for c in range(C):
                    bins_of(stack[j, c, z, y], origins[j, c], scales[j, c], bins, i, t)
                    for k in range(K):
                        for x in range(X):
                            a = table[j, c, k, i[x]]
                            rows[k, x] += weights[j, z, y, x] * (a + t[x] * (table[j, c, k, i[x] + 1] - a))
            for x in range(X):
                most[x], total[x] = rows[0, x], 0
            for k in range(1, K):
                for x in range(X):
                    most[x] = max(most[x], rows[k, x])
            for k in range(K):
                for x in range(X):
                    rows[k, x] = np.exp(rows[k, x] - most[x])
                    total[x] += rows[k, x]
            for k in range(K):
                for x in range(X):
                    out[k, z, y, x] = floor + rest * rows[k, x] / total[x]

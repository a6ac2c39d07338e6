"""Intensities given classes: joint tables of an image and a class, their derivative, and the classes given intensities.

`posterior` is (K, Z, Y, X). Bin positions are as in `histogram.py`, with a cubic B-spline as window. Positions and
weights are worked row by row, in vector registers; sums have loops of their own.
"""

import numpy as np

from . import inline, kernel
from .histogram import bins_of


@inline
def windows(image, weight, origin, scale, bins, z, y, first, rest, b0, b1, b2, b3):
    """Of a row: the first of four bins, and the weight times the window in each."""
    T = rest.dtype.type
    sixth = T(1 / 6)
    bins_of(image[z, y], origin, scale, bins, first, rest)
    for x in range(len(rest)):
        first[x] -= np.int32(1)
        w = weight[z, y, x] * sixth
        f = rest[x]
        s = T(1) - f
        b0[x], b3[x] = w * s * s * s, w * f * f * f
        b1[x] = w * (T(4) + f * f * (T(3) * f - T(6)))
        b2[x] = w * (T(4) + s * s * (T(3) * s - T(6)))


@inline
def window_slopes(image, weight, origin, scale, bins, z, y, first, rest, b0, b1, b2, b3):
    """Of a row: the first of four bins, and the weight times the derivative of the window; zero where clamped."""
    T = rest.dtype.type
    half, low, high = T(0.5), T(1), T(bins - 2.0001)
    bins_of(image[z, y], origin, scale, bins, first, rest)
    for x in range(len(rest)):
        first[x] -= np.int32(1)
        f = rest[x]
        s = T(1) - f
        xi = T(origin) + T(scale) * image[z, y, x]
        k = weight[z, y, x] * T(scale) if low <= xi <= high else T(0)
        b0[x], b3[x] = -k * half * s * s, k * half * f * f
        b1[x], b2[x] = k * f * (T(1.5) * f - T(2)), -k * s * (T(1.5) * s - T(2))


@kernel
def class_histogram(z0, z1, slab, image, weight, posterior, origin, scale, tables):
    """tables[slab, k, b] += weight * posterior_k * window(image)_b."""
    K, _, Y, X = posterior.shape
    bins = tables.shape[2]
    table = np.zeros((K, bins))
    i, t = np.empty(X, np.int32), np.empty(X, image.dtype)
    b0, b1, b2, b3 = np.empty_like(t), np.empty_like(t), np.empty_like(t), np.empty_like(t)
    for z in range(z0, z1):
        for y in range(Y):
            windows(image, weight, origin, scale, bins, z, y, i, t, b0, b1, b2, b3)
            for k in range(K):
                for x in range(X):
                    p = posterior[k, z, y, x]
                    b = i[x]
                    table[k, b] += p * b0[x]
                    table[k, b + 1] += p * b1[x]
                    table[k, b + 2] += p * b2[x]
                    table[k, b + 3] += p * b3[x]
    for k in range(K):
        for b in range(bins):
            tables[slab, k, b] += table[k, b]


@kernel
def class_adjoint(z0, z1, slab, image, weight, posterior, origin, scale, score, out):
    """out = weight * scale * sum over k of posterior_k * sum over b of window'(image)_b * score[k, b]."""
    K, _, Y, X = posterior.shape
    bins = score.shape[1]
    table = score.astype(out.dtype)
    i, t = np.empty(X, np.int32), np.empty(X, out.dtype)
    b0, b1, b2, b3 = np.empty_like(t), np.empty_like(t), np.empty_like(t), np.empty_like(t)
    for z in range(z0, z1):
        for y in range(Y):
            window_slopes(image, weight, origin, scale, bins, z, y, i, t, b0, b1, b2, b3)
            for x in range(X):
                t[x] = 0
            for k in range(K):
                for x in range(X):
                    b = i[x]
                    t[x] += posterior[k, z, y, x] * (b0[x] * table[k, b] + b1[x] * table[k, b + 1]
                                                     + b2[x] * table[k, b + 2] + b3[x] * table[k, b + 3])
            for x in range(X):
                out[z, y, x] = t[x]


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

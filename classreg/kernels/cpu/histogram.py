"""Joint histograms with a cubic B-spline Parzen window, and their derivative.

Bin positions are  xi = origin + scale * intensity, clamped so that all four taps lie inside the table.
"""

import numpy as np

from . import inline, kernel


@inline
def window(xi, bins):
    """First bin, and the four cubic B-spline weights, of a position."""
    q = min(max(xi, 1.0), bins - 2.000001)
    i = int(q)
    t = q - i
    s = 1.0 - t
    return i - 1, s * s * s / 6, (4 - 6 * t * t + 3 * t * t * t) / 6, (4 - 6 * s * s + 3 * s * s * s) / 6, t * t * t / 6


@inline
def window_slope(xi, bins):
    """The derivatives of those weights; zero where the position is clamped."""
    q = min(max(xi, 1.0), bins - 2.000001)
    t = q - int(q)
    s = 1.0 - t
    k = 1.0 if q == xi else 0.0
    return -k * s * s / 2, k * (1.5 * t * t - 2 * t), -k * (1.5 * s * s - 2 * s), k * t * t / 2


@kernel
def joint(z0, z1, slab, fixed, warped, weight, origin, scale, tables):
    """tables[slab, a, b] += weight * window(F)_a * window(M)_b; origin and scale hold those of F and of M."""
    _, Y, X = fixed.shape
    bins = tables.shape[1]
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                w = np.float64(weight[z, y, x])
                if w > 0:
                    i, a0, a1, a2, a3 = window(origin[0] + scale[0] * fixed[z, y, x], bins)
                    j, b0, b1, b2, b3 = window(origin[1] + scale[1] * warped[z, y, x], bins)
                    b0, b1, b2, b3 = w * b0, w * b1, w * b2, w * b3
                    for k, a in enumerate((a0, a1, a2, a3)):
                        tables[slab, i + k, j] += a * b0
                        tables[slab, i + k, j + 1] += a * b1
                        tables[slab, i + k, j + 2] += a * b2
                        tables[slab, i + k, j + 3] += a * b3


@kernel
def joint_adjoint(z0, z1, slab, fixed, warped, weight, origin, scale, score, out):
    """out = weight * sum over a, b of window(F)_a * window'(M)_b * score[a, b] * scale of M."""
    _, Y, X = fixed.shape
    bins = score.shape[0]
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                w = np.float64(weight[z, y, x])
                total = 0.0
                if w > 0:
                    i, a0, a1, a2, a3 = window(origin[0] + scale[0] * fixed[z, y, x], bins)
                    xi = origin[1] + scale[1] * warped[z, y, x]
                    j, _a, _b, _c, _d = window(xi, bins)
                    b0, b1, b2, b3 = window_slope(xi, bins)
                    for k, a in enumerate((a0, a1, a2, a3)):
                        total += a * (b0 * score[i + k, j] + b1 * score[i + k, j + 1]
                                      + b2 * score[i + k, j + 2] + b3 * score[i + k, j + 3])
                out[z, y, x] = w * total * scale[1]


@kernel
def look_up(z0, z1, slab, warped, weight, origin, scale, table, out):
    """out = weight * table at the bin position of the warped intensity, linear between bins, clamped."""
    _, Y, X = warped.shape
    top = table.size - 1.0
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                q = min(max(origin + scale * warped[z, y, x], 0.0), top)
                i = min(int(q), table.size - 2)
                out[z, y, x] = weight[z, y, x] * (table[i] + (q - i) * (table[i + 1] - table[i]))

"""Joint histograms of two images that both move: a cubic B-spline on either, and the derivatives in both.

Bin positions are as in `histogram.py`. Sixteen taps per sample instead of eight; neither image is preferred.
"""

import numpy as np

from . import kernel, part
from .histogram import bins_of


@part
def taps(f, out):
    """The four values of the cubic B-spline at fraction f."""
    T = out.dtype.type
    s = T(1) - f
    sixth = T(1 / 6)
    out[0], out[3] = sixth * s * s * s, sixth * f * f * f
    out[1] = sixth * (T(4) + f * f * (T(3) * f - T(6)))
    out[2] = sixth * (T(4) + s * s * (T(3) * s - T(6)))


@part
def slopes(f, out):
    """Their derivatives in f."""
    T = out.dtype.type
    s = T(1) - f
    out[0], out[3] = -T(0.5) * s * s, T(0.5) * f * f
    out[1], out[2] = f * (T(1.5) * f - T(2)), -s * (T(1.5) * s - T(2))


@kernel
def joint_pair(z0, z1, slab, first, second, weight, origin, scale, tables):
    """tables[slab, a, b] += weight * window(first)_a * window(second)_b."""
    _, Y, X = first.shape
    bins = tables.shape[1]
    i, j = np.empty(X, np.int32), np.empty(X, np.int32)
    s, t = np.empty(X, second.dtype), np.empty(X, second.dtype)
    u, v = np.empty(4, second.dtype), np.empty(4, second.dtype)
    table = np.zeros((bins, bins))
    for z in range(z0, z1):
        for y in range(Y):
            bins_of(first[z, y], origin[0], scale[0], bins, i, s)
            bins_of(second[z, y], origin[1], scale[1], bins, j, t)
            for x in range(X):
                w = weight[z, y, x]
                if w > 0:
                    taps(s[x], u)
                    taps(t[x], v)
                    for a in range(4):
                        k = w * u[a]
                        for b in range(4):
                            table[i[x] - 1 + a, j[x] - 1 + b] += k * v[b]
    for a in range(bins):
        for b in range(bins):
            tables[slab, a, b] += table[a, b]


@kernel
def joint_pair_adjoint(z0, z1, slab, first, second, weight, origin, scale, score, out, other):
    """Derivatives of sum of score[a, b] * joint_pair[a, b]: out in `first`, other in `second`; zero where clamped."""
    _, Y, X = first.shape
    bins = score.shape[0]
    T = out.dtype.type
    table = score.astype(out.dtype)
    i, j = np.empty(X, np.int32), np.empty(X, np.int32)
    s, t = np.empty(X, out.dtype), np.empty(X, out.dtype)
    u, v, du, dv = np.empty(4, out.dtype), np.empty(4, out.dtype), np.empty(4, out.dtype), np.empty(4, out.dtype)
    low, high = T(1), T(bins - 2.0001)
    for z in range(z0, z1):
        for y in range(Y):
            bins_of(first[z, y], origin[0], scale[0], bins, i, s)
            bins_of(second[z, y], origin[1], scale[1], bins, j, t)
            for x in range(X):
                taps(s[x], u)
                taps(t[x], v)
                slopes(s[x], du)
                slopes(t[x], dv)
                e, g = T(0), T(0)
                for a in range(4):
                    value, along = T(0), T(0)
                    for b in range(4):
                        h = table[i[x] - 1 + a, j[x] - 1 + b]
                        value += v[b] * h
                        along += dv[b] * h
                    e += du[a] * value
                    g += u[a] * along
                p = T(origin[0]) + T(scale[0]) * first[z, y, x]
                q = T(origin[1]) + T(scale[1]) * second[z, y, x]
                w = weight[z, y, x]
                out[z, y, x] = w * T(scale[0]) * e if low <= p <= high else T(0)
                other[z, y, x] = w * T(scale[1]) * g if low <= q <= high else T(0)

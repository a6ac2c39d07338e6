"""Filters, sums and products of arrays.

Must not import: anything above floor 0, numba.
"""

from __future__ import annotations

import numpy as np


def smooth(src, taps):
    """src (C, z, y, x) correlated with odd `taps` along z, y and x, edge samples repeated outside."""
    out = src.astype(float)
    for axis, k in enumerate(taps, 1):
        r, n = len(k) // 2, src.shape[axis]
        out = sum(w * out.take(np.clip(np.arange(n) + t - r, 0, n - 1), axis) for t, w in enumerate(k))
    return out


def band_matrix(starts, weights, n):
    """The (m, n) matrix of a banded operator."""
    out = np.zeros((len(starts), n))
    for row, start, w in zip(out, starts, weights):
        row[start:start + len(w)] += w
    return out


def band(src, starts, weights):
    """The operator along the middle axis of src (A, n, B)."""
    return np.einsum("mn,anb->amb", band_matrix(starts, weights, src.shape[1]), src)


def band_adjoint(src, starts, weights, n):
    """Its transpose along the middle axis of src (A, m, B)."""
    return np.einsum("mn,amb->anb", band_matrix(starts, weights, n), src)


def moments(fixed, warped, weight):
    """Weighted sums of 1, F, M, FF, MM, FM, (6,)."""
    f, m, w = (a.astype(float) for a in (fixed, warped, weight))
    return np.array([np.sum(w * a) for a in (np.ones_like(f), f, m, f * f, m * m, f * m)])


def combine(fixed, warped, weight, a, b, c):
    """weight (a F + b M + c)."""
    return weight.astype(float) * (a * fixed + b * warped + c)


def residuals(fixed, warped, weight, scale):
    """(scale * weight * (M - F), sum of weight (M - F)^2)."""
    r = warped.astype(float) - fixed
    return scale * weight * r, np.sum(weight * r**2)


def dot(a, b):
    """Inner product."""
    return float(np.sum(a.astype(float) * b))


def total(a):
    """Sum."""
    return float(np.sum(a.astype(float)))


def apart(a, b):
    """Sum of |a - b|."""
    return float(np.sum(np.abs(a.astype(float) - b)))


def add_scaled(a, s, b):
    """a + s b."""
    return a.astype(float) + s * b


def largest(field, scale):
    """Largest squared length of scale . u over a (d, z, y, x) field."""
    scaled = np.einsum("ij,j...->i...", scale[:, :len(field)], field.astype(float))
    return float(np.max(np.sum(scaled**2, axis=0)))

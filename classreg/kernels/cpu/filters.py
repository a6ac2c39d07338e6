"""Separable filters: Gaussian in one sweep, banded operators along one axis, box sums.

A banded operator takes n samples to m:  out[i] = sum_t weights[i, t] * src[starts[i] + t].  It is how B-splines are
evaluated, images shrunk and fields refined; its transpose is another one.
"""

import numpy as np

from . import kernel


@kernel
def smooth(z0, z1, slab, src, kz, ky, kx, dst):
    """dst[c] = src[c] filtered along z, y, x; edge samples are repeated outside.

    A kernel has 2 r + 1 taps, then zeros up to a multiple of four, then r itself; tap t weighs sample i + t - r.
    Rows are taken four at a time. Only buffers of this thread are sliced: a view of a shared array costs an atomic
    reference count, and an index with an offset (row[x + t]) keeps the loop from using vector registers.
    """
    C, Z, Y, X = src.shape
    rz, ry, rx = int(kz[-1]), int(ky[-1]), int(kx[-1])
    nz, ny, nx = kz.size - 1, ky.size - 1, kx.size - 1
    plane = np.empty((Y, X), src.dtype)
    row = np.empty(X + nx, src.dtype)
    line = np.empty(X, src.dtype)
    for c in range(C):
        for z in range(z0, z1):
            for y in range(Y):
                for x in range(X):
                    plane[y, x] = 0
                for t in range(0, nz, 4):
                    a, b = min(max(z + t - rz, 0), Z - 1), min(max(z + t + 1 - rz, 0), Z - 1)
                    d, e = min(max(z + t + 2 - rz, 0), Z - 1), min(max(z + t + 3 - rz, 0), Z - 1)
                    ka, kb, kd, ke = kz[t], kz[t + 1], kz[t + 2], kz[t + 3]
                    for x in range(X):
                        plane[y, x] += (ka * src[c, a, y, x] + kb * src[c, b, y, x]
                                        + kd * src[c, d, y, x] + ke * src[c, e, y, x])
            for y in range(Y):
                for x in range(X):
                    line[x] = 0
                for t in range(0, ny, 4):
                    a, b = min(max(y + t - ry, 0), Y - 1), min(max(y + t + 1 - ry, 0), Y - 1)
                    d, e = min(max(y + t + 2 - ry, 0), Y - 1), min(max(y + t + 3 - ry, 0), Y - 1)
                    ka, kb, kd, ke = ky[t], ky[t + 1], ky[t + 2], ky[t + 3]
                    for x in range(X):
                        line[x] += ka * plane[a, x] + kb * plane[b, x] + kd * plane[d, x] + ke * plane[e, x]
                for x in range(rx):
                    row[x] = line[0]
                for x in range(rx + X, X + nx):
                    row[x] = line[X - 1]
                for x in range(X):
                    row[rx + x] = line[x]
                    line[x] = 0
                for t in range(0, nx, 4):
                    ka, kb, kd, ke = kx[t], kx[t + 1], kx[t + 2], kx[t + 3]
                    ra, rb, rd, re = row[t:], row[t + 1:], row[t + 2:], row[t + 3:]
                    for x in range(X):
                        line[x] += ka * ra[x] + kb * rb[x] + kd * rd[x] + ke * re[x]
                for x in range(X):
                    dst[c, z, y, x] = line[x]


@kernel
def band(k0, k1, slab, src, starts, weights, block, out):
    """out (A, m, B) = operator on the middle axis of src (A, n, B); work item = (a, block of B).

    Taps are taken four at a time, so that a row of `out` is written once per four rows that are read.
    """
    _, M, B = out.shape
    taps = weights.shape[1]
    fours = taps - taps % 4
    parts = (B + block - 1) // block
    for k in range(k0, k1):
        a, lo = k // parts, (k % parts) * block
        hi = min(lo + block, B)
        for m in range(M):
            s = starts[m]
            if fours == 0:
                for b in range(lo, hi):
                    out[a, m, b] = 0
            for t in range(0, fours, 4):
                w0, w1, w2, w3 = weights[m, t], weights[m, t + 1], weights[m, t + 2], weights[m, t + 3]
                i = s + t
                if t == 0:
                    for b in range(lo, hi):
                        out[a, m, b] = (w0 * src[a, i, b] + w1 * src[a, i + 1, b]
                                        + w2 * src[a, i + 2, b] + w3 * src[a, i + 3, b])
                else:
                    for b in range(lo, hi):
                        out[a, m, b] += (w0 * src[a, i, b] + w1 * src[a, i + 1, b]
                                         + w2 * src[a, i + 2, b] + w3 * src[a, i + 3, b])
            for t in range(fours, taps):
                w = weights[m, t]
                for b in range(lo, hi):
                    out[a, m, b] += w * src[a, s + t, b]


@kernel
def band_last(k0, k1, slab, src, starts, weights, out):
    """out (A, m) = operator on the last axis of src (A, n)."""
    M, taps = weights.shape
    for a in range(k0, k1):
        for m in range(M):
            s = starts[m]
            total = weights[m, 0] * src[a, s]
            for t in range(1, taps):
                total += weights[m, t] * src[a, s + t]
            out[a, m] = total


@kernel
def damp(z0, z1, slab, waves, rz, ry, rx, power):
    """waves (Z, Y, X) /= 1 + (rz + ry + rx)^power, in place; the rates (Z,), (Y,), (X,) are of at least 0."""
    _, Y, X = waves.shape
    T = waves.dtype.type
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                r = rz[z] + ry[y] + rx[x]
                waves[z, y, x] /= T(1.0 + (r if power == 1 else r * r))

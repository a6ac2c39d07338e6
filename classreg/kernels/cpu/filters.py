"""Separable filters: Gaussian in one sweep, banded operators along one axis, box sums.

A banded operator takes n samples to m:  out[i] = sum_t weights[i, t] * src[starts[i] + t].  It is how B-splines are
evaluated, images shrunk and fields refined; its transpose is another one.
"""

import numpy as np

from . import kernel


@kernel
def smooth(z0, z1, slab, src, kz, ky, kx, dst):
    """dst[c] = src[c] filtered along z, y, x by symmetric kernels; edge samples are repeated outside.

    A kernel has the tap in the middle, those to one side, then zeros: 1 + 3 n entries, n at least 1. Three pairs of
    rows are taken at a time. Only buffers of this thread are sliced: a view of a shared array costs an atomic
    reference count, and an index with an offset (row[x + t]) keeps the loop from using vector registers.
    """
    C, Z, Y, X = src.shape
    lead = kx.size - 1
    plane = np.empty((Y, X), src.dtype)
    row = np.empty(X + 2 * lead, src.dtype)
    line = np.empty(X, src.dtype)
    middle = row[lead:]
    for c in range(C):
        for z in range(z0, z1):
            for y in range(Y):
                for t in range(1, kz.size, 3):
                    a, b, d = max(z - t, 0), max(z - t - 1, 0), max(z - t - 2, 0)
                    e, f, g = min(z + t, Z - 1), min(z + t + 1, Z - 1), min(z + t + 2, Z - 1)
                    k, ka, kb, kd = kz[0], kz[t], kz[t + 1], kz[t + 2]
                    if t == 1:
                        for x in range(X):
                            plane[y, x] = (k * src[c, z, y, x] + ka * (src[c, a, y, x] + src[c, e, y, x])
                                           + kb * (src[c, b, y, x] + src[c, f, y, x])
                                           + kd * (src[c, d, y, x] + src[c, g, y, x]))
                    else:
                        for x in range(X):
                            plane[y, x] += (ka * (src[c, a, y, x] + src[c, e, y, x])
                                            + kb * (src[c, b, y, x] + src[c, f, y, x])
                                            + kd * (src[c, d, y, x] + src[c, g, y, x]))
            for y in range(Y):
                for t in range(1, ky.size, 3):
                    a, b, d = max(y - t, 0), max(y - t - 1, 0), max(y - t - 2, 0)
                    e, f, g = min(y + t, Y - 1), min(y + t + 1, Y - 1), min(y + t + 2, Y - 1)
                    k, ka, kb, kd = ky[0], ky[t], ky[t + 1], ky[t + 2]
                    if t == 1:
                        for x in range(X):
                            middle[x] = (k * plane[y, x] + ka * (plane[a, x] + plane[e, x])
                                         + kb * (plane[b, x] + plane[f, x]) + kd * (plane[d, x] + plane[g, x]))
                    else:
                        for x in range(X):
                            middle[x] += (ka * (plane[a, x] + plane[e, x]) + kb * (plane[b, x] + plane[f, x])
                                          + kd * (plane[d, x] + plane[g, x]))
                first, final = middle[0], middle[X - 1]
                for x in range(lead):
                    row[x] = first
                for x in range(lead + X, len(row)):
                    row[x] = final
                for t in range(1, kx.size, 3):
                    k, ka, kb, kd = kx[0], kx[t], kx[t + 1], kx[t + 2]
                    ra, rb, rd = row[lead - t:], row[lead - t - 1:], row[lead - t - 2:]
                    re, rf, rg = row[lead + t:], row[lead + t + 1:], row[lead + t + 2:]
                    if t == 1:
                        for x in range(X):
                            line[x] = (k * middle[x] + ka * (ra[x] + re[x]) + kb * (rb[x] + rf[x])
                                       + kd * (rd[x] + rg[x]))
                    else:
                        for x in range(X):
                            line[x] += ka * (ra[x] + re[x]) + kb * (rb[x] + rf[x]) + kd * (rd[x] + rg[x])
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
        n = hi - lo
        for m in range(M):
            s, line = starts[m], out[a, m, lo:hi]  # loops that begin at 0 over rows of their own use vector registers
            if fours == 0:
                for b in range(n):
                    line[b] = 0
            for t in range(0, fours, 4):
                w0, w1, w2, w3 = weights[m, t], weights[m, t + 1], weights[m, t + 2], weights[m, t + 3]
                i = s + t
                r0, r1, r2, r3 = src[a, i, lo:hi], src[a, i + 1, lo:hi], src[a, i + 2, lo:hi], src[a, i + 3, lo:hi]
                if t == 0:
                    for b in range(n):
                        line[b] = w0 * r0[b] + w1 * r1[b] + w2 * r2[b] + w3 * r3[b]
                else:
                    for b in range(n):
                        line[b] += w0 * r0[b] + w1 * r1[b] + w2 * r2[b] + w3 * r3[b]
            for t in range(fours, taps):
                w, r = weights[m, t], src[a, s + t, lo:hi]
                for b in range(n):
                    line[b] += w * r[b]


@kernel
def band_last(k0, k1, slab, src, starts, weights, out):
    """out (A, m) = operator on the last axis of src (A, n).

    Sixteen rows at a time are laid side by side, so that one tap of all is one vector.
    """
    M, taps = weights.shape
    fours = taps - taps % 4
    columns, sums = np.zeros((src.shape[1], 16), src.dtype), np.empty((M, 16), src.dtype)
    for a in range(k0, k1, 16):
        n = min(16, k1 - a)
        for r in range(n):
            row = src[a + r]
            for i in range(row.size):
                columns[i, r] = row[i]
        for m in range(M):
            s, total = starts[m], sums[m]
            if fours == 0:
                for r in range(16):
                    total[r] = 0
            for t in range(0, fours, 4):
                w0, w1, w2, w3 = weights[m, t], weights[m, t + 1], weights[m, t + 2], weights[m, t + 3]
                c0, c1, c2, c3 = columns[s + t], columns[s + t + 1], columns[s + t + 2], columns[s + t + 3]
                if t == 0:
                    for r in range(16):
                        total[r] = w0 * c0[r] + w1 * c1[r] + w2 * c2[r] + w3 * c3[r]
                else:
                    for r in range(16):
                        total[r] += w0 * c0[r] + w1 * c1[r] + w2 * c2[r] + w3 * c3[r]
            for t in range(fours, taps):
                w, c = weights[m, t], columns[s + t]
                for r in range(16):
                    total[r] += w * c[r]
        for r in range(n):
            row = out[a + r]
            for m in range(M):
                row[m] = sums[m, r]


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


@kernel
def rotate(z0, z1, slab, field, matrix, offset, out):
    """out[a] = offset[a] + sum over b of matrix[a, b] field[b], sample by sample; (d, Z, Y, X), `out` may be `field`.
    """
    d, _, Y, X = field.shape
    T = out.dtype.type
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                u, v, w = field[0, z, y, x], field[1, z, y, x], field[d - 1, z, y, x]
                for a in range(d):
                    t = T(offset[a]) + T(matrix[a, 0]) * u + T(matrix[a, 1]) * v
                    out[a, z, y, x] = t + T(matrix[a, d - 1]) * w if d == 3 else t


@kernel
def damp_elastic(f0, f1, slab, waves, kz, ky, kx, shear, bulk):
    """Waves (d, Z, Y, X) of the components along the last d axes, damped in place by the inverse of

        1 + shear |k|^2 + bulk k k^T,    k = (kz, ky, kx)[f] the wave numbers at a frequency f.

    Along its own axis a component holds sines, from frequency 1 on, along the others cosines, from 0 on; along an axis
    with one wave number all hold that. Frequencies f0..f1 along z, of as many as `kz` has.
    """
    d, Z, Y, X = waves.shape
    T = waves.dtype.type
    oz, oy, ox = min(kz.size - 1, 1), min(ky.size - 1, 1), min(kx.size - 1, 1)
    for f in range(f0, f1):
        for g in range(ky.size):
            for h in range(kx.size):
                square = kz[f] * kz[f] + ky[g] * ky[g] + kx[h] * kx[h]
                has_z = d == 3 and f >= oz and g < Y and h < X
                has_y = g >= oy and f < Z and h < X
                has_x = h >= ox and f < Z and g < Y
                along, own = 0.0, 0.0
                if has_z:
                    along += kz[f] * waves[0, f - oz, g, h]
                    own += kz[f] * kz[f]
                if has_y:
                    along += ky[g] * waves[d - 2, f, g - oy, h]
                    own += ky[g] * ky[g]
                if has_x:
                    along += kx[h] * waves[d - 1, f, g, h - ox]
                    own += kx[h] * kx[h]
                a = 1.0 / (1.0 + shear * square)
                b = bulk * along / (1.0 + shear * square + bulk * own)
                if has_z:
                    waves[0, f - oz, g, h] = T(a * (waves[0, f - oz, g, h] - b * kz[f]))
                if has_y:
                    waves[d - 2, f, g - oy, h] = T(a * (waves[d - 2, f, g - oy, h] - b * ky[g]))
                if has_x:
                    waves[d - 1, f, g, h - ox] = T(a * (waves[d - 1, f, g, h - ox] - b * kx[h]))

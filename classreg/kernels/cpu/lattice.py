"""Quadratic energies of a lattice: sums of products of one-dimensional Gram matrices, applied plane by plane.

The operator is  G = sum over terms of factor * Gz^rz x Gy^ry x Gx^rx,  each Gram matrix given by its seven diagonals
(t, i) that weigh sample i + t - 3. Source: Shackleford et al., Physics in Medicine and Biology 2012,
doi:10.1088/0031-9155/57/18/6033.
"""

import numpy as np

from . import kernel

#: diagonals on either side
R = 3


@kernel
def gram_planes(k0, k1, slab, theta, gy, gx, orders, factors, planes):
    """planes[rz, c, z] = sum over the terms of that rz of factor * (Gy^ry x Gx^rx) theta[c, z]; item k = (c, z).

    theta (C, Z, Y, X); gy (3, 7, Y), gx (3, 7, X); orders (n, 3) of (rz, ry, rx), factors (n,); planes (3, C, Z, Y, X).
    """
    _, Z, Y, X = theta.shape
    along = np.zeros((3, Y + 2 * R, X), theta.dtype)
    row = np.zeros(X + 2 * R, theta.dtype)
    line = np.empty(X, theta.dtype)
    taps = gx.copy()
    used = np.zeros(3, np.bool_)
    for n in range(len(factors)):
        used[orders[n, 2]] = True
    for k in range(k0, k1):
        c, z = k // Z, k % Z
        for y in range(Y):
            for x in range(X):
                row[R + x] = theta[c, z, y, x]
            r0, r1, r2, r3, r4, r5, r6 = row, row[1:], row[2:], row[3:], row[4:], row[5:], row[6:]
            for r in range(3):
                if used[r]:
                    w = taps[r]
                    w0, w1, w2, w3, w4, w5, w6 = w[0], w[1], w[2], w[3], w[4], w[5], w[6]
                    for x in range(X):
                        line[x] = (w0[x] * r0[x] + w1[x] * r1[x] + w2[x] * r2[x] + w3[x] * r3[x]
                                   + w4[x] * r4[x] + w5[x] * r5[x] + w6[x] * r6[x])
                    for x in range(X):
                        along[r, R + y, x] = line[x]
        for rz in range(3):
            for y in range(Y):
                for x in range(X):
                    line[x] = 0
                for n in range(len(factors)):
                    if orders[n, 0] != rz:
                        continue
                    ry, rx, f = orders[n, 1], orders[n, 2], factors[n]
                    w0, w1, w2, w3 = f * gy[ry, 0, y], f * gy[ry, 1, y], f * gy[ry, 2, y], f * gy[ry, 3, y]
                    w4, w5, w6 = f * gy[ry, 4, y], f * gy[ry, 5, y], f * gy[ry, 6, y]
                    for x in range(X):
                        line[x] += (w0 * along[rx, y, x] + w1 * along[rx, y + 1, x] + w2 * along[rx, y + 2, x]
                                    + w3 * along[rx, y + 3, x] + w4 * along[rx, y + 4, x] + w5 * along[rx, y + 5, x]
                                    + w6 * along[rx, y + 6, x])
                for x in range(X):
                    planes[rz, c, z, y, x] = line[x]


@kernel
def gram_sum(k0, k1, slab, theta, planes, gz, out, sums):
    """out[c, z] = sum over rz of Gz^rz planes[rz, c], and sums[slab] += theta . out; item k = (c, z)."""
    _, Z, Y, X = theta.shape
    total = 0.0
    for k in range(k0, k1):
        c, z = k // Z, k % Z
        for y in range(Y):
            for x in range(X):
                out[c, z, y, x] = 0
        for rz in range(3):
            for t in range(2 * R + 1):
                w = gz[rz, t, z]
                if w != 0:
                    p = z + t - R
                    for y in range(Y):
                        for x in range(X):
                            out[c, z, y, x] += w * planes[rz, c, p, y, x]
        for y in range(Y):
            s = 0.0
            for x in range(X):
                s += np.float64(theta[c, z, y, x]) * np.float64(out[c, z, y, x])
            total += s
    sums[slab, 0] += total


@kernel
def volume(z0, z1, slab, slopes, frame, below, least, scale, sums):
    """sums[slab] += (sum of log((J - least) / (below - least))^2 where J < below, how many such points there are).

    slopes (d, d, Z, Y, X), [a, k] that of component k along axis a, become scale times the derivative by them;
    frame (d, d) holds the axes' unit vectors in columns, J = det(frame + slopes^T) / det(frame).
    """
    d, _, _, Y, X = slopes.shape
    T = slopes.dtype.type
    if d == 3:
        whole = (frame[0, 0] * (frame[1, 1] * frame[2, 2] - frame[1, 2] * frame[2, 1])
                 - frame[0, 1] * (frame[1, 0] * frame[2, 2] - frame[1, 2] * frame[2, 0])
                 + frame[0, 2] * (frame[1, 0] * frame[2, 1] - frame[1, 1] * frame[2, 0]))
    else:
        whole = frame[0, 0] * frame[1, 1] - frame[0, 1] * frame[1, 0]
    f00, f01, f10, f11 = T(frame[0, 0]), T(frame[0, 1]), T(frame[1, 0]), T(frame[1, 1])
    f02, f12, f20, f21, f22 = T(0), T(0), T(0), T(0), T(1)
    if d == 3:
        f02, f12 = T(frame[0, 2]), T(frame[1, 2])
        f20, f21, f22 = T(frame[2, 0]), T(frame[2, 1]), T(frame[2, 2])
    per = T(1 / whole)
    total, active = 0.0, 0
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                a, b, c = f00 + slopes[0, 0, z, y, x], f01 + slopes[1, 0, z, y, x], f02
                e, f, g = f10 + slopes[0, 1, z, y, x], f11 + slopes[1, 1, z, y, x], f12
                h, i, j = f20, f21, f22
                if d == 3:
                    c += slopes[2, 0, z, y, x]
                    g += slopes[2, 1, z, y, x]
                    h += slopes[0, 2, z, y, x]
                    i += slopes[1, 2, z, y, x]
                    j += slopes[2, 2, z, y, x]
                ca, cb, cc = f * j - g * i, g * h - e * j, e * i - f * h
                J = (a * ca + b * cb + c * cc) * per
                if J >= below:
                    for p in range(d):
                        for q in range(d):
                            slopes[p, q, z, y, x] = 0
                    continue
                active += 1
                if not J > least:
                    total = np.inf
                    continue
                room = np.float64(J) - least
                r = np.log(room / (below - least))
                total += r * r
                k = T(2 * r / room * scale) * per
                slopes[0, 0, z, y, x], slopes[1, 0, z, y, x] = k * ca, k * cb
                slopes[0, 1, z, y, x], slopes[1, 1, z, y, x] = k * (c * i - b * j), k * (a * j - c * h)
                if d == 3:
                    slopes[2, 0, z, y, x] = k * cc
                    slopes[2, 1, z, y, x] = k * (b * h - a * i)
                    slopes[0, 2, z, y, x], slopes[1, 2, z, y, x] = k * (b * g - c * f), k * (c * e - a * g)
                    slopes[2, 2, z, y, x] = k * (a * f - b * e)
    sums[slab, 0] += total
    sums[slab, 1] += active

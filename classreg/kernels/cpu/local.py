"""Sums over a box window around every voxel, by running sums: cost independent of the radius.

Windows are cut at the border (zero padding), so the filter is its own adjoint. A running sum restarts at the first
plane of each slab. Source of the correlation: Avants et al., Medical Image Analysis 2008; exact gradient, see
`metrics/lncc.py`.
"""

import numpy as np

from . import kernel


@kernel
def correlation(z0, z1, slab, fixed, warped, weight, rz, ry, rx, eps, first, second, third, sums):
    """Local squared correlation and the three arrays whose box sums make its gradient.

    With window sums c, A = cov(F, M) + eps, B = var(F) + eps, C = var(M) + eps (times c), and q = A^2 / (B C):
    first = 2 w A / (B C), second = -w q / C, third = first * mean F + 2 second * mean M.
    sums[slab] += (sum of w (1 - q), sum of w var(F) / B): the misfit, and how much of the fixed image has structure.
    """
    D, H, W = fixed.shape
    T = fixed.dtype.type
    S = np.zeros((6, H, W), fixed.dtype)
    rows = np.zeros((6, W), fixed.dtype)
    total, count = 0.0, 0.0
    for z in range(z0 - rz, z1 + rz):
        # planes enter from z0 - rz on; output starts once the window of z0 is full
        enter, leave = z, z - 2 * rz - 1
        for sign, p in ((T(1), enter), (T(-1), leave)):
            if p < 0 or p >= D or (sign < 0 and p < z0 - rz):
                continue
            for y in range(H):
                for x in range(W):
                    w = sign * weight[p, y, x]
                    f, m = fixed[p, y, x], warped[p, y, x]
                    S[0, y, x] += w
                    S[1, y, x] += w * f
                    S[2, y, x] += w * m
                    S[3, y, x] += w * f * f
                    S[4, y, x] += w * m * m
                    S[5, y, x] += w * f * m
        o = z - rz
        if o < z0:
            continue
        rows[:] = 0
        for y in range(-ry, H):
            if y + ry < H:
                for k in range(6):
                    for x in range(W):
                        rows[k, x] += S[k, y + ry, x]
            if y - ry - 1 >= 0:
                for k in range(6):
                    for x in range(W):
                        rows[k, x] -= S[k, y - ry - 1, x]
            if y < 0:
                continue
            c, sf, sm, ff, mm, fm = T(0), T(0), T(0), T(0), T(0), T(0)
            for x in range(-rx, W):
                i, j = x + rx, x - rx - 1
                if i < W:
                    c += rows[0, i]
                    sf += rows[1, i]
                    sm += rows[2, i]
                    ff += rows[3, i]
                    mm += rows[4, i]
                    fm += rows[5, i]
                if j >= 0:
                    c -= rows[0, j]
                    sf -= rows[1, j]
                    sm -= rows[2, j]
                    ff -= rows[3, j]
                    mm -= rows[4, j]
                    fm -= rows[5, j]
                if x < 0:
                    continue
                first[o, y, x] = 0
                second[o, y, x] = 0
                third[o, y, x] = 0
                w = weight[o, y, x]
                if w > 0 and c > T(0.5):
                    muf, mum = sf / c, sm / c
                    A, B = fm - muf * sm + eps * c, max(ff - muf * sf, T(0)) + eps * c
                    C = max(mm - mum * sm, T(0)) + eps * c
                    q = A * A / (B * C)
                    a, b = 2 * w * A / (B * C), -w * q / C
                    first[o, y, x] = a
                    second[o, y, x] = b
                    third[o, y, x] = a * muf + 2 * b * mum
                    total += w * (1 - q)
                    count += w * (1 - eps * c / B)
    sums[slab, 0] += total
    sums[slab, 1] += count


@kernel
def correlation_adjoint(z0, z1, slab, fixed, warped, weight, rz, ry, rx, scale, first, second, third, out):
    """out = scale * weight * (F W[first] + 2 M W[second] - W[third]), W the box sum."""
    D, H, W = fixed.shape
    T = fixed.dtype.type
    factor = T(scale)
    S = np.zeros((3, H, W), fixed.dtype)
    rows = np.zeros((3, W), fixed.dtype)
    for z in range(z0 - rz, z1 + rz):
        enter, leave = z, z - 2 * rz - 1
        if 0 <= enter < D:
            for y in range(H):
                for x in range(W):
                    S[0, y, x] += first[enter, y, x]
                    S[1, y, x] += second[enter, y, x]
                    S[2, y, x] += third[enter, y, x]
        if leave >= 0 and leave >= z0 - rz:
            for y in range(H):
                for x in range(W):
                    S[0, y, x] -= first[leave, y, x]
                    S[1, y, x] -= second[leave, y, x]
                    S[2, y, x] -= third[leave, y, x]
        o = z - rz
        if o < z0:
            continue
        rows[:] = 0
        for y in range(-ry, H):
            if y + ry < H:
                for k in range(3):
                    for x in range(W):
                        rows[k, x] += S[k, y + ry, x]
            if y - ry - 1 >= 0:
                for k in range(3):
                    for x in range(W):
                        rows[k, x] -= S[k, y - ry - 1, x]
            if y < 0:
                continue
            a, b, c = T(0), T(0), T(0)
            for x in range(-rx, W):
                i, j = x + rx, x - rx - 1
                if i < W:
                    a += rows[0, i]
                    b += rows[1, i]
                    c += rows[2, i]
                if j >= 0:
                    a -= rows[0, j]
                    b -= rows[1, j]
                    c -= rows[2, j]
                if x >= 0:
                    g = fixed[o, y, x] * a + 2 * warped[o, y, x] * b - c
                    out[o, y, x] = factor * weight[o, y, x] * g

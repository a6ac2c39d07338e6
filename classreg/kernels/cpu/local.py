"""Sums over a box window around every voxel, by running sums: cost independent of the radius.

Windows are cut at the border (zero padding), so the filter is its own adjoint. A running sum restarts at the first
plane of each slab. Source of the correlation: Avants et al., Medical Image Analysis 2008; exact gradient, see
`metrics/lncc.py`.
"""

import numpy as np

from . import kernel, part


@part
def slide(S, y, ry, rows, lead):
    """Rows of sums over y - ry .. y + ry, from those of y - 1."""
    K, H, W = S.shape
    e = S.dtype.type(1 if y + ry < H else 0)
    l = S.dtype.type(1 if y - ry - 1 >= 0 else 0)
    p, q = min(y + ry, H - 1), max(y - ry - 1, 0)
    for k in range(K):
        row = rows[k, lead:]  # an index with an offset keeps a loop from using vector registers
        for x in range(W):
            row[x] += e * S[k, p, x] - l * S[k, q, x]


@part
def differences(rows, W, rx, step):
    """step[k, x] = what enters the window of x less what leaves that of x - 1; rows (K, W + 2 rx + 1) begin with rx + 1
    zeros and end with rx, so that sums over x of `step` are window sums."""
    for k in range(rows.shape[0]):
        enter, leave = rows[k, 2 * rx + 1:], rows[k]
        for x in range(W):
            step[k, x] = enter[x] - leave[x]


@kernel
def correlation(z0, z1, slab, fixed, warped, weight, rz, ry, rx, eps, least, first, second, third, other, sums):
    """Local squared correlation and the three arrays whose box sums make its gradient.

    With window sums c, A = cov(F, M) + eps, B = var(F) + eps, C = var(M) + eps (times c), and q = A^2 / (B C):
    first = 2 w A / (B C), second = -w q / C, third = first * mean F + 2 second * mean M.
    sums[slab] += (sum of w (1 - q), sum of w var(F) / B): the misfit, and how much of the fixed image has structure.
    Windows with a weight of at most `least` do not count. `other` takes what the same needs with the roles exchanged,
    (2, D, H, W): second and third of the fixed image; or it is empty, (2, 0, 0, 0). Along a row the running sums come
    first, then the arithmetic, which so fills vector registers.
    """
    D, H, W = fixed.shape
    both = other.shape[1] > 0
    T = fixed.dtype.type
    S = np.zeros((6, H, W), fixed.dtype)
    rows = np.zeros((6, W + 2 * rx + 1), fixed.dtype)
    box = np.zeros((6, W), fixed.dtype)
    lead, floor = rx + 1, T(least)
    total, count = 0.0, 0.0
    for z in range(z0 - rz, z1 + rz):
        # planes enter from z0 - rz on; output starts once the window of z0 is full
        enter, leave = z, z - 2 * rz - 1
        e = T(1) if 0 <= enter < D else T(0)
        l = T(1) if max(0, z0 - rz) <= leave < D else T(0)
        if e + l > 0:
            p, q = min(max(enter, 0), D - 1), min(max(leave, 0), D - 1)
            for y in range(H):
                for x in range(W):
                    w, v = e * weight[p, y, x], l * weight[q, y, x]
                    f, m, g, n = fixed[p, y, x], warped[p, y, x], fixed[q, y, x], warped[q, y, x]
                    S[0, y, x] += w - v
                    S[1, y, x] += w * f - v * g
                    S[2, y, x] += w * m - v * n
                    S[3, y, x] += w * f * f - v * g * g
                    S[4, y, x] += w * m * m - v * n * n
                    S[5, y, x] += w * f * m - v * g * n
        o = z - rz
        if o < z0:
            continue
        rows[:] = 0
        for y in range(-ry, H):
            slide(S, y, ry, rows, lead)
            if y < 0:
                continue
            differences(rows, W, rx, box)
            # the sum over the window of x = -1: what x = 0 subtracts is zero, so the sums begin with it
            c, sf, sm, ff, mm, fm = T(0), T(0), T(0), T(0), T(0), T(0)
            for x in range(lead, lead + rx):
                c += rows[0, x]
                sf += rows[1, x]
                sm += rows[2, x]
                ff += rows[3, x]
                mm += rows[4, x]
                fm += rows[5, x]
            for x in range(W):
                c += box[0, x]
                sf += box[1, x]
                sm += box[2, x]
                ff += box[3, x]
                mm += box[4, x]
                fm += box[5, x]
                box[0, x], box[1, x], box[2, x] = c, sf, sm
                box[3, x], box[4, x], box[5, x] = ff, mm, fm
            for x in range(W):
                w, c = weight[o, y, x], max(box[0, x], floor)
                w = w if box[0, x] > floor else T(0)
                muf, mum = box[1, x] / c, box[2, x] / c
                A, B = box[5, x] - muf * box[2, x] + eps * c, max(box[3, x] - muf * box[1, x], T(0)) + eps * c
                C = max(box[4, x] - mum * box[2, x], T(0)) + eps * c
                r = T(1) / (B * C)
                a, b = 2 * w * A * r, -w * A * A * r / C
                first[o, y, x] = a
                second[o, y, x] = b
                third[o, y, x] = a * muf + 2 * b * mum
                box[0, x] = w * (T(1) - A * A * r)
                box[1, x] = w * (T(1) - eps * c / B)
                b = -w * A * A * r / B
                box[2, x], box[3, x] = b, a * mum + 2 * b * muf
            if both:
                for x in range(W):
                    other[0, o, y, x], other[1, o, y, x] = box[2, x], box[3, x]
            # a loop that also stores is compiled twice, and which version adds up depends on where the arrays lie
            for x in range(W):
                total += box[0, x]
                count += box[1, x]
    sums[slab, 0] += total
    sums[slab, 1] += count


@kernel
def correlation_adjoint(z0, z1, slab, fixed, warped, weight, rz, ry, rx, scale, first, second, third, out, curvature):
    """out = scale * weight * (F W[first] + 2 M W[second] - W[third]), W the box sum.

    curvature = 2 scale * weight * W[second]: with a window's gain and offset held, 1 - q is a squared residual.
    """
    D, H, W = fixed.shape
    T = fixed.dtype.type
    factor = T(scale)
    S = np.zeros((3, H, W), fixed.dtype)
    rows = np.zeros((3, W + 2 * rx + 1), fixed.dtype)
    box = np.zeros((3, W), fixed.dtype)
    lead = rx + 1
    for z in range(z0 - rz, z1 + rz):
        enter, leave = z, z - 2 * rz - 1
        e = T(1) if 0 <= enter < D else T(0)
        l = T(1) if max(0, z0 - rz) <= leave < D else T(0)
        if e + l > 0:
            p, q = min(max(enter, 0), D - 1), min(max(leave, 0), D - 1)
            for y in range(H):
                for x in range(W):
                    S[0, y, x] += e * first[p, y, x] - l * first[q, y, x]
                    S[1, y, x] += e * second[p, y, x] - l * second[q, y, x]
                    S[2, y, x] += e * third[p, y, x] - l * third[q, y, x]
        o = z - rz
        if o < z0:
            continue
        rows[:] = 0
        for y in range(-ry, H):
            slide(S, y, ry, rows, lead)
            if y < 0:
                continue
            differences(rows, W, rx, box)
            a, b, c = T(0), T(0), T(0)
            for x in range(lead, lead + rx):
                a += rows[0, x]
                b += rows[1, x]
                c += rows[2, x]
            for x in range(W):
                a += box[0, x]
                b += box[1, x]
                c += box[2, x]
                box[0, x], box[1, x], box[2, x] = a, b, c
            for x in range(W):
                k = factor * weight[o, y, x]
                out[o, y, x] = k * (fixed[o, y, x] * box[0, x] + 2 * warped[o, y, x] * box[1, x] - box[2, x])
                curvature[o, y, x] = 2 * k * box[1, x]

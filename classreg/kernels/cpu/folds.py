"""Jacobian determinants of displacements: their lower bound over the cells of a spline, and folds between samples.

D[k, a] is the derivative of component k along array axis a in mm, frame E holds the axes' unit vectors in columns, and
J = det(E + D) / det(E).
"""

import numpy as np

from . import inline, kernel


@inline
def determinant(m, d):
    """Of the (d, d) matrix in the last rows and columns of a (3, 3) one."""
    if d == 2:
        return m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1]
    return (m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1]) - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
            + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0]))


@inline
def spread(box, sizes, e, f, g, d):
    """A quick lower bound of |det(e + D)| on a cell, from the smallest and largest coefficients of each derivative.

    With f their middle and g half their difference:  |det(f + x) - det f| <= sum |cofactor| g + products of two and three
    columns, for |x| <= g (Hadamard). The sign is that of det e.
    """
    lead = 3 - d
    P = box.shape[1]
    for a in range(d):
        sz, sy, sx = int(a == d - 3), int(a == d - 2), int(a == d - 1)
        for k in range(d):
            low, high = np.inf, -np.inf
            for z in range(P - sz):
                for y in range(4 - sy):
                    for x in range(4 - sx):
                        t = box[k, z + sz, y + sy, x + sx] - box[k, z, y, x]
                        low, high = min(low, t), max(high, t)
            f[k + lead, a + lead] = e[k + lead, a + lead] + (low + high) / (2 * sizes[a])
            g[k + lead, a + lead] = (high - low) / (2 * sizes[a])
    if d == 2:
        f[0, 0] = 1
    change = 0.0
    for p in range(lead, 3):
        p1, p2 = (p + 1) % 3, (p + 2) % 3
        for q in range(lead, 3):
            q1, q2 = (q + 1) % 3, (q + 2) % 3
            change += abs(f[p1, q1] * f[p2, q2] - f[p1, q2] * f[p2, q1]) * g[p, q]
    for q in range(3):
        q1, q2 = (q + 1) % 3, (q + 2) % 3
        a = f[0, q] ** 2 + f[1, q] ** 2 + f[2, q] ** 2
        b = g[0, q1] ** 2 + g[1, q1] ** 2 + g[2, q1] ** 2
        c = g[0, q2] ** 2 + g[1, q2] ** 2 + g[2, q2] ** 2
        change += np.sqrt(a * b * c)
        if q == 0:
            change += np.sqrt((g[0, 0] ** 2 + g[1, 0] ** 2 + g[2, 0] ** 2) * b * c)
    whole = determinant(f, d)
    return whole - change if determinant(e, d) > 0 else whole + change


@inline
def halve(box, parts, middle, d):
    """parts (d, 5 or 1, 5, 5): the control points (d, 4 or 1, 4, 4) of a cell, subdivided along each axis.

    A new point halfway between two old ones weighs them (4, 4) / 8, one on an old point (1, 6, 1) / 8.
    """
    P = box.shape[1]
    Q = parts.shape[1]
    for k in range(d):
        for z in range(P):
            for y in range(4):
                for x in range(5):
                    i = x // 2
                    if x % 2 == 0:
                        middle[0, z, y, x] = (box[k, z, y, i] + box[k, z, y, i + 1]) / 2
                    else:
                        middle[0, z, y, x] = (box[k, z, y, i] + 6 * box[k, z, y, i + 1] + box[k, z, y, i + 2]) / 8
            for y in range(5):
                i = y // 2
                for x in range(5):
                    if y % 2 == 0:
                        middle[1, z, y, x] = (middle[0, z, i, x] + middle[0, z, i + 1, x]) / 2
                    else:
                        middle[1, z, y, x] = (middle[0, z, i, x] + 6 * middle[0, z, i + 1, x]
                                              + middle[0, z, i + 2, x]) / 8
        for z in range(Q):
            i = z // 2
            for y in range(5):
                for x in range(5):
                    if P == 1:
                        parts[k, z, y, x] = middle[1, z, y, x]
                    elif z % 2 == 0:
                        parts[k, z, y, x] = (middle[1, i, y, x] + middle[1, i + 1, y, x]) / 2
                    else:
                        parts[k, z, y, x] = (middle[1, i, y, x] + 6 * middle[1, i + 1, y, x]
                                             + middle[1, i + 2, y, x]) / 8


@kernel
def least(k0, k1, slab, boxes, sizes, frame, depth, out):
    """out[k] = a lower bound of J on the cell with control points boxes[k], (d, P, 4, 4) float64; P is 1 in 2-D.

    A cell whose bound is not positive is halved along each axis, `depth` times at most; the first part for which
    that is not enough ends it. sizes (d,) mm, frame (d, d).
    """
    d, P = boxes.shape[1], boxes.shape[2]
    lead = 3 - d
    e, f, g = np.zeros((3, 3)), np.zeros((3, 3)), np.zeros((3, 3))
    for k in range(d):
        for a in range(d):
            e[k + lead, a + lead] = frame[k, a]
    per = 1 / determinant(e, d)
    across = 1 if P == 1 else 2
    parts, middle = np.empty((d, 1 if P == 1 else 5, 5, 5)), np.empty((2, P, 5, 5))
    stack = np.empty((8 * (depth + 1), d, P, 4, 4))
    level = np.empty(8 * (depth + 1), np.int64)
    half = np.empty((depth + 1, d))
    for i in range(depth + 1):
        for a in range(d):
            half[i, a] = sizes[a] / 2.0**i
    for n in range(k0, k1):
        for k in range(d):
            for z in range(P):
                for y in range(4):
                    for x in range(4):
                        stack[0, k, z, y, x] = boxes[n, k, z, y, x]
        level[0] = 0
        top = 1
        lowest = np.inf
        while top > 0:
            top -= 1
            now = level[top]
            low = spread(stack[top], half[now], e, f, g, d) * per
            if low > 0:
                lowest = min(lowest, low)
                continue
            if now == depth:
                lowest = low
                break
            halve(stack[top], parts, middle, d)
            for i in range(across):
                for j in range(2):
                    for l in range(2):
                        for k in range(d):
                            for z in range(P):
                                for y in range(4):
                                    for x in range(4):
                                        stack[top, k, z, y, x] = parts[k, i + z, j + y, l + x]
                        level[top] = now + 1
                        top += 1
        out[n] = lowest


@kernel
def count(z0, z1, slab, field, frame, spacing, least, sums):
    """sums[slab] += samples of a displacement (d, Z, Y, X) where J is not above `least`.

    Central differences, one-sided at the border; spacing (3,) in mm.
    """
    d, Z, Y, X = field.shape
    lead = 3 - d
    T = field.dtype.type
    e, g = np.zeros((3, 3), field.dtype), np.zeros((3, 3), field.dtype)
    for k in range(d):
        for a in range(d):
            e[k + lead, a + lead] = frame[k, a]
    per, limit = T(1) / determinant(e, d), T(least)
    found = 0
    for z in range(z0, z1):
        za, zb = max(z - 1, 0), min(z + 1, Z - 1)
        kz = T(1 / (max(zb - za, 1) * spacing[0]))
        for y in range(Y):
            ya, yb = max(y - 1, 0), min(y + 1, Y - 1)
            ky = T(1 / (max(yb - ya, 1) * spacing[1]))
            for x in range(X):
                xa, xb = max(x - 1, 0), min(x + 1, X - 1)
                kx = T(1 / (max(xb - xa, 1) * spacing[2]))
                for k in range(d):
                    r = k + lead
                    g[r, 0] = e[r, 0] + kz * (field[k, zb, y, x] - field[k, za, y, x])
                    g[r, 1] = e[r, 1] + ky * (field[k, z, yb, x] - field[k, z, ya, x])
                    g[r, 2] = e[r, 2] + kx * (field[k, z, y, xb] - field[k, z, y, xa])
                if not per * determinant(g, d) > limit:
                    found += 1
    sums[slab, 0] += found

"""Jacobian determinants of displacements: their lower bound over the cells of a spline, and folds between samples.

D[k, a] is the derivative of component k along array axis a in mm, frame E holds the axes' unit vectors in columns, and
J = det(E + D) / det(E).
"""

import numpy as np

from . import kernel, part


@part
def determinant(m, d):
    """Of the (d, d) matrix in the last rows and columns of a (3, 3) one."""
    if d == 2:
        return m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1]
    return (m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1]) - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
            + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0]))


@part
def along(w, src, out):
    """out (a, n, b) = w (n, m) on the middle axis of src (a, m, b)."""
    for a in range(src.shape[0]):
        for i in range(w.shape[0]):
            for b in range(src.shape[2]):
                out[a, i, b] = 0
            for j in range(w.shape[1]):
                k = w[i, j]
                for b in range(src.shape[2]):
                    out[a, i, b] += k * src[a, j, b]


@kernel
def least(k0, k1, slab, boxes, value_z, slope_z, bernstein_z, value, slope, bernstein, sizes, frame, out):
    """out[k, l] = smallest Bernstein coefficient of J on the cell with control points boxes[k, ..., l].

    boxes (n, d, P, 4, 4, L): L cells side by side, one per lane of a vector register. `value` and `slope` (m, 4)
    evaluate the basis at m nodes per axis, `bernstein` (m, m) takes values there to coefficients; those of z, (mz, P)
    and (mz, mz), are one by one in 2-D. sizes (d,) mm, frame (d, d).
    """
    d, P, L = boxes.shape[1], boxes.shape[2], boxes.shape[5]
    mz, m = len(value_z), len(value)
    lead, size = 3 - d, len(value_z) * len(value) ** 2 * boxes.shape[5]
    first, second = np.empty((P * 4, m, L)), np.empty((P, m, m * L))
    third, values = np.empty((1, mz, m * m * L)), np.empty((1, mz, m * m * L))
    entries = np.zeros((3, 3, size))
    e = np.zeros((3, 3))
    for k in range(d):
        for a in range(d):
            e[k + lead, a + lead] = frame[k, a]
    per = 1 / determinant(e, d)
    entries[0, 0] = 1
    for n in range(k0, k1):
        for k in range(d):
            box = boxes[n, k].copy().reshape(P * 4, 4, L)
            for a in range(d):
                along(slope if a == d - 1 else value, box, first)
                along(slope if a == d - 2 else value, first.reshape(P, 4, m * L), second)
                along(slope_z if a == d - 3 else value_z, second.reshape(1, P, m * m * L), third)
                flat = third.reshape(size)
                whole, scale = frame[k, a], 1 / sizes[a]
                for i in range(size):
                    entries[k + lead, a + lead, i] = whole + flat[i] * scale
        flat = values.reshape(size)
        for i in range(size):
            flat[i] = per * (
                entries[0, 0, i] * (entries[1, 1, i] * entries[2, 2, i] - entries[1, 2, i] * entries[2, 1, i])
                - entries[0, 1, i] * (entries[1, 0, i] * entries[2, 2, i] - entries[1, 2, i] * entries[2, 0, i])
                + entries[0, 2, i] * (entries[1, 0, i] * entries[2, 1, i] - entries[1, 1, i] * entries[2, 0, i]))
        along(bernstein_z, values, third)
        along(bernstein, third.reshape(mz, m, m * L), values.reshape(mz, m, m * L))
        along(bernstein, values.reshape(mz * m, m, L), third.reshape(mz * m, m, L))
        rows = third.reshape(mz * m * m, L)
        for l in range(L):
            out[n, l] = np.inf
        for i in range(mz * m * m):
            for l in range(L):
                out[n, l] = min(out[n, l], rows[i, l])


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

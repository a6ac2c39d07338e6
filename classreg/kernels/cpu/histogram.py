"""Joint histograms and their derivative: a linear window on the fixed image, a cubic B-spline on the moving one.

Bin positions are  xi = origin + scale * intensity, clamped so that all four taps lie inside the table. The fixed image
does not move, so its window needs no derivative, and two taps do, or a single one (`rows`): the box, all in the nearest
bin. Positions and weights are worked row by row, in vector registers.
"""

import numpy as np

from . import kernel, part


@part
def bins_of(values, origin, scale, bins, index, rest):
    """Of a row: the bin below each clamped position, and how far above it that is; then where it was not clamped."""
    T = rest.dtype.type
    low, high = T(1), T(bins - 2.0001)
    for x in range(len(rest)):
        q = min(max(T(origin) + T(scale) * values[x], low), high)
        index[x] = np.int32(q)
        rest[x] = q - T(index[x])


@part
def nearest(index, rest):
    """Of a row: the nearest bin instead of the one below, and nothing above it."""
    for x in range(len(rest)):
        index[x] += np.int32(rest[x] >= 0.5)
        rest[x] = 0


@kernel
def joint(z0, z1, slab, fixed, warped, weight, origin, scale, rows, tables):
    """tables[slab, a, b] += weight * window(F)_a * window(M)_b; origin and scale hold those of F and of M.

    `rows` is how many bins the window of F covers: 2 for the hat, 1 for the box.
    """
    _, Y, X = fixed.shape
    bins = tables.shape[1]
    T = warped.dtype.type
    sixth = T(1 / 6)
    size = bins * bins
    table = np.zeros(2 * size)  # two in turn: neighbours often fall into one bin, and a sum waits for the one before
    line = np.empty(X, warped.dtype)
    i, j = np.empty(X, np.int32), np.empty(X, np.int32)
    t, up = np.empty(X, warped.dtype), np.empty(X, warped.dtype)
    b0, b1, b2, b3 = np.empty_like(t), np.empty_like(t), np.empty_like(t), np.empty_like(t)
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                line[x] = fixed[z, y, x]
            bins_of(line, origin[0], scale[0], bins, i, up)
            if rows == 1:
                nearest(i, up)
            for x in range(X):
                i[x] *= np.int32(bins)
                line[x] = warped[z, y, x]
            bins_of(line, origin[1], scale[1], bins, j, t)
            for x in range(X):
                w = weight[z, y, x] * sixth
                f = t[x]
                s = T(1) - f
                b0[x], b3[x] = w * s * s * s, w * f * f * f
                b1[x] = w * (T(4) + f * f * (T(3) * f - T(6)))
                b2[x] = w * (T(4) + s * s * (T(3) * s - T(6)))
                i[x] += j[x] - np.int32(1)
            for x in range(X):
                if weight[z, y, x] > 0:
                    k = i[x] + size * (x & 1)
                    u = up[x]
                    v = T(1) - u
                    table[k] += v * b0[x]
                    table[k + 1] += v * b1[x]
                    table[k + 2] += v * b2[x]
                    table[k + 3] += v * b3[x]
                    if rows == 2:
                        k += bins
                        table[k] += u * b0[x]
                        table[k + 1] += u * b1[x]
                        table[k + 2] += u * b2[x]
                        table[k + 3] += u * b3[x]
    for a in range(bins):
        for b in range(bins):
            tables[slab, a, b] += table[a * bins + b] + table[size + a * bins + b]


@kernel
def joint_adjoint(z0, z1, slab, fixed, warped, weight, origin, scale, rows, score, out):
    """out = weight * sum over a, b of window(F)_a * window'(M)_b * score[a, b] * scale of M.

    The derivative is zero where the position is clamped.
    """
    _, Y, X = fixed.shape
    bins = score.shape[0]
    T = out.dtype.type
    half, slope = T(0.5), T(scale[1])
    table = score.astype(out.dtype).reshape(-1)
    line = np.empty(X, out.dtype)
    i, j = np.empty(X, np.int32), np.empty(X, np.int32)
    t, up = np.empty(X, out.dtype), np.empty(X, out.dtype)
    b0, b1, b2, b3 = np.empty_like(t), np.empty_like(t), np.empty_like(t), np.empty_like(t)
    low, high = T(1), T(bins - 2.0001)
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                line[x] = fixed[z, y, x]
            bins_of(line, origin[0], scale[0], bins, i, up)
            if rows == 1:
                nearest(i, up)
            for x in range(X):
                i[x] *= np.int32(bins)
                line[x] = warped[z, y, x]
            bins_of(line, origin[1], scale[1], bins, j, t)
            for x in range(X):
                f = t[x]
                s = T(1) - f
                xi = T(origin[1]) + T(scale[1]) * line[x]
                k = weight[z, y, x] * slope if low <= xi <= high else T(0)
                b0[x], b3[x] = -k * half * s * s, k * half * f * f
                b1[x], b2[x] = k * f * (T(1.5) * f - T(2)), -k * s * (T(1.5) * s - T(2))
                i[x] += j[x] - np.int32(1)
            for x in range(X):
                k = i[x]
                here = b0[x] * table[k] + b1[x] * table[k + 1] + b2[x] * table[k + 2] + b3[x] * table[k + 3]
                if rows == 2:
                    k += np.int32(bins)
                    above = b0[x] * table[k] + b1[x] * table[k + 1] + b2[x] * table[k + 2] + b3[x] * table[k + 3]
                    here += up[x] * (above - here)
                line[x] = here
            for x in range(X):
                out[z, y, x] = line[x]


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


@kernel
def conditional(z0, z1, slab, fixed, warped, weight, origin, scale, tables):
    """tables[slab, 0, a] += weight * window(F)_a, and tables[slab, 1, a] the same times M; the hat as window."""
    _, Y, X = fixed.shape
    bins = tables.shape[2]
    size = 2 * bins
    table = np.zeros(2 * size)  # count and total side by side; two in turn, as above
    line, up = np.empty(X, warped.dtype), np.empty(X, warped.dtype)
    i = np.empty(X, np.int32)
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                line[x] = fixed[z, y, x]
            bins_of(line, origin, scale, bins, i, up)
            for x in range(X):
                k = 2 * i[x] + size * (x & 1)
                w = np.float64(weight[z, y, x])
                above = w * np.float64(up[x])
                below = w - above
                m = np.float64(warped[z, y, x])
                table[k] += below
                table[k + 1] += below * m
                table[k + 2] += above
                table[k + 3] += above * m
    for a in range(bins):
        tables[slab, 0, a] += table[2 * a] + table[size + 2 * a]
        tables[slab, 1, a] += table[2 * a + 1] + table[size + 2 * a + 1]


@kernel
def conditional_adjoint(z0, z1, slab, fixed, warped, weight, origin, scale, table, a, out):
    """out = weight * (a M + sum over b of window(F)_b * table[b])."""
    _, Y, X = fixed.shape
    T = out.dtype.type
    values = table.astype(out.dtype)
    line, up = np.empty(X, out.dtype), np.empty(X, out.dtype)
    i = np.empty(X, np.int32)
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                line[x] = fixed[z, y, x]
            bins_of(line, origin, scale, len(table), i, up)
            for x in range(X):
                here = values[i[x]]
                here += up[x] * (values[i[x] + 1] - here)
                out[z, y, x] = weight[z, y, x] * (T(a) * warped[z, y, x] + here)

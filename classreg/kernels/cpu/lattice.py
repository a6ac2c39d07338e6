"""Quadratic energies of a lattice: sums of products of one-dimensional Gram matrices, applied plane by plane.

The operator is  G = sum over terms of factor * Gz x Gy x Gx  from one component to another, each Gram matrix given by
its seven diagonals (t, i) that weigh sample i + t - 3. Source: Shackleford et al., Physics in Medicine and Biology
2012, doi:10.1088/0031-9155/57/18/6033.
"""

import numpy as np

from . import inline, kernel

#: diagonals on either side
R = 3


@kernel
def gram_planes(k0, k1, slab, theta, gy, gx, terms, factors, planes):
    """planes[iz, c, z] = sum over the terms of that (c, iz) of factor * (Gy^iy x Gx^ix) theta[b, z]; item k = (c, z).

    theta (C, Z, Y, X); gy (ny, 7, Y), gx (nx, 7, X); terms (n, 5) of (c, b, iz, iy, ix), factors (n,);
    planes (nz, C, Z, Y, X).
    """
    C, Z, Y, X = theta.shape
    along = np.zeros((C, len(gx), Y + 2 * R, X), theta.dtype)
    row = np.zeros(X + 2 * R, theta.dtype)
    line = np.empty(X, theta.dtype)
    used = np.zeros((C, C, len(gx)), np.bool_)
    for n in range(len(factors)):
        used[terms[n, 0], terms[n, 1], terms[n, 4]] = True
    for k in range(k0, k1):
        c, z = k // Z, k % Z
        for b in range(C):
            if not used[c, b].any():
                continue
            for y in range(Y):
                for x in range(X):
                    row[R + x] = theta[b, z, y, x]
                r0, r1, r2, r3, r4, r5, r6 = row, row[1:], row[2:], row[3:], row[4:], row[5:], row[6:]
                for r in range(len(gx)):
                    if used[c, b, r]:
                        w = gx[r]
                        w0, w1, w2, w3, w4, w5, w6 = w[0], w[1], w[2], w[3], w[4], w[5], w[6]
                        for x in range(X):
                            line[x] = (w0[x] * r0[x] + w1[x] * r1[x] + w2[x] * r2[x] + w3[x] * r3[x]
                                       + w4[x] * r4[x] + w5[x] * r5[x] + w6[x] * r6[x])
                        for x in range(X):
                            along[b, r, R + y, x] = line[x]
        for iz in range(len(planes)):
            for y in range(Y):
                for x in range(X):
                    line[x] = 0
                for n in range(len(factors)):
                    if terms[n, 0] != c or terms[n, 2] != iz:
                        continue
                    b, iy, ix, f = terms[n, 1], terms[n, 3], terms[n, 4], factors[n]
                    w0, w1, w2, w3 = f * gy[iy, 0, y], f * gy[iy, 1, y], f * gy[iy, 2, y], f * gy[iy, 3, y]
                    w4, w5, w6 = f * gy[iy, 4, y], f * gy[iy, 5, y], f * gy[iy, 6, y]
                    a = along[b, ix]
                    for x in range(X):
                        line[x] += (w0 * a[y, x] + w1 * a[y + 1, x] + w2 * a[y + 2, x] + w3 * a[y + 3, x]
                                    + w4 * a[y + 4, x] + w5 * a[y + 5, x] + w6 * a[y + 6, x])
                for x in range(X):
                    planes[iz, c, z, y, x] = line[x]


@kernel
def gram_sum(k0, k1, slab, theta, planes, gz, out, sums):
    """out[c, z] = sum over iz of Gz^iz planes[iz, c], and sums[slab] += theta . out; item k = (c, z)."""
    _, Z, Y, X = theta.shape
    total = 0.0
    for k in range(k0, k1):
        c, z = k // Z, k % Z
        for y in range(Y):
            for x in range(X):
                out[c, z, y, x] = 0
        for iz in range(len(planes)):
            for t in range(2 * R + 1):
                w = gz[iz, t, z]
                if w != 0:
                    p = z + t - R
                    for y in range(Y):
                        for x in range(X):
                            out[c, z, y, x] += w * planes[iz, c, p, y, x]
        for y in range(Y):
            s = 0.0
            for x in range(X):
                s += np.float64(theta[c, z, y, x]) * np.float64(out[c, z, y, x])
            total += s
    sums[slab, 0] += total


@inline
def plane_row(parts, starts, value, slope, z, y, rows):
    """rows [a, k] += slope of component k along axis a in row y of plane z, from what the passes along x and y left.

    parts (3, d, P, Y, X) hold (value, value), (slope, value) and (value, slope) along (y, x); rows (3, 3, X).
    """
    d = parts.shape[1]
    lead = 3 - d
    X = parts.shape[4]
    taps = value.shape[1]
    for a in range(lead, 3):
        for k in range(d):
            for t in range(taps):
                w = slope[z, t] if a == 0 else value[z, t]
                i = starts[z] + t
                for x in range(X):
                    rows[a, k, x] += w * parts[a, k, i, y, x]


@kernel
def volume(z0, z1, slab, parts, starts, value, slope, frame, below, least, scale, active, force, sums):
    """sums[slab] += (sum of log((J - least) / (below - least))^2 where J < below, how many rows have such points).

    parts, starts, value, slope: see `plane_row`, axis z of the points being that of (value, slope); frame (d, d) holds
    the axes' unit vectors in columns, J = det(frame + slopes) / det(frame). Rows with such points are marked in
    `active` (Z, Y), and scale times the derivative by their slopes goes to force (3, d, Z, Y, X).
    """
    _, d, _, Y, X = parts.shape
    lead = 3 - d
    T = parts.dtype.type
    e = np.zeros((3, 3), parts.dtype)
    e[0, 0] = 1
    for k in range(d):
        for a in range(d):
            e[k + lead, a + lead] = frame[k, a]
    per = T(1) / (e[0, 0] * (e[1, 1] * e[2, 2] - e[1, 2] * e[2, 1]) - e[0, 1] * (e[1, 0] * e[2, 2] - e[1, 2] * e[2, 0])
                  + e[0, 2] * (e[1, 0] * e[2, 1] - e[1, 1] * e[2, 0]))
    rows, jacobian = np.zeros((3, 3, X), parts.dtype), np.empty(X, parts.dtype)
    total, found, ceiling = 0.0, 0, T(below)
    e00, e01, e02, e10, e11, e12 = e[0, 0], e[0, 1], e[0, 2], e[1, 0], e[1, 1], e[1, 2]
    e20, e21, e22 = e[2, 0], e[2, 1], e[2, 2]
    for z in range(z0, z1):
        for y in range(Y):
            rows[:] = 0
            plane_row(parts, starts, value, slope, z, y, rows[:, lead:])
            for x in range(X):
                a, b, c = e00 + rows[0, 0, x], e01 + rows[1, 0, x], e02 + rows[2, 0, x]
                f, g, h = e10 + rows[0, 1, x], e11 + rows[1, 1, x], e12 + rows[2, 1, x]
                i, j, k = e20 + rows[0, 2, x], e21 + rows[1, 2, x], e22 + rows[2, 2, x]
                J = per * (a * (g * k - h * j) - b * (f * k - h * i) + c * (f * j - g * i))
                jacobian[x] = J
            low = 0  # counted, since a least value does not fill vector registers
            for x in range(X):
                low += not jacobian[x] >= ceiling
            active[z, y] = low > 0
            if low == 0:
                continue
            found += 1
            for x in range(X):
                r, push = 0.0, T(0)
                if not jacobian[x] >= ceiling:
                    room = np.float64(jacobian[x]) - least
                    if room > 0:
                        r = np.log(room / (below - least))
                        push = T(2 * r / room * scale) * per
                    else:
                        r = np.inf
                total += r * r
                a, b, c = e00 + rows[0, 0, x], e01 + rows[1, 0, x], e02 + rows[2, 0, x]
                f, g, h = e10 + rows[0, 1, x], e11 + rows[1, 1, x], e12 + rows[2, 1, x]
                i, j, k = e20 + rows[0, 2, x], e21 + rows[1, 2, x], e22 + rows[2, 2, x]
                rows[0, 0, x], rows[1, 0, x], rows[2, 0, x] = g * k - h * j, h * i - f * k, f * j - g * i
                rows[0, 1, x], rows[1, 1, x], rows[2, 1, x] = c * j - b * k, a * k - c * i, b * i - a * j
                rows[0, 2, x], rows[1, 2, x], rows[2, 2, x] = b * h - c * g, c * f - a * h, a * g - b * f
                for q in range(lead, 3):
                    for p in range(d):
                        force[q, p, z, y, x] = push * rows[q, p + lead, x]
    sums[slab, 0] += total
    sums[slab, 1] += found


@kernel
def volume_back(p0, p1, slab, force, active, starts, value, slope, parts):
    """parts (3, d, P, Y, X) = the transpose of the pass along z applied to the active rows of force."""
    _, d, _, Y, X = parts.shape
    lead = 3 - d
    Z, taps = value.shape
    for p in range(p0, p1):
        for a in range(lead, 3):
            for k in range(d):
                for y in range(Y):
                    for x in range(X):
                        parts[a, k, p, y, x] = 0
        for z in range(Z):
            t = p - starts[z]
            if t < 0 or t >= taps:
                continue
            for y in range(Y):
                if active[z, y]:
                    for a in range(lead, 3):
                        w = slope[z, t] if a == 0 else value[z, t]
                        for k in range(d):
                            for x in range(X):
                                parts[a, k, p, y, x] += w * force[a, k, z, y, x]

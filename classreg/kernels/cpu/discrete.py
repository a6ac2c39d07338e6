"""Discrete search: the cost volume of descriptors over shifts, and its regularised minimum.

Inner loops run along x, whole rows at a time; offsets are unsigned, since an index that might be negative keeps a loop
from using vector registers. What an offset reaches is there: the arrays it goes into are padded.
"""

import numpy as np

from . import kernel


@kernel
def cost(k0, k1, slab, fixed, fixed_weight, moving, moving_weight, bz, by, bx, pace, shifts, out, sums):
    """Weighted mean squared difference of descriptors per cell and shift, also over channels; sums[slab] += its sum.

    Cell (k, j, i) has the samples bz[k, 0] <= z < bz[k, 1] and so on, of which only every pace[0]-th plane and
    pace[1]-th row is looked at; `shifts` (D, 3) are offsets into the padded moving arrays, at least 0. With w the
    product of both weights, S_d = sum of w (F - M)^2 / C, N_d = sum of w, and N the sum of the fixed weight alone,
        out (K, J, I, D) = (S_d + (N - N_d) (sum of S / sum of N_d)) / N:
    what a shift takes outside the moving image costs what a shift of that cell costs on average. The number of
    channels is a multiple of 4.
    """
    C, _, _, X = fixed.shape
    T = out.dtype.type
    D = len(shifts)
    wide, last, one, two, three = np.uint64(X), np.uint64(C), np.uint64(1), np.uint64(2), np.uint64(3)
    row, total, count = np.empty(X, out.dtype), np.empty(X, out.dtype), np.empty(X, out.dtype)
    seen, line = np.empty((len(bx), D), out.dtype), np.empty(D, out.dtype)
    for k in range(k0, k1):
        z0, z1, dz = np.uint64(bz[k, 0]), np.uint64(bz[k, 1]), np.uint64(pace[0])
        for j in range(len(by)):
            y0, y1, dy = np.uint64(by[j, 0]), np.uint64(by[j, 1]), np.uint64(pace[1])
            for d in range(D):
                oz, oy, ox = np.uint64(shifts[d, 0]), np.uint64(shifts[d, 1]), np.uint64(shifts[d, 2])
                for x in range(wide):
                    total[x] = 0
                    count[x] = 0
                for z in range(z0, z1, dz):
                    for y in range(y0, y1, dy):
                        for x in range(wide):
                            row[x] = 0
                        for c in range(np.uint64(0), last, np.uint64(4)):
                            for x in range(wide):
                                p = fixed[c, z, y, x] - moving[c, z + oz, y + oy, x + ox]
                                q = fixed[c + one, z, y, x] - moving[c + one, z + oz, y + oy, x + ox]
                                r = fixed[c + two, z, y, x] - moving[c + two, z + oz, y + oy, x + ox]
                                s = fixed[c + three, z, y, x] - moving[c + three, z + oz, y + oy, x + ox]
                                row[x] += p * p + q * q + r * r + s * s
                        for x in range(wide):
                            w = fixed_weight[z, y, x] * moving_weight[z + oz, y + oy, x + ox]
                            total[x] += w * row[x]
                            count[x] += w
                for i in range(len(bx)):
                    s, w = T(0), T(0)
                    for x in range(bx[i, 0], bx[i, 1]):
                        s += total[x]
                        w += count[x]
                    out[k, j, i, d] = s / T(C)
                    seen[i, d] = w
            for x in range(wide):
                total[x] = 0
            for z in range(z0, z1, dz):
                for y in range(y0, y1, dy):
                    for x in range(wide):
                        total[x] += fixed_weight[z, y, x]
            for i in range(len(bx)):
                n, s, w = 0.0, 0.0, 0.0
                for x in range(bx[i, 0], bx[i, 1]):
                    n += total[x]
                for d in range(D):
                    line[d] = out[k, j, i, d]
                for d in range(D):
                    s += np.float64(line[d])
                    w += np.float64(seen[i, d])
                usual, per = T(s / max(w, 1e-6)), T(1 / max(n, 1e-6))
                whole = T(n)
                for d in range(D):
                    line[d] = (line[d] + (whole - seen[i, d]) * usual) * per
                for d in range(D):
                    out[k, j, i, d] = line[d]
                s = 0.0  # a loop that also stores is compiled twice: which version adds up depends on addresses
                for d in range(D):
                    s += np.float64(line[d])
                sums[slab, 0] += s


@kernel
def cheapest(k0, k1, slab, volume, shifts, theta, centre, out):
    """out[n] = the shift with the least volume[n, d] + theta |shifts[d] - centre[n]|^2; the first of equal ones."""
    T = volume.dtype.type
    t = T(theta)
    for n in range(k0, k1):
        a, b, c = centre[n, 0], centre[n, 1], centre[n, 2]
        best, least = 0, T(np.inf)
        for d in range(len(shifts)):
            p, q, r = shifts[d, 0] - a, shifts[d, 1] - b, shifts[d, 2] - c
            value = volume[n, d] + t * (p * p + q * q + r * r)
            if value < least:
                best, least = d, value
        for k in range(3):
            out[n, k] = shifts[best, k]

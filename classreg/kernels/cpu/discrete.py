"""Discrete search: the cost volume of descriptors over shifts, and its regularised minimum.

Inner loops run along x, whole rows at a time; offsets are unsigned, since an index that might be negative keeps a loop
from using vector registers. What an offset reaches is there: the arrays it goes into are padded.
"""

import numpy as np

from . import kernel


@kernel
def cost(k0, k1, slab, fixed, fixed_weight, moving, moving_weight, bz, by, bx, pace, shifts, out, weight):
    """Weighted squared difference of descriptors per cell and shift, mean over channels.

    Cell (k, j, i) has the samples bz[k, 0] <= z < bz[k, 1] and so on, of which only every pace[0]-th plane and
    pace[1]-th row is looked at; `shifts` (D, 3) are offsets into the padded moving arrays, at least 0.
    out (K, J, I, D) = sum of w (F - M)^2 / C, weight = sum of w, with w the product of both weights. The number of
    channels is a multiple of 4.
    """
    C, _, _, X = fixed.shape
    T = out.dtype.type
    wide = np.uint64(X)
    row, total, count = np.empty(X, out.dtype), np.empty(X, out.dtype), np.empty(X, out.dtype)
    for k in range(k0, k1):
        for j in range(len(by)):
            for d in range(len(shifts)):
                oz, oy, ox = shifts[d, 0], shifts[d, 1], np.uint64(shifts[d, 2])
                for x in range(wide):
                    total[x] = 0
                    count[x] = 0
                for z in range(bz[k, 0], bz[k, 1], pace[0]):
                    for y in range(by[j, 0], by[j, 1], pace[1]):
                        for x in range(wide):
                            row[x] = 0
                        for c in range(0, C, 4):
                            for x in range(wide):
                                p = fixed[c, z, y, x] - moving[c, z + oz, y + oy, x + ox]
                                q = fixed[c + 1, z, y, x] - moving[c + 1, z + oz, y + oy, x + ox]
                                r = fixed[c + 2, z, y, x] - moving[c + 2, z + oz, y + oy, x + ox]
                                s = fixed[c + 3, z, y, x] - moving[c + 3, z + oz, y + oy, x + ox]
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
                    weight[k, j, i, d] = w


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

"""Cubic B-spline interpolation of prefiltered coefficients: warp, and force with the exact derivative of the spline.

Same positions, clamping and weights as in `sample.py`; 64 taps, mirrored at the border.
"""

import numpy as np

from . import kernel
from .sample import cell


@kernel
def taps(p, n, index, value, slope):
    """Fill indices, weights and derivative weights of the four taps at p; return weight and slope factor.

    Not inlined by Numba, which would compile it three times per kernel: LLVM inlines it after it was compiled once.
    """
    i, f, _s, weight, factor = cell(p, n)
    t = np.float64(f)
    s = 1.0 - t
    value[0], value[1] = s * s * s / 6, (4 - 6 * t * t + 3 * t * t * t) / 6
    value[2], value[3] = (4 - 6 * s * s + 3 * s * s * s) / 6, t * t * t / 6
    slope[0], slope[1] = -s * s / 2, 1.5 * t * t - 2 * t
    slope[2], slope[3] = -1.5 * s * s + 2 * s, t * t / 2
    for k in range(4):
        j = i - 1 + k
        if n == 1:
            j = 0
        else:
            while j < 0 or j > n - 1:
                j = -j if j < 0 else 2 * (n - 1) - j
        index[k] = j
    return weight, factor


@kernel
def warp(z0, z1, slab, image, matrix, push, field, out, weight):
    """As `sample.warp`, `image` holding spline coefficients."""
    C, D, H, W = image.shape
    _, Z, Y, X = out.shape
    has_field = field.shape[1] > 0
    last = field.shape[0] - 1
    index, value, slope = np.zeros((3, 4), np.int64), np.zeros((3, 4)), np.zeros((3, 4))
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                pz = matrix[0, 0] * z + matrix[0, 1] * y + matrix[0, 2] * x + matrix[0, 3]
                py = matrix[1, 0] * z + matrix[1, 1] * y + matrix[1, 2] * x + matrix[1, 3]
                px = matrix[2, 0] * z + matrix[2, 1] * y + matrix[2, 2] * x + matrix[2, 3]
                if has_field:
                    u, v, w = field[0, z, y, x], field[1, z, y, x], field[last, z, y, x]
                    pz += push[0, 0] * u + push[0, 1] * v + push[0, 2] * w
                    py += push[1, 0] * u + push[1, 1] * v + push[1, 2] * w
                    px += push[2, 0] * u + push[2, 1] * v + push[2, 2] * w
                wz, _a = taps(pz, D, index[0], value[0], slope[0])
                wy, _b = taps(py, H, index[1], value[1], slope[1])
                wx, _c = taps(px, W, index[2], value[2], slope[2])
                weight[z, y, x] = wz * wy * wx
                for c in range(C):
                    total = 0.0
                    for i in range(4):
                        for j in range(4):
                            k = value[0, i] * value[1, j]
                            for l in range(4):
                                total += k * value[2, l] * image[c, index[0, i], index[1, j], index[2, l]]
                    out[c, z, y, x] = total


@kernel
def force(z0, z1, slab, image, matrix, push, field, adjoint, out):
    """As `sample.force`, `image` holding spline coefficients."""
    C, D, H, W = image.shape
    d, Z, Y, X = out.shape
    has_field = field.shape[1] > 0
    last = field.shape[0] - 1
    index, value, slope = np.zeros((3, 4), np.int64), np.zeros((3, 4)), np.zeros((3, 4))
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                pz = matrix[0, 0] * z + matrix[0, 1] * y + matrix[0, 2] * x + matrix[0, 3]
                py = matrix[1, 0] * z + matrix[1, 1] * y + matrix[1, 2] * x + matrix[1, 3]
                px = matrix[2, 0] * z + matrix[2, 1] * y + matrix[2, 2] * x + matrix[2, 3]
                if has_field:
                    u, v, w = field[0, z, y, x], field[1, z, y, x], field[last, z, y, x]
                    pz += push[0, 0] * u + push[0, 1] * v + push[0, 2] * w
                    py += push[1, 0] * u + push[1, 1] * v + push[1, 2] * w
                    px += push[2, 0] * u + push[2, 1] * v + push[2, 2] * w
                _a, kz = taps(pz, D, index[0], value[0], slope[0])
                _b, ky = taps(py, H, index[1], value[1], slope[1])
                _c, kx = taps(px, W, index[2], value[2], slope[2])
                tz, ty, tx = 0.0, 0.0, 0.0
                for c in range(C):
                    e = adjoint[c, z, y, x]
                    for i in range(4):
                        for j in range(4):
                            for l in range(4):
                                m = e * image[c, index[0, i], index[1, j], index[2, l]]
                                tz += m * slope[0, i] * value[1, j] * value[2, l]
                                ty += m * value[0, i] * slope[1, j] * value[2, l]
                                tx += m * value[0, i] * value[1, j] * slope[2, l]
                tz *= kz
                ty *= ky
                tx *= kx
                for k in range(d):
                    out[k, z, y, x] = push[0, k] * tz + push[1, k] * ty + push[2, k] * tx

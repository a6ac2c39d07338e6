"""Label maps at mapped positions: each label's linear weight is summed over the eight neighbours, the largest wins."""

import numpy as np

from . import kernel
from .sample import cell


@kernel
def vote(z0, z1, slab, image, matrix, push, field, outside, out):
    """out = the label with the largest trilinear weight at p (one-hot, argmax); ties go to the corner met first."""
    D, H, W = image.shape
    Z, Y, X = out.shape
    has_field = field.shape[1] > 0
    last = field.shape[0] - 1
    seen, share = np.empty(8, image.dtype), np.empty(8)
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
                iz, fz, sz, wz, _a = cell(pz, D)
                iy, fy, sy, wy, _b = cell(py, H)
                ix, fx, sx, wx, _c = cell(px, W)
                if wz * wy * wx < 0.5:
                    out[z, y, x] = outside
                    continue
                n = 0
                for i in range(2):
                    a = fz if i else 1 - fz
                    for j in range(2):
                        b = a * (fy if j else 1 - fy)
                        for k in range(2):
                            v = b * (fx if k else 1 - fx)
                            label = image[iz + i * sz, iy + j * sy, ix + k * sx]
                            m = 0
                            while m < n and seen[m] != label:
                                m += 1
                            if m == n:
                                seen[n], share[n] = label, 0
                                n += 1
                            share[m] += v
                best = 0
                for m in range(1, n):
                    if share[m] > share[best]:
                        best = m
                out[z, y, x] = seen[best]

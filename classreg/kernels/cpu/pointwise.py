"""One pass over the voxels: weighted sums of two images, linear combinations, inner products, largest vectors.

Sums are taken in float64, one entry per slab, and added in slab order.
"""

import numpy as np

from . import kernel


@kernel
def moments(z0, z1, slab, fixed, warped, weight, sums):
    """sums[slab] += weighted sums of 1, F, M, FF, MM, FM over a slab of (Z, Y, X) arrays."""
    _, Y, X = fixed.shape
    for z in range(z0, z1):
        for y in range(Y):
            n, f, m, ff, mm, fm = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for x in range(X):
                w = np.float64(weight[z, y, x])
                a = np.float64(fixed[z, y, x])
                b = np.float64(warped[z, y, x])
                n += w
                f += w * a
                m += w * b
                ff += w * a * a
                mm += w * b * b
                fm += w * a * b
            sums[slab, 0] += n
            sums[slab, 1] += f
            sums[slab, 2] += m
            sums[slab, 3] += ff
            sums[slab, 4] += mm
            sums[slab, 5] += fm


@kernel
def combine(z0, z1, slab, fixed, warped, weight, a, b, c, out):
    """out = weight * (a F + b M + c)."""
    _, Y, X = fixed.shape
    T = out.dtype.type
    ka, kb, kc = T(a), T(b), T(c)
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                out[z, y, x] = weight[z, y, x] * (ka * fixed[z, y, x] + kb * warped[z, y, x] + kc)


@kernel
def charbonnier(z0, z1, slab, fixed, warped, weight, delta, sums):
    """sums[slab] += sums of w and of w (sqrt(r^2 + delta^2) - delta), r = M - F, over a slab."""
    _, Y, X = fixed.shape
    for z in range(z0, z1):
        for y in range(Y):
            n, s = 0.0, 0.0
            for x in range(X):
                w = np.float64(weight[z, y, x])
                r = np.float64(warped[z, y, x]) - np.float64(fixed[z, y, x])
                n += w
                s += w * (r * r / (np.sqrt(r * r + delta * delta) + delta))
            sums[slab, 0] += n
            sums[slab, 1] += s


@kernel
def charbonnier_adjoint(z0, z1, slab, fixed, warped, weight, delta, scale, out):
    """out = scale * weight * r / sqrt(r^2 + delta^2)."""
    _, Y, X = fixed.shape
    T = out.dtype.type
    k, dd = T(scale), T(delta * delta)
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                r = warped[z, y, x] - fixed[z, y, x]
                out[z, y, x] = k * weight[z, y, x] * r / np.sqrt(r * r + dd)


@kernel
def charbonnier_curvature(z0, z1, slab, fixed, warped, weight, delta, scale, out):
    """out = scale * weight / sqrt(r^2 + delta^2)."""
    _, Y, X = fixed.shape
    T = out.dtype.type
    k, dd = T(scale), T(delta * delta)
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                r = warped[z, y, x] - fixed[z, y, x]
                out[z, y, x] = k * weight[z, y, x] / np.sqrt(r * r + dd)


@kernel
def residuals(z0, z1, slab, fixed, warped, weight, scale, out, sums):
    """out = scale * weight * (M - F), (C, Z, Y, X);  sums[slab] += sum of weight (M - F)^2."""
    C, _, Y, X = fixed.shape
    T = out.dtype.type
    k = T(scale)
    row = np.empty(X, out.dtype)
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                row[x] = 0
            for c in range(C):
                for x in range(X):
                    r = warped[c, z, y, x] - fixed[c, z, y, x]
                    t = weight[z, y, x] * r
                    out[c, z, y, x] = k * t
                    row[x] += t * r
            # a loop that also stores is compiled twice, and which version adds up depends on where the arrays lie
            s = 0.0
            for x in range(X):
                s += np.float64(row[x])
            sums[slab, 0] += s


@kernel
def dot(k0, k1, slab, a, b, sums):
    """sums[slab] += inner product of two flat arrays."""
    a, b, s = a[k0:k1], b[k0:k1], 0.0  # an index that does not begin at 0 keeps a loop from using vector registers
    for i in range(a.size):
        s += np.float64(a[i]) * np.float64(b[i])
    sums[slab, 0] += s


@kernel
def total(k0, k1, slab, a, sums):
    """sums[slab] += sum of a flat array."""
    a, s = a[k0:k1], 0.0
    for i in range(a.size):
        s += np.float64(a[i])
    sums[slab, 0] += s


@kernel
def apart(k0, k1, slab, a, b, sums):
    """sums[slab] += sum of |a - b| of two flat arrays."""
    a, b, s = a[k0:k1], b[k0:k1], 0.0
    for i in range(a.size):
        s += np.float64(abs(a[i] - b[i]))
    sums[slab, 0] += s


@kernel
def add_scaled(k0, k1, slab, a, s, b, out):
    """out = a + s b, flat arrays."""
    f = out.dtype.type(s)
    a, b, out = a[k0:k1], b[k0:k1], out[k0:k1]
    for i in range(a.size):
        out[i] = a[i] + f * b[i]


@kernel
def largest(z0, z1, slab, field, scale, peak):
    """peak[slab, 0] = largest squared length of scale . u over a slab of a (d, Z, Y, X) field; scale (3, 3)."""
    d, _, Y, X = field.shape
    last = d - 1
    most = 0.0
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                u, v, w = field[0, z, y, x], field[1, z, y, x], field[last, z, y, x]
                a = scale[0, 0] * u + scale[0, 1] * v + scale[0, 2] * w
                b = scale[1, 0] * u + scale[1, 1] * v + scale[1, 2] * w
                c = scale[2, 0] * u + scale[2, 1] * v + scale[2, 2] * w
                most = max(most, np.float64(a * a + b * b + c * c))
    peak[slab, 0] = most

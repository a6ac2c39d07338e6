"""Energies of the slopes of a deformation, point by point, and what they pull.

All take slopes (3, d, Z, Y, X), of which [a, k] is the derivative of component k along array axis a in 1/mm (of the
last d axes), where (Z, Y, X) or empty, and push (3, 3), with which d u_k / d x_l = sum_a push[a, l] slopes[a, k]. They
add where * f to sums[slab], and leave scale * where * d f / d slopes[a, k] in place of the slopes.
"""

import numpy as np

from . import kernel, part


@part
def world_row(slopes, push, z, y, rows):
    """rows [k, l] = d u_k / d x_l in row y of plane z, (3, 3, X), in float64; what is not there stays 0."""
    d = slopes.shape[1]
    X = slopes.shape[4]
    for k in range(d):
        for l in range(d):
            for x in range(X):
                rows[k, l, x] = 0
            for a in range(3 - d, 3):
                p = push[a, l]
                for x in range(X):
                    rows[k, l, x] += p * np.float64(slopes[a, k, z, y, x])


@part
def back_row(force, push, where, scale, z, y, slopes):
    """slopes [a, k] = scale * where * sum_l push[a, l] force[k, l] in row y of plane z."""
    d = slopes.shape[1]
    X = slopes.shape[4]
    T = slopes.dtype.type
    for k in range(d):
        for a in range(3 - d, 3):
            for x in range(X):
                s = 0.0
                for l in range(d):
                    s += push[a, l] * force[k, l, x]
                slopes[a, k, z, y, x] = T(s * scale * where[x])


@part
def where_row(where, z, y, out):
    """The weights of row y of plane z; 1 without any."""
    for x in range(len(out)):
        out[x] = where[z, y, x] if where.size > 0 else 1.0


@kernel
def quadratic(z0, z1, slab, slopes, where, push, whole, shear, dilation, scale, sums):
    """f = whole / 2 |G|^2 + shear / 4 |G + G^T|^2 + dilation / 2 (tr G)^2, G the gradient of u in world space."""
    _, d, _, Y, X = slopes.shape
    g, force = np.zeros((3, 3, X)), np.zeros((3, 3, X))
    value, w, trace = np.empty(X), np.empty(X), np.empty(X)
    total = 0.0
    for z in range(z0, z1):
        for y in range(Y):
            world_row(slopes, push, z, y, g)
            where_row(where, z, y, w)
            for x in range(X):
                trace[x] = g[0, 0, x] + g[1, 1, x] + g[2, 2, x]
                value[x] = dilation / 2 * trace[x] * trace[x]
            for k in range(d):
                for l in range(d):
                    for x in range(X):
                        a, b = g[k, l, x], g[k, l, x] + g[l, k, x]
                        value[x] += whole / 2 * a * a + shear / 4 * b * b
                        force[k, l, x] = whole * a + shear * b
                for x in range(X):
                    force[k, k, x] += dilation * trace[x]
            back_row(force, push, w, scale, z, y, slopes)
            for x in range(X):
                total += w[x] * value[x]
    sums[slab, 0] += total


@kernel
def variation(z0, z1, slab, slopes, where, push, weight, smoothing, scale, sums):
    """f = weight (sqrt(|G|^2 + smoothing^2) - smoothing), G the gradient of u in world space."""
    _, d, _, Y, X = slopes.shape
    g = np.zeros((3, 3, X))
    value, w, size = np.empty(X), np.empty(X), np.empty(X)
    total = 0.0
    for z in range(z0, z1):
        for y in range(Y):
            world_row(slopes, push, z, y, g)
            where_row(where, z, y, w)
            for x in range(X):
                size[x] = smoothing * smoothing
            for k in range(d):
                for l in range(d):
                    for x in range(X):
                        size[x] += g[k, l, x] * g[k, l, x]
            for x in range(X):
                size[x] = np.sqrt(size[x])
                value[x] = weight * (size[x] - smoothing)
            for k in range(d):
                for l in range(d):
                    for x in range(X):
                        g[k, l, x] *= weight / size[x]
            back_row(g, push, w, scale, z, y, slopes)
            for x in range(X):
                total += w[x] * value[x]
    sums[slab, 0] += total


@kernel
def volume_change(z0, z1, slab, slopes, where, push, weight, scale, sums):
    """f = weight / 2 log(det(1 + G))^2, infinite where the determinant is not above 0 and `where` is not 0."""
    _, d, _, Y, X = slopes.shape
    g, force = np.zeros((3, 3, X)), np.zeros((3, 3, X))
    value, w = np.empty(X), np.empty(X)
    total = 0.0
    for z in range(z0, z1):
        for y in range(Y):
            world_row(slopes, push, z, y, g)
            where_row(where, z, y, w)
            for x in range(X):
                a, b, c = 1 + g[0, 0, x], g[0, 1, x], g[0, 2, x]
                p, q, r = g[1, 0, x], 1 + g[1, 1, x], g[1, 2, x]
                s, t, v = g[2, 0, x], g[2, 1, x], 1 + g[2, 2, x]
                f00, f01, f02 = q * v - r * t, r * s - p * v, p * t - q * s
                J = a * f00 + b * f01 + c * f02
                if J > 0:
                    change = np.log(J)
                    value[x] = weight / 2 * change * change
                    m = weight * change / J
                else:
                    value[x], m = (np.inf if w[x] > 0 else 0.0), 0.0
                force[0, 0, x], force[0, 1, x], force[0, 2, x] = m * f00, m * f01, m * f02
                force[1, 0, x], force[1, 1, x], force[1, 2, x] = m * (c * t - b * v), m * (a * v - c * s), m * (b * s
                                                                                                                - a * t)
                force[2, 0, x], force[2, 1, x], force[2, 2, x] = m * (b * r - c * q), m * (c * p - a * r), m * (a * q
                                                                                                                - b * p)
            back_row(force, push, w, scale, z, y, slopes)
            for x in range(X):
                total += w[x] * value[x] if w[x] > 0 else 0.0
    sums[slab, 0] += total


@kernel
def rigidity(z0, z1, slab, slopes, where, push, metric, weight, scale, sums):
    """f = weight / 4 |F^T metric F - 1|^2 with F = 1 + G: 0 for rotations of A F, where A^T A = metric (3, 3)."""
    _, d, _, Y, X = slopes.shape
    g, force = np.zeros((3, 3, X)), np.zeros((3, 3, X))
    value, w = np.empty(X), np.empty(X)
    m, c = np.zeros((3, 3)), np.zeros((3, 3))
    total = 0.0
    for z in range(z0, z1):
        for y in range(Y):
            where_row(where, z, y, w)
            world_row(slopes, push, z, y, g)
            for x in range(X):
                value[x] = 0.0
                if w[x] == 0:
                    for k in range(d):
                        for l in range(d):
                            force[k, l, x] = 0.0
                    continue
                for k in range(d):
                    g[k, k, x] += 1.0
                for k in range(d):
                    for l in range(d):
                        m[k, l] = 0.0
                        for i in range(d):
                            m[k, l] += metric[k, i] * g[i, l, x]
                for k in range(d):
                    for l in range(d):
                        c[k, l] = -1.0 if k == l else 0.0
                        for i in range(d):
                            c[k, l] += g[i, k, x] * m[i, l]
                        value[x] += weight / 4 * c[k, l] * c[k, l]
                for k in range(d):
                    for l in range(d):
                        force[k, l, x] = 0.0
                        for i in range(d):
                            force[k, l, x] += weight * m[k, i] * c[i, l]
            back_row(force, push, w, scale, z, y, slopes)
            for x in range(X):
                total += w[x] * value[x]
    sums[slab, 0] += total

"""Paths along a stationary velocity, integrated at every sample by itself (Runge and Kutta, fourth order).

A path begins at p(i) = matrix (i, 1) + lead f(i), in indices of the velocity's grid, and follows d u / dt = v at
p(i) + push u for unit time, v (mm) interpolated linearly and kept at its border value outside. `matrix` (3, 4), `lead`
and `push` (3, 3) are as in `sample.py`. Each row takes as many steps as its fastest start needs: a path that begins
slowly stays slow, since |v| grows along it at most by the exponent of its largest slope.
"""

import numpy as np

from . import inline, kernel


@inline
def speed(flat, shape, push, p, u, h, v, at, f):
    """v <- the velocity at p + push (u + h v), for a row; `at` and `f` hold its cells and fractions."""
    Z, Y, X = shape
    d, n = v.shape
    T = v.dtype.type
    last = d - 1
    mz, my, mx = T(Z - 1), T(Y - 1), T(X - 1)
    lz, ly, lx = max(Z - 2, 0), max(Y - 2, 0), max(X - 2, 0)
    sz, sy, sx = (Y * X if Z > 1 else 0), (X if Y > 1 else 0), (1 if X > 1 else 0)
    a0, a1, a2 = T(push[0, 0]), T(push[0, 1]), T(push[0, 2])
    b0, b1, b2 = T(push[1, 0]), T(push[1, 1]), T(push[1, 2])
    c0, c1, c2 = T(push[2, 0]), T(push[2, 1]), T(push[2, 2])
    for x in range(n):
        r, s, t = u[0, x] + h * v[0, x], u[1, x] + h * v[1, x], u[last, x] + h * v[last, x]
        pz = min(max(p[0, x] + a0 * r + a1 * s + a2 * t, T(0)), mz)
        py = min(max(p[1, x] + b0 * r + b1 * s + b2 * t, T(0)), my)
        px = min(max(p[2, x] + c0 * r + c1 * s + c2 * t, T(0)), mx)
        iz, iy, ix = min(np.int32(pz), lz), min(np.int32(py), ly), min(np.int32(px), lx)
        f[0, x], f[1, x], f[2, x] = pz - T(iz), py - T(iy), px - T(ix)
        at[x] = (iz * Y + iy) * X + ix
    for k in range(d):
        for x in range(n):
            i = at[x]
            a, b = flat[k, i], flat[k, i + sy]
            e, g = flat[k, i + sz], flat[k, i + sz + sy]
            a += f[2, x] * (flat[k, i + sx] - a)
            b += f[2, x] * (flat[k, i + sy + sx] - b)
            e += f[2, x] * (flat[k, i + sz + sx] - e)
            g += f[2, x] * (flat[k, i + sz + sy + sx] - g)
            a += f[1, x] * (b - a)
            e += f[1, x] * (g - e)
            v[k, x] = a + f[0, x] * (e - a)


@kernel
def flow(z0, z1, slab, velocity, matrix, lead, field, push, pace, out):
    """out = u at the end of each path, mm; `pace` is in steps per sample of the velocity's grid.

    `field` f is (d, *shape of the samples) in mm, or (d, 0, 0, 0) for none.
    """
    d, Z, Y, X = velocity.shape
    _, _, H, W = out.shape
    T = out.dtype.type
    flat, shape, last = velocity.reshape(d, Z * Y * X), (Z, Y, X), d - 1
    led = field.shape[1] > 0
    at, f, p = np.empty(W, np.int64), np.empty((3, W), out.dtype), np.empty((3, W), out.dtype)
    u, v, k = np.empty((d, W), out.dtype), np.empty((d, W), out.dtype), np.empty((d, W), out.dtype)
    for z in range(z0, z1):
        for y in range(H):
            for a in range(3):
                begin = matrix[a, 0] * z + matrix[a, 1] * y + matrix[a, 3]
                for x in range(W):
                    p[a, x] = T(begin + matrix[a, 2] * x)
                if led:
                    for x in range(W):
                        p[a, x] += (T(lead[a, 0]) * field[0, z, y, x] + T(lead[a, 1]) * field[1, z, y, x]
                                    + T(lead[a, 2]) * field[last, z, y, x])
            u[:] = 0
            v[:] = 0
            speed(flat, shape, push, p, u, T(0), v, at, f)
            most = T(0)
            for x in range(W):
                square = T(0)
                for a in range(3):
                    s = T(push[a, 0]) * v[0, x] + T(push[a, 1]) * v[1, x] + T(push[a, 2]) * v[last, x]
                    square += s * s
                most = max(most, square)
            steps = 1 + np.int64(np.sqrt(most) * T(pace))
            h = T(1) / T(steps)
            for step in range(steps):
                if step > 0:
                    speed(flat, shape, push, p, u, T(0), v, at, f)
                k[:] = v
                for _half in range(2):
                    speed(flat, shape, push, p, u, T(0.5) * h, v, at, f)
                    for a in range(d):
                        for x in range(W):
                            k[a, x] += 2 * v[a, x]
                speed(flat, shape, push, p, u, h, v, at, f)
                for a in range(d):
                    for x in range(W):
                        u[a, x] += h / T(6) * (k[a, x] + v[a, x])
            for a in range(d):
                for x in range(W):
                    out[a, z, y, x] = u[a, x]

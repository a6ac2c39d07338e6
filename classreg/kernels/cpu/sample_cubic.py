"""Cubic B-spline interpolation of prefiltered coefficients: warp, and force with the exact derivative of the spline.

Same positions, clamping and weights as in `sample.py`. `image` holds coefficients with one more sample, mirrored, at
either end of each axis that has several, so that all 64 taps of a position are there; along an axis of one sample they
all fall on it. Rows of four taps are added up in one vector register, weighted by the other two axes.
"""

import numpy as np

from . import inline, kernel
from .sample import places, settled, within


@inline
def weights(f, value):
    """Weights of the four taps at fractions f (X,) into value (4, X)."""
    T = f.dtype.type
    sixth = T(1 / 6)
    for x in range(len(f)):
        t = f[x]
        s = T(1) - t
        value[0, x], value[3, x] = sixth * s * s * s, sixth * t * t * t
        value[1, x] = sixth * (T(4) + T(3) * t * t * (t - T(2)))
        value[2, x] = sixth * (T(4) + T(3) * s * s * (s - T(2)))


@inline
def slopes(f, slope):
    """Derivatives of the weights."""
    T = f.dtype.type
    half = T(0.5)
    for x in range(len(f)):
        t = f[x]
        s = T(1) - t
        slope[0, x], slope[3, x] = -half * s * s, half * t * t
        slope[1, x], slope[2, x] = half * t * (T(3) * t - T(4)), -half * s * (T(3) * s - T(4))


@kernel
def warp(z0, z1, slab, image, matrix, push, field, out, weight):
    """As `sample.warp`, `image` holding spline coefficients."""
    C, D, H, W = image.shape
    _, Z, Y, X = out.shape
    T = out.dtype.type
    nz, ny, nx = max(D - 2, 1), max(H - 2, 1), max(W - 2, 1)
    sz, sy, sx = np.uint64(H * W if D > 1 else 0), np.uint64(W if H > 1 else 0), np.uint64(1 if W > 1 else 0)
    kz, ky, kx = T(D > 1), T(H > 1), T(W > 1)
    tz, ty, tx = T(nz - 1), T(ny - 1), T(nx - 1)
    lz, ly, lx = np.int32(max(nz - 2, 0)), np.int32(max(ny - 2, 0)), np.int32(max(nx - 2, 0))
    flat, two, three = image.reshape(C, D * H * W), sx + sx, sx + sx + sx
    at = np.empty(X, np.uint64)
    pz, py, px = np.empty(X, out.dtype), np.empty(X, out.dtype), np.empty(X, out.dtype)
    vz, vy, vx = np.empty((4, X), out.dtype), np.empty((4, X), out.dtype), np.empty((4, X), out.dtype)
    for z in range(z0, z1):
        for y in range(Y):
            places(matrix, push, field, z, y, np.uint64(0), X, pz, py, px)
            for x in range(X):
                iz, pz[x], gz = within(pz[x], tz, lz)
                iy, py[x], gy = within(py[x], ty, ly)
                ix, px[x], gx = within(px[x], tx, lx)
                weight[z, y, x] = (max(T(0), T(1) - kz * abs(gz)) * max(T(0), T(1) - ky * abs(gy))
                                   * max(T(0), T(1) - kx * abs(gx)))
                at[x] = np.uint64((np.int64(iz) * H + iy) * W + ix)
            weights(pz, vz)
            weights(py, vy)
            weights(px, vx)
            for c in range(C):
                k = np.uint64(c)
                for x in range(X):
                    a0, a1, a2, a3 = T(0), T(0), T(0), T(0)
                    plane = at[x]
                    for i in range(4):
                        o = plane
                        for j in range(4):
                            w = vz[i, x] * vy[j, x]
                            a0 += w * flat[k, o]
                            a1 += w * flat[k, o + sx]
                            a2 += w * flat[k, o + two]
                            a3 += w * flat[k, o + three]
                            o += sy
                        plane += sz
                    out[c, z, y, x] = vx[0, x] * a0 + vx[1, x] * a1 + vx[2, x] * a2 + vx[3, x] * a3


@kernel
def force(z0, z1, slab, image, matrix, push, field, adjoint, out):
    """As `sample.force`, `image` holding spline coefficients."""
    C, D, H, W = image.shape
    d, Z, Y, X = out.shape
    T = out.dtype.type
    nz, ny, nx = max(D - 2, 1), max(H - 2, 1), max(W - 2, 1)
    sz, sy, sx = np.uint64(H * W if D > 1 else 0), np.uint64(W if H > 1 else 0), np.uint64(1 if W > 1 else 0)
    oz, oy, ox = T(D > 1), T(H > 1), T(W > 1)
    tz, ty, tx = T(nz - 1), T(ny - 1), T(nx - 1)
    lz, ly, lx = np.int32(max(nz - 2, 0)), np.int32(max(ny - 2, 0)), np.int32(max(nx - 2, 0))
    flat, two, three = image.reshape(C, D * H * W), sx + sx, sx + sx + sx
    at = np.empty(X, np.uint64)
    pz, py, px = np.empty(X, out.dtype), np.empty(X, out.dtype), np.empty(X, out.dtype)
    kz, ky, kx = np.empty(X, out.dtype), np.empty(X, out.dtype), np.empty(X, out.dtype)
    gz, gy, gx = np.empty(X, out.dtype), np.empty(X, out.dtype), np.empty(X, out.dtype)
    vz, vy, vx = np.empty((4, X), out.dtype), np.empty((4, X), out.dtype), np.empty((4, X), out.dtype)
    uz, uy, ux = np.empty((4, X), out.dtype), np.empty((4, X), out.dtype), np.empty((4, X), out.dtype)
    for z in range(z0, z1):
        for y in range(Y):
            places(matrix, push, field, z, y, np.uint64(0), X, pz, py, px)
            for x in range(X):
                iz, iy = settled(pz, x, tz, lz, oz, kz), settled(py, x, ty, ly, oy, ky)
                ix = settled(px, x, tx, lx, ox, kx)
                at[x] = np.uint64((np.int64(iz) * H + iy) * W + ix)
                gz[x], gy[x], gx[x] = T(0), T(0), T(0)
            weights(pz, vz)
            weights(py, vy)
            weights(px, vx)
            slopes(pz, uz)
            slopes(py, uy)
            slopes(px, ux)
            for c in range(C):
                k = np.uint64(c)
                for x in range(X):
                    a0, a1, a2, a3 = T(0), T(0), T(0), T(0)
                    b0, b1, b2, b3 = T(0), T(0), T(0), T(0)
                    e0, e1, e2, e3 = T(0), T(0), T(0), T(0)
                    plane = at[x]
                    for i in range(4):
                        p0, p1, p2, p3 = T(0), T(0), T(0), T(0)
                        q0, q1, q2, q3 = T(0), T(0), T(0), T(0)
                        o = plane
                        for j in range(4):
                            f0, f1 = flat[k, o], flat[k, o + sx]
                            f2, f3 = flat[k, o + two], flat[k, o + three]
                            v, u = vy[j, x], uy[j, x]
                            p0, p1, p2, p3 = p0 + v * f0, p1 + v * f1, p2 + v * f2, p3 + v * f3
                            q0, q1, q2, q3 = q0 + u * f0, q1 + u * f1, q2 + u * f2, q3 + u * f3
                            o += sy
                        v, u = vz[i, x], uz[i, x]
                        a0, a1, a2, a3 = a0 + v * p0, a1 + v * p1, a2 + v * p2, a3 + v * p3
                        b0, b1, b2, b3 = b0 + v * q0, b1 + v * q1, b2 + v * q2, b3 + v * q3
                        e0, e1, e2, e3 = e0 + u * p0, e1 + u * p1, e2 + u * p2, e3 + u * p3
                        plane += sz
                    w = adjoint[c, z, y, x]
                    gx[x] += w * (ux[0, x] * a0 + ux[1, x] * a1 + ux[2, x] * a2 + ux[3, x] * a3)
                    gy[x] += w * (vx[0, x] * b0 + vx[1, x] * b1 + vx[2, x] * b2 + vx[3, x] * b3)
                    gz[x] += w * (vx[0, x] * e0 + vx[1, x] * e1 + vx[2, x] * e2 + vx[3, x] * e3)
            for x in range(X):
                gz[x], gy[x], gx[x] = kz[x] * gz[x], ky[x] * gy[x], kx[x] * gx[x]
            for j in range(d):
                a, b, e = T(push[0, j]), T(push[1, j]), T(push[2, j])
                for x in range(X):
                    out[j, z, y, x] = a * gz[x] + b * gy[x] + e * gx[x]

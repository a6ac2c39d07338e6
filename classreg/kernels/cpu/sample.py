"""Linear interpolation: warp, force (its derivative times an adjoint), and the sums a linear model needs.

A position in the moving image, in indices, is  p(i) = matrix . (i, 1) + push . u(i)  with `matrix` (3, 4), `push`
(3, 3) taking mm to indices, and `field` u of shape (d, Z, Y, X), or (d, 0, 0, 0) for none; with d = 2 the third column
of `push` is zero. Coordinates are clamped; the weight is 1 inside and fades to 0 over the first voxel outside.
"""

import numpy as np

from . import kernel, part
from .fetching import LARGE, STRIDE, fetch

#: rows of samples that are placed, and fetched, before the first of them is taken
ROWS = 4


@part
def cell(p, n):
    """Lower index, fraction, step to the upper index, weight and slope factor (0 where clamped) of position p."""
    T = type(p)
    if n == 1:
        return 0, T(0), 0, T(1), T(0)
    top = T(n - 1)
    q = min(max(p, T(0)), top)
    out = abs(p - q)
    i = min(int(q), n - 2)
    return i, q - T(i), 1, max(T(0), T(1) - out), T(1) if out == T(0) else T(0)


@part
def places(matrix, push, field, z, y, s, X, pz, py, px):
    """Positions of a row of X samples, into pz, py, px from number s on."""
    T = pz.dtype.type
    last = field.shape[0] - 1
    bz = matrix[0, 0] * z + matrix[0, 1] * y + matrix[0, 3]
    by = matrix[1, 0] * z + matrix[1, 1] * y + matrix[1, 3]
    bx = matrix[2, 0] * z + matrix[2, 1] * y + matrix[2, 3]
    mz, my, mx = matrix[0, 2], matrix[1, 2], matrix[2, 2]
    for x in range(np.uint64(X)):
        pz[s + x], py[s + x], px[s + x] = T(bz + mz * x), T(by + my * x), T(bx + mx * x)
    if field.shape[1] > 0:
        a0, a1, a2 = T(push[0, 0]), T(push[0, 1]), T(push[0, 2])
        b0, b1, b2 = T(push[1, 0]), T(push[1, 1]), T(push[1, 2])
        c0, c1, c2 = T(push[2, 0]), T(push[2, 1]), T(push[2, 2])
        for x in range(np.uint64(X)):
            u, v, w = field[0, z, y, x], field[1, z, y, x], field[last, z, y, x]
            pz[s + x] += a0 * u + a1 * v + a2 * w
            py[s + x] += b0 * u + b1 * v + b2 * w
            px[s + x] += c0 * u + c1 * v + c2 * w


@part
def within(p, top, last):
    """Of a position along an axis: the lower index of its cell, the fraction above it, and how far outside it is."""
    T = type(p)
    q = min(max(p, T(0)), top)
    i = min(max(np.int32(q), 0), last)
    return i, q - T(i), p - q


@part
def settled(p, x, top, last, free, k):
    """`within` of position p[x], which becomes the fraction; k[x] is `free`, or 0 where the position was clamped."""
    i, p[x], beyond = within(p[x], top, last)
    k[x] = free * type(free)(beyond == 0)
    return i


@part
def ahead(image, at, s):
    """Fetch what a row of cells, from number s on, takes from all channels of a large image."""
    C, D, H, W = image.shape
    if C * D * H * W <= LARGE:
        return
    flat, size = image.reshape(C * D * H * W), np.uint64(D * H * W)
    sz, sy = np.uint64(H * W if D > 1 else 0), np.uint64(W if H > 1 else 0)
    for c in range(C):
        first = np.uint64(c) * size
        for x in range(np.uint64(0), np.uint64(len(at) // ROWS), np.uint64(STRIDE)):
            i = first + at[s + x]
            fetch(flat, i)
            fetch(flat, i + sy)
            fetch(flat, i + sz)
            fetch(flat, i + sz + sy)


@kernel
def warp(z0, z1, slab, image, matrix, push, field, out, weight):
    """out[c] = image[c] at p, weight = how far inside p is.

    Rows at a time, so that positions fill vector registers, and some at once, so that what they need is fetched by the
    time it is taken. Cells are unsigned: an index that might be negative costs as much as the load.
    """
    C, D, H, W = image.shape
    _, Z, Y, X = out.shape
    T = out.dtype.type
    sz, sy, sx = np.uint64(H * W if D > 1 else 0), np.uint64(W if H > 1 else 0), np.uint64(1 if W > 1 else 0)
    oz, oy, ox = T(0) if D == 1 else T(1), T(0) if H == 1 else T(1), T(0) if W == 1 else T(1)
    tz, ty, tx = T(D - 1), T(H - 1), T(W - 1)
    lz, ly, lx = np.int32(max(D - 2, 0)), np.int32(max(H - 2, 0)), np.int32(max(W - 2, 0))
    flat = image.reshape(C, D * H * W)
    n, width = ROWS * X, np.uint64(X)
    at = np.empty(n, np.uint64)
    pz, py, px = np.empty(n, out.dtype), np.empty(n, out.dtype), np.empty(n, out.dtype)
    for z in range(z0, z1):
        for begin in range(0, Y, ROWS):
            rows = min(ROWS, Y - begin)
            for r in range(rows):
                y, s = begin + r, np.uint64(r * X)
                places(matrix, push, field, z, y, s, X, pz, py, px)
                for v in range(width):
                    x = s + v
                    iz, pz[x], gz = within(pz[x], tz, lz)
                    iy, py[x], gy = within(py[x], ty, ly)
                    ix, px[x], gx = within(px[x], tx, lx)
                    weight[z, y, v] = (max(T(0), T(1) - oz * abs(gz)) * max(T(0), T(1) - oy * abs(gy))
                                       * max(T(0), T(1) - ox * abs(gx)))
                    at[x] = np.uint64((np.int64(iz) * H + iy) * W + ix)
                ahead(image, at, s)
            for c in range(C):
                k = np.uint64(c)
                for r in range(rows):
                    y, s = begin + r, np.uint64(r * X)
                    for v in range(width):
                        x = s + v
                        i, f = at[x], px[x]
                        a, b = flat[k, i], flat[k, i + sy]
                        e, g = flat[k, i + sz], flat[k, i + sz + sy]
                        a += f * (flat[k, i + sx] - a)
                        b += f * (flat[k, i + sy + sx] - b)
                        e += f * (flat[k, i + sz + sx] - e)
                        g += f * (flat[k, i + sz + sy + sx] - g)
                        a += py[x] * (b - a)
                        e += py[x] * (g - e)
                        out[c, z, y, v] = a + pz[x] * (e - a)


@part
def slope(m, iz, iy, ix, fz, fy, fx, sz, sy, sx):
    """Derivative of the trilinear interpolant along z, y, x."""
    a, b = m[iz, iy, ix], m[iz, iy, ix + sx]
    c, d = m[iz, iy + sy, ix], m[iz, iy + sy, ix + sx]
    e, f = m[iz + sz, iy, ix], m[iz + sz, iy, ix + sx]
    g, h = m[iz + sz, iy + sy, ix], m[iz + sz, iy + sy, ix + sx]
    ab, cd, ef, gh = a + fx * (b - a), c + fx * (d - c), e + fx * (f - e), g + fx * (h - g)
    gz = ef + fy * (gh - ef) - (ab + fy * (cd - ab))
    gy = (cd - ab) + fz * ((gh - ef) - (cd - ab))
    lo = (b - a) + fy * ((d - c) - (b - a))
    up = (f - e) + fy * ((h - g) - (f - e))
    return gz, gy, lo + fz * (up - lo)


@kernel
def force(z0, z1, slab, image, matrix, push, field, adjoint, out):
    """out[k] = sum over c of adjoint[c] * d image[c](p) / d u_k, in 1 / mm; rows at a time, as in `warp`."""
    C, D, H, W = image.shape
    d, Z, Y, X = out.shape
    T = out.dtype.type
    sz, sy, sx = np.uint64(H * W if D > 1 else 0), np.uint64(W if H > 1 else 0), np.uint64(1 if W > 1 else 0)
    oz, oy, ox = T(D > 1), T(H > 1), T(W > 1)
    tz, ty, tx = T(D - 1), T(H - 1), T(W - 1)
    lz, ly, lx = np.int32(max(D - 2, 0)), np.int32(max(H - 2, 0)), np.int32(max(W - 2, 0))
    flat = image.reshape(C, D * H * W)
    n, width = ROWS * X, np.uint64(X)
    at = np.empty(n, np.uint64)
    pz, py, px = np.empty(n, out.dtype), np.empty(n, out.dtype), np.empty(n, out.dtype)
    kz, ky, kx = np.empty(n, out.dtype), np.empty(n, out.dtype), np.empty(n, out.dtype)
    gz, gy, gx = np.empty(n, out.dtype), np.empty(n, out.dtype), np.empty(n, out.dtype)
    for z in range(z0, z1):
        for begin in range(0, Y, ROWS):
            rows = min(ROWS, Y - begin)
            for r in range(rows):
                y, s = begin + r, np.uint64(r * X)
                places(matrix, push, field, z, y, s, X, pz, py, px)
                for v in range(width):
                    x = s + v
                    iz, iy = settled(pz, x, tz, lz, oz, kz), settled(py, x, ty, ly, oy, ky)
                    ix = settled(px, x, tx, lx, ox, kx)
                    at[x] = np.uint64((np.int64(iz) * H + iy) * W + ix)
                    gz[x], gy[x], gx[x] = T(0), T(0), T(0)
                ahead(image, at, s)
            for r in range(rows):
                y, s = begin + r, np.uint64(r * X)
                for c in range(C):
                    k = np.uint64(c)
                    for v in range(width):
                        x = s + v
                        i, fz, fy, fx, w = at[x], pz[x], py[x], px[x], adjoint[c, z, y, v]
                        a, b = flat[k, i], flat[k, i + sy]
                        e, g = flat[k, i + sz], flat[k, i + sz + sy]
                        ax, bx = flat[k, i + sx] - a, flat[k, i + sy + sx] - b
                        ex, hx = flat[k, i + sz + sx] - e, flat[k, i + sz + sy + sx] - g
                        a, b, e, g = a + fx * ax, b + fx * bx, e + fx * ex, g + fx * hx
                        ay, ey = b - a, g - e
                        gz[x] += w * (e + fy * ey - a - fy * ay)
                        gy[x] += w * (ay + fz * (ey - ay))
                        ax, ex = ax + fy * (bx - ax), ex + fy * (hx - ex)
                        gx[x] += w * (ax + fz * (ex - ax))
                for v in range(width):
                    x = s + v
                    gz[x], gy[x], gx[x] = kz[x] * gz[x], ky[x] * gy[x], kx[x] * gx[x]
                for j in range(d):
                    a, b, e = T(push[0, j]), T(push[1, j]), T(push[2, j])
                    for v in range(width):
                        x = s + v
                        out[j, z, y, v] = a * gz[x] + b * gy[x] + e * gx[x]


@kernel
def reduce(z0, z1, slab, image, matrix, adjoint, sums):
    """sums[slab, 12 k :] += sum over voxels of adjoint[k] * (d image / d p) x (z, y, x, 1), (3, 4) row by row.

    `adjoint` is (K * C, Z, Y, X), the C channels of each of K adjoints in turn.
    """
    C, D, H, W = image.shape
    _, Z, Y, X = adjoint.shape
    K = adjoint.shape[0] // C
    T = image.dtype.type
    row = np.zeros((K, 6))
    for z in range(z0, z1):
        for y in range(Y):
            bz = matrix[0, 0] * z + matrix[0, 1] * y + matrix[0, 3]
            by = matrix[1, 0] * z + matrix[1, 1] * y + matrix[1, 3]
            bx = matrix[2, 0] * z + matrix[2, 1] * y + matrix[2, 3]
            row[:] = 0
            for x in range(X):
                iz, fz, sz, _a, kz = cell(T(bz + matrix[0, 2] * x), D)
                iy, fy, sy, _b, ky = cell(T(by + matrix[1, 2] * x), H)
                ix, fx, sx, _c, kx = cell(T(bx + matrix[2, 2] * x), W)
                for c in range(C):
                    gz, gy, gx = slope(image[c], iz, iy, ix, fz, fy, fx, sz, sy, sx)
                    for k in range(K):
                        e = adjoint[k * C + c, z, y, x]
                        tz, ty, tx = e * gz * kz, e * gy * ky, e * gx * kx
                        row[k, 0] += tz
                        row[k, 1] += ty
                        row[k, 2] += tx
                        row[k, 3] += tz * x
                        row[k, 4] += ty * x
                        row[k, 5] += tx * x
            for k in range(K):
                for a in range(3):
                    s = sums[slab, 12 * k + 4 * a:]
                    s[0] += row[k, a] * z
                    s[1] += row[k, a] * y
                    s[2] += row[k, 3 + a]
                    s[3] += row[k, a]


@kernel
def force_moments(z0, z1, slab, force, sums):
    """sums[slab, 4 a:] += sum over voxels of force[a] * (z, y, x, 1)."""
    d, _, Y, X = force.shape
    for a in range(d):
        for z in range(z0, z1):
            for y in range(Y):
                s, m = 0.0, 0.0
                for x in range(X):
                    f = np.float64(force[a, z, y, x])
                    s += f
                    m += f * x
                sums[slab, 4 * a] += s * z
                sums[slab, 4 * a + 1] += s * y
                sums[slab, 4 * a + 2] += m
                sums[slab, 4 * a + 3] += s


@kernel
def normal(z0, z1, slab, image, matrix, curvature, sums):
    """sums[slab, 12 r + s] += sum over voxels and c of curvature[c] J_r J_s, J = (d image / d p) x (z, y, x, 1).

    A curvature of one channel is that of all.
    """
    C, D, H, W = image.shape
    _, Z, Y, X = curvature.shape
    T = image.dtype.type
    row = np.zeros((6, 3))
    coordinate = np.ones(4)
    for z in range(z0, z1):
        for y in range(Y):
            bz = matrix[0, 0] * z + matrix[0, 1] * y + matrix[0, 3]
            by = matrix[1, 0] * z + matrix[1, 1] * y + matrix[1, 3]
            bx = matrix[2, 0] * z + matrix[2, 1] * y + matrix[2, 3]
            row[:] = 0
            for x in range(X):
                iz, fz, sz, _a, kz = cell(T(bz + matrix[0, 2] * x), D)
                iy, fy, sy, _b, ky = cell(T(by + matrix[1, 2] * x), H)
                ix, fx, sx, _c, kx = cell(T(bx + matrix[2, 2] * x), W)
                for c in range(C):
                    h = curvature[min(c, curvature.shape[0] - 1), z, y, x]
                    gz, gy, gx = slope(image[c], iz, iy, ix, fz, fy, fx, sz, sy, sx)
                    gz, gy, gx = gz * kz, gy * ky, gx * kx
                    products = (h * gz * gz, h * gz * gy, h * gz * gx, h * gy * gy, h * gy * gx, h * gx * gx)
                    for j in range(6):
                        row[j, 0] += products[j]
                        row[j, 1] += products[j] * x
                        row[j, 2] += products[j] * (x * x)
            coordinate[0], coordinate[1] = z, y
            j = 0
            for a in range(3):
                for b in range(a, 3):
                    for m in range(4):
                        for n in range(4):
                            if m == 2 and n == 2:
                                v = row[j, 2]
                            elif m == 2:
                                v = row[j, 1] * coordinate[n]
                            elif n == 2:
                                v = row[j, 1] * coordinate[m]
                            else:
                                v = row[j, 0] * coordinate[m] * coordinate[n]
                            sums[slab, 12 * (4 * a + m) + 4 * b + n] += v
                            if a != b:
                                sums[slab, 12 * (4 * b + n) + 4 * a + m] += v
                    j += 1

"""Dense fields: gradient of the warped image on its own grid, a preconditioned step, composition, squaring backwards.

Rows are treated whole in buffers of the thread: positions and differences there fill vector registers, and only the
gathers stay scalar. `push` and `to_world` are (3, 3) as in `sample.py`; with d = 2 the last component is not there.
"""

import numpy as np

from . import inline, kernel


@kernel
def stencil(z0, z1, slab, warped, adjoint, curvature, to_world, out, sums):
    """out[k] = sum over c of adjoint[c] * d warped[c] / d x_k, in 1 / mm, by central differences, one-sided at borders.

    With curvature (C or 1, Z, Y, X) instead of an empty one, out has one more channel, the diagonal of the Gauss-Newton
    matrix up to its direction:  out[d] = sum over c of curvature[c] * |d warped[c] / d x|^2,  in 1 / mm^2, and
    sums[slab] += the sums of out[d] and of its square. `to_world` takes a gradient per index to one per mm.
    """
    C, Z, Y, X = warped.shape
    T = out.dtype.type
    curved = curvature.shape[1] > 0
    d = out.shape[0] - 1 if curved else out.shape[0]
    half = T(0.5)
    each = curvature.shape[0] - 1
    row = np.empty(X + 2, out.dtype)
    left, middle, right = row[0:], row[1:], row[2:]  # to assign a slice takes seconds to compile
    gz, gy, gx, h = np.empty(X, out.dtype), np.empty(X, out.dtype), np.empty(X, out.dtype), np.empty(X, out.dtype)
    total, square = 0.0, 0.0
    for z in range(z0, z1):
        za, zb = max(z - 1, 0), min(z + 1, Z - 1)
        kz = T(1.0 / max(zb - za, 1))
        for y in range(Y):
            ya, yb = max(y - 1, 0), min(y + 1, Y - 1)
            ky = T(1.0 / max(yb - ya, 1))
            for c in range(C):
                for x in range(X):
                    gz[x] = kz * (warped[c, zb, y, x] - warped[c, za, y, x])
                    gy[x] = ky * (warped[c, z, yb, x] - warped[c, z, ya, x])
                    middle[x] = warped[c, z, y, x]
                row[0], row[X + 1] = row[1], row[X]
                for x in range(X):
                    gx[x] = half * (right[x] - left[x])
                if X > 1:
                    gx[0] *= 2
                    gx[X - 1] *= 2
                for x in range(X):
                    h[x] = 0
                for k in range(d):
                    az, ay, ax = T(to_world[k, 0]), T(to_world[k, 1]), T(to_world[k, 2])
                    if c == 0:
                        for x in range(X):
                            t = az * gz[x] + ay * gy[x] + ax * gx[x]
                            h[x] += t * t
                            out[k, z, y, x] = t * adjoint[c, z, y, x]
                    else:
                        for x in range(X):
                            t = az * gz[x] + ay * gy[x] + ax * gx[x]
                            h[x] += t * t
                            out[k, z, y, x] += t * adjoint[c, z, y, x]
                if curved:
                    if c == 0:
                        for x in range(X):
                            out[d, z, y, x] = h[x] * curvature[0, z, y, x]
                    else:
                        k = min(c, each)
                        for x in range(X):
                            out[d, z, y, x] += h[x] * curvature[k, z, y, x]
            if curved:
                for x in range(X):
                    v = np.float64(out[d, z, y, x])
                    total += v
                    square += v * v
    sums[slab, 0] += total
    sums[slab, 1] += square


@kernel
def newton(z0, z1, slab, force, diagonal, damping, longest, out):
    """out = -F / (H + damping), shortened to stay below `longest`; force F (d, Z, Y, X), diagonal H (Z, Y, X).

    A step s becomes s / sqrt(1 + |s|^2 / longest^2), which keeps a smooth field smooth.
    """
    d, _, Y, X = force.shape
    T = out.dtype.type
    last = d - 1
    floor, bound = T(damping), T(1.0 / (longest * longest))
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                k = T(-1) / (diagonal[z, y, x] + floor)
                u, v = k * force[0, z, y, x], k * force[1, z, y, x]
                w = k * force[last, z, y, x] if d == 3 else T(0)
                k /= np.sqrt(T(1) + bound * (u * u + v * v + w * w))
                out[0, z, y, x] = k * force[0, z, y, x]
                out[1, z, y, x] = k * force[1, z, y, x]
                if d == 3:
                    out[last, z, y, x] = k * force[last, z, y, x]


@kernel
def compose(z0, z1, slab, field, step, push, out):
    """out = step + field o (id + step): displacement of the composition, linear interpolation, clamped.

    `push` (3, 3) takes mm to indices of `field`'s grid, on which `step` and `out` live too.
    """
    d, Z, Y, X = field.shape
    T = out.dtype.type
    last = d - 1
    a0, a1, a2 = T(push[0, 0]), T(push[0, 1]), T(push[0, 2])
    b0, b1, b2 = T(push[1, 0]), T(push[1, 1]), T(push[1, 2])
    c0, c1, c2 = T(push[2, 0]), T(push[2, 1]), T(push[2, 2])
    mz, my, mx = T(Z - 1), T(Y - 1), T(X - 1)
    lz, ly, lx = np.int32(max(Z - 2, 0)), np.int32(max(Y - 2, 0)), np.int32(max(X - 2, 0))
    sz, sy, sx = np.uint64(Y * X if Z > 1 else 0), np.uint64(X if Y > 1 else 0), np.uint64(1 if X > 1 else 0)
    flat = field.reshape(d, Z * Y * X)
    at = np.empty(X, np.uint64)
    fz, fy, fx = np.empty(X, out.dtype), np.empty(X, out.dtype), np.empty(X, out.dtype)
    for z in range(z0, z1):
        for y in range(Y):
            for x in range(X):
                u, v, w = step[0, z, y, x], step[1, z, y, x], step[last, z, y, x]
                pz = min(max(T(z) + a0 * u + a1 * v + a2 * w, T(0)), mz)
                py = min(max(T(y) + b0 * u + b1 * v + b2 * w, T(0)), my)
                px = min(max(T(x) + c0 * u + c1 * v + c2 * w, T(0)), mx)
                iz, iy, ix = min(max(np.int32(pz), 0), lz), min(max(np.int32(py), 0), ly), min(max(np.int32(px), 0), lx)
                fz[x], fy[x], fx[x] = pz - T(iz), py - T(iy), px - T(ix)
                at[x] = np.uint64((np.int64(iz) * Y + iy) * X + ix)
            for c in range(d):
                k = np.uint64(c)
                for x in range(X):
                    i = at[x]
                    a, b = flat[k, i], flat[k, i + sy]
                    e, f = flat[k, i + sz], flat[k, i + sz + sy]
                    a += fx[x] * (flat[k, i + sx] - a)
                    b += fx[x] * (flat[k, i + sy + sx] - b)
                    e += fx[x] * (flat[k, i + sz + sx] - e)
                    f += fx[x] * (flat[k, i + sz + sy + sx] - f)
                    a += fy[x] * (b - a)
                    e += fy[x] * (f - e)
                    out[c, z, y, x] = step[c, z, y, x] + a + fz[x] * (e - a)


@kernel
def turn(z0, z1, slab, field, gradient, to_world, out):
    """out[l] = g_l + sum_k g_k du_k/dx_l, all (d, Z, Y, X): central differences, u being constant beyond the border.

    to_world (3, 3) takes a derivative per index (z, y, x) to one per mm: du/dx_l = sum_a to_world[l, a] du/da.
    """
    d, Z, Y, X = field.shape
    T = out.dtype.type
    last = d - 1
    push = to_world.astype(out.dtype)
    for z in range(z0, z1):
        za, zb = max(z - 1, 0), min(z + 1, Z - 1)
        for y in range(Y):
            ya, yb = max(y - 1, 0), min(y + 1, Y - 1)
            for x in range(X):
                xa, xb = max(x - 1, 0), min(x + 1, X - 1)
                gz, gy, gx = T(0), T(0), T(0)
                for k in range(d):
                    g = T(0.5) * gradient[k, z, y, x]
                    gz += g * (field[k, zb, y, x] - field[k, za, y, x])
                    gy += g * (field[k, z, yb, x] - field[k, z, ya, x])
                    gx += g * (field[k, z, y, xb] - field[k, z, y, xa])
                out[0, z, y, x] = gradient[0, z, y, x] + push[0, 0] * gz + push[0, 1] * gy + push[0, 2] * gx
                out[1, z, y, x] = gradient[1, z, y, x] + push[1, 0] * gz + push[1, 1] * gy + push[1, 2] * gx
                if d == 3:
                    out[last, z, y, x] = (gradient[last, z, y, x] + push[2, 0] * gz + push[2, 1] * gy
                                          + push[2, 2] * gx)


@kernel
def tensor(z0, z1, slab, slope, curvature, first, out):
    """out += curvature * g g^T, or = where `first`, g (d, Z, Y, X): xx, xy, yy, or xx, xy, xz, yy, yz, zz."""
    d, _, Y, X = slope.shape
    for z in range(z0, z1):
        k = 0
        for i in range(d):
            for j in range(i, d):
                if first:
                    for y in range(Y):
                        for x in range(X):
                            out[k, z, y, x] = curvature[z, y, x] * slope[i, z, y, x] * slope[j, z, y, x]
                else:
                    for y in range(Y):
                        for x in range(X):
                            out[k, z, y, x] += curvature[z, y, x] * slope[i, z, y, x] * slope[j, z, y, x]
                k += 1


@kernel
def multiply(z0, z1, slab, tensor, field, out):
    """out = tensor field at every voxel; field and out (d, Z, Y, X) may be one, the tensor is as `tensor` leaves it."""
    d, _, Y, X = field.shape
    for z in range(z0, z1):
        for y in range(Y):
            if d == 2:
                for x in range(X):
                    u, v = field[0, z, y, x], field[1, z, y, x]
                    out[0, z, y, x] = tensor[0, z, y, x] * u + tensor[1, z, y, x] * v
                    out[1, z, y, x] = tensor[1, z, y, x] * u + tensor[2, z, y, x] * v
            else:
                for x in range(X):
                    u, v, w = field[0, z, y, x], field[1, z, y, x], field[2, z, y, x]
                    out[0, z, y, x] = tensor[0, z, y, x] * u + tensor[1, z, y, x] * v + tensor[2, z, y, x] * w
                    out[1, z, y, x] = tensor[1, z, y, x] * u + tensor[3, z, y, x] * v + tensor[4, z, y, x] * w
                    out[2, z, y, x] = tensor[2, z, y, x] * u + tensor[4, z, y, x] * v + tensor[5, z, y, x] * w


@inline
def cells(field, z, y, push, at, plane, f, free):
    """For a row of samples moved by `field`: their cells, those's planes, the fractions, and 1 where not clamped."""
    d, Z, Y, X = field.shape
    T = field.dtype.type
    last = d - 1
    a0, a1, a2 = T(push[0, 0]), T(push[0, 1]), T(push[0, 2])
    b0, b1, b2 = T(push[1, 0]), T(push[1, 1]), T(push[1, 2])
    c0, c1, c2 = T(push[2, 0]), T(push[2, 1]), T(push[2, 2])
    mz, my, mx = T(Z - 1), T(Y - 1), T(X - 1)
    lz, ly, lx = max(Z - 2, 0), max(Y - 2, 0), max(X - 2, 0)
    for x in range(X):
        u, v, w = field[0, z, y, x], field[1, z, y, x], field[last, z, y, x]
        pz, py, px = T(z) + a0 * u + a1 * v + a2 * w, T(y) + b0 * u + b1 * v + b2 * w, T(x) + c0 * u + c1 * v + c2 * w
        qz, qy, qx = min(max(pz, T(0)), mz), min(max(py, T(0)), my), min(max(px, T(0)), mx)
        iz, iy, ix = min(np.int32(qz), lz), min(np.int32(qy), ly), min(np.int32(qx), lx)
        f[0, x], f[1, x], f[2, x] = qz - T(iz), qy - T(iy), qx - T(ix)
        free[0, x], free[1, x], free[2, x] = T(pz == qz), T(py == qy), T(px == qx)
        at[x], plane[x] = (iz * Y + iy) * X + ix, iz


@kernel
def reach(z0, z1, slab, field, push, planes):
    """planes[z] = the first and last plane that samples of plane z, moved by `field`, may read; (Z, 2) int64."""
    d, Z, Y, X = field.shape
    at, plane = np.empty(X, np.int64), np.empty(X, np.int64)
    f, free = np.empty((3, X), field.dtype), np.empty((3, X), field.dtype)
    for z in range(z0, z1):
        low, high = np.int64(Z), np.int64(0)
        for y in range(Y):
            cells(field, z, y, push, at, plane, f, free)
            for x in range(X):
                low, high = min(low, plane[x]), max(high, plane[x])
        planes[z, 0], planes[z, 1] = low - 1, high + 2  # one more on each side: rounding may differ below


@kernel
def square_back(z0, z1, slab, field, push, planes, adjoint, out):
    """out = (d s / d u)^T g for s = u + u o (id + u), the `compose` of u = `field` with itself, and g = `adjoint`.

        out(x) = g(x) + Du(x + u(x))^T g(x) + sum over y of weight(x; y + u(y)) g(y)

    Each slab gathers what falls on its own planes, in the order of the samples, from the planes that `reach` names.
    """
    d, Z, Y, X = field.shape
    T = out.dtype.type
    sz, sy, sx = (Y * X if Z > 1 else 0), (X if Y > 1 else 0), (1 if X > 1 else 0)
    flat, to = field.reshape(d, Z * Y * X), out.reshape(d, Z * Y * X)
    at, plane = np.empty(X, np.int64), np.empty(X, np.int64)
    f, free, h = np.empty((3, X), out.dtype), np.empty((3, X), out.dtype), np.empty((3, X), out.dtype)
    for z in range(z0, z1):
        for y in range(Y):
            cells(field, z, y, push, at, plane, f, free)
            h[:] = 0
            for k in range(d):
                for x in range(X):
                    i, g = at[x], adjoint[k, z, y, x]
                    a, b = flat[k, i], flat[k, i + sy]
                    c, e = flat[k, i + sz], flat[k, i + sz + sy]
                    ax, bx = flat[k, i + sx] - a, flat[k, i + sy + sx] - b
                    cx, ex = flat[k, i + sz + sx] - c, flat[k, i + sz + sy + sx] - e
                    a += f[2, x] * ax
                    c += f[2, x] * cx
                    ay, cy = b + f[2, x] * bx - a, e + f[2, x] * ex - c
                    ax += f[1, x] * (bx - ax)
                    cx += f[1, x] * (ex - cx)
                    h[0, x] += g * (c + f[1, x] * cy - a - f[1, x] * ay)
                    h[1, x] += g * (ay + f[0, x] * (cy - ay))
                    h[2, x] += g * (ax + f[0, x] * (cx - ax))
            for k in range(d):
                for x in range(X):
                    out[k, z, y, x] = (adjoint[k, z, y, x] + T(push[0, k]) * free[0, x] * h[0, x]
                                       + T(push[1, k]) * free[1, x] * h[1, x] + T(push[2, k]) * free[2, x] * h[2, x])
    for z in range(Z):
        if planes[z, 1] < z0 or planes[z, 0] >= z1:
            continue
        for y in range(Y):
            cells(field, z, y, push, at, plane, f, free)
            for k in range(d):
                for x in range(X):
                    i, g = at[x], adjoint[k, z, y, x]
                    for side in range(2 if Z > 1 else 1):
                        if z0 <= plane[x] + side < z1:
                            near = g * (f[0, x] if side else T(1) - f[0, x])
                            far = near * f[1, x]
                            near -= far
                            j = i + side * sz
                            to[k, j] += near * (T(1) - f[2, x])
                            to[k, j + sx] += near * f[2, x]
                            to[k, j + sy] += far * (T(1) - f[2, x])
                            to[k, j + sy + sx] += far * f[2, x]

"""A cubic B-spline lattice at scattered points, and the way back: 4^d taps per point.

A point x (mm) lies at the cells  t = to_cells (x, 1)  of the lattice along z, y, x, clamped to its extent; `cells` is 0
along an axis of one control point. The way back adds up point by point for one component at a time, so its order, and
with it every bit, is the same for any number of threads.
"""

import numpy as np

from . import kernel, part


@part
def taps(t, n, weights):
    """The first control point at t of n cells; fills the four weights (one where there are no cells)."""
    if n == 0:
        weights[0] = 1.0
        return 0
    t = min(max(t, 0.0), np.float64(n))
    i = min(int(t), n - 1)
    f = t - i
    s = 1.0 - f
    weights[0] = s * s * s / 6
    weights[1] = (4 - 6 * f * f + 3 * f * f * f) / 6
    weights[2] = (4 - 6 * s * s + 3 * s * s * s) / 6
    weights[3] = f * f * f / 6
    return i


@part
def along(to_cells, axis, world, k):
    """The cell of point k along an axis."""
    t = to_cells[axis, 3]
    for j in range(world.shape[1]):
        t += to_cells[axis, j] * world[k, j]
    return t


@kernel
def spline(k0, k1, slab, theta, world, to_cells, cells, out):
    """out[c, k] = component c of the lattice theta (d, Z, Y, X) at point k of world (n, d)."""
    wz, wy, wx = np.zeros(4), np.zeros(4), np.zeros(4)
    nz, ny, nx = 4 if cells[0] else 1, 4 if cells[1] else 1, 4 if cells[2] else 1
    for k in range(k0, k1):
        iz = taps(along(to_cells, 0, world, k), cells[0], wz)
        iy = taps(along(to_cells, 1, world, k), cells[1], wy)
        ix = taps(along(to_cells, 2, world, k), cells[2], wx)
        for c in range(theta.shape[0]):
            value = 0.0
            for z in range(nz):
                for y in range(ny):
                    row = 0.0
                    for x in range(nx):
                        row += wx[x] * theta[c, iz + z, iy + y, ix + x]
                    value += wz[z] * wy[y] * row
            out[c, k] = value


@kernel
def spline_back(c0, c1, slab, force, world, to_cells, cells, out):
    """out[c] = the transpose of `spline` applied to force (d, n), component by component."""
    wz, wy, wx = np.zeros(4), np.zeros(4), np.zeros(4)
    nz, ny, nx = 4 if cells[0] else 1, 4 if cells[1] else 1, 4 if cells[2] else 1
    _, Z, Y, X = out.shape
    T = out.dtype.type
    for c in range(c0, c1):
        for z in range(Z):
            for y in range(Y):
                for x in range(X):
                    out[c, z, y, x] = 0
        for k in range(force.shape[1]):
            iz = taps(along(to_cells, 0, world, k), cells[0], wz)
            iy = taps(along(to_cells, 1, world, k), cells[1], wy)
            ix = taps(along(to_cells, 2, world, k), cells[2], wx)
            for z in range(nz):
                for y in range(ny):
                    w = wz[z] * wy[y] * force[c, k]
                    for x in range(nx):
                        out[c, iz + z, iy + y, ix + x] += T(w * wx[x])

"""Sampling, fields, splines at points, flows and labels: what is done with positions, see the package.

Must not import: anything above floor 0, numba.
"""

from __future__ import annotations

from itertools import product

import numpy as np


def positions(matrix: np.ndarray, push: np.ndarray, field: np.ndarray, shape) -> np.ndarray:
    """p on all samples of `shape` (z, y, x), (3, z, y, x); an empty field stands for none."""
    p = np.einsum("ij,j...->i...", matrix[:, :3], np.indices(shape)) + matrix[:, 3].reshape(3, 1, 1, 1)
    if field.shape[1]:
        p = p + np.einsum("ij,j...->i...", push[:, :len(field)], field.astype(float))
    return p


def cell(p: np.ndarray, n: int):
    """Lower sample and fraction of q on an axis of n samples, the weight, and d q / d p (0 where clamped)."""
    if n == 1:
        return np.zeros(p.shape, int), np.zeros(p.shape), np.ones(p.shape), np.zeros(p.shape)
    q = np.clip(p, 0, n - 1)
    i = np.minimum(np.floor(q), n - 2).astype(int)
    return i, q - i, np.clip(1 - np.abs(p - q), 0, 1), (p == q).astype(float)


def linear_taps(p, n):
    """Samples, weights and slopes (2, ...) of linear interpolation along an axis, and the inside weight."""
    i, f, weight, factor = cell(p, n)
    return np.stack([i, np.minimum(i + 1, n - 1)]), np.stack([1 - f, f]), np.stack([-factor, factor]), weight


def cubic_taps(p, n):
    """The same, (4, ...), for the cubic B-spline on coefficients mirrored about the first and last sample."""
    i, f, weight, factor = cell(p, n)
    s = 1 - f
    values = np.stack([s**3, 4 - 6 * f**2 + 3 * f**3, 4 - 6 * s**2 + 3 * s**3, f**3]) / 6
    slopes = np.stack([-s**2 / 2, 1.5 * f**2 - 2 * f, 2 * s - 1.5 * s**2, f**2 / 2]) * factor
    index = np.mod(np.stack([i - 1, i, i + 1, i + 2]), max(2 * n - 2, 1))
    return np.minimum(index, 2 * n - 2 - index), values, slopes, weight


def _tensor(image, taps, derivative=None):
    """Tensor-product interpolation (C, ...); along the axis `derivative` with slopes instead of weights."""
    out = np.zeros((len(image), *taps[0][3].shape))
    for corner in product(*(range(len(t[0])) for t in taps)):
        index = tuple(t[0][k] for t, k in zip(taps, corner))
        weights = [t[2 if axis == derivative else 1][k] for axis, (t, k) in enumerate(zip(taps, corner))]
        out += image[(slice(None), *index)].astype(float) * np.prod(weights, axis=0)
    return out


def warp(image, matrix, push, field, shape, taps=linear_taps):
    """(image at p, (C, *shape); weight)."""
    at = [taps(p, n) for p, n in zip(positions(matrix, push, field, shape), image.shape[1:])]
    return _tensor(image, at), at[0][3] * at[1][3] * at[2][3]


def image_gradient(image, matrix, push, field, shape, taps=linear_taps):
    """d image / d p at p, (3, C, *shape)."""
    at = [taps(p, n) for p, n in zip(positions(matrix, push, field, shape), image.shape[1:])]
    return np.stack([_tensor(image, at, axis) for axis in range(3)])


def force(image, matrix, push, field, adjoint, taps=linear_taps):
    """Sum over channels of adjoint * d image / d u, (d, z, y, x)."""
    g = image_gradient(image, matrix, push, field, adjoint.shape[1:], taps)
    return np.einsum("ak,ac...,c...->k...", push[:, :len(field)], g, adjoint.astype(float))


def reduce(image, matrix, adjoint):
    """Sums of adjoint * d image / d matrix, (K, 3, 4), for adjoints (K C, z, y, x)."""
    c, shape = len(image), adjoint.shape[1:]
    g = image_gradient(image, matrix, np.zeros((3, 3)), np.empty((3, 0, 0, 0)), shape)
    index = np.concatenate([np.indices(shape), np.ones((1, *shape))])
    stack = adjoint.reshape(-1, c, *shape).astype(float)
    return np.einsum("aczyx,kczyx,bzyx->kab", g, stack, index, optimize=True)


def force_moments(force):
    """Sums of force * (z, y, x, 1), (d, 4)."""
    index = np.concatenate([np.indices(force.shape[1:]), np.ones((1, *force.shape[1:]))])
    return np.einsum("azyx,bzyx->ab", force.astype(float), index)


def normal(image, matrix, curvature):
    """Sums of curvature * J J^T, (12, 12), J = d image / d matrix row by row."""
    shape = curvature.shape[1:]
    g = image_gradient(image, matrix, np.zeros((3, 3)), np.empty((3, 0, 0, 0)), shape)
    index = np.concatenate([np.indices(shape), np.ones((1, *shape))])
    j = np.einsum("aczyx,bzyx->abczyx", g, index).reshape(12, -1)
    return (j * curvature.ravel()) @ j.T


def stencil(warped, adjoint, curvature, to_world, d):
    """Sums over channels of adjoint * gradient of `warped` itself, then of curvature * its square, (d + 1, z, y, x).

    One-sided at the border; without a curvature (None), (d, z, y, x).
    """
    g = [np.gradient(warped.astype(float), axis=k) if warped.shape[k] > 1 else np.zeros(warped.shape)
         for k in (1, 2, 3)]
    g = np.einsum("ka,aczyx->kczyx", to_world[:d], np.stack(g))
    force = np.einsum("kczyx,czyx->kzyx", g, adjoint.astype(float))
    if curvature is None:
        return force
    return np.concatenate([force, np.einsum("kczyx,czyx->zyx", g**2, curvature.astype(float))[None]])


def tensor(slope, curvature):
    """Rows of curvature g g^T on and above the diagonal, g (d, z, y, x)."""
    d = len(slope)
    return np.stack([curvature.astype(float) * slope[i] * slope[j] for i in range(d) for j in range(i, d)])


def multiply(rows, field):
    """The symmetric tensor of these rows times a field (d, z, y, x)."""
    d = len(field)
    at = {pair: k for k, pair in enumerate((i, j) for i in range(d) for j in range(i, d))}
    return np.stack([sum(rows[at[min(i, j), max(i, j)]].astype(float) * field[j] for j in range(d)) for i in range(d)])


def spline_weights(world, to_cells, cells, shape):
    """What each control point of a lattice of `shape` weighs at each point, (n, *shape)."""
    d, out = world.shape[1], np.ones((len(world), 1, 1, 1))
    for axis, n in enumerate(cells):
        t = np.clip(world @ to_cells[axis, :d] + to_cells[axis, 3], 0, max(n, 0))
        a = np.abs(t[:, None] - (np.arange(shape[axis]) - 1))
        w = np.where(a < 1, (4 - 6 * a**2 + 3 * a**3) / 6, np.where(a < 2, (2 - a) ** 3 / 6, 0))
        out = out * np.expand_dims(w if n else np.ones((len(world), 1)), [k + 1 for k in range(3) if k != axis])
    return out


def spline(theta, world, to_cells, cells):
    """A lattice (d, z, y, x) of cubic B-splines at points, (d, n)."""
    return np.einsum("nzyx,czyx->cn", spline_weights(world, to_cells, cells, theta.shape[1:]), theta.astype(float))


def spline_back(force, world, to_cells, cells, shape):
    """Its transpose, (d, *shape)."""
    return np.einsum("nzyx,cn->czyx", spline_weights(world, to_cells, cells, shape), force.astype(float))


def newton(force, diagonal, damping, longest):
    """-F / (H + damping), shortened below `longest`; F (d, z, y, x), H (z, y, x)."""
    step = -force.astype(float) / (diagonal.astype(float) + damping)
    return step / np.sqrt(1 + (step**2).sum(0) / longest**2)


def compose(field, step, push):
    """step + field o (id + step), on one grid, clamped."""
    moved, _ = warp(field, np.eye(3, 4), push, step, step.shape[1:])
    return step + moved


def reach(field, push):
    """First and last plane of the cells that the samples of each plane fall in, moved by `field`; (z, 2)."""
    p = positions(np.eye(3, 4), push, field, field.shape[1:])[0]
    first = linear_taps(p, field.shape[1])[0][0].reshape(len(p), -1)
    return np.stack([first.min(1), first.max(1) + 1], -1)


def square_back(field, push, adjoint):
    """The transposed derivative of `compose(field, field)` with respect to the field, applied to an adjoint."""
    d, shape = len(field), field.shape[1:]
    g = adjoint.astype(float)
    taps = [linear_taps(p, n) for p, n in zip(positions(np.eye(3, 4), push, field, shape), shape)]
    slopes = np.stack([_tensor(field, taps, axis) for axis in range(3)])
    out = g + np.einsum("aj,ak...,k...->j...", push[:, :d], slopes, g)
    for corner in product((0, 1), repeat=3):
        at = tuple(t[0][k] for t, k in zip(taps, corner))
        weight = np.prod([t[1][k] for t, k in zip(taps, corner)], axis=0)
        for k in range(d):
            np.add.at(out[k], at, weight * g[k])
    return out


def flow(velocity, matrix, lead, field, push, steps, shape):
    """u after unit time along v, from p(i) = matrix (i, 1) + lead f(i), in `steps` steps of Runge and Kutta."""
    p, h = positions(matrix, lead, field, shape), 1 / steps

    def speed(u):
        q = p + np.einsum("ij,j...->i...", push[:, :len(velocity)], u)
        return _tensor(velocity, [linear_taps(q[a], velocity.shape[1 + a]) for a in range(3)])

    u = np.zeros((len(velocity), *shape))
    for _ in range(steps):
        a = speed(u)
        b = speed(u + h / 2 * a)
        c = speed(u + h / 2 * b)
        u += h / 6 * (a + 2 * b + 2 * c + speed(u + h * c))
    return u


def vote(image, matrix, push, field, outside, shape):
    """The label of the largest linear weight (of equal ones any); `outside` where under half is inside."""
    labels = np.unique(image)
    one_hot, inside = warp(np.stack([image == v for v in labels]), matrix, push, field, shape)
    return np.where(inside < 0.5, outside, labels[np.argmax(one_hot, axis=0)])

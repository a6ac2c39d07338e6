"""What every kernel of `cpu/` computes, in plain NumPy: slow, short, the definition they are tested against.

Each function takes the arrays of the kernel of the same name, without slabs and buffers, and returns what the
kernel leaves in its outputs; everything is float64. Positions in the moving image, in indices, are

    p(i) = matrix (i, 1) + push u(i),   q = p clamped to the samples,   weight = max(0, 1 - |p - q|) per axis.

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


def smooth(src, taps):
    """src (C, z, y, x) correlated with odd `taps` along z, y and x, edge samples repeated outside."""
    out = src.astype(float)
    for axis, k in enumerate(taps, 1):
        r, n = len(k) // 2, src.shape[axis]
        out = sum(w * out.take(np.clip(np.arange(n) + t - r, 0, n - 1), axis) for t, w in enumerate(k))
    return out


def band_matrix(starts, weights, n):
    """The (m, n) matrix of a banded operator."""
    out = np.zeros((len(starts), n))
    for row, start, w in zip(out, starts, weights):
        row[start:start + len(w)] += w
    return out


def band(src, starts, weights):
    """The operator along the middle axis of src (A, n, B)."""
    return np.einsum("mn,anb->amb", band_matrix(starts, weights, src.shape[1]), src)


def band_adjoint(src, starts, weights, n):
    """Its transpose along the middle axis of src (A, m, B)."""
    return np.einsum("mn,amb->anb", band_matrix(starts, weights, n), src)


def moments(fixed, warped, weight):
    """Weighted sums of 1, F, M, FF, MM, FM, (6,)."""
    f, m, w = (a.astype(float) for a in (fixed, warped, weight))
    return np.array([np.sum(w * a) for a in (np.ones_like(f), f, m, f * f, m * m, f * m)])


def combine(fixed, warped, weight, a, b, c):
    """weight (a F + b M + c)."""
    return weight.astype(float) * (a * fixed + b * warped + c)


def residuals(fixed, warped, weight, scale):
    """(scale * weight * (M - F), sum of weight (M - F)^2)."""
    r = warped.astype(float) - fixed
    return scale * weight * r, np.sum(weight * r**2)


def dot(a, b):
    """Inner product."""
    return float(np.sum(a.astype(float) * b))


def add_scaled(a, s, b):
    """a + s b."""
    return a.astype(float) + s * b


def largest(field, scale):
    """Largest squared length of scale . u over a (d, z, y, x) field."""
    scaled = np.einsum("ij,j...->i...", scale[:, :len(field)], field.astype(float))
    return float(np.max(np.sum(scaled**2, axis=0)))


def box(array, radii):
    """Sum over the box of half sides `radii` around every sample, cut at the border."""
    out = array.astype(float)
    for axis, r in enumerate(radii):
        padded = np.pad(out, [(r, r) if k == axis else (0, 0) for k in range(3)])
        out = sum(padded.take(np.arange(t, t + out.shape[axis]), axis) for t in range(2 * r + 1))
    return out


def correlation(fixed, warped, weight, radii, eps):
    """(first, second, third, [sum of w (1 - q), sum of w var(F) / B]) of the local correlation; see the kernel."""
    f, m, w = (a.astype(float) for a in (fixed, warped, weight))
    c, sf, sm, ff, mm, fm = (box(w * a, radii) for a in (np.ones_like(f), f, m, f * f, m * m, f * m))
    counts = (w > 0) & (c > 0.5)
    safe = np.where(counts, c, 1)
    cov = fm - sf * sm / safe + eps * safe
    var_f, var_m = np.maximum(ff - sf * sf / safe, 0), np.maximum(mm - sm * sm / safe, 0)
    b, c = var_f + eps * safe, var_m + eps * safe
    w = np.where(counts, w, 0)
    q = cov**2 / (b * c)
    first, second = 2 * w * cov / (b * c), -w * q / c
    third = (first * sf + 2 * second * sm) / safe
    return first, second, third, np.array([np.sum(w * (1 - q)), np.sum(w * var_f / b)])


def correlation_other(fixed, warped, weight, radii, eps):
    """(second, third) of the fixed image, as those of the warped one when the two change places."""
    return np.stack(correlation(warped, fixed, weight, radii, eps)[1:3])


def correlation_adjoint(fixed, warped, weight, radii, scale, first, second, third):
    """scale * weight * (F W[first] + 2 M W[second] - W[third]), W the box sum."""
    parts = [box(a, radii) for a in (first, second, third)]
    return scale * weight.astype(float) * (fixed * parts[0] + 2 * warped * parts[1] - parts[2])


def correlation_curvature(weight, radii, scale, second):
    """2 scale * weight * W[second]."""
    return 2 * scale * weight.astype(float) * box(second, radii)


def parzen(xi, bins):
    """Cubic B-spline windows of positions over all bins, and their derivatives, (n, bins) each."""
    q = np.clip(xi.ravel(), 1.0, bins - 2.0001)[:, None]
    t = q - np.arange(bins)
    a = np.abs(t)
    value = np.where(a < 1, (4 - 6 * a**2 + 3 * a**3) / 6, np.where(a < 2, (2 - a) ** 3 / 6, 0))
    slope = np.where(a < 1, -2 * t + 1.5 * t * a, np.where(a < 2, -np.sign(t) * (2 - a) ** 2 / 2, 0))
    return value, slope * (q == xi.ravel()[:, None])


def hat(xi, bins):
    """Linear windows of positions over all bins, (n, bins)."""
    return np.clip(1 - np.abs(np.clip(xi.ravel(), 1.0, bins - 2.0001)[:, None] - np.arange(bins)), 0, None)


def box_window(xi, bins):
    """Windows that lie in the nearest bin alone, (n, bins)."""
    q = np.clip(xi.ravel(), 1.0, bins - 2.0001)[:, None]
    return (np.floor(q + 0.5) == np.arange(bins)).astype(float)


def fixed_window(fixed, origin, scale, rows, bins):
    """The hat (2 rows) or the box (1) of the fixed image, (n, bins)."""
    return (hat if rows == 2 else box_window)(origin + scale * fixed.astype(float), bins)


def slopes(image, frame):
    """Gradient by central differences, one-sided at borders, along the frame's axes, (3, z, y, x)."""
    g = np.stack([np.gradient(image.astype(float), axis=k) if n > 1 else np.zeros(image.shape)
                  for k, n in enumerate(image.shape)])
    return np.einsum("ij,j...->i...", frame, g)


def lengths(image, weight, frame):
    """(sum of w |gradient|, sum of w)."""
    return np.array([np.sum(weight * np.sqrt((slopes(image, frame) ** 2).sum(0))), np.sum(weight, dtype=float)])


def directions(image, frame, eta):
    """gradient / sqrt(|gradient|^2 + eta^2), (3, z, y, x)."""
    g = slopes(image, frame)
    return g / np.sqrt((g**2).sum(0) + eta**2)


def differences(n):
    """(n, n): what follows each sample less what comes before it, at borders the sample itself."""
    i, out = np.arange(n), np.zeros((n, n))
    out[i, np.minimum(i + 1, n - 1)] += 1
    out[i, np.maximum(i - 1, 0)] -= 1
    return out


def agreement(fixed, warped, weight, frame, eta):
    """(parts, [sum of v r^2, sum of v |f|^2]); see the kernel."""
    m, f = slopes(warped, frame), fixed.astype(float)
    v = weight.astype(float)
    for axis, n in enumerate(v.shape):
        i = np.arange(n)
        near = [weight.take(np.clip(i + k, 0, n - 1), axis) for k in (-1, 1)]
        v = np.minimum(v, np.minimum(*near))
    inverse = 1 / ((m**2).sum(0) + eta**2)
    same = (f * m).sum(0) * inverse
    force = np.einsum("ij,i...->j...", frame, 2 * v * same * (f - same * m))
    for axis, n in enumerate(v.shape):
        i = np.arange(n)
        k = 1 / np.maximum(np.minimum(i + 1, n - 1) - np.maximum(i - 1, 0), 1)
        force[axis] *= np.expand_dims(k, [a for a in range(3) if a != axis])
    full = v * (f**2).sum(0)
    return np.concatenate([force, (full * inverse)[None]]), np.array([np.sum(v * same**2 / inverse), np.sum(full)])


def agreement_adjoint(parts, frame, scale, stiffness):
    """(scale * transposed differences of parts[:3], |scale| stiffness * diagonal of D^T parts[3] D)."""
    out, curvature = np.zeros((2, *parts.shape[1:]))
    for axis, n in enumerate(out.shape):
        if n > 1:
            part = np.moveaxis(parts[axis].astype(float), axis, 0)
            out += np.moveaxis(np.einsum("ij,i...->j...", differences(n), part), 0, axis)
            i = np.arange(n)
            both = sum(parts[3].astype(float).take(np.clip(i + k, 0, n - 1), axis) for k in (-1, 1))
            curvature += both * (frame[:, axis] ** 2).sum() / 4
    return scale * out, abs(scale) * stiffness * curvature


def joint(fixed, warped, weight, origin, scale, rows, bins):
    """The joint histogram (bins, bins): fixed along rows, warped along columns."""
    f = fixed_window(fixed, origin[0], scale[0], rows, bins)
    m, _ = parzen(origin[1] + scale[1] * warped.astype(float), bins)
    return (f * weight.astype(float).ravel()[:, None]).T @ m


def joint_adjoint(fixed, warped, weight, origin, scale, rows, score):
    """d (sum of score * joint) / d warped, (z, y, x)."""
    f = fixed_window(fixed, origin[0], scale[0], rows, len(score))
    _, slope = parzen(origin[1] + scale[1] * warped.astype(float), len(score))
    return weight * np.einsum("na,nb,ab->n", f, slope, score, optimize=True).reshape(fixed.shape) * scale[1]


def joint_pair(a, b, weight, origin, scale, bins):
    """The joint histogram with a cubic B-spline on both images."""
    wa, wb = (parzen(origin[k] + scale[k] * v.astype(float), bins)[0] for k, v in enumerate((a, b)))
    return (wa * weight.astype(float).ravel()[:, None]).T @ wb


def joint_pair_adjoint(a, b, weight, origin, scale, score):
    """d (sum of score * joint_pair) / d a and / d b, (2, z, y, x)."""
    (wa, sa), (wb, sb) = (parzen(origin[k] + scale[k] * v.astype(float), len(score)) for k, v in enumerate((a, b)))
    out = [np.sum((sa @ score) * wb, 1) * scale[0], np.sum((wa @ score) * sb, 1) * scale[1]]
    return weight * np.reshape(out, (2, *a.shape))


def look_up(warped, weight, origin, scale, table):
    """weight * table at the bin position, linear between bins, clamped."""
    return weight * np.interp(origin + scale * warped.astype(float), np.arange(len(table)), table)


def conditional(fixed, warped, weight, origin, scale, bins):
    """Sums of weight, and of weight times M, in each bin of F, (2, bins)."""
    f = hat(origin + scale * fixed.astype(float), bins) * weight.astype(float).ravel()[:, None]
    return np.stack([f.sum(0), (f * warped.astype(float).ravel()[:, None]).sum(0)])


def conditional_adjoint(fixed, warped, weight, origin, scale, table, a):
    """weight * (a M + table at the bin position of F)."""
    f = hat(origin + scale * fixed.astype(float), len(table))
    return weight.astype(float) * (a * warped.astype(float) + (f * table).sum(1).reshape(fixed.shape))


def charbonnier(fixed, warped, weight, delta):
    """[sum of w, sum of w (sqrt(r^2 + delta^2) - delta)], r = M - F."""
    r, w = warped.astype(float) - fixed, weight.astype(float)
    return np.array([w.sum(), (w * (np.sqrt(r**2 + delta**2) - delta)).sum()])


def charbonnier_adjoint(fixed, warped, weight, delta, scale):
    """scale * weight * r / sqrt(r^2 + delta^2)."""
    r = warped.astype(float) - fixed
    return scale * weight.astype(float) * r / np.sqrt(r**2 + delta**2)


def charbonnier_curvature(fixed, warped, weight, delta, scale):
    """scale * weight / sqrt(r^2 + delta^2)."""
    r = warped.astype(float) - fixed
    return scale * weight.astype(float) / np.sqrt(r**2 + delta**2)


def distances(image, pairs, radius, shape):
    """out[c, z, y, x] = mean over the box of (image[at + first of pair c] - image[at + second])^2; (C, *shape)."""
    out = np.zeros((len(pairs), *shape))
    size = 2 * np.asarray(radius) + 1
    for c, (a, b) in enumerate(pairs):
        for corner in product(*map(range, size)):
            i, j = (tuple(slice(k + o, k + o + n) for k, o, n in zip(corner, p, shape)) for p in (a, b))
            out[c] += (image[i].astype(float) - image[j]) ** 2
    return out / np.prod(size)


def weighted_distances(image, weight, pairs, radius, shape):
    """(the mean weighted by the product of both weights, -1 where it is 0; the sum of the products)."""
    out, count = np.zeros((2, len(pairs), *shape))
    for c, (a, b) in enumerate(pairs):
        for corner in product(*map(range, 2 * np.asarray(radius) + 1)):
            i, j = (tuple(slice(k + o, k + o + n) for k, o, n in zip(corner, p, shape)) for p in (a, b))
            w = weight[i].astype(float) * weight[j]
            out[c] += w * (image[i].astype(float) - image[j]) ** 2
            count[c] += w
    return np.where(count > 0, out / np.where(count > 0, count, 1), -1), count


def descriptors(values, low, high):
    """exp(-(D - least D) / V), V the mean of D over channels, clamped to low..high; 1 / e where D is below 0."""
    known, values = values >= 0, values.astype(float)
    mean = np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)
    least = np.where(known, values, np.inf).min(0, initial=np.abs(values).max())
    return np.where(known, np.exp(-np.maximum(values - least, 0) / np.clip(mean, low, high)), np.exp(-1))


def mismatch(fixed, weight, low, high, scale, stiffness, count, distance):
    """(d E / d D for E = scale / 2 sum of w (m - m')^2, m the descriptors of D and m' `fixed`; curvature; that sum)."""
    known = distance >= 0
    d = np.where(known, distance.astype(float), np.inf)
    mean = np.where(known, d, 0).sum(0) / np.maximum(known.sum(0), 1)
    v, moves = np.clip(mean, low, high), (mean > low) & (mean < high)
    least = np.arange(len(d)).reshape(-1, 1, 1, 1) == np.argmin(d, 0)
    f = np.where(known, (d - np.where(known.any(0), d.min(0), 0)) / v, 0)
    r = np.where(known, np.exp(-f) - fixed, 0)
    q = scale * weight.astype(float) * r * np.exp(-f)
    slope = (-q + least * q.sum(0) + moves * (f * q).sum(0) / np.maximum(known.sum(0), 1)) / v
    bend = np.where(known, np.exp(-2 * f) * distance / np.where(known, count, 1), 0).sum(0) / v**2
    return np.where(known, slope, 0), 8 * scale * stiffness * weight * bend, np.sum(weight * r**2)


def spread(image, weight, pairs, radius, slope, count):
    """2 w (first - second) at each position of the patches times the sum of slope / count over them."""
    size, shape = 2 * np.asarray(radius) + 1, slope.shape[1:]
    out = np.zeros((len(pairs), *(np.array(shape) + size - 1)))
    for c, (a, b) in enumerate(pairs):
        for corner in product(*map(range, size)):
            at = tuple(slice(k, k + n) for k, n in zip(corner, shape))
            out[c][at] += slope[c] / np.where(count[c] > 0, count[c], 1)
        i, j = (tuple(slice(o, o + n) for o, n in zip(p, out.shape[1:])) for p in (a, b))
        out[c] *= 2 * weight[i].astype(float) * weight[j] * (image[i].astype(float) - image[j])
    return out


def collect(spread, pairs, margin, shape):
    """What each sample gets, the first of a pair added, the second taken away, the padding at its border."""
    wide = np.zeros(np.array(shape) + 2 * np.asarray(margin))
    for part, ends in zip(spread.astype(float), pairs):
        for end, sign in zip(ends, (1, -1)):
            wide[tuple(slice(o, o + n) for o, n in zip(end, part.shape))] += sign * part
    out = np.zeros(shape)
    np.add.at(out, np.ix_(*(np.clip(np.arange(k) - m, 0, n - 1) for k, m, n in zip(wide.shape, margin, shape))), wide)
    return out


def cost(fixed, fixed_weight, moving, moving_weight, bz, by, bx, pace, shifts):
    """Per cell (k, j, i) and shift: sum of w (F - M)^2 / channels, and sum of w; (K, J, I, D) each."""
    out, weight = np.zeros((2, len(bz), len(by), len(bx), len(shifts)))
    for (k, z), (j, y), (i, x) in product(*map(enumerate, (bz, by, bx))):
        at = np.ix_(np.arange(*z, pace[0]), np.arange(*y, pace[1]), np.arange(*x))
        for d, shift in enumerate(shifts):
            to = tuple(a + s for a, s in zip(at, shift))
            w = fixed_weight[at].astype(float) * moving_weight[to]
            squares = (fixed[(slice(None), *at)].astype(float) - moving[(slice(None), *to)]) ** 2
            out[k, j, i, d], weight[k, j, i, d] = (w * squares.mean(0)).sum(), w.sum()
    return out, weight


def cheapest(volume, shifts, theta, centre):
    """The shift with the least volume + theta |shift - centre|^2 per row; (n, 3)."""
    apart = ((shifts[None].astype(float) - centre[:, None]) ** 2).sum(-1)
    return shifts[np.argmin(volume + theta * apart, 1)]


def damp(waves, rz, ry, rx, power):
    """waves / (1 + (rz + ry + rx)^power)."""
    return waves.astype(float) / (1 + (rz[:, None, None] + ry[:, None] + rx) ** power)


def turn(field, gradient, to_world):
    """out[l] = g_l + sum_k g_k du_k/dx_l by central differences, u being constant beyond the border."""
    out, wide = gradient.astype(float).copy(), np.pad(field.astype(float), [(0, 0)] + 3 * [(1, 1)], mode="edge")
    for axis in range(3):
        slope = np.gradient(wide, axis=axis + 1)[:, 1:-1, 1:-1, 1:-1]
        out += to_world[:len(field), axis].reshape(-1, 1, 1, 1) * np.sum(gradient * slope, 0)
    return out


def world_slopes(slopes, push):
    """G[k, l] = sum_a push[a, l] slopes[a, k] at each point, (Z, Y, X, d, d)."""
    d = slopes.shape[1]
    return np.einsum("al,akzyx->zyxkl", push[3 - d:, :d], slopes[3 - d:].astype(float))


def quadratic(g, whole, shear, dilation):
    """whole / 2 |G|^2 + shear / 4 |G + G^T|^2 + dilation / 2 (tr G)^2."""
    strain, trace = g + np.swapaxes(g, -1, -2), np.trace(g, axis1=-2, axis2=-1)
    return whole / 2 * (g**2).sum((-1, -2)) + shear / 4 * (strain**2).sum((-1, -2)) + dilation / 2 * trace**2


def variation(g, weight, smoothing):
    """weight (sqrt(|G|^2 + smoothing^2) - smoothing)."""
    return weight * (np.sqrt((g**2).sum((-1, -2)) + smoothing**2) - smoothing)


def volume_change(g, weight):
    """weight / 2 log(det(1 + G))^2, infinite from 0 down."""
    determinant = np.linalg.det(np.eye(g.shape[-1]) + g)
    return np.where(determinant > 0, weight / 2 * np.log(np.where(determinant > 0, determinant, 1)) ** 2, np.inf)


def rigidity(g, metric, weight):
    """weight / 4 |F^T metric F - 1|^2, F = 1 + G."""
    d = g.shape[-1]
    f = np.eye(d) + g
    return weight / 4 * ((np.swapaxes(f, -1, -2) @ metric[:d, :d] @ f - np.eye(d)) ** 2).sum((-1, -2))

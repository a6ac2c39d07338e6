"""What metrics of intensities and edges are made of: local correlation, histograms, edges, residuals.

Must not import: anything above floor 0, numba.
"""

from __future__ import annotations

import numpy as np


def box(array, radii):
    """Sum over the box of half sides `radii` around every sample, cut at the border."""
    out = array.astype(float)
    for axis, r in enumerate(radii):
        padded = np.pad(out, [(r, r) if k == axis else (0, 0) for k in range(3)])
        out = sum(padded.take(np.arange(t, t + out.shape[axis]), axis) for t in range(2 * r + 1))
    return out


def correlation(fixed, warped, weight, radii, eps, least):
    """(first, second, third, [sum of w (1 - q), sum of w var(F) / B]) of the local correlation; see the kernel."""
    f, m, w = (a.astype(float) for a in (fixed, warped, weight))
    c, sf, sm, ff, mm, fm = (box(w * a, radii) for a in (np.ones_like(f), f, m, f * f, m * m, f * m))
    counts = (w > 0) & (c > least)
    safe = np.where(counts, c, 1)
    cov = fm - sf * sm / safe + eps * safe
    var_f, var_m = np.maximum(ff - sf * sf / safe, 0), np.maximum(mm - sm * sm / safe, 0)
    b, c = var_f + eps * safe, var_m + eps * safe
    w = np.where(counts, w, 0)
    q = cov**2 / (b * c)
    first, second = 2 * w * cov / (b * c), -w * q / c
    third = (first * sf + 2 * second * sm) / safe
    return first, second, third, np.array([np.sum(w * (1 - q)), np.sum(w * var_f / b)])


def correlation_other(fixed, warped, weight, radii, eps, least):
    """(second, third) of the fixed image, as those of the warped one when the two change places."""
    return np.stack(correlation(warped, fixed, weight, radii, eps, least)[1:3])


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

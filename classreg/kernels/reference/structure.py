"""Self-similarity descriptors, and the discrete search that compares them.

Must not import: anything above floor 0, numba.
"""

from __future__ import annotations

from itertools import product

import numpy as np


def pad(image, margin):
    """The image with `margin` (3,) more samples on each side, those of the border."""
    return np.pad(image, [(m, m) for m in margin], mode="edge")


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
    """(d E / d D over `count` for E = scale / 2 sum of w (m - m')^2, m the descriptors of D and m' `fixed`; curvature;
    that sum)."""
    known = distance >= 0
    d = np.where(known, distance.astype(float), np.inf)
    mean = np.where(known, d, 0).sum(0) / np.maximum(known.sum(0), 1)
    v, moves = np.clip(mean, low, high), (mean > low) & (mean < high)
    least = np.arange(len(d)).reshape(-1, 1, 1, 1) == np.argmin(d, 0)
    f = np.where(known, (d - np.where(known.any(0), d.min(0), 0)) / v, 0)
    r = np.where(known, np.exp(-f) - fixed, 0)
    q = scale * weight.astype(float) * r * np.exp(-f)
    slope = (-q + least * q.sum(0) + moves * (f * q).sum(0) / np.maximum(known.sum(0), 1)) / v
    n = np.where(known, count, 1)
    bend = np.where(known, np.exp(-2 * f) * distance / n, 0).sum(0) / v**2
    return np.where(known, slope / n, 0), 8 * scale * stiffness * weight * bend, np.sum(weight * r**2)


def spread(image, weight, pairs, radius, slope):
    """2 w (first - second) at each position of the patches times the sum of slope over them."""
    size, shape = 2 * np.asarray(radius) + 1, slope.shape[1:]
    out = np.zeros((len(pairs), *(np.array(shape) + size - 1)))
    for c, (a, b) in enumerate(pairs):
        for corner in product(*map(range, size)):
            at = tuple(slice(k, k + n) for k, n in zip(corner, shape))
            out[c][at] += slope[c]
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
    """Per cell (k, j, i) and shift: mean of w (F - M)^2, over channels too, what is not seen at the cell's usual cost;
    (K, J, I, D)."""
    out, weight = np.zeros((2, len(bz), len(by), len(bx), len(shifts)))
    full = np.zeros((len(bz), len(by), len(bx), 1))
    for (k, z), (j, y), (i, x) in product(*map(enumerate, (bz, by, bx))):
        at = np.ix_(np.arange(*z, pace[0]), np.arange(*y, pace[1]), np.arange(*x))
        full[k, j, i] = fixed_weight[at].sum(dtype=float)
        for d, shift in enumerate(shifts):
            to = tuple(a + s for a, s in zip(at, shift))
            w = fixed_weight[at].astype(float) * moving_weight[to]
            squares = (fixed[(slice(None), *at)].astype(float) - moving[(slice(None), *to)]) ** 2
            out[k, j, i, d], weight[k, j, i, d] = (w * squares.mean(0)).sum(), w.sum()
    usual = out.sum(-1, keepdims=True) / weight.sum(-1, keepdims=True)
    return (out + (full - weight) * usual) / full


def cheapest(volume, shifts, theta, centre):
    """The shift with the least volume + theta |shift - centre|^2 per row; (n, 3)."""
    apart = ((shifts[None].astype(float) - centre[:, None]) ** 2).sum(-1)
    return shifts[np.argmin(volume + theta * apart, 1)]

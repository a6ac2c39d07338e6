"""Integrands of regularisers and priors, and the filters that solve for them.

Must not import: anything above floor 0, numba.
"""

from __future__ import annotations

import numpy as np


def damp(waves, rz, ry, rx, power):
    """waves / (1 + (rz + ry + rx)^power)."""
    return waves.astype(float) / (1 + (rz[:, None, None] + ry[:, None] + rx) ** power)


def damp_elastic(waves, kz, ky, kx, shear, bulk):
    """Per frequency the solution of (1 + shear |k|^2 + bulk k k^T) out = waves, of the components that have it."""
    numbers = (kz, ky, kx)
    d, out = len(waves), waves.astype(float)
    shifts = [min(len(k) - 1, 1) for k in numbers]
    for f in np.ndindex(*map(len, numbers)):
        k = np.array([n[i] for n, i in zip(numbers, f)])
        own = [tuple(i - s * (a == 3 - d + c) for a, (i, s) in enumerate(zip(f, shifts))) for c in range(d)]
        have = [c for c in range(d) if all(0 <= i < n for i, n in zip(own[c], waves.shape[1:]))]
        at = k[[3 - d + c for c in have]]
        system = (1 + shear * np.sum(k**2)) * np.eye(len(have)) + bulk * np.outer(at, at)
        found = np.linalg.solve(system, [waves[(c, *own[c])] for c in have]) if have else []
        for c, value in zip(have, found):
            out[(c, *own[c])] = value
    return out


def rotate(field, matrix, offset):
    """offset + matrix field, sample by sample."""
    return np.einsum("ab,b...->a...", matrix, field.astype(float)) + np.reshape(offset, (-1, 1, 1, 1))


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

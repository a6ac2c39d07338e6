"""Integrands of regularisers and priors, and the filters that solve for them.

Must not import: anything above floor 0, numba.
"""

from __future__ import annotations

import numpy as np


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

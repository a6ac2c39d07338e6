"""Definitions of the kernels of control lattices and of Jacobian determinants (`lattice`, `folds`).

Gram matrices (n, n) are given by their seven diagonals (7, n): entry (i, i + t - 3) is g[t, i]. Slopes D[k, a] are the
derivative of component k along array axis a in mm, frame E holds the axes' unit vectors in columns, and
J = det(E + D) / det(E).
"""

from __future__ import annotations

import numpy as np


def _matrices(diagonals):
    """(m, n, n) of (m, 7, n)."""
    m, _, n = diagonals.shape
    out = np.zeros((m, n, n))
    for t in range(7):
        for i in range(n):
            if 0 <= i + t - 3 < n:
                out[:, i, i + t - 3] = diagonals[:, t, i]
    return out


def gram_planes(theta, gy, gx, terms, factors, count):
    """(count, C, Z, Y, X): of entry iz, the sum over its terms (c, b, iz, iy, ix) of factor * (Gy x Gx) theta[b]."""
    out, gy, gx = np.zeros((count, *theta.shape)), _matrices(gy), _matrices(gx)
    for (c, b, iz, iy, ix), factor in zip(terms, factors):
        out[iz, c] += factor * np.einsum("yj,zji,xi->zyx", gy[iy], theta[b].astype(float), gx[ix])
    return out


def gram_sum(theta, planes, gz):
    """(C, Z, Y, X), the sum over iz of Gz^iz planes[iz]; and its inner product with theta."""
    out = np.einsum("izp,icpyx->czyx", _matrices(gz), planes.astype(float))
    return out, np.sum(theta * out)


def _along(starts, value, slope, planes):
    """The passes along z by axis of the derivative, (3, Z, planes)."""
    out = np.zeros((3, len(value), planes))
    for z, start in enumerate(starts):
        out[0, z, start:start + slope.shape[1]] = slope[z]
        out[1:, z, start:start + value.shape[1]] = value[z]
    return out


def volume(parts, starts, value, slope, frame, below, least, scale):
    """The sum of log((J - least) / (below - least))^2 where J < below, rows that have such points, (Z, Y), and scale
    times the derivative by the slopes in these rows, (3, d, Z, Y, X)."""
    d = parts.shape[1]
    slopes = np.einsum("azp,akpyx->akzyx", _along(starts, value, slope, parts.shape[2]), parts.astype(float))
    whole = np.moveaxis(slopes[3 - d:], (0, 1), (-1, -2)) + frame
    jacobian = np.linalg.det(whole) / np.linalg.det(frame)
    low = jacobian < below
    r = np.log((jacobian[low] - least) / (below - least))
    push = np.zeros(jacobian.shape)
    push[low] = scale * 2 * r / (jacobian[low] - least) * jacobian[low]
    force = np.zeros(slopes.shape)
    force[3 - d:] = np.moveaxis(push[..., None, None] * np.linalg.inv(whole), (-2, -1), (0, 1))  # dJ = J tr(inv d)
    return np.sum(r**2), low.any(-1), force


def volume_back(force, active, starts, value, slope, planes):
    """The transpose of the passes along z, (3, d, planes, Y, X), of the active rows."""
    d, back = force.shape[1], _along(starts, value, slope, planes)
    back[:3 - d] = 0
    return np.einsum("azp,akzyx->akpyx", back, np.where(active[:, :, None], force, 0).astype(float))


def least(boxes, value_z, slope_z, bernstein_z, value, slope, bernstein, sizes, frame):
    """The smallest Bernstein coefficient of J on each cell, (n, L), from boxes (n, d, P, 4, 4, L)."""
    d = boxes.shape[1]
    slopes = []
    for a in range(d):
        z, y, x = (slope_z if a == d - 3 else value_z, slope if a == d - 2 else value, slope if a == d - 1 else value)
        slopes.append(np.einsum("nkcbal,zc,yb,xa->nzyxlk", boxes, z, y, x) / sizes[a])
    jacobian = np.linalg.det(np.stack(slopes, -1) + frame) / np.linalg.det(frame)
    return np.einsum("nzyxl,cz,by,ax->ncbal", jacobian, bernstein_z, bernstein, bernstein).min((1, 2, 3))


def count(field, frame, spacing, least):
    """Samples of a displacement (d, Z, Y, X) where J is not above `least`; one-sided differences at the border."""
    d = len(field)
    slopes = [np.gradient(field.astype(float), spacing[a], axis=1 + a) if field.shape[1 + a] > 1
              else np.zeros(field.shape) for a in range(3 - d, 3)]
    whole = np.moveaxis(np.stack(slopes), (0, 1), (-1, -2)) + frame
    return np.sum(~(np.linalg.det(whole) / np.linalg.det(frame) > least))

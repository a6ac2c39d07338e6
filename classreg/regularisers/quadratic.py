"""Quadratic energies of derivatives, through one-dimensional Gram matrices.

For coefficients c of a basis that is a product of one-dimensional ones,
    mean over the image of (d^|r| u / dx^rx dy^ry dz^rz)^2 = c . (Gz^rz x Gy^ry x Gx^rx) c,
exact for B-spline lattices, finite differences for dense fields. Derivatives run along the grid's axes, which makes
rotation-invariant sums the same as along world axes for any grid whose axes are orthogonal.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..kernels.cpu import lattice


def quadratic(theta: np.ndarray, grams, terms, name: str) -> tuple[float, np.ndarray]:
    """Value and gradient of sum over terms of factor * |mixed derivative|^2 / 2; `terms` are (factor, (rz, ry, rx)).

    The gradient lives in the buffer `name` until the next call with it.
    """
    ws = workspace()
    gz, gy, gx = (np.stack([operator.diagonals for operator in axis]).astype(theta.dtype) for axis in grams)
    orders = np.array([r for _, r in terms], np.int64).reshape(-1, 3)
    factors = np.array([f for f, _ in terms], theta.dtype)
    planes = ws.buffer("gram planes", (3, *theta.shape), theta.dtype)
    gradient = ws.buffer(name, theta.shape, theta.dtype)
    work = theta.shape[0] * theta.shape[1]
    slab = max(1, work // 32)
    ws.run(lattice.gram_planes, work, theta, gy, gx, orders, factors, planes, slab=slab)
    value = ws.total(lattice.gram_sum, work, 1, theta, planes, gz, gradient, slab=slab)
    return 0.5 * float(value[0]), gradient

"""Quadratic energies of derivatives, through one-dimensional Gram matrices.

For coefficients b and c of two components in a basis that is a product of one-dimensional ones,
    mean over the image of  (d^|r| u_b / dx^rx dy^ry dz^rz) (d^|s| u_c / dx^sx dy^sy dz^sz)
        = b . (Gz^(rz, sz) x Gy^(ry, sy) x Gx^(rx, sx)) c,
exact for B-spline lattices, finite differences for dense fields. Derivatives run along the grid's axes, which makes
rotation-invariant sums the same as along world axes for any grid whose axes are orthogonal.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..kernels.cpu import lattice

#: (order to the left, order to the right) of an axis along which nothing is derived
VALUE = (0, 0)


def quadratic(theta: np.ndarray, grams, terms, name: str) -> tuple[float, np.ndarray]:
    """Half the sum over terms of factor * mean(left derivative of u_b * right derivative of u_c), and its gradient.

    Parameters
    ----------
    theta : array, (d, z, y, x)
    grams
        `axes`: for z, y, x a function of the two orders that gives the Gram matrix, a `Band`.
    terms : list of (factor, (z orders, y orders, x orders), b, c)
        Together symmetric: with each term its mirror image, orders and components exchanged.
    name : str
        The buffer that the gradient lives in until the next call with it.
    """
    ws = workspace()
    orders = [sorted({term[1][k] for term in terms}) for k in range(3)]
    gz, gy, gx = (grams.diagonals(axis, orders[axis], n, theta.dtype) for axis, n in enumerate(theta.shape[1:]))
    index = [(b, c, *(orders[k].index(at[k]) for k in range(3))) for _, at, b, c in terms]
    index, factors = np.array(index, np.int64).reshape(-1, 5), np.array([term[0] for term in terms], theta.dtype)
    most = max(3, len(gz))  # so that the common energies share them
    planes = ws.buffer(f"gram planes {most}", (most, *theta.shape), theta.dtype)[:len(gz)]
    gradient = ws.buffer(name, theta.shape, theta.dtype)
    work = theta.shape[0] * theta.shape[1]
    slab = max(1, work // 32)
    ws.run(lattice.gram_planes, work, theta, gy, gx, index, factors, planes, slab=slab)
    value = ws.total(lattice.gram_sum, work, 1, theta, planes, gz, gradient, slab=slab)
    return 0.5 * float(value[0]), gradient


def long_axes(theta: np.ndarray) -> list[int]:
    """Axes z, y, x (0, 1, 2) along which there is something to derive."""
    return [k for k in range(3) if theta.shape[k + 1] > 1]


def each_component(theta: np.ndarray, terms) -> list:
    """Terms (factor, orders) of every component with itself."""
    return [(*term, c, c) for c in range(len(theta)) for term in terms]

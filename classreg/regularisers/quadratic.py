"""Quadratic energies of derivatives, through one-dimensional Gram matrices.

For coefficients c of a basis that is a product of one-dimensional ones,
    mean over the image of (d^|r| u / dx^rx dy^ry dz^rz)^2 = c . (Gz^rz x Gy^ry x Gx^rx) c,
exact for B-spline lattices, finite differences for dense fields. Derivatives run along the grid's axes, which makes
rotation-invariant sums the same as along world axes for any grid whose axes are orthogonal.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..stencil import add_scaled, dot


def quadratic(theta: np.ndarray, grams, terms) -> tuple[float, np.ndarray]:
    """Value and gradient of sum over terms of factor * |mixed derivative|^2 / 2; `terms` are (factor, (rz, ry, rx))."""
    gradient = np.zeros_like(theta)
    for factor, orders in terms:
        g, scale = theta, factor
        for axis, r in enumerate(orders):
            operator = grams[axis][r]
            if operator is None:
                scale = scale / theta.shape[axis + 1]
            else:
                g = operator.apply(g, axis + 1)
        add_scaled(gradient, scale, g, gradient)
    return 0.5 * dot(theta, gradient), gradient

"""First derivatives of a spline lattice, at the corners of its cells and halfway between them, and the way back.

With D[:, a] the derivative of u in mm along array axis a, and E the axes' unit vectors in world space,
    det d(x + u)/dx = det(E + D) / det(E),
so no derivative needs turning into world axes.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..backend import workspace
from ..spline import Band
from ..stencil import add_scaled


@dataclass(frozen=True, eq=False)
class Slopes:
    """The operator from a lattice (d, z, y, x) to its slopes (d, d, Z, Y, X).

    Attributes
    ----------
    bands : per axis z, y, x, the operators of value and derivative (1 / mm)
    frame : array, (d, d)
        E: unit vectors of the last d array axes, in columns; world components x, y[, z] in rows.
    """

    bands: tuple[tuple[Band, Band], ...]
    frame: np.ndarray

    def __call__(self, theta: np.ndarray) -> np.ndarray:
        """Slopes [a, k]: of component k along the a-th of the last d axes; a buffer, until the next call."""
        ws, (z, y, x) = workspace(), self.bands
        d = len(theta)
        shape = tuple(len(axis[0].starts) for axis in self.bands)
        out = ws.buffer("slopes", (d, d, *shape), theta.dtype)
        flat, tilted = x[0].apply(theta, 3, "slopes 1"), x[1].apply(theta, 3, "slopes 2")
        last = y[0].apply(tilted, 2, "slopes 3")
        z[0].apply(last, 1, out=out[d - 1])
        z[0].apply(y[1].apply(flat, 2, "slopes 3"), 1, out=out[d - 2])
        if d == 3:
            z[1].apply(y[0].apply(flat, 2, "slopes 3"), 1, out=out[0])
        return out

    def adjoint(self, force: np.ndarray) -> np.ndarray:
        """The transpose: (d, d, Z, Y, X) to the lattice; a buffer, until the next call."""
        z, y, x = self.bands
        d = len(force)
        last = y[0].adjoint(z[0].adjoint(force[d - 1], 1, "slopes 3"), 2, "slopes 4")
        total = x[1].adjoint(last, 3, "slopes back")
        flat = y[1].adjoint(z[0].adjoint(force[d - 2], 1, "slopes 3"), 2, "slopes 4")
        if d == 3:
            upright = y[0].adjoint(z[1].adjoint(force[0], 1, "slopes 3"), 2, "slopes 5")
            add_scaled(flat, 1.0, upright, flat)
        return add_scaled(total, 1.0, x[0].adjoint(flat, 3, "slopes 1"), total)

    def low(self, theta: np.ndarray, least: float) -> np.ndarray:
        """Control points that move a point where the determinant is not above `least`, (*lattice) bool."""
        s, d = self(theta), len(theta)
        jacobian = np.moveaxis(s.reshape(d, d, -1), 2, 0).swapaxes(1, 2) + self.frame
        at = np.linalg.det(jacobian) / np.linalg.det(self.frame) <= least
        out = np.zeros(theta.shape[1:], bool)
        for index in np.argwhere(at.reshape(s.shape[2:])):
            k = np.floor(index * (np.array(out.shape) - 3).clip(0) / (np.array(s.shape[2:]) - 1).clip(1)).astype(int)
            out[tuple(slice(i, i + 4) for i in k)] = True
        return out

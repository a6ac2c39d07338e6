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
from ..kernels.cpu import lattice as kernels
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

    def barrier(self, theta: np.ndarray, below: float, least: float, weight: float):
        """weight times the mean of log((J - least) / (below - least))^2 where J < below, and its gradient.

        The value is infinite where J <= least somewhere; the gradient is None where it is zero or has no meaning.
        """
        ws, (z, y, x) = workspace(), self.bands
        d, shape = len(theta), [len(value.starts) for value, _ in self.bands]
        parts = ws.buffer("slopes", (3, d, theta.shape[1], *shape[1:]), theta.dtype)
        flat = x[0].apply(theta, 3, "slopes 1")
        if d == 3:
            y[0].apply(flat, 2, out=parts[0])
        y[1].apply(flat, 2, out=parts[1])
        y[0].apply(x[1].apply(theta, 3, "slopes 2"), 2, out=parts[2])
        active = ws.buffer("slopes active", shape[:2], np.bool_)
        force = ws.buffer("slopes force", (3, d, *shape), theta.dtype)
        along = [z[0].starts, z[0].weights.astype(theta.dtype), z[1].weights.astype(theta.dtype)]
        scale = weight / np.prod(shape)
        total, rows = ws.total(kernels.volume, shape[0], 2, parts, *along, self.frame, below, least, scale, active,
                               force, slab=max(1, shape[0] // 32))
        value = float(total * scale)
        if rows == 0 or not np.isfinite(total):
            return value, None
        ws.run(kernels.volume_back, parts.shape[2], force, active, *along, parts, slab=max(1, parts.shape[2] // 32))
        back = x[1].adjoint(y[0].adjoint(parts[2], 2, "slopes 1"), 3, "slopes back")
        flat = y[1].adjoint(parts[1], 2, "slopes 1")
        if d == 3:
            add_scaled(flat, 1.0, y[0].adjoint(parts[0], 2, "slopes 2"), flat)
        return value, add_scaled(back, 1.0, x[0].adjoint(flat, 3, "slopes 2"), back)

    def __call__(self, theta: np.ndarray) -> np.ndarray:
        """Slopes [a, k]: of component k along the a-th of the last d axes, (d, d, Z, Y, X)."""
        d = len(theta)
        out = []
        for a in range(3 - d, 3):
            s = theta
            for axis in range(3):
                s = self.bands[axis][int(a == axis)].apply(s, axis + 1)
            out.append(s)
        return np.stack(out)

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

"""Derivatives of a deformation at points, and the way back from what an energy pulls there.

On a spline lattice the points are the corners of its cells and halfway between them, on a dense field its samples.
With D[:, a] the derivative of u in mm along array axis a, and E the axes' unit vectors in world space,
    det d(x + u)/dx = det(E + D) / det(E),
so this needs no derivative turned into world axes; others take d u_k / d x_l = sum_a (E^-1)[a, l] D[a, k].

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..backend import workspace
from ..grid import Grid
from ..kernels.cpu import lattice as kernels
from ..spline import Band
from ..stencil import add_scaled, dot


@dataclass(frozen=True, eq=False)
class Slopes:
    """The operator from coefficients (d, z, y, x) to their slopes (d, d, Z, Y, X).

    Attributes
    ----------
    bands : per axis z, y, x, the operators of value, first and second derivative (1 / mm, 1 / mm^2)
        None stands for a value that is the coefficient itself.
    frame : array, (d, d)
        E: unit vectors of the last d array axes, in columns; world components x, y[, z] in rows.
    points : Grid
        Where they are taken.
    """

    bands: tuple[tuple[Band | None, Band, Band], ...]
    frame: np.ndarray
    points: Grid

    @property
    def push(self) -> np.ndarray:
        """E^-1 in the last d rows and the first d columns of a (3, 3) matrix of zeros, as the kernels take it."""
        d = len(self.frame)
        out = np.zeros((3, 3))
        out[3 - d:, :d] = np.linalg.inv(self.frame)
        return out

    def density(self, theta: np.ndarray, kernel, *options, where: np.ndarray | None = None, name: str = "density"):
        """Mean over the points of where * f(slopes), and its gradient in the coefficients.

        Parameters
        ----------
        theta : array, (d, z, y, x)
        kernel
            f, one of `kernels/cpu/slopes.py`, with its `options`.
        where : array, (Z, Y, X), optional
            How much each point counts; all alike by default.
        name : str
            The buffer that the gradient lives in until the next call with it.

        Returns
        -------
        value : float
            May be infinite.
        gradient : array as theta, or None where it is zero or has no meaning
        """
        ws, d, shape = workspace(), len(theta), self.points.shape3
        slopes = ws.buffer("slopes at points", (3, d, *shape), theta.dtype)
        for a in range(3 - d, 3):
            self._along(theta, [int(a == axis) for axis in range(3)], slopes[a])
        where = np.empty((0, 0, 0), theta.dtype) if where is None else where
        total = ws.total(kernel, shape[0], 1, slopes, where, self.push, *options, 1 / np.prod(shape))
        value = float(total[0] / np.prod(shape))
        if value == 0 or not np.isfinite(value):
            return value, None
        gradient = ws.buffer(name, theta.shape, theta.dtype)
        for a in range(3 - d, 3):
            self._back(slopes[a], [int(a == axis) for axis in range(3)], gradient, a == 3 - d)
        return value, gradient

    def laplacian(self, theta: np.ndarray, weight: float, where: np.ndarray, name: str = "laplacian"):
        """Half the weight times the mean over the points of where * |Laplacian u|^2, and its gradient."""
        ws, d, shape = workspace(), len(theta), self.points.shape3
        sums, part = (ws.buffer(f"slopes {k}", (d, *shape), theta.dtype) for k in ("second", "part"))
        axes = [a for a in range(3) if shape[a] > 1]
        for a in axes:
            self._along(theta, [2 * int(a == axis) for axis in range(3)], sums if a == axes[0] else part)
            if a != axes[0]:
                add_scaled(sums, 1.0, part, sums)
        np.multiply(sums, where, out=part)
        scale = weight / np.prod(shape)
        value = 0.5 * scale * dot(sums, part)
        part *= part.dtype.type(scale)
        gradient = ws.buffer(name, theta.shape, theta.dtype)
        for a in axes:
            self._back(part, [2 * int(a == axis) for axis in range(3)], gradient, a == axes[0])
        return value, gradient

    def bending(self, theta: np.ndarray, weight: float, where: np.ndarray, name: str = "bending"):
        """Half the weight times the mean over the points of where * all squared second derivatives, and its gradient.
        """
        ws, d, shape = workspace(), len(theta), self.points.shape3
        second, part = (ws.buffer(f"slopes {k}", (d, *shape), theta.dtype) for k in ("second", "part"))
        gradient, value, first = ws.buffer(name, theta.shape, theta.dtype), 0.0, True
        axes = [a for a in range(3) if shape[a] > 1]
        for a, b in ((a, b) for a in axes for b in axes if a <= b):
            orders = [int(a == axis) + int(b == axis) for axis in range(3)]
            scale = weight * (1 if a == b else 2) / np.prod(shape)
            self._along(theta, orders, second)
            np.multiply(second, where, out=part)
            value += 0.5 * scale * dot(second, part)
            part *= part.dtype.type(scale)
            self._back(part, orders, gradient, first)
            first = False
        return value, gradient

    def _along(self, theta, orders, out):
        """The derivative of some orders along z, y, x, into `out`."""
        bands = [(axis, b) for axis in (3, 2, 1) if (b := self.bands[axis - 1][orders[axis - 1]]) is not None]
        for axis, b in bands[:-1]:
            theta = b.apply(theta, axis, f"slopes along {axis}")
        axis, b = bands[-1]
        b.apply(theta, axis, out=out)

    def _back(self, force, orders, gradient, first):
        """The transpose of `_along`, written to or added to `gradient`."""
        bands = [(axis, b) for axis in (1, 2, 3) if (b := self.bands[axis - 1][orders[axis - 1]]) is not None]
        for axis, b in bands:
            force = b.adjoint(force, axis, "slopes back" if len(bands) == 1 else f"slopes back {axis}")
        if first:
            np.copyto(gradient, force)
        else:
            add_scaled(gradient, 1.0, force, gradient)

    def barrier(self, theta: np.ndarray, below: float, least: float, weight: float):
        """weight times the mean of log((J - least) / (below - least))^2 where J < below, and its gradient.

        The value is infinite where J <= least somewhere; the gradient is None where it is zero or has no meaning.
        """
        ws, (_, y, x) = workspace(), self.bands
        d, size = len(theta), np.prod(self.points.shape3)
        parts, along, active, force, (total, rows) = self._barrier(theta, below, least, weight / size)
        value = float(total * weight / size)
        if rows == 0 or not np.isfinite(total):
            return value, None
        ws.run(kernels.volume_back, parts.shape[2], force, active, *along, parts, slab=max(1, parts.shape[2] // 32))
        back = x[1].adjoint(y[0].adjoint(parts[2], 2, "slopes 1"), 3, "slopes back")
        flat = y[1].adjoint(parts[1], 2, "slopes 1")
        if d == 3:
            add_scaled(flat, 1.0, y[0].adjoint(parts[0], 2, "slopes 2"), flat)
        return value, add_scaled(back, 1.0, x[0].adjoint(flat, 3, "slopes 2"), back)

    def _barrier(self, theta, below, least, scale):
        """What the barrier's kernel takes and leaves: slopes along y and x, bands along z, rows below, force, sums."""
        ws, (z, y, x) = workspace(), self.bands
        d, shape = len(theta), [len(value.starts) for value, *_ in self.bands]
        parts = ws.buffer("slopes", (3, d, theta.shape[1], *shape[1:]), theta.dtype)
        flat = x[0].apply(theta, 3, "slopes 1")
        if d == 3:
            y[0].apply(flat, 2, out=parts[0])
        y[1].apply(flat, 2, out=parts[1])
        y[0].apply(x[1].apply(theta, 3, "slopes 2"), 2, out=parts[2])
        active = ws.buffer("slopes active", shape[:2], np.bool_)
        force = ws.buffer("slopes force", (3, d, *shape), theta.dtype)
        along = [z[0].starts, z[0].weights.astype(theta.dtype), z[1].weights.astype(theta.dtype)]
        sums = ws.total(kernels.volume, shape[0], 2, parts, *along, self.frame, below, least, scale, active, force,
                        slab=max(1, shape[0] // 32))
        return parts, along, active, force, sums

    def __call__(self, theta: np.ndarray) -> np.ndarray:
        """Slopes [a, k]: of component k along the a-th of the last d axes, (d, d, Z, Y, X)."""
        d = len(theta)
        out = []
        for a in range(3 - d, 3):
            s = theta
            for axis in range(3):
                b = self.bands[axis][int(a == axis)]
                s = s if b is None else b.apply(s, axis + 1)
            out.append(s)
        return np.stack(out)

    def low(self, theta: np.ndarray, least: float) -> np.ndarray:
        """Coefficients that move a point where the determinant is below `least`, (z, y, x) bool."""
        out = np.zeros(theta.shape[1:], bool)
        for z, rows, s in self._planes(theta, least):
            jacobian = np.moveaxis(s, (0, 1), (-1, -2)) + self.frame
            for y, x in np.argwhere(np.linalg.det(jacobian) / np.linalg.det(self.frame) < least):
                out[tuple(slice(b.starts[i], b.starts[i] + b.weights.shape[1])
                          for (_, b, _), i in zip(self.bands, (z, rows[y], x)))] = True
        return out

    def _planes(self, theta, least):
        """Per plane of points: the rows where a determinant may be below `least`, and slopes there, (d, d, n, X)."""
        d = len(theta)
        if self.bands[0][0] is None:
            s = self(theta)
            yield from ((z, np.arange(s.shape[3]), s[:, :, z]) for z in range(s.shape[2]))
            return
        parts, (starts, value, slope), active, *_ = self._barrier(theta, least, least - 1, 0.0)
        for z in np.flatnonzero(active.any(1)):
            rows, taps = np.flatnonzero(active[z]), slice(starts[z], starts[z] + value.shape[1])
            along = np.stack([slope[z], value[z], value[z]])[3 - d:]
            yield z, rows, np.einsum("at,aktyx->akyx", along, parts[3 - d:, :, taps][..., rows, :])

"""Sampling an image at mapped positions, and the way back.

    warped, weight, back = sample(image, phi, at)

`weight` is 1 inside the image and falls linearly to 0 over the first voxel outside (never along a one-sample axis),
times the image's own weight; within a step it is held constant. `back` turns an adjoint (d value / d warped) into
  back.force(adjoint)      d value / d u, one vector per sample (1/mm);
  back.reduce(adjoint)     d value / d A, (d + 1, d + 1), the 12 sums of a linear model, no field stored;
  back.slope(channel)      d warped / d u of one channel, for curvatures without a matrix;
  back.normal(curvature)   the 12 x 12 Gauss-Newton matrix of A;
  back.stencil(adjoint)    adjoint times the gradient of the warped image itself, for compositive updates, and with a
                           curvature the diagonal of their Gauss-Newton matrix.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .backend import workspace
from .grid import Grid, lift
from .image import Image
from .kernels.cpu import dense, labels, sample_cubic
from .kernels.cpu import sample as linear
from .mapping import Mapping, no_field, push


@dataclass(frozen=True, eq=False)
class Points:
    """A set of world points to sample at: `world` (n, d) mm, `weight` (n,) or None."""

    world: np.ndarray
    weight: np.ndarray | None = None

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return self.world.shape[1]

    @property
    def shape3(self) -> tuple[int, int, int]:
        """(1, 1, n): the points as one row of voxels."""
        return (1, 1, len(self.world))


@dataclass(frozen=True, eq=False)
class Position:
    """Index positions in an image: p(i) = matrix (i, 1) + push u(i), as the kernels take them."""

    matrix: np.ndarray
    push: np.ndarray
    field: np.ndarray


def position(image: Image, phi: Mapping, at: Grid | Points, dtype=np.float32) -> Position:
    """Where the samples of `at` fall in `image` under phi."""
    to_moving = image.grid.inverse3 @ lift(phi.matrix)
    if isinstance(at, Points):
        field = at.world.T if phi.field is None else at.world.T + phi.field
        matrix = np.zeros((3, 4))
        matrix[:, 3] = to_moving[:3, 3]
        return Position(matrix, push(to_moving, at.ndim), np.ascontiguousarray(field, dtype).reshape(at.ndim, 1, 1, -1))
    field = no_field(phi.ndim, dtype) if phi.field is None else phi.field3
    return Position((to_moving @ at.affine3)[:3], push(to_moving, phi.ndim), field)


@dataclass(frozen=True, eq=False)
class Back:
    """The backward products of one `sample` call; valid until the next one."""

    image: Image
    phi: Mapping
    at: Grid | Points
    position: Position
    order: int
    warped: np.ndarray
    name: str = "force"

    def force(self, adjoint: np.ndarray) -> np.ndarray:
        """d value / d u, (d, *at.shape3), in 1/mm, from an adjoint (C, *at.shape3)."""
        p, ws = self.position, workspace()
        out = ws.buffer(self.name, (self.phi.ndim, *self.at.shape3), adjoint.dtype)
        kernel, data = _kernels(self.image, self.order)
        ws.run(kernel.force, out.shape[1], data, p.matrix, p.push, p.field, adjoint, out)
        return out

    def stencil(self, adjoint: np.ndarray, curvature: np.ndarray | None = None, name: str | None = None):
        """Adjoint times the gradient of the warped image on its grid, (d, *at.shape3), in 1/mm.

        With a curvature (C or 1, *at.shape3) there is one channel more, the curvature times the gradient's square in
        1/mm^2, and the sums of it and of its square are returned too.
        """
        ws, d = workspace(), self.phi.ndim
        out = ws.buffer(name or self.name, (d if curvature is None else d + 1, *self.at.shape3), adjoint.dtype)
        to_world = np.ascontiguousarray(self.at.inverse3[:3, :3].T)
        none = np.empty((len(adjoint), 0, 0, 0), adjoint.dtype)
        sums = ws.total(dense.stencil, out.shape[1], 2, self.warped, adjoint, none if curvature is None else curvature,
                        to_world, out)
        return out if curvature is None else (out, sums)

    def slope(self, channel: int) -> np.ndarray:
        """d warped / d u of one channel, (d, *at.shape3), in 1/mm."""
        p, ws, dtype = self.position, workspace(), self.warped.dtype
        out = ws.buffer("force", (self.phi.ndim, *self.at.shape3), dtype)
        ones = ws.buffer("scratch", (1, *self.at.shape3), dtype)
        ones[...] = 1
        kernel, data = _kernels(self.image, self.order)
        ws.run(kernel.force, out.shape[1], data[channel:channel + 1], p.matrix, p.push, p.field, ones, out)
        return out

    def reduce(self, adjoint: np.ndarray) -> np.ndarray:
        """d value / d A for adjoints (K * C, *at.shape3), (K, 4, 4); rows x, y, z, of which the last is zero."""
        ws = workspace()
        count = len(adjoint) // self.image.channels
        if self.order == 1 and isinstance(self.at, Grid) and self.phi.field is None:
            g = ws.total(linear.reduce, adjoint.shape[1], 12 * count, self.image.data, self.position.matrix, adjoint)
            g = g.reshape(count, 3, 4)
            to_image = self.image.grid.inverse3[:3]
            return np.einsum("ia,kij,bj->kab", to_image, g, self.at.affine3)
        d = self.at.ndim
        undo = np.eye(4)
        undo[:d, :d] = np.linalg.inv(self.phi.matrix[:d, :d]).T
        return np.stack([undo @ self._moments(self.force(a)) for a in np.split(adjoint, count)])

    def _moments(self, force) -> np.ndarray:
        """Sums of a force times the world points (x, y, z, 1) that it acts on, (4, 4)."""
        d, out = self.at.ndim, np.zeros((4, 4))
        if isinstance(self.at, Grid) and self.phi.field is None:
            sums = workspace().total(linear.force_moments, force.shape[1], 4 * d, force).reshape(d, 4)
            out[:d] = sums @ self.at.affine3.T
            return out
        world = self.at.world if isinstance(self.at, Points) else self.at.points().reshape(-1, d)
        if self.phi.field is not None:
            world = world + self.phi.field.reshape(d, -1).T
        for a, f in enumerate(force.reshape(d, -1)):  # a product of matrices would add up in an order of its own
            out[a, :d] = [np.sum(f * world[:, b]) for b in range(d)]
            out[a, 3] = np.sum(f, dtype=np.float64)
        return out

    def normal(self, curvature: np.ndarray) -> np.ndarray:
        """Sum of curvature (C or 1, *at.shape3) times J J^T over the samples, J = d warped / d A; (4, 4, 4, 4).

        On a grid always with linear interpolation: it is a model of the curvature, not a derivative.
        """
        if isinstance(self.at, Points):
            return self._normal_at_points(curvature)
        h = workspace().total(linear.normal, curvature.shape[1], 144, self.image.data, self.position.matrix, curvature)
        to_image = self.image.grid.inverse3[:3]
        f = self.at.affine3
        return np.einsum("ia,bj,ijkl,kc,dl->abcd", to_image, f, h.reshape(3, 4, 3, 4), to_image, f, optimize=True)

    def _normal_at_points(self, curvature):
        """The same over points, row by row of J."""
        d, out = self.at.ndim, np.zeros((4, 4, 4, 4))
        undo = np.linalg.inv(self.phi.matrix[:d, :d]).T
        places = [*self.at.world.T, np.ones(len(self.at.world))]
        index = [(a, b) for a in range(d) for b in [*range(d), 3]]
        for c in range(self.image.channels):
            h, unit = curvature[min(c, len(curvature) - 1)], np.zeros_like(self.warped)
            unit[c] = 1
            force = self.force(unit).reshape(d, -1).astype(np.float64)
            slopes = [sum(undo[a, k] * force[k] for k in range(d)) for a in range(d)]
            rows = [slopes[a] * place for a in range(d) for place in places]
            for i, row in enumerate(rows):
                weighted = h.reshape(-1) * row
                for j, other in enumerate(rows):
                    out[(*index[i], *index[j])] += np.sum(weighted * other)
        return out


def sample(image: Image, phi: Mapping, at: Grid | Points, order: int = 1, name: str = "warped", out=None):
    """The image at phi of the samples of `at`.

    Parameters
    ----------
    image : Image
        Floating-point data.
    phi : Mapping
        Its field, if any, lies on `at`.
    at : Grid or Points
    order : 1 or 3
        Linear, or cubic B-spline interpolation.
    name : str
        Buffers to write into; the arrays live until the next call with this name.
    out : (array, array), optional
        Where to write the warped image and its weight instead.

    Returns
    -------
    warped : array, (channels, *at.shape3)
    weight : array, (*at.shape3)
    back : Back
    """
    ws = workspace()
    kernel, data = _kernels(image, order)
    p = position(image, phi, at, data.dtype)
    warped, weight = out or (ws.buffer(name, (image.channels, *at.shape3), data.dtype),
                             ws.buffer(name + " weight", at.shape3, data.dtype))
    ws.run(kernel.warp, warped.shape[1], data, p.matrix, p.push, p.field, warped, weight)
    if image.weight is not None:
        mask = ws.buffer(name + " mask", (1, *at.shape3), data.dtype)
        source = image.weight3[None].astype(data.dtype, copy=False)
        ws.run(linear.warp, mask.shape[1], source, p.matrix, p.push, p.field, mask,
               ws.buffer(name + " unused", at.shape3, data.dtype))
        np.multiply(weight, mask[0], out=weight)
    force = "force" if name == "warped" else f"{name} force"
    return warped, weight, Back(image, phi, at, p, order, warped, force)


def resample_labels(image: Image, phi: Mapping, grid: Grid, outside: float = 0) -> np.ndarray:
    """The label map at phi on `grid`: one-hot linear weights, the largest wins; (*grid.shape) in the map's dtype."""
    p = position(image, phi, grid)
    dtype = image.array.dtype
    bits = np.dtype(f"u{dtype.itemsize}")  # labels are only told apart: signed and unsigned share one kernel
    out = np.empty(grid.shape3, bits)
    workspace().run(labels.vote, out.shape[0], np.require(image.data[0], requirements=("C", "W")).view(bits), p.matrix,
                    p.push, p.field, np.array(outside, dtype).view(bits)[()], out)
    return out.view(dtype).reshape(grid.shape)


def _kernels(image, order):
    if order == 1:
        return linear, image.data
    return sample_cubic, image.coefficients

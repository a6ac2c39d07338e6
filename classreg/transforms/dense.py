"""A displacement at every sample: phi(x) = A (x + u(x)).

`compositive` chooses the tangent: False adds the step, u + w; True composes, phi o (id + w), whose gradient is the
adjoint times the gradient of the warped image.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from ..backend import workspace
from ..grid import Grid
from ..kernels.cpu import dense as kernels
from ..mapping import Mapping, push
from ..sampling import Points
from ..spline import difference_band, difference_gram, linear_band
from ..stencil import peak
from .grams import Grams, frame_of
from .slopes import Slopes


@dataclass(eq=False)
class Dense:
    """A dense displacement field.

    Parameters
    ----------
    grid : Grid
        The fixed grid at full resolution.
    matrix : array, (d + 1, d + 1)
        A, world to world.
    compositive : bool
        How steps are taken.
    """

    grid: Grid
    matrix: np.ndarray
    compositive: bool = False
    acts_on = "displacement"
    _level: Grid | None = None

    def identity(self) -> np.ndarray:
        """No displacement: (d, 1, 1, 1), which `refine` brings to the first level."""
        return np.zeros((self.grid.ndim, 1, 1, 1), np.float32)

    def refine(self, theta: np.ndarray, grid: Grid) -> np.ndarray:
        """The field on a level's grid, linear interpolation."""
        before, self._level = self._level, grid
        if before is None or theta.shape[1:] == (1, 1, 1):
            return np.zeros((grid.ndim, *grid.shape3), np.float32) + theta
        return resize(theta, before, grid)

    def fit(self, field: np.ndarray, grid: Grid) -> np.ndarray:
        """Parameters of a displacement (d, *grid.shape3) in mm on a grid with the axes of the fixed one."""
        self._level = grid
        return np.ascontiguousarray(field, np.float32)

    def forward(self, theta: np.ndarray, at):
        """The mapping, and its way back: `back(image_back, adjoint)` is the gradient, (d, z, y, x)."""
        if not isinstance(at, Grid):
            field = self.field_of(theta, self._level)
            return at_points(self.matrix, field, self._level, at, lambda pulled: self.to_tangent(
                field, pulled, workspace().buffer("points back", field.shape, field.dtype)))
        back = StencilBack() if self.compositive else ForceBack()
        return Mapping(self.matrix, self.field_of(theta, at).reshape((self.grid.ndim, *at.shape)), at), back

    def field_of(self, theta: np.ndarray, at: Grid) -> np.ndarray:
        """The displacement in mm on `at`, (d, z, y, x)."""
        return theta if self._level is None or at.shape == self._level.shape else resize(theta, self._level, at)

    def retract(self, theta: np.ndarray, step: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """u + w, or the displacement of phi o (id + w); into `out` if given."""
        out = np.empty_like(theta) if out is None else out
        if not self.compositive:
            return np.add(theta, step, out=out)
        return compose(theta, step, self._level, out)

    def spread(self, step: np.ndarray, at: Grid) -> np.ndarray:
        """The displacement in mm that a step adds at the samples of a level, (d, z, y, x)."""
        return step

    def gather(self, force: np.ndarray, at: Grid, like: np.ndarray, squared: bool = False) -> np.ndarray:
        """The transpose of `spread` for a field like another; `squared`, that of its squared entries."""
        return force

    def displacement(self, theta: np.ndarray) -> np.ndarray:
        """The displacement in mm on the level's grid."""
        return self.field_of(theta, self._level)

    def to_tangent(self, field: np.ndarray, gradient: np.ndarray, out: np.ndarray) -> np.ndarray:
        """The gradient in the displacement, turned to that in a step w of `retract`, both (d, z, y, x); into `out`.

        Of phi o (id + w), u + w + Du w to first order, it is (1 + Du)^T gradient, with central differences of the
        displacement `field`, which `compose` takes as constant beyond the border.
        """
        if not self.compositive:
            np.copyto(out, gradient)
            return out
        to_world = np.ascontiguousarray(self._level.inverse3[:3, :3].T)
        workspace().run(kernels.turn, field.shape[1], field, gradient, to_world, out)
        return out

    def grams(self, theta: np.ndarray, at: Grid) -> Grams:
        """Gram matrices of finite differences."""
        return Grams(tuple(partial(difference_gram, n, s) for n, s in zip(at.shape3, at.spacing3)), frame_of(at))

    def slopes(self, theta: np.ndarray, at: Grid | None = None) -> Slopes:
        """The operator that gives finite differences at the samples; see `spline.difference_band`."""
        at = self._level if at is None else at
        bands = [(None, *(difference_band(n, s, r) for r in (1, 2))) for n, s in zip(at.shape3, at.spacing3)]
        return Slopes(tuple(bands), frame_of(at), at)

    def reach(self, step: np.ndarray) -> float:
        """Longest vector of a step, mm."""
        return peak(step, push(np.eye(4), len(step)))


class ForceBack:
    """To a step w of u + w."""

    def __call__(self, image_back, adjoint):
        """d value / d w at w = 0, (d, z, y, x)."""
        return image_back.force(adjoint)

    def normal(self, image_back, adjoint, curvature, deflate):
        """Gradient and the diagonal of the Gauss-Newton matrix, (d + 1, z, y, x), and the diagonal's typical value.

        The diagonal is the same for all components: curvature times the squared gradient of the warped image.
        `deflate` is left out: a sum over the whole image hardly touches any one diagonal entry. The typical value is
        its mean weighted by itself, which an empty margin does not change.
        """
        out, (total, square) = image_back.stencil(adjoint, curvature)
        out[:-1] = image_back.force(adjoint)
        return out, square / max(total, 1e-30)


class StencilBack(ForceBack):
    """To a step w of phi o (id + w)."""

    def __call__(self, image_back, adjoint):
        """d value / d w at w = 0, (d, z, y, x)."""
        return image_back.stencil(adjoint)

    def normal(self, image_back, adjoint, curvature, deflate):
        """As in `ForceBack`."""
        out, (total, square) = image_back.stencil(adjoint, curvature)
        return out, square / max(total, 1e-30)


class PointsBack:
    """Forces at points to a force on the field that is interpolated there, and on from there."""

    def __init__(self, field, index, weights, onward):
        self.field, self.index, self.weights, self.onward = field, index, weights, onward

    def __call__(self, image_back, adjoint):
        """The gradient in the tangent."""
        field = self.field
        force = image_back.force(adjoint).reshape(len(field), -1)
        pulled = workspace().buffer("points pulled", field.shape, field.dtype)
        pulled[...] = 0
        for component, f in zip(pulled, force):
            np.add.at(component.reshape(-1), self.index, (f[:, None] * self.weights).astype(field.dtype))
        return self.onward(pulled)


def at_points(matrix: np.ndarray, field: np.ndarray, grid: Grid, points: Points, onward):
    """A (x + u(x)) at points, u (d, z, y, x) interpolated; and the way back, by `onward(d value / d u)`."""
    index, weights = linear_taps(grid, points.world)
    u = np.stack([(c.ravel()[index] * weights).sum(-1) for c in field]).astype(field.dtype)
    return Mapping(matrix, u), PointsBack(field, index, weights, onward)


def linear_taps(grid: Grid, world: np.ndarray):
    """Flat indices and weights (n, 8) of the samples around world points (n, d), clamped to the grid."""
    index = grid.to_index(world)
    if grid.ndim == 2:
        index = np.column_stack([np.zeros(len(index)), index])
    flat, weights = np.zeros((len(index), 1), np.int64), np.ones((len(index), 1))
    for k, n in enumerate(grid.shape3):
        p = np.clip(index[:, k], 0, n - 1)
        i = np.minimum(np.floor(p), max(n - 2, 0)).astype(np.int64)
        taps = np.stack([i, np.minimum(i + 1, n - 1)], -1)
        share = np.stack([1 - (p - i), p - i], -1)
        flat = (flat[:, :, None] * n + taps[:, None]).reshape(len(index), -1)
        weights = (weights[:, :, None] * share[:, None]).reshape(len(index), -1)
    return flat, weights


def compose(field: np.ndarray, step: np.ndarray, grid: Grid, out: np.ndarray) -> np.ndarray:
    """Displacement of (id + field) o (id + step), mm, on one grid."""
    to_index = push(grid.inverse3, len(field))
    workspace().run(kernels.compose, field.shape[1], field, step, to_index, out)
    return out


def resize(field: np.ndarray, old: Grid, new: Grid) -> np.ndarray:
    """A field (d, z, y, x) brought from one level's grid to another's with the same axes; linear, clamped."""
    to_old = np.linalg.solve(old.affine3, new.affine3)
    for k in range(3):
        index = to_old[k, k] * np.arange(new.shape3[k]) + to_old[k, 3]
        field = linear_band(index, old.shape3[k]).apply(field, k + 1)
    return field

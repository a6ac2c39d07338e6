"""A pair of images that meet halfway: both move to a common space, each by half of one transform.

    m -> phi_fixed(m), phi_moving(m),     phi = phi_moving o phi_fixed^-1, fixed world to moving world

The gauge of a group of two, that nothing moves on average, leaves exactly one transform. With A = S S (S the square
root of the matrix),

    Halves         phi_fixed = S^-1 o exp(-v/2),  phi_moving = S o exp(v/2),  phi = S o exp(v) o S
    LinearHalves   phi_fixed = exp(-L/2),         phi_moving = exp(L/2),      phi = exp(L),  L = sum_k theta_k G_k

(G the generators of the linear model about the middle of the template, see `LogLinear`). Exchanging the images
turns A into A^-1, v into -v and L into -L and nothing else, so that phi becomes its inverse. The gradient is the force
at both ends: half of that on the moving image less half of that on the fixed one. Source of the symmetric forces:
Vercauteren et al., MICCAI 2008, doi:10.1007/978-3-540-85988-8_90; of the meeting halfway: Avants et al., Medical Image
Analysis 2008, doi:10.1016/j.media.2007.06.004.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from ..grid import Grid, lower, nearest_axes
from ..mapping import Mapping
from ..stencil import dot, total
from . import log_linear
from .linear import LinearBack
from .log_linear import LogLinear
from .velocity import Velocity, exponential, logarithm


@dataclass(eq=False)
class Halves(Velocity):
    """A stationary velocity in mm per unit time on the level's template grid; see `Velocity` for the parameters."""

    gradient: str = field(default="approximate", init=False)

    def __post_init__(self):
        self.root = half(self.matrix)

    def fit(self, field: np.ndarray, grid: Grid) -> np.ndarray:
        """A velocity for A (x + u(x)) with u (d, *grid.shape3) in mm on a grid of the fixed side."""
        return self.adopt(logarithm(np.ascontiguousarray(field, np.float32), grid), grid)

    def adopt(self, velocity: np.ndarray, grid: Grid) -> np.ndarray:
        """The parameters of A o exp(v), v (d, *grid.shape3) on a grid of the fixed side: S v S^-1, sampled anew."""
        d = self.grid.ndim
        here = Mapping(np.eye(d + 1), velocity.reshape((d, *grid.shape)), Grid(grid.shape, self.root @ grid.affine))
        self._level = self.grid
        turned = np.einsum("ij,j...->i...", self.root[:d, :d].astype(velocity.dtype), here.resampled(self.grid))
        return np.ascontiguousarray(turned).reshape(d, *self.grid.shape3)

    def forward(self, theta: np.ndarray, at: Grid):
        """Mappings from the template to the fixed and to the moving image, in turn; and their way back to v."""
        d = self.grid.ndim

        def mappings():
            for matrix, sign in ((np.linalg.inv(self.root), -0.5), (self.root, 0.5)):
                field = exponential(theta, at, sign)  # at the next one it is gone
                yield Mapping(matrix, field.reshape((d, *at.shape)), at)

        return mappings(), HalvesBack()

    def whole(self, theta: np.ndarray, grid: Grid) -> tuple[Velocity, np.ndarray]:
        """phi = A o exp(S^-1 v S) as a model of the fixed `grid` and its parameters.

        Exact: the velocity's samples stay where they are, and are seen from the fixed side.
        """
        d, back = self.grid.ndim, np.linalg.inv(self.root)
        model = Velocity(grid, self.matrix, _level=Grid(self._level.shape, back @ self._level.affine))
        return model, np.ascontiguousarray(np.einsum("ij,j...->i...", back[:d, :d].astype(theta.dtype), theta))


class HalvesBack:
    """To a step w of v: exp(-w/2) and exp(w/2) within."""

    def __call__(self, image_backs, adjoints):
        """d value / d w at w = 0, (d, z, y, x)."""
        fixed, moving = image_backs
        other = fixed.stencil(adjoints[0], name="force of the fixed image")
        out = moving.stencil(adjoints[1])
        out -= other
        out *= out.dtype.type(0.5)
        return out

    def normal(self, image_backs, adjoints, curvatures, deflate):
        """Gradient and the diagonal of the Gauss-Newton matrix, and the diagonal's typical value; see `ForceBack`."""
        fixed, moving = image_backs
        other, _ = fixed.stencil(adjoints[0], curvatures[0], name="force of the fixed image")
        out, _ = moving.stencil(adjoints[1], curvatures[1])
        out[:-1] -= other[:-1]
        out[-1] += other[-1]
        out[:-1] *= out.dtype.type(0.5)
        out[-1] *= out.dtype.type(0.25)
        return out, dot(out[-1], out[-1]) / max(total(out[-1]), 1e-30)


@dataclass(frozen=True, eq=False)
class LinearHalves(LogLinear):
    """A linear model between a pair, by the coordinates of its logarithm; `grid` is the template's."""

    scatters = False

    def forward(self, theta: np.ndarray, at):
        """Mappings from the template to the fixed and to the moving image; and their way back to a step of theta."""
        return [Mapping(self.matrix(sign * theta)) for sign in (-0.5, 0.5)], LinearHalvesBack(self, theta)


@dataclass(frozen=True, eq=False)
class LinearHalvesBack:
    """From both images back to the coordinates, each through the 12 sums."""

    model: LinearHalves
    theta: np.ndarray

    def __call__(self, image_backs, adjoints) -> np.ndarray:
        """Gradient, (p,)."""
        return sum(sign * LinearBack(self.model.tangent(sign * self.theta))(back, adjoint)
                   for sign, back, adjoint in zip((-0.5, 0.5), image_backs, adjoints))


def half(matrix: np.ndarray) -> np.ndarray:
    """S with S S = A, for a world matrix (d + 1, d + 1): half of its motion; InputError where there is none."""
    try:
        log = log_linear.logarithm(matrix)
    except InputError as error:
        raise InputError("two images cannot meet halfway along a matrix that mirrors or turns by 180 degrees; this one "
                         f"is {np.asarray(matrix).tolist()}: use a model that is not symmetric, or a closer "
                         "init") from error
    return lower(log_linear.exponential(log / 2)[0], len(matrix) - 1)


def template(fixed: Grid, moving: Grid, matrix: np.ndarray) -> Grid:
    """The grid on which a pair meets: where both images lie once each went half of A, with axes between theirs.

    Along each axis it covers what both cover (at least half of the shorter one) and has the geometric mean of their
    spacings, so that it has about as many samples as they have, and neither image is preferred: exchanged, they give
    the same samples. Without motion, two images on one grid meet on just that grid.
    """
    d, root = fixed.ndim, half(matrix)
    sides = [(root @ fixed.affine, np.array(fixed.shape))]
    sides.append(like(np.linalg.inv(root) @ moving.affine, moving.shape, fixed))
    ways, spacings, middles, lengths = [], [], [], []
    for affine, shape in sides:
        spacing = np.linalg.norm(affine[:d, :d], axis=0)
        ways.append(affine[:d, :d] / spacing)
        spacings.append(spacing)
        middles.append(affine[:d, :d] @ ((shape - 1) / 2) + affine[:d, d])
        lengths.append(spacing * shape)
    u, _, vt = np.linalg.svd(ways[0] + ways[1])
    axes, spacing = u @ vt, np.sqrt(spacings[0] * spacings[1])
    at = [axes.T @ m for m in middles]
    low = np.maximum(*(a - n / 2 for a, n in zip(at, lengths)))
    high = np.minimum(*(a + n / 2 for a, n in zip(at, lengths)))
    least = np.minimum(*lengths) / 2
    middle, length = (low + high) / 2, np.maximum(high - low, least)
    one = (sides[0][1] == 1) & (sides[1][1] == 1)
    shape = np.where(one, 1, np.maximum(1, np.round(length / spacing - 0.01))).astype(int)
    affine = np.eye(d + 1)
    affine[:d, :d] = axes * spacing
    affine[:d, d] = axes @ middle - affine[:d, :d] @ ((shape - 1) / 2)
    return Grid(tuple(shape), affine)


def like(affine, shape, fixed):
    """An affine and shape with axes reordered and turned round to those of `fixed` that they are nearest to."""
    d = len(shape)
    order, signs = nearest_axes(affine[:d, :d] / np.linalg.norm(affine[:d, :d], axis=0), fixed.axes)
    shape, out = np.array(shape)[order], np.eye(d + 1)
    out[:d, :d] = affine[:d, :d][:, order] * signs
    out[:d, d] = affine[:d, d] + affine[:d, :d][:, order] @ np.where(signs < 0, shape - 1, 0)
    return out, shape

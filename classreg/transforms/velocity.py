"""Stationary velocity field: phi = A o exp(v), by scaling and squaring.

    u <- w o (id + w / 2), w = v / 2^K;  K times:  u <- u + u o (id + u)        with  max |w| < 1/2 voxel

The midpoint in the first line makes the start exact to second order in w; u <- w alone would leave errors as
large as those of many squarings fewer.

A step w is taken in the log domain, v + w (first order of the Baker-Campbell-Hausdorff series), with the gradient of
the composition phi o exp(w). Source: Vercauteren et al., MICCAI 2008, doi:10.1007/978-3-540-85988-8_90.

Squarings interpolate a displacement between samples again and again, which is fast and good for steps. What a
registration returns is evaluated by `flow` instead: each point follows the velocity by itself, so that exp(-v) undoes
exp(v) at any point, not only as well as two fields of samples do.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..backend import workspace
from ..grid import Grid, lift
from ..kernels.cpu import flow as kernels
from ..mapping import Mapping, no_field, push
from ..sampling import Points
from ..stencil import peak, smooth
from .dense import Dense, StencilBack, compose, resize

#: steps along a path per sample that it crosses: on a grid, and at points, which are few
PACE, POINTS_PACE = 0.5, 2.0


@dataclass(eq=False)
class Velocity(Dense):
    """A stationary velocity in mm per unit time on the level's grid; see `Dense` for the parameters."""

    compositive: bool = True
    acts_on = "velocity"

    def fit(self, field: np.ndarray, grid: Grid) -> np.ndarray:
        """A velocity whose exponential is a displacement (d, *grid.shape3) in mm; see `logarithm`."""
        return logarithm(super().fit(field, grid), grid)

    def forward(self, theta: np.ndarray, at):
        """The mapping on `at`, and its way back to a step of v."""
        if not isinstance(at, Grid):
            return super().forward(theta, at)
        return Mapping(self.matrix, self.field_of(theta, at).reshape((self.grid.ndim, *at.shape)), at), StencilBack()

    def field_of(self, theta: np.ndarray, at: Grid) -> np.ndarray:
        """exp(v) - id in mm, (d, z, y, x)."""
        velocity = theta if at.shape == self._level.shape else resize(theta, self._level, at)
        return exponential(velocity, at)

    def flow(self, theta: np.ndarray, at: Grid | Points, start: Mapping | None = None) -> np.ndarray:
        """exp(v) - id in mm at `at`, or at start(x) for the x of `at`, following v: (d, *at.shape), or (d, n).

        `start` has its field on `at`, or none. A velocity may lie on any grid, and points anywhere. In the dtype of
        the parameters on a grid, float64 at points.
        """
        return flow(theta, self._level, at, start)

    def inverse(self, theta: np.ndarray, grid: Grid) -> tuple[Velocity, np.ndarray]:
        """exp(-v) o A^-1 = A^-1 o exp(-A v A^-1) as a model and its parameters; `grid` is the moving one.

        Exact: the velocity's samples stay where they are, and are seen from the other side.
        """
        d, level = self.grid.ndim, Grid(self._level.shape, self.matrix @ self._level.affine)
        turned = np.einsum("ij,j...->i...", -self.matrix[:d, :d].astype(theta.dtype), theta)
        return Velocity(grid, np.linalg.inv(self.matrix), _level=level), np.ascontiguousarray(turned)

    def retract(self, theta: np.ndarray, step: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """v + w; into `out` if given."""
        return np.add(theta, step, out=np.empty_like(theta) if out is None else out)


def flow(velocity: np.ndarray, grid: Grid, at: Grid | Points, start: Mapping | None = None) -> np.ndarray:
    """See `Velocity.flow`; `velocity` (d, *grid.shape3) lies on `grid`."""
    d, ws = len(velocity), workspace()
    to_index = grid.inverse3
    from_start = to_index if start is None else to_index @ lift(start.matrix)
    if isinstance(at, Points):  # a point is a row of its own: its path does not depend on the others
        matrix = np.zeros((3, 4))
        matrix[:, 3] = from_start[:3, 3]
        field = at.world.T if start is None or start.field is None else at.world.T + start.field
        field = np.ascontiguousarray(field, np.float64).reshape(d, -1, 1, 1)
        out, pace = np.empty(field.shape), POINTS_PACE
    else:
        matrix = (from_start @ at.affine3)[:3]
        out, pace = np.empty((d, *at.shape3), velocity.dtype), PACE
        field = no_field(d, out.dtype) if start is None else start.field3
    ws.run(kernels.flow, out.shape[1], velocity, matrix, push(from_start, d), field, push(to_index, d), pace, out)
    return out.reshape((d, *at.shape)) if isinstance(at, Grid) else out.reshape(d, -1)


def exponential(velocity: np.ndarray, grid: Grid, scale: float = 1.0) -> np.ndarray:
    """Displacement of exp(scale v), mm, (d, z, y, x); in a buffer that lives until the next call."""
    ws = workspace()
    to_index = push(grid.inverse3, len(velocity))
    squarings = int(max(0, np.ceil(np.log2(max(abs(scale) * peak(velocity, to_index), 1e-9) / 0.5))))
    u, other = (ws.buffer(f"exponential {k}", velocity.shape, velocity.dtype) for k in (0, 1))
    np.multiply(velocity, velocity.dtype.type(scale * 0.5 ** (squarings + 1)), out=other)
    compose(other, other, grid, u)  # w / 2 + (w / 2) o (id + w / 2)
    u *= 2
    u -= other
    u -= other
    for _ in range(squarings):
        compose(u, u, grid, other)
        u, other = other, u
    return u


def logarithm(field: np.ndarray, grid: Grid, tolerance: float = 0.02, iterations: int = 20) -> np.ndarray:
    """v in mm with exp(v) = id + field, as near as there is one, (d, z, y, x).

    The fixed point of v <- v + G * (field - (exp(v) - id)), the first order of the Baker-Campbell-Hausdorff series with
    a Gaussian G of half a sample, which keeps what has no logarithm (folds, and what lies between the samples) from
    growing. It ends when the largest residual is below `tolerance` samples or falls no more.
    """
    velocity, best, least = field.copy(), field.copy(), np.inf
    to_index = push(grid.inverse3, len(field))
    for _ in range(iterations):
        rest = field - exponential(velocity, grid)
        size = peak(rest, to_index)
        if size >= 0.98 * least:
            break
        best, least = velocity.copy(), size
        if size < tolerance:
            break
        velocity += smooth(rest, np.full(3, 0.5), np.empty_like(rest))
    return best

"""Stationary velocity field: phi = A o exp(v), by scaling and squaring.

    u <- w o (id + w / 2), w = v / 2^K;  K times:  u <- u + u o (id + u)        with  max |w| < 1/2 voxel

The midpoint in the first line makes the start exact to second order in w; u <- w alone would leave errors as
large as those of many squarings fewer.

A step w is taken in the log domain, v + w. `gradient` says what it follows:

    "approximate"   the gradient of the composition phi o exp(w), the first order of the Baker-Campbell-Hausdorff
                    series: the force where points end. Vercauteren et al., MICCAI 2008,
                    doi:10.1007/978-3-540-85988-8_90.
    "exact"         the derivative of the objective in v: the squarings backwards, each through its argument and
                    through its values (whose adjoint adds to the samples around x + u(x)). As in automatic
                    differentiation; for velocities that change in time, Beg et al., IJCV 2005,
                    doi:10.1023/B:VISI.0000043755.93987.aa.

Squarings interpolate a displacement between samples again and again, which is fast and good for steps. What a
registration returns is evaluated by `flow` instead: each point follows the velocity by itself, so that exp(-v) undoes
exp(v) at any point, not only as well as two fields of samples do.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..backend import workspace
from ..errors import unknown
from ..grid import Grid, lift
from ..kernels.cpu import dense
from ..kernels.cpu import flow as kernels
from ..mapping import Mapping, no_field, push
from ..sampling import Points
from ..stencil import peak, smooth
from .dense import Dense, ForceBack, StencilBack, at_points, compose, resize

GRADIENTS = ("approximate", "exact")

#: steps along a path per sample that it crosses: on a grid, and at points, which are few
PACE, POINTS_PACE = 0.5, 2.0


@dataclass(eq=False)
class Velocity(Dense):
    """A stationary velocity in mm per unit time on the level's grid.

    Parameters
    ----------
    grid, matrix
        See `Dense`.
    gradient : {"approximate", "exact"}
        What steps follow; the exact one keeps the field of every squaring.
    """

    gradient: str = "approximate"
    compositive: bool = field(default=True, init=False)
    acts_on = "velocity"

    def __post_init__(self):
        if self.gradient not in GRADIENTS:
            raise unknown("gradient", self.gradient, GRADIENTS)
        self.compositive = self.gradient == "approximate"

    def fit(self, field: np.ndarray, grid: Grid) -> np.ndarray:
        """A velocity whose exponential is a displacement (d, *grid.shape3) in mm; see `logarithm`."""
        return logarithm(super().fit(field, grid), grid)

    def forward(self, theta: np.ndarray, at):
        """The mapping on `at`, and its way back to a step of v."""
        if not isinstance(at, Grid):
            if self.compositive:
                return super().forward(theta, at)
            path, level = [], self._level
            field = self.field_of(theta, level, path)
            return at_points(self.matrix, field, level, at, lambda pulled: exponential_back(path, level, pulled))
        path = None if self.compositive else []
        u = self.field_of(theta, at, path).reshape((self.grid.ndim, *at.shape))
        return Mapping(self.matrix, u, at), StencilBack() if path is None else SquaringsBack(path, at)

    def field_of(self, theta: np.ndarray, at: Grid, path: list | None = None) -> np.ndarray:
        """exp(v) - id in mm, (d, z, y, x); see `exponential` for `path`."""
        velocity = theta if at.shape == self._level.shape else resize(theta, self._level, at)
        return exponential(velocity, at, path=path)

    def flow(self, theta: np.ndarray, at: Grid | Points, start: Mapping | None = None) -> np.ndarray:
        """exp(v) - id in mm at `at`, or at start(x) for the x of `at`, following v: (d, *at.shape), or (d, n).

        `start` has its field on `at`, or none. A velocity may lie on any grid, and points anywhere. In the dtype of
        the parameters on a grid, float64 at points.
        """
        return flow(theta, self._level, at, start)

    def stationary(self, theta: np.ndarray) -> tuple[np.ndarray, Grid]:
        """v in mm, (d, z, y, x), and the grid of its samples."""
        return theta, self._level or self.grid

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


@dataclass(frozen=True, eq=False)
class SquaringsBack(ForceBack):
    """To a step w of exp(v + w), for v on the grid that exp(v) is sampled on; valid until the next exponential."""

    path: list
    grid: Grid

    def __call__(self, image_back, adjoint):
        """d value / d w at w = 0, (d, z, y, x)."""
        return exponential_back(self.path, self.grid, image_back.force(adjoint))

    def normal(self, image_back, adjoint, curvature, deflate):
        """As in `ForceBack`; the diagonal is that of the force."""
        out, (total, square) = image_back.stencil(adjoint, curvature)
        out[:-1] = self(image_back, adjoint)
        return out, square / max(total, 1e-30)


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


def exponential(velocity: np.ndarray, grid: Grid, scale: float = 1.0, path: list | None = None) -> np.ndarray:
    """Displacement of exp(scale v), mm, (d, z, y, x); in a buffer that lives until the next call.

    With w = scale v / 2^squarings, w / 2 and the field before each squaring go into a list `path`, in buffers too.
    """
    ws = workspace()
    to_index = push(grid.inverse3, len(velocity))
    squarings = int(max(0, np.ceil(np.log2(max(abs(scale) * peak(velocity, to_index), 1e-9) / 0.5))))

    def buffer(k):
        return ws.buffer(f"exponential {k % 2 if path is None else k}", velocity.shape, velocity.dtype)

    half, u = buffer(1), buffer(0)
    np.multiply(velocity, velocity.dtype.type(scale * 0.5 ** (squarings + 1)), out=half)
    compose(half, half, grid, u)  # w / 2 + (w / 2) o (id + w / 2)
    u *= 2
    u -= half
    u -= half
    kept = [half]
    for k in range(squarings):
        kept.append(u)
        u = compose(u, u, grid, buffer(k + 1 if path is None else k + 2))
    if path is not None:
        path.extend(kept)
    return u


def exponential_back(path: list, grid: Grid, adjoint: np.ndarray) -> np.ndarray:
    """d value / d v, (d, z, y, x), from d value / d exp(v) and the `path` of `exponential` at scale 1; in a buffer."""
    ws, (half, *fields) = workspace(), path
    to_index = push(grid.inverse3, len(half))
    planes = np.empty((half.shape[1], 2), np.int64)

    def back(u, g, out):
        ws.run(dense.reach, half.shape[1], u, to_index, planes)
        ws.run(dense.square_back, half.shape[1], u, to_index, planes, g, out)
        return out

    out, other = (ws.buffer(f"exponential back {k}", half.shape, half.dtype) for k in (0, 1))
    for u in reversed(fields):
        adjoint, out, other = back(u, adjoint, out), other, out
    back(half, adjoint, out)  # u = 2 (w / 2) o (id + w / 2): without the identity of a squaring
    out -= adjoint
    out *= out.dtype.type(0.5 ** len(fields))
    return out


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

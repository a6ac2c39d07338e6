"""Linear models by the coordinates of their logarithm, to which steps are simply added.

    phi(x) = exp(L) x,     L = sum_k theta_k G_k

with G the generators of the kind about the middle of the grid: translations, turns, scale, ... Of a group of images
that all move, the mean over theta is the logarithm of the mean motion (the Karcher mean, where it is zero), so that
taking it out keeps the common space in place and its volume, sum_j log det A_j = 0. Source: Arsigny et al., MICCAI
2006, doi:10.1007/11866565_113.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import InputError
from ..grid import Grid, lift, lower
from ..mapping import Mapping
from .linear import Linear, LinearBack


@dataclass(frozen=True, eq=False)
class LogLinear:
    """A linear model by its logarithm; see `Linear` for the kinds.

    Parameters
    ----------
    grid : Grid
        Its centre and size set the centre of rotation and the scale of the parameters.
    kind : {"translation", "rigid", "similarity", "affine"}
    """

    grid: Grid
    kind: str = "affine"
    scatters = True

    def __post_init__(self):
        self.generators  # noqa: B018, refuses an unknown kind

    @cached_property
    def generators(self) -> np.ndarray:
        """G, lifted, (p, 4, 4); a unit step moves the grid by about 1 mm."""
        model = Linear(self.grid, self.kind)
        return model.tangent(model.identity())

    def identity(self) -> np.ndarray:
        """Parameters of the identity."""
        return np.zeros(len(self.generators))

    def parameters(self, matrix: np.ndarray) -> np.ndarray:
        """Parameters of the model's member nearest to a world matrix (d + 1, d + 1).

        Raises
        ------
        InputError
            For a matrix without a real logarithm: a mirror, or half a turn.
        """
        model = Linear(self.grid, self.kind)
        log = logarithm(model.matrix(model.parameters(matrix)))
        return np.linalg.lstsq(self.generators.reshape(-1, 16).T, log.ravel(), rcond=None)[0]

    def matrix(self, theta: np.ndarray) -> np.ndarray:
        """World to world, (d + 1, d + 1)."""
        return lower(exponential(self.logarithm(theta))[0], self.grid.ndim)

    def logarithm(self, theta: np.ndarray) -> np.ndarray:
        """L, lifted, (4, 4)."""
        return np.tensordot(theta, self.generators, axes=1)

    def tangent(self, theta: np.ndarray) -> np.ndarray:
        """d exp(L) / d theta, lifted, (p, 4, 4)."""
        return exponential(self.logarithm(theta), self.generators)[1]

    def forward(self, theta: np.ndarray, at):
        """The mapping, and its way back: `back(image_back, adjoint)` is the gradient, (p,)."""
        return Mapping(self.matrix(theta)), LogLinearBack(self, theta)

    def retract(self, theta: np.ndarray, step: np.ndarray) -> np.ndarray:
        """theta + step."""
        return theta + step

    def refine(self, theta: np.ndarray, grid: Grid) -> np.ndarray:
        """Linear parameters know no resolution."""
        return theta

    def reach(self, step: np.ndarray) -> float:
        """About how far a step moves the grid, mm."""
        return float(np.sqrt(np.sum(step**2)))


@dataclass(frozen=True, eq=False)
class LogLinearBack:
    """From the image back to the coordinates, through the 12 sums."""

    model: LogLinear
    theta: np.ndarray

    @cached_property
    def at(self) -> LinearBack:
        """The way back from the matrix, with the tangent that only a gradient needs."""
        return LinearBack(self.model.tangent(self.theta))

    def __call__(self, image_back, adjoint: np.ndarray) -> np.ndarray:
        """Gradient, (p,)."""
        return self.at(image_back, adjoint)

    def normal(self, image_back, adjoint, curvature, deflate) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and Gauss-Newton matrix; see `LinearBack`."""
        return self.at.normal(image_back, adjoint, curvature, deflate)


def exponential(log: np.ndarray, directions: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """exp(L) of a lifted matrix (4, 4) whose last row is zero, and its derivative along directions of that kind.

    Scaling and squaring of the Taylor series, and of its derivative term by term: for matrices this small it takes a
    tenth of what general routines do.
    """
    directions = np.zeros((0, 4, 4)) if directions is None else directions
    halvings = int(max(0, np.ceil(np.log2(max(np.abs(log[:3, :3]).sum(1).max(), 1e-30) / 0.25))))
    x, dx = log / 2.0**halvings, directions / 2.0**halvings
    term, out = np.eye(4), np.eye(4)
    slope, slopes = np.zeros_like(dx), np.zeros_like(dx)
    for k in range(1, 14):
        slope, term = (slope @ x + term @ dx) / k, term @ x / k
        out, slopes = out + term, slopes + slope
    for _ in range(halvings):
        out, slopes = out @ out, slopes @ out + out @ slopes
    return out, slopes


def logarithm(matrix: np.ndarray) -> np.ndarray:
    """log A, lifted, (4, 4), of a world matrix (d + 1, d + 1) or (4, 4).

    Square roots by the iteration of Denman and Beavers until A is near the identity, then the series of
    2 artanh((A - 1) (A + 1)^-1).

    Raises
    ------
    InputError
        For a matrix without a real logarithm: a mirror, or half a turn.
    """
    eye, root, halvings = np.eye(4), lift(matrix), 0
    while np.abs(root - eye)[:3, :3].sum(1).max() > 0.1:
        root, halvings = _root(root), halvings + 1
        if root is None or halvings > 40:
            raise InputError("the motions of a group have logarithms, and one that mirrors, or turns by 180 degrees "
                             f"against the common space, has none; this one is {np.asarray(matrix).tolist()}: begin "
                             "closer, or turn the header of that image")
    z = (root - eye) @ np.linalg.inv(root + eye)
    term, out = z, z.copy()
    for k in range(3, 20, 2):
        term = term @ z @ z
        out += term / k
    out *= 2.0 ** (halvings + 1)
    out[3] = 0
    return out


def _root(matrix: np.ndarray) -> np.ndarray | None:
    """The principal square root of a matrix (4, 4); None where the iteration finds none."""
    y, z = matrix, np.eye(4)
    for _ in range(30):
        try:
            y, z = (y + np.linalg.inv(z)) / 2, (z + np.linalg.inv(y)) / 2
        except np.linalg.LinAlgError:
            return None
        rest = np.abs(y @ y - matrix).max()
        if not np.isfinite(rest):
            return None
        if rest <= 1e-13 * max(1.0, np.abs(matrix).max()):
            return y
    return y if rest <= 1e-9 * max(1.0, np.abs(matrix).max()) else None

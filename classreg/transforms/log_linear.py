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
from scipy.linalg import expm, expm_frechet

from ..grid import Grid, lower
from ..mapping import Mapping
from .halves import logarithm_of
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
        log = logarithm_of(model.matrix(model.parameters(matrix)))
        return np.linalg.lstsq(self.generators.reshape(-1, 16).T, log.ravel(), rcond=None)[0]

    def matrix(self, theta: np.ndarray) -> np.ndarray:
        """World to world, (d + 1, d + 1)."""
        return lower(expm(self.logarithm(theta)), self.grid.ndim)

    def logarithm(self, theta: np.ndarray) -> np.ndarray:
        """L, lifted, (4, 4)."""
        return np.tensordot(theta, self.generators, axes=1)

    def tangent(self, theta: np.ndarray) -> np.ndarray:
        """d exp(L) / d theta, lifted, (p, 4, 4)."""
        log = self.logarithm(theta)
        return np.stack([expm_frechet(log, g, compute_expm=False) for g in self.generators])

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

"""Normalised gradient fields: edges of both images should be parallel, whatever their height and sign.

With D the discrete gradient in mm, f = DF / sqrt(|DF|^2 + eta^2) and r = <f, DM> / sqrt(|DM|^2 + eta^2),
    E = 1 - sum v r^2 / sum v |f|^2,
    dE/dM = -1/n D^T (2 v / l) (<f, DM> f - <f, DM>^2 / l DM),   l = |DM|^2 + eta^2,   n = sum v |f|^2.
n is the most that can agree, the structure of the fixed image, so an empty background does not dilute E. The weight v
is the least of the samples that a difference reads: what lies outside a mask does not leak in. `describe` divides an
image by its mean gradient magnitude, so that `eta` is one number for all images.

The curvature is a share of the diagonal of D^T B D, B = 2 v |f|^2 / l: with edges parallel, 1 - r^2 is the squared
angle between them, and a change of DM across f turns it by |change|^2 / l.
Source: Haber and Modersitzki, MICCAI 2006, doi:10.1007/11866763_89.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..bounds import number
from ..image import Image
from ..kernels.cpu import edges
from .base import Metric, adjoint_buffer

#: share of the diagonal of D^T B D that remains when neighbours move along; from trying
STIFFNESS = 0.3


class NGF(Metric):
    """One minus the share of edges that agree, mean over channels.

    Parameters
    ----------
    eta : float
        Edges below this are noise, in units of the image's mean gradient magnitude at the level; above 0, at
        most 1e6.
    """

    dense = True

    def __init__(self, eta: float = 0.25):
        self.eta = number("ngf: eta", eta, most=1e6)

    def describe(self, image: Image) -> Image:
        """The image over its mean gradient magnitude in 1 / mm, where its weight counts, channel by channel."""
        out, grid = np.empty_like(image.data), image.grid
        weight = np.ones(grid.shape3, out.dtype) if image.weight is None else image.weight3.astype(out.dtype)
        for channel, scaled in zip(image.data, out):
            length, count = workspace().total(edges.lengths, len(channel), 2, channel, weight, frame(grid))
            np.multiply(channel, channel.dtype.type(count / length if length > 0 else 1), out=scaled)
        return Image(out.reshape(image.array.shape), grid, image.weight)

    def prepare(self, fixed: np.ndarray, moving: np.ndarray, grid) -> None:
        """Take the fixed data: the directions of its edges."""
        super().prepare(fixed, moving, grid)
        self.frame = frame(grid)
        self.directions = np.empty((len(fixed), 3, *fixed.shape[1:]), fixed.dtype)
        for channel, out in zip(fixed, self.directions):
            workspace().run(edges.directions, len(channel), channel, self.frame, self.eta, out)

    def __call__(self, warped: np.ndarray, weight: np.ndarray):
        """Value and adjoint."""
        ws, value, adjoint = workspace(), 0.0, adjoint_buffer(warped)
        parts = ws.buffer("scratch", (4, *weight.shape), warped.dtype)
        self._curvature = ws.buffer("ngf curvature", warped.shape, warped.dtype)
        for f, m, out, curvature in zip(self.directions, warped, adjoint, self._curvature):
            agree, full = ws.total(edges.agreement, len(m), 2, f, m, weight, self.frame, self.eta, parts)
            full = max(full, 1e-12) * len(warped)
            value += 1 / len(warped) - agree / full
            ws.run(edges.agreement_adjoint, len(m), parts, self.frame, -1 / full, 2 * STIFFNESS, out, curvature)
        return value, adjoint

    def curvature(self, warped: np.ndarray, weight: np.ndarray):
        """Of the last call: what a change of each sample alone turns its neighbours' edges by, (C, z, y, x)."""
        return self._curvature, None


def frame(grid) -> np.ndarray:
    """Upper triangular (3, 3): a gradient per index (z, y, x) to one per mm along some orthonormal axes."""
    return np.linalg.qr(grid.inverse3[:3, :3].T, mode="r")

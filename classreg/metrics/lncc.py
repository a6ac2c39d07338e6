"""Local normalised cross correlation, squared:  E = 1/n sum w (1 - A^2 / (B C)) over windows.

A = cov(F, M) + flat, B = var(F) + flat, C = var(M) + flat in a box window W around each voxel, weighted. With `flat` in
all three, identical images have E = 0 and no force (Cauchy and Schwarz), two windows without structure agree, and noise
below `flat` counts little. n = sum w var(F) / B is the structure of the fixed image, so an empty background does not
dilute E. Squared, it is blind to contrast sign. The gradient is exact (the force of every window that a voxel belongs
to, not of its own alone): with a = 2 A / (B C), b = -A^2 / (B C^2),
    dE/dM = -w/n [F W(a) - W(a mean F) + 2 (M W(b) - W(b mean M))].
1 - A^2 / (B C) is the squared residual, over B, of F less the window's best gain and offset of M; with these held, its
second derivative is  -2 w/n W(b),  the curvature for Gauss-Newton.
Of a pair, where both images move, n is the sum of the weights: their structure would change with either, and a force
would come of that. An empty background then does dilute E, for both alike.
Source: Avants et al., Medical Image Analysis 2008, doi:10.1016/j.media.2007.06.004.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..backend import slab_of, workspace
from ..bounds import number
from ..kernels.cpu import local
from ..stencil import total
from .base import Metric, adjoint_buffer, joint_weight

#: planes per slab: a running sum restarts with each
SLAB = 32


class LNCC(Metric):
    """Mean misfit 1 - (squared local correlation), mean over channels.

    Parameters
    ----------
    radius : float
        Half the window's side, in samples of the level's resolution; along coarser axes the window keeps its size in mm
        (but reaches at least one sample). 1 to 100.
    flat : float
        Variance, of images with unit variance, below which structure in a window counts as noise; above 0.
    """

    dense = True
    symmetric = True
    zero = 1e-5  # float32 window sums

    def __init__(self, radius: float = 4, flat: float = 1e-3):
        self.radius, self.flat = number("lncc: radius", radius, 1, most=100), number("lncc: flat", flat)

    def prepare(self, fixed: np.ndarray, moving: np.ndarray, grid) -> None:
        """Take the fixed data and set the window for the grid."""
        super().prepare(fixed, moving, grid)
        wanted = self.radius * grid.resolution / grid.spacing3
        self.window = [max(1, int(round(r))) if n > 1 else 0 for r, n in zip(wanted, grid.shape3)]
        if grid.shape3[0] == 1:
            self.window[:2] = self.window[1::-1]

    def __call__(self, warped: np.ndarray, weight: np.ndarray):
        """Value and adjoint."""
        ws, value, adjoint = workspace(), 0.0, adjoint_buffer(warped)
        self._curvature = ws.buffer("lncc curvature", warped.shape, warped.dtype)
        fixed, warped, weight, *outs = map(planes, (self.fixed, warped, weight, adjoint, self._curvature))
        parts = ws.buffer("scratch", (3, *weight.shape), warped.dtype)
        eps, slab = warped.dtype.type(self.flat), slab_of(len(weight), SLAB, 4)
        none, floor = np.empty((2, 0, 0, 0), warped.dtype), least(weight)
        for f, m, out, curvature in zip(fixed, warped, *outs):
            misfit, count = ws.total(local.correlation, len(f), 2, f, m, weight, *self.window, eps, floor, *parts, none,
                                   slab=slab)
            count = max(count, 1e-12) * len(warped)
            value += misfit / count
            ws.run(local.correlation_adjoint, len(f), f, m, weight, *self.window, -1 / count, *parts, out, curvature,
                   slab=slab)
        return value, adjoint

    def curvature(self, warped: np.ndarray, weight: np.ndarray):
        """Of the last call: the windows' squared residuals after their own gain and offset, (C, z, y, x)."""
        return self._curvature, None

    def pair(self, a: np.ndarray, b: np.ndarray, weight_a: np.ndarray, weight_b: np.ndarray):
        """Value and both adjoints, from one pass over the windows."""
        ws, value, weight = workspace(), 0.0, planes(joint_weight(weight_a, weight_b))
        adjoints = adjoint_buffer(a), ws.buffer("adjoint b", b.shape, b.dtype)
        self._curvatures = [ws.buffer(f"lncc curvature{k}", a.shape, a.dtype) for k in (" a", " b")]
        a, b, *outs = map(planes, (a, b, *adjoints, *self._curvatures))
        parts = ws.buffer("scratch", (5, *weight.shape), a.dtype)
        eps, slab = a.dtype.type(self.flat), slab_of(len(weight), SLAB, 4)
        first, second, third, other = *parts[:3], parts[3:]
        count, floor = max(total(weight), 1e-12) * len(a), least(weight)
        for c, (f, m) in enumerate(zip(a, b)):
            misfit = ws.total(local.correlation, len(f), 2, f, m, weight, *self.window, eps, floor, first, second,
                              third, other, slab=slab)[0]
            value += misfit / count
            for k, (still, moved, sums) in enumerate(((m, f, (first, *other)), (f, m, (first, second, third)))):
                ws.run(local.correlation_adjoint, len(f), still, moved, weight, *self.window, -1 / count, *sums,
                       outs[k][c], outs[2 + k][c], slab=slab)
        return value, *adjoints

    def pair_curvature(self, a: np.ndarray, b: np.ndarray, weight_a: np.ndarray, weight_b: np.ndarray):
        """Of the last `pair`."""
        return tuple(self._curvatures)


def planes(array: np.ndarray) -> np.ndarray:
    """(..., z, y, x) as it is; of one plane, its rows as planes of one row, so that threads share them."""
    return array if array.shape[-3] > 1 else array.swapaxes(-3, -2)


def least(weight: np.ndarray) -> float:
    """Below which weight a window holds too little to be looked at: half of the heaviest sample."""
    return max(0.5 * float(weight.max()), 1e-12)

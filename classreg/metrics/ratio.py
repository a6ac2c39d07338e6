"""Correlation ratio of the moving image given the fixed one:  E = 1 - eta^2, the share of M that F leaves unexplained.

With linear windows h_a (hats) on the bins of F, n_a = sum w h_a(F), mu_a = sum w h_a(F) M / n_a, n = sum w:

    E = R / V,   R = sum_a sum w h_a(F) (M - mu_a)^2 = sum w M^2 - sum_a n_a mu_a^2,   V = sum w M^2 - (sum w M)^2 / n,
    dE/dM = 2 w / V [M - sum_a h_a(F) mu_a - E (M - mean M)].

E is 0 where M is a function of F, whatever function that is (but for the width of a bin), and 1 where F says nothing of
M. The derivative is exact: the windows lie on F alone, which does not move. The direction is fixed to moving; it asks
that each intensity of F goes with one of M, not the reverse. So the fixed image should be the one that tells more
tissues apart (MR, when the other is CT).

Gauss-Newton holds the function of F and takes E as the squared distance of m / |m| from it, m = M - mean M: curvature
2 w / V, less the two directions that normalisation removes (the mean and m itself).
Source: Roche et al., MICCAI 1998, doi:10.1007/BFb0056301.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..bounds import whole
from ..kernels.cpu import histogram
from .base import Metric, adjoint_buffer, moments, unit_curvature
from .information import bins_of, range_of, table_size, table_slab


class CorrelationRatio(Metric):
    """One minus the correlation ratio, mean over channels.

    Parameters
    ----------
    bins : int
        Bins of the fixed image, 4 to 256.
    """

    name = "cr"

    def __init__(self, bins: int = 32):
        self.bins = whole("cr: bins", bins, 4, 256)

    def prepare(self, fixed: np.ndarray, moving: np.ndarray, grid) -> None:
        """Take the fixed data and fix its bins for the level."""
        super().prepare(fixed, moving, grid)
        self.places = [bins_of(range_of(f), self.bins) for f in fixed]

    def __call__(self, warped: np.ndarray, weight: np.ndarray):
        """Value and adjoint; a constant image is taken as unexplained and has no force."""
        ws, value, adjoint, k = workspace(), 0.0, adjoint_buffer(warped), len(warped)
        slab = table_slab(len(weight))
        tables = np.empty((-(-len(weight) // slab), 2, table_size(self.bins)))
        for f, m, out, (origin, scale) in zip(self.fixed, warped, adjoint, self.places):
            n, _, sum_m, _, mm, _ = moments(f, m, weight)
            mean = sum_m / max(n, 1e-12)
            spread = mm - sum_m * mean
            if spread <= 1e-9 * n or n <= 0:
                value += 1 / k
                out[...] = 0
                continue
            tables[:] = 0
            ws.run(histogram.conditional, len(f), f, m, weight, origin, scale, tables, slab=slab)
            count, total = tables.sum(axis=0)
            means = np.where(count > 0, total / np.where(count > 0, count, 1), mean)
            e = max(mm - float(np.sum(means * total)), 0.0) / spread
            value += e / k
            c = 2 / (k * spread)
            ws.run(histogram.conditional_adjoint, len(f), f, m, weight, origin, scale, c * (e * mean - means),
                   c * (1 - e), out)
        return value, adjoint

    def curvature(self, warped: np.ndarray, weight: np.ndarray):
        """As for ncc, with the function of F in the place of F; see `unit_curvature`."""
        return unit_curvature(self.fixed, warped, weight, 2.0)

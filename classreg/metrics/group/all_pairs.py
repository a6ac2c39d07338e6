"""The mean of a pairwise metric over all pairs of a group:  E = 2 / (N (N - 1)) sum over i < j of pair(I_i, I_j).

Of two images it is `metric.pair`, the energy of symmetric registration. Accumulated pairwise estimates: Wachinger and
Navab, IEEE TPAMI 2013, doi:10.1109/TPAMI.2012.181.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

from copy import copy
from itertools import combinations

import numpy as np

from ...backend import workspace
from ...errors import OptionError


class AllPairs:
    """Mean over pairs.

    Parameters
    ----------
    metric
        A metric with `symmetric` and so `pair`.

    Raises
    ------
    OptionError
        If it has none.
    """

    def __init__(self, metric):
        if not metric.symmetric:
            raise OptionError(f"metric {type(metric).__name__.lower()} compares a moving image with a fixed one; where "
                              "both images move, use one that does not mind their order: ssd, ncc, lncc, mi or nmi")
        self.metric, self.dense, self.zero = metric, metric.dense, metric.zero
        if hasattr(metric, "curvature"):
            self.curvature = self._curvature

    def describe(self, image):
        """As the metric does."""
        return self.metric.describe(image)

    def prepare(self, images, grid) -> None:
        """Each pair has a metric of its own, prepared with its two images."""
        self._pairs = [(i, j, copy(self.metric)) for i, j in combinations(range(len(images)), 2)]
        for i, j, metric in self._pairs:
            metric.prepare(images[i], images[j], grid)

    def __call__(self, stack: np.ndarray, weights: np.ndarray):
        """Value, and one adjoint per image."""
        return self._sum(stack, weights, "adjoints", lambda metric, *pair: metric.pair(*pair))

    def _curvature(self, stack: np.ndarray, weights: np.ndarray):
        """Each image's mean over its pairs."""
        many = len(self._pairs) > 1

        def each(metric, *pair):
            if many:  # a pair's curvature is that of its last call, and the pairs share their buffers
                metric.pair(*pair)
            return 0.0, *metric.pair_curvature(*pair)

        return self._sum(stack, weights, "curvatures", each)[1], None

    def _sum(self, stack, weights, name, each):
        if len(self._pairs) == 1:
            value, *both = each(self._pairs[0][2], *stack, *weights)
            return value, both
        out, value, share = workspace().buffer(name, stack.shape, stack.dtype), 0.0, 1 / len(self._pairs)
        out[...] = 0
        for i, j, metric in self._pairs:
            one, a, b = each(metric, stack[i], stack[j], weights[i], weights[j])
            value += share * one
            a *= a.dtype.type(share)
            b *= b.dtype.type(share)
            out[i] += a
            out[j] += b
        return value, list(out)

"""The mean of a pairwise metric over the pairs of a group:  E = 2 / (N (N - 1)) sum over i < j of pair(I_i, I_j).

Of two images it is `metric.pair`, the energy of symmetric registration. The cost grows with N^2, so of large groups
each refresh draws some pairs: those that follow each other in a few random orders of the images, taken round. Every
image is then in as many pairs as any other, all hang together, and every pair is as likely, so the mean is that of all
on average. A pair counts where both are seen. Accumulated pairwise estimates: Wachinger and Navab, IEEE TPAMI 2013,
doi:10.1109/TPAMI.2012.196; the choice of pairs is ours.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import combinations

import numpy as np

from ...backend import workspace
from ...bounds import whole
from ...errors import OptionError, unknown
from ..composite import Composite
from ..information import MutualInformation, NormalisedMutualInformation
from ..lncc import LNCC
from ..mind import MIND
from ..ncc import NCC
from ..sad import SAD
from ..ssd import SSD

#: metrics that may be given by name
NAMED = {"mi": MutualInformation, "nmi": NormalisedMutualInformation, "ncc": NCC, "lncc": LNCC, "ssd": SSD, "sad": SAD,
         "mind": MIND, "composite": Composite}


class AllPairs:
    """Mean over pairs.

    Parameters
    ----------
    metric
        A name of `NAMED` (in plans also as a dictionary with options, {"name": "lncc", "radius": 3}), or a metric with
        `symmetric` and so `pair`.
    cycles : int
        Random orders that pairs are drawn from, of groups that have more than `cycles` N pairs: those above nine
        images with the default.
    seed : int
        Of the draws.

    Raises
    ------
    OptionError
        If the metric has no `pair`, or the number of orders is no whole number of at least 1.
    """

    def __init__(self, metric="mi", cycles: int = 4, seed: int = 0):
        if isinstance(metric, str):
            if metric not in NAMED:
                raise unknown("metric of pairs", metric, NAMED)
            metric = NAMED[metric]()
        if not hasattr(metric, "pair"):
            raise OptionError(f"ape: metric is a name ({', '.join(NAMED)}), or a dictionary with one and options; got "
                              f"{metric!r}")
        if not metric.symmetric:
            name = getattr(metric, "name", type(metric).__name__.lower())
            raise OptionError(f"metric {name} compares a moving image with a fixed one; where both images move, use "
                              f"one that does not mind their order: {', '.join(NAMED)}")
        self.metric, self.dense, self.zero = metric, metric.dense, metric.zero
        self.cycles, self.seed = whole("ape: cycles", cycles, 1), seed
        if hasattr(metric, "curvature"):
            self.curvature = self._curvature

    def describe(self, image):
        """As the metric does."""
        return self.metric.describe(image)

    def prepare(self, images, grid) -> None:
        """Each pair has a metric of its own, prepared with its two images; there is a `refresh` if pairs are drawn."""
        self._images, self._grid, self._ready = list(images), grid, {}
        self._rng, count = np.random.default_rng(self.seed), len(images)
        self.__dict__.pop("refresh", None)
        if count * (count - 1) // 2 <= self.cycles * count:
            self._take(set(combinations(range(count), 2)))
        else:
            self.refresh = self._draw
            self._draw()

    def _draw(self, stack=None, weights=None) -> None:
        """Choose pairs."""
        orders = [self._rng.permutation(len(self._images)) for _ in range(self.cycles)]
        self._take({(min(i, j), max(i, j)) for o in orders for i, j in zip(o.tolist(), np.roll(o, 1).tolist())})

    def _take(self, chosen):
        for i, j in chosen - self._ready.keys():
            self._ready[i, j] = deepcopy(self.metric)
            self._ready[i, j].prepare(self._images[i], self._images[j], self._grid)
        self._ready = {pair: self._ready[pair] for pair in sorted(chosen)}
        self._pairs = [(*pair, metric) for pair, metric in self._ready.items()]

    def __call__(self, stack: np.ndarray, weights: np.ndarray):
        """Value, and one adjoint per image."""
        return self._sum(stack, weights, "group adjoints", lambda metric, *pair: metric.pair(*pair))

    def _curvature(self, stack: np.ndarray, weights: np.ndarray):
        """Each image's mean over its pairs."""
        many = len(self._pairs) > 1

        def each(metric, *pair):
            if many:  # a pair's curvature is that of its last call, and the pairs share their buffers
                metric.pair(*pair)
            return 0.0, *metric.pair_curvature(*pair)

        return self._sum(stack, weights, "group curvature", each)[1], None

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

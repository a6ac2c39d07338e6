"""Sample sets: where a stage evaluates its objective instead of at every sample of the fixed grid.

    random    points drawn one by one, uniformly
    sobol     a scrambled low-discrepancy sequence, each set its next piece: more even, so that sums vary less

Points lie anywhere between the outermost samples of the fixed grid, not on its lattice, where linear interpolation has
kinks. With a mask they lie in voxels that it counts, each as likely as the other (its weight enters the objective where
the fixed image is sampled). Sobol, USSR Computational Mathematics and Mathematical Physics 1967; Owen's scrambling; for
registration, Thevenaz, Bierlaire and Unser, Sampling Theory in Signal and Image Processing 2008.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real

import numpy as np

from .errors import OptionError
from .image import Image
from .sampling import Points

#: samples below which neither sums nor histograms mean anything
LEAST = 64

#: samples above which a number is taken for a mistake
MOST = 1 << 31


class Random:
    """Points drawn one by one.

    Parameters
    ----------
    samples : float
        How many: a whole number from 64 to 2^31, of which no more are drawn than the level's grid has samples; or a
        share of the level's samples below 1. At least 64 in any case.
    kept : bool
        One set per level, also where the optimiser asks for others.
    """

    def __init__(self, samples: float = 4096, kept: bool = False):
        if not (isinstance(samples, Real)
                and (0 < samples < 1 or (LEAST <= samples <= MOST and samples == int(samples)))):
            raise OptionError(f"{type(self).__name__.lower()}: samples must be a whole number from {LEAST} to {MOST}, "
                              f"or a share between 0 and 1; got {samples!r}")
        self.samples, self.kept = samples, kept

    def count(self, size: int, inside: int | None = None) -> int:
        """How many samples stand for so many of a level, of which so many lie inside the mask (all without one)."""
        if self.samples < 1:
            return max(LEAST, round(self.samples * (size if inside is None else inside)))
        return max(LEAST, int(min(self.samples, size)))

    def on(self, image: Image, rng: np.random.Generator) -> Callable[[int], Points]:
        """`draw(times)` for the fixed image of a level: a new set, that many times as large."""
        grid, inside = image.grid, None
        if image.weight is not None:
            inside = np.flatnonzero(image.weight > 0)
        count = self.count(grid.size, None if inside is None else len(inside))
        last = np.array(grid.shape) - 1.0
        uniform = self._uniform(grid.ndim + (inside is not None), rng)

        def world(index):  # `Grid.to_world` without BLAS, whose bits depend on its threads
            out = np.empty_like(index)
            for k, row in enumerate(grid.affine[:-1]):
                out[:, k] = sum(column * step for column, step in zip(index.T, row)) + row[-1]
            return out

        def draw(times: int = 1) -> Points:
            u = uniform(times * count)
            if inside is None:
                return Points(world(u * last))
            voxel = inside[np.minimum((u[:, 0] * len(inside)).astype(np.int64), len(inside) - 1)]
            index = np.stack(np.unravel_index(voxel, grid.shape), -1) + u[:, 1:] - 0.5
            return Points(world(np.clip(index, 0, last)))

        return draw

    def _uniform(self, ndim: int, rng) -> Callable[[int], np.ndarray]:
        """(n, ndim) numbers between 0 and 1, of n."""
        return lambda n: rng.random((n, ndim))


class Sobol(Random):
    """A scrambled Sobol sequence; `samples` is taken up to the next power of two, for which it is balanced."""

    def _uniform(self, ndim, rng):
        from scipy.stats import qmc

        sequence = qmc.Sobol(ndim, scramble=True, seed=rng)
        return lambda n: sequence.random(1 << int(np.ceil(np.log2(n))))


SAMPLINGS = {"random": Random, "sobol": Sobol}

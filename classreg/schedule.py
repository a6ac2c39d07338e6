"""What happens at which resolution.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .grid import Grid
from .pyramid import factors


@dataclass(frozen=True)
class Level:
    """One resolution: `factor` times the finest spacing of the fixed image, and at most `iterations` there.

    `sigma`, in samples of each image, along all axes or one number per array axis, is how widely intensities are
    smoothed; by default as shrinking wants it.
    """

    factor: float
    iterations: int
    sigma: float | tuple[float, ...] | None = None

    def __repr__(self):
        width = "" if self.sigma is None else f", sigma={self.sigma!r}"
        return f"Level(factor={self.factor!r}, iterations={self.iterations!r}{width})"

    def __post_init__(self):
        if isinstance(self.sigma, list):  # as JSON gives it
            object.__setattr__(self, "sigma", tuple(self.sigma))

    def resolution(self, grid: Grid) -> float:
        """Sample spacing in mm that axes are brought to."""
        return self.factor * grid.resolution


def default_factors(grid: Grid, *, coarsest: int = 24, most: int = 5, samples: int | None = None) -> list[float]:
    """Powers of two, coarse to fine: the longest axis keeps `coarsest` samples; at most `most` levels.

    With `samples`, levels finer than that many samples are left out.
    """
    base = grid.resolution
    longest = float(np.max(np.array(grid.shape) * grid.spacing)) / base
    out = []
    f = 1.0
    while len(out) < most and (not out or longest / f >= coarsest):
        if samples is None or np.prod(np.array(grid.shape) / factors(grid, f * base)) <= samples:
            out.append(f)
        f *= 2
        if f > 2**12:
            break
    return out[::-1] or [1.0]

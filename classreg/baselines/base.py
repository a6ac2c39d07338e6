"""What a baseline is, and what its recipes are put together from.

A recipe is a function of the two images that gives a `Plan`: it turns what a tool's command line says, factors of
resolution, widths in voxels, iterations per level, into stages of this engine. It sets every number that the tool sets;
what is left to the engine's defaults is what the tool has no word for.

Must not import: api, io, numba, cupy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import OptionError
from ..grid import Grid
from ..image import Image
from ..models import linear_stage
from ..planning import Plan, Stage
from ..preflight import check_levels
from ..schedule import Level


@dataclass(frozen=True)
class Baseline:
    """A named and versioned recipe.

    Attributes
    ----------
    name, version : str
        The version changes with any number of the recipe.
    imitates : str
        The program and its settings.
    source : str
        Where the method is described, with its DOI.
    differs : str
        Where this engine does something else than the program.
    plan : callable
        (fixed, moving), both `Image`, to the `Plan`.
    """

    name: str
    version: str
    imitates: str
    source: str
    differs: str
    plan: Callable[[Image, Image], Plan]


#: iterations of optimisers that look for the length of their steps, where a tool with fixed steps states hundreds
LINEAR = 100

#: steps of `greedy` that are waited for a better value before they are shortened, for tools that never shorten them
NEVER = 1 << 20


def levels_of(grid: Grid, factors: Sequence[float], iterations: Sequence[int]) -> tuple[Level, ...]:
    """Levels as a tool states them, without those that are too coarse for the grid; the finest is always there.

    Examples
    --------
    >>> levels_of(Grid.from_spacing((20, 20)), (8, 4, 2, 1), (100, 70, 50, 20))
    (Level(factor=4, iterations=70), Level(factor=2, iterations=50), Level(factor=1, iterations=20))
    """
    levels = [Level(f, n) for f, n in zip(factors, iterations, strict=True)]
    return tuple(v for v in levels if v is levels[-1] or _fits(grid, v.factor))


def _fits(grid: Grid, factor: float) -> bool:
    try:
        check_levels(grid, [factor])
    except OptionError:
        return False
    return True


def affine_stages(grid: Grid, metric: dict, factors: Sequence[float], kinds: Sequence[str] = ("rigid", "affine"),
                  ) -> tuple[Stage, ...]:
    """Linear stages with one metric and one set of levels."""
    levels = levels_of(grid, factors, [LINEAR] * len(factors))
    return tuple(linear_stage(kind, grid, metric, [v.factor for v in levels], [v.iterations for v in levels])
                 for kind in kinds)

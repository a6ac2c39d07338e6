"""Baselines: the recipes of other programs, run by this engine under names and versions that stay.

    run(name, fixed, moving)    a `Result` as from `register`, whose plan says the baseline's name and version
    plan(name, fixed, moving)   what it would run, fully resolved

A row of a comparison should say what it is: not "SyN" with settings of the day, but a recipe that anyone can read, run
again and find unchanged. Each imitates a program as it is commonly used, not as this engine would do it best; what
differs is said beside it, and docs/baselines.md says how far each ends from the program itself. A baseline is data: a
file with a function that gives a `Plan`, and a line in `BASELINES`.

Must not import: matplotlib, numba, cupy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from .. import api, door
from ..engine import Record
from ..errors import unknown
from ..planning import Plan
from ..result import Result
from .ants import SYN, SYN_MI
from .base import Baseline
from .demons import DEMONS
from .elastix_rows import ELASTIX_AFFINE, ELASTIX_BSPLINE
from .flirt import FLIRT_MI
from .greedy import GREEDY
from .niftyreg import F3D
from .none import NONE

BASELINES: dict[str, Baseline] = {b.name: b for b in (
    NONE, FLIRT_MI, DEMONS, SYN, SYN_MI, GREEDY, F3D, ELASTIX_AFFINE, ELASTIX_BSPLINE)}


def find(name: str) -> Baseline:
    """The baseline of a name.

    Raises
    ------
    OptionError
        With the nearest name where there is none.

    Examples
    --------
    >>> find("none").version
    '1.0'
    """
    if not isinstance(name, str) or name not in BASELINES:
        raise unknown("baseline", name, BASELINES)
    return BASELINES[name]


def plan(name: str, fixed, moving, *, spacing: Sequence[float] | None = None, channels: str | None = None) -> Plan:
    """What `run` would run with these arguments, fully resolved."""
    found = find(name)
    return _resolve(found, *door.load_pair(fixed, moving, None, None, spacing, channels))


def run(name: str, fixed, moving, *, fixed_mask=None, moving_mask=None, spacing: Sequence[float] | None = None,
        channels: str | None = None, threads: int | None = None, time_limit: float | None = None,
        memory_limit: int | str | None = None, callback: Callable[[Record], bool | None] | None = None) -> Result:
    """Register by the recipe of a baseline.

    Parameters
    ----------
    name : str
        One of `BASELINES`.
    fixed, moving, fixed_mask, moving_mask, spacing, channels, threads, time_limit, memory_limit, callback
        As in `classreg.register`.

    Returns
    -------
    Result
        `result.plan.baseline` is the name and version, `result.plan` all that was run.

    Raises
    ------
    InputError, GeometryError, FileError, OptionError
        Before the first iteration, with what to do.

    Examples
    --------
    >>> from classreg.datasets import head_phantom
    >>> pair = head_phantom(8.0)
    >>> run("none", pair.fixed, pair.moving).plan.baseline
    'none 1.0'
    """
    found = find(name)
    fixed, moving = door.load_pair(fixed, moving, fixed_mask, moving_mask, spacing, channels)
    return api.register(fixed, moving, plan=_resolve(found, fixed, moving), threads=threads, time_limit=time_limit,
                        memory_limit=memory_limit, callback=callback)


def _resolve(found: Baseline, fixed, moving) -> Plan:
    return replace(found.plan(fixed, moving), model=found.name, baseline=f"{found.name} {found.version}")


__all__ = ["BASELINES", "Baseline", "find", "plan", "run"]

"""The front door of series: frames to images of a group, the defaults, and a result in time.

Must not import: matplotlib, numba, cupy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import door, group, memory
from ..engine import Record
from ..errors import InputError, OptionError, unknown
from ..group.door import MEAN
from ..group.memory import fit
from ..io.series import Series, load_series
from ..planning import Plan
from .plane import flat
from .result import SeriesResult

#: of interpolation
ORDER = 3

#: what a reference may be called, beside the number of a frame
REFERENCES = (MEAN, "first", "middle", "last")


def register_series(series, *, model: str = "rigid", method: str | dict = "xcoreg", reference: int | str = "mean",
                    temporal: float = 0.0, mask=None, spacing=None, interval: float | None = None,
                    init="identity", levels: Sequence[float] | None = None,
                    iterations: int | Sequence[int] | None = None, optimiser: str | dict | None = None, seed: int = 0,
                    plan: Plan | None = None, threads: int | None = None, time_limit: float | None = None,
                    memory_limit: int | str | None = None,
                    callback: Callable[[Record], bool | None] | None = None) -> SeriesResult:
    """Correct the motion between the frames of a time series.

    Parameters
    ----------
    series : path, nibabel or SimpleITK image, array, sequence of images, or Series
        Of files the fourth axis is time; arrays are (time, y, x) or (time, z, y, x). See `classreg.io.load_series`.
    model : str
        What a frame may do: translation, rigid, similarity, affine, bspline, dense, greedy or svf. Frames of one slice
        move in its plane.
    method : str or dict
        What is minimised, see `classreg.register_group`: xcoreg whatever contrast does; variance where it stays;
        total_correlation, pca and low_rank where few curves in time describe it.
    reference : int or str
        mean: nothing moves on average over time. Or a frame that does not move: its number, from 0, or first, middle
        or last.
    temporal : float
        Weight of a penalty on motion from frame to frame, the mean of its square in voxels: for frames that follow each
        other within one movement; 0, for independent shots, by default.
    mask : path, Image or array, optional
        Where frames count, on the grid of the series, in all of them.
    spacing, interval
        mm, of arrays and pictures; seconds from frame to frame, in the place of what the header says.
    init, levels, iterations, optimiser, seed, threads, time_limit, memory_limit, callback
        As of `classreg.register_group`; each frame begins where the header places it.
    plan : Plan, optional
        Run this instead of what model, method, reference, temporal and the other options of a plan say.

    Returns
    -------
    SeriesResult

    Raises
    ------
    InputError, GeometryError, FileError, OptionError
        Before the first iteration, with what to do.
    ConvergenceError
        If the objective is not finite at the start of a level.

    Examples
    --------
    >>> from classreg.datasets import head_phantom
    >>> still = head_phantom(8.0, ndim=2).fixed.array
    >>> result = register_series([np.roll(still, k, 1) for k in (0, 1, 0)], spacing=8.0, model="translation")
    >>> result.motion["x_mm"].round().tolist()
    [-3.0, 5.0, -3.0]
    """
    series, options = _given(series, reference, mask, spacing, interval)
    began = time.perf_counter()
    door.check_options(threads, time_limit, callback)
    limit, base = memory.parse(memory_limit), memory.resident()
    if plan is None:
        plan = _plan(options, model=model, method=method, temporal=temporal, init=init, levels=levels,
                     iterations=iterations, optimiser=optimiser, seed=seed, threads=threads)
        if limit is not None:
            plan, limit = fit(plan, options["images"], options["images"][0].grid, limit, base, levels is None), None
    if time_limit is not None:
        time_limit = max(time_limit - (time.perf_counter() - began), 1e-9)
    found = group.register_group(**options, plan=plan, init=init, threads=threads, time_limit=time_limit,
                                 memory_limit=limit, callback=callback)
    return SeriesResult(series, found)


def plan_series(series, *, model: str = "rigid", method: str | dict = "xcoreg", reference: int | str = "mean",
                temporal: float = 0.0, mask=None, spacing=None, interval: float | None = None, init="identity",
                levels: Sequence[float] | None = None, iterations=None, optimiser=None, seed: int = 0,
                threads: int | None = None) -> Plan:
    """What `register_series` would run with these arguments, fully resolved; change it and pass it as `plan=`."""
    _, options = _given(series, reference, mask, spacing, interval)
    return _plan(options, model=model, method=method, temporal=temporal, init=init, levels=levels,
                 iterations=iterations, optimiser=optimiser, seed=seed, threads=threads)


def _plan(options, **more) -> Plan:
    """The plan of the group, with cubic interpolation.

    Linear interpolation between noisy samples averages the noise, the most halfway between them, and frames of one
    anatomy would be drawn there: of a series that hardly moves that shows, as steps of a fifth of a voxel.
    """
    plan = group.plan_group(**options, **more)
    return replace(plan, stages=tuple(replace(stage, order=ORDER) for stage in plan.stages))


def _given(series, reference, mask, spacing, interval) -> tuple[Series, dict[str, Any]]:
    """The series, and what `register_group` takes in its place."""
    series = load_series(series, spacing=spacing, interval=interval)
    if len(series) < 2:
        raise InputError(f"a series has at least two frames, this one has {len(series)}")
    names = frame_names(len(series))
    frames = [flat(frame) for frame in series.frames]
    masks = None
    if mask is not None:
        weight = door.weight_of(mask, series.frames[0], "series")
        weight = weight.reshape(frames[0].grid.shape) if weight.shape == series.grid.shape else weight
        masks = [weight] * len(frames)
    return series, dict(images=frames, names=names, masks=masks, gauge=_gauge(reference, names))


def frame_names(count: int) -> list[str]:
    """frame_000, frame_001, ...: numbers from 0, as of volumes elsewhere, that sort as they follow each other."""
    width = max(3, len(str(count - 1)))
    return [f"frame_{k:0{width}d}" for k in range(count)]


def _gauge(reference, names: Sequence[str]) -> str:
    if isinstance(reference, str):
        if reference not in REFERENCES:
            raise unknown("reference", reference, REFERENCES)
        named = {"first": 0, "middle": len(names) // 2, "last": len(names) - 1}
        return MEAN if reference == MEAN else names[named[reference]]
    if not isinstance(reference, (int, np.integer)) or isinstance(reference, bool) or not (
            -len(names) <= reference < len(names)):
        raise OptionError(f"reference is {', '.join(REFERENCES)}, or the number of a frame from 0 to "
                          f"{len(names) - 1}; got {reference!r}")
    return names[reference]

"""The front door: check, names to objects, one call down.

    register(fixed, moving, model=...)   one registration
    plan(fixed, moving, model=...)       what it would run
    apply(transform, moving, reference)  an image pulled back through a transform
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from . import models, preflight
from .backend import Workspace
from .engine import Control, Record, check_needs, run
from .errors import InputError, OptionError, unknown
from .fitted import FittedTransform
from .image import Image
from .initialise import INITS, modality, start
from .io import load
from .metrics import METRICS
from .planning import Plan
from .pyramid import normalised
from .resample import resample
from .result import Result

log = logging.getLogger("classreg")

#: overall correlation above which images are copies of each other: there ncc is exact, and mi sees interpolation
COPIES = 0.999


def register(fixed, moving, *, model: str = "bspline", metric: str | dict = "auto", init="auto", fixed_mask=None,
             moving_mask=None, levels: Sequence[float] | None = None, iterations: int | Sequence[int] | None = None,
             spacing=None, channels: str | None = None, rotation: str = "quaternion", plan: Plan | None = None,
             threads: int | None = None, time_limit: float | None = None,
             callback: Callable[[Record], bool | None] | None = None) -> Result:
    """Find the transform that takes fixed points to moving points, so that the moving image matches the fixed one.

    Parameters
    ----------
    fixed, moving : path, Image, SimpleITK image, nibabel image or array
        2-D or 3-D, on any grids. Arrays are (z, y, x) with `spacing`.
    model : str
        translation, rigid, similarity, affine, bspline, dense, svf or greedy. Deformable models run rigid and affine
        stages first, unless `init` is a transform.
    metric : str or dict
        ssd, ncc, lncc, mi, or auto: chosen from the images (see `result.plan.notes`). A dictionary gives options,
        {"name": "lncc", "radius": 3}.
    init : str, FittedTransform, array or path
        auto, identity, geometry, mass or moments; or a transform, or a world matrix (d + 1, d + 1), to start from.
    fixed_mask, moving_mask : as the images, optional
        Where each image counts: a mask, or a weight of at least 0, on its image's grid.
    levels : sequence of float, optional
        Shrink factors, coarse to fine, of the last stage; by default from the grid.
    iterations : int or sequence of int, optional
        At most so many per level of the last stage.
    spacing : sequence of float, optional
        Of plain arrays and pictures, per array axis, mm.
    channels : {"last"}, optional
        The last axis holds channels.
    rotation : {"quaternion", "euler"}
        How rigid and similarity store their rotation.
    plan : Plan, optional
        Run this instead of what model, metric, init, levels and iterations say.
    threads : int, optional
        All cores by default; every number gives the same bits.
    time_limit : float, optional
        Seconds after which the best transform so far is returned.
    callback : callable, optional
        Called with a `Record` per iteration; returning True stops.

    Returns
    -------
    Result

    Raises
    ------
    InputError, GeometryError, FileError, OptionError
        Before the first iteration, with what to do.
    ConvergenceError
        If the objective is not finite at the start of a level.

    Examples
    --------
    >>> from classreg.datasets import head_phantom
    >>> pair = head_phantom(8.0)
    >>> register(pair.fixed, pair.moving, model="rigid").transform.model
    'rigid'
    """
    began = time.perf_counter()
    check_options(threads, time_limit)
    fixed, moving = load_pair(fixed, moving, fixed_mask, moving_mask, spacing, channels)
    begin = None if isinstance(init, str) and init in INITS else _given(init, fixed, moving)
    if plan is None:
        models.check_model(model)
        metric = _metric(metric)
        if levels is not None:
            preflight.check_levels(fixed.grid, levels)
    _check_pair(fixed, moving, init, begin)
    control = Control(callback, time_limit, began)
    with Workspace(threads):
        f, m = normalised(fixed), normalised(moving)
        if begin is None:
            matrix, note = start(f, m, init if plan is None else _plan_init(plan))
        else:
            matrix, note = begin.matrix, "init: a given transform"
        if plan is None:
            plan = _plan(f, m, matrix, model, metric, init, begin is not None, levels, iterations, rotation, note)
        transform, ending = _run(plan, f, m, matrix, begin, control)
        transform.mapping()  # computed while the threads are there
    seconds = time.perf_counter() - began
    status = f"{plan.model}: {ending}; {len(control.history)} evaluations recorded in {seconds:.2f} s"
    log.info(status)
    return Result(transform, fixed, moving, control.history, status, plan, matrix, seconds)


def plan(fixed, moving, *, model: str = "bspline", metric: str | dict = "auto", init: str = "auto",
         levels: Sequence[float] | None = None, iterations=None, spacing=None, channels=None,
         rotation: str = "quaternion", threads: int | None = None) -> Plan:
    """What `register` would run with these arguments, fully resolved; change it and pass it as `plan=`."""
    models.check_model(model)
    fixed, moving = load_pair(fixed, moving, None, None, spacing, channels)
    _check_pair(fixed, moving, init, None)
    with Workspace(threads):
        f, m = normalised(fixed), normalised(moving)
        matrix, note = start(f, m, init)
        return _plan(f, m, matrix, model, _metric(metric), init, False, levels, iterations, rotation, note)


def apply(transform, moving, reference, *, interpolation: str | None = None, outside: float | None = None,
          spacing=None, channels: str | None = None, threads: int | None = None) -> Image:
    """The moving image on the reference's grid, pulled back through a transform.

    Parameters
    ----------
    transform : FittedTransform, Result, path or array
        Fixed to moving; a file that ITK reads, or a world matrix (d + 1, d + 1).
    moving, reference : as in `register`
        Only the grid of the reference is used.
    interpolation : {"linear", "nearest", "cubic", "label"}, optional
        "label" is for label maps and the default for what looks like one (integers whose neighbours mostly agree).
    outside : float, optional
        Value beyond the moving image: 0 for labels, its smallest value otherwise.

    Returns
    -------
    Image
    """
    check_options(threads, None)
    moving = load(moving, spacing=_spacing(moving, spacing), channels=channels, name="moving")
    reference = load(reference, spacing=_spacing(reference, spacing), channels=channels, name="reference")
    if moving.grid.ndim != reference.grid.ndim:
        raise InputError(f"the moving image is {moving.grid.ndim}-D, the reference {reference.grid.ndim}-D")
    fitted = _given(transform.transform if isinstance(transform, Result) else transform, reference, moving)
    with Workspace(threads):
        return resample(fitted, moving, reference.grid, interpolation, outside)


def load_pair(fixed, moving, fixed_mask, moving_mask, spacing, channels) -> tuple[Image, Image]:
    """Both images with their masks, checked one by one."""
    out = []
    for name, source, mask in (("fixed", fixed, fixed_mask), ("moving", moving, moving_mask)):
        image = load(source, spacing=_spacing(source, spacing), channels=channels, name=name)
        if mask is not None:
            image = replace(image, weight=_weight(mask, image, name))
        preflight.check_image(image, name)
        out.append(image)
    return out[0], out[1]


def check_options(threads, time_limit) -> None:
    """Raise OptionError for numbers outside their range."""
    if threads is not None and not (isinstance(threads, (int, np.integer)) and 1 <= threads <= 1024):
        raise OptionError(f"threads must be a whole number from 1 to 1024, or None for all cores; got {threads!r}")
    if time_limit is not None and not (np.isscalar(time_limit) and time_limit > 0):
        raise OptionError(f"time_limit must be a positive number of seconds, got {time_limit!r}")


def _spacing(source, spacing):
    return spacing if isinstance(source, (np.ndarray, str, os.PathLike)) else None


def _weight(mask, image: Image, name: str) -> np.ndarray:
    if isinstance(mask, np.ndarray):
        return mask
    mask = load(mask, name=f"{name} mask")
    if not mask.grid.same_as(image.grid, 0.05):
        raise InputError(f"the {name} mask lies on another grid than its image: {mask.grid} against {image.grid}; "
                         "resample it with classreg.apply(..., interpolation='nearest')")
    return mask.data[0].reshape(image.grid.shape)


def _check_pair(fixed, moving, init, begin) -> None:
    initial = None if begin is None else begin.matrix
    preflight.check_pair(fixed, moving, initial=initial, needs_overlap=isinstance(init, str) and init == "identity")


def _metric(metric) -> dict[str, Any]:
    spec = {"name": metric} if isinstance(metric, str) else dict(metric)
    if spec.get("name") not in (*METRICS, "auto"):
        raise unknown("metric", spec.get("name"), [*METRICS, "auto"])
    if spec["name"] != "auto":
        models.build(spec, METRICS, "metric")
    return spec


def _given(init, fixed: Image, moving: Image) -> FittedTransform:
    """A transform from whatever was given as one."""
    if isinstance(init, FittedTransform):
        found = init
    elif isinstance(init, (str, os.PathLike)) and (not isinstance(init, str) or os.path.exists(init)):
        from .io.itk import read_transform

        found = read_transform(init, fixed.grid)
    elif isinstance(init, str):
        raise unknown("init", init, INITS)
    else:
        found = FittedTransform.from_matrix(np.asarray(init, float), fixed.grid, moving.grid)
    if found.ndim != fixed.grid.ndim:
        raise InputError(f"the transform is {found.ndim}-D, the images are {fixed.grid.ndim}-D")
    return found


def _plan_init(plan: Plan) -> str:
    if plan.init not in INITS:
        raise OptionError("this plan began from a given transform: pass it again as init=")
    return plan.init


def _plan(fixed, moving, matrix, model, metric, init, given, levels, iterations, rotation, note) -> Plan:
    """Resolve names, metric and levels."""
    notes = [note]
    linear, deformable = metric, metric
    if metric["name"] == "auto":
        same, rho, overall = modality(fixed, moving, matrix)
        linear, deformable = {"name": "ncc" if overall > COPIES else "mi"}, {"name": "lncc" if same else "mi"}
        notes.append(f"metric: {linear['name']} for linear models, {deformable['name']} for deformable ones: the "
                     f"images look {'alike' if same else 'different'} (correlation {rho:.2f} in the common foreground, "
                     f"{overall:.3f} overall)")
    elif metric["name"] == "lncc":
        linear = {"name": "ncc"}
    factors = None if levels is None else [float(v) for v in levels]
    if rotation not in ("quaternion", "euler"):
        raise unknown("rotation", rotation, ("quaternion", "euler"))
    stages = []
    grid = fixed.grid
    before = {"translation": (), "rigid": (), "similarity": ("rigid",), "affine": ("rigid",)}
    before = before.get(model, ("rigid", "affine"))
    for kind in () if given else before:
        own = deformable if kind == "affine" else linear  # the metric that follows gives the better start
        stages.append(models.linear_stage(kind, grid, own, None, samples=models.ENOUGH[kind]))
    if model in models.LINEAR:
        own = metric if metric["name"] == "lncc" else linear
        stages.append(models.linear_stage(model, grid, own, factors, iterations, rotation))
    else:
        stages.append(models.deformable_stage(model, grid, deformable, factors, iterations))
    plan = Plan(model, init if isinstance(init, str) else "transform", tuple(stages), notes=tuple(notes))
    for stage in plan.stages:
        transform, metric_, regularisers, optimiser = models.build_stage(stage, grid, np.eye(grid.ndim + 1))
        check_needs(optimiser, transform, metric_, regularisers)
    return plan


def _run(plan: Plan, fixed, moving, matrix, begin, control) -> tuple[FittedTransform, str]:
    """All stages of a plan, each beginning where the one before ended."""
    ending, grid = "nothing to do", fixed.grid
    fitted = begin or FittedTransform.from_matrix(matrix, grid, moving.grid)
    for stage in plan.stages:
        transform, metric, regularisers, optimiser = models.build_stage(stage, grid, fitted.matrix)
        theta = transform.parameters(fitted.matrix) if stage.transform["name"] == "linear" else transform.identity()
        if not fitted.linear:
            if stage.transform["name"] != "dense":
                raise OptionError(f"model {plan.model!r} cannot begin from a transform that is not linear; "
                                  "dense and greedy can")
            transform.refine(theta, grid)
            theta = fitted.mapping().resampled(grid).reshape((grid.ndim, *grid.shape3)).astype(np.float32)
        theta, ending = run(stage.name, fixed, moving, transform, metric, regularisers, optimiser, stage.levels, theta,
                            control, order=stage.order, tolerance=stage.tolerance)
        fitted = FittedTransform(stage.name, transform, theta, grid, moving.grid)
        if control.stopped:
            break
    return (fitted if fitted.model == plan.model else replace(fitted, model=plan.model)), ending


__all__ = ["register", "plan", "apply", "check_options", "load_pair"]

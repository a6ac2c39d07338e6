"""The front door: check, names to objects, one call down.

    register(fixed, moving, model=...)   one registration
    plan(fixed, moving, model=...)       what it would run
    apply(transform, moving, reference)  an image pulled back through a transform
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from . import door, memory, models, preflight
from .backend import Workspace
from .draws import SAMPLINGS
from .engine import Control, Record, run, run_group
from .errors import InputError, OptionError
from .fitted import FittedTransform
from .image import Image
from .initialise import INITS, deformation, modality, start
from .optimisers import OPTIMISERS
from .planning import Plan
from .pyramid import matched, normalised
from .resample import resample
from .result import Result
from .transforms import PAIRED, BSpline, Linear
from .transforms.halves import template

log = logging.getLogger("classreg")

#: overall correlation above which images are copies of each other: there ncc is exact, and mi sees interpolation
COPIES = 0.999

GIVEN = "init: a given transform"

SEARCH = "start of the deformation: "


def register(fixed, moving, *, model: str = "bspline", metric: str | dict = "auto", init="auto", fixed_mask=None,
             moving_mask=None, levels: Sequence[float] | None = None, iterations: int | Sequence[int] | None = None,
             optimiser: str | dict | None = None, sampling: str | dict | None = None,
             regularisers: str | dict | Sequence[str | dict] | None = None, priors: Sequence[dict] = (),
             spacing=None, channels: str | None = None, rotation: str = "quaternion", plan: Plan | None = None,
             threads: int | None = None, time_limit: float | None = None, memory_limit: int | str | None = None,
             callback: Callable[[Record], bool | None] | None = None) -> Result:
    """Find the transform that takes fixed points to moving points, so that the moving image matches the fixed one.

    Parameters
    ----------
    fixed, moving : path, Image, SimpleITK image, nibabel image or array
        2-D or 3-D, on any grids. Arrays are (z, y, x) with `spacing`.
    model : str
        translation, rigid, similarity, affine, polyaffine, bspline, dense, svf, symmetric or greedy. Deformable models
        run rigid and affine stages first, unless `init` is a transform.
    metric : str or dict
        A name in `classreg.metrics.METRICS` (ssd, sad, ncc, lncc, mi, nmi, cr, ngf, mind, composite, or your own once
        it is there: `METRICS["mine"] = Mine`), or auto: chosen from the images (see `result.plan.notes`). A dictionary
        gives options, {"name": "lncc", "radius": 3}.
    init : str, FittedTransform, Result, array or path
        auto, identity, geometry, mass or moments; or a transform, its file, or a world matrix (d + 1, d + 1), to start
        from.
    fixed_mask, moving_mask : as the images, optional
        Where each image counts: a mask, or a weight of at least 0, on its image's grid.
    levels : sequence of float, optional
        Shrink factors, coarse to fine, of the last stage; by default from the grid.
    iterations : int or sequence of int, optional
        At most so many per level of the last stage.
    optimiser : str or dict, optional
        Of the last stage: gauss_newton, newton_cg, lbfgs, descent, adam, asgd or greedy; by default the model's own. A
        dictionary gives options, {"name": "asgd", "step": 0.5}.
    sampling : str or dict, optional
        Evaluate the last stage at drawn samples, random or sobol, instead of all: {"name": "random", "samples": 2048}.
        `asgd` draws others at every step, also where none is given and the metric can do with them; other optimisers
        keep one set per level.
    regularisers : str, dict or sequence of them, optional
        Of the last stage, in the place of those of the model's own that do the same: an energy (diffusion, bending,
        curvature, elastic, tv, jacobian, neighbours) replaces its energies, but for the barrier `volume` against folds;
        a filter (gaussian, or one with `sigma`) that of the same field. {"name": "elastic", "weight": 0.2}.
    priors : sequence of dict, optional
        What is known beside the images: {"name": "landmarks", "fixed": points or path, "moving": ...}, labels,
        singular_values or rigidity, with options. Every stage that can takes them.
    spacing : sequence of float, optional
        Of plain arrays and pictures, per array axis, mm.
    channels : {"last"}, optional
        The last axis holds channels.
    rotation : {"quaternion", "euler"}
        How rigid and similarity store their rotation.
    plan : Plan, optional
        Run this instead of what model, metric, init, levels, iterations, optimiser, sampling, regularisers and priors
        say.
    threads : int, optional
        All cores by default; every number gives the same bits.
    time_limit : float, optional
        Seconds after which the best transform so far is returned.
    memory_limit : int or str, optional
        What this process may hold at its peak, in bytes or as "2GB" (see `classreg check` for what is needed). Where
        the defaults need more, the discrete search and the finest levels are left out, as `result.plan.notes` then
        says; where `levels` or `plan` are given, or nothing fits, an OptionError says how much would.
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
    door.check_options(threads, time_limit, callback, rotation)
    limit, coarser = memory.parse(memory_limit), levels is None and plan is None
    fixed, moving = door.load_pair(fixed, moving, fixed_mask, moving_mask, spacing, channels)
    begin, base = door.begin_of(init, fixed, moving), memory.resident()
    if plan is None:
        regularisers = door.regularisers_of(regularisers, fixed.grid)
        metric, optimiser, sampling = _check_choice(fixed, model, metric, levels, iterations, optimiser, sampling,
                                                    regularisers)
        priors = door.priors_of(priors, fixed.grid)
    else:
        door.check_plan(plan, fixed.grid, begin, fixed.channels)
        init = init if begin is not None else _plan_init(plan)
    _check_pair(fixed, moving, init, begin)
    if limit is not None:
        least = metric if plan is None and metric["name"] != "auto" else {"name": "mi"}
        kind = "auto" if begin is None else "transform"
        likely = plan or memory.expected(model, fixed.grid, least, levels, kind)
        memory.fit(likely, fixed, moving, limit, base, coarser)
    control = Control(callback, time_limit, began)
    with Workspace(threads) as workspace:
        f, m = normalised(fixed), normalised(moving)
        swapped = (model if plan is None else plan.model) in models.SYMMETRIC and exchanged(f, m)
        if swapped:
            f, m, begin = m, f, _turned(begin)
        matrix, note = start(f, m, init, control) if begin is None else (begin.matrix, GIVEN)
        if plan is None:
            plan = _plan(f, m, matrix, model, metric, init, begin, levels, iterations, rotation, optimiser, sampling,
                         regularisers, priors, note)
        if limit is not None:
            plan = memory.fit(plan, fixed, moving, limit, base, coarser)
        transform, ending, note = _run(plan, f, m, matrix, begin, control)
        del f, m
        workspace.release()
        if swapped:
            transform, matrix = _turned(transform), np.linalg.inv(matrix)
        transform.mapping()  # computed while the threads are there
    if note:
        plan = replace(plan, notes=(*(n for n in plan.notes if not n.startswith(SEARCH)), SEARCH + note))
    seconds = time.perf_counter() - began
    status = f"{plan.model}: {ending}; {len(control.history)} evaluations recorded in {seconds:.2f} s"
    log.info(status)
    return Result(transform, fixed, moving, control.history, status, plan, matrix, seconds)


def plan(fixed, moving, *, model: str = "bspline", metric: str | dict = "auto", init="auto",
         levels: Sequence[float] | None = None, iterations=None, optimiser=None, sampling=None,
         regularisers=None, priors: Sequence[dict] = (), spacing=None,
         channels=None, rotation: str = "quaternion", threads: int | None = None) -> Plan:
    """What `register` would run with these arguments, fully resolved; change it and pass it as `plan=`."""
    door.check_options(threads, rotation=rotation)
    fixed, moving = door.load_pair(fixed, moving, None, None, spacing, channels)
    begin = door.begin_of(init, fixed, moving)
    regularisers = door.regularisers_of(regularisers, fixed.grid)
    metric, optimiser, sampling = _check_choice(fixed, model, metric, levels, iterations, optimiser, sampling,
                                                regularisers)
    priors = door.priors_of(priors, fixed.grid)
    _check_pair(fixed, moving, init, begin)
    with Workspace(threads):
        f, m = normalised(fixed), normalised(moving)
        if model in models.SYMMETRIC and exchanged(f, m):
            f, m, begin = m, f, _turned(begin)
        matrix, note = start(f, m, init) if begin is None else (begin.matrix, GIVEN)
        return _plan(f, m, matrix, model, metric, init, begin, levels, iterations, rotation, optimiser, sampling,
                     regularisers, priors, note)


def apply(transform, moving, reference, *, format: str = "auto", interpolation: str | None = None,
          outside: float | None = None, spacing=None, channels: str | None = None, threads: int | None = None) -> Image:
    """The moving image on the reference's grid, pulled back through a transform.

    Parameters
    ----------
    transform : FittedTransform, Result, path, list of paths or array
        Fixed to moving; files of transforms (any string is taken as a path), or a world matrix (d + 1, d + 1).
    moving, reference : as in `register`
        Only the grid of the reference is used.
    format : str
        Of the files, see `classreg.io.read_transform`.
    interpolation : {"linear", "nearest", "cubic", "label"}, optional
        "label" is for label maps and the default for what looks like one (whole numbers whose neighbours mostly agree).
    outside : float, optional
        Value beyond the moving image: 0 for labels, its smallest value otherwise.

    Returns
    -------
    Image
        float32 after linear and cubic interpolation, the moving image's own dtype after nearest and label.

    Raises
    ------
    InputError, FileError, OptionError
        With what to do.
    """
    door.check_options(threads)
    moving = door.load_image(moving, spacing, channels, "moving")
    reference = door.load_image(reference, spacing, channels, "reference")
    if moving.grid.ndim != reference.grid.ndim:
        raise InputError(f"the moving image is {moving.grid.ndim}-D, the reference {reference.grid.ndim}-D")
    fitted = door.transform_of(transform, reference.grid, moving.grid, "transform", format)
    with Workspace(threads):
        return resample(fitted, moving, reference.grid, interpolation, outside)


def _check_choice(fixed: Image, model, metric, levels, iterations, optimiser, sampling, regularisers) -> tuple:
    """Names and options of metric, optimiser and sampling, once all that is chosen is found in order."""
    models.check_model(model)
    if levels is not None:
        preflight.check_levels(fixed.grid, levels)
    metric = door.metric_of(metric, fixed.channels)
    optimiser = door.part_of(optimiser, OPTIMISERS, "optimiser")
    sampling = door.part_of(sampling, SAMPLINGS, "sampling")
    sampling = models.sampling_for(model, metric, optimiser, sampling)
    if optimiser or sampling or regularisers:
        likely = metric if metric["name"] != "auto" else {"name": "mi" if sampling else "lncc"}
        stage = models.last_stage(model, fixed.grid, likely, levels, iterations, optimiser=optimiser, sampling=sampling)
        door.check_stage(models.with_regularisers(stage, regularisers, fixed.grid), fixed.grid)
    return metric, optimiser, sampling


def _check_pair(fixed, moving, init, begin) -> None:
    initial = None if begin is None else begin.matrix
    preflight.check_pair(fixed, moving, initial=initial, needs_overlap=isinstance(init, str) and init == "identity")


def _plan_init(plan: Plan) -> str:
    if plan.init not in INITS:
        raise OptionError("this plan began from a given transform: pass it again as init=")
    return plan.init


def exchanged(fixed: Image, moving: Image) -> bool:
    """Whether a pair stands in the other of its two orders, of which one is chosen by the images' content alone.

    A symmetric model runs in that order, whichever image is called fixed: so what knows a fixed and a moving image, as
    the contest of starts does, and rounding, find the same.
    """
    def content(image):
        arrays = (image.array, image.grid.affine, *(() if image.weight is None else (image.weight,)))
        return [hashlib.blake2b(np.ascontiguousarray(array)).digest() for array in arrays]

    return content(fixed) > content(moving)


def _turned(transform: FittedTransform | None) -> FittedTransform | None:
    """A transform for the pair in the other order."""
    return None if transform is None else replace(transform.opposite(), frm="fixed", to="moving", residual=None)


def _plan(fixed, moving, matrix, model, metric, init, begin, levels, iterations, rotation, optimiser, sampling,
          regularisers, priors, note) -> Plan:
    """Resolve names, metric and levels."""
    notes, symmetric = [note], model in models.SYMMETRIC
    linear, deformable = metric, metric
    if metric["name"] == "auto":
        same, rho, overall = modality(fixed, moving, matrix)
        linear = {"name": "ncc" if overall > COPIES else "mi"}
        deformable = {"name": "lncc" if same and sampling is None else "mi"}  # lncc needs neighbours
        notes.append(f"metric: {linear['name']} for linear models, {deformable['name']} for deformable ones: the "
                     f"images look {'alike' if same else 'different'} (correlation {rho:.2f} in the common foreground, "
                     f"{overall:.3f} overall)")
    elif metric["name"] in models.FIRST:
        linear = {"name": models.FIRST[metric["name"]]}
    factors = None if levels is None else [float(v) for v in levels]
    stages = []
    grid = fixed.grid
    before = {"translation": (), "rigid": (), "similarity": ("rigid",), "affine": ("rigid",)}
    before = before.get(model, ("rigid", "affine"))
    for kind in before if begin is None else ():
        own = deformable if kind == "affine" else linear  # the metric that follows gives the better start
        stages.append(models.linear_stage(kind, grid, own, None, samples=models.START[kind] ** grid.ndim,
                                          paired=symmetric))
    own = deformable if model not in models.LINEAR else metric if metric["name"] in models.FIRST else linear
    last = models.last_stage(model, grid, own, factors, iterations, rotation, optimiser, sampling)
    stages = models.with_priors([*stages, models.with_regularisers(last, regularisers, grid)], priors)
    plan = Plan(model, init if begin is None else "transform", tuple(stages), notes=tuple(notes))
    door.check_plan(plan, grid, begin)
    return plan


def _run(plan: Plan, fixed, moving, matrix, begin, control) -> tuple[FittedTransform, str, str]:
    """All stages of a plan, each beginning where the one before ended; how it ended, how the deformation began."""
    ending, note, grid, matching = "nothing to do", "", fixed.grid, plan.matching
    fitted = begin or FittedTransform.from_matrix(matrix, grid, moving.grid)
    for stage in plan.stages:
        if control.stopped or control.failed:
            ending = control.stopped or ending
            break
        if matching and not models.linear(stage):
            moving, matching = matched(moving, fixed), False
        if stage.transform["name"] in PAIRED:
            fitted, ending, note = _meet(stage, plan, fixed, moving, fitted, begin, control, note)
            continue
        transform, metric, regularisers, priors, optimiser = models.build_stage(stage, grid, fitted.matrix)
        if stage.transform["name"] == "linear":
            theta = transform.parameters(fitted.matrix)
        elif isinstance(transform, BSpline) and isinstance(fitted.transform, BSpline) and fitted.transform.grid is grid:
            theta = transform.taken(fitted.theta, fitted.transform)
        elif not fitted.linear:
            theta = transform.fit(fitted.on(grid).field.reshape((grid.ndim, *grid.shape3)), grid)
        else:
            found = None
            if begin is None and plan.search != "none":
                found, note = deformation(fixed, moving, fitted.matrix, metric, plan.search, control)
            theta = transform.identity() if found is None else transform.fit(*found)
        theta, ending = run(stage.name, fixed, moving, transform, metric, regularisers, optimiser, stage.levels, theta,
                            control, priors=priors, order=stage.order, tolerance=stage.tolerance,
                            sampling=models.build_sampling(stage), seed=plan.seed)
        fitted = FittedTransform(stage.name, transform, theta, grid, moving.grid)
    return (fitted if fitted.model == plan.model else replace(fitted, model=plan.model)), ending, note


def _meet(stage, plan, fixed, moving, fitted, begin, control, note) -> tuple[FittedTransform, str, str]:
    """A stage in which both images move to a template halfway: what it fitted, how it ended, how it began."""
    matrix, grid = fitted.matrix, template(fixed.grid, moving.grid, fitted.matrix)
    transform, metric, regularisers, _, optimiser = models.build_stage(stage, grid, matrix)
    if models.linear(stage):
        theta = transform.parameters(matrix)
    elif not fitted.linear:
        theta = transform.fit(fitted.on(fixed.grid).field.reshape((grid.ndim, *fixed.grid.shape3)), fixed.grid)
    else:
        found = None
        if begin is None and plan.search != "none":
            found, note = deformation(fixed, moving, matrix, metric.metric, plan.search, control)
        theta = transform.identity() if found is None else transform.fit(*found)
    theta, ending = run_group(stage.name, (fixed, moving), grid, transform, metric, regularisers, optimiser,
                              stage.levels, theta, control, order=stage.order, tolerance=stage.tolerance)
    if models.linear(stage):
        one = Linear(fixed.grid, transform.kind)
        model = one, one.parameters(transform.matrix(theta))
    else:
        model = transform.whole(theta, fixed.grid)
    return FittedTransform(stage.name, *model, fixed.grid, moving.grid), ending, note


__all__ = ["register", "plan", "apply"]

"""The front door of groups: check, names to objects, stage after stage through the engine.

Must not import: matplotlib, numba, cupy.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from .. import door as pair_door
from .. import preflight
from ..backend import Workspace
from ..engine import Control, Record, run_group
from ..fitted import FittedTransform
from ..grid import Grid
from ..image import Image
from ..initialise import group_start
from ..memory import parse, resident
from ..objective import GroupObjective
from ..optimisers import OPTIMISERS
from ..planning import Plan
from ..pyramid import filled, normalised
from ..transforms import Linear
from ..transforms.stack import centred_matrices
from . import door, models
from .memory import fit
from .result import GroupResult
from .space import common_grid

log = logging.getLogger("classreg")

GIVEN = "init: given matrices"

#: refreshes after which classes that are estimated anew count as settled
SETTLED = 10


def register_group(images, *, model: str = "bspline", method: str | dict = "xcoreg", init="auto", names=None,
                   masks=None, reference=None, gauge: int | str = "mean", levels: Sequence[float] | None = None,
                   iterations: int | Sequence[int] | None = None, optimiser: str | dict | None = None, spacing=None,
                   channels: str | None = None, seed: int = 0, temporal: float = 0.0,
                   regularisers: str | dict | Sequence[str | dict] | None = None, plan: Plan | None = None,
                   threads: int | None = None, time_limit: float | None = None, memory_limit: int | str | None = None,
                   callback: Callable[[Record], bool | None] | None = None) -> GroupResult:
    """Find transforms that take points of a common space to points of each image, so that all images match there.

    Parameters
    ----------
    images : sequence of path, Image, SimpleITK image, nibabel image or array
        At least two, all 2-D or all 3-D, on any grids and of any contrasts.
    model : str
        translation, rigid, similarity, affine, bspline, dense, greedy or svf. Deformable models run rigid and affine
        stages first.
    method : str or dict
        What is minimised: a name in `classreg.metrics.group.GROUP_METRICS`, or a dictionary with options,
        {"name": "xcoreg", "classes": 6}.
    init : str, or sequence of array
        identity (the headers), pairwise (each image is first aligned to the best-connected one), auto (pairwise where
        the headers place images apart); or one world matrix per image, common space to image.
    names : sequence of str, optional
        What the images are called in transforms, messages and files; by default image_1, image_2, ...
    masks : sequence, optional
        One per image, or None for those without: where it counts, on its grid.
    reference : Grid, image or path, optional
        The grid of the common space; by default chosen from all images, see `common_grid`.
    gauge : int or str
        mean: nothing moves on average. Or the number or name of an image that does not move: the common space is then
        its own.
    levels : sequence of float, optional
        Shrink factors, coarse to fine, of the last stage; by default from the grid.
    iterations : int or sequence of int, optional
        At most so many per level of the last stage.
    optimiser : str or dict, optional
        Of the last stage: lbfgs, descent, adam, greedy (greedy, svf) or gauss_newton (linear); by default the
        model's own.
    spacing, channels
        Of plain arrays and pictures, see `classreg.register`.
    seed : int
        Of what methods draw at random.
    temporal : float
        Weight of the mean squared step, in voxels, between the motions of images that follow each other in the list:
        for frames of one movement, whose order then counts. See `register_series`.
    regularisers : str, dict or sequence of them, optional
        Of the last stage, in the place of those of the model's own that do the same, see `classreg.register`.
    plan : Plan, optional
        Run this instead of what model, method, init, gauge, levels, iterations, optimiser, seed, temporal and
        regularisers say.
    threads : int, optional
        All cores by default; every number gives the same bits.
    time_limit : float, optional
        Seconds after which the best transforms so far are returned.
    memory_limit : int or str, optional
        Peak of this process's memory, in bytes or as "2GB". Where the defaults need more, the finest levels are left
        out, and `plan.notes` says so; what was asked for with `levels` or `plan` is refused instead.
    callback : callable, optional
        Called with a `Record` per iteration; returning True stops.

    Returns
    -------
    GroupResult
        The order of the images makes no difference to their transforms, unless `temporal` couples them.

    Raises
    ------
    InputError, GeometryError, FileError, OptionError
        Before the first iteration, with what to do.
    ConvergenceError
        If the objective is not finite at the start of a level.

    Examples
    --------
    >>> from classreg.datasets import head_phantom
    >>> pair = head_phantom(8.0, ndim=2)
    >>> result = register_group([pair.fixed, pair.moving], model="rigid")
    >>> result.transforms[0].frm, result.transforms[0].to
    ('common', 'image_1')
    """
    began = time.perf_counter()
    pair_door.check_options(threads, time_limit, callback)
    limit, coarser = parse(memory_limit), levels is None and plan is None
    images, names = door.load_group(images, masks, names, spacing, channels)
    base = resident()
    wanted = _Wanted(model, method, init, gauge, reference, levels, iterations, optimiser, seed, temporal, plan,
                     regularisers)
    wanted.check(images, names, spacing, channels)
    order = range(len(images)) if wanted.ordered else in_order(images)
    control = Control(callback, time_limit, began)
    with Workspace(threads) as workspace:
        sorted_images, sorted_names = [images[k] for k in order], [names[k] for k in order]
        floats = [filled(normalised(image)) for image in sorted_images]
        plan, grid, matrices = _resolve(wanted, floats, sorted_names, control)
        if limit is not None:
            plan = fit(plan, sorted_images, grid, limit, base, coarser)
        transforms, classes, ending = _run(plan, floats, sorted_names, grid, matrices, control)
        del floats
        workspace.release()
        for transform in transforms:
            transform.mapping()  # computed while the threads are there
    seconds = time.perf_counter() - began
    status = (f"{plan.model} of {len(images)} images: {ending}; {len(control.history)} evaluations recorded in "
              f"{seconds:.2f} s")
    log.info(status)
    back = np.argsort(order)
    return GroupResult(tuple(transforms[k] for k in back), tuple(names), tuple(images), grid, classes, control.history,
                       status, plan, tuple(matrices[k] for k in back), seconds)


def plan_group(images, *, model: str = "bspline", method: str | dict = "xcoreg", init="auto", names=None, masks=None,
               reference=None, gauge: int | str = "mean", levels: Sequence[float] | None = None, iterations=None,
               optimiser=None, spacing=None, channels: str | None = None, seed: int = 0,
               temporal: float = 0.0, regularisers=None, threads: int | None = None) -> Plan:
    """What `register_group` would run with these arguments, fully resolved; change it and pass it as `plan=`."""
    pair_door.check_options(threads)
    images, names = door.load_group(images, masks, names, spacing, channels)
    wanted = _Wanted(model, method, init, gauge, reference, levels, iterations, optimiser, seed, temporal, None,
                     regularisers)
    wanted.check(images, names, spacing, channels)
    order = range(len(images)) if wanted.ordered else in_order(images)
    control = Control()
    with Workspace(threads):
        plan = _resolve(wanted, [filled(normalised(images[k])) for k in order], [names[k] for k in order], control)[0]
    if control.stopped:  # there is no best so far of a plan
        raise KeyboardInterrupt
    return plan


def in_order(images: Sequence[Image]) -> list[int]:
    """The numbers of the images, sorted by their content: a group runs in this order, whatever order it came in."""
    def content(image):
        arrays = (image.array, image.grid.affine, *(() if image.weight is None else (image.weight,)))
        return [hashlib.blake2b(np.ascontiguousarray(array)).digest() for array in arrays]

    return sorted(range(len(images)), key=lambda k: content(images[k]))


class _Wanted:
    """What the caller asked for, checked."""

    def __init__(self, model, method, init, gauge, reference, levels, iterations, optimiser, seed, temporal, plan,
                 regularisers):
        self.model, self.method, self.init, self.gauge, self.reference = model, method, init, gauge, reference
        self.levels, self.iterations, self.optimiser = levels, iterations, optimiser
        self.seed, self.temporal, self.plan, self.matrices = seed, temporal, plan, None
        self.regularisers = regularisers

    def check(self, images, names, spacing, channels) -> None:
        """Refuse what can be known to be wrong by now, and turn the rest into objects."""
        ndim = images[0].grid.ndim
        if self.plan is None:
            models.check_model(self.model)
            self.method = door.method_of(self.method)
            self.optimiser = pair_door.part_of(self.optimiser, OPTIMISERS, "optimiser")
            pair_door.check_seed(self.seed)
            door.check_temporal(self.temporal)
            self.regularisers = pair_door.regularisers_of(self.regularisers, images[0].grid)
            self.gauge = door.gauge_of(self.gauge, names)
        else:
            door.check_kind(self.plan)
            self.gauge = door.gauge_of(self.plan.gauge, names)
            self.init = self.init if not isinstance(self.init, str) else door.init_of(self.plan)
        self.matrices = door.starts_of(self.init, images, names)
        self.reference = door.reference_of(self.reference, spacing, channels, ndim)

    @property
    def ordered(self) -> bool:
        """Whether the order of the images counts."""
        return self.temporal > 0 if self.plan is None else models.ordered(self.plan)


def _resolve(wanted: _Wanted, images, names, control) -> tuple[Plan, Grid, list[np.ndarray]]:
    """The plan, the common grid, and where each image begins: in the gauge."""
    still = None if wanted.gauge == door.MEAN else names.index(wanted.gauge)
    if wanted.matrices is None:
        matrices, note = group_start(images, names, wanted.init, control)
    else:
        matrices, note = [wanted.matrices[name] for name in names], GIVEN
    matrices = centred_matrices(matrices, still)
    door.check_overlap(images, names, matrices)
    grid = wanted.reference or (common_grid([image.grid for image in images], matrices) if still is None
                                else images[still].grid)
    door.check_common(images, names, matrices, grid)
    plan = wanted.plan
    if plan is None:
        if wanted.levels is not None:
            preflight.check_levels(grid, wanted.levels)
        factors = None if wanted.levels is None else [float(v) for v in wanted.levels]
        init = wanted.init if wanted.matrices is None else "matrices"
        plan = models.group_plan(wanted.model, wanted.method, grid, init, wanted.gauge, factors, wanted.iterations,
                                 wanted.optimiser, wanted.seed, (note,), wanted.temporal, wanted.regularisers)
    door.check_plan(plan, grid, len(images))
    door.check_classes(images, names, plan)
    door.check_joint(images, matrices, plan)
    return plan, grid, matrices


def _run(plan: Plan, images, names, grid: Grid, matrices, control):
    """All stages of a plan: the transforms, the classes if the method tells any apart, and how it ended."""
    still = None if plan.gauge == door.MEAN else names.index(plan.gauge)
    ending, classes = "nothing to do", None
    fitted = [FittedTransform.from_matrix(m, grid) for m in matrices]
    for stage in plan.stages:
        if control.stopped or control.failed:
            ending = control.stopped or ending
            break
        stack, metric, regularisers, optimiser = models.build_stage(stage, grid, matrices, still, plan.seed)
        theta = stack.identity()
        if models.linear(stage):
            theta = np.concatenate([m.parameters(matrix) for m, matrix in zip(stack.models, matrices)])
            theta = stack.centred(theta)
        theta, ending = run_group(stage.name, images, grid, stack, metric, regularisers, optimiser, stage.levels, theta,
                                  control, order=stage.order, tolerance=stage.tolerance)
        if stage is plan.stages[-1]:
            classes = _classes_of(metric, stack, theta, images, grid, stage.order)
        parts = list(zip(stack.models, stack.parts(theta)))
        if models.linear(stage):
            matrices, one = [m.matrix(part) for m, part in parts], Linear(grid, stage.transform["kind"])
            parts = [(one, one.parameters(matrix)) for matrix in matrices]
        fitted = [FittedTransform(plan.model, m, np.array(part), grid) for m, part in parts]
    ends = zip(fitted, images, names)
    fitted = [replace(f, model=plan.model, to_grid=image.grid, frm=door.COMMON, to=name) for f, image, name in ends]
    return fitted, classes, ending


def _classes_of(metric, stack, theta, images, grid: Grid, order: int) -> np.ndarray | None:
    """The posterior of the classes on the common grid, (K, *grid.shape); None of methods that tell none apart.

    Estimated anew from the images at full resolution where the last level was coarser.
    """
    found = getattr(metric, "posterior", None)
    if found is None:
        return None
    if found.shape[1:] != grid.shape3:
        objective = GroupObjective([metric.describe(image) for image in images], grid, stack, metric, order=order)
        for _ in range(SETTLED):
            objective.refresh(theta)
        found = metric.posterior
    return found.reshape((-1, *grid.shape)).copy()

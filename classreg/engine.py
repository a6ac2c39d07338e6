"""The engine: one loop over levels, one loop over iterations.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .backend import Workspace, workspace
from .errors import ConvergenceError, OptionError
from .grid import Grid
from .image import Image
from .objective import GroupObjective, Objective
from .optimisers.state import resumed
from .pyramid import factors, shrink
from .regularisers import is_energy, smooths
from .schedule import Level
from .stopping import flat

log = logging.getLogger("classreg")


@dataclass(frozen=True)
class Record:
    """One iteration, as it stands in the history and goes to the callback.

    `value` is the objective, `terms` its parts, `step` the motion of the step in mm, `seconds` since the call began;
    levels count from 1 (coarsest), iteration 0 is the start of a level. Values compare within one level only.
    """

    stage: str
    level: int
    levels: int
    iteration: int
    iterations: int
    value: float
    terms: dict[str, float]
    step: float
    seconds: float


@dataclass
class Control:
    """What can stop a run from outside, and the history it leaves.

    `callback(record)` may return True to stop; `time_limit` is in seconds from `start`. `stopped` says what ended the
    run from outside, `failed` what made its values meaningless.
    """

    callback: Callable[[Record], bool | None] | None = None
    time_limit: float | None = None
    start: float = field(default_factory=time.perf_counter)
    history: list[Record] = field(default_factory=list)
    stopped: str = ""
    failed: str = ""

    def note(self, record: Record) -> None:
        """Append a record; set `stopped` if the run must end."""
        self.history.append(record)
        if self.callback is not None and self._called(record):
            self.stopped = "stopped by the callback"
        elif not self.stopped:
            self.late()

    def _called(self, record: Record) -> bool:
        """Whether the callback wants an end; what it evaluates has buffers of its own."""
        with Workspace(threads=1):
            return self.callback(record) is True

    def late(self) -> bool:
        """Whether the time is up; then the run is stopped."""
        up = self.time_limit is not None and time.perf_counter() - self.start > self.time_limit
        if up:
            self.stopped = f"stopped at the time limit of {self.time_limit:g} s"
        return up


def run(name: str, fixed: Image, moving: Image, transform, metric, regularisers, optimiser, levels: tuple[Level, ...],
        theta: np.ndarray, control: Control, *, priors=(), order: int = 1, tolerance: float = 5e-5, sampling=None,
        seed: int = 0) -> tuple[np.ndarray, str]:
    """Minimise over all levels; returns the best theta of the last one and how it ended.

    Parameters
    ----------
    fixed, moving : Image
        Normalised float32 images (`pyramid.normalised`).
    theta : array
        Where to start; refined at every level.
    control : Control
        Receives the history; what it says ends the run with the best theta so far. So does Ctrl-C.
    sampling : optional
        Draws the samples of each level (see `draws`), from `seed`; all of the fixed grid without.

    Raises
    ------
    OptionError
        If the optimiser needs what the other parts do not offer.
    ConvergenceError
        If the value is not finite at the start of a level; names level, iteration and term. Later on, the run stops
        with that sentence as its status and the best theta so far.
    """

    def pose(level, number):
        f, m = (metric.describe(shrink(image, level.resolution(fixed.grid), level.sigma)) for image in (fixed, moving))
        draw = None if sampling is None else sampling.on(f, np.random.default_rng((seed, number)))
        kept = draw(1) if draw and sampling.kept else None
        return f.grid, lambda: Objective(f, m, transform, metric, regularisers, priors, at=kept,
                                         draw=None if kept else draw, order=order)

    check_needs(optimiser, transform, metric, regularisers, priors, sampling)
    return _solve(name, pose, transform, metric, regularisers, optimiser, levels, theta, control, tolerance)


def run_group(name: str, images: Sequence[Image], grid: Grid, transform, metric, regularisers, optimiser,
              levels: tuple[Level, ...], theta: np.ndarray, control: Control, *, order: int = 1,
              tolerance: float = 5e-5) -> tuple[np.ndarray, str]:
    """The same for a group of images that all move: on levels of the template `grid`, by a metric of the stack."""

    def pose(level, number):
        resolution = level.resolution(grid)
        shrunk = [metric.describe(shrink(image, resolution, level.sigma)) for image in images]
        coarse = grid.coarsen(factors(grid, resolution))
        return coarse, lambda: GroupObjective(shrunk, coarse, transform, metric, regularisers, order=order)

    check_needs(optimiser, transform, metric, regularisers)
    return _solve(name, pose, transform, metric, regularisers, optimiser, levels, theta, control, tolerance)


def _solve(name, pose, transform, metric, regularisers, optimiser, levels, theta, control, tolerance):
    """What `run` does, once `pose(level)` gives the grid of a level and what makes its objective."""
    theta, ending = _levels(name, pose, transform, metric, regularisers, optimiser, levels, theta, control, tolerance)
    workspace().release()  # what the last level needed must not lie beside what looks at the whole transform
    return mended(theta, transform, regularisers, everywhere=True), ending


def _levels(name, pose, transform, metric, regularisers, optimiser, levels, theta, control, tolerance):
    """The loops of `run`, which explains the parameters."""
    ending = "no level to run"
    for number, level in enumerate(levels, 1):
        best, objective, state = theta, None, None  # those of the last level must not lie beside this one's
        try:
            grid, make = pose(level, number)
            best = theta = mended(transform.refine(theta, grid), transform, regularisers)
            objective = make()
            latent = objective.refresh(theta)
            state = optimiser.init(objective, theta)
            epoch, values = objective.epoch, [state.value]
            for iteration in range(level.iterations + 1):
                if iteration:
                    if latent and iteration > 1:
                        objective.refresh(theta)
                        state = resumed(optimiser, objective, theta, state)
                    theta = optimiser.step(objective, theta, state)
                    if objective.epoch != epoch:  # values of other samples do not compare
                        epoch, values = objective.epoch, []
                    values.append(state.value)
                if not np.isfinite(state.value):
                    control.failed = ending = _not_finite(name, number, iteration, state)
                    if iteration == 0:
                        raise ConvergenceError(ending)
                    break
                best = state.best
                control.note(Record(name, number, len(levels), iteration, level.iterations, state.value,
                                    dict(state.terms), state.step, time.perf_counter() - control.start))
                if iteration == 0 and state.terms["metric"] <= metric.zero:
                    state.done = "the images agree to rounding"
                if control.stopped or state.done:
                    break
                if flat(values, tolerance):
                    state.done = f"the value falls by less than {tolerance:g} of its start per iteration"
            ending = control.failed or control.stopped or state.done or f"all {level.iterations} iterations used"
            if hasattr(optimiser, "finish") and not control.failed:
                best = optimiser.finish(objective, theta, state)
        except KeyboardInterrupt:
            ending = control.stopped = "interrupted"
        theta = best
        log.debug("%s level %d/%d: %s", name, number, len(levels), ending)
        if control.stopped or control.failed:
            break
    return theta, ending


def mended(theta: np.ndarray, transform, regularisers, everywhere: bool = False) -> np.ndarray:
    """Theta, within the bounds that regularisers set (see `Volume.mend`)."""
    for r in regularisers:
        if hasattr(r, "mend"):
            theta = r.mend(theta, transform, everywhere) if not hasattr(transform, "models") else transform.mended(
                theta, lambda part, model: r.mend(part, model, everywhere))  # noqa: B023, called at once
    return theta


def check_needs(optimiser, transform, metric, regularisers, priors=(), sampling=None) -> None:
    """Raise OptionError if an optimiser is paired with parts that cannot serve it, or with samples that cannot."""
    transform = getattr(transform, "models", [transform])[0]  # of a stack, that of any image
    kind, model, carried = type(optimiser).__name__, type(transform).__name__, getattr(transform, "acts_on", None)
    follows = carried == "velocity" and not getattr(transform, "compositive", False)
    if sampling is not None:
        drawn = type(sampling).__name__
        if getattr(metric, "dense", False) or not hasattr(metric, "take"):
            raise OptionError(f"{type(metric).__name__} looks at neighbourhoods, which {drawn} samples do not have: "
                              "use mi, ncc or ssd, or leave sampling out")
        if not getattr(transform, "scatters", False):
            raise OptionError(f"{model} is evaluated at every voxel, which {drawn} samples are not: use a linear model "
                              "or bspline, or leave sampling out")
        if "smooth" in optimiser.needs:
            raise OptionError(f"{kind} smooths a force at every voxel: leave sampling out, or use asgd")
    for r in regularisers:
        what = type(r).__name__
        if getattr(r, "couples", False):
            continue
        if is_energy(r):
            if not hasattr(transform, getattr(r, "reads", "grams")):
                raise OptionError(f"{what} is an energy of a deformation that {model} does not have: leave the "
                                  "regulariser out" + (", or use neighbours" if hasattr(transform, "patches") else ""))
            if any(not hasattr(transform, name) for name in getattr(r, "needs", ())):
                raise OptionError(f"{what} keeps splines from folding; {model} is none: use jacobian")
            if r.acts_on == "displacement" and follows:
                raise OptionError(f"{what} is an energy of the displacement, and {model} follows the exact gradient of "
                                  "a velocity: use one with acts_on='velocity', as diffusion, or another model")
            if r.acts_on not in ("displacement", carried):
                raise OptionError(f"{what} is an energy of the {r.acts_on}, which {model} has not: "
                                  "give acts_on='displacement'")
        elif "smooth" not in optimiser.needs:
            raise OptionError(f"{what} only smooths, which {kind} never does: use diffusion or bending, or the greedy "
                              "optimiser")
    for p in priors:
        if getattr(p, "acts_on", None) == "displacement" and follows:
            raise OptionError(f"{type(p).__name__} is about the displacement, and {model} follows the exact gradient "
                              "of a velocity: leave the prior out, or use another model")
        for what in getattr(p, "needs", ()):
            if not hasattr(transform, what):
                raise OptionError(f"{type(p).__name__} needs a transform with {what!r}, which {model} has not: leave "
                                  "the prior out of this stage")
    if "curvature" in optimiser.needs:
        if not hasattr(metric, "curvature"):
            raise OptionError(f"{kind} needs a metric with a curvature, which {type(metric).__name__} has not; "
                              "use lbfgs, or ssd or ncc as metric")
        if "product" not in optimiser.needs and not hasattr(transform, "tangent"):
            raise OptionError(f"{kind} solves for the parameters of linear models; {type(transform).__name__} has too "
                              "many: use lbfgs")
    if "product" in optimiser.needs:
        if not hasattr(transform, "spread") or follows:
            other = "gauss_newton" if hasattr(transform, "tangent") else "lbfgs"
            raise OptionError(f"{kind} moves B-splines and dense displacements; {model} is neither: use {other}")
        if sampling is not None:
            raise OptionError(f"{kind} takes the curvature at every voxel: leave sampling out, or use lbfgs or asgd")
    if "smooth" in optimiser.needs:
        if not hasattr(transform, "compositive"):
            raise OptionError(f"{kind} moves dense fields; {type(transform).__name__} is none: use lbfgs")
        for what in ("update", transform.acts_on):
            if not any(smooths(r) and r.acts_on == what for r in regularisers):
                raise OptionError(f"{kind} needs a regulariser that smooths the {what}: add gaussian with "
                                  f"acts_on={what!r}")
        filtered = [r.acts_on for r in regularisers if smooths(r)]
        for what in filtered:
            if what not in ("update", transform.acts_on):
                raise OptionError(f"a filter of the {what} is never used: {model} has an update and a "
                                  f"{transform.acts_on}; give acts_on='update' or {transform.acts_on!r}")
            if filtered.count(what) > 1:
                raise OptionError(f"two filters of the {what}, of which one is used: leave one of them out")
    elif getattr(transform, "compositive", False):
        raise OptionError(f"{kind} adds steps, but {type(transform).__name__} composes them: use the greedy optimiser")


def _not_finite(name, level, iteration, state) -> str:
    bad = [k for k, v in state.terms.items() if not np.isfinite(v)]
    if not bad:
        return f"{name}, level {level}, iteration {iteration}: the images hardly overlap; start closer with init="
    return (f"{name}, level {level}, iteration {iteration}: {', '.join(bad)} is not finite ({state.terms}); check the "
            "images for extreme values, or start closer with init=")

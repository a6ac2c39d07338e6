"""Peak memory of a registration, predicted from its plan, and how a limit on it is kept.

    peak = base + max over phases of what the phase holds

The base is measured: what is resident now, the images included, and the kernels if they are still to be loaded. What a
phase holds is counted from the buffers of the engine: how many of the size of a level's samples, of a displacement
field on them, and of the model's parameters each part needs stands in the tables below, and nowhere else. Compilation,
where kernels were not kept on disk, takes some 30 MB more. `benchmarks/memory.py` compares prediction and measurement:
run it when buffers change.

Must not import: the engine, io, numba, cupy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np

from . import models
from .errors import OptionError
from .grid import Grid
from .image import Image
from .initialise.discrete import SAMPLES
from .initialise.discrete import held as search_holds
from .kernels.cpu import filters
from .planning import Plan, Stage
from .pyramid import factors
from .schedule import Level
from .spline import points_of
from .transforms import PAIRED, BSpline, Polyaffine

#: bytes of a value in images, fields and parameters
VALUE = 4

#: bytes that loading the compiled kernels takes, and of an interpreter with all libraries where it cannot be measured
KERNELS, INTERPRETER = 60_000_000, 130_000_000

#: about how many samples give a channel's mean and deviation, and bytes that each of them takes meanwhile
SAMPLED, PER_SAMPLED = 1 << 20, 16

#: values per sample of a level, beside the images: what each metric uses up within a call, and keeps per channel
METRIC = {"ssd": (0, 0), "sad": (0, 0), "ncc": (0, 0), "mi": (0, 0), "nmi": (0, 0), "cr": (0, 0), "lncc": (3, 1),
          "ngf": (4, 4)}

#: descriptors of mind in 2-D and 3-D; what its mode "exact" uses up and keeps per descriptor, and keeps besides
DESCRIPTORS, EXACT = {2: 4, 3: 12}, (1, 3, 3)

#: values per sample of Gauss-Newton for linear models: curvature, directions to deflate with, and the stack of both
CURVATURE = {"ssd": 2, "sad": 1, "ncc": 6, "cr": 6}

#: the same per channel of greedy steps, where the metric does not keep it anyway
DIAGONAL = {"ssd": 1, "sad": 1, "ncc": 1, "mi": 1, "nmi": 1, "cr": 1, "lncc": 0, "ngf": 0}

#: directions to deflate with, per channel, each of all channels
DIRECTIONS = {"ncc": 2, "cr": 2}

#: values per sample of optimisers that hold a weight during their line search
HELD = {"gauss_newton": 1, "newton_cg": 1, "lbfgs": 1, "descent": 1}

#: sets of parameters per pair of channels that an operator deflates with
DEFLATED = {"ncc": 2, "cr": 2}

#: displacement fields on a level's grid: the force, and what evaluates the transform (see `passes` for splines)
FIELDS = {"linear": 0, "polyaffine": 5, "bspline": 1, "dense": 1, "velocity": 3, "linear_halves": 0, "halves": 4.3}

#: fields more for an exact gradient of a velocity: one per squaring, for motions of eight samples, and the way back
SQUARINGS = 6

#: displacement fields on the fixed grid that the mapping of the result takes, where it is not the parameters themselves
RESULT = {"polyaffine": 1.0, "bspline": 2.4, "dense": 2.5, "velocity": 1.0, "halves": 1.0}

#: sets of parameters alive at once: current, trial and best ones, gradients, steps, moments
PARAMETERS = {"gauss_newton": 0, "newton_cg": 10, "lbfgs": 7, "descent": 6, "adam": 6, "asgd": 7, "greedy": 3}

#: sets of parameters per regulariser with an energy, and what computes it; more for those that mix derivatives
ENERGY, ENERGIES, MIXED = 1, 4, 4

#: energies that read slopes, and values that they take per corner of half a cell, or fields on a dense grid
SLOPES, PER_CORNER, PER_SAMPLE = {"tv", "jacobian", "rigidity"}, 15, 4

#: values per sample of the prior on labels: of each of them, and once in fields
LABEL, LABELS = 4, 2

#: values per corner of half a cell that the barrier against folds takes
BARRIER = 22

#: values per sample of the fixed grid that looking for folds takes at the end, where it finds some
MENDED = 17

#: the phase that is left out before a level is
SEARCHING = "the discrete search"

UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@dataclass(frozen=True)
class Prediction:
    """Bytes at the peak, and the phase of the registration that it is in."""

    bytes: int
    phase: str


def predict(plan: Plan, fixed: Image, moving: Image, base: int | None = None) -> Prediction:
    """Peak memory of this process when it runs a plan.

    Parameters
    ----------
    plan : Plan
        As `classreg.plan` gives it.
    fixed, moving : Image
        In memory already.
    base : int, optional
        Bytes to begin from; by default what is resident now and the kernels, if they are not loaded.

    Examples
    --------
    >>> image = Image(np.zeros((100, 100, 100), np.float32), Grid.from_spacing((100, 100, 100)))
    >>> stage = models.linear_stage("rigid", image.grid, {"name": "mi"}, None)
    >>> predict(Plan("rigid", "auto", (stage,)), image, image, base=0)
    Prediction(bytes=24000000, phase='normalising')
    """
    base = resident() if base is None else base
    return max((Prediction(base + int(held), phase) for phase, held in _phases(plan, fixed, moving)),
               key=lambda p: p.bytes)


def predict_model(fixed: Image, moving: Image, model: str) -> Prediction:
    """Peak memory of `register` with a model's defaults; of the metrics that "auto" chooses from, with the larger.

    Raises
    ------
    OptionError
        If the model is unknown.
    """
    return predict(expected(model, fixed.grid, {"name": "mi" if model in models.LINEAR else "lncc"}), fixed, moving)


def expected(model: str, grid: Grid, metric: dict, levels=None, init: str = "auto") -> Plan:
    """What `register` would run, as far as it is known before the images were looked at.

    Raises
    ------
    OptionError
        If the model is unknown.
    """
    models.check_model(model)
    given = None if levels is None else [float(v) for v in levels]
    if model in models.LINEAR:
        return Plan(model, init, (models.linear_stage(model, grid, metric, given),))
    affine = models.linear_stage("affine", grid, metric, None, samples=models.START["affine"] ** grid.ndim,
                                 paired=model in models.SYMMETRIC)
    return Plan(model, init, (affine, models.deformable_stage(model, grid, metric, given)))


def fit(plan: Plan, fixed: Image, moving: Image, limit: int, base: int, coarser: bool = True) -> Plan:
    """The plan, or one without the discrete search or the finest levels, whose peak is below a limit.

    Parameters
    ----------
    plan : Plan
    limit, base : int
        Bytes: what may be resident at the peak, and what is before the registration begins.
    coarser : bool
        Whether these may be left out; `plan.notes` says which were.

    Raises
    ------
    OptionError
        If nothing fits, with the numbers.
    """
    return within(plan, lambda p: _phases(p, fixed, moving), limit, base, coarser, "these images",
                  "resample both images to larger voxels, or crop them")


def within(plan: Plan, phases: Callable[[Plan], Iterable[tuple[str, float]]], limit: int, base: int, coarser: bool,
           what: str, remedy: str) -> Plan:
    """As `fit`, for anything whose phases and the bytes that they hold are known.

    `what` is registered and `remedy` are what helps otherwise, as the error says.
    """
    def peak(p):
        return max((Prediction(base + int(held), phase) for phase, held in phases(p)), key=lambda f: f.bytes)

    first = found = peak(plan)
    fitting, left_out = plan, []
    while found.bytes > limit and coarser:
        if found.phase == SEARCHING:
            left_out.append(SEARCHING)
            fitting = replace(fitting, search="none")
        else:
            finest = next((s for s in fitting.stages
                           if len(s.levels) > 1 and found.phase.startswith(f"{s.name}, level")), None)
            if finest is None:  # nothing to win there
                break
            left_out.append(f"{finest.name} {finest.levels[-1].factor:g}x")
            shorter = replace(finest, levels=finest.levels[:-1])
            fitting = replace(fitting, stages=tuple(shorter if s is finest else s for s in fitting.stages))
        found = peak(fitting)
    if found.bytes > limit:
        least = f"at least {_mb(found.bytes)}" if coarser else _mb(found.bytes)
        why = f" even without {', '.join(left_out)}" if left_out else ""
        raise OptionError(
            f"memory_limit={_mb(limit)} is too little: {plan.model} on {what} needs {least} at its peak "
            f"({found.phase}){why}, of which {_mb(base)} are there before it begins; raise the limit to that, "
            f"{'' if coarser else 'leave the levels to classreg, '}or {remedy}")
    if not left_out:
        return plan
    note = (f"memory_limit: {_mb(limit)}; left out: {', '.join(left_out)} ({_mb(first.bytes)} with them, "
            f"{_mb(found.bytes)} without)")
    return replace(fitting, notes=(*plan.notes, note))


def parse(limit) -> int | None:
    """Bytes of a limit: a number of bytes, or a text such as "2GB", "1.5 GiB", "800M".

    Raises
    ------
    OptionError
        For anything else.

    Examples
    --------
    >>> parse("1.5 GB"), parse("2GiB"), parse(1000)
    (1500000000, 2147483648, 1000)
    """
    if limit is None:
        return None
    number = limit
    if isinstance(limit, str) and (found := re.fullmatch(r"\s*(\d+\.?\d*)\s*(?:([kmgt])(i?)b?|b?)\s*", limit.lower())):
        power = UNITS[found[2] or ""]
        number = float(found[1]) * (2 ** (10 * "bkmgt".index(found[2])) if found[3] else power)
    if isinstance(number, bool) or not isinstance(number, Real) or not 1 <= number < 2**63:
        raise OptionError(f"memory_limit must be a number of bytes of at least 1, or a text such as '2GB', '1.5GiB' or "
                          f"'800MB'; got {limit!r}")
    return int(number)


def resident() -> int:
    """Bytes that this process holds once kernels are loaded; an estimate where the system does not tell."""
    kernels = 0 if filters.band.signatures else KERNELS  # every registration shrinks its images with this one
    try:
        with open("/proc/self/statm") as file:
            return kernels + int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return kernels + INTERPRETER


def _phases(plan: Plan, fixed: Image, moving: Image) -> Iterator[tuple[str, float]]:
    """Each phase of a registration and the bytes that it holds, in order."""
    images = VALUE * (fixed.array.size + moving.array.size)  # normalised
    yield "normalising", images + max(normalising(fixed), normalising(moving))
    coarse = float(np.max(fixed.grid.extent)) / 32
    yield "the start", images + max(shrinking(image, coarse) for image in (fixed, moving))
    if plan.init != "transform" and plan.search != "none" and not all(map(models.linear, plan.stages)):
        resolution = float(np.max(fixed.grid.extent)) / SAMPLES
        shrunk = max(shrinking(image, resolution) for image in (fixed, moving))
        yield SEARCHING, images + max(VALUE * search_holds(fixed.grid), shrunk)
    for stage in plan.stages:
        for number, level in enumerate(stage.levels, 1):
            yield f"{stage.name}, level {number} of {len(stage.levels)}", images + _level(stage, level, fixed, moving)
        if any(r["name"] == "volume" for r in stage.regularisers):
            yield f"{stage.name}, folds", images + VALUE * MENDED * fixed.grid.size
    if plan.stages:
        yield "the result", _result(plan.stages[-1], fixed)


def normalising(image: Image) -> float:
    """Float64 copies of the samples that scale a channel; with a mask, what it covers."""
    size = image.grid.size
    masked = 0 if image.weight is None else size * (1 + image.array.itemsize)
    return PER_SAMPLED * size / max(1, size // SAMPLED) + masked


def shrinking(image: Image, resolution: float) -> float:
    """Bytes at the peak of bringing an image to a resolution, axis by axis; 0 where none is finer."""
    sizes, size = [0.0], float(image.array.size)
    for f in factors(image.grid, resolution):
        if f > 1:
            size /= f
            sizes.append(size)
    return VALUE * max(a + b for a, b in zip(sizes, [*sizes[1:], 0.0]))


def _level(stage: Stage, level: Level, fixed: Image, moving: Image) -> float:
    """Bytes that an iteration holds at a level: coarse images, maps of samples, fields, parameters."""
    resolution = level.resolution(fixed.grid)
    grids = [image.grid.coarsen(factors(image.grid, resolution)) for image in (fixed, moving)]
    copies = sum(image.channels * grid.size + (0 if image.weight is None else grid.size)
                 for image, grid in zip((fixed, moving), grids) if grid.shape != image.grid.shape or level.sigma)
    # of a pair that meets halfway the fixed image is warped too, to a template of about the fixed one's size
    paired = stage.transform["name"] in PAIRED
    grid = grids[0]
    channels, copied = described(stage.metric, fixed.channels, grid.ndim)
    if copied:  # beside the images of the level
        copies = sum(channels * g.size + (0 if image.weight is None else g.size * (g.shape != image.grid.shape))
                     for image, g in zip((fixed, moving), grids))
    channels *= 1 + paired
    optimiser, transform = stage.optimiser["name"], stage.transform["name"]
    # warped image and adjoint per channel, and the weight; the moving mask is warped too
    masks = 0 if moving.weight is None and (fixed.weight is None or not paired) else 2
    maps = 2 * channels + 1 + 2 * paired + masks + HELD.get(optimiser, 0) * (1 + paired)
    size = grid.size
    if stage.sampling is not None:  # values of samples, and where a mask lets them lie
        size = models.build_sampling(stage).count(grid.size)
        copies += 0 if fixed.weight is None else 2 * grid.size
    used, kept, diagonal, curvature = _metric(stage.metric, fixed.channels * (1 + paired), grid.ndim)
    used += 2 * (paired and used > 0)
    if optimiser == "greedy":  # the force is smoothed into what the metric has used up
        used = max(used, grid.ndim)
        maps += 1 + diagonal
    if optimiser == "newton_cg":  # the tensor
        used = max(used, 1)
        maps += grid.ndim * (grid.ndim + 1) / 2 + diagonal
    maps += used + kept
    if optimiser == "gauss_newton":
        maps += curvature
    exact = transform == "polyaffine" or stage.transform.get("gradient") == "exact"
    fields, theta = FIELDS.get(transform, max(FIELDS.values())) + SQUARINGS * exact, 0.0
    fields *= grid.ndim * size
    if transform == "bspline":
        along, theta = passes(stage, grid, resolution)
        fields += along if stage.sampling is None else theta
        if any(r["name"] == "volume" for r in stage.regularisers):
            fields += BARRIER * 8 * theta / grid.ndim
    elif transform == "polyaffine":
        cells = Polyaffine(fixed.grid, np.eye(grid.ndim + 1), stage.transform.get("cells", 16)).wanted(grid)
        theta = grid.ndim * (grid.ndim + 1) * float(np.prod(np.add(cells, 2)))
    elif not models.linear(stage):
        theta = grid.ndim * grid.size
    energies = [r for r in stage.regularisers if r["name"] not in ("gaussian", "volume") and r.get("sigma") is None]
    fields += _priors(stage, grid)
    if transform != "linear" and any(reads_slopes(part) for part in (*energies, *stage.priors)):
        fields += PER_CORNER * 8 * theta / grid.ndim if transform == "bspline" else PER_SAMPLE * theta
    if any(r["name"] in ("curvature", "elastic") and not reads_slopes(r) for r in energies):
        fields += MIXED * theta
    if optimiser == "greedy":  # gradients turned into the tangent
        fields += theta * sum(r.get("acts_on", "displacement") == "displacement" for r in energies)
    grams = any(not reads_slopes(r) for r in energies)
    energies = len(energies)
    sets = PARAMETERS.get(optimiser, max(PARAMETERS.values()))
    sets += 2 * stage.optimiser.get("memory", 6) if optimiser == "lbfgs" else 0
    sets += channels**2 * DEFLATED.get(stage.metric["name"], 0) if optimiser == "newton_cg" else 0
    sets += ENERGY * energies + ENERGIES * grams
    return VALUE * (copies + maps * size + fields + sets * theta)


def described(spec: dict, channels: int, ndim: int) -> tuple[int, bool]:
    """Channels that are warped for a metric of an image's `channels`, and whether they are arrays of their own."""
    if spec["name"] == "composite":
        parts = [described(p["metric"], len(p.get("channels") or range(channels)), ndim)
                 for p in models.spelt_out(spec)["parts"]]
        plain = 0 if all(copied for _, copied in parts) else channels
        return plain + sum(count for count, copied in parts if copied), any(copied for _, copied in parts)
    if spec["name"] == "mind" and spec.get("mode") != "exact":
        return DESCRIPTORS[ndim], True
    return channels, spec["name"] == "ngf"


def _metric(spec: dict, channels: int, ndim: int) -> tuple[float, float, float, float]:
    """Values per sample of a metric: used up, kept, of greedy steps, of Gauss-Newton; see the tables above."""
    name = spec["name"]
    if name == "mind":
        pairs = DESCRIPTORS[ndim]
        return (EXACT[0] * pairs, EXACT[1] * pairs + EXACT[2], 0, 1) if spec.get("mode") == "exact" else (0, 0, 1, 1)
    if name != "composite":
        used, kept = METRIC.get(name, max(METRIC.values()))
        diagonal = channels * DIAGONAL.get(name, 1) + channels**2 * DIRECTIONS.get(name, 0)
        return (used, channels * kept, diagonal, channels**2 * CURVATURE.get(name, max(CURVATURE.values())))
    parts, widened = [], []
    for part in models.spelt_out(spec)["parts"]:
        own = part.get("channels") or range(channels)
        used, kept, diagonal, curvature = _metric(part["metric"], len(own), ndim)
        seen, copied = described(part["metric"], len(own), ndim)
        apart = not copied and list(own) != list(range(own[0], own[0] + len(own)))  # copies of fixed and warped ones
        if directions := DIRECTIONS.get(part["metric"]["name"]):
            widened.append(directions * len(own) * channels)
        parts.append((used, kept + seen * (1 + 2 * apart), diagonal, curvature * channels / len(own)))
    used, kept, diagonal, curvature = zip(*parts)
    together = sum(widened) * (1 + (len(widened) > 1))  # of all parts, and those in one array
    warped = described(spec, channels, ndim)[0]
    return max(used), sum(kept), sum(diagonal) + together + warped, sum(curvature) + warped


def reads_slopes(part: dict) -> bool:
    """Whether a regulariser or prior is computed from derivatives at points."""
    return part["name"] in SLOPES or part.get("where") is not None


def _priors(stage: Stage, grid: Grid) -> float:
    """Values that priors hold beside what reads slopes."""
    held = 0.0
    for prior in stage.priors:
        if prior["name"] == "labels":
            held += grid.size * (LABEL * len(prior.get("labels") or ()) + 1 + LABELS * grid.ndim)
        elif prior["name"] == "landmarks" and stage.transform["name"] in ("dense", "velocity"):
            held += 2 * grid.ndim * grid.size
        elif prior["name"] == "rigidity" and stage.transform["name"] != "linear":
            held += 2 * grid.ndim * grid.size
    return held


def _result(stage: Stage, fixed: Image) -> float:
    """Bytes of the mapping on the fixed grid beside the parameters that it is made from."""
    transform, resolution = stage.transform["name"], stage.levels[-1].resolution(fixed.grid)
    if models.linear(stage):
        return 0.0
    grid = fixed.grid.coarsen(factors(fixed.grid, resolution))
    theta = passes(stage, grid, resolution)[1] if transform == "bspline" else grid.ndim * grid.size
    if transform == "dense" and grid.shape == fixed.grid.shape:  # the parameters are the mapping
        return VALUE * theta
    return VALUE * (theta + fixed.grid.ndim * fixed.grid.size * RESULT.get(transform, max(RESULT.values())))


def passes(stage: Stage, grid: Grid, resolution: float) -> tuple[float, float]:
    """Values in the buffers of a spline's passes along x, y, z and back, and in its lattice, at a level."""
    spacing = BSpline(grid, stage.transform["spacing"], np.eye(grid.ndim + 1)).spacing3
    cells = spacing * 2 ** round(np.log2(max(1.0, resolution / np.min(stage.transform["spacing"]))))
    z, y, x = grid.shape3
    lz, ly, lx = (points_of(int(np.ceil((n - 1) * s / max(cell, s) - 1e-9)))
                  for n, s, cell in zip(grid.shape3, grid.spacing3, cells))
    along = 2 * (lz * ly * x + lz * y * x) + z * y * x + lz * ly * lx
    return grid.ndim * along, grid.ndim * lz * ly * lx


def _mb(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"



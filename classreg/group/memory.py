"""Peak memory of the registration of a group, predicted from its plan as `classreg.memory` does for a pair.

What grows with the number of images N stands in the tables below, in values per sample of a level and image; what the
parts need once is that of a pair. `tests/test_group_memory.py` compares prediction and measurement.

Must not import: the engine, io, numba, cupy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .. import memory
from ..grid import Grid
from ..image import Image
from ..memory import VALUE, Prediction
from ..metrics.group.clusters import step_of
from ..planning import Plan, Stage
from ..pyramid import factors
from ..schedule import Level
from . import models
from .space import common_grid

#: values per sample of a level: of each metric for all images, and once per channel of each image beside stack,
#: weights and adjoints; more where these depend on options, see `_metric`
METRIC = {"ape": (2, 0), "cte": (5, 1), "xcoreg": (0, 1), "gmm": (1, 0), "congealing": (1, 1), "variance": (0, 0),
          "pca": (1, 0), "pca2": (1, 0), "correlation": (1, 0), "total_correlation": (1, 0), "low_rank": (1, 2)}

#: what pairwise metrics use up within a call, beside adjoints
PAIRWISE = {"lncc": 7, "nmi": 0, "mi": 0, "ncc": 0, "ssd": 0, "sad": 0, "mind": 0}

#: values per sample that starts of classes are found on: of each intensity, with its weight in float64 and what
#: compares them with centres, the thinned images beside; and of each class, its distances
STARTING, DISTANCES = 9, 7.5

#: fields on a level's grid, per image (a spline's are kept until the way back), and once
FIELDS = {"log_linear": (0, 0), "bspline": (1, 1), "dense": (0, 1), "composed": (1, 3.5), "velocity": (2, 1)}

#: sets of parameters of all images alive at once
PARAMETERS = {"gauss_newton": 0, "lbfgs": 7, "descent": 5, "adam": 8, "greedy": 2}

#: values per sample, channel and image of curvatures, which some metrics make anew while the last ones are there
CURVATURE = {"gauss_newton": 1.75, "greedy": 1}

#: bytes per point at which images are looked for that all see it, at most so many points
SEEN, POINTS = 140, 200_000

#: bytes per sample of an image that finds what lies nearest to its mask
FILLING = 30


def predict(plan: Plan, images: Sequence[Image], grid: Grid | None = None, base: int | None = None) -> Prediction:
    """Peak memory of this process when it runs a plan for the images of a group.

    Parameters
    ----------
    plan : Plan
        As `classreg.plan_group` gives it.
    images : sequence of Image
        In memory already.
    grid : Grid, optional
        Of the common space; by default as it is chosen for images that lie as their headers say.
    base : int, optional
        Bytes to begin from; by default what is resident now and the kernels, if they are not loaded.

    Examples
    --------
    >>> images = [Image(np.zeros((64, 64, 64), np.float32), Grid.from_spacing((64, 64, 64)))] * 20
    >>> plan = models.group_plan("rigid", {"name": "pca"}, images[0].grid, "identity", "mean")
    >>> predict(plan, images, base=0)
    Prediction(bytes=131072000, phase='rigid, level 2 of 2')
    """
    if grid is None:
        grid = common_grid([image.grid for image in images], [np.eye(images[0].grid.ndim + 1)] * len(images))
    base = memory.resident() if base is None else base
    return max((Prediction(base + int(held), phase) for phase, held in phases(plan, images, grid)),
               key=lambda p: p.bytes)


def fit(plan: Plan, images: Sequence[Image], grid: Grid, limit: int, base: int, coarser: bool = True) -> Plan:
    """The plan, or one without the finest levels, whose peak is below a limit; see `classreg.memory.within`."""
    return memory.within(plan, lambda p: phases(p, images, grid), limit, base, coarser,
                         f"{len(images)} images", "resample the images to larger voxels, crop them, or take fewer")


def phases(plan: Plan, images: Sequence[Image], grid: Grid) -> Iterator[tuple[str, float]]:
    """Each phase of a registration and the bytes that it holds, in order."""
    floats = VALUE * sum(image.array.size + (image.weight is not None) * image.grid.size for image in images)
    yield "normalising", floats + max(max(memory.normalising(i), FILLING * (i.weight is not None) * i.grid.size)
                                      for i in images)
    if any(getattr(models.build_method(stage.metric), "joint", False) for stage in plan.stages):
        yield "the overlap of all images", floats + SEEN * min(POINTS, *map(_counted, images))
    if plan.init in ("auto", "pairwise"):
        coarse = max(float(np.max(image.grid.extent)) for image in images) / 32
        yield "the start", floats + max(memory.shrinking(image, coarse) for image in images)
    for stage in plan.stages:
        for number, level in enumerate(stage.levels, 1):
            held, start = _level(stage, level, images, grid)
            yield f"{stage.name}, level {number} of {len(stage.levels)}", floats + max(held, start)
        if any(r["name"] == "volume" for r in stage.regularisers):
            theta = len(images) * memory.passes(stage, grid, stage.levels[-1].resolution(grid))[1]
            yield f"{stage.name}, folds", floats + VALUE * (memory.MENDED * grid.size + 2 * theta)
    if plan.stages:
        yield "the result", _result(plan.stages[-1], len(images), grid, floats)


def _counted(image: Image) -> int:
    return image.grid.size if image.weight is None else int(np.count_nonzero(image.weight))


def _level(stage: Stage, level: Level, images: Sequence[Image], common: Grid) -> tuple[float, float]:
    """Bytes that an iteration holds at a level, and that starting the classes does before the first."""
    resolution, count = level.resolution(common), len(images)
    grid = common.coarsen(factors(common, resolution))
    size, d = grid.size, grid.ndim
    inner = stage.metric.get("metric", "mi")
    inner = inner if stage.metric["name"] == "ape" else "mi"  # of the others none describes images
    channels, own = memory.described({"name": inner} if isinstance(inner, str) else inner, images[0].channels, d)
    copies, cubic = 0, stage.order == 3
    for image in images:
        small = image.grid.coarsen(factors(image.grid, resolution))
        made = small.shape != image.grid.shape or level.sigma is not None
        copies += small.size * (image.channels * made + channels * (own + cubic) + (image.weight is not None) * made)
    masks = 3 * any(image.weight is not None for image in images)
    optimiser, transform = stage.optimiser["name"], stage.transform["name"]
    used, each, classes = _metric(stage.metric, channels, count)
    stack = copies + (count * (channels + 1) + masks) * size
    each += channels + memory.HELD.get(optimiser, 0)  # adjoints, and the weights of a line search
    each += channels * CURVATURE.get(optimiser, 0)
    fields, once = FIELDS["composed" if stage.transform.get("compositive") else transform]
    fields, theta = d * size * (fields * count + once), 0.0
    if transform == "bspline":
        along, theta = memory.passes(stage, grid, resolution)
        fields += along
        if any(r["name"] == "volume" for r in stage.regularisers):
            fields += memory.BARRIER * 8 * theta / d
    elif not models.linear(stage):
        theta = float(d * size)
        if optimiser == "greedy":  # forces and diagonals of all
            fields += size * (d + 1) * (count + 1)
    elif cubic:
        fields += d * size
    energies = [r for r in stage.regularisers if r["name"] not in ("gaussian", "volume") and r.get("sigma") is None]
    slopes = [r for r in energies if memory.reads_slopes(r)]
    if theta and slopes:
        fields += memory.PER_CORNER * 8 * theta / d if transform == "bspline" else memory.PER_SAMPLE * theta
    sets = PARAMETERS[optimiser] + (2 * stage.optimiser.get("memory", 6) if optimiser == "lbfgs" else 0)
    sets += 2 * len(energies)
    fields += memory.ENERGIES * theta * (len(slopes) < len(energies))
    held = stack + (used + each * count) * size + fields + sets * count * theta
    thinned = np.prod([-(-n // step_of(grid.shape)) for n in grid.shape]) * (classes > 0)
    thinned *= count * channels * STARTING + classes * DISTANCES
    return VALUE * held, VALUE * (stack + (used + count) * size + thinned)


def _metric(spec: dict, channels: int, count: int) -> tuple[float, float, int]:
    """Values per sample of a method, for all images and for each; and the classes that have to be started."""
    used, each = METRIC[spec["name"]]
    method = models.build_method(spec)
    if spec["name"] == "xcoreg":
        used += method.classes * (1 + (method.atlas is not None) + (method.smoothing > 0))
    elif spec["name"] in ("pca", "low_rank"):
        used += min(method.components, count - 1)
    if spec["name"] == "low_rank":
        used += memory.METRIC.get(_inner(spec, "ssd"), (0, 0))[0] + channels
    elif spec["name"] == "ape":
        used += PAIRWISE.get(_inner(spec, "mi"), max(PAIRWISE.values())) + 2 * (channels - 1)
    return used, each, getattr(method, "classes", 0)


def _inner(spec: dict, default: str) -> str:
    """The name of the metric within a method."""
    metric = spec.get("metric", default)
    return metric["name"] if isinstance(metric, dict) else metric


def _result(stage: Stage, count: int, common: Grid, floats: float) -> float:
    """Bytes of all mappings beside their parameters; or of classes that are estimated anew at full resolution."""
    transform, resolution, size = stage.transform["name"], stage.levels[-1].resolution(common), common.size
    grid = common.coarsen(factors(common, resolution))
    theta = memory.passes(stage, grid, resolution)[1] if transform == "bspline" else common.ndim * grid.size
    anew = 0.0
    if stage.metric["name"] == "xcoreg":
        method = models.build_method(stage.metric)
        anew = method.classes * size
        if grid.shape != common.shape:
            anew = size * (3 * count + 3 * method.classes + 4)
    if models.linear(stage):
        return floats + VALUE * anew
    fields = count * theta + common.ndim * size * (count + memory.RESULT.get(transform, 2.5) - 1)
    return VALUE * max(fields + (anew and method.classes * size), 2 * count * theta + floats / VALUE + anew)

"""What comes in through the front door, turned into objects or refused with a sentence: options, images, starts, plans.

Everything that can be known to be wrong is known here, before the first iteration. What images themselves can have
wrong stands in `preflight`.

Must not import: matplotlib, numba, cupy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from . import models, preflight
from .engine import check_needs
from .errors import InputError, OptionError, unknown
from .fitted import FittedTransform
from .grid import Grid
from .image import Image, real_numbers
from .initialise import INITS, SEARCHES
from .io import load, load_points
from .metrics import METRICS
from .planning import Plan, Stage
from .priors import PRIORS
from .regularisers import REGULARISERS, is_energy
from .result import Result
from .schedule import Level, default_factors
from .transforms import PAIRED
from .transforms.linear import ROTATIONS

#: voxels by which the corners of a mask may lie off those of its image
SAME_GRID = 0.05


def check_options(threads=None, time_limit=None, callback=None, rotation: str = "quaternion") -> None:
    """Raise OptionError for values outside their range."""
    if threads is not None and not (models.whole(threads) and 1 <= threads <= 1024):
        raise OptionError(f"threads must be a whole number from 1 to 1024, or None for all cores; got {threads!r}")
    if time_limit is not None and not (models.real(time_limit) and time_limit > 0):
        raise OptionError(f"time_limit must be a positive number of seconds, got {time_limit!r}")
    if callback is not None and not callable(callback):
        raise OptionError(f"callback must be a function that takes a Record, got {callback!r}")
    if rotation not in ROTATIONS:
        raise unknown("rotation", rotation, ROTATIONS)


def check_seed(seed) -> None:
    """Raise OptionError for what is no seed."""
    if not models.whole(seed):
        raise OptionError(f"seed must be a whole number of at least 0, got {seed!r}")


def load_image(source, spacing, channels, name: str) -> Image:
    """An image from whatever was given as one; spacing goes to arrays and pictures only."""
    takes = isinstance(source, (np.ndarray, str, os.PathLike))
    return load(source, spacing=spacing if takes else None, channels=channels, name=name)


def load_pair(fixed, moving, fixed_mask, moving_mask, spacing, channels) -> tuple[Image, Image]:
    """Both images with their masks, checked one by one."""
    out = []
    for name, source, mask in (("fixed", fixed, fixed_mask), ("moving", moving, moving_mask)):
        image = load_image(source, spacing, channels, name)
        if mask is not None:
            image = replace(image, weight=weight_of(mask, image, name))
        preflight.check_image(image, name)
        out.append(image)
    return out[0], out[1]


def weight_of(mask, image: Image, name: str) -> np.ndarray:
    """The mask of an image, which lies on its grid."""
    if isinstance(mask, (np.ndarray, list, tuple)):
        return real_numbers(mask, f"{name} mask")
    mask = load(mask, name=f"{name} mask")
    if mask.channels > 1:
        raise InputError(f"the {name} mask has {mask.channels} channels; a mask has one: give the one that is meant")
    if not mask.grid.same_as(image.grid, SAME_GRID):
        raise InputError(f"the {name} mask lies on another grid than its image: {mask.grid} against {image.grid}; "
                         "resample it with classreg.apply(..., interpolation='nearest')")
    return mask.data[0].reshape(image.grid.shape)


def metric_of(metric, channels: int | None = None) -> dict[str, Any]:
    """A metric's name and options, checked, for images of so many channels."""
    spec = {"name": metric} if isinstance(metric, str) else metric
    allowed = (*METRICS, "auto")
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise OptionError(f"metric must be a name ({', '.join(allowed)}), or a dictionary with one and options, such "
                          f"as {{'name': 'lncc', 'radius': 3}}; got {metric!r}")
    if spec["name"] not in allowed:
        raise unknown("metric", spec["name"], allowed)
    if spec["name"] != "auto":
        _check_channels(models.build(spec, METRICS, "metric"), channels)
    elif options := [key for key in spec if key != "name"]:
        raise OptionError(f"metric 'auto' has no options, got {', '.join(map(repr, options))}; name the metric that "
                          f"they belong to: {', '.join(METRICS)}")
    return models.spelt_out(spec)


def _check_channels(metric, channels: int | None) -> None:
    if channels is not None and hasattr(metric, "check_channels"):
        metric.check_channels(channels)


def priors_of(priors, grid: Grid) -> list[dict[str, Any]]:
    """Priors as plain data, the landmarks read and the labels named; arrays lie on the fixed grid.

    Raises
    ------
    OptionError, InputError, FileError
        If one is no dictionary with a name, unknown, or its points cannot be read.
    """
    if not isinstance(priors, (list, tuple)):
        raise OptionError(f"priors must be a list of dictionaries, such as [{{'name': 'landmarks', 'fixed': points, "
                          f"'moving': points}}]; got {priors!r}")
    out = []
    for spec in priors:
        spec = {"name": spec} if isinstance(spec, str) else spec
        if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
            raise OptionError(f"a prior is a dictionary with a name ({', '.join(PRIORS)}) and options, got {spec!r}")
        spec = dict(spec)
        if spec["name"] == "landmarks":
            for end in ("fixed", "moving"):
                if end in spec:
                    spec[end] = load_points(spec[end], f"{end} landmarks")
        part = models.build(spec, PRIORS, "prior", grid)
        if spec["name"] == "labels":
            spec["labels"] = part.labels
        out.append(spec)
    return out


def part_of(given, table: dict, kind: str) -> dict[str, Any] | None:
    """Name and options of an optimiser or a sampling, checked; None for the default."""
    if given is None:
        return None
    spec = {"name": given} if isinstance(given, str) else given
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise OptionError(f"{kind} must be a name ({', '.join(table)}), a dictionary with one and options, or None for "
                          f"the default; got {given!r}")
    models.build(spec, table, kind)
    return dict(spec)


def regularisers_of(given, grid: Grid) -> list[dict[str, Any]] | None:
    """Names and options of regularisers, checked; None for those of the model."""
    if given is None:
        return None
    out, several = [], isinstance(given, (list, tuple)) and len(given) > 0
    for spec in [given] if isinstance(given, (str, dict)) else given if several else [None]:
        spec = {"name": spec} if isinstance(spec, str) else spec
        if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
            raise OptionError(f"regularisers are names ({', '.join(REGULARISERS)}), dictionaries with one and options, "
                              f"or a list of them, such as [{{'name': 'elastic', 'weight': 0.2}}], or None for the "
                              f"model's own; got {given!r}")
        models.build(spec, REGULARISERS, "regulariser", grid)
        out.append(dict(spec))
    return out


def begin_of(init, fixed: Image, moving: Image) -> FittedTransform | None:
    """The transform that `init` gives; None where it is the name of a way to find one."""
    if isinstance(init, str):
        if init in INITS:
            return None
        if not _like_path(init):
            raise unknown("init", init, INITS)
    return transform_of(init, fixed.grid, moving.grid, "init")


def _like_path(name: str) -> bool:
    """Whether a string means a file: it is there, lies in a folder, or has the suffix of a transform."""
    from .io.transforms import suffixes

    return os.path.exists(name) or os.path.basename(name) != name or name.lower().endswith((*suffixes(), ".xfm"))


def _paths(given) -> bool:
    """Whether a path is given, or a list of them."""
    return isinstance(given, (str, os.PathLike)) or (isinstance(given, (list, tuple)) and len(given) > 0
                                                     and all(isinstance(one, (str, os.PathLike)) for one in given))


def transform_of(given, grid: Grid, to_grid: Grid, name: str, format: str = "auto") -> FittedTransform:
    """A transform between two grids from a transform, Result, path, list of paths or world matrix."""
    d = grid.ndim
    if isinstance(given, Result):
        given = given.transform
    if isinstance(given, FittedTransform):
        found = given
    elif _paths(given):
        from .io.transforms import read_transform

        found = read_transform(given, grid, to_grid, format=format)
    elif isinstance(given, (np.ndarray, Sequence)):
        matrix = real_numbers(given, name)
        if matrix.shape != (d + 1, d + 1):
            raise InputError(f"{name}: the world matrix of {d}-D images has the shape {(d + 1, d + 1)}, "
                             f"not {matrix.shape}")
        found = FittedTransform.from_matrix(matrix, grid, to_grid)
    else:
        names = f"a name ({', '.join(INITS)}), " if name == "init" else ""
        raise OptionError(f"{name} must be {names}a FittedTransform, a Result, a path or a world matrix "
                          f"{(d + 1, d + 1)}; got {given!r}")
    if found.ndim != d:
        raise InputError(f"{name}: the transform is {found.ndim}-D, the images are {d}-D")
    return found


def check_plan(plan: Plan, grid: Grid, begin: FittedTransform | None = None, channels: int | None = None) -> None:
    """Refuse a plan that could not be run to its end.

    Parameters
    ----------
    plan : Plan
    grid : Grid
        The fixed grid.
    begin : FittedTransform, optional
        Where the first stage begins, if that is given.
    channels : int, optional
        Of the images.

    Raises
    ------
    OptionError
        If a stage names a part or an option that is not there, has a value outside its range, levels that are no
        levels or are too coarse, or parts that do not serve each other.

    Examples
    --------
    >>> grid = Grid.from_spacing((64, 64))
    >>> stage = models.linear_stage("affine", grid, {"name": "mi"}, None)
    >>> check_plan(Plan("affine", "auto", (stage,)), grid)
    """
    if not isinstance(plan, Plan):
        raise OptionError(f"plan must be a Plan, got {plan!r}; Plan.from_dict makes one from a dictionary, "
                          "classreg.plan from images")
    if not isinstance(plan.stages, (tuple, list)) or not plan.stages:
        raise OptionError(f"a plan needs at least one stage, got {plan.stages!r}; begin from classreg.plan(...)")
    if plan.search not in SEARCHES:
        raise unknown("search", plan.search, SEARCHES)
    check_seed(plan.seed)
    if not isinstance(plan.matching, bool):
        raise OptionError(f"matching of a plan must be True or False, got {plan.matching!r}")
    linear = begin is None or begin.linear
    for stage in plan.stages:
        if not isinstance(stage, Stage):
            raise OptionError(f"a plan's stages are Stage objects, got {stage!r}; Plan.from_dict makes them")
        check_stage(stage, grid, channels)
        if not linear and models.linear(stage):
            raise OptionError(f"stage {stage.name!r} cannot begin from a transform that is not linear; the deformable "
                              f"models can: {', '.join(models.DEFORMABLE)}")
        linear = linear and models.linear(stage)


def check_specs(stage: Stage, grid: Grid, where: str) -> None:
    """Refuse a stage whose parts, levels or numbers are none."""
    parts = [stage.transform, stage.metric, stage.optimiser, *_listed(stage.regularisers, where, "regularisers"),
             *([] if stage.sampling is None else [stage.sampling])]
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("name"), str):
            raise OptionError(f"{where}: each part is a dictionary with a name and options, got {part!r}")
    _check_levels(_listed(stage.levels, where, "levels"), grid, where)
    if stage.order not in (1, 3):
        raise OptionError(f"{where}: the order of interpolation is 1 (linear) or 3 (cubic), got {stage.order!r}")
    if not models.real(stage.tolerance) or stage.tolerance < 0:
        raise OptionError(f"{where}: tolerance must be a number of at least 0, got {stage.tolerance!r}")
    if stage.transform["name"] == "bspline":
        spacing = stage.transform.get("spacing")
        each = list(spacing) if isinstance(spacing, (list, tuple)) else [spacing] * grid.ndim
        if len(each) != grid.ndim or not all(models.real(s) and s > 0 for s in each):
            raise OptionError(f"{where}: the spacing of a spline's control points is a number of mm above 0, or one "
                              f"per axis of the image; got {spacing!r}")
    for part in (*stage.regularisers, *_listed(stage.priors, where, "priors")):
        if not isinstance(part, dict) or not isinstance(part.get("name"), str):
            raise OptionError(f"{where}: each part is a dictionary with a name and options, got {part!r}")
        weight = part.get("weight", 1)
        if not models.real(weight) or weight < 0:
            raise OptionError(f"{where}: the weight of {part['name']} must be a number of at least 0, got {weight!r}")


def check_stage(stage: Stage, grid: Grid, channels: int | None = None) -> None:
    """Refuse a stage of which anything is not in order."""
    where = f"stage {stage.name!r}"
    check_specs(stage, grid, where)
    transform, metric, regularisers, priors, optimiser = models.build_stage(stage, grid, np.eye(grid.ndim + 1))
    if stage.transform["name"] in PAIRED:
        _check_paired(stage, optimiser, where)
    check_needs(optimiser, transform, metric, regularisers, priors, models.build_sampling(stage))
    _check_channels(getattr(metric, "metric", metric), channels)
    check_dimension((*regularisers, *priors), grid, where)


def check_dimension(parts, grid: Grid, where: str) -> None:
    """Refuse regularisers and priors whose maps or points are of another dimension than the images."""
    for part in parts:
        ndim = getattr(part, "ndim", None)
        if ndim not in (None, grid.ndim):
            what = "the map `where` of " if is_energy(part) and hasattr(part, "where") else ""
            raise OptionError(f"{where}: {what}{type(part).__name__.lower()} is given in {ndim}-D, the images are "
                              f"{grid.ndim}-D")


def _check_paired(stage: Stage, optimiser, where: str) -> None:
    """What a stage that moves both images cannot take."""
    if stage.priors:
        raise OptionError(f"{where}: priors are about one map, and a symmetric model looks for two halves of it: leave "
                          "them out, or use svf")
    if stage.sampling is not None or getattr(optimiser, "stochastic", False):
        raise OptionError(f"{where}: a symmetric model is evaluated at all samples of its template, none are drawn: "
                          "leave sampling out, and take another optimiser than asgd")
    if "curvature" in optimiser.needs:
        raise OptionError(f"{where}: {type(optimiser).__name__} moves one image; a symmetric model takes lbfgs for its "
                          "linear stages and greedy for its own")


def _check_levels(levels, grid: Grid, where: str) -> None:
    for level in levels:
        if not isinstance(level, Level) or not models.whole(level.iterations):
            raise OptionError(f"{where}: a level is Level(factor, iterations) with a whole number of at least 0 "
                              f"iterations, got {level!r}")
        widths = level.sigma if isinstance(level.sigma, tuple) else (level.sigma or 0,) * grid.ndim
        if len(widths) != grid.ndim or not all(models.real(s) and s >= 0 for s in widths):
            raise OptionError(f"{where}: the sigma of a level is a number of samples of at least 0, or one per axis of "
                              f"the image; got {level.sigma!r}")
    factors = [level.factor for level in levels]
    preflight.check_levels(grid, factors, least=1)
    if max(factors) > max(default_factors(grid, most=4)):  # the defaults may thin out a short axis
        preflight.check_levels(grid, factors)


def _listed(value, where: str, what: str):
    if not isinstance(value, (tuple, list)):
        raise OptionError(f"{where}: {what} are a tuple, got {value!r}")
    return value

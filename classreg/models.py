"""Model names -> default plans. Data, not code: what a model means stands here and nowhere else.

All lengths that are not in mm are in units of a level's resolution, so one set of defaults serves every image.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real

import numpy as np

from .draws import SAMPLINGS
from .errors import OptionError, unknown
from .grid import Grid
from .image import Image
from .metrics import METRICS, composite
from .metrics.group import AllPairs
from .optimisers import OPTIMISERS
from .planning import IN_MEMORY, Plan, Stage
from .priors import PRIORS
from .regularisers import REGULARISERS, smooths
from .schedule import Level, default_factors
from .transforms import PAIRED, TRANSFORMS

LINEAR = ("translation", "rigid", "similarity", "affine")

#: transform, optimiser, regularisers, options of metrics, iterations per level (the last belong to the finest levels),
#: and the factor of the finest level where that is not 1.
#: `spacing` and `weight` are in units of the fixed image's finest spacing (and its square); a plan holds them in mm.
DEFORMABLE = {
    "polyaffine": dict(
        transform={"name": "polyaffine"},
        optimiser={"name": "lbfgs"},
        regularisers=({"name": "neighbours", "weight": 1.0},),
        metrics={"lncc": {"radius": 2.0}},
        iterations=(30, 30, 30, 30),
        finest=2.0),
    "bspline": dict(
        transform={"name": "bspline", "spacing": 4.0},
        optimiser={"name": "lbfgs"},
        regularisers=({"name": "bending", "weight": 0.8}, {"name": "diffusion", "weight": 0.3}, {"name": "volume"}),
        metrics={"lncc": {"radius": 2.0}},
        iterations=(30, 30, 30, 30)),
    "dense": dict(
        transform={"name": "dense"},
        optimiser={"name": "adam"},
        regularisers=({"name": "diffusion", "weight": 0.5},),
        iterations=(100, 80, 60, 40)),
    "greedy": dict(
        transform={"name": "dense", "compositive": True},
        optimiser={"name": "greedy"},
        regularisers=({"name": "gaussian", "sigma": 1.2, "acts_on": "update"},
                      {"name": "gaussian", "sigma": 0.57, "acts_on": "displacement"}),
        metrics={"lncc": {"flat": 0.08}},
        iterations=(30, 30, 30, 10)),
    "svf": dict(
        transform={"name": "velocity"},
        optimiser={"name": "greedy", "damping": 0.05},
        regularisers=({"name": "gaussian", "sigma": 2.0, "acts_on": "update"},
                      {"name": "gaussian", "sigma": 0.8, "acts_on": "velocity"}),
        metrics={"lncc": {"flat": 0.08}},
        iterations=(30, 30, 30, 10)),
    "symmetric": dict(
        transform={"name": "halves"},
        optimiser={"name": "greedy", "damping": 0.05},
        regularisers=({"name": "gaussian", "sigma": 2.0, "acts_on": "update"},
                      {"name": "gaussian", "sigma": 0.8, "acts_on": "velocity"}),
        metrics={"lncc": {"flat": 0.08}},
        iterations=(30, 30, 30, 10)),
}

#: weights of energies that are asked for without one; those of `SECOND` derivatives in units of the finest spacing
#: squared
WEIGHTS = {"diffusion": 0.5, "bending": 1.0, "curvature": 1.0, "elastic": 0.1, "tv": 0.1, "jacobian": 0.1}
SECOND = ("bending", "curvature")

MODELS = (*LINEAR, *DEFORMABLE)

#: models in which both images move; they need a `symmetric` metric
SYMMETRIC = ("symmetric",)

#: what each metric is minimised with for linear models
LINEAR_OPTIMISER = {"ssd": "gauss_newton", "sad": "gauss_newton", "ncc": "gauss_newton", "lncc": "lbfgs", "mi": "lbfgs",
                    "nmi": "lbfgs", "cr": "lbfgs", "ngf": "lbfgs", "mind": "lbfgs", "composite": "lbfgs"}

#: what the rigid stage uses before a metric that finds its way from near only; others are used from the first stage on
FIRST = {"lncc": "ncc", "ngf": "mi", "mind": "mi"}

#: iterations per level of optimisers whose steps cost much less or more than others', and how their samples are drawn
ITERATIONS = {"asgd": (300,), "newton_cg": (10,)}
SAMPLING = {"asgd": {"name": "random", "samples": 4096}}

#: samples at which linear stages stop refining: a dozen parameters are known to hundredths of a voxel long before
ENOUGH = 1 << 22

#: samples per axis that do for a stage which only prepares the next
START = {"rigid": 40, "affine": 64}


def check_model(model: str) -> str:
    """The model's name, or OptionError with the nearest one."""
    if not isinstance(model, str) or model not in MODELS:
        raise unknown("model", model, MODELS)
    return model


def linear_stage(kind: str, grid: Grid, metric: dict, factors: Sequence[float] | None, iterations=None,
                 rotation: str = "quaternion", samples: int = ENOUGH, optimiser: dict | None = None,
                 sampling: dict | None = None, paired: bool = False) -> Stage:
    """The stage of a linear model; `paired` for one that moves both images."""
    factors = factors or default_factors(grid, most=4, samples=samples)
    optimiser = optimiser or {"name": "lbfgs" if paired else LINEAR_OPTIMISER.get(metric["name"], "lbfgs")}
    default = ITERATIONS.get(optimiser["name"], (50, 40, 30, 20))
    levels = tuple(Level(f, n) for f, n in zip(factors, _iterations(default, len(factors), iterations)))
    if paired:
        return Stage(kind, {"name": "linear_halves", "kind": kind}, metric, optimiser, levels)
    return Stage(kind, {"name": "linear", "kind": kind, "rotation": rotation}, metric, optimiser, levels,
                 sampling=sampling)


def deformable_stage(model: str, grid: Grid, metric: dict, factors: Sequence[float] | None, iterations=None,
                     optimiser: dict | None = None, sampling: dict | None = None, defaults=DEFORMABLE) -> Stage:
    """The stage of a deformable model."""
    d = defaults[model]
    factors = factors or _coarse(default_factors(grid, most=4), d.get("finest", 1.0))
    optimiser = dict(optimiser or d["optimiser"])
    default = ITERATIONS.get(optimiser["name"], d["iterations"])
    levels = tuple(Level(f, n) for f, n in zip(factors, _iterations(default, len(factors), iterations)))
    h = grid.resolution
    transform = {k: v * h if k == "spacing" else v for k, v in d["transform"].items()}
    regularisers = tuple({k: v * h**2 if (r["name"], k) == ("bending", "weight") else v for k, v in r.items()}
                         for r in d["regularisers"])
    metric = _with_options(spelt_out(metric), d.get("metrics", {}))
    return Stage(model, transform, metric, optimiser, levels, regularisers, sampling=sampling)


def last_stage(model: str, grid: Grid, metric: dict, factors: Sequence[float] | None, iterations=None,
               rotation: str = "quaternion", optimiser: dict | None = None, sampling: dict | None = None) -> Stage:
    """The stage of a model itself, after those that prepare it."""
    if model in LINEAR:
        return linear_stage(model, grid, metric, factors, iterations, rotation, optimiser=optimiser, sampling=sampling)
    return deformable_stage(model, grid, metric, factors, iterations, optimiser, sampling)


def with_regularisers(stage: Stage, given: Sequence[dict] | None, grid: Grid) -> Stage:
    """The stage with other regularisers in the place of those of its own that do the same.

    An energy replaces all energies but the barrier against folds, a filter that of the same field; of a model that is
    to run with an optimiser that never smooths, the filters go as well. None changes nothing.
    """
    def job(spec):
        part = build(spec, REGULARISERS, "regulariser", grid)
        return part.acts_on if smooths(part) else "barrier" if hasattr(part, "sunk") else "energy"

    if given is None:
        return stage
    jobs = {job(spec) for spec in given}
    if "smooth" not in OPTIMISERS[stage.optimiser["name"]].needs:
        jobs |= {"update", "displacement", "velocity"}
    weights = {name: w * (grid.resolution**2 if name in SECOND else 1) for name, w in WEIGHTS.items()}
    found = [r for r in stage.regularisers if job(r) not in jobs]
    for spec in given:
        name, plain = spec["name"], "weight" in spec or job(spec) != "energy"
        weight = {} if plain or name not in weights else {"weight": weights[name]}
        found.append({**spec, **weight})
    return replace(stage, regularisers=tuple(found))


def sampling_for(model: str, metric: dict, optimiser: dict | None, sampling: dict | None) -> dict | None:
    """How samples are drawn: as asked for, or as the optimiser likes it where model and metric (or auto) allow it."""
    if sampling is not None or optimiser is None:
        return sampling
    transform = {**TRANSFORMS, **PAIRED}["linear" if model in LINEAR else DEFORMABLE[model]["transform"]["name"]]
    every = metric["name"] != "auto" and getattr(build(metric, METRICS, "metric"), "dense", False)
    return None if every or not getattr(transform, "scatters", False) else SAMPLING.get(optimiser["name"])


def _with_options(metric: dict, defaults: dict) -> dict:
    """A metric with a model's options where it has none of its own; of a composite, each part; of pairs, theirs."""
    if isinstance(metric.get("metric"), (str, dict)):
        return {**metric, "metric": _with_options(spelt_out(metric["metric"]), defaults)}
    if "parts" in metric:
        parts = [{**part, "metric": _with_options(part["metric"], defaults)} for part in metric["parts"]]
        return {**metric, "parts": parts}
    return {**defaults.get(metric["name"], {}), **metric}


def spelt_out(metric: str | dict) -> dict:
    """A metric's spec as plain data; of a composite that can be built, with all that its parts leave unsaid.

    Examples
    --------
    >>> spelt_out({"name": "composite", "parts": [{"metric": "mi", "channels": (0,)}]})
    {'name': 'composite', 'parts': [{'metric': {'name': 'mi'}, 'channels': [0], 'weight': 1.0}]}
    """
    spec = {"name": metric} if isinstance(metric, str) else dict(metric)
    if spec["name"] == "composite":
        parts = spec.get("parts") or [{"metric": name} for name in composite.DEFAULT]
        spec["parts"] = [{"metric": spelt_out(part["metric"]),
                          **({} if part.get("channels") is None else {"channels": [int(c) for c in part["channels"]]}),
                          "weight": float(part.get("weight", 1.0))} for part in parts]
    return spec


def with_priors(stages: Sequence[Stage], priors: Sequence[dict]) -> list[Stage]:
    """The stages with the priors that each can take: those about the tangent of linear models go to linear stages.

    Raises
    ------
    OptionError
        If no stage takes one of them.
    """
    out = []
    for stage in stages:
        linear = stage.transform["name"] == "linear" or stage.transform["name"] in PAIRED  # which the door refuses
        out.append(replace(stage, priors=tuple(p for p in priors if linear or not _of_linear(p))))
    if not any(s.transform["name"] == "linear" or s.transform["name"] in PAIRED for s in stages):
        for p in filter(_of_linear, priors):
            raise OptionError(f"prior {p['name']!r} is about linear models, and none of the stages has one: "
                              f"{', '.join(s.name for s in stages)}; leave it out, or start with init='auto'")
    return out


def _of_linear(prior: dict) -> bool:
    return "tangent" in getattr(PRIORS[prior["name"]], "needs", ())


def _coarse(factors, finest):
    """The factors of at least `finest`; where there is none, the coarsest."""
    return [f for f in factors if f >= finest] or factors[:1]


def _iterations(default, count, given):
    """Iterations per level: the finest levels keep the last of the defaults."""
    if given is not None:
        each = [given] * count if isinstance(given, Integral) else given
        each = list(each) if isinstance(each, Sequence) or (isinstance(each, np.ndarray) and each.ndim == 1) else []
        if len(each) != count or not all(map(whole, each)):
            raise OptionError("iterations must be one whole number of at least 0, or one per level "
                              f"({count}); got {given!r}")
        return [int(n) for n in each]
    padded = [default[0]] * max(0, count - len(default)) + list(default)
    return padded[-count:]


def whole(value) -> bool:
    """Whether a value is a whole number of at least 0 (True and False are none)."""
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 0


def real(value) -> bool:
    """Whether a value is a finite real number (True and False are none)."""
    return isinstance(value, Real) and not isinstance(value, bool) and bool(abs(value) <= sys.float_info.max)


#: what an option may be, by its annotation
FITS = {"float": real, "int": whole, "bool": lambda v: isinstance(v, bool), "str": lambda v: isinstance(v, str),
        "float | None": lambda v: v is None or real(v), "Image": lambda v: isinstance(v, Image),
        "Image | None": lambda v: v is None or isinstance(v, Image)}


def located(value, key: str, grid: Grid | None):
    """An image as it is, from a path, or from an array on the fixed grid.

    Raises
    ------
    OptionError
        If it is an array of another shape, or the note that a plan keeps of an image in memory.
    """
    if isinstance(value, str) and value.startswith(IN_MEMORY):
        raise OptionError(f"{key}: the plan names an image that was in memory ({value}); give it again, or a path")
    if isinstance(value, (str, os.PathLike)):
        from .io import load

        return load(value, name=key)
    if isinstance(value, np.ndarray) and grid is not None:
        if value.shape != grid.shape:
            raise OptionError(f"{key}: an array is taken to lie on the fixed grid, of shape {grid.shape}; this one is "
                              f"{value.shape}: give an Image")
        return Image(value, grid)
    return value


def build(spec: dict, table: dict, kind: str, on: Grid | None = None, **extra):
    """An object from its name and options; unknown names and options are errors that name the nearest match.

    Options that are images may be paths, or arrays on the grid `on`.
    """
    name = spec.get("name") if isinstance(spec, dict) else spec
    if not isinstance(spec, dict) or not isinstance(name, str) or name not in table:
        raise unknown(kind, name, table)
    options = {k: v for k, v in spec.items() if k != "name"}
    import inspect

    found = inspect.signature(table[name]).parameters
    allowed = [p for p in found if p not in extra and not p.startswith("_")]
    for key, value in options.items():
        if key not in allowed:
            raise unknown(f"option of {kind} {name!r}:", key, allowed)
        if str(found[key].annotation).startswith("Image"):
            options[key] = value = located(value, f"{key} of {name}", None if key == "moving" else on)
        if not FITS.get(found[key].annotation, lambda _: True)(value):
            raise OptionError(f"option {key} of {kind} {name!r} is of type {found[key].annotation}, got {value!r}")
    if missing := [p for p in allowed if p not in options and found[p].default is found[p].empty]:
        raise OptionError(f"{kind} {name!r} needs a value for {', '.join(missing)}")
    if name == "composite" and isinstance(options.get("parts"), (list, tuple)):
        options["parts"] = [_part(part, k, table, kind) for k, part in enumerate(options["parts"])]
    return table[name](**options, **extra)


def _part(part, k: int, table: dict, kind: str):
    """A part of a composite with an object in place of its spec; what is no part is left to the composite to refuse."""
    if not isinstance(part, dict) or "metric" not in part:
        return part
    spec = part["metric"]
    try:
        return {**part, "metric": build({"name": spec} if isinstance(spec, str) else spec, table, kind)}
    except OptionError as error:
        raise OptionError(f"composite, part {k}: {error}") from error


def build_stage(stage: Stage, grid: Grid, matrix):
    """Transform, metric, regularisers, priors and optimiser of a stage; deformable models start from `matrix`.

    For transforms of a pair `grid` is the template's, and the metric that of the stack.
    """
    extra, paired = {"grid": grid}, stage.transform["name"] in PAIRED
    if not linear(stage):
        extra["matrix"] = matrix
    if stage.transform["name"] == "bspline":
        extra["doublings"] = doublings(stage, grid)
    metric = build(stage.metric, METRICS, "metric")
    return (build(stage.transform, {**TRANSFORMS, **PAIRED}, "transform", **extra),
            AllPairs(metric) if paired else metric,
            [build(r, REGULARISERS, "regulariser", grid) for r in stage.regularisers],
            [build(p, PRIORS, "prior", grid) for p in stage.priors],
            build(stage.optimiser, OPTIMISERS, "optimiser"))


def build_sampling(stage: Stage):
    """What draws the samples of a stage; None where all count."""
    return None if stage.sampling is None else build(stage.sampling, SAMPLINGS, "sampling")


def linear(stage: Stage) -> bool:
    """Whether a matrix is all that a stage finds."""
    return stage.transform["name"] in ("linear", "linear_halves")


def doublings(stage: Stage, grid: Grid) -> int:
    """How often the lattice is refined: on coarse levels a cell is as long as two samples, if that is longer."""
    coarsest = 2 * max(v.factor for v in stage.levels) * grid.resolution
    return max(0, round(math.log2(coarsest / np.min(stage.transform["spacing"]))))


__all__ = ["MODELS", "LINEAR", "DEFORMABLE", "SYMMETRIC", "Plan", "build", "build_sampling", "build_stage",
           "check_model", "deformable_stage", "last_stage", "linear", "linear_stage", "real", "sampling_for",
           "spelt_out", "whole", "with_priors", "with_regularisers"]

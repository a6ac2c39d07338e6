"""Model names of groups -> default plans. Data, not code, as `classreg.models` is for pairs.

Must not import: the engine, io, matplotlib.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace

from .. import models
from ..errors import unknown
from ..grid import Grid
from ..metrics.group import GROUP_METRICS, all_pairs, low_rank
from ..optimisers import OPTIMISERS
from ..planning import Plan, Stage
from ..regularisers import COUPLINGS, REGULARISERS, is_energy
from ..transforms import GROUPED
from ..transforms.stack import Stack

LINEAR = models.LINEAR

#: those of pairs; the weights of energies are those of the motion between two images: with sum_j u_j = 0, the mean over
#: pairs of |u_i - u_j|^2 is 2 / (N - 1) sum_j |u_j|^2
DEFORMABLE = {name: models.DEFORMABLE[name] for name in ("bspline", "dense", "greedy", "svf")}
DEFORMABLE["bspline"] = {**DEFORMABLE["bspline"], "iterations": (40, 40, 30, 30)}

#: what the metrics are made from that methods take as an option
INNER = {"ape": all_pairs.NAMED, "low_rank": low_rank.NAMED}

GROUP_MODELS = (*LINEAR, *DEFORMABLE)

#: stages that come before a model's own, each with samples per axis at which it stops refining
BEFORE = {"translation": (), "rigid": (), "similarity": ("rigid",), "affine": ("rigid",)}


def check_model(model: str) -> str:
    """The model's name, or OptionError with the nearest one."""
    if not isinstance(model, str) or model not in GROUP_MODELS:
        raise unknown("model of a group", model, GROUP_MODELS)
    return model


def group_plan(model: str, method: dict, grid: Grid, init: str, gauge: str, factors: Sequence[float] | None = None,
               iterations=None, optimiser: dict | None = None, seed: int = 0, notes: tuple[str, ...] = (),
               temporal: float = 0.0, regularisers: Sequence[dict] | None = None) -> Plan:
    """The default plan of a model on a common grid: rigid and affine stages, then the model's own."""
    stages = []
    for kind in BEFORE.get(model, ("rigid", "affine")):
        stages.append(_linear(kind, grid, method, None, None, None, models.START[kind] ** grid.ndim))
    if model in LINEAR:
        # linear interpolation blurs images that lie between the samples, which entropies take for agreement
        stages.append(replace(_linear(model, grid, method, factors, iterations, optimiser, models.ENOUGH), order=3))
    else:
        stages.append(models.deformable_stage(model, grid, method, factors, iterations, optimiser, defaults=DEFORMABLE))
    stages[-1] = models.with_regularisers(stages[-1], regularisers, grid)
    if temporal:
        coupling = {"name": "temporal", "weight": float(temporal) / grid.resolution**2}
        stages = [replace(stage, regularisers=(*stage.regularisers, coupling)) for stage in stages]
    return Plan(model, init, tuple(stages), seed, "none", gauge=gauge, notes=notes)


def _linear(kind, grid, method, factors, iterations, optimiser, samples) -> Stage:
    stage = models.linear_stage(kind, grid, method, factors, iterations, samples=samples,
                                optimiser=optimiser or {"name": "lbfgs"})
    return replace(stage, transform={"name": "log_linear", "kind": kind})


def build_method(spec: dict, seed: int = 0):
    """The metric of a stack from its name and options; one that draws anything draws it from the plan's seed."""
    found = GROUP_METRICS.get(spec.get("name"))
    if spec.get("name") in INNER and isinstance(spec.get("metric"), dict):
        inner = models.build(spec["metric"], INNER[spec["name"]], f"metric of {spec['name']}")
        spec = {**spec, "metric": inner}
    if found is not None and "seed" in inspect.signature(found).parameters:
        spec = {"seed": seed, **spec}
    return models.build(spec, GROUP_METRICS, "method")


def build_stage(stage: Stage, grid: Grid, matrices, still: int | None = None, seed: int = 0):
    """Transform, metric, regularisers and optimiser of a stage; deformable models start from `matrices`."""
    built = []
    for matrix in matrices:
        extra = {"grid": grid} if linear(stage) else {"grid": grid, "matrix": matrix}
        if stage.transform["name"] == "bspline":
            extra["doublings"] = models.doublings(stage, grid)
        built.append(models.build(stage.transform, GROUPED, "transform of a group", **extra))
    regularisers = [models.build(r, {**REGULARISERS, **COUPLINGS}, "regulariser", grid) for r in stage.regularisers]
    for r in filter(is_energy, regularisers):  # summed over the images, a quadratic one is then the mean over pairs
        if not getattr(r, "couples", False):
            r.weight *= 2 / (len(built) - 1)
    return (Stack(built, still), build_method(stage.metric, seed), regularisers,
            models.build(stage.optimiser, OPTIMISERS, "optimiser"))


def linear(stage: Stage) -> bool:
    """Whether matrices are all that a stage finds."""
    return stage.transform["name"] == "log_linear"


def ordered(plan: Plan) -> bool:
    """Whether the order of the images matters to a plan: something couples those that follow each other."""
    parts = [r for stage in plan.stages for r in getattr(stage, "regularisers", ()) if isinstance(r, dict)]
    return any(r.get("name") in COUPLINGS for r in parts)

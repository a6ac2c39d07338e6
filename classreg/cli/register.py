"""`classreg register`: register one image to another.

Must not be imported by any other module but the list of commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import common
from .common import Fixed, Levels, MemoryLimit, Model, Moving, Optimiser, Output, Quiet, Regulariser, Threads, TimeLimit


def register(
    context: typer.Context, fixed: Fixed, moving: Moving, output: Output, model: Model = "bspline",
    baseline: Annotated[str | None, typer.Option(help="Run a baseline instead, as `classreg baselines` lists them; it "
                                                      "has a model, metric and levels of its own.")] = None,
    parameters: Annotated[list[Path] | None, typer.Option(help="Run a parameter file of elastix instead; give the "
                                                               "option once for each, in their order.")] = None,
    metric: Annotated[str, typer.Option(help="What is minimised: auto, a name as ncc, or a name with options in JSON: "
                                             "'{\"name\": \"mi\", \"bins\": 24}'.")] = "auto",
    fixed_mask: Annotated[Path | None, typer.Option(help="Where the fixed image counts.")] = None,
    moving_mask: Annotated[Path | None, typer.Option(help="Where the moving image counts.")] = None,
    fixed_points: Annotated[Path | None, typer.Option(help="Landmarks of the fixed image, x,y[,z] in mm per row.")]
    = None,
    moving_points: Annotated[Path | None, typer.Option(help="Where they belong in the moving image.")] = None,
    init: Annotated[str, typer.Option(help="How to begin: a name, or a transform file.")] = "auto",
    threads: Threads = None,
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = None,
    levels: Levels = None,
    optimiser: Optimiser = None,
    regulariser: Regulariser = None,
    prior: Annotated[list[str] | None, typer.Option(help="What is known beside the images, with options in JSON: "
                                                         "'{\"name\": \"singular_values\"}'; may be given several "
                                                         "times.")] = None,
    sampling: Annotated[str | None, typer.Option(help="Samples of the last stage: random or sobol; by default "
                                                      "all.")] = None,
    samples: Annotated[float | None, typer.Option(help="How many of them, or a share below 1.")] = None,
    quiet: Quiet = False,
) -> None:
    """Register MOVING to FIXED and save transform, warped image and report to the output folder."""
    factors, metric = common.read_factors(levels), common.read_spec(metric, "--metric")
    regularisers, priors = common.read_specs(regulariser, "--regulariser"), common.read_specs(prior, "--prior") or []
    optimiser = common.read_spec(optimiser, "--optimiser")
    if (fixed_points is None) != (moving_points is None):
        raise typer.BadParameter("landmarks come in pairs: give --fixed-points and --moving-points, or neither")
    if fixed_points is not None:
        priors.append({"name": "landmarks", "fixed": fixed_points, "moving": moving_points})
    if samples is not None:
        sampling = {"name": sampling or "random", "samples": samples}
    if baseline is not None or parameters:
        _check_alone(context, "--baseline" if baseline is not None else "--parameters")
    common.check_folder(output)
    import classreg

    shared = dict(fixed_mask=fixed_mask, moving_mask=moving_mask, threads=threads, time_limit=time_limit,
                  memory_limit=memory_limit)
    with common.running(quiet) as (caught, callback):
        if baseline is not None:
            result = classreg.baselines.run(baseline, fixed, moving, callback=callback, **shared)
        elif parameters:
            from ..baselines.elastix import read_parameters

            read = read_parameters(parameters)
            pair = [classreg.io.load(path, name=name) for path, name in ((fixed, "fixed"), (moving, "moving"))]
            result = classreg.register(*pair, plan=read(*pair), callback=callback, **shared)
        else:
            result = classreg.register(
                fixed, moving, model=model, metric=metric, init=Path(init) if Path(init).is_file() else init,
                callback=callback, levels=factors, priors=priors, optimiser=optimiser, regularisers=regularisers,
                sampling=sampling, **shared)
    common.finish(result, output, quiet, caught)


def _check_alone(context: typer.Context, recipe: str) -> None:
    """Refuse, beside a recipe, options that say what it says itself."""
    what = {"--baseline": "a baseline is a recipe", "--parameters": "parameter files are a recipe"}[recipe]
    for name in ("model", "metric", "init", "levels", "optimiser", "regulariser", "prior", "sampling", "samples",
                 "fixed_points", "parameters"):
        option = "--" + name.replace("_", "-")
        if option != recipe and context.get_parameter_source(name).name == "COMMANDLINE":
            raise typer.BadParameter(f"{what} of its own, in which {option} cannot be changed: leave one of them out",
                                     param_hint=recipe)

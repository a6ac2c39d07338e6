"""`classreg group`: register any number of images to a common space.

Must not be imported by any other module but the list of commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import (
    Levels,
    MemoryLimit,
    Optimiser,
    Output,
    Quiet,
    Regulariser,
    Threads,
    TimeLimit,
    check_folder,
    finish,
    read_factors,
    read_spec,
    read_specs,
    running,
)


def group(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Two image files or more.")],
    output: Output,
    method: Annotated[str, typer.Option(help="What is minimised: a name, or a name with options in JSON: "
                                             "'{\"name\": \"xcoreg\", \"classes\": 6}'.")] = "xcoreg",
    model: Annotated[str, typer.Option(help="What may move: rigid, affine, bspline, svf, ...")] = "bspline",
    mask: Annotated[list[Path] | None, typer.Option(help="Where an image counts; give one for each image, in "
                                                         "order.")] = None,
    names: Annotated[str | None, typer.Option(help="What the images are called in the results, as t1,t2,pd; by default "
                                                   "image_1, image_2, ...")] = None,
    reference: Annotated[Path | None, typer.Option(help="An image whose grid the common space gets.")] = None,
    gauge: Annotated[str, typer.Option(help="mean: nothing moves on average; or the name of an image that does not "
                                            "move.")] = "mean",
    init: Annotated[str, typer.Option(help="How to begin: auto, identity or pairwise.")] = "auto",
    threads: Threads = None,
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = None,
    levels: Levels = None,
    optimiser: Optimiser = None,
    regulariser: Regulariser = None,
    quiet: Quiet = False,
) -> None:
    """Register IMAGES to a common space and save transforms, warped images, template and report."""
    factors, method = read_factors(levels), read_spec(method, "--method")
    regularisers = read_specs(regulariser, "--regulariser")
    optimiser = read_spec(optimiser, "--optimiser")
    check_folder(output)
    import classreg

    with running(quiet) as (caught, callback):
        result = classreg.register_group(
            images, model=model, method=method, init=init, masks=mask or None, reference=reference, gauge=gauge,
            names=None if names is None else [name.strip() for name in names.split(",")], levels=factors,
            optimiser=optimiser, regularisers=regularisers, threads=threads, time_limit=time_limit,
            memory_limit=memory_limit, callback=callback)
    finish(result, output, quiet, caught)

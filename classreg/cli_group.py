"""`classreg group`: register any number of images to a common space.

May import anything; `cli` takes its command from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def group(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Two image files or more.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
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
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")] = None,
    time_limit: Annotated[float | None, typer.Option(min=0, help="Seconds; then the best so far.")] = None,
    levels: Annotated[str | None, typer.Option(help="Pyramid factors from coarse to fine, as 4,2,1.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")] = False,
) -> None:
    """Register IMAGES to a common space and save transforms, warped images, template and report."""
    import classreg

    from . import cli

    factors, method = cli._factors(levels), cli._metric(method, "--method")
    cli._check_folder(output)
    console = cli._console(quiet)
    with cli._interruptible() as caught, cli._progress(console, quiet) as callback:
        result = classreg.register_group(
            images, model=model, method=method, init=init, masks=mask or None, reference=reference, gauge=gauge,
            names=None if names is None else [name.strip() for name in names.split(",")], levels=factors,
            threads=threads, time_limit=time_limit, callback=callback)
    cli._finish(result, output, quiet, caught)

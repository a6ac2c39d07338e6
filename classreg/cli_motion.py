"""`classreg motion`: correct the motion of a time series.

May import anything; `cli` takes its command from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def motion(
    series: Annotated[list[Path], typer.Argument(metavar="SERIES", help="A 4-D image file; or the frames in their "
                                                                        "order, one file each.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    model: Annotated[str, typer.Option(help="What a frame may do: translation, rigid, affine, bspline, svf, "
                                            "...")] = "rigid",
    method: Annotated[str, typer.Option(help="What is minimised: a name, or a name with options in JSON: "
                                             "'{\"name\": \"pca\", \"components\": 3}'.")] = "xcoreg",
    reference: Annotated[str, typer.Option(help="mean: nothing moves on average; or the frame that does not move: "
                                                "first, middle, last, or its number from 0.")] = "mean",
    temporal: Annotated[float, typer.Option(min=0, help="Weight of a penalty on motion from frame to frame; 0 for "
                                                        "independent shots.")] = 0.0,
    mask: Annotated[Path | None, typer.Option(help="Where frames count, an image on the grid of the series.")] = None,
    interval: Annotated[float | None, typer.Option(help="Seconds from frame to frame; by default as the header "
                                                        "says.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")] = None,
    time_limit: Annotated[float | None, typer.Option(min=0, help="Seconds; then the best so far.")] = None,
    levels: Annotated[str | None, typer.Option(help="Pyramid factors from coarse to fine, as 4,2,1.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")] = False,
) -> None:
    """Correct the motion between the frames of SERIES; save the series, the motion and a report."""
    import classreg

    from . import cli

    factors, method = cli._factors(levels), cli._metric(method, "--method")
    cli._check_folder(output)
    console = cli._console(quiet)
    with cli._interruptible() as caught, cli._progress(console, quiet) as callback:
        result = classreg.register_series(
            series[0] if len(series) == 1 else series, model=model, method=method, temporal=temporal, mask=mask,
            reference=_frame(reference), interval=interval, levels=factors, threads=threads,
            time_limit=time_limit, callback=callback)
    cli._finish(result, output, quiet, caught)


def _frame(reference: str) -> int | str:
    """'3' -> 3; a name as it is."""
    try:
        return int(reference)
    except ValueError:
        return reference

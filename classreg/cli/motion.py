"""`classreg motion`: correct the motion of a time series.

Must not be imported by any other module but the list of commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import (
    Levels,
    MemoryLimit,
    Output,
    Quiet,
    Threads,
    TimeLimit,
    check_folder,
    finish,
    read_factors,
    read_spec,
    running,
)


def motion(
    series: Annotated[list[Path], typer.Argument(metavar="SERIES", help="A 4-D image file; or the frames in their "
                                                                        "order, one file each.")],
    output: Output,
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
    threads: Threads = None,
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = None,
    levels: Levels = None,
    quiet: Quiet = False,
) -> None:
    """Correct the motion between the frames of SERIES; save the series, the motion and a report."""
    factors, method = read_factors(levels), read_spec(method, "--method")
    check_folder(output)
    import classreg

    with running(quiet) as (caught, callback):
        result = classreg.register_series(
            series[0] if len(series) == 1 else series, model=model, method=method, temporal=temporal, mask=mask,
            reference=_frame(reference), interval=interval, levels=factors, threads=threads,
            time_limit=time_limit, memory_limit=memory_limit,
            callback=callback)
    finish(result, output, quiet, caught)


def _frame(reference: str) -> int | str:
    """'3' -> 3; a name as it is."""
    try:
        return int(reference)
    except ValueError:
        return reference

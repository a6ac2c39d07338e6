"""`classreg compare` and `classreg baselines`: methods on many cases, and what there is to compare with.

Must not be imported by any other module but the list of commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .common import COLOURS, INTERRUPTED, Output, Quiet, interruptible, open_console


def compare(
    cases: Annotated[Path, typer.Argument(metavar="CASES.csv", help="One row per pair: case,fixed,moving and, as they "
                                                                    "exist, fixed_labels, fixed_points, ...")],
    output: Output,
    methods: Annotated[list[str], typer.Option("--methods", "-m", help="Baselines, models and methods files (.json), "
                                                                       "parted by commas; or NAME=COMMAND {fixed} "
                                                                       "{moving} {output}; may be repeated.")],
    measures: Annotated[str | None, typer.Option(help="Columns, parted by commas; all by default.")] = None,
    reference: Annotated[str | None, typer.Option(help="Row that others are tested against; by default the first "
                                                       "that is not none.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each run; all cores by default.")] = None,
    time_limit: Annotated[float | None, typer.Option(min=0, help="Seconds after which a run has failed.")] = None,
    quiet: Quiet = False,
) -> None:
    """Run METHODS on all cases and make the table of the paper; what is finished is kept, so it can be stopped."""
    console = open_console(quiet)
    from ..compare import compare as compare_methods

    columns = None if measures is None else [part.strip() for part in measures.split(",") if part.strip()]
    try:
        with interruptible() as caught, _comparing(console, quiet) as callback:
            table = compare_methods(cases, methods, output, measures=columns, reference=reference, threads=threads,
                                    time_limit=time_limit, callback=callback)
    except KeyboardInterrupt as stop:
        typer.echo(f"Interrupted. What is finished stays in {output}; the same command goes on from there.", err=True)
        raise typer.Exit(128 + caught[0] if caught else INTERRUPTED) from stop
    if not quiet:
        typer.echo(str(table))
        typer.echo(f"Written to {output}.")
    if table.failures:
        typer.echo(f"{len(table.failures)} of {len(table.records)} runs failed; see {output / 'table.md'}.", err=True)
        raise typer.Exit(1)


def baselines() -> None:
    """List the baselines: named and versioned recipes of other programs."""
    from ..baselines import BASELINES

    table = Table("name", "version", "imitates")
    for found in BASELINES.values():
        table.add_row(Text(found.name), found.version, Text(found.imitates))
    Console().print(table)


@contextmanager
def _comparing(console: Console, quiet: bool) -> Iterator[Callable]:
    """A bar over all runs of a comparison, and a line for each that failed or is run again."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn(),
               TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task("", total=None)

        def callback(event) -> None:
            if event.what == "failed":
                bar.console.print(Text(f"{event.method}, {event.case} failed: {event.text}", COLOURS["error"]))
            running = f"{event.method}, {event.case}" if event.what == "begin" else ""
            bar.update(task, completed=event.done, total=event.total, description=running)

        yield callback

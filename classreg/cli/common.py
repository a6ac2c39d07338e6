"""What the commands share: the options of the same meaning, the bar, signals, the end of a run.

Must not be imported by anything but the commands.
"""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from ..errors import FileError

COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}
INTERRUPTED = 128 + signal.SIGINT

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
Fixed = Annotated[Path, typer.Argument(metavar="FIXED", help="Image file, or folder of DICOM slices.")]
Moving = Annotated[Path, typer.Argument(metavar="MOVING", help="The image that is moved to it.")]
Model = Annotated[str, typer.Option(help="What may move: rigid, affine, bspline, ...")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")]
TimeLimit = Annotated[float | None, typer.Option(min=0, help="Seconds; then the best so far.")]
MemoryLimit = Annotated[str | None, typer.Option(help="Peak memory, as 2GB or 800MB; where the defaults need more, the "
                                                      "finest levels are left out.")]
Optimiser = Annotated[str | None, typer.Option(help="Of the last stage: lbfgs, adam, ..., or a name with options in "
                                                    "JSON; by default the model's own.")]
Regulariser = Annotated[list[str] | None, typer.Option(help="Of the last stage, in the place of the model's own: "
                                                            "elastic, ..., or a name with options in JSON: "
                                                            "'{\"name\": \"elastic\", \"weight\": 0.2}'; may be given "
                                                            "several times.")]
Levels = Annotated[str | None, typer.Option(help="Pyramid factors from coarse to fine, as 4,2,1.")]


def finish(result, output: Path, quiet: bool, caught: list[int]) -> None:
    """Save a result, say what it is, and end with the code of a signal that came."""
    result.save(output)
    if not quiet:
        typer.echo(result.status)
        Console().print(figures(result.summary()))
        typer.echo(f"Saved to {output} after {result.seconds:.1f} s.")
    if caught:
        raise typer.Exit(128 + caught[0])


def open_console(quiet: bool) -> Console:
    """Standard error, which bar and log share; where quiet, only errors are logged and no bar is drawn."""
    from rich.logging import RichHandler

    console = Console(stderr=True)
    logger = logging.getLogger("classreg")
    logger.handlers[:] = [RichHandler(console=console, show_path=False, show_time=False)]
    logger.setLevel(logging.ERROR if quiet else logging.INFO)
    return console


@contextmanager
def running(quiet: bool) -> Iterator[tuple[list[int], Callable]]:
    """A registration, with a bar: yields the list of the signals that came, and the callback that moves the bar."""
    with interruptible() as caught, progress(open_console(quiet), quiet) as callback:
        yield caught, callback


@contextmanager
def progress(console: Console, quiet: bool) -> Iterator[Callable]:
    """A bar with stage, level, value and time left in the level; yields the callback that moves it."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
               TextColumn("value {task.fields[value]:.5g}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = None
        where = None

        def callback(record) -> None:
            nonlocal task, where
            if where != (record.stage, record.level):
                where = record.stage, record.level
                if task is not None:
                    bar.remove_task(task)
                task = bar.add_task(f"{record.stage}, level {record.level} of {record.levels}",
                                    total=record.iterations, value=record.value)
            bar.update(task, completed=record.iteration, value=record.value)

        yield callback


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM reach the engine as KeyboardInterrupt; yields the list of the signals that came."""
    caught: list[int] = []

    def note(number, frame):
        caught.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def figures(summary: Mapping[str, tuple]) -> Table:
    """The figures of a result, before and after: numbers, texts, or None where there is none."""
    table = Table("", Column("before", justify="right"), Column("after", justify="right"))
    for name, values in summary.items():
        table.add_row(Text(name), *("" if value is None else Text(value) if isinstance(value, str)
                                    else f"{value:.4g}" for value in values))
    return table


def read_factors(levels: str | None) -> list[float] | None:
    """'4,2,1' -> [4, 2, 1]."""
    if levels is None:
        return None
    try:
        return [float(part) for part in levels.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{levels!r} is no list of factors; write 4,2,1", param_hint="--levels") from None


def read_spec(text: str | None, option: str) -> str | dict | None:
    """'mi' -> 'mi'; '{"name": "mi"}' -> {"name": "mi"}; None stays."""
    if text is None or not text.lstrip().startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no JSON ({error}); write '{{\"name\": \"mi\", \"bins\": 24}}'",
                                 param_hint=option) from None


def read_specs(texts: list[str] | None, option: str) -> list[str | dict] | None:
    """The same of an option that was given any number of times."""
    return [read_spec(text, option) for text in texts] if texts else None


def check_folder(folder: Path) -> None:
    """Refuse, before any work is done, a folder that can never be written to: a file is made and removed there.

    If the folder does not exist yet, the nearest one above it is tried, so that a failure leaves nothing behind.
    """
    from ..io.atomic import writable_folder

    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise FileError(f"cannot write to {folder}: {there} is a file, not a folder; choose another --output")
    writable_folder(there)

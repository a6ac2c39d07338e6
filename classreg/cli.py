"""The command line: `classreg register`, `compare` and the other commands that `classreg --help` lists.

A thin face over the public functions: it parses, draws the progress bar from `callback`, prints tables, and
turns errors into exit codes: 0 done, 1 a `ClassregError` or a finding that would stop a registration, 2 wrong
usage, 128 + n interrupted by signal n (the best so far is saved). Results go to standard output, the rest to
standard error.

Everything heavy is imported inside the commands, so that `--help` answers at once; `check` compiles nothing.

Must not be imported by any other module but the commands of `cli_group` and `cli_motion`.
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
from typer.core import TyperGroup

from .cli_group import group
from .cli_motion import motion
from .errors import ClassregError, FileError, OptionError, unknown

COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}
DEMO_SPACING = {"small": 6.0, "full": 2.0}
DEMO_MODELS = ("rigid", "affine", "bspline")
INTERRUPTED = 128 + signal.SIGINT


class Commands(TyperGroup):
    """The commands: a wrong name is answered with the nearest match, an error with one line."""

    def resolve_command(self, ctx, args):
        if args[0] not in self.commands:
            ctx.fail(str(unknown("command", args[0], self.commands)))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except ClassregError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stop:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(INTERRUPTED) from stop


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(group)
app.command()(motion)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
Fixed = Annotated[Path, typer.Argument(metavar="FIXED", help="Image file, or folder of DICOM slices.")]
Moving = Annotated[Path, typer.Argument(metavar="MOVING", help="The image that is moved to it.")]
Model = Annotated[str, typer.Option(help="What may move: rigid, affine, bspline, ...")]


def main() -> None:
    """Run the command line (the entry point of the `classreg` script)."""
    app(prog_name="classreg")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"classreg {version('classreg')}")
        raise typer.Exit()


@app.callback()
def options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                                  help="Show the version.")] = False) -> None:
    """Register medical images: find the map that takes one image to another."""


@app.command()
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
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")] = None,
    time_limit: Annotated[float | None, typer.Option(min=0, help="Seconds; then the best so far.")] = None,
    memory_limit: Annotated[str | None, typer.Option(help="Peak memory, as 2GB or 800MB; where the defaults need more, "
                                                          "the search and the finest levels are left out.")] = None,
    levels: Annotated[str | None, typer.Option(help="Pyramid factors from coarse to fine, as 4,2,1.")] = None,
    optimiser: Annotated[str | None, typer.Option(help="Of the last stage: lbfgs, asgd, ...; by default the "
                                                       "model's own.")] = None,
    sampling: Annotated[str | None, typer.Option(help="Samples of the last stage: random or sobol; by default "
                                                      "all.")] = None,
    samples: Annotated[float | None, typer.Option(help="How many of them, or a share below 1.")] = None,
    quiet: Quiet = False,
) -> None:
    """Register MOVING to FIXED and save transform, warped image and report to the output folder."""
    factors, metric = _factors(levels), _metric(metric)
    if (fixed_points is None) != (moving_points is None):
        raise typer.BadParameter("landmarks come in pairs: give --fixed-points and --moving-points, or neither")
    landmarks = {"name": "landmarks", "fixed": fixed_points, "moving": moving_points}
    if samples is not None:
        sampling = {"name": sampling or "random", "samples": samples}
    if baseline is not None or parameters:
        _check_alone(context, "--baseline" if baseline is not None else "--parameters")
    _check_folder(output)
    console = _console(quiet)
    import classreg

    shared = dict(fixed_mask=fixed_mask, moving_mask=moving_mask, threads=threads, time_limit=time_limit,
                  memory_limit=memory_limit)
    with _interruptible() as caught, _progress(console, quiet) as callback:
        if baseline is not None:
            result = classreg.baselines.run(baseline, fixed, moving, callback=callback, **shared)
        elif parameters:
            from .baselines.elastix import read_parameters

            read = read_parameters(parameters)
            pair = [classreg.io.load(path, name=name) for path, name in ((fixed, "fixed"), (moving, "moving"))]
            result = classreg.register(*pair, plan=read(*pair), callback=callback, **shared)
        else:
            result = classreg.register(
                fixed, moving, model=model, metric=metric, init=Path(init) if Path(init).is_file() else init,
                callback=callback, levels=factors, priors=[] if fixed_points is None else [landmarks],
                optimiser=optimiser, sampling=sampling, **shared)
    _finish(result, output, quiet, caught)


def _check_alone(context: typer.Context, recipe: str) -> None:
    """Refuse, beside a recipe, options that say what it says itself."""
    what = {"--baseline": "a baseline is a recipe", "--parameters": "parameter files are a recipe"}[recipe]
    for name in ("model", "metric", "init", "levels", "optimiser", "sampling", "samples", "fixed_points", "parameters"):
        option = "--" + name.replace("_", "-")
        if option != recipe and context.get_parameter_source(name).name == "COMMANDLINE":
            raise typer.BadParameter(f"{what} of its own, in which {option} cannot be changed: leave one of them out",
                                     param_hint=recipe)


@app.command()
def baselines() -> None:
    """List the baselines: named and versioned recipes of other programs."""
    from .baselines import BASELINES

    table = Table("name", "version", "imitates")
    for found in BASELINES.values():
        table.add_row(Text(found.name), found.version, Text(found.imitates))
    Console().print(table)


@app.command()
def apply(
    transform: Annotated[Path, typer.Argument(metavar="TRANSFORM", help="A transform file.")],
    moving: Moving,
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="The image whose grid is taken.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Image file to write.")],
    format: Annotated[str, typer.Option(help="What wrote TRANSFORM: itk, ants, fsl, greedy, ...; by default as its "
                                             "content says.")] = "auto",
    interpolation: Annotated[str | None, typer.Option(help="linear, nearest, cubic or label; by default "
                                                           "label for whole numbers whose neighbours "
                                                           "mostly agree, else linear.")] = None,
) -> None:
    """Warp MOVING with a saved TRANSFORM onto the grid of REFERENCE."""
    if output.resolve() in {path.resolve() for path in (transform, moving, reference)}:
        raise FileError(f"the output {output} is one of the inputs, which would be lost; choose another "
                        "--output")
    _check_folder(output.parent)
    import classreg
    from classreg import io

    warped = classreg.apply(transform, moving, reference, format=format, interpolation=interpolation)
    output.parent.mkdir(parents=True, exist_ok=True)
    io.save_image(warped, output)


@app.command()
def convert(
    transforms: Annotated[list[str], typer.Argument(metavar="TRANSFORM...", help="Files, several in the order of their "
                                                    "tool. One that takes moving points to fixed ones is followed by "
                                                    ",-1 as in affine.mat,-1.")],
    output: Annotated[list[Path], typer.Option("--output", "-o", help="File to write; given twice, the warp and the "
                                               "matrix apart, in the order of the tool.")],
    fixed: Annotated[Path, typer.Option(help="The image whose points the transform takes.")],
    moving: Annotated[Path | None, typer.Option(help="The image that it takes them to.")] = None,
    source: Annotated[str, typer.Option("--from", help="Format of TRANSFORM; by default as it shows.")] = "auto",
    target: Annotated[str, typer.Option("--to", help="Format to write; by default the only one with its suffix.")]
    = "auto",
    inverse: Annotated[bool, typer.Option("--inverse", help="Write the inverse, from MOVING to FIXED.")] = False,
) -> None:
    """Convert TRANSFORM, which takes points of FIXED to MOVING, between the formats of registration tools."""
    paths, turned = zip(*(_turned(text) for text in transforms))
    given = {path.resolve() for path in (*paths, fixed, *([] if moving is None else [moving]))}
    for path in output:
        if path.resolve() in given:
            raise FileError(f"the output {path} is one of the inputs, which would be lost; choose another --output")
        _check_folder(path.parent)
    from . import io

    ends = io.load(fixed, name="fixed"), None if moving is None else io.load(moving, name="moving")
    many = len(paths) > 1
    found = io.read_transform(list(paths) if many else paths[0], *ends, format=source,
                              inverse=list(turned) if many else turned[0])
    if inverse:
        if moving is None and not found.linear:
            raise OptionError("the inverse of a deformation lies on the moving image's grid: give --moving")
        found = found.inverse()
        if found.residual:
            typer.echo(f"The inverse holds within {found.residual['p99']:.3g} mm at 99 % of the moving image, "
                       f"{found.residual['max']:.3g} mm at worst.", err=True)
    for path in output:
        path.parent.mkdir(parents=True, exist_ok=True)
    io.write_transform(found, output if len(output) > 1 else output[0], format=target)


def _turned(text: str) -> tuple[Path, bool]:
    """'a.mat,-1' -> the path, and that it is to be inverted."""
    return (Path(text[:-3]), True) if text.endswith(",-1") else (Path(text), False)


@app.command()
def plot(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="checkerboard, overlay, difference, contour, "
                                                             "deformed_grid, quiver, jacobian, curl or convergence.")],
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="The folder that `classreg register` wrote.")],
    fixed: Annotated[Path | None, typer.Argument(metavar="[FIXED]", help="The fixed image; the last five kinds do "
                                                                         "without.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write: .png, .pdf or .svg.")] = ...,
    labels: Annotated[Path | None, typer.Option(help="For contour: labels of the fixed image.")] = None,
    moving_labels: Annotated[Path | None, typer.Option(help="For contour: labels of the moving image.")] = None,
    plane: Annotated[str | None, typer.Option(help="Only axial, coronal or sagittal.")] = None,
) -> None:
    """Draw a saved result: images against each other, the deformation, or how it converged."""
    _check_folder(output.parent)
    from .plot import saved

    saved.check_name(output)
    figure = saved.draw(kind.replace("-", "_"), result, fixed, labels=labels, moving_labels=moving_labels, plane=plane)
    output.parent.mkdir(parents=True, exist_ok=True)
    saved.write(figure, output)


@app.command()
def check(fixed: Fixed, moving: Moving, model: Model = "bspline") -> None:
    """Say what would go wrong, and what looks odd, before registering."""
    from .io import load
    from .preflight import inspect_pair

    findings = inspect_pair(load(fixed, name="fixed"), load(moving, name="moving"), model)
    table = Table("", "about", "finding")
    for finding in findings:
        table.add_row(Text(finding.level, COLOURS[finding.level]), finding.code, Text(finding.message))
    Console().print(table)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


@app.command()
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
    console = _console(quiet)
    from .compare import compare as compare_methods

    columns = None if measures is None else [part.strip() for part in measures.split(",") if part.strip()]
    try:
        with _interruptible() as caught, _comparing(console, quiet) as callback:
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


@app.command()
def demo(
    output: Output = Path("classreg-demo"),
    size: Annotated[str, typer.Option(help="small (seconds) or full.")] = "full",
    quiet: Quiet = False,
) -> None:
    """Register a generated pair of heads with known truth, rigid, affine and bspline, and compare."""
    if size not in DEMO_SPACING:
        raise unknown("size", size, DEMO_SPACING)
    _check_folder(output)
    console = _console(quiet)
    import classreg
    from classreg import io
    from classreg.datasets import head_phantom

    pair = head_phantom(spacing=DEMO_SPACING[size], seed=0)
    (output / "input").mkdir(parents=True, exist_ok=True)
    for name in ("fixed", "moving", "fixed_labels", "moving_labels"):
        io.save_image(getattr(pair, name), output / "input" / f"{name}.nii.gz")
    table = Table("", *(Column(name, justify="right") for name in ("TRE mm", "Dice", "folding %", "seconds")))
    table.add_row("before", *_scores(pair, pair.fixed_points, _by_headers(pair)), "", "")
    for model in DEMO_MODELS:
        with _interruptible() as caught, _progress(console, quiet) as callback:
            result = classreg.register(pair.fixed, pair.moving, model=model, callback=callback)
        result.save(output / model)
        table.add_row(model, *_after(pair, result.transform), f"{result.seconds:.1f}")
        if caught:
            break
    if not quiet:
        Console().print(table)
        typer.echo(f"The report of each model is {output / 'MODEL' / 'report.html'}, the images are in "
                   f"{output / 'input'}.")
    if caught:
        raise typer.Exit(128 + caught[0])


def _finish(result, output: Path, quiet: bool, caught: list[int]) -> None:
    """Save a result, say what it is, and end with the code of a signal that came."""
    result.save(output)
    if not quiet:
        typer.echo(result.status)
        Console().print(_figures(result.summary()))
        typer.echo(f"Saved to {output} after {result.seconds:.1f} s.")
    if caught:
        raise typer.Exit(128 + caught[0])


def _after(pair, transform) -> tuple[str, str, str]:
    """TRE, Dice and folding of a fitted transform, as cells."""
    import classreg
    from classreg.evaluate import folding

    mapped = transform.map_points(pair.fixed_points, frm="fixed", to="moving", space="world")
    labels = classreg.apply(transform, pair.moving_labels, pair.fixed, interpolation="label").array
    return *_scores(pair, mapped, labels), f"{folding(transform.jacobian_determinant()):.3f}"


def _scores(pair, mapped, labels) -> tuple[str, str]:
    """Mean TRE of mapped landmarks and mean Dice of warped labels, as cells."""
    from classreg.evaluate import dice, tre

    overlap = dice(pair.fixed_labels.array, labels)
    return f"{tre(mapped, pair.moving_points)['mean']:.2f}", f"{sum(overlap.values()) / len(overlap):.3f}"


def _by_headers(pair):
    """The moving labels on the fixed grid as the headers place them."""
    import SimpleITK as sitk

    labels, identity = pair.moving_labels.to_sitk(), sitk.Transform()
    moved = sitk.Resample(labels, pair.fixed.to_sitk(), identity, sitk.sitkNearestNeighbor)
    return sitk.GetArrayFromImage(moved)


def _console(quiet: bool) -> Console:
    """Standard error, which bar and log share; where quiet, only errors are logged and no bar is drawn."""
    from rich.logging import RichHandler

    console = Console(stderr=True)
    logger = logging.getLogger("classreg")
    logger.handlers[:] = [RichHandler(console=console, show_path=False, show_time=False)]
    logger.setLevel(logging.ERROR if quiet else logging.INFO)
    return console


@contextmanager
def _progress(console: Console, quiet: bool) -> Iterator[Callable]:
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


@contextmanager
def _interruptible() -> Iterator[list[int]]:
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


def _figures(summary: Mapping[str, tuple]) -> Table:
    """The figures of a result, before and after: numbers, texts, or None where there is none."""
    table = Table("", Column("before", justify="right"), Column("after", justify="right"))
    for name, values in summary.items():
        table.add_row(Text(name), *("" if value is None else Text(value) if isinstance(value, str)
                                    else f"{value:.4g}" for value in values))
    return table


def _factors(levels: str | None) -> list[float] | None:
    """'4,2,1' -> [4, 2, 1]."""
    if levels is None:
        return None
    try:
        return [float(part) for part in levels.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{levels!r} is no list of factors; write 4,2,1", param_hint="--levels") from None


def _metric(text: str, option: str = "--metric") -> str | dict:
    """'mi' -> 'mi'; '{"name": "mi"}' -> {"name": "mi"}."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no JSON ({error}); write '{{\"name\": \"mi\", \"bins\": 24}}'",
                                 param_hint=option) from None


def _check_folder(folder: Path) -> None:
    """Refuse, before any work is done, a folder that can never be written to: a file is made and removed there.

    If the folder does not exist yet, the nearest one above it is tried, so that a failure leaves nothing behind.
    """
    from .io.atomic import writable_folder

    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise FileError(f"cannot write to {folder}: {there} is a file, not a folder; choose another --output")
    writable_folder(there)

"""`classreg demo`: a generated pair with known truth, registered by three models.

Must not be imported by any other module but the list of commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from ..errors import unknown
from .common import Output, Quiet, check_folder, running

DEMO_SPACING = {"small": 6.0, "full": 2.0}
DEMO_MODELS = ("rigid", "affine", "bspline")


def demo(
    output: Output = Path("classreg-demo"),
    size: Annotated[str, typer.Option(help="small (seconds) or full.")] = "full",
    quiet: Quiet = False,
) -> None:
    """Register a generated pair of heads with known truth, rigid, affine and bspline, and compare."""
    if size not in DEMO_SPACING:
        raise unknown("size", size, DEMO_SPACING)
    check_folder(output)
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
        with running(quiet) as (caught, callback):
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

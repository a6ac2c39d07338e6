"""`classreg plot`: draw a saved result.

Must not be imported by any other module but the list of commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import check_folder


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
    check_folder(output.parent)
    from ..io.atomic import made_folders
    from ..plot import saved

    saved.check_name(output)
    figure = saved.draw(kind.replace("-", "_"), result, fixed, labels=labels, moving_labels=moving_labels, plane=plane)
    with made_folders(output):
        saved.write(figure, output)

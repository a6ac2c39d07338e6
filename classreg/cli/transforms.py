"""`classreg apply` and `classreg convert`: what is done with transform files.

Must not be imported by any other module but the list of commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import FileError, OptionError
from .common import Moving, check_folder


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
    check_folder(output.parent)
    import classreg

    from .. import io
    from ..io.atomic import made_folders

    warped = classreg.apply(transform, moving, reference, format=format, interpolation=interpolation)
    with made_folders(output):
        io.save_image(warped, output)


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
        check_folder(path.parent)
    from .. import io
    from ..io.atomic import made_folders

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
    with made_folders(*output):
        io.write_transform(found, output if len(output) > 1 else output[0], format=target)


def _turned(text: str) -> tuple[Path, bool]:
    """'a.mat,-1' -> the path, and that it is to be inverted."""
    return (Path(text[:-3]), True) if text.endswith(",-1") else (Path(text), False)

"""Plots of a saved result: the folder that `Result.save` writes, and the fixed image, which is not in it.

Transform, warped image, history and fixed grid are read from the folder; labels are given beside it.

May import anything below and matplotlib; nothing imports it but a lazy call.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..errors import FileError, OptionError, unknown
from ..fitted import FittedTransform
from ..grid import Grid
from ..image import Image
from ..io import load
from ..io.atomic import atomic_path
from ..io.files import existing
from ..io.transforms import read_transform
from ..io.vectors import head
from .curves import convergence
from .fields import curl, deformed_grid, jacobian, quiver
from .given import image_of, labels_of
from .outlines import contour
from .pictures import checkerboard, difference, overlay
from .views import centre

PAIRS: dict[str, Callable] = {"checkerboard": checkerboard, "overlay": overlay, "difference": difference}
FIELDS: dict[str, Callable] = {"deformed_grid": deformed_grid, "quiver": quiver, "jacobian": jacobian, "curl": curl}
KINDS = (*PAIRS, "contour", *FIELDS, "convergence")
FORMATS = (".png", ".pdf", ".svg")
TRANSFORMS = ("transform.tfm", "transform.h5")


def draw(kind: str, folder: str | os.PathLike, fixed=None, *, labels=None, moving_labels=None,
         plane: str | None = None) -> Figure:
    """A plot of what a folder holds.

    Parameters
    ----------
    kind : str
        checkerboard, overlay, difference, contour, deformed_grid, quiver, jacobian, curl or convergence.
    folder : path
        Written by `Result.save`.
    fixed : Image or path, optional
        The fixed image. checkerboard, overlay, difference and contour need it; quiver puts it below, deformed_grid and
        curl take the middle of what it shows.
    labels, moving_labels : Image or path, optional
        For contour: label maps of the fixed and of the moving image, the second pulled back.
    plane : {"axial", "coronal", "sagittal"}, optional
        Only this one.

    Raises
    ------
    OptionError
        For an unknown kind, one that lacks what it needs, or labels that it has no use for.
    FileError
        If the folder does not hold a result.
    """
    if kind not in KINDS:
        raise unknown("plot", kind, KINDS)
    folder = Path(folder)
    if fixed is None and kind in (*PAIRS, "contour"):
        raise OptionError(f"{kind} needs the fixed image, which is not in {folder}; give it after the folder")
    if kind == "contour" and labels is None:
        raise OptionError("contour needs the labels of the fixed image (--labels)")
    if kind != "contour" and (labels is not None or moving_labels is not None):
        raise OptionError(f"{kind} has no use for labels; contour has")
    if kind == "convergence" and plane is not None:
        raise OptionError("convergence has no planes; leave plane out")
    if kind in PAIRS:
        return PAIRS[kind](image_of(fixed, name="fixed"), _warped(folder), plane=plane)
    history, grid = _said(folder)
    if kind == "convergence":
        return convergence(history)
    if kind == "contour":
        image = image_of(fixed, name="fixed")
        moved = None if moving_labels is None else labels_of(moving_labels, image, "moving labels",
                                                             _transform(folder, grid))
        return contour(image, labels, moved, plane=plane)
    options = {"image": fixed} if kind == "quiver" else {}
    if fixed is not None and kind != "jacobian":  # which looks for folds first
        options["at"] = centre(image_of(fixed, name="fixed"))
    return FIELDS[kind](_transform(folder, grid), plane=plane, **options)


def write(figure: Figure, path: str | os.PathLike, dpi: float = 150) -> None:
    """A figure as a PNG, PDF or SVG file, whole or not at all.

    Raises
    ------
    FileError
        For another suffix, or if the file cannot be written.
    """
    check_name(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format=Path(path).suffix.lower()[1:])


def check_name(path: str | os.PathLike) -> None:
    """Raise FileError unless the file's suffix is one that pictures are written with."""
    if Path(path).suffix.lower() not in FORMATS:
        raise FileError(f"{path} has no suffix of a picture; allowed are {', '.join(FORMATS)}")


def _warped(folder: Path) -> Image:
    path = existing(folder / "warped.nii.gz")
    return load(path, channels="last" if math.prod(head(path)[0][3:]) > 1 else None, name="warped")


def _said(folder: Path) -> tuple[list[dict], Grid]:
    """History and fixed grid of a saved result."""
    try:
        said = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        history = [{**r, "value": np.nan if r["value"] is None else r["value"]} for r in said["history"]]
        return history, Grid(said["fixed_grid"]["shape"], np.array(said["fixed_grid"]["affine"]))
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise FileError(f"{folder} holds no result that can be drawn ({type(error).__name__}: {error}); give a folder "
                        "that `classreg register` or Result.save has written") from error


def _transform(folder: Path, grid: Grid) -> FittedTransform:
    for name in TRANSFORMS:
        if (folder / name).exists():
            return read_transform(folder / name, grid, format="itk")
    raise FileError(f"{folder} holds neither {' nor '.join(TRANSFORMS)}; register again, or draw from Python "
                    "(classreg.plot)")

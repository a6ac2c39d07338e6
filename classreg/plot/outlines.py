"""Outlines of label maps over an image.

A line runs half way between the samples inside a label and their neighbours outside (the level 0.5 of its indicator).

May import anything below and matplotlib; nothing imports it but `plot` and `report`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..errors import InputError
from ..image import Image
from ..result import Result
from . import shades
from .canvas import COLOURS, canvas, finish, legend
from .given import image_of, labels_of
from .pictures import paint
from .views import centre

FIXED, WARPED = "#ffb000", "#56b4e9"  # orange and blue, as in the overlay


def contour(image, labels, other=None, *, only: Sequence[int] | None = None, at: Sequence[int] | None = None,
            plane: str | None = None, ax=None, spacing=None, channel: int | None = None) -> Figure:
    """Outlines of one label map, or of two to compare, over an image.

    Parameters
    ----------
    image : Result, Image, path, SimpleITK image, nibabel image or array
        What lies below; of a `Result` the fixed image.
    labels : Image, path or array
        Label map or mask on the grid of the image. Alone, each label has a colour of its own (seven, in turn).
    other : Image, path or array, optional
        A second one, also on the grid of the image; beside a `Result` that of the *moving* image, on its grid, which is
        pulled back first. The first is then orange and solid, the second blue and dashed.
    only : sequence of int, optional
        The labels to draw; by default all but 0.
    at, plane, ax, spacing, channel
        As everywhere, see `classreg.plot`; the slices go through the middle of the labels.

    Raises
    ------
    InputError
        If the maps do not lie on the grid they should lie on, or hold none of the labels.

    Examples
    --------
    >>> square = np.zeros((8, 8), int)
    >>> square[2:5, 3:7] = 1
    >>> len(contour(np.eye(8), square).axes[0].collections)
    1
    """
    through, moving = None, None
    if isinstance(image, Result):
        through, moving, image = image.transform, image.moving, image.fixed
    image = image_of(image, spacing, channel)
    maps = [labels_of(labels, image, "label map")]
    if other is not None:
        if moving is not None and isinstance(other, np.ndarray):
            other = Image(other, moving.grid)
        maps.append(labels_of(other, image, "second label map", through))
    values = np.unique(np.concatenate([np.unique(m) for m in maps]))
    values = [v for v in values if np.isfinite(v) and (v != 0 if only is None else v in list(only))]
    if not values:
        raise InputError("there is nothing to outline: the label maps hold "
                         + ("no label but 0" if only is None else f"none of the labels {list(only)}"))
    drawn = [np.isin(m, values) for m in maps]
    at = centre(image, next(d for d in drawn if d.any())) if at is None else at
    on = canvas(image.grid, at, plane, ax)
    limits = shades.window(image)
    paint(on, [shades.picture(image, view, limits) for view in on.views])
    styles = [("solid", FIXED), ("dashed", WARPED)] if len(maps) == 2 else [("solid", None)]
    for panel, view in on:
        for array, (line, colour) in zip(maps, styles):
            for k, value in enumerate(values):
                outline(panel, view, view.cut(array) == value, line, colour or COLOURS[k % len(COLOURS)])
        panel.set(xlim=(0, view.size[1]), ylim=(view.size[0], 0))
    if len(maps) == 2:
        legend(on, [Line2D([], [], color=colour, linestyle=line, label=name)
                    for name, (line, colour) in zip(("fixed", "warped"), styles)])
    return finish(on)


def outline(panel, view, inside: np.ndarray, line: str, colour: str, width: float = 1.1) -> None:
    """The edge of a region (rows, columns) of a slice; one that touches the border is closed there."""
    if not inside.any():
        return
    right, down = view.centres()
    right, down = (np.concatenate([[c[0] - step], c, [c[-1] + step]]) for c, step in
                   ((right, view.step[1]), (down, view.step[0])))
    panel.contour(right, down, np.pad(inside.astype(float), 1), levels=[0.5], colors=[colour], linestyles=[line],
                  linewidths=width)

"""Box plots of a comparison: one box per method, or per label and method, every case as a dot.

    box        from the first to the third quartile, the median as a line
    whiskers   to the last case within 1.5 times the box's length

May import anything below and matplotlib; nothing imports it but `plot`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..errors import InputError
from ..image import real_numbers
from .canvas import COLOURS, TEXT, bare, blank, figure_of

ROW, HIGHEST = 0.3, 40.0  # inches per box, and of a figure


def boxes(values: Mapping, *, measure: str = "", ax=None) -> Figure:
    """Values per method, or per method and label, as horizontal boxes with every case as a dot.

    Parameters
    ----------
    values : mapping of name to numbers, or of name to a mapping of label to numbers
        One number per case, such as `{"none": [0.61, 0.55], "bspline": [0.79, 0.74]}`, or
        `{"none": {"ventricles": [0.5, 0.4]}, ...}`. Labels that a method lacks stay empty; numbers that are not finite
        are left out, and how many is written beside the name of the method or the label.
    measure : str
        What the numbers are, for the axis: "Dice", "TRE, mm".
    ax : Axes, optional
        Draw here instead of on a new figure.

    Returns
    -------
    Figure
        The methods from top to bottom in their order.

    Raises
    ------
    InputError
        If there are no methods, or values that are no rows of numbers.

    Examples
    --------
    >>> figure = boxes({"none": [1.0, 2.0, 4.0], "affine": [0.5, 0.7, 0.6]}, measure="TRE, mm")
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['none', 'affine']
    """
    if not isinstance(values, Mapping) or not values:
        raise InputError("values must be a mapping of at least one method to its numbers, such as "
                         f"{{'affine': [0.7, 0.8]}}; got {type(values).__name__}")
    nested = [isinstance(row, Mapping) for row in values.values()]
    if any(nested) != all(nested):
        raise InputError("some methods have labels and some have not; give all of them numbers, or all of them labels")
    methods = list(values)
    labels = list(dict.fromkeys(label for row in values.values() for label in row)) if nested[0] else [None]
    if not labels:
        raise InputError("the methods have no labels; give each a mapping of label to numbers")
    count = len(methods) * len(labels)
    if ax is None:
        ax = blank(5.5, min(HIGHEST, 0.7 + ROW * count * (0.75 if nested[0] else 1))).add_subplot()
    figure, places, names = figure_of(ax), [], []
    for i, label in enumerate(labels):
        missing = 0
        for k, method in enumerate(methods):
            place = i * (len(methods) + 0.8) + k
            row = values[method] if label is None else values[method].get(label, ())
            if not isinstance(row, Iterable):
                raise InputError(f"values of {method!r} are {row!r}; give a row of numbers, one per case")
            numbers = real_numbers(list(row), f"values of {method!r}").astype(float).ravel()
            found = numbers[np.isfinite(numbers)]
            missing += len(numbers) - len(found)
            _box(ax, place, found, COLOURS[k % len(COLOURS)])
            if label is None:
                places, names, missing = [*places, place], [*names, _named(method, missing)], 0
        if label is not None:
            places, names = [*places, place - (len(methods) - 1) / 2], [*names, _named(label, missing)]
    ax.set_yticks(places, names, parse_math=False)
    ax.set_ylim(place + 0.7, -0.7)
    ax.set_xlabel(measure, fontsize=8, color=TEXT, parse_math=False)
    ax.grid(axis="x", color=TEXT, alpha=0.25, linewidth=0.5)
    ax.set_axisbelow(True)
    bare(ax)
    if nested[0]:
        names = ax.legend(handles=[Patch(facecolor=COLOURS[k % len(COLOURS)], label=str(name), alpha=0.6)
                                   for k, name in enumerate(methods)], frameon=False, fontsize=8, labelcolor=TEXT,
                          loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(4, len(methods)))
        for text in names.get_texts():
            text.set_parse_math(False)
    return figure


def _named(name, missing: int) -> str:
    return f"{name} ({missing} missing)" if missing else str(name)


def _box(ax, place, found, colour) -> None:
    if not len(found):
        return
    low, middle, high = np.percentile(found, (25, 50, 75))
    reach = 1.5 * (high - low)
    ends = found[(found >= low - reach) & (found <= high + reach)]
    ax.hlines([place, place], [ends.min(), high], [low, ends.max()], color=colour, linewidth=1)
    ax.barh(place, high - low, left=low, height=0.62, color=colour, alpha=0.3, edgecolor=colour)
    ax.vlines(middle, place - 0.31, place + 0.31, color=colour, linewidth=2)
    spread = 0.22 * ((np.arange(len(found)) * 0.618034) % 1 - 0.5) * 2  # the golden ratio keeps neighbours apart
    ax.plot(found, place + spread, "o", color=colour, markersize=2.6, alpha=0.8, markeredgewidth=0)

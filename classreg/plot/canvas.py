"""Figures with one panel per plane, at one scale in mm, with the patient's sides and a scale bar.

Every figure is its own object with its own Agg canvas: nothing is shown and no global state is touched, so plots serve
scripts, notebooks and threads alike. Letters and bars have a rim, which makes them readable on any ground.

May import anything below and matplotlib; nothing imports it but `plot` and `report`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator

from ..errors import InputError, OptionError, unknown
from ..grid import Grid
from .views import Plane, planes

TEXT = "#808894"  # reads on white and on black
LINE = "#3f8fd2"
FOLD = "#ffd400"  # on neither side of the blue-red map
#: Okabe and Ito's colours, which colour-blind people can tell apart
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
WIDE, HIGH = 9.0, 4.5  # inches that the panels of a figure fill at most
BAR = 0.8  # inches for a colour bar with its numbers
NAMES = ("axial", "coronal", "sagittal")
EDGE = 0.04  # inches around the panels
LIGHT, DARK = ("white", "#000000a0"), ("#30363f", "#ffffffc0")  # ink and its rim, on images and on white maps


@dataclass(frozen=True)
class Canvas:
    """A figure, its panels (one per plane) and, where one was asked for and the figure is new, axes for a colour bar.
    """

    figure: Figure
    axes: list[Axes]
    views: list[Plane]
    bar: Axes | None

    def __iter__(self):
        return iter(zip(self.axes, self.views))


def canvas(grid: Grid, at: Sequence[int] | None, plane: str | None, ax, bar: bool = False) -> Canvas:
    """Panels for the planes of a grid, new ones or those given.

    Parameters
    ----------
    grid : Grid
        Of what is drawn.
    at : sequence of int or None
        Array index (z, y, x) that the planes cross in.
    plane : {"axial", "coronal", "sagittal"} or None
        Only this one.
    ax : Axes, sequence of Axes or None
        Where to draw; one takes the plane named, or the first.
    bar : bool
        Whether a new figure needs room for a colour bar.

    Raises
    ------
    OptionError
        For an unknown plane, one that the grid does not have, or another number of axes than of planes.
    """
    views = planes(grid, at)
    if plane is not None:
        if plane not in NAMES:
            raise unknown("plane", plane, NAMES)
        chosen = [view for view in views if view.name == plane]
        if not chosen:
            raise OptionError(f"there is no {plane} plane to draw of {grid}; it has: "
                              f"{', '.join(view.name for view in views)}")
        views = chosen
    if ax is None:
        return _new(views, bar)
    if isinstance(ax, Axes):
        ax, views = [ax], views[:1]
    axes = list(ax) if isinstance(ax, Iterable) else [ax]
    for one in axes:
        figure_of(one)
    if len(axes) != len(views):
        raise OptionError(f"ax has {len(axes)} axes for {len(views)} planes ({', '.join(v.name for v in views)}); give "
                          "one axes per plane, or name one plane (plane='axial')")
    for one in axes:
        one.set_axis_off()
    return Canvas(axes[0].figure, axes, views, None)


def _new(views: list[Plane], bar: bool) -> Canvas:
    widths, tallest = [p.size[1] for p in views], max(p.size[0] for p in views)
    gap, title, room = 0.02 * sum(widths), 0.25 if views[0].axis is not None else EDGE, BAR * bar  # mm, inches, inches
    total = sum(widths) + gap * (len(views) - 1)
    inches = min((WIDE - room - 2 * EDGE) / total, HIGH / tallest)  # per mm
    wide, high = total * inches + room + 2 * EDGE, tallest * inches + title + EDGE
    figure = Figure(figsize=(wide, high))
    FigureCanvasAgg(figure)
    axes, left = [], EDGE
    for plane, mm in zip(views, widths):
        ax = figure.add_axes((left / wide, EDGE / high, mm * inches / wide, tallest * inches / high))
        ax.set_axis_off()
        ax.set_title(plane.name if plane.axis is not None else "", fontsize=9, color=TEXT, pad=4)
        axes.append(ax)
        left += (mm + gap) * inches
    beside = None
    if bar:
        beside = figure.add_axes((1 - (BAR - 0.1) / wide, 0.12, 0.12 / wide, 0.76 * tallest * inches / high))
    return Canvas(figure, axes, views, beside)


def finish(on: Canvas, ink: tuple[str, str] = LIGHT) -> Figure:
    """Frame each panel on its slice, write the patient's sides into it and a scale bar into the first."""
    for ax, plane in on:
        if ax.get_autoscale_on():
            ax.set(xlim=(0, plane.size[1]), ylim=(plane.size[0], 0))
        ax.set_aspect("equal")
        places = ((0.5, 0.98, "center", "top"), (0.98, 0.5, "right", "center"),
                  (0.5, 0.02, "center", "bottom"), (0.02, 0.5, "left", "center"))
        for text, (x, y, across, up) in zip(plane.edges, places):
            if text:
                ax.text(x, y, text, transform=ax.transAxes, ha=across, va=up, **_text(ink))
    _scale(on.axes[0], ink)
    return on.figure


def _text(ink):
    return {"fontsize": 7.5, "color": ink[0], "path_effects": [withStroke(linewidth=1.8, foreground=ink[1])]}


def _scale(ax: Axes, ink) -> None:
    """A bar of a round number of mm, at most a quarter of the panel."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    length = round_below((right - left) / 4)
    x, y = left + 0.04 * (right - left), bottom + 0.04 * (top - bottom)
    ax.plot([x, x + length], [y, y], color=ink[0], linewidth=1.6, solid_capstyle="butt", gid="scale",
            path_effects=[withStroke(linewidth=3, foreground=ink[1])])
    ax.text(x + length / 2, y + 0.012 * (top - bottom), f"{length:g} mm", ha="center", va="bottom", parse_math=False,
            **_text(ink))
    ax.set(xlim=(left, right), ylim=(bottom, top))


def round_below(value: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is not above a positive value.

    >>> round_below(47.3), round_below(0.21)
    (20.0, 0.2)
    """
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    return float(f"{max(k for k in (1, 2, 5) if k * power <= value * (1 + 1e-9)) * power:.6g}")


def colour_bar(on: Canvas, shown, label: str = "", **options) -> None:
    """The colour scale of what is shown, beside the panels."""
    where = {"cax": on.bar} if on.bar is not None else {"ax": on.axes, "shrink": 0.8}
    bar = on.figure.colorbar(shown, **where, **options)
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(labelsize=8, colors=TEXT, length=2)
    bar.outline.set_visible(False)
    bar.set_label(label, fontsize=8, color=TEXT)


def legend(on: Canvas, handles: list) -> None:
    """A legend below on the right: beside the colour bar, or on a dark ground in the last panel."""
    beside = on.bar is not None
    place = on.figure if beside else on.axes[-1]
    place.legend(handles=handles, loc="lower right", frameon=not beside, fontsize=8, handlelength=1.2, borderpad=0.3,
                 handletextpad=0.5, facecolor="black", framealpha=0.6, edgecolor="none",
                 labelcolor=TEXT if beside else "white")


def diverging(limit: float) -> Normalize:
    """Zero in the middle, `limit` at the ends."""
    return Normalize(-limit, limit)


def blank(across: float, down: float) -> Figure:
    """A new figure of so many inches for curves and boxes, laid out by itself."""
    figure = Figure(figsize=(across, down), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def bare(ax: Axes) -> None:
    """Axes of curves and boxes: two spines, small grey ticks, no ground."""
    ax.tick_params(labelsize=8, colors=TEXT, length=2)
    ax.patch.set_alpha(0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(color=TEXT, alpha=0.6)


def figure_of(ax: Axes) -> Figure:
    """The figure that axes lie on; InputError for what is no axes."""
    if not isinstance(ax, Axes):
        raise InputError(f"ax must be a matplotlib Axes, got {type(ax).__name__}")
    return ax.figure

"""Convergence: value against iteration, level by level.

May import anything below and matplotlib; nothing imports it but `plot` and `report`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from itertools import groupby

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..errors import InputError
from .canvas import COLOURS, LINE, TEXT, bare, blank, figure_of


def convergence(history, *, ax=None) -> Figure:
    """Value against iteration, one panel per stage and level: values compare only within one.

    Parameters
    ----------
    history : Result, GroupResult, or sequence of Record or dict
        Records in order; dictionaries have the keys `stage`, `level`, `iteration`, `value`.
    ax : Axes, optional
        Draw all levels on these, one behind the other, a colour per stage: how far each value is above the lowest of
        its level, as a share of the level's fall, from 1 at its start to 0.

    Returns
    -------
    Figure
        At most four panels a row.

    Raises
    ------
    InputError
        If there are no records, or what is given is none.

    Examples
    --------
    >>> records = [dict(stage="affine", level=k // 5, iteration=k % 5, value=1 / (k + 1)) for k in range(10)]
    >>> [ax.get_title(loc="left") for ax in convergence(records).axes]
    ['affine, level 0', 'affine, level 1']
    """
    records = getattr(history, "history", history)
    try:
        groups = levels([asdict(r) if is_dataclass(r) else r for r in records])
    except (TypeError, KeyError) as error:
        raise InputError("a history is a result, or records with stage, level, iteration and value, such as those of "
                         f"result.history; got {type(history).__name__}") from error
    if not groups:
        raise InputError("the history is empty: there is nothing to draw before the first iteration")
    if ax is not None:
        return _together(groups, ax)
    across = min(4, len(groups))
    down = -(-len(groups) // across)
    figure = blank(3.0 * across, 2.2 * down)
    for k, (stage, level, part) in enumerate(groups):
        panel = figure.add_subplot(down, across, k + 1)
        _curve(panel, [r["iteration"] for r in part], [r["value"] for r in part], LINE)
        panel.set_title(f"{stage}, level {level}", fontsize=9, color=TEXT, loc="left", parse_math=False)
        panel.set_xlabel("iteration", fontsize=8, color=TEXT)
        _ticks(panel)
    return figure


def _together(groups, ax) -> Figure:
    figure, start, colours = figure_of(ax), 0, {}
    for stage, _, part in groups:
        new = stage not in colours
        colour = colours.setdefault(stage, COLOURS[len(colours) % len(COLOURS)])
        if start:
            ax.axvline(start - 0.5, color=TEXT, linewidth=0.5, alpha=0.5)
        values = np.array([r["value"] for r in part], float)
        above = values - np.nanmin(values) if np.isfinite(values).any() else values
        first = next((v for v in above if np.isfinite(v) and v > 0), 1.0)
        line = _curve(ax, range(start, start + len(part)), above / first, colour)
        if new:
            line.set_label(stage)
        start += len(part)
    ax.set_xlabel("evaluation; a line where a level begins", fontsize=8, color=TEXT)
    ax.set_ylabel("left of the level's fall", fontsize=8, color=TEXT)
    ax.legend(frameon=False, fontsize=8, labelcolor=TEXT)
    _ticks(ax)
    return figure


def _curve(ax, x, values, colour):
    line, = ax.plot(list(x), values, color=colour, linewidth=1.4, marker="o" if len(values) == 1 else None,
                    markersize=3)
    return line


def _ticks(ax) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.ticklabel_format(axis="y", useOffset=False)
    bare(ax)


def levels(history: Sequence[dict]) -> list[tuple[str, int, list[dict]]]:
    """The records of a history in runs of one stage and level: (stage, level, records)."""
    return [(*key, list(part)) for key, part in groupby(history, key=lambda r: (r["stage"], r["level"]))]

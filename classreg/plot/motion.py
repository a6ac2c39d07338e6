"""Motion by time, and how a line of the image looks by time: of series that were corrected.

May import anything below and matplotlib; nothing imports it but `plot` and a lazy call.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..errors import InputError, OptionError
from ..io.series import Series
from .canvas import COLOURS, TEXT, bare, blank

#: what the panels of `motion` show: words, unit, columns of the table and what the legend calls them
PANELS = (("translation", "mm", ("x_mm", "y_mm", "z_mm")), ("rotation", "degrees", ("x_deg", "y_deg", "z_deg",
                                                                                     "turn_deg")),
          ("step", "mm", ("fd_mm", "step_mm")))
LEGEND = {"fd_mm": "framewise displacement", "step_mm": "root mean square", "turn_deg": "turn"}


def motion(result) -> Figure:
    """Translations, rotations and steps from frame to frame by time, one panel each.

    Parameters
    ----------
    result : SeriesResult, or dict
        A dictionary holds the columns of `SeriesResult.motion`.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If it is neither.

    Examples
    --------
    >>> table = dict(time_s=[0, 1], x_mm=[0, 1], y_mm=[0, 0], turn_deg=[0, 2], fd_mm=[0, 3], step_mm=[0, 1])
    >>> [ax.get_ylabel() for ax in motion(table).axes]
    ['translation (mm)', 'rotation (degrees)', 'step (mm)']
    """
    table = getattr(result, "motion", result)
    if not isinstance(table, Mapping) or "time_s" not in table:
        raise InputError(f"motion is drawn of a SeriesResult, or of its table of motion; got {type(result).__name__}")
    series = getattr(result, "series", None)
    figure = blank(7.0, 4.8)
    for k, (words, unit, columns) in enumerate(PANELS):
        ax = figure.add_subplot(len(PANELS), 1, k + 1)
        for n, column in enumerate(c for c in columns if c in table):
            ax.plot(table["time_s"], table[column], color=COLOURS[n], linewidth=1.3, marker=".", markersize=3,
                    label=LEGEND.get(column, column[0]))
        ax.set_ylabel(f"{words} ({unit})", fontsize=8, color=TEXT)
        ax.legend(frameon=False, fontsize=7.5, labelcolor=TEXT, ncols=3, loc="lower right",
                  bbox_to_anchor=(1.0, 0.97), borderaxespad=0)
        ax.yaxis.set_major_locator(MaxNLocator(4))
        bare(ax)
    ax.set_xlabel(_time(series), fontsize=8, color=TEXT)
    return figure


def profile(result, *, axis: int | None = None, at=None) -> Figure:
    """A line of the image by time, before and after: motion is what bends along time.

    Parameters
    ----------
    result : SeriesResult or (Series, Series)
        A pair is drawn as before and after.
    axis : int, optional
        Array axis that the line runs along, (z, y, x) or (y, x); by default the one along which the series varies most
        in time.
    at : sequence of int, optional
        Array index that the line goes through; by default where, in the middle half, the series varies most in time.

    Returns
    -------
    Figure

    Raises
    ------
    InputError, OptionError
        With what to do.
    """
    pair = (result.series, result.corrected) if hasattr(result, "corrected") else result
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(s, Series) for s in pair):
        raise InputError(f"a profile is drawn of a SeriesResult or two Series; got {type(result).__name__}")
    before, after = pair
    d, spread = before.grid.ndim, before.array.std(0, dtype=np.float64)
    if axis is None:
        axis = _busiest(before)
    if axis not in range(-d, d):
        raise OptionError(f"axis must be a number from 0 to {d - 1}, got {axis!r}")
    if at is None:  # the liveliest line in the middle half, which frames that move out of view do not reach
        along = spread.sum(axis, keepdims=True)
        start = [n // 4 for n in along.shape]
        inner = along[tuple(slice(a, n - a) for a, n in zip(start, along.shape))]
        at = np.add(np.unravel_index(np.argmax(inner), inner.shape), start)
    if len(at) != d or not all(0 <= i < n for i, n in zip(at, before.grid.shape)):
        raise OptionError(f"at must be an array index in a grid of {before.grid.shape}, got {at!r}")
    line = tuple(slice(None) if k == axis % d else int(i) for k, i in enumerate(at))
    figure, lines = blank(7.0, 4.2), [s.array[(slice(None), *line)].T for s in pair]
    low, high = np.percentile(lines[0], (1, 99))
    step = before.interval or 1.0
    reach = before.grid.spacing[axis] * before.grid.shape[axis]
    for k, (when, cut) in enumerate(zip(("before", "after"), lines)):
        ax = figure.add_subplot(2, 1, k + 1)
        ax.imshow(cut, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), aspect="auto", interpolation="nearest",
                  extent=(before.times[0] - step / 2, before.times[-1] + step / 2, reach, 0))
        ax.set_ylabel(f"{when} (mm)", fontsize=8, color=TEXT)
        bare(ax)
    ax.set_xlabel(_time(before), fontsize=8, color=TEXT)
    return figure


def _busiest(series: Series) -> int:
    """The axis along which the slope in space varies most in time."""
    data = series.array.astype(np.float64)
    spreads = [np.diff(data, axis=k + 1).std(0).mean() / series.grid.spacing[k] if n > 1 else -1.0
               for k, n in enumerate(series.grid.shape)]
    return int(np.argmax(spreads))


def _time(series: Series | None) -> str:
    return "time (s)" if series is None or series.interval is not None else "frame"

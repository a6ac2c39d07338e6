"""The report of a corrected series: motion by time, a line by time, mean and deviation over time; one HTML file.

Built from the parts of `report`, under its rules: nothing is asked of the network, every text is escaped.

May import anything below; nothing imports it but a lazy call.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from . import plot, report
from .image import Image
from .io.series import Series

#: frames that the table of motion shows, at most
MOST = 400


def write_series_report(path: str | os.PathLike, *, series: tuple[Series, Series], figures: Mapping[str, Figure],
                        summary: Mapping[str, tuple], motion: Mapping[str, np.ndarray], history: Sequence[dict],
                        plan: str, status: str, title: str, notes: Sequence[str]) -> None:
    """Write the report of a series.

    Parameters
    ----------
    path : path
        Where to write; written whole or not at all.
    series : (Series, Series)
        Before and after.
    figures : mapping of str to Figure
        `motion` and `profile`, see `plot`.
    summary : mapping of str to (before, after)
        Figures of the table; None where there is none.
    motion : mapping of str to array
        Columns of the table of motion.
    history, plan, status, title, notes
        As in `report.write_report`.
    """
    sections = [
        ("summary", "Summary", _summary(series[0], summary)),
        ("motion", "Motion", report._scroll(figures["motion"], "Translations, rotations and steps by time")),
        ("profile", "Profile", '<p class="soft">A line of the image by time: motion bends what should be straight.</p>'
         + report._scroll(figures["profile"], "A line of the image by time, before and after")),
        ("time", "Over time", _maps(series)),
        ("frames", "Frames", _frames(motion))]
    report._write(path, title, status, sections, history, plan, notes)


def _summary(series, summary):
    grid, shape = series.grid, " × ".join(str(n) for n in series.grid.shape)
    every = "at intervals that the header does not tell" if series.interval is None else (
        f"every {series.interval:.4g} s")
    text = (f'<p class="soft">{len(series)} frames of {shape} samples, '
            f"{' × '.join(f'{mm:.4g}' for mm in grid.spacing)} mm ({'z, y, x' if grid.ndim == 3 else 'y, x'}), "
            f"{every}.</p>")
    return text + report._table(("", "Before", "After"), [(name, *map(report._number, values))
                                                          for name, values in summary.items()])


def _maps(series):
    text = ""
    for words, taken in (("Mean", np.mean), ("Deviation", np.std)):
        pair = [Image(taken(s.array.astype(np.float64), axis=0).astype(np.float32), s.grid) for s in series]
        views, limits = plot.planes(pair[1].grid), plot.window(*pair)
        for when, image in zip(("before", "after"), pair):
            tiles = [report._png_tag(plot.picture(image, plane, limits), plane,
                                     f"{words} over time {when} registration, {plane.name}") for plane in views]
            text += f"<h3>{words} over time, {when}</h3>{report._row(views, tiles)}"
    return text


def _frames(motion):
    rows = list(zip(*motion.values()))
    more = "" if len(rows) <= MOST else (f'<p class="soft">The first {MOST} of {len(rows)} frames; all are in '
                                         "motion.csv.</p>")
    shown = [(str(int(frame)), *(report._number(float(v)) for v in values)) for frame, *values in rows[:MOST]]
    return more + report._table([name.replace("_", " ") for name in motion], shown)

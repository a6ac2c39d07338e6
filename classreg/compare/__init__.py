"""Rows over cases: methods run on pairs of images, scored by one code, tested against each other, in one table.

    from classreg.compare import compare
    table = compare("cases.csv", ["none", "bspline", {"mine": my_function}], "out")
    print(table)

Each run is kept as soon as it is finished, so that a comparison that was stopped goes on where it was. What a case and
a method are stands in `cases` and `methods`, what is kept and when it is run again in `runner`, the measures in
`scores`, the statistics in `table`.

Must not import: metrics, optimisers, engine, faces; matplotlib's pictures through a lazy call of `plot`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import door
from ..errors import InputError
from ..io.atomic import atomic_path, writable_folder
from .cases import Case, check_headers, read_cases
from .methods import Method, check_for, read_methods
from .notes import notes_of, settings_of
from .render import comparisons_csv, latex, markdown, scores_csv, summary_csv
from .runner import Event, alone, run_all
from .scores import MEASURES, check_measures, plain
from .table import Table, reference_of, tabulate

PAGES = {"table.md": markdown, "table.tex": latex, "scores.csv": scores_csv, "summary.csv": summary_csv,
         "tests.csv": comparisons_csv}

#: measures that boxes are drawn of, as far as there are any
DRAWN = ("dice", "tre", "hd95")


def compare(cases: str | os.PathLike | Iterable, methods: Any, output: str | os.PathLike, *,
            measures: Iterable[str] | None = None, reference: str | None = None, threads: int | None = None,
            time_limit: float | None = None, callback: Callable[[Event], Any] | None = None) -> Table:
    """Run methods on cases and make the table.

    Parameters
    ----------
    cases : path, or iterable of Case or mapping
        A table (CSV) with the columns case, fixed, moving and, as they exist, fixed_labels, moving_labels, fixed_mask,
        moving_mask, fixed_points, moving_points, labels, subject; or such rows.
    methods : str, path, mapping, function, or iterable of these
        Names of baselines and models, lines NAME=..., methods files, dictionaries; or functions (fixed, moving) ->
        transform, as `{"name": function}`. They get `Image`s, whose weight is the mask, and give a FittedTransform, a
        Result, a Plan (which is run), a world matrix, or a displacement in mm on the fixed grid.
    output : path
        Folder of the results. What is there of a former comparison is kept where it still holds.
    measures : iterable of str, optional
        Names in `MEASURES`; all by default.
    reference : str, optional
        The row that others are tested against, and that time and memory are relative to; by default the first that is
        not the baseline none.
    threads : int, optional
        All cores by default.
    time_limit : float, optional
        Seconds after which a run has failed. Functions that are passed as objects run in this process, and no limit
        can stop them.
    callback : callable, optional
        Called with an `Event` when a run begins and ends; returning True ends the comparison after it.

    Returns
    -------
    Table
        `print` shows it as Markdown. Also written, with box plots, to the folder: table.md, table.tex, scores.csv,
        summary.csv, tests.csv, settings.json, boxes-*.png, and the runs.

    Raises
    ------
    InputError
        With all that is wrong with the cases, before anything is run; or where another comparison runs in the folder.
    OptionError, FileError
        For methods, measures and options that are not known, or a folder that cannot be written.

    Notes
    -----
    A method that fails, in whatever way, does not stop the others: see `Table.failures`. All are scored from the
    transform as it was saved.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from classreg.datasets import head_phantom
    >>> from classreg.io import save_image
    >>> pair = head_phantom(8.0, ndim=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("fixed", "moving"):
    ...         save_image(getattr(pair, name), f"{folder}/{name}.nii.gz")
    ...     row = {"case": "head", "fixed": f"{folder}/fixed.nii.gz", "moving": f"{folder}/moving.nii.gz"}
    ...     table = compare([row], {"still": lambda fixed, moving: np.eye(3)}, f"{folder}/out", measures=["folding"])
    >>> table.cells["still", "folding"].mean
    0.0
    """
    door.check_options(threads, time_limit, callback)
    cases, methods, measures = read_cases(cases), read_methods(methods), check_measures(measures)
    reference = reference_of(methods, reference)
    problems = [problem for method in methods for problem in check_for(method, cases)] + check_headers(cases)
    if problems:
        raise InputError(f"{len(problems)} problem{'s' * (len(problems) > 1)}, nothing was run:\n- "
                         + "\n- ".join(problems))
    folder, threads = writable_folder(output), threads or os.cpu_count() or 1
    settings = plain(settings_of(cases, methods, measures, reference, threads))
    with alone(folder):
        _write(folder / "settings.json", json.dumps(settings, indent=1, default=str) + "\n")
        records = run_all(cases, methods, folder, measures, threads, time_limit, callback)
        table = tabulate(records, cases, methods, measures, reference)
        table = replace(table, notes=notes_of(table, methods, threads))
        for name, page in PAGES.items():
            _write(folder / name, page(table))
        _draw(table, folder)
    return table


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _draw(table: Table, folder: Path) -> None:
    """Boxes of what was scored, of overlap for each label too; none of a former comparison."""
    for old in folder.glob("boxes-*.png"):
        old.unlink(missing_ok=True)
    for name in DRAWN:
        of_cases = {method: list(table.values[method, name].values()) for method in table.methods
                    if name in table.measures and table.values[method, name]}
        of_labels: dict[str, dict[str, list[float]]] = {}
        for (method, _), rows in table.labels.items():
            for label, row in rows.items():
                if name in row:
                    of_labels.setdefault(method, {}).setdefault(label, []).append(row[name])
        for stem, values in ((f"boxes-{name}", of_cases), (f"boxes-{name}-labels", of_labels)):
            if values:
                _picture(values, name, folder / f"{stem}.png")


def _picture(values, name: str, path: Path) -> None:
    from .. import plot

    unit = MEASURES[name].unit
    figure = plot.boxes(values, measure=MEASURES[name].head + (f", {unit}" if unit else ""))
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


__all__ = ["MEASURES", "Case", "Event", "Method", "Table", "compare", "read_cases", "read_methods"]

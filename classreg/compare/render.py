"""The table as Markdown, LaTeX and CSV.

    table.md      for people: the table, the tests, the failures, what the numbers mean
    table.tex     the same table for a paper, plain LaTeX without packages
    scores.csv    long: every number of every case and label
    summary.csv   every cell; tests.csv: every test

Must not import: metrics, optimisers, engine, faces.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

import numpy as np

from .scores import MEASURES
from .table import Cell, Table

#: characters that LaTeX reads as commands, and others that a plain font lacks
LATEX = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
         "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"$<$", ">": r"$>$", "|": r"$|$",
         "±": r"$\pm$", "\n": " "}

#: columns beside each other in LaTeX
ABREAST = 3

SUMMARY = ("n", "mean", "sd", "median", "p25", "p75", "min", "max", "relative", "best", "star")


def markdown(table: Table) -> str:
    """The whole page: table, tests, failures, notes."""
    parts = [_rows(_head(table, {1: " ↑", -1: " ↓", 0: ""}), _body(table, "**{}**", "±"))]
    if table.tests:
        parts.append(f"Against {table.reference}:\n\n" + _rows(*_tested(table)))
    if table.failures:
        lines = [f"- {method}, {case}: {reason.strip()}" for method, case, reason in table.failures]
        parts.append(f"Failed ({len(lines)}):\n\n" + "\n".join(lines))
    return "\n\n".join([*parts, *table.notes]) + "\n"


def latex(table: Table) -> str:
    """A table environment that needs no package, a few columns below each other, and the notes after it."""
    heads = _head(table, {1: r" $\uparrow$", -1: r" $\downarrow$", 0: ""}, escape)
    rows = [[escape(row[0]), *row[1:]] for row in _body(table, r"\textbf{{{}}}", r"$\pm$")]
    parts = []
    for start in range(1, len(heads), ABREAST):
        columns = slice(start, start + ABREAST)
        lines = [" & ".join([row[0], *row[columns]]) + r" \\" for row in [heads, *rows]]
        body = "\n".join(f"  {line}" for line in [r"\hline", lines[0], r"\hline", *lines[1:], r"\hline"])
        parts.append("\n".join([rf"\begin{{tabular}}{{l{'r' * len(heads[columns])}}}", body, r"\end{tabular}"]))
    caption, *notes = table.notes or [""]
    notes += [f"Failed: {method}, {case}: {_first(reason)}." for method, case, reason in table.failures]
    return "\n".join([r"\begin{table}", r"\centering", r"\scriptsize", r"\setlength{\tabcolsep}{4pt}",
                      "\n\n\\medskip\n\n".join(parts),
                      rf"\caption{{{escape(caption)}}}", r"\end{table}", "", r"{\footnotesize\noindent",
                      "\\par\\noindent\n".join(map(escape, notes)) + r"\par}", ""])


def escape(text: str) -> str:
    r"""Text as LaTeX prints it.

    >>> escape("50 % of a_b")
    '50 \\% of a\\_b'
    """
    return "".join(LATEX.get(letter, letter) for letter in text)


def scores_csv(table: Table) -> str:
    """One line per number: method, case, label (empty for the case as a whole), measure, unit, value."""
    lines = []
    for case in table.cases:
        for method in table.methods:
            key = method, case.name
            for name in table.measures:
                if case.name in table.values[method, name]:
                    lines.append((*key, "", name, MEASURES[name].unit, table.values[method, name][case.name]))
            for label, row in table.labels.get(key, {}).items():
                lines += [(*key, label, name, MEASURES[name].unit, value) for name, value in row.items()]
            lines += [(*key, "", "failed", "", 1) for m, c, _ in table.failures if (m, c) == key]
    return _csv(("method", "case", "label", "measure", "unit", "value"), lines)


def summary_csv(table: Table) -> str:
    """One line per cell, with the number of cases that failed."""
    lines = []
    for method in table.methods:
        for name in table.measures:
            if (method, name) in table.cells:
                numbers = (_plain(getattr(table.cells[method, name], key)) for key in SUMMARY)
                lines.append((method, name, MEASURES[name].unit, *numbers, table.failed(method)))
    return _csv(("method", "measure", "unit", *SUMMARY, "failed"), lines)


def comparisons_csv(table: Table) -> str:
    """One line per test."""
    heads = list(table.tests[0]) if table.tests else ["measure", "method", "reference"]
    return _csv(heads, [[test[name] for name in heads] for test in table.tests])


def _head(table: Table, arrows: dict[int, str], text=str) -> list[str]:
    heads = ["method"]
    for name in table.measures:
        measure = MEASURES[name]
        unit = f", {measure.unit}" if measure.unit else ""
        heads.append(text(measure.head + unit) + arrows[measure.better])
    return heads + (["failed"] if table.failures else [])


def _body(table: Table, bold: str, plus: str) -> list[list[str]]:
    rows = []
    for method in table.methods:
        cells = [_cell(table.cells.get((method, name)), MEASURES[name].digits, bold, plus) for name in table.measures]
        rows.append([method, *cells, *([f"{table.failed(method)} of {len(table.cases)}"] if table.failures else [])])
    return rows


def _cell(cell: Cell | None, digits: int, bold: str, plus: str) -> str:
    """`0.739 ± 0.031 (0.742), 7; 1.20x`."""
    if cell is None:
        return ""
    mean = f"{cell.mean:.{digits}f}"
    text = (bold.format(mean) if cell.best else mean) + ("*" if cell.star else "")
    text += f" {plus} {cell.sd:.{digits}f} ({cell.median:.{digits}f})" if cell.n > 1 else ""
    text += f", {cell.n}"
    return text + (f"; {cell.relative:.2f}x" if cell.relative is not None else "")


def _tested(table: Table) -> tuple[list[str], list[list[str]]]:
    heads = ["measure", "method", "cases", "median difference [95 %]", "rank-biserial [95 %]", "p Wilcoxon", "p Holm",
             "p t-test"]
    rows = []
    for test in table.tests:
        digits = MEASURES[test["measure"]].digits
        rows.append([MEASURES[test["measure"]].head, test["method"],
                     f"{test['cases']}" + (f" ({test['n']} subjects)" if test["n"] < test["cases"] else ""),
                     _interval(test, "median_difference", f"+.{digits}f"), _interval(test, "rank_biserial", "+.2f"),
                     *("" if np.isnan(test[name]) else f"{test[name]:.2g}" for name in ("p", "p_holm", "p_t"))])
    return heads, rows


def _interval(test: dict, effect: str, form: str) -> str:
    low, high = test[f"{effect}_low"], test[f"{effect}_high"]
    return f"{test[effect]:{form}} [{low:{form}}, {high:{form}}]"


def _rows(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _first(text: str) -> str:
    """The first line of a reason, without the full stop."""
    return text.strip().splitlines()[0].rstrip(".;:") if text.strip() else "no reason given"


def _plain(value):
    return "" if value is None else int(value) if isinstance(value, bool) else value


def _csv(heads, lines) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(lines)
    return out.getvalue()

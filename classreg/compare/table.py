"""The numbers of the table: each method's cases in one row, rows beside each other, and against one of them.

    cell       mean, SD (n - 1), median over the cases that the method finished, and how many they are
    best       of the rows with most cases; equal as printed, all of them
    relative   geometric mean over common cases of time or memory over that of the reference
    tests      Wilcoxon's signed-rank test, t-test, effect sizes with intervals, over cases that both rows have;
               Holm's correction over all tests of the table

Must not import: metrics, optimisers, engine, faces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import unknown
from ..evaluate import paired
from ..evaluate.statistics import cluster_means, describe, holm
from .cases import Case
from .methods import Method
from .scores import MEASURES, number

#: cases that a test needs
LEAST = 3

#: resamples of the bootstrap intervals
RESAMPLES = 999

#: adjusted p below which a cell bears a star
LEVEL = 0.05


@dataclass(frozen=True)
class Cell:
    """One measure of one method.

    Attributes
    ----------
    mean, sd, median, p25, p75, min, max : float
    n : int
        Cases.
    best : bool
    relative : float or None
        To the reference, for time and memory.
    star : bool
        Whether it differs from the reference, p adjusted.
    """

    n: int
    mean: float
    sd: float
    median: float
    p25: float
    p75: float
    min: float
    max: float
    best: bool = False
    relative: float | None = None
    star: bool = False


@dataclass(frozen=True)
class Table:
    """What a comparison found.

    Attributes
    ----------
    methods, measures : tuple of str
        Rows and columns; a column that no row has is left out.
    cases : tuple of Case
    reference : str
        The row that others are compared with.
    cells : dict
        (method, measure) -> Cell.
    values : dict
        (method, measure) -> {case: number}, where there is one.
    labels : dict
        (method, case) -> {label: {measure: number}}.
    tests : list of dict
        One per method and tested measure, see `tests_of`.
    failures : list of (method, case, reason)
    lost : dict
        Method -> labels that its warps lost or left alone, over all cases.
    records : dict
        (method, case) -> what its JSON file holds.
    notes : list of str
        What the numbers mean, for the foot of the table.
    """

    methods: tuple[str, ...]
    measures: tuple[str, ...]
    cases: tuple[Case, ...]
    reference: str
    cells: dict[tuple[str, str], Cell]
    values: dict[tuple[str, str], dict[str, float]]
    labels: dict[tuple[str, str], dict[str, dict[str, float]]]
    tests: list[dict]
    failures: list[tuple[str, str, str]]
    lost: dict[str, int]
    records: dict[tuple[str, str], dict]
    notes: list[str]

    def failed(self, method: str) -> int:
        """How many cases a method failed on."""
        return sum(name == method for name, _, _ in self.failures)

    def __str__(self) -> str:
        from .render import markdown

        return markdown(self)


def reference_of(methods: Sequence[Method], reference: str | None) -> str:
    """The row asked for; by default the first that does something."""
    names = [method.name for method in methods]
    if reference is not None and reference not in names:
        raise unknown("reference", reference, names)
    return reference or next((method.name for method in methods if not method.still), names[0])


def tabulate(records: Mapping[tuple[str, str], dict], cases: Sequence[Case], methods: Sequence[Method],
             measures: Sequence[str], reference: str, notes: Sequence[str] = ()) -> Table:
    """The table of all records.

    Parameters
    ----------
    records : mapping
        (method, case) -> record, as `runner.run_all` gives them.
    cases, methods : sequence
        In their order.
    measures : sequence of str
        Names in `MEASURES`.
    reference : str
        The row that others are compared with.
    notes : sequence of str
        For the foot.
    """
    values = {(m.name, name): {} for m in methods for name in measures}
    for (method, case), record in records.items():
        for name, value in ((record.get("scores") or {}).get("measures", {})).items():
            if name in measures and np.isfinite(number(value)):
                values[method, name][case] = number(value)
    shown = tuple(name for name in measures if any(values[m.name, name] for m in methods))
    tests = _tests(values, cases, methods, shown, reference)
    stars = {(t["method"], t["measure"]) for t in tests if t["p_holm"] < LEVEL}
    best = {(m, name) for name in shown for m in _best(values, methods, name)}
    cells = {}
    for (method, name), row in values.items():
        if row:
            relative = _relative(row, values[reference, name]) if name in ("seconds", "cpu", "memory") else None
            cells[method, name] = Cell(**describe(list(row.values())), best=(method, name) in best, relative=relative,
                                       star=(method, name) in stars)
    lost = {m.name: sum(len(found["scores"]["lost"]) for (method, _), found in records.items()
                        if method == m.name and found.get("scores")) for m in methods}
    labels = {key: {label: {name: number(value) for name, value in row.items()}
                    for label, row in found["scores"]["labels"].items()}
              for key, found in records.items() if found.get("scores")}
    failures = [(*key, found["error"]) for key, found in records.items() if "error" in found]
    return Table(tuple(m.name for m in methods), shown, tuple(cases), reference, cells, values, labels, tests, failures,
                 {name: count for name, count in lost.items() if count}, dict(records), list(notes))


def _best(values, methods, name) -> list[str]:
    """The methods with the best mean among those with most cases."""
    measure = MEASURES[name]
    rows = {m.name: values[m.name, name] for m in methods if values[m.name, name] and not (measure.cost and m.still)}
    if not measure.better or len(rows) < 2:
        return []
    most = max(map(len, rows.values()))
    means = {method: round(measure.better * float(np.mean(list(row.values()))), measure.digits)
             for method, row in rows.items() if len(row) == most}
    return [method for method, mean in means.items() if mean == max(means.values())]


def _relative(row: Mapping[str, float], of: Mapping[str, float]) -> float | None:
    """Geometric mean of the ratios over common cases."""
    ratios = [row[case] / of[case] for case in row if of.get(case, 0) > 0 and row[case] > 0]
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else None


def _tests(values, cases, methods, measures, reference) -> list[dict]:
    """Every row against the reference in every tested measure, over common cases, those of a subject averaged."""
    found = []
    for name in measures:
        if not MEASURES[name].tested:
            continue
        for method in (m.name for m in methods if m.name != reference):
            row, of = values[method, name], values[reference, name]
            common = [case for case in cases if case.name in row and case.name in of]
            subjects = [case.subject or f"case {case.name}" for case in common]
            if len(set(subjects)) < LEAST:
                continue
            a, b = (cluster_means([r[case.name] for case in common], subjects) for r in (row, of))
            test = paired(a, b, resamples=RESAMPLES)
            entry = {"measure": name, "method": method, "reference": reference, "cases": len(common),
                     "n": len(a), "zeros": test["wilcoxon"]["zeros"], "w_plus": test["wilcoxon"]["w_plus"],
                     "w_minus": test["wilcoxon"]["w_minus"], "p": test["wilcoxon"]["p"],
                     "p_from": test["wilcoxon"]["method"], "t": test["t_test"]["t"], "p_t": test["t_test"]["p"]}
            for effect in ("median_difference", "rank_biserial", "cohen_dz"):
                entry.update({effect: test[effect]["value"], f"{effect}_low": test[effect]["low"],
                              f"{effect}_high": test[effect]["high"]})
            found.append(entry)
    for entry, p in zip(found, holm([entry["p"] for entry in found]) if found else ()):
        entry["p_holm"] = float(p)
    return found

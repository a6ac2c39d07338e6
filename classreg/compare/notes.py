"""What stands under the table: what was run, on what, how it was measured, and how rows were tested.

Must not import: metrics, optimisers, engine, faces.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from .cases import Case
from .external import fields_of
from .methods import Method
from .running import SCOPES
from .scores import COST, MEASURES, conventions
from .table import LEAST, LEVEL, RESAMPLES, Table

SHOWN = 300  # characters of a command or a list of options


def notes_of(table: Table, methods: Sequence[Method], threads: int) -> list[str]:
    """The sentences, each a paragraph."""
    masked = sum(case.fixed_mask is not None for case in table.cases)
    found = [_reading(table), *conventions(table.measures, masked, len(table.cases)), *_costs(table, methods, threads)]
    found += [_tests(table)] if table.tests else [
        f"No row is tested: a test needs {LEAST} cases (or subjects) that both rows have."]
    if table.lost and set(table.measures) & {"hd95", "assd"}:
        found.append("Labels that one map only has after the warp (0 in Dice, left out of HD95 and ASSD): "
                     + ", ".join(f"{name} {count}" for name, count in table.lost.items()) + ".")
    found += [_method(method, table) for method in methods]
    return found + [_machine(table, threads)]


def _reading(table: Table) -> str:
    count = len(table.cases)
    text = (f"{count} case{'s' * (count != 1)}. Each cell: mean ± SD (median), number of cases; SD with n - 1. Bold: "
            f"the best mean of the rows with most cases")
    cost = [MEASURES[name].head for name in table.measures if MEASURES[name].cost]
    still = any(record.get("settings") == {"baseline": "none"} for record in table.records.values())
    if still and cost:
        text += f" (none has no part in {', '.join(cost)})"
    if table.failures:
        text += "; a case that a method failed on is in none of its numbers, and how many these are stands in its row"
    return text + "."


def _costs(table: Table, methods: Sequence[Method], threads: int) -> list[str]:
    if not set(table.measures) & set(COST):
        return []
    scopes: dict[str, list[str]] = {}
    for method in methods:
        for scope in {found["scope"] for (name, _), found in table.records.items() if name == method.name
                      and "scope" in found}:
            scopes.setdefault(scope, []).append(method.name)
    parts = [f"{', '.join(names)}: {SCOPES[scope]}" for scope, names in scopes.items()]
    own = " Kernels of classreg are compiled or loaded before the clock starts, by the same plan on a tiny pair." \
        if "call" in scopes else ""
    return [f"Time is wall time, CPU time that of all threads, peak memory what the process holds resident at most; "
            f"one run each, with {threads} thread{'s' * (threads != 1)} allowed. Measured of {'; '.join(parts)}.{own} "
            f"Beside the number of cases: geometric mean over common cases of the ratio to {table.reference}."]


def _tests(table: Table) -> str:
    count, zeros = len(table.tests), sum(test["zeros"] for test in table.tests)
    clustered = any(test["n"] < test["cases"] for test in table.tests)
    most = max(test["n"] for test in table.tests)
    floor = 2.0 ** (1 - most)
    return (f"Tested against {table.reference} over the cases that both rows have"
            f"{', those of one subject averaged' if clustered else ''}: Wilcoxon's signed-rank test, two-sided, exact "
            f"up to 25 differences; differences of 0 are dropped ({zeros} in all tests), equal ones share the mean of "
            f"their ranks; p adjusted by Holm over all {count} tests of the table. *: adjusted p < {LEVEL}. With "
            f"{most} pairs no p can be below {floor:.2g} before it is adjusted. The t-test is paired; intervals are 95 "
            f"% BCa bootstrap ({RESAMPLES} resamples); similarity, time and memory are not tested.")


def _method(method: Method, table: Table) -> str:
    """One row: what it is, its options, its versions, whether masks reached it."""
    records = [found for (name, _), found in table.records.items() if name == method.name]
    kind, spec = method.kind, dict(method.spec)
    what = spec.pop(kind)
    if kind == "baseline":
        from ..baselines import BASELINES

        text = f"baseline {what} {BASELINES[what].version}, after {BASELINES[what].imitates}"
    else:
        text = f"{kind} {what if isinstance(what, str) else ' '.join(map(str, what))}"
    spec.pop("version", None)
    options = json.dumps(spec)[1:-1].replace('"', "") if spec else ""
    text = text[:SHOWN] + ("..." if len(text) > SHOWN else "") + (f"; {options[:SHOWN]}" if options else "")
    versions: Mapping[str, str] = next((found["versions"] for found in records if "versions" in found), {})
    if "program" in versions:
        text += f"; version {versions['program']}"
    if kind == "command" and any(case.fixed_mask or case.moving_mask for case in table.cases):
        takes = any(method.words[1:3]) or any(name.endswith("_mask") for name in fields_of(method.words[0]))
        text += "; masks are passed" if takes else "; masks are not passed"
    return f"{method.name}: {text}."


def _machine(table: Table, threads: int) -> str:
    versions = next((found["versions"] for found in table.records.values()
                     if "classreg" in found.get("versions", {})), {})
    began = [found["began"] for found in table.records.values() if "began" in found]
    days = sorted({datetime.fromtimestamp(when, timezone.utc).date().isoformat() for when in began})
    when = f" Run {' to '.join(dict.fromkeys((days[0], days[-1])))}." if days else ""
    names = ", ".join(f"{name} {number}" for name, number in versions.items() if name != "baseline")
    names = ", ".join([f"Python {platform.python_version()}", *filter(None, [names])])
    plans = " The plan of each run, fully resolved, is in its JSON file." if "call" in {
        found.get("scope") for found in table.records.values()} else ""
    return f"{processor()}, {os.cpu_count()} cores; {names}.{when}{plans}"


def processor() -> str:
    """The name of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def settings_of(cases: Sequence[Case], methods: Sequence[Method], measures: Sequence[str], reference: str,
                threads: int) -> dict:
    """What was compared, as plain data."""
    return {"cases": [case.name for case in cases], "methods": {method.name: method.spec for method in methods},
            "measures": list(measures), "reference": reference, "threads": threads}

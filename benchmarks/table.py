"""The table of a paper from one command: baselines, models and other programs on real pairs with a known truth.

    CLASSREG_DATA=FOLDER GREEDY_PYTHON=... ANTS_PYTHON=... ELASTIX_PYTHON=... python benchmarks/table.py
        [--cases pairs|slices|pictures] [--only CASE ...] [--methods NAME ...] [--runs FOLDER] [--time-limit S] [--list]

`pairs` are the 3-D pairs of CLASSREG_DATA that have labels or landmarks, `slices` ten 2-D slices of ten subjects with
manual labels, each registered to the next, `pictures` plain pictures with landmarks or curves (see `table_cases`). The
variables say which Python holds which program (see `guests`); one that is not set is left out, and named. No method is
given a mask, since the programs are run without.

The runs go to a folder of their own (--runs), from which a comparison that was stopped goes on; the table goes to
`results/table.md`, or `table-slices.md` and `table-pictures.md`, the numbers beside it as CSV. Leave the machine alone
meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from table_cases import CASES, write_cases

from classreg.baselines import BASELINES
from classreg.compare import MEASURES, compare
from classreg.compare.methods import read_methods
from classreg.compare.render import markdown, scores_csv

HERE = Path(__file__).parent

#: rows of this engine beside its baselines
OURS = {"classreg-affine": "model:affine", "classreg-bspline": "model:bspline", "classreg-greedy": "model:greedy",
        "classreg-svf": "model:svf"}

#: the row that the others are tested against
REFERENCE = "classreg-bspline"

#: what is shown of every case, if it has it
EACH = ("dice", "tre", "hd95", "folding")


def methods() -> tuple[dict, list[str]]:
    """All rows, and the programs that no variable names a Python for."""
    file = HERE / "guests" / "guests.json"
    guests, missing = json.loads(file.read_text()), []
    for name in list(guests):
        variable = f"{name.split('-')[0].upper()}_PYTHON"
        if not os.environ.get(variable):
            missing.append(f"{name} ({variable})")
            del guests[name]
    kept = {method.name: method for method in read_methods(guests, file.parent)} if guests else {}
    return {**{name: f"baseline:{name}" for name in BASELINES}, **OURS, **kept}, missing


def case_by_case(table) -> str:
    """Every case in rows of its own: means over organs say little."""
    parts = []
    for name in (name for name in EACH if name in table.measures):
        digits = MEASURES[name].digits
        having = [case.name for case in table.cases if any(case.name in table.values[m, name] for m in table.methods)]
        lines = [["method", *having], ["---", *["--:"] * len(having)]]
        for method in table.methods:
            row = table.values[method, name]
            lines.append([method, *(f"{row[case]:.{digits}f}" if case in row else "" for case in having)])
        unit = f", {MEASURES[name].unit}" if MEASURES[name].unit else ""
        parts.append(f"## {MEASURES[name].head}{unit}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts)


def without_folders(text: str) -> str:
    """Folders of this machine are nobody's business."""
    return re.sub(r"(?<![\w.])(/[\w.-]+)+/", "", text)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", choices=CASES, default="pairs")
    parser.add_argument("--only", nargs="+", help="cases to run")
    parser.add_argument("--methods", nargs="+", help="rows to run")
    parser.add_argument("--runs", type=Path, default=Path("table-runs"), help="folder of the runs")
    parser.add_argument("--time-limit", type=float, default=1800, help="seconds of one run")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the table")
    parser.add_argument("--list", action="store_true", help="print the cases and rows there are, and stop")
    args = parser.parse_args()
    data = Path(os.environ.get("CLASSREG_DATA", ""))
    if not os.environ.get("CLASSREG_DATA") or not (data / "pairs").is_dir():
        parser.error(f"{data / 'pairs'} is no folder: set CLASSREG_DATA to the folder that holds the pairs")
    folder = args.runs / args.cases
    cases, (rows, missing) = CASES[args.cases](data, folder), methods()
    if args.list:
        print("cases:", ", ".join(case["case"] for case in cases), "\nrows:", ", ".join(rows))
        return
    for given, known, what in ((args.only, [case["case"] for case in cases], "case"), (args.methods, rows, "row")):
        for name in given or ():
            if name not in known:
                parser.error(f"there is no {what} {name!r}; there are {', '.join(known)}")
    cases = [case for case in cases if not args.only or case["case"] in args.only]
    rows = {name: row for name, row in rows.items() if not args.methods or name in args.methods}

    def tell(event):
        print(f"{event.done}/{event.total} {event.what}: {event.method}, {event.case} {event.text}", file=sys.stderr)

    listed = [row if not isinstance(row, str) else {name: row} for name, row in rows.items()]
    table = compare(write_cases(cases, folder / "cases.csv"), listed, folder, time_limit=args.time_limit, callback=tell,
                    reference=REFERENCE if REFERENCE in rows else None)
    left_out = f"\nLeft out, since no Python is named for them: {', '.join(missing)}.\n" if missing else ""
    page = without_folders(f"# Table of {args.cases}\n\n{markdown(table)}{left_out}\n{case_by_case(table)}\n")
    stem = "table" if args.cases == "pairs" else f"table-{args.cases}"
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / f"{stem}.md").write_text(page, encoding="utf-8")
    (args.results / f"{stem}.csv").write_text(scores_csv(table), encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()

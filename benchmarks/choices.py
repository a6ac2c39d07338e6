"""Which metric, regulariser, optimiser and model for which images: real pairs, what each choice reaches on them.

    CLASSREG_DATA=FOLDER python benchmarks/choices.py [--only TABLE ...] [--cases NAME ...] [--resume] [--output FOLDER]

CLASSREG_DATA is the folder with the pairs. Four tables hold all else at its defaults and vary one part: `metrics`
(deformable), `regularisers`, `optimisers`, `models`. The table `contrasts` takes images of two contrasts that lie in
one space, starts a rigid registration from `DRAWS` random motions, the same for every metric, and gives the distance
in mm of where foreground points end from where they belong; where that is not known, from the median of where they end.
Dice is a mean over labels (those of `evaluation_labels` where the case names some), TRE a mean over landmarks in mm;
folds in percent, of the whole grid. Writes `choices.json` after each row and the tables as `choices.md`; `--resume`
keeps the rows that are there, each with the commit that it is from. Seconds are CPU time of all threads, one run,
kernels loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import classreg
from classreg.evaluate import dice, folding, sd_log_jacobian, tre
from classreg.io import load
from classreg.metrics import METRICS
from classreg.transforms.linear import euler_to_matrix

sys.path.insert(0, str(Path(__file__).parent))
from kernels import machine

LABELLED = ("heart-cine", "lung-h1", "brain-oasis")
CASES = ("heart-cine", "lung-h1", "liver-mr-a", "lung-ct")

#: pairs on which metrics or models are compared too; "at 2 mm" stops at that level, which takes a third of the time
MORE = {"metrics": ("liver-mr-b", "brain-oasis at 2 mm", "brain-oasis"), "models": ("brain-oasis",)}

#: pair of contrasts -> files of fixed and moving below the data folder, whether they lie in one space
CONTRASTS = {
    "CT, T1": ("pairs/brain-ct-mr/fixed.nii.gz", "pairs/brain-ct-mr/moving.nii.gz", True),
    "T1, CT": ("pairs/brain-ct-mr/moving.nii.gz", "pairs/brain-ct-mr/fixed.nii.gz", True),
    "T1, T2": ("groups/brain-t1-t2-pd/t1.nii.gz", "groups/brain-t1-t2-pd/t2.nii.gz", True),
    "T1, PD": ("groups/brain-t1-t2-pd/t1.nii.gz", "groups/brain-t1-t2-pd/pd.nii.gz", True),
    "T1, EPI": ("pairs/brain-t1-epi/fixed.nii.gz", "pairs/brain-t1-epi/moving.nii.gz", False),
}

#: random starts per pair: up to this turn about each axis, degrees, and this shift along each, mm
DRAWS, TURN, SHIFT = 3, 10.0, 10.0

#: a start that ends farther than this from the truth has failed, mm
FAILED = 3.0

#: metrics that compare intensities of two contrasts; `composite` is its default, lncc and mi
ACROSS = tuple(name for name in METRICS if name not in ("ssd", "sad", "ncc"))

MODELS = ("affine", "polyaffine", "bspline", "dense", "greedy", "svf", "symmetric")

#: energies of a B-spline, each beside the barrier against folds
ENERGIES = ("diffusion", "bending", "curvature", "elastic", "tv", "jacobian")
OPTIMISERS = ("descent", "lbfgs", "adam", "asgd", "newton_cg")


def rows():
    """(table, case, choice) of all rows."""
    for pair in CONTRASTS:
        yield from (("contrasts", pair, name) for name in ACROSS)
    for table, choices in (("metrics", METRICS), ("regularisers", ENERGIES), ("optimisers", OPTIMISERS),
                           ("models", MODELS)):
        for case in (*CASES, *MORE.get(table, ())):
            yield from ((table, case, name) for name in choices)


def motions(centre: np.ndarray) -> list[np.ndarray]:
    """World matrices of the random starts, about a point."""
    rng, out = np.random.default_rng(1), []
    for _ in range(DRAWS):
        turn = euler_to_matrix(np.deg2rad(rng.uniform(-TURN, TURN, 3)))
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = turn, centre - turn @ centre + rng.uniform(-SHIFT, SHIFT, 3)
        out.append(matrix)
    return out


def contrasts(folder: Path, pair: str, metric: str) -> dict:
    """Where random starts end."""
    fixed, moving, together = CONTRASTS[pair]
    fixed, moving = load(folder / fixed), load(folder / moving)
    points = fixed.grid.points().reshape(-1, 3)[fixed.array.ravel() > fixed.array.mean()][::997]
    start = time.process_time()
    ends = []
    for matrix in motions(points.mean(0)):
        result = classreg.register(fixed, moving, model="rigid", metric=metric, init=matrix)
        ends.append(result.transform.map_points(points))
    truth = points if together else np.median(ends, axis=0)
    errors = [float(np.linalg.norm(e - truth, axis=1).mean()) for e in ends]
    return {"median mm": float(np.median(errors)), "largest mm": max(errors),
            "failed": sum(e > FAILED for e in errors), "cpu s": (time.process_time() - start) / DRAWS}


def with_energy(plan, choice: str):
    """The plan with one energy and the barrier against folds in its last stage, `jacobian` with bending."""
    stage = plan.stages[-1]
    h2 = (stage.transform["spacing"] / 4) ** 2  # the weights of second derivatives are in mm^2
    weights = {"diffusion": 0.5, "bending": h2, "curvature": h2, "elastic": 0.1, "tv": 0.1, "jacobian": 0.1}
    energies = [{"name": choice, "weight": weights[choice]}]
    if choice == "jacobian":
        energies.append({"name": "bending", "weight": h2})
    barrier = [r for r in stage.regularisers if r["name"] == "volume"]
    return replace(plan, stages=(*plan.stages[:-1], replace(stage, regularisers=(*energies, *barrier))))


def pair_row(folder: Path, table: str, case: str, choice: str) -> dict:
    """One registration of a pair, judged by its labels or landmarks."""
    case, _, coarse = case.partition(" at ")
    here = folder / "pairs" / case
    fixed, moving = load(here / "fixed.nii.gz"), load(here / "moving.nii.gz")
    asked = {"model": "bspline"} if table == "regularisers" else {"model": "bspline", table[:-1]: choice}
    plan = classreg.plan(fixed, moving, levels=(8, 4, 2) if coarse else None, **asked)
    plan = with_energy(plan, choice) if table == "regularisers" else plan
    start = time.process_time()
    result = classreg.register(fixed, moving, plan=plan)
    seconds = time.process_time() - start
    transform, out = result.transform, {}
    if case in LABELLED:
        there = classreg.apply(transform, here / "moving_labels.nii.gz", fixed, interpolation="label").array
        named = json.loads((here / "case.json").read_text()).get("evaluation_labels")
        out["Dice"] = float(np.mean(list(dice(load(here / "fixed_labels.nii.gz").array, there, named).values())))
    else:
        a, b = (np.genfromtxt(here / f"{n}_points.csv", delimiter=",", skip_header=1) for n in ("fixed", "moving"))
        out["TRE mm"] = tre(transform.map_points(a), b)["mean"]
    det = transform.jacobian_determinant()
    return {**out, "folds %": folding(det), "SD log J": sd_log_jacobian(det), "cpu s": seconds}


def tables(report: dict) -> str:
    """Markdown: per table a line per choice, a column per case with its figure (folds in brackets where there are)."""
    m, out = report["machine"], []
    commits = dict.fromkeys(r["commit"] for r in report["rows"])
    out.append(f"{m['processor']}, {m['cores']} cores, Python {m['python']}, commit {', '.join(commits)}, {m['date']}.")
    out.append("Cells: Dice, or TRE in mm; standard deviation of log J; folds if there are any; CPU seconds. "
               "Of contrasts: median distance in mm from the truth (of T1, EPI, where none is known, from the median "
               "of where a metric's own starts end), and CPU seconds. At 2 mm: the finest level was left out.")
    for table in dict.fromkeys(r["table"] for r in report["rows"]):
        some = [r for r in report["rows"] if r["table"] == table]
        cases = list(dict.fromkeys(r["case"] for r in some))
        out += ["", f"## {table}", "", "| |" + "|".join(cases) + "|", "|---|" + "--:|" * len(cases)]
        for choice in dict.fromkeys(r["choice"] for r in some):
            cells = {r["case"]: _cell(r) for r in some if r["choice"] == choice}
            out.append(f"| {choice} |" + "|".join(cells.get(c, "") for c in cases) + "|")
    return "\n".join(out)


def _cell(row: dict) -> str:
    if "error" in row:
        return row["error"].split(";")[0][:60]
    if "median mm" in row:
        failed = f", {row['failed']} of {DRAWS} failed" if row["failed"] else ""
        return f" {row['median mm']:.2f} mm{failed}, {row['cpu s']:.0f} s"
    main = f"{row['Dice']:.3f}" if "Dice" in row else f"{row['TRE mm']:.2f} mm"
    folds = f", folds {row['folds %']:.2g} %" if row["folds %"] else ""
    return f" {main}, {row['SD log J']:.2f}{folds}, {row['cpu s']:.0f} s"


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("contrasts", "metrics", "regularisers", "optimisers", "models")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--cases", nargs="+", help="some of the pairs")
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    if "CLASSREG_DATA" not in os.environ:
        parser.error("set CLASSREG_DATA to the folder with the pairs")
    folder, file = Path(os.environ["CLASSREG_DATA"]), args.output / "choices.json"
    args.output.mkdir(parents=True, exist_ok=True)
    before = json.loads(file.read_text()) if args.resume and file.exists() else {"rows": []}
    kept = [{"commit": before["machine"]["commit"], **row} for row in before["rows"]]
    report = {"machine": machine(len(os.sched_getaffinity(0))), "rows": kept}
    done = {(r["table"], r["case"], r["choice"]) for r in kept if "error" not in r}
    order = {row: k for k, row in enumerate(rows())}
    for row in order:
        table, case, choice = row
        if row in done or table not in args.only or (args.cases and case not in args.cases):
            continue
        try:
            found = contrasts(folder, case, choice) if table == "contrasts" else pair_row(folder, *row)
        except classreg.ClassregError as error:
            found = {"error": str(error)}
        print(*row, found, flush=True)
        report["rows"] = [r for r in report["rows"] if (r["table"], r["case"], r["choice"]) != row]
        report["rows"].append({"table": table, "case": case, "choice": choice, "commit": report["machine"]["commit"],
                               **found})
        report["rows"].sort(key=lambda r: order.get((r["table"], r["case"], r["choice"]), len(order)))
        file.write_text(json.dumps(report, indent=1) + "\n")
        (args.output / "choices.md").write_text(f"# Choices\n\n{tables(report)}\n")


if __name__ == "__main__":
    main()

"""What an iteration costs with each metric, relative to ssd.

    python benchmarks/metrics.py [--metrics NAME ...] [--shape Z Y X] [--rounds N] [--steps N] [--threads N]
                                 [--quick] [--output FOLDER]

An iteration is a whole step of `greedy`: warp, metric, force and curvature, smoothing, composition, at full resolution
on two generated heads. Metrics take turns in one process, round by round, always from the same start: each turn
prepares buffers with one step that does not count, then times `--steps`. A ratio is taken within a round, so that drift
of the machine cancels, and the median over rounds is reported, with the least and the greatest. Time of the process
counts (all threads together; one by default), wall time stands beside it. `--quick` is a smoke test: a small volume.
Writes `metrics.json` (with machine, versions, commit, date, load) and the table `metrics.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from kernels import machine
from measuring import heads

from classreg.backend import Workspace
from classreg.metrics import METRICS
from classreg.metrics.composite import DEFAULT
from classreg.models import build_stage, deformable_stage
from classreg.objective import Objective
from classreg.pyramid import normalised

SHAPE, QUICK = (160, 192, 224), (24, 28, 32)

#: options beside the defaults that are measured too
VARIANTS = {"mi, box": {"name": "mi", "window": "box"}, "mind, exact": {"name": "mind", "mode": "exact"}}

#: metrics in the order of the table; of a composite its default
NAMES = sorted((*METRICS, *VARIANTS), key=lambda name: list(METRICS).index(name.split(",")[0]))


def turn(objective, optimiser, steps: int, threads: int) -> dict[str, float]:
    """Seconds per step of the process and of the clock, after one step that is not counted."""
    with Workspace(threads):
        theta = objective.transform.refine(objective.transform.identity(), objective.fixed.grid)
        state = optimiser.init(objective, theta)
        theta = optimiser.step(objective, theta, state)
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(steps):
            theta = optimiser.step(objective, theta, state)
        return {"cpu": (time.process_time() - cpu) / steps, "wall": (time.perf_counter() - wall) / steps}


def prepared(name: str, fixed, moving):
    """Objective and optimiser of `greedy` at full resolution with a metric's defaults."""
    stage = deformable_stage("greedy", fixed.grid, VARIANTS.get(name, {"name": name}), [1.0])
    transform, metric, regularisers, _, optimiser = build_stage(stage, fixed.grid, np.eye(fixed.grid.ndim + 1))
    return Objective(metric.describe(fixed), metric.describe(moving), transform, metric, regularisers), optimiser


def measure(names, shape, rounds: int, steps: int, threads: int) -> list[dict]:
    """Rows of the report: per metric the times of all rounds, and what they are of ssd's in the same round."""
    names = ["ssd", *(n for n in names if n != "ssd")]
    with Workspace(threads):
        fixed, moving = (normalised(image) for image in heads(shape))
        parts = {name: prepared(name, fixed, moving) for name in names}
    times = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            times[name].append(turn(*parts[name], steps, threads))
    rows = []
    for name in names:
        row = {"metric": name}
        for clock in ("cpu", "wall"):
            row[clock] = [t[clock] for t in times[name]]
            row[f"{clock}_ratio"] = [t[clock] / base[clock] for t, base in zip(times[name], times["ssd"])]
        rows.append(row)
    return rows


def table(report: dict) -> str:
    """The report as Markdown."""
    head, size = report["machine"], " x ".join(map(str, report["shape"]))
    lines = [f"Whole iterations of greedy on heads of {size} voxels, {head['processor']}, {head['threads']} thread(s) "
             f"of {head['cores']} cores, commit {head['commit']}, {head['date']}, load {head['load']:.1f} before. "
             f"Medians of {report['rounds']} rounds of {report['steps']} steps; ratios are to ssd in the same round, "
             "in brackets the least and the greatest.", "",
             "| metric | process s | times ssd | wall s | times ssd |", "|---|--:|--:|--:|--:|"]
    for row in report["rows"]:
        cells = [row["metric"] if row["metric"] != "composite" else f"composite, {' + '.join(DEFAULT)}"]
        for clock in ("cpu", "wall"):
            ratio = row[f"{clock}_ratio"]
            cells += [f"{np.median(row[clock]):.2f}",
                      f"{np.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, metavar=("Z", "Y", "X"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help=f"shape {QUICK}")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    shape = QUICK if args.quick else tuple(args.shape)
    measure(args.metrics, QUICK, 1, 1, args.threads)  # compiles
    report = {"machine": machine(args.threads), "shape": list(shape), "rounds": args.rounds, "steps": args.steps,
              "rows": measure(args.metrics, shape, args.rounds, args.steps, args.threads)}
    (args.output / "metrics.json").write_text(json.dumps(report, indent=1) + "\n")
    (args.output / "metrics.md").write_text(f"# Metrics\n\n{table(report)}\n")
    print(table(report))


if __name__ == "__main__":
    main()

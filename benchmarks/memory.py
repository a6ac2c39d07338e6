"""How much memory registrations take, beside what `classreg.memory` predicts.

    python benchmarks/memory.py [--models NAME ...] [--metrics NAME ...] [--sizes N ...] [--cases NAME ...]
                                [--masks] [--iterations N] [--output FOLDER]

Every measurement is a process of its own: images are read, the high-water mark of its memory (VmHWM) is reset, the
images are registered, and the mark is read again, so that what counts is images in memory -> transform in memory.
Sizes are cubes of generated heads, cases are folders of `$CLASSREG_DATA/pairs`. Kernels are compiled before the first
measurement. Iterations are few: buffers are all there after the first of each level, except the pairs of L-BFGS, of
which `--iterations` (default 7) fills a memory of 6. Writes `memory.json` and the table `memory.md`, sorted by how
far the prediction is off. Linux only.

After a change of buffers: run this, compare the column `predicted / measured`, and correct the tables at the top of
`classreg/memory.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from kernels import machine
from measuring import cube, high_water, report_of, reset_high_water, warm_kernels

MODELS = ("translation", "rigid", "similarity", "affine", "polyaffine", "bspline", "dense", "svf", "greedy")
METRICS = ("ssd", "ncc", "lncc", "mi")


def worker(spec: dict) -> dict:
    """One registration, measured; runs in its own process."""
    from classreg import api, memory
    from classreg.io import load

    fixed, moving = load(spec["fixed"]), load(spec["moving"])
    if spec["masks"]:
        fixed, moving = (replace(image, weight=image.array > image.array.mean()) for image in (fixed, moving))
    options = {"model": spec["model"], "metric": spec["metric"]}
    plan = api.plan(fixed, moving, **options)
    stages = plan.to_dict()
    for stage in stages["stages"]:
        for level in stage["levels"]:
            level["iterations"] = min(level["iterations"], spec["iterations"])
    plan = type(plan).from_dict(stages)
    reset_high_water()
    predicted = memory.predict(plan, fixed, moving)
    api.register(fixed, moving, plan=plan, threads=spec["threads"])
    return {"predicted": predicted.bytes, "measured": high_water(), "phase": predicted.phase}


def table(report: dict) -> str:
    """The report as Markdown."""
    rows = [r for r in report["rows"] if "error" not in r]
    rows.sort(key=lambda r: abs(r["predicted"] / r["measured"] - 1), reverse=True)
    head = report["machine"]
    lines = [f"{head['processor']}, numpy {head['numpy']}, commit {head['commit']}, {head['date']}", "",
             "| case | model | metric | measured MB | predicted MB | predicted / measured | where the peak is |",
             "|---|---|---|--:|--:|--:|---|"]
    for r in rows:
        lines.append(f"| {r['case']} | {r['model']} | {r['metric']}{' masks' * r['masks']} | "
                     f"{r['measured'] / 1e6:.0f} | {r['predicted'] / 1e6:.0f} | {r['predicted'] / r['measured']:.2f} | "
                     f"{r['phase']} |")
    lines += [f"{r['case']} {r['model']} {r['metric']}: {r['error']}" for r in report["rows"] if "error" in r]
    return "\n".join(lines)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--metrics", nargs="+", default=METRICS)
    parser.add_argument("--sizes", nargs="*", type=int, default=(64, 128))
    parser.add_argument("--cases", nargs="*", default=(), help="folders of $CLASSREG_DATA/pairs")
    parser.add_argument("--masks", action="store_true", help="with a mask on each image")
    parser.add_argument("--iterations", type=int, default=7, help="at most so many per level")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(worker(json.loads(args.worker))))
        return
    args.output.mkdir(parents=True, exist_ok=True)
    warm_kernels()
    report = {"machine": machine(args.threads), "rows": []}
    with tempfile.TemporaryDirectory() as room:
        images = {f"{n} cubed": cube(n, Path(room)) for n in args.sizes}
        for name in args.cases:
            folder = Path(os.environ["CLASSREG_DATA"]) / "pairs" / name
            images[name] = {"fixed": str(folder / "fixed.nii.gz"), "moving": str(folder / "moving.nii.gz")}
        for case, files in images.items():
            for model in args.models:
                for metric in args.metrics:
                    row = {"case": case, "model": model, "metric": metric, "masks": args.masks}
                    spec = {**row, **files, "iterations": args.iterations, "threads": args.threads}
                    report["rows"].append({**row, **report_of(__file__, spec)})
                    (args.output / "memory.json").write_text(json.dumps(report, indent=1) + "\n")
                    (args.output / "memory.md").write_text(f"# Memory\n\n{table(report)}\n")
    print(table(report))


if __name__ == "__main__":
    main()

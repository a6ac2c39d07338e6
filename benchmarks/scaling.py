"""Time and memory against the number of voxels and of threads.

    python benchmarks/scaling.py [--sizes N ...] [--models NAME ...] [--threads N ...] [--quick] [--output FOLDER]

Every measurement is a process of its own that registers two generated heads of N x N x N voxels, float32, with the
defaults of a model: seconds from images in memory to transform in memory, kernels loaded before, and the high-water
mark of the process meanwhile. `--quick` is a smoke test: two small sizes. Writes `scaling.json` (with machine,
versions, commit, date, load) and the table `scaling.md`. Linux only.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from kernels import machine
from measuring import cube, high_water, report_of, reset_high_water, warm_kernels

SIZES, QUICK = (64, 96, 128, 192, 256, 384), (32, 48)


def worker(spec: dict) -> dict:
    """One registration, measured; runs in its own process."""
    import classreg
    from classreg.datasets import head_phantom
    from classreg.io import load

    tiny = head_phantom(8.0)
    classreg.register(tiny.fixed, tiny.moving, model=spec["model"], metric=spec["metric"], iterations=1)
    fixed, moving = load(spec["fixed"]), load(spec["moving"])
    reset_high_water()
    start = time.perf_counter()
    result = classreg.register(fixed, moving, model=spec["model"], metric=spec["metric"], threads=spec["threads"])
    return {"seconds": time.perf_counter() - start, "peak": high_water(), "evaluations": len(result.history),
            "finest": sum(r.stage == spec["model"] and r.level == r.levels for r in result.history)}


def table(report: dict) -> str:
    """The report as Markdown."""
    head = report["machine"]
    lines = [f"Heads of N x N x N voxels, {head['processor']}, {head['cores']} cores, commit {head['commit']}, "
             f"{head['date']}, load {head['load']:.1f} before. `us / voxel` is the time over the voxels of the fixed "
             "image; `evaluations` counts iterations of all stages and levels, and in brackets those at full "
             "resolution.", "",
             "| model | N | voxels (million) | threads | s | us / voxel | peak MB | bytes / voxel | evaluations |",
             "|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for r in report["rows"]:
        size = r["size"] ** 3
        if "error" in r:
            lines.append(f"| {r['model']} | {r['size']} | {size / 1e6:.2f} | {r['threads']} | {r['error']} | | | | |")
            continue
        lines.append(f"| {r['model']} | {r['size']} | {size / 1e6:.2f} | {r['threads']} | {r['seconds']:.1f} | "
                     f"{1e6 * r['seconds'] / size:.2f} | {r['peak'] / 1e6:.0f} | {r['peak'] / size:.0f} | "
                     f"{r['evaluations']} ({r['finest']}) |")
    return "\n".join(lines)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, help=f"voxels per axis, by default {SIZES}")
    parser.add_argument("--models", nargs="+", default=("greedy", "bspline"))
    parser.add_argument("--metric", default="lncc")
    parser.add_argument("--threads", nargs="+", type=int, default=(1, 2))
    parser.add_argument("--quick", action="store_true", help=f"sizes {QUICK}")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(worker(json.loads(args.worker))))
        return
    args.output.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(max(args.threads)), "metric": args.metric, "rows": []}
    warm_kernels()
    for size in args.sizes or (QUICK if args.quick else SIZES):
        with tempfile.TemporaryDirectory() as room:
            files = cube(size, Path(room))
            for model in args.models:
                for threads in args.threads:
                    row = {"model": model, "size": size, "threads": threads}
                    report["rows"].append({**row, **report_of(__file__, {**row, **files, "metric": args.metric})})
                    report["rows"].sort(key=lambda r: (r["model"], r["size"], r["threads"]))
                    (args.output / "scaling.json").write_text(json.dumps(report, indent=1) + "\n")
                    (args.output / "scaling.md").write_text(f"# Scaling\n\n{table(report)}\n")
    print(table(report))


if __name__ == "__main__":
    main()

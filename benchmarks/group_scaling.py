"""What registrations of groups cost against the number of images, and how large groups may be.

    python benchmarks/group_scaling.py [--methods NAME ...] [--counts N ...] [--rounds K] [--no-capacity] [--quick]
                                       [--output FOLDER]

Slices of generated heads, 128 x 128, moved rigidly, are registered by iterations of Adam at full resolution with one
thread, each in a process of its own. The cost of an iteration is the least CPU time between two that follow each other
(other work on the machine makes it longer, nothing makes it shorter), best of some rounds; memory is the high-water
mark since the images were there. `exponent` is the slope of log cost over log N by least squares, of groups of 8 and
more: 1 is linear. Methods that grow with N^2 are measured up to `LEAST_LINEAR` images.

Then the largest groups: 120 slices of 128 x 128, and 20 volumes of 91 x 109 x 91 voxels at 2 mm, registered with the
defaults. `--no-capacity` leaves them out. Writes group_scaling.json and the tables group_scaling.md. Linux only.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from kernels import machine
from measuring import high_water, report_of, reset_high_water

COUNTS, QUICK = (2, 4, 8, 16, 32, 64, 128), (2, 4, 8)

#: groups that methods whose cost grows with N^2 by their nature are measured up to
LEAST_LINEAR = {"gmm": 16, "congealing": 64, "ape, all pairs": 64}

#: name in the table -> method
METHODS = {"xcoreg": "xcoreg", "cte": "cte", "pca": "pca", "pca, 3 components": {"name": "pca", "components": 3},
           "ape": "ape", "ape, all pairs": {"name": "ape", "cycles": 1000}, "variance": "variance", "gmm": "gmm",
           "congealing": "congealing", "correlation": "correlation", "total_correlation": "total_correlation",
           "pca2": "pca2", "low_rank": "low_rank"}

#: iterations that are measured; fewer than it takes for a level to be called flat
ITERATIONS = 8

#: heads that the images are made from, each moved many times
HEADS = 4

#: the largest groups: images, shape, spacing in mm, model
CAPACITY = {"120 slices": (120, (128, 128), 1.5, "bspline"), "20 volumes": (20, (91, 109, 91), 2.0, "affine"),
            "20 volumes, deformed": (20, (91, 109, 91), 2.0, "bspline")}


def moved_heads(count: int, shape, spacing: float, seed: int = 0):
    """Images on one grid: some heads, in turn of two contrasts, each turned and shifted by itself."""
    from classreg.datasets import head_phantom
    from classreg.fitted import FittedTransform
    from classreg.grid import Grid
    from classreg.resample import resample
    from classreg.transforms.linear import exp_rotation

    d, rng = len(shape), np.random.default_rng(seed)
    sources = [head_phantom(2.5 if d == 3 else spacing, ndim=d, seed=k, linear="identity",
                            moving_modality=("t1", "t2")[k % 2]).moving for k in range(HEADS)]
    affine = np.eye(d + 1)
    affine[:d, :d] = np.fliplr(np.eye(d)) * spacing
    affine[:d, d] = sources[0].grid.centre - affine[:d, :d] @ (np.array(shape) - 1) / 2
    grid = Grid(tuple(shape), affine)
    for k in range(count):
        matrix, c = np.eye(d + 1), grid.centre
        matrix[:d, :d] = exp_rotation(np.radians(rng.uniform(-5, 5, 1 if d == 2 else 3)), d)
        matrix[:d, d] = c - matrix[:d, :d] @ c + rng.uniform(-4, 4, d)
        source = sources[k % HEADS]
        yield resample(FittedTransform.from_matrix(matrix, grid, source.grid), source, grid, "linear")


def groups(spec):
    """The images of a spec, from the file that the script left."""
    from classreg.grid import Grid
    from classreg.image import Image

    with np.load(spec["file"]) as data:
        arrays, affine = data["arrays"][:spec["count"]], data["affine"]
    return [Image(np.ascontiguousarray(array), Grid(array.shape, affine)) for array in arrays]


def worker(spec: dict) -> dict:
    """Iterations of one method for one number of images, or one of the largest groups; in its own process."""
    return (capacity if spec["kind"] == "capacity" else iterations)(spec)


def iterations(spec: dict) -> dict:
    """CPU seconds of an iteration and of what comes before the first, and memory."""
    import classreg
    from classreg.backend import available_cores
    from classreg.group import predict

    images = groups(spec)
    classreg.register_group([image.with_array(image.array.copy()) for image in images[:2]], model="rigid",
                            method=spec["method"], init="identity", levels=(4,), iterations=2, optimiser="adam")
    plan = classreg.plan_group(images, model="rigid", method=spec["method"], init="identity", levels=(1,),
                               iterations=ITERATIONS, optimiser="adam", threads=1)
    plan = replace(plan, stages=(replace(plan.stages[-1], tolerance=0.0),))
    ticks = []
    reset_high_water()
    base = high_water()
    predicted = predict(plan, images)
    start = time.process_time()
    classreg.register_group(images, plan=plan, threads=1, callback=lambda record: ticks.append(time.process_time()))
    return {"cpu": float(np.min(np.diff(ticks))), "median": float(np.median(np.diff(ticks))),
            "before": ticks[0] - start, "peak": high_water() - base, "predicted": predicted.bytes - base,
            "cores": available_cores()}


def capacity(spec: dict) -> dict:
    """A whole registration with the defaults."""
    import classreg
    from classreg.group import predict

    images = groups(spec)
    classreg.register_group([i.with_array(i.array.copy()) for i in images[:2]], model=spec["model"], iterations=1)
    plan = classreg.plan_group(images, model=spec["model"])
    reset_high_water()
    predicted = predict(plan, images)
    wall, cpu = time.perf_counter(), time.process_time()
    result = classreg.register_group(images, plan=plan)
    out = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": high_water(),
           "predicted": predicted.bytes, "evaluations": len(result.history)}
    out["before"], out["after"] = result.summary()["mean size of the correlation of pairs"]
    return out


def exponent(rows, least: int = 8, what: str = "cpu") -> float | None:
    """Slope of log cost over log N of groups of `least` and more; None of fewer than two."""
    some = [(r["count"], r[what]) for r in rows if "error" not in r and r["count"] >= least]
    return float(np.polyfit(*np.log(np.array(some).T), 1)[0]) if len(some) > 1 else None


def table(report: dict) -> str:
    """The report as Markdown."""
    head = report["machine"]
    by = {}
    for r in report["rows"]:
        by.setdefault(r["name"], {})[r["count"]] = r
    counts = sorted({r["count"] for r in report["rows"]})
    lines = [f"Slices of 128 x 128, one thread, {head['processor']}, commit {head['commit']}, {head['date']}, load "
             f"{head['load']:.1f} before. ms of CPU per iteration of Adam with a rigid motion per image; the last "
             "columns are for the most images: what comes before the first iteration in such units, and memory, "
             "measured and predicted.", "",
             "| method | " + " | ".join(f"N = {n}" for n in counts) + " | exponent, N >= 8 | start / iteration | MB | "
             "predicted MB |", "|---|" + "--:|" * (len(counts) + 4)]
    for name, rows in by.items():
        good = [r for r in rows.values() if "error" not in r]
        cells = [f"{1e3 * rows[n]['cpu']:.1f}" if n in rows and "error" not in rows[n] else "" for n in counts]
        slope, last = exponent(good), max(good, key=lambda r: r["count"], default=None)
        tail = ["" if slope is None else f"{slope:.2f}"]
        tail += ["", "", ""] if last is None else [f"{last['before'] / last['cpu']:.1f}", f"{last['peak'] / 1e6:.0f}",
                                                   f"{last['predicted'] / 1e6:.0f}"]
        lines.append(f"| {name} | " + " | ".join([*cells, *tail]) + " |")
    slopes = {name: exponent(rows.values()) for name, rows in by.items()}
    linear = [name for name, slope in slopes.items() if slope is not None and slope <= 1.1]
    more = [f"{name} ({slope:.2f})" for name, slope in slopes.items() if slope is not None and slope > 1.1]
    lines += ["", f"Linear in N, with an exponent of at most 1.1: {', '.join(linear) or 'none'}. "
                  f"Steeper: {', '.join(more) or 'none'}."]
    if report["capacity"]:
        lines += ["", "| group | model | s | CPU s | peak MB | predicted MB | evaluations | correlation of pairs |",
                  "|---|---|--:|--:|--:|--:|--:|---|"]
    for r in report["capacity"]:
        what = f"| {r['count']} x {' x '.join(map(str, r['shape']))} | {r['model']} |"
        lines.append(f"{what} {r['error']} | | | | | |" if "error" in r else (
            f"{what} {r['seconds']:.0f} | {r['cpu']:.0f} | {r['peak'] / 1e6:.0f} | {r['predicted'] / 1e6:.0f} | "
            f"{r['evaluations']} | {r['before']:.3f}, then {r['after']:.3f} |"))
    lines += ["", *(f"{r['name']}, N = {r['count']}: {r['error']}" for r in report["rows"] if "error" in r)]
    return "\n".join(lines).rstrip()


def stack_file(count: int, shape, spacing: float, room: Path) -> str:
    """A file with the images of a group."""
    path, images = room / f"{count}-{len(shape)}.npz", list(moved_heads(count, shape, spacing))
    np.savez(path, arrays=np.stack([image.array for image in images]), affine=images[0].grid.affine)
    return str(path)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--counts", nargs="+", type=int, help=f"images, by default {COUNTS}")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--no-capacity", action="store_true")
    parser.add_argument("--groups", nargs="+", default=list(CAPACITY), choices=list(CAPACITY))
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} images, one round, no largest groups")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(worker(json.loads(args.worker))))
        return
    args.output.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(1), "rows": [], "capacity": []}

    def write():
        (args.output / "group_scaling.json").write_text(json.dumps(report, indent=1) + "\n")
        (args.output / "group_scaling.md").write_text(f"# Groups: what grows with the number of images\n\n"
                                                      f"{table(report)}\n")

    counts = args.counts or (QUICK if args.quick else COUNTS)
    with tempfile.TemporaryDirectory() as room:
        file = stack_file(max(counts), (128, 128), 1.5, Path(room))
        for name in args.methods:
            for count in counts:
                if count > LEAST_LINEAR.get(name, count):
                    continue
                spec = {"kind": "iterations", "file": file, "count": count, "method": METHODS[name]}
                runs = [report_of(__file__, spec) for _ in range(1 if args.quick else args.rounds)]
                good = [r for r in runs if "error" not in r]
                report["rows"].append({"name": name, "count": count,
                                       **(min(good, key=lambda r: r["cpu"]) if good else runs[0])})
                write()
        for name in [] if args.quick or args.no_capacity else args.groups:
            count, shape, spacing, model = CAPACITY[name]
            file = stack_file(count, shape, spacing, Path(room))
            row = {"kind": "capacity", "count": count, "shape": shape, "model": model}
            report["capacity"].append({**row, **report_of(__file__, {**row, "file": file})})
            write()
    print(table(report))


if __name__ == "__main__":
    main()

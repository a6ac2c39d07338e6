"""The published experiments on groups: what each method reaches, from one command.

    CLASSREG_DATA=FOLDER python benchmarks/groups.py [--only EXPERIMENT ...] [--methods NAME ...] [--draws N]
        [--again] [--output FOLDER]

rigid-3d, rigid-2d   contrasts of one subject, volumes or a slice, moved by their headers: 20 draws of `easy` motions
                     (20 degrees about each axis, 20 mm along each, uniform) and of `hard` ones (45 degrees, 40 mm),
                     with the default start, and from the headers; gRE
rigid-3d-fine        the easy motions of volumes again, at 2 mm, with the default start: how near finer voxels come
rigid-2d-cut         the same slices, moved by resampling, which cuts the field of view
ffd                  slices of contrasts, deformed by B-splines of 20 mm cells, up to 8 mm at control points; gWI, Dice
subjects             slices of ten subjects as they are; beside it, each registered to one of them as the template, all
                     ten in turn; Dice and surface distance of manual labels, folds
cost                 four and eight moved volumes, in processes of their own; CPU time, peak memory

A rigid run has failed that ends with a gRE above 3 mm. Volumes are of 4 mm where nothing else is said, slices of
contrasts of 2 mm, those of subjects as they are (1 mm). All methods run with their defaults, of which none is tuned to
these images. Goes on where it was stopped: rows that `groups.json` has are kept, unless `--again` says to run them
anew. The first draws of all experiments come before the next ones. Writes `groups.json` and `groups.md` after each run.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np

import classreg
from classreg.evaluate import group_folding, group_overlap, group_surfaces, measured, warping_index
from classreg.pyramid import shrink

sys.path.insert(0, str(Path(__file__).parent))
from group_cases import CONTRASTS, contrasts, deformations, deformed, motions, moved, rigid_errors, subjects
from group_tables import page
from kernels import machine
from measuring import report_of

METHODS, STARTS, DRAWS, BLOCK = ("gmm", "cte", "ape", "xcoreg"), ("auto", "identity"), 20, 5

#: dimensions, mm, whether the grid cuts what moves out of it
RIGID = {"rigid-3d": (3, 4.0, False), "rigid-3d-fine": (3, 2.0, False), "rigid-2d": (2, 2.0, False),
         "rigid-2d-cut": (2, 2.0, True)}

#: which motions, starts and methods an experiment has that has not all of them
SOME = {"rigid-3d-fine": (("easy",), ("auto",), ("ape", "xcoreg"))}

#: methods for one contrast, and models
SUBJECTS = {"xcoreg": "xcoreg", "cte": "cte", "gmm": "gmm", "ape": "ape", "ape lncc": {"name": "ape", "metric": "lncc"},
            "congealing": "congealing", "variance": "variance"}
MODELS, PAIR_METRICS = ("bspline", "greedy", "svf"), ("lncc", "mi")

EXPERIMENTS = (*RIGID, "ffd", "subjects", "cost")
KEY = ("experiment", "group", "set", "start", "method", "draw")


def tasks(draws: int) -> list[dict]:
    """All runs, the first draws of every experiment first."""
    out = []
    for experiment in RIGID:
        for group in list(CONTRASTS)[:2]:
            sets, starts, methods = SOME.get(experiment, (("hard", "easy"), STARTS, METHODS))
            out += product(*((v,) for v in (experiment, group, "still", "identity")), methods, (0,))
            out += product((experiment,), (group,), sets, starts, methods, range(draws))
    out += product(("ffd",), CONTRASTS, ("bspline",), ("identity",), METHODS, range(draws))
    out.append(("subjects", "groupwise", "none", "", "none", 0))
    out += product(("subjects",), ("groupwise",), MODELS, ("auto",), SUBJECTS, (0,))
    for model in MODELS:
        metrics = PAIR_METRICS if model == "bspline" else PAIR_METRICS[:1]
        out += product(("subjects",), ("pairwise",), (model,), ("auto",), metrics, range(10))
    out += product(("cost",), ("brain-4-contrasts",), (4, 8), ("identity",), METHODS, (0,))
    ranks = {task: k for k, task in enumerate(out)}

    def turn(task):
        block = task[-1] // BLOCK if task[0] in (*RIGID, "ffd") else 0
        return block, EXPERIMENTS.index(task[0]), task[-1] if task[0] in (*RIGID, "ffd") else 0, ranks[task]

    return [dict(zip(KEY, task)) for task in sorted(out, key=turn)]


def rigid_scene(data: Path, experiment: str, group: str, kind: str, draw: int):
    """Moved contrasts, where their points truly lie, and where the anatomy is."""
    ndim, resolution, cut = RIGID[experiment]
    found = contrasts(data, group, ndim, resolution)
    matrices = motions(found.points.mean(0), kind, len(found.images), draw)
    return *moved(found.images, matrices, cut), found.points


@lru_cache(1)
def started(data: Path, experiment: str, group: str, kind: str, draw: int, start: str):
    """Where a group begins, which no method has a say in, and what finding that takes."""
    images, _, _ = rigid_scene(data, experiment, group, kind, draw)
    with measured() as cost:
        result = classreg.register_group(images, model="rigid", method="variance", init=start, iterations=1)
    return result.initial, cost.cpu


def rigid(data: Path, task: dict) -> dict:
    """One rigid registration of moved contrasts."""
    where = (data, *(task[k] for k in ("experiment", "group", "set", "draw")))
    images, truths, points = rigid_scene(*where)
    still = [np.eye(points.shape[1] + 1)] * len(images)
    warm(contrasts(data, task["group"], *RIGID[task["experiment"]][:2]).images, task["method"], "rigid")
    matrices, seconds = (still, 0.0) if task["start"] == "identity" else started(*where, task["start"])
    with measured() as cost:
        result = classreg.register_group(images, model="rigid", method=task["method"], init=matrices)
    return {"before": rigid_errors(still, truths, points),
            "begun": rigid_errors(matrices, truths, points), "cpu begun": seconds,
            "after": rigid_errors([t.matrix for t in result.transforms], truths, points),
            "cpu": cost.cpu, "evaluations": len(result.history)}


def ffd(data: Path, task: dict) -> dict:
    """One deformable registration of contrasts that known splines deformed."""
    group = contrasts(data, task["group"], 2, 2.0)
    grid, fields = group.grid, deformations(group.grid, len(group.images), task["draw"])
    images = [deformed(image, field, "cubic") for image, field in zip(group.images, fields)]
    warm(images, task["method"], task["set"])
    with measured() as cost:
        result = classreg.register_group(images, model=task["set"], method=task["method"], init=task["start"])
    found = [t.displacement(grid) for t in result.transforms]
    foreground = classreg.Image(group.foreground.astype(np.uint8), grid)
    masks = [deformed(foreground, field, "nearest").array > 0 for field in fields]
    index = warping_index(found, fields, grid, masks)
    out = {"before": index["before"], "after": index["gwi"], "folds": group_folding(found, grid)["mean"],
           "cpu": cost.cpu, "evaluations": len(result.history)}
    if group.labels is not None:
        maps = [deformed(classreg.Image(group.labels, grid), field, "nearest") for field in fields]
        out["dice before"] = group_overlap([m.array for m in maps])["mean"]
        out["dice"] = group_overlap([m.array for m in result.apply(maps, "nearest")])["mean"]
    return out


def across(data: Path, task: dict) -> dict:
    """Subjects: all together, or each to one of them."""
    images, labels, wanted = subjects(data)
    grid, d = images[0].grid, images[0].grid.ndim
    still = np.zeros((d, *grid.shape), np.float32)
    if task["method"] == "none":
        return judged([m.array for m in labels], [still], grid, wanted)
    if task["group"] == "groupwise":
        method = SUBJECTS[task["method"]]
        warm(images, method, task["set"])
        with measured() as cost:
            result = classreg.register_group(images, model=task["set"], method=method)
        maps = [m.array for m in result.apply(labels, "label")]
        return {**judged(maps, [t.displacement() for t in result.transforms], grid, wanted), "cpu": cost.cpu}
    fixed, maps, fields, seconds = images[task["draw"]], [], [], 0.0
    for k, image in enumerate(images):
        if k == task["draw"]:
            maps.append(labels[k].array)
            fields.append(still)
            continue
        with measured() as cost:
            transform = classreg.register(fixed, image, model=task["set"], metric=task["method"]).transform
        maps.append(classreg.apply(transform, labels[k], fixed, interpolation="label").array)
        fields.append(transform.displacement())
        seconds += cost.cpu
    return {**judged(maps, fields, grid, wanted), "cpu": seconds}


def judged(maps, fields, grid, wanted) -> dict:
    """Label maps in the common space against each other."""
    overlap = group_overlap(maps, wanted)
    own = [float(np.mean([v for pair, v in overlap["per_pair"].items() if k in pair])) for k in range(len(maps))]
    return {"dice": overlap["mean"], "per subject": own, "assd": group_surfaces(maps, grid, wanted)["mean"],
            "folds": group_folding(fields, grid)["mean"]}


def cost(task: dict) -> dict:
    """Time and memory of a rigid registration of `set` images; runs in its own process."""
    data, count = Path(task["data"]), task["set"]

    def scene(resolution, draw):
        group = contrasts(data, task["group"], 3, resolution)
        images = (group.images * 2)[:count]
        return moved(images, motions(group.points.mean(0), "easy", count, draw), False)[0]

    run = dict(model="rigid", method=task["method"], init="identity")
    classreg.register_group(scene(8.0, 0), iterations=1, **run)
    large = scene(2.0, 0)
    ctypes.CDLL(None).malloc_trim(0)  # what was freed would hide what is needed
    with measured() as memory:
        classreg.register_group(large, iterations=1, **run)
    runs = []
    for draw in range(3):
        images = scene(4.0, draw)
        with measured() as time:
            result = classreg.register_group(images, **run)
        runs.append((time.cpu, len(result.history)))
    cpu, evaluations = np.median(runs, axis=0)
    each = float(np.median([seconds / n for seconds, n in runs]))
    return {"cpu": float(cpu), "evaluations": int(evaluations), "cpu each": each,
            "memory": memory.peak - memory.start}


_warm = set()


def warm(images, method, model) -> None:
    """Load the kernels that a run needs before it is timed, with small images."""
    key = str(method), model, images[0].grid.ndim
    if key not in _warm:
        small = [shrink(image, 4 * image.grid.resolution) for image in images[:2]]
        classreg.register_group(small, model=model, method=method, iterations=1, init="identity")
        _warm.add(key)


def code() -> str:
    """The last commit that changed the package."""
    ask = ["git", "log", "-1", "--format=%h", "--", str(Path(classreg.__file__).parent)]
    return subprocess.run(ask, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip() or "unknown"


def run(data: Path, task: dict) -> dict:
    """The figures of one task, or its error."""
    try:
        if task["experiment"] == "cost":
            return report_of(__file__, {**task, "data": str(data)})
        if task["experiment"] in RIGID:
            return rigid(data, task)
        return ffd(data, task) if task["experiment"] == "ffd" else across(data, task)
    except classreg.ClassregError as error:
        return {"error": str(error)}


def write(report: dict, folder: Path) -> None:
    """Both files, each complete or as it was."""
    rows = ",\n".join(json.dumps(row) for row in report["rows"])
    text = f'{{"machine": {json.dumps(report["machine"])},\n"rows": [\n{rows}\n]}}\n'
    for name, content in (("groups.json", text), ("groups.md", page(report["machine"], report["rows"]))):
        (folder / f"{name}.part").write_text(content, encoding="utf-8")
        os.replace(folder / f"{name}.part", folder / name)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=EXPERIMENTS)
    parser.add_argument("--groups", nargs="+", choices=(*CONTRASTS, "groupwise", "pairwise"))
    parser.add_argument("--methods", nargs="+", help=f"{', '.join(METHODS)}, or what `subjects` has")
    parser.add_argument("--sets", nargs="+", help="hard, easy, still, or models")
    parser.add_argument("--starts", nargs="+", help="auto, identity")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--again", action="store_true", help="run what is there anew")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(cost(json.loads(args.worker))))
        return
    data = Path(os.environ.get("CLASSREG_DATA", ""))
    if not (data / "groups" / "brain-4-contrasts").is_dir():
        parser.error("set CLASSREG_DATA to the folder that holds the groups")
    args.output.mkdir(parents=True, exist_ok=True)
    file, now = args.output / "groups.json", machine(len(os.sched_getaffinity(0)))
    report = json.loads(file.read_text()) if file.exists() else {"rows": []}
    report["machine"], commit, order = now, code(), {tuple(task.values()): k for k, task in enumerate(tasks(DRAWS))}
    some = {"group": args.groups, "set": args.sets, "start": args.starts, "method": args.methods}
    wanted = [task for task in tasks(args.draws) if task["experiment"] in args.only
              and all(str(task[key]) in given for key, given in some.items() if given)]
    done = {tuple(row[k] for k in KEY) for row in report["rows"] if "error" not in row} if not args.again else set()
    for task in wanted:
        key = tuple(task.values())
        if key in done:
            continue
        found = run(data, task)
        print(*key, {k: round(v, 3) for k, v in found.items() if isinstance(v, float)} or found, flush=True)
        report["rows"] = [row for row in report["rows"] if tuple(row[k] for k in KEY) != key]
        report["rows"].append({**task, **found, "commit": commit})
        report["rows"].sort(key=lambda row: order.get(tuple(row[k] for k in KEY), len(order)))
        write(report, args.output)
    write(report, args.output)
    print((args.output / "groups.md").read_text())


if __name__ == "__main__":
    main()

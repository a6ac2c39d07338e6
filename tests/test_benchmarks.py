"""The benchmark scripts run and write tables that say what they measured; what they measure is not tested."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import classreg
from classreg.datasets import head_phantom
from classreg.fitted import FittedTransform
from classreg.grid import Grid
from classreg.image import Image
from classreg.io import load
from classreg.resample import resample

FOLDER = Path(classreg.__file__).parents[1] / "benchmarks"
LINUX = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the memory of a process as Linux")
MACHINE = {"processor": "P", "cores": 2, "python": "3", "numpy": "2", "numba": "1", "commit": "abc", "date": "today",
           "load": 0.5}


@pytest.fixture
def script(monkeypatch):
    """Loads a script as its own folder would: names -> what it defines."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return lambda name: runpy.run_path(str(FOLDER / f"{name}.py"))


def line(peer, **figures):
    return {"peer": peer, "version": "1.2", "wall_s": 4.0, "peak_rss_mb": 100.0, "ncc": 0.9, "lncc": 0.5,
            "folds_pct": 0.0, "sd_logjac": 0.2, **figures}


def cells(table):
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines() if row.startswith("|")]


def test_cubes_hold_the_whole_head_and_overlap(script, tmp_path):
    files = script("measuring")["cube"](24, tmp_path)
    fixed, moving = load(files["fixed"]), load(files["moving"])
    assert fixed.grid.shape == moving.grid.shape == (24, 24, 24)
    assert fixed.array.std() > 0.1 * fixed.array.max() and moving.array.std() > 0.1 * moving.array.max()
    result = classreg.register(fixed, moving, model="rigid", metric="mi")
    before, after = result.summary()["correlation"]
    assert after > before


def test_peers_table_has_ratios_and_signed_differences(script):
    row = {"case": "c", "model": "deformable", "load": 1.0, "missing": ["reg_f3d"],
           "cold": line("classreg", wall_s=9.5), "ours": line("classreg", wall_s=2.0, tre_mm=1.5, lncc=0.75),
           "peers": [line("greedy", tre_mm=2.0), {"peer": "ants", "version": "3", "error": "it broke"}]}
    table = script("peers")["table"]({"machine": MACHINE, "rows": {"name": row}})
    head, _, good, bad = cells(table)
    found = dict(zip(head, good))
    assert (found["ratio"], found["cold s"], found["peer"]) == ("0.50", "9.5", "greedy 1.2")
    assert found["TRE mm, difference"] == "1.50 (-0.50)" and found["LNCC, difference"] == "0.750 (+0.250)"
    assert found["Dice, difference"] == ""
    assert "ants failed" in bad and len(bad) == len(head) == len(good)
    assert "reg_f3d" in table.splitlines()[-1]


def test_rows_of_peers_name_what_the_plugin_offers(script):
    offered = []

    def peer(name, **_):
        offered.append(name)
        return lambda function: function

    runpy.run_path(str(FOLDER / "peer_classreg.py"), init_globals={"peer": peer, "THREADS": 1})
    assert {ours for _, _, ours, _ in script("peers")["ROWS"].values()} <= set(offered)


def test_peers_without_harness_or_data_say_what_to_do(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("PEERBENCH", "CLASSREG_DATA")}
    for extra, word in (((), "--peerbench"), (("--peerbench", __file__), "CLASSREG_DATA")):
        done = subprocess.run([sys.executable, str(FOLDER / "peers.py"), *extra], capture_output=True, text=True,
                              env=environment, cwd=tmp_path)
        assert done.returncode == 2 and word in done.stderr


def test_metrics_are_measured_by_turns(script):
    module = script("metrics")
    rows = module["measure"](["ngf", "ssd", "mind, exact"], (12, 13, 14), 2, 1, 1)
    assert [row["metric"] for row in rows] == ["ssd", "ngf", "mind, exact"]
    assert rows[0]["cpu_ratio"] == [1, 1] and all(t > 0 for row in rows for t in row["wall"])
    rows[1].update(cpu=[0.5, 0.7], cpu_ratio=[1.5, 1.25])
    report = {"machine": {**MACHINE, "threads": 1}, "shape": (12, 13, 14), "rounds": 2, "steps": 1, "rows": rows}
    table = cells(module["table"](report))
    assert table[3][:3] == ["ngf", "0.60", "1.38 (1.25 to 1.50)"] and len(table[3]) == len(table[0])


def test_scaling_table(script):
    rows = [{"model": "greedy", "size": 100, "threads": 2, "seconds": 3.0, "peak": 5e8, "evaluations": 40,
             "finest": 15}, {"model": "greedy", "size": 200, "threads": 2, "error": "MemoryError"}]
    head, _, good, bad = cells(script("scaling")["table"]({"machine": MACHINE, "rows": rows}))
    found = dict(zip(head, good))
    assert (found["us / voxel"], found["bytes / voxel"], found["evaluations"]) == ("3.00", "500", "40 (15)")
    assert "MemoryError" in bad and len(bad) == len(head)


@LINUX
def test_workers_report_what_they_measured(tmp_path, script):
    files = script("measuring")["cube"](24, tmp_path)
    spec = {**files, "model": "rigid", "metric": "ncc", "threads": 1, "masks": True, "iterations": 1}
    for name, keys in (("memory", {"predicted", "measured", "phase"}),
                       ("scaling", {"seconds", "peak", "evaluations", "finest"})):
        found = script("measuring")["report_of"](str(FOLDER / f"{name}.py"), spec)
        assert set(found) == keys, found
    broken = script("measuring")["report_of"](str(FOLDER / "memory.py"), {**spec, "fixed": "nowhere.nii"})
    assert "nowhere.nii" in broken["error"]


@LINUX
def test_memory_table_puts_the_worst_first(script):
    rows = [{"case": "c", "model": m, "metric": "mi", "masks": False, "measured": 1e8, "predicted": p, "phase": "x"}
            for m, p in (("rigid", 1e8), ("greedy", 1.2e8))]
    report = json.loads(json.dumps({"machine": MACHINE, "rows": rows}))
    table = cells(script("memory")["table"](report))
    assert [row[1] for row in table[2:]] == ["greedy", "rigid"] and table[2][5] == "1.20"
    assert np.isclose(float(table[3][5]), 1)


def contrasts(spacing=6.0):
    pairs = [head_phantom(spacing, ndim=2, linear="identity", deformation=0.0, moving_modality=m) for m in ("t1", "t2")]
    return [pairs[0].fixed, *(resample(still(pairs[0].fixed), pair.moving, pairs[0].fixed.grid) for pair in pairs)]


def still(image):
    return FittedTransform.from_matrix(np.eye(image.grid.ndim + 1), image.grid)


@pytest.mark.parametrize("cut", [False, True])
def test_groups_know_where_moved_images_truly_lie(script, cut):
    module = script("group_cases")
    images = contrasts()
    points = images[0].grid.points().reshape(-1, 2)[::7]
    motions = module["motions"](points.mean(0), "easy", len(images), 3)
    moved, truths = module["moved"](images, motions, cut)
    assert module["rigid_errors"]([np.eye(3)] * 3, truths, points) > 5
    turn = module["motions"](points.mean(0), "hard", 1, 0)[0]  # wherever the common space is
    assert module["rigid_errors"]([motion @ turn for motion in motions], truths, points) < 1e-9
    for image, motion, found in zip(images, motions, moved):
        assert found.grid.same_as(image.grid) == cut
        back = resample(FittedTransform.from_matrix(motion, image.grid, found.grid), found, image.grid)
        inside = resample(FittedTransform.from_matrix(motion, image.grid, found.grid),
                          Image(np.ones(found.grid.shape, np.float32), found.grid), image.grid, outside=0).array == 1
        assert inside.mean() > 0.5
        assert np.corrcoef(back.array[inside], image.array[inside])[0, 1] > (0.97 if cut else 0.999)


def test_groups_know_how_images_were_deformed(script):
    module = script("group_cases")
    grid = Grid.from_spacing((30, 40), spacing=2.0)
    fields = module["deformations"](grid, 2, 0)
    assert 1 < np.abs(fields).max() < 0.4 * 20 and not np.allclose(fields[0], fields[1])
    found = module["deformed"](Image(grid.points()[..., 0].astype(np.float32), grid), fields[0], "linear").array
    there = grid.points()[..., 0] + fields[0][0]
    inside = (there > 0) & (there < 78) & (np.abs(grid.points()[..., 1] - 29 + fields[0][1]) < 29)
    assert inside.mean() > 0.8 and np.abs(found - there)[inside].max() < 1e-3


def test_groups_table_counts_failures_and_compares_with_xcoreg(script):
    rows = []
    for method, after, cpu in (("xcoreg", 0.5, 2.0), ("gmm", 4.0, 3.0)):
        key = {"experiment": "rigid-3d", "group": "g", "method": method, "commit": "abc"}
        rows.append({**key, "set": "still", "start": "identity", "draw": 0, "before": 0.0, "after": 0.25, "cpu": 1.0})
        rows += [{**key, "set": "hard", "start": "auto", "draw": k, "before": 40.0, "begun": 2.0, "cpu begun": 1.0,
                  "after": after + 0.1 * k, "cpu": cpu} for k in range(6)]
    text = script("group_tables")["page"](MACHINE, rows)
    head, _, nothing, start, xcoreg, gmm = (dict(zip(cells(text)[0], row)) for row in cells(text))
    assert (nothing["gRE, mm"], nothing["failed"], start["median"]) == ("40.00 ± 0.00", "6", "2.00")
    assert (xcoreg["failed"], gmm["failed"], gmm["relative time"], gmm["aligned"]) == ("0", "6", "1.50", "0.25")
    assert float(gmm["p"]) == 0.031 and xcoreg["p"] == "" and "commits abc" in text


def test_groups_table_names_the_best_template(script):
    row = {"experiment": "subjects", "group": "pairwise", "set": "svf", "start": "auto", "method": "lncc", "assd": 1.0,
           "folds": 0.0, "cpu": 3.0, "commit": "abc"}
    whole = {**row, "group": "groupwise", "draw": 0, "dice": 0.6, "per subject": [0.5, 0.6, 0.7]}
    rows = [{**whole, "method": "xcoreg"}, {**whole, "method": "cte", "per subject": [0.4, 0.5, 0.6]},
            *({**row, "draw": k, "dice": dice} for k, dice in enumerate((0.5, 0.7, 0.6)))]
    _, _, xcoreg, cte, best, mean = cells(script("group_tables")["page"](MACHINE, rows))
    assert xcoreg[:3] == ["X-CoReg", "svf", "0.600"] and xcoreg[5] == "" and cte[5] == "0.25"
    assert "best template of 3" in best[0] and best[2] == "0.700" and mean[2] == "0.600"


def test_groups_run_the_first_draws_of_everything_first(script, monkeypatch):
    tasks = script("groups")["tasks"](20)
    blocks = [task["draw"] // 5 for task in tasks if task["group"] != "pairwise"]
    assert blocks == sorted(blocks) and len({tuple(task.values()) for task in tasks}) == len(tasks)
    monkeypatch.delenv("CLASSREG_DATA", raising=False)
    done = subprocess.run([sys.executable, str(FOLDER / "groups.py")], capture_output=True, text=True)
    assert done.returncode == 2 and "CLASSREG_DATA" in done.stderr

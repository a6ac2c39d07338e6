"""Comparisons that are run: resumed, changed, failed, interrupted; programs of others; the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

import classreg
from classreg import cli
from classreg.compare import compare, read_cases, worker
from classreg.compare.external import RunFailed, execute, first_line
from classreg.compare.methods import read_methods
from classreg.compare.runner import _module
from classreg.compare.running import job_of
from classreg.datasets import head_phantom
from classreg.errors import InputError, OptionError
from classreg.fitted import FittedTransform
from classreg.io import save_image
from classreg.io.transforms import write_transform

SHIFT = np.array([[1.0, 0, 6], [0, 1, -4], [0, 0, 1]])
MEASURES = ["dice", "tre", "folding"]


def write_points(points, path):
    path.write_text("\n".join(",".join(map(repr, map(float, p))) for p in points) + "\n")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A table of three oblique, off-origin pairs whose landmarks a shift by (6, -4) mm takes to their partners."""
    folder = tmp_path_factory.mktemp("heads")
    rows = ["case,fixed,moving,fixed_labels,moving_labels,fixed_points,moving_points"]
    for seed, name in enumerate(("one", "two", "three")):
        pair = head_phantom(8.0, ndim=2, seed=seed, linear="translation", deformation=0.0)
        (folder / name).mkdir()
        cells = [name]
        for key in ("fixed", "moving", "fixed_labels", "moving_labels"):
            save_image(getattr(pair, key), folder / name / f"{key}.nii.gz")
            cells.append(f"{name}/{key}.nii.gz")
        for key, points in (("fixed", pair.fixed_points), ("moving", pair.fixed_points + [6, -4])):
            write_points(points, folder / name / f"{key}.csv")
            cells.append(f"{name}/{key}.csv")
        rows.append(",".join(cells))
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def heads(files, tmp_path):
    """A copy of them, which a test may change."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    return tmp_path


class Counted:
    """A method that gives a matrix, counts its calls, and does what it is told before."""

    def __init__(self, matrix, act=None):
        self.matrix, self.act, self.calls = matrix, act, 0

    def __call__(self, fixed, moving):
        self.calls += 1
        if self.act:
            self.act(self.calls)
        return self.matrix


def still(fixed, moving):
    return np.eye(3)


def events(log):
    return lambda event: log.append((event.what, event.method, event.case, event.text))


def test_the_table_of_known_transforms(heads):
    shift, log = Counted(SHIFT), []
    table = compare(heads / "cases.csv", [still, {"shift": shift}], heads / "out", measures=MEASURES, threads=2,
                    callback=events(log))
    assert table.cells["still", "tre"].mean == pytest.approx(np.hypot(6, 4), abs=1e-4)
    assert table.cells["shift", "tre"].mean == pytest.approx(0, abs=1e-4) and table.cells["shift", "tre"].best
    assert table.cells["shift", "dice"].mean > table.cells["still", "dice"].mean
    assert table.reference == "still" and table.measures == ("dice", "tre", "folding", "seconds", "cpu", "memory")
    assert shift.calls == 3 and [entry[0] for entry in log] == ["begin", "done"] * 6
    out = heads / "out"
    assert sorted(p.name for p in out.iterdir()) == [
        "boxes-dice-labels.png", "boxes-dice.png", "boxes-tre.png", "runs", "scores.csv", "settings.json",
        "summary.csv", "table.md", "table.tex", "tests.csv"]
    assert sorted(p.name for p in (out / "runs" / "shift").iterdir()) == sorted(
        f"{case}{suffix}" for case in ("one", "two", "three") for suffix in (".json", ".tfm"))
    assert (out / "table.md").read_text() == str(table) and imread(out / "boxes-dice.png").std() > 0.01
    assert "shift: callable " in str(table) and "in the process of the comparison" in str(table)
    record = json.loads((out / "runs" / "shift" / "one.json").read_text())
    assert record["cost"]["seconds"] >= 0 and record["scores"]["measures"]["tre"] < 1e-4
    assert record["threads"] == 2 and "classreg" in record["versions"]


def test_what_is_finished_is_not_run_again(heads):
    first = Counted(SHIFT)
    compare(heads / "cases.csv", {"a": first}, heads / "out", measures=["tre"])
    second, log = Counted(SHIFT), []
    again = compare(heads / "cases.csv", {"a": second}, heads / "out", measures=["tre"], callback=events(log))
    assert second.calls == 0 and [entry[0] for entry in log] == ["kept"] * 3
    assert again.cells["a", "tre"].n == 3 and again.cells["a", "seconds"].n == 3


def test_measures_and_truth_change_without_a_run(heads):
    compare(heads / "cases.csv", {"a": Counted(SHIFT)}, heads / "out", measures=["tre"])
    method, log = Counted(SHIFT), []
    table = compare(heads / "cases.csv", {"a": method}, heads / "out", measures=MEASURES, callback=events(log))
    assert method.calls == 0 and [entry[0] for entry in log] == ["scored"] * 3 and table.cells["a", "dice"].n == 3
    log.clear()
    compare(heads / "cases.csv", {"a": method}, heads / "out", measures=["dice"], callback=events(log))
    assert [entry[0] for entry in log] == ["kept"] * 3
    points = heads / "two" / "moving.csv"
    write_points(np.loadtxt(points, delimiter=",") + [0, 3], points)
    log.clear()
    table = compare(heads / "cases.csv", {"a": method}, heads / "out", measures=MEASURES, callback=events(log))
    assert method.calls == 0 and [entry[0] for entry in log] == ["kept", "scored", "kept"]
    assert table.values["a", "tre"]["two"] == pytest.approx(3, abs=1e-4)


def test_changed_inputs_and_settings_are_run_again_and_said(heads, caplog):
    def run(method, **more):
        log = []
        with caplog.at_level("INFO", "classreg"):
            compare(heads / "cases.csv", {"a": method}, heads / "out", measures=["tre"], callback=events(log), **more)
        return {case: text for what, _, case, text in log if what == "begin"}

    assert set(run(Counted(SHIFT)).values()) == {"new"}
    pair = head_phantom(8.0, ndim=2, seed=9)
    save_image(pair.moving, heads / "two" / "moving.nii.gz")
    assert run(Counted(SHIFT)) == {"two": "changed: moving"}
    assert "a, two is run again: changed: moving" in caplog.text
    assert set(run(Counted(SHIFT), threads=7).values()) == {"changed: threads"}
    assert set(run(still, threads=7).values()) == {"changed: code, settings"}
    (heads / "out" / "runs" / "a" / "one.tfm").unlink()
    (heads / "out" / "runs" / "a" / "two.json").write_text("{ broken")
    assert run(still, threads=7) == {"one": "its transform is gone", "two": "new"}


def test_one_failure_does_not_stop_the_others(heads):
    def act(call):
        if call == 2:
            raise RuntimeError("out of luck")

    bad, good = Counted(SHIFT, act), Counted(SHIFT)
    table = compare(heads / "cases.csv", {"bad": bad, "good": good}, heads / "out", measures=["tre"])
    assert table.failures == [("bad", "two", "RuntimeError: out of luck")]
    assert (table.cells["bad", "tre"].n, table.cells["good", "tre"].n, good.calls) == (2, 3, 3)
    assert "| 1 of 3 |" in str(table)
    log = []
    table = compare(heads / "cases.csv", {"bad": bad, "good": good}, heads / "out", measures=["tre"],
                    callback=events(log))
    assert table.failures == [] and bad.calls == 4 and good.calls == 3
    assert ("begin", "bad", "two", "it failed before") in log


def test_what_is_no_transform_fails_with_a_sentence(heads):
    table = compare(heads / "cases.csv", {"a": lambda fixed, moving: np.full((3, 3), np.nan),
                                          "b": lambda fixed, moving: "warp.nii"}, heads / "out", measures=["tre"])
    assert {(m, text[:15]) for m, _, text in table.failures} == {("a", "9 of 9 numbers "), ("b", "what the method")}
    assert table.cells == {} and "| a |" in str(table)


def test_a_plan_is_run(heads):
    def planned(fixed, moving):
        return classreg.plan(fixed, moving, model="translation", metric="ncc", levels=[2], iterations=20)

    rows = [dict(case="one", fixed=heads / "one" / "fixed.nii.gz", moving=heads / "one" / "moving.nii.gz",
                 fixed_points=heads / "one" / "fixed.csv", moving_points=heads / "one" / "moving.csv")]
    table = compare(rows, planned, heads / "out", measures=["tre"])
    assert table.cells["planned", "tre"].mean < 2
    assert table.records["planned", "one"]["notes"]["status"].startswith("translation: ")


def test_truth_that_cannot_be_read_keeps_the_run(heads):
    method = Counted(SHIFT)
    labels = heads / "one" / "moving_labels.nii.gz"
    whole = labels.read_bytes()
    labels.write_bytes(whole[:-20])
    table = compare(heads / "cases.csv", {"a": method}, heads / "out", measures=MEASURES)
    assert [(m, c) for m, c, _ in table.failures] == [("a", "one")] and method.calls == 3
    labels.write_bytes(whole)
    assert compare(heads / "cases.csv", {"a": method}, heads / "out", measures=MEASURES).failures == []
    assert method.calls == 3


def test_a_killed_comparison_goes_on_where_it_was(heads):
    def act(call):
        if call == 2:
            raise KeyboardInterrupt

    method = Counted(SHIFT, act)
    with pytest.raises(KeyboardInterrupt):
        compare(heads / "cases.csv", {"a": method}, heads / "out", measures=["tre"])
    runs = heads / "out" / "runs" / "a"
    assert sorted(p.name for p in runs.iterdir()) == ["one.json", "one.tfm"]
    left = runs / ".two.abc"  # what a kill that nothing can catch leaves behind
    left.mkdir()
    (left / "transform.tfm").write_text("half")
    (runs / "three.tfm").write_text("a transform without its record")
    table = compare(heads / "cases.csv", {"a": method}, heads / "out", measures=["tre"])
    assert method.calls == 4 and table.cells["a", "tre"].n == 3 and table.cells["a", "tre"].mean < 1e-4
    assert not left.exists()


def test_an_interrupt_that_a_method_swallows_ends_the_comparison(heads):
    def swallow(call):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            pass

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        compare(heads / "cases.csv", {"a": Counted(SHIFT, swallow)}, heads / "out", measures=["tre"])
    assert list((heads / "out" / "runs" / "a").iterdir()) == [] and signal.getsignal(signal.SIGINT) is before


def test_the_callback_can_end_it(heads):
    method = Counted(SHIFT)
    table = compare(heads / "cases.csv", {"a": method}, heads / "out", measures=["tre"],
                    callback=lambda event: event.what == "done")
    assert method.calls == 1 and table.cells["a", "tre"].n == 1


def test_nothing_runs_where_something_is_wrong(heads):
    method = Counted(SHIFT)
    with pytest.raises(InputError, match=r"3 problems, nothing was run:\n- method 'b' needs \{fixed_mask\}"):
        needs = f"b={sys.executable} {{fixed_mask}} {{output}}.tfm"
        compare(heads / "cases.csv", [{"a": method}, needs], heads / "out")
    with pytest.raises(OptionError, match="did you mean 'tre'"):
        compare(heads / "cases.csv", {"a": method}, heads / "out", measures=["tree"])
    assert method.calls == 0 and not (heads / "out").exists()


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("CLASSREG_DATA"), reason="CLASSREG_DATA, the folder of real images, is not set")
def test_real_landmarks_lie_as_far_off_as_their_folder_says(tmp_path):
    folder = Path(os.environ["CLASSREG_DATA"]) / "pairs" / "liver-mr-a"
    row = {"case": "liver", **{f"{end}{kind}": folder / f"{end}{kind}{suffix}" for end in ("fixed", "moving")
                               for kind, suffix in (("", ".nii.gz"), ("_points", ".csv"))}}
    table = compare([row], {"still": lambda fixed, moving: np.eye(4)}, tmp_path / "out", measures=["tre"])
    truth = json.loads((folder / "case.json").read_text())["tre_before_mm"]
    assert table.cells["still", "tre"].mean == pytest.approx(truth, abs=0.005)


# -- programs of others --

TOOL = textwrap.dedent('''
    """A program of someone else: shifts by what it is told, or misbehaves."""
    import json, os, sys, time
    fixed, moving, output, how, cost = sys.argv[1:6]
    assert os.path.isfile(fixed) and os.path.isfile(moving)
    print("threads", os.environ["OMP_NUM_THREADS"], sys.argv[6:])
    if how == "slow":
        time.sleep(60)
    if how == "bad":
        print("the reason", file=sys.stderr)
        sys.exit(3)
    if how == "reports":
        json.dump({"seconds": 1.25, "cpu": 2.5, "memory": 300}, open(cost, "w"))
    if how != "nothing":
        text = "1 0 0 1 6 -4" if how != "broken" else "1 0 0 1"
        open(output, "w").write("#Insight Transform File V1.0\\n#Transform 0\\nTransform: AffineTransform_double_2_2\\n"
                                f"Parameters: {text}\\nFixedParameters: 0 0\\n")
''')


def tool(folder, how, **more):
    """The spec of the program, doing well or not."""
    (folder / "my tool.py").write_text(TOOL)
    return {"command": f"{sys.executable} 'my tool.py' {{fixed}} {{moving}} {{output}}.tfm {how} {{cost}}",
            "transform": "{output}.tfm", "format": "itk", **more}


def test_a_command_is_run_and_what_it_wrote_is_scored(heads, monkeypatch):
    monkeypatch.chdir(heads)
    specs = {how: tool(heads, how, time_limit=1 if how == "slow" else 60, if_fixed_mask="-x {fixed_mask}",
                       version=f"{sys.executable} --version")
             for how in ("good", "reports", "bad", "nothing", "broken", "slow")}
    rows = [dict(case="one", fixed="one/fixed.nii.gz", moving="one/moving.nii.gz", fixed_points="one/fixed.csv",
                 moving_points="one/moving.csv", fixed_mask="one/fixed_labels.nii.gz")]
    began = time.monotonic()
    table = compare(rows, specs, "out", measures=["tre"], threads=3)
    assert time.monotonic() - began < 30  # the slow one was ended, and what it slept in too
    why = {method: text for method, _, text in table.failures}
    assert sorted(why) == ["bad", "broken", "nothing", "slow"]
    assert why["bad"].startswith("ended with code 3; it printed last:") and "the reason" in why["bad"]
    assert "wrote no output.tfm" in why["nothing"] and "over the time limit of 1 s" in why["slow"]
    log = (heads / "out" / "runs" / "bad" / "one.log").read_text()
    assert "threads 3 ['-x'" in log and "fixed_labels.nii.gz" in log
    assert table.cells["good", "tre"].mean < 1e-4 and table.records["good", "one"]["scope"] == "program"
    assert 5 < table.cells["good", "memory"].mean < 60 and table.cells["good", "seconds"].mean > 0
    assert (table.cells["reports", "seconds"].mean, table.cells["reports", "memory"].mean) == (1.25, 300)
    assert "version Python 3" in str(table) and "masks are passed" in str(table)
    before = (heads / "my tool.py").stat().st_mtime
    (heads / "my tool.py").write_text(TOOL + "\n# changed\n")
    begun = []
    compare(rows, {"good": specs["good"]}, "out", measures=["tre"], threads=3, callback=events(begun))
    assert begun[0] == ("begin", "good", "one", "changed: files of the command") and before


def test_programs_end_with_a_reason(tmp_path):
    with pytest.raises(RunFailed, match="cannot start: No such file"):
        execute([str(tmp_path / "gone")], tmp_path, tmp_path / "log", 1)
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(RunFailed, match="ended by SIGKILL, perhaps for lack of memory"):
        execute([sys.executable, "-c", code], tmp_path, tmp_path / "log", 1)
    found = execute([sys.executable, "-c", "x = b'x' * (200 << 20); print(len(x))"], tmp_path, tmp_path / "log", 1)
    assert found["code"] == 0 and 190 < found["memory"] < 300 and (tmp_path / "log").read_text() == f"{200 << 20}\n"
    assert first_line([sys.executable, "-c", "print(); print('v 1')"], tmp_path) == "v 1"
    assert first_line([str(tmp_path / "gone")], tmp_path) == "unknown (FileNotFoundError)"
    assert first_line([sys.executable, "-c", "raise SystemExit(2)"], tmp_path) == "unknown (exit code 2)"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks a process up as Linux has it")
def test_a_program_does_not_outlive_a_killed_comparison(tmp_path):
    code = ("import sys; from pathlib import Path; from classreg.compare.external import execute\n"
            "child = 'import os, time; open(\\'pid\\', \\'w\\').write(str(os.getpid())); time.sleep(60)'\n"
            "execute([sys.executable, '-c', child], Path(sys.argv[1]), Path(sys.argv[1]) / 'log', 1)")
    root = str(Path(classreg.__file__).parents[1])
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": root})
    assert _within(30, lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    pid = int((tmp_path / "pid").read_text())
    assert _within(30, lambda: not Path(f"/proc/{pid}").exists() or _state(pid) == "Z")


def _within(seconds, true):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not true():
        time.sleep(0.1)
    return true()


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


def test_transforms_that_are_there(heads):
    grid = head_phantom(8.0, ndim=2, seed=0).fixed.grid
    for name in ("one", "two"):
        write_transform(FittedTransform.from_matrix(SHIFT, grid), heads / name / "theirs.tfm")
    spec = {"transforms": str(heads / "{case}" / "theirs.tfm"), "format": "itk", "version": "theirs 3"}
    table = compare(heads / "cases.csv", {"theirs": spec}, heads / "out", measures=["tre"])
    assert [(m, c) for m, c, _ in table.failures] == [("theirs", "three")]
    assert table.cells["theirs", "tre"].n == 2 and table.cells["theirs", "tre"].mean < 1e-4
    assert ("theirs", "seconds") not in table.cells and "version theirs 3" in str(table)
    write_transform(FittedTransform.from_matrix(np.eye(3), grid), heads / "two" / "theirs.tfm")
    log = []
    table = compare(heads / "cases.csv", {"theirs": spec}, heads / "out", measures=["tre"], callback=events(log))
    assert ("begin", "theirs", "two", "changed: transform") in log
    assert table.values["theirs", "tre"]["two"] == pytest.approx(np.hypot(6, 4), abs=1e-4)


# -- methods in processes of their own --

def test_a_model_runs_in_a_process_of_its_own(heads):
    spec = {"model": "translation", "metric": "ncc", "levels": [2], "iterations": 20}
    rows = (heads / "cases.csv").read_text().splitlines()[:2]
    (heads / "cases.csv").write_text("\n".join(rows) + "\n")
    table = compare(heads / "cases.csv", {"ours": spec}, heads / "out", measures=["tre"], threads=1)
    assert table.failures == [] and table.cells["ours", "tre"].mean < 2
    record = table.records["ours", "one"]
    assert record["scope"] == "call" and record["notes"]["status"].startswith("translation: ")
    assert "metric = ncc" in record["notes"]["plan"] and record["cost"]["memory"] > 50


def test_the_worker_runs_functions_and_reports_what_is_refused(heads, monkeypatch):
    (heads / "their_module.py").write_text("import numpy\n\nclass Inner:\n    def run(fixed, moving):\n"
                                           "        return numpy.eye(3)\n\nnumber = 3\n")
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(**job):
        folder = heads / "work"
        folder.mkdir(exist_ok=True)
        files = {"fixed": str(heads / "one" / "fixed.nii.gz"), "moving": str(heads / "one" / "moving.nii.gz")}
        (folder / "job.json").write_text(json.dumps({"folder": str(heads), "files": files, "threads": 1, **job}))
        worker.main(folder / "job.json")
        return json.loads((folder / "report.json").read_text())

    found = run(kind="function", spec={"function": "their_module:Inner.run"})
    assert found["file"] == "transform.tfm" and found["cost"]["seconds"] >= 0
    assert "must be a function" in run(kind="function", spec={"function": "their_module:number"})["error"]
    assert "cannot import their_module:gone" in run(kind="function", spec={"function": "their_module:gone"})["error"]
    assert run(kind="baseline", spec={"baseline": "none"})["status"].startswith("none")
    (heads / "their map.txt").write_text('(Transform "TranslationTransform")\n(Metric "AdvancedMeanSquares")\n'
                                         "(NumberOfResolutions 1)\n(MaximumNumberOfIterations 5)\n"
                                         "(NumberOfSpatialSamples 200)\n")
    found = run(kind="parameters", spec={"parameters": ["their map.txt"]})
    assert found.get("file") == "transform.tfm" and "ssd" in found["plan"], found
    assert _module("their_module", heads) == heads / "their_module.py"
    assert _module("classreg.compare.runner", heads).name == "runner.py" and _module("no.such", heads) is None
    job = job_of(read_methods({"m": {"model": "rigid"}})[0], read_cases(heads / "cases.csv")[0], 2)
    assert job["threads"] == 2 and Path(job["files"]["fixed"]).is_absolute()


# -- the command line --

def command(*args):
    return CliRunner().invoke(cli.app, ["compare", *map(str, args)])


def test_command_line_exit_codes(heads, monkeypatch):
    monkeypatch.chdir(heads)
    tool(heads, "good")
    good = f"good@itk={sys.executable} 'my tool.py' {{fixed}} {{moving}} {{output}}.tfm good x"
    bad = {"bad": {**tool(heads, "bad"), "transform": "{output}.tfm"}}
    (heads / "more.json").write_text(json.dumps(bad))
    done = command("cases.csv", "--methods", good, "-o", "out", "--measures", "tre", "--threads", 1)
    assert done.exit_code == 0, done.output
    assert "| good |" in done.stdout and "Written to out." in done.stdout
    quiet = command("cases.csv", "--methods", good, "-o", "out", "--measures", "tre", "--threads", 1, "--quiet")
    assert (quiet.exit_code, quiet.stdout) == (0, "")
    done = command("cases.csv", "-m", good, "-m", "more.json", "-o", "out", "--measures", "tre", "--threads", 1)
    assert done.exit_code == 1 and "3 of 3" in done.stdout and "3 of 6 runs failed" in done.output
    assert command("gone.csv", "-m", "rigid", "-o", "out").exit_code == 1
    assert "did you mean 'rigid'" in command("cases.csv", "-m", "rigit", "-o", "out").output
    assert command("cases.csv", "-o", "out").exit_code == 2


def test_command_line_interrupted(heads, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("classreg.compare.compare", stop)
    done = command(heads / "cases.csv", "-m", "rigid", "-o", heads / "out")
    assert done.exit_code == 130 and "What is finished stays in" in done.output

"""The command line: options reach the API, errors become exit codes, nothing heavy loads before its time."""

from __future__ import annotations

import io as text_io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import classreg
from classreg import cli
from classreg.cli.common import progress
from classreg.cli.demo import DEMO_SPACING
from classreg.datasets import head_phantom
from classreg.errors import ConvergenceError
from classreg.grid import Grid
from classreg.image import Image
from classreg.io import load, save_image

TURN = np.array([[0.8, -0.6], [0.6, 0.8]])
SHIFT = np.array([6.0, -4.0])  # moving(x + SHIFT) = fixed(x)


def picture(points) -> np.ndarray:
    """Smooth, asymmetric, without a dark border; points (..., 2) in mm."""
    x, y = points[..., 0] - 20, points[..., 1] - 30
    blobs = [(90, 0, 0, 14), (60, 16, -9, 7), (-50, -14, 12, 8), (40, -6, -22, 6)]
    return 100 + sum(h * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * s * s)) for h, a, b, s in blobs)


def grids() -> tuple[Grid, Grid]:
    """Fixed: oblique, anisotropic, off-origin; moving: other spacing, flipped."""
    fixed = Grid.from_spacing((60, 72), (1.5, 1.2), origin=(20.0, -40.0), direction=TURN)
    moving = Grid.from_spacing((84, 90), (1.3, 1.4), origin=(80.0, -30.0), direction=np.diag([-1.0, 1.0]))
    return fixed, moving


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Paths of two images with a known shift between them, in a folder with a space and an umlaut."""
    folder = tmp_path_factory.mktemp("päir of images")
    fixed, moving = grids()
    save_image(Image(picture(fixed.points()).astype(np.float32), fixed), folder / "fixed.nii.gz")
    save_image(Image(picture(moving.points() - SHIFT).astype(np.float32), moving), folder / "moving.nii.gz")
    return folder / "fixed.nii.gz", folder / "moving.nii.gz"


def record(**fields) -> SimpleNamespace:
    return SimpleNamespace(**{"stage": "affine", "level": 1, "levels": 3, "iteration": 5, "iterations": 50,
                              "value": 0.5, "seconds": 0.1, **fields})


class Outcome:
    """A stand-in for a result."""

    status = "converged after 5 iterations"
    seconds = 1.25

    def save(self, folder):
        folder.mkdir(parents=True)
        (folder / "saved").write_text("yes")

    def summary(self):
        return {"similarity": (0.9, 0.125), "verdict": (None, "good")}


@pytest.fixture
def engine(monkeypatch):
    """Replaces `classreg.register`; `.calls` holds what it was given, `.act` is run inside it."""
    stand_in = SimpleNamespace(calls=[], act=lambda: None)

    def register(fixed, moving, **options):
        stand_in.calls.append((fixed, moving, options))
        options["callback"](record())
        stand_in.act()
        return Outcome()

    monkeypatch.setattr(classreg, "register", register, raising=False)
    return stand_in


def run(*args):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args])


def process(*args, code="from classreg.cli import main; main()", **options):
    return subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True,
                          encoding="utf-8", timeout=300, **options)


def plain(text: str) -> str:
    """Without frames and line breaks of the terminal."""
    return re.sub(r"[│\s]+", " ", re.sub(r"\x1b\[[0-9;]*m", "", text))


# -- register: what reaches the engine, and what comes out --

def test_register_passes_its_options_on(engine, tmp_path):
    out = tmp_path / "new" / "out"
    done = run("register", "f.nii", "m.nii", "-o", out, "--model", "affine", "--metric", "ncc",
               "--fixed-mask", "a.nii", "--moving-mask", "b.nii", "--init", "moments", "--threads", 3,
               "--time-limit", 20, "--levels", "4,2,1", "--memory-limit", "2GB",
               "--fixed-points", "p.csv", "--moving-points", "q.csv", "--optimiser", '{"name": "asgd", "step": 1}',
               "--prior", '{"name": "singular_values"}', "--regulariser", "tv", "--regulariser", '{"name": "volume"}',
               "--samples", 2048)
    assert done.exit_code == 0, done.output
    fixed, moving, options = engine.calls[0]
    assert (str(fixed), str(moving)) == ("f.nii", "m.nii")
    callback = options.pop("callback")
    assert callable(callback)
    assert options.pop("priors") == [{"name": "singular_values"},
                                     {"name": "landmarks", "fixed": Path("p.csv"), "moving": Path("q.csv")}]
    assert {key: str(value) for key, value in options.items() if key.endswith("mask")} == {
        "fixed_mask": "a.nii", "moving_mask": "b.nii"}
    assert {key: value for key, value in options.items() if not key.endswith("mask")} == {
        "model": "affine", "metric": "ncc", "init": "moments", "threads": 3, "time_limit": 20.0, "memory_limit": "2GB",
        "levels": [4.0, 2.0, 1.0], "optimiser": {"name": "asgd", "step": 1}, "regularisers": ["tv", {"name": "volume"}],
        "sampling": {"name": "random", "samples": 2048.0}}
    assert (out / "saved").exists()
    assert Outcome.status in done.stdout
    assert re.search(r"similarity\W+0\.9\W+0\.125", done.stdout) and re.search(r"verdict\W+good", done.stdout)
    assert "1.2 s" in done.stdout


def test_register_defaults_leave_the_choice_to_the_library(engine, tmp_path):
    assert run("register", "f.nii", "m.nii", "-o", tmp_path / "out").exit_code == 0
    options = engine.calls[0][2]
    options.pop("callback")
    assert options == {"model": "bspline", "metric": "auto", "fixed_mask": None, "moving_mask": None,
                       "init": "auto", "threads": None, "time_limit": None, "memory_limit": None,
                       "levels": None, "priors": [], "optimiser": None, "regularisers": None, "sampling": None}


def test_landmarks_come_in_pairs(engine, tmp_path):
    done = run("register", "f.nii", "m.nii", "-o", tmp_path / "out", "--fixed-points", "p.csv")
    assert done.exit_code == 2 and "give --fixed-points and --moving-points, or neither" in plain(done.output)
    assert not engine.calls


def test_a_metric_may_be_json(engine, tmp_path):
    metric = {"name": "composite", "parts": [{"metric": {"name": "mi", "bins": 24}, "channels": [0], "weight": 2.0}]}
    assert run("register", "f.nii", "m.nii", "-o", tmp_path / "out", "--metric", json.dumps(metric)).exit_code == 0
    assert engine.calls[0][2]["metric"] == metric
    wrong = run("register", "f.nii", "m.nii", "-o", tmp_path / "out", "--metric", "{name: mi}")
    assert wrong.exit_code == 2 and "is no JSON" in plain(wrong.output)


def test_init_may_be_a_file(engine, tmp_path):
    start = tmp_path / "start.tfm"
    start.write_text("x")
    run("register", "f.nii", "m.nii", "-o", tmp_path / "out", "--init", start)
    assert engine.calls[0][2]["init"] == start


def test_quiet_says_nothing(engine, tmp_path):
    done = run("register", "f.nii", "m.nii", "-o", tmp_path / "out", "--quiet")
    assert done.exit_code == 0 and done.stdout == "" and done.stderr == ""
    assert (tmp_path / "out" / "saved").exists()


def test_quiet_still_shows_errors(engine, tmp_path):
    def fail():
        raise ConvergenceError("the value became NaN at level 2")

    engine.act = fail
    done = run("register", "f.nii", "m.nii", "-o", tmp_path / "out", "-q")
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr == "Error: the value became NaN at level 2\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_runs_are_saved(engine, tmp_path, number, code):
    before = signal.getsignal(number)

    def interrupt():
        with pytest.raises(KeyboardInterrupt):  # what the engine does: it takes the best so far
            signal.raise_signal(number)

    engine.act = interrupt
    done = run("register", "f.nii", "m.nii", "-o", tmp_path / "out")
    assert done.exit_code == code
    assert (tmp_path / "out" / "saved").exists() and Outcome.status in done.stdout
    assert signal.getsignal(number) is before


def test_an_interrupt_that_nobody_catches(engine, tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    engine.act = interrupt
    done = run("register", "f.nii", "m.nii", "-o", tmp_path / "out")
    assert done.exit_code == 130 and "Interrupted" in done.stderr and not (tmp_path / "out").exists()


def test_output_is_checked_before_any_work(engine, tmp_path):
    file = tmp_path / "file"
    file.write_text("precious")
    for out in (file, file / "below"):
        done = run("register", "f.nii", "m.nii", "-o", out)
        assert done.exit_code == 1 and f"{file} is a file" in done.stderr
    assert engine.calls == [] and file.read_text() == "precious"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc, where even root can make no file")
def test_a_folder_that_only_looks_writable(engine, monkeypatch):
    monkeypatch.setattr(classreg, "apply", lambda *args, **options: pytest.fail("was called"), raising=False)
    for args in (("register", "f.nii", "m.nii", "-o", "/proc/out"), ("demo", "-o", "/proc/out"),
                 ("apply", "t.tfm", "m.nii", "r.nii", "-o", "/proc/warped.nii")):
        done = run(*args)
        assert done.exit_code == 1 and "cannot write in the folder /proc" in done.stderr, done.output
    assert engine.calls == []


def test_trying_the_folder_leaves_nothing_behind(engine, tmp_path):
    def look():
        assert list(tmp_path.iterdir()) == []

    engine.act = look
    assert run("register", "f.nii", "m.nii", "-o", tmp_path / "new" / "out").exit_code == 0
    assert len(engine.calls) == 1


@pytest.mark.parametrize("levels", ["4,2,x", "four", "4,,1", ""])
def test_levels_that_are_no_factors(engine, tmp_path, levels):
    done = run("register", "f.nii", "m.nii", "-o", tmp_path / "out", "--levels", levels)
    assert done.exit_code == 2 and "4,2,1" in plain(done.stderr) and engine.calls == []


@pytest.mark.parametrize("option", ["--threads", "--time-limit"])
def test_numbers_below_their_range(engine, tmp_path, option):
    assert run("register", "f.nii", "m.nii", "-o", tmp_path / "out", option, "-3").exit_code == 2
    assert engine.calls == []


def test_the_bar_shows_stage_level_and_value():
    screen = text_io.StringIO()
    with progress(Console(file=screen, force_terminal=True, width=120), quiet=False) as callback:
        assert callback(record(value=0.75)) is None
        callback(record(stage="bspline", level=2, iteration=7, iterations=40, value=0.25))
    shown = plain(screen.getvalue())
    assert "bspline, level 2 of 3" in shown and "7/40" in shown and "value 0.25" in shown


def test_no_bar_where_quiet():
    screen = text_io.StringIO()
    with progress(Console(file=screen, force_terminal=True, width=120), quiet=True) as callback:
        callback(record())
    assert screen.getvalue() == ""


# -- apply --

def test_apply_passes_its_options_on(monkeypatch, tmp_path):
    calls = []
    image = Image(np.arange(20.0, dtype=np.float32).reshape(4, 5), Grid.from_spacing((4, 5), (2.0, 3.0)))

    def apply(*args, **options):
        calls.append((args, options))
        return image

    monkeypatch.setattr(classreg, "apply", apply, raising=False)
    out = tmp_path / "deep" / "warped.nii.gz"
    done = run("apply", "t.tfm", "m.nii", "r.nii", "-o", out, "--interpolation", "label")
    assert done.exit_code == 0, done.output
    assert [str(path) for path in calls[0][0]] == ["t.tfm", "m.nii", "r.nii"]
    assert calls[0][1] == {"interpolation": "label", "format": "auto"}
    assert np.array_equal(load(out).array, image.array) and load(out).grid.same_as(image.grid)


def test_apply_never_overwrites_its_input(pair, monkeypatch):
    monkeypatch.setattr(classreg, "apply", lambda *args, **options: pytest.fail("was called"), raising=False)
    fixed, moving = pair
    before = moving.read_bytes()
    done = run("apply", "t.tfm", moving, fixed, "-o", moving.parent / "." / moving.name)
    assert done.exit_code == 1 and "one of the inputs" in done.stderr and moving.read_bytes() == before


# -- check --

def test_check_of_a_sound_pair(pair):
    done = run("check", *pair, "--model", "affine")
    assert done.exit_code == 0, done.output
    text = plain(done.stdout)
    assert "60 x 72 voxels" in text and "affine needs about" in text and "error" not in text


def test_check_of_a_pair_that_will_fail(pair, tmp_path):
    constant = Image(np.full((9, 11, 13), 7, np.int16), Grid.from_spacing((9, 11, 13), (3.0, 1.0, 1.0)))
    save_image(constant, tmp_path / "constant.nii")
    done = run("check", pair[0], tmp_path / "constant.nii")
    assert done.exit_code == 1
    text = plain(done.stdout)
    assert "constant (value 7)" in text and "2-D" in text and "(array[None])" in text


def test_check_of_a_missing_file_and_an_unknown_model(pair):
    done = run("check", pair[0], "nowhere.nii")
    assert done.exit_code == 1 and "nowhere.nii" in done.stderr and "moving" in done.stderr
    done = run("check", *pair, "--model", "bsplne")
    assert done.exit_code == 1 and "did you mean 'bspline'" in done.stderr


def test_check_starts_no_compiler(pair):
    code = ("import sys\nfrom classreg.cli import app\napp(standalone_mode=False)\n"
            "from classreg.warmup import kernels\n"
            "assert not any(kernel.signatures for _, kernel in kernels()) and 'matplotlib' not in sys.modules")
    done = process("check", *pair, code=code)
    assert done.returncode == 0, done.stderr


# -- usage, in a process of its own --

def test_help_loads_no_numbers():
    code = ("import sys\nfrom classreg.cli import app\napp(standalone_mode=False)\n"
            "assert not {'numpy', 'numba', 'SimpleITK'} & set(sys.modules)")
    done = process("--help", code=code)
    assert done.returncode == 0, done.stderr
    listed = re.findall(r"^\W*([a-z]+)  ", done.stdout.split("Commands")[1], re.MULTILINE)
    assert listed == [command.__name__ for command in cli.COMMANDS] and len(listed) >= 10


def test_version():
    done = process("--version")
    assert done.returncode == 0 and re.fullmatch(r"classreg \d+\.\d+\S*\n", done.stdout)


@pytest.mark.parametrize("args, near", [
    (["registr", "a", "b"], "did you mean 'register'"),
    (["register", "a", "b", "-o", "c", "--modle", "rigid"], "--model"),
    (["check", "a"], "MOVING")])
def test_wrong_usage_names_the_nearest(args, near):
    done = process(*args)
    assert done.returncode == 2 and near in plain(done.stderr) and done.stdout == ""


def test_errors_have_no_traceback(tmp_path):
    done = process("register", "nowhere.nii", "neither.nii", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.lstrip().startswith("Error: ") and "nowhere.nii" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_demo_names_the_nearest_size(tmp_path):
    done = run("demo", "-o", tmp_path / "out", "--size", "smal")
    assert done.exit_code == 1 and "did you mean 'small'" in done.stderr and not (tmp_path / "out").exists()


# -- demo --

class Truth:
    """A stand-in for a fitted transform: the true map of the phantom."""

    def __init__(self, pair):
        self.pair = pair

    def map_points(self, points, frm, to, space):
        assert (frm, to, space) == ("fixed", "moving", "world")
        return self.pair.true_map(points)

    def jacobian_determinant(self):
        return np.array([-1.0, 1.0, 1.0, 1.0])


@pytest.fixture
def truth(engine, monkeypatch):
    """Registration that returns the truth whatever the model."""
    pair = head_phantom(spacing=DEMO_SPACING["small"], seed=0)
    monkeypatch.setattr(Outcome, "transform", Truth(pair), raising=False)

    def apply(transform, moving, reference, *, interpolation):
        assert interpolation == "label" and np.array_equal(moving.array, pair.moving_labels.array)
        assert reference.grid.same_as(pair.fixed.grid)
        return pair.fixed_labels

    monkeypatch.setattr(classreg, "apply", apply, raising=False)
    return pair


def rows_of(stdout) -> dict[str, list[float]]:
    """The numbers in the rows of the demo's table."""
    cells = [re.findall(r"[\w.]+", line) for line in stdout.splitlines()]
    return {row[0]: [float(cell) for cell in row[1:]] for row in cells
            if row and row[0] in ("before", "rigid", "affine", "bspline")}


def test_demo_prints_one_row_per_model(engine, truth, tmp_path):
    out = tmp_path / "demo"
    done = run("demo", "-o", out, "--size", "small")
    assert done.exit_code == 0, done.output
    assert [options["model"] for _, _, options in engine.calls] == ["rigid", "affine", "bspline"]
    rows = rows_of(done.stdout)
    error = np.linalg.norm(truth.fixed_points - truth.moving_points, axis=1).mean()
    assert list(rows) == ["before", "rigid", "affine", "bspline"]
    assert rows["before"][0] == pytest.approx(error, abs=0.006) and 0 < rows["before"][1] < 0.8
    for model in ("rigid", "affine", "bspline"):
        assert rows[model] == [0.0, 1.0, 25.0, 1.2]
        assert (out / model / "saved").exists()
    written = load(out / "input" / "moving_labels.nii.gz")
    assert np.array_equal(written.array, truth.moving_labels.array)
    assert written.grid.same_as(truth.moving.grid)
    assert "report.html" in done.stdout


def test_demo_quiet(truth, tmp_path):
    done = run("demo", "-o", tmp_path / "demo", "--size", "small", "--quiet")
    assert done.exit_code == 0 and done.stdout == "" and done.stderr == ""
    assert (tmp_path / "demo" / "bspline" / "saved").exists()


def test_an_interrupted_demo_shows_what_it_has(engine, truth, tmp_path):
    def interrupt():
        if len(engine.calls) == 2:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    engine.act = interrupt
    done = run("demo", "-o", tmp_path / "demo", "--size", "small")
    assert done.exit_code == 130 and list(rows_of(done.stdout)) == ["before", "rigid", "affine"]


# -- with the engine --

@pytest.mark.parametrize("option, value, near", [("--model", "rigd", "rigid"), ("--metric", "lnc", "lncc"),
                                                 ("--init", "geometri", "geometry")])
def test_unknown_names(pair, tmp_path, option, value, near):
    done = run("register", *pair, "-o", tmp_path / "out", option, value)
    assert done.exit_code == 1 and f"did you mean '{near}'" in done.stderr


def test_levels_too_coarse_for_the_image(pair, tmp_path):
    done = run("register", *pair, "-o", tmp_path / "out", "--model", "rigid", "--levels", "30,1")
    assert done.exit_code == 1 and "level 1 of 2" in done.stderr and not (tmp_path / "out").exists()


def test_register_recovers_a_known_shift(pair, tmp_path):
    out = tmp_path / "out"
    done = process("register", *pair, "-o", out, "--model", "rigid", "--metric", "ssd", "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert f"Saved to {out}" in done.stdout
    assert (out / "report.html").exists()
    warped = load(next(out.glob("warped.*")))
    fixed = load(pair[0])
    moving = load(pair[1])
    assert warped.grid.same_as(fixed.grid)
    inner = (slice(12, -12), slice(12, -12))
    error = np.abs(warped.array - fixed.array)[inner].mean()
    assert error < 0.1 * np.abs(picture(fixed.grid.points() - SHIFT) - fixed.array)[inner].mean()

    transform = next(path for path in sorted(out.iterdir()) if path.name.startswith("transform"))
    done = process("apply", transform, pair[1], pair[0], "-o", out / "again.nii.gz",
                   "--interpolation", "cubic")
    assert done.returncode == 0, done.stderr
    again = load(out / "again.nii.gz")
    assert again.grid.same_as(fixed.grid)
    assert np.abs(again.array - fixed.array)[inner].max() < 0.05 * np.ptp(moving.array)


@pytest.mark.slow
def test_demo(tmp_path):
    out = tmp_path / "demo"
    done = process("demo", "-o", out, "--size", "small")
    assert done.returncode == 0, done.stderr
    rows = rows_of(done.stdout)
    assert list(rows) == ["before", "rigid", "affine", "bspline"]
    error, overlap = ([row[column] for row in rows.values()] for column in (0, 1))
    assert error == sorted(error, reverse=True) and error[-1] < 0.5 * error[0]
    assert overlap == sorted(overlap)
    assert rows["rigid"][2] == rows["affine"][2] == 0 and rows["bspline"][2] < 1
    assert {path.name for path in (out / "input").iterdir()} == {
        "fixed.nii.gz", "moving.nii.gz", "fixed_labels.nii.gz", "moving_labels.nii.gz"}
    for model in ("rigid", "affine", "bspline"):
        assert (out / model / "report.html").exists()
    assert "report.html" in done.stdout

"""Comparisons against users and methods that do what they should not."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from classreg.compare import compare, read_cases
from classreg.compare.cases import Data
from classreg.compare.external import RunFailed, execute, fill, program, tail
from classreg.compare.methods import check_for, read_methods
from classreg.compare.runner import _code, _fingerprint
from classreg.datasets import head_phantom
from classreg.errors import InputError, OptionError
from classreg.grid import Grid
from classreg.image import Image
from classreg.io import load, save_image


@pytest.fixture
def row(tmp_path, monkeypatch):
    """A case in the working folder."""
    monkeypatch.chdir(tmp_path)
    pair = head_phantom(8.0, ndim=2, linear="translation", deformation=0.0)
    for key in ("fixed", "moving"):
        save_image(getattr(pair, key), f"{key}.nii.gz")
    return {"case": "one", "fixed": "fixed.nii.gz", "moving": "moving.nii.gz"}


def still(fixed, moving):
    return np.eye(3)


def writes_into_images(fixed, moving):
    fixed.data[...] = 0
    moving.data[...] = 0
    return np.eye(3)


def test_a_function_that_writes_into_its_images_harms_no_other(row):
    table = compare([row], {"rude": writes_into_images, "still": still}, "out", measures=["ncc"], threads=1)
    assert table.cells["rude", "ncc"].mean == table.cells["still", "ncc"].mean > 0


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks a process up as Linux has it")
def test_what_a_program_leaves_running_is_ended(tmp_path, code):
    child = "import os, time; open('pid.part', 'w').write(str(os.getpid())); os.rename('pid.part', 'pid'); " \
            "time.sleep(100)"
    text = (f"import os, subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}])\n"
            f"while not os.path.exists('pid'): time.sleep(0.05)\nsys.exit({code})")
    try:
        execute([sys.executable, "-c", text], tmp_path, tmp_path / "log", 1)
    except RunFailed as failed:
        assert code and "ended with code 1" in str(failed)
    stat, end = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat"), time.monotonic() + 20
    while stat.exists() and ") Z" not in stat.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    assert not stat.exists() or ") Z" in stat.read_text()


def test_the_end_of_a_long_log_is_shown_as_text(tmp_path):
    (tmp_path / "log").write_bytes(b"first\n" + b"x" * (1 << 15) + b"\n\x1b[31mred\x07\n")
    assert "first" not in (text := tail(tmp_path / "log")) and text.endswith("     [31mred")


@pytest.mark.parametrize("given, part", [
    ({"a": {"command": [sys.executable, "{output}"]}}, "write it as one text"),
    ({"a": {"command": f"{sys.executable} {{output}}", "if_fixed_mask": 5}}, "write it as one text"),
    ({"a": {"command": f"{sys.executable} {{output}}", "version": f"{sys.executable} {{fixed}}"}}, "unknown field"),
    ({"a": {"command": f"{sys.executable} {{output}}", "transform": 5}}, "give a path, or a list of them"),
    ({"a": {"command": f"{sys.executable} {{output}}", "transform": []}}, "give a path, or a list of them"),
    ({"a": {"transforms": 5}}, "give a path, or a list of them"),
    ({"a": {"transforms": []}}, "give a path, or a list of them"),
    ({"a": {"parameters": [5]}}, "parameters are the paths"),
    ({"a": {"model": "rigid", "time_limit": float("inf")}}, "time_limit is inf"),
    ({"a": {"model": "rigid", "time_limit": True}}, "time_limit is True"),
])
def test_values_of_another_kind_are_refused(given, part):
    with pytest.raises(OptionError, match=part):
        read_methods(given)


def test_words_for_masks_need_their_files_too(row):
    save_image(load("fixed.nii.gz"), "mask.nii.gz")
    cases = read_cases([row, {**row, "case": "masked", "fixed_mask": "mask.nii.gz"}])
    method, = read_methods({"a": {"command": f"{sys.executable} {{output}}",
                                  "if_fixed_mask": "-x [{fixed_mask},{moving_mask}]"}})
    assert check_for(method, cases) == ["method 'a' needs {moving_mask}, which case 'masked' has not"]


def test_a_program_with_a_path_lies_beside_the_methods_file(tmp_path, monkeypatch):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tool").write_text("#!/bin/sh\n")
        (tmp_path / folder / "tool").chmod(0o755)
    monkeypatch.chdir(tmp_path / "here")
    assert program("./tool", tmp_path / "there") == tmp_path / "there" / "tool"
    assert program("./tool", Path()) == tmp_path / "here" / "tool"


def test_the_code_of_an_object_and_what_a_part_holds_are_seen(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    objects = []
    for name, scale in (("first", 1), ("again", 1), ("edited", 2)):
        (tmp_path / f"{name}.py").write_text(f"class Scaled:\n    def __call__(self, f, m):\n        return {scale}\n")
        objects.append(importlib.import_module(name).Scaled())
    codes = [_code(each) for each in objects]
    assert codes[0] == codes[1] != codes[2]
    one, same, two = (functools.partial(still, k) for k in (1, 1, 2))
    assert _code(one) == _code(same) != _code(two)


def test_variables_of_commands_and_files_to_begin_with_are_seen(row, monkeypatch):
    data = Data(read_cases([row])[0])
    Path("start.tfm").write_text("a")

    def prints():
        methods = read_methods({"command": {"command": f"{sys.executable} $HOW {{output}}"},
                                "model": {"model": "rigid", "init": "start.tfm"}})
        return [_fingerprint(method, data, 1, {}) for method in methods]

    monkeypatch.setenv("HOW", "fast")
    before = prints()
    monkeypatch.setenv("HOW", "slow")
    Path("start.tfm").write_text("b")
    for a, b, key in zip(before, prints(), ("variables", "init")):
        assert {k for k in a if a[k] != b[k]} == {key}


def test_no_boxes_are_left_of_a_former_comparison(row):
    Path("out").mkdir()
    for name in ("boxes-tre.png", "mine.png"):
        (Path("out") / name).write_bytes(b"old")
    compare([row], [still], "out", measures=["folding"], threads=1)
    assert [p.name for p in Path("out").glob("*.png")] == ["mine.png"]


def test_rows_of_other_tables(row):
    found, = read_cases([{**row, "case": 0, "fixed_labels": float("nan"), "subject": 0, "labels": None}])
    assert (found.name, found.fixed_labels, found.subject) == ("0", None, "0")
    with pytest.raises(InputError, match="case 'one': moving_mask is 3; give the path of a file"):
        read_cases([{**row, "moving_mask": 3}])
    Path("c.csv").write_text("\n ,\r\ncase,fixed,moving\r\n\r\none,fixed.nii.gz,gone.nii.gz\r\none,fixed.nii.gz\r\n")
    with pytest.raises(InputError, match="row 6 has no moving"):
        read_cases("c.csv")


@pytest.mark.parametrize("suffix", ["nii.gz", "mha", "png"])
def test_files_that_do_not_fit_their_images_are_found_before_anything_runs(row, suffix):
    """Whatever case they belong to, and all at once."""
    fixed = load("fixed.nii.gz")
    save_image(fixed.with_array(fixed.array.astype(np.uint8)), f"right.{suffix}")
    save_image(Image(np.ones((4, 5), np.uint8), Grid.from_spacing((4, 5), 1.0)), f"wrong.{suffix}")
    save_image(Image(np.ones((4, 5, 6), np.uint8), Grid.from_spacing((4, 5, 6), 1.0)), "volume.nii.gz")
    Path("volume.csv").write_text("1,2,3\n4,5,6\n")
    last = {**row, "case": "last", "fixed_mask": f"wrong.{suffix}",
            **{f"{end}_{kind}": f"volume.{end_of}" for kind, end_of in (("labels", "nii.gz"), ("points", "csv"))
               for end in ("fixed", "moving")}}
    right = {"fixed": f"right.{suffix}", "fixed_mask": f"right.{suffix}"} if suffix != "png" else {}
    never = {"never": lambda fixed, moving: pytest.fail("was run")}
    with pytest.raises(InputError) as caught:
        compare([{**row, **right}, last], never, "out", measures=["dice"], threads=1)
    told = sorted(str(caught.value).splitlines()[1:])
    parts = ["fixed_labels is 3-D, the fixed image 2-D", "fixed_mask lies on another grid than its image",
             "fixed_points is 3-D, the fixed image 2-D", "moving_labels is 3-D, the fixed image 2-D"]
    assert len(told) == 4 and all(f"case 'last': {part}" in line for part, line in zip(parts, told)), told
    assert not Path("out").exists()


def test_variables_in_braces_are_no_fields(row, monkeypatch):
    monkeypatch.setenv("SCANS", "some {folder}")
    tool, there = read_methods({"tool": {"command": f"{sys.executable} ${{SCANS}}/$SCANS {{output}}.tfm"},
                                "there": "${SCANS}/{case}.tfm"})
    assert tool.words[0][1:] == ["some {folder}/some {folder}", "{output}.tfm"]
    assert fill(tool.words[0][1], {}) == "some {folder}/some {folder}"
    assert there.kind == "transforms" and there.files() == ["some {folder}/{case}.tfm"]
    for line in (f"a={sys.executable} ${{GONE}} {{output}}.tfm", "a=${GONE}/{case}.tfm"):
        with pytest.raises(OptionError, match="the environment variable GONE, which is not set"):
            read_methods(line)


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not locked there")
def test_one_comparison_at_a_time_writes_to_a_folder(row):
    met = []

    def again(fixed, moving):
        try:
            compare([row], [still], "out", measures=["folding"], threads=1)
        except InputError as error:
            met.append(str(error))
        return np.eye(3)

    assert not compare([row], [again], "out", measures=["folding"], threads=1).failures
    assert met == ["another comparison is running in out; wait for it, or give another folder"]
    assert not compare([row], [still], "out", measures=["folding"], threads=1).failures


def test_a_function_that_goes_elsewhere_takes_no_path_along(row, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def goes(fixed, moving):
        os.chdir(elsewhere)
        return np.eye(3)

    table = compare([row], {"goes": goes, "still": still}, "out", measures=["folding"], threads=1)
    assert not table.failures and Path("out/table.md").is_file() and not list(elsewhere.iterdir())


def test_names_that_some_systems_do_not_tell_apart_are_refused(row):
    with pytest.raises(InputError, match="'ONE' is there twice"):
        read_cases([row, {**row, "case": "ONE"}])
    with pytest.raises(OptionError, match="two methods are called 'a'"):
        read_methods({"a": "rigid", "A": "affine"})

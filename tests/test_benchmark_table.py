"""The benchmark that makes the table of the real pairs, and the programs that are its guests."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import classreg
from classreg.compare import read_cases
from classreg.compare.table import tabulate
from classreg.io import load
from classreg.io.points import load_points

FOLDER = Path(classreg.__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """What the script defines."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return runpy.run_path(str(FOLDER / "table.py"))


@pytest.fixture
def data(tmp_path):
    """A folder laid out as CLASSREG_DATA is, its images a byte each."""
    for case, kinds in (("with-labels", ("", "_labels")), ("with-points", ("", "_points")), ("neither", ("",)),
                        ("half", ("", "_labels"))):
        folder = tmp_path / "pairs" / case
        folder.mkdir(parents=True)
        (folder / "case.json").write_text(json.dumps({"evaluation_labels": [3, 1]} if case == "with-labels" else {}))
        for end in ("fixed", "moving"):
            for kind in kinds:
                text = "1,2,3\n" if kind == "_points" else "x"
                (folder / f"{end}{kind}{'.csv' if kind == '_points' else '.nii.gz'}").write_text(text)
    (tmp_path / "pairs" / "half" / "moving_labels.nii.gz").unlink()
    slices = tmp_path / "groups" / "brain-2d-labelled"
    slices.mkdir(parents=True)
    (slices / "case.json").write_text(json.dumps({"evaluation_labels": [7]}))
    for number in ("01", "02", "03"):
        (slices / f"image_{number}.nii.gz").write_text("x")
        (slices / f"labels_{number}.nii.gz").write_text("x")
    return tmp_path


def test_cases_are_the_pairs_with_a_truth(script, data, tmp_path):
    cases = read_cases(script["write_cases"](script["CASES"]["pairs"](data, tmp_path), tmp_path / "out" / "cases.csv"))
    assert [case.name for case in cases] == ["with-labels", "with-points"]
    assert cases[0].labels == (3, 1) and cases[0].fixed_points is None
    assert cases[1].fixed_points == data / "pairs" / "with-points" / "fixed_points.csv" and cases[1].labels is None
    around = read_cases(script["write_cases"](script["CASES"]["slices"](data, tmp_path), tmp_path / "slices.csv"))
    assert [case.name for case in around] == ["01-02", "02-03", "03-01"]
    assert around[2].moving_labels.name == "labels_01.nii.gz" and around[2].labels == (7,)


def test_guests_are_those_whose_python_is_named(script, monkeypatch):
    for name in ("ANTS", "ELASTIX", "GREEDY"):
        monkeypatch.delenv(f"{name}_PYTHON", raising=False)
    monkeypatch.setenv("GREEDY_PYTHON", sys.executable)
    rows, missing = script["methods"]()
    assert "none" in rows and rows["classreg-greedy"] == "model:greedy"
    assert missing == ["ants-program (ANTS_PYTHON)", "ants-syn-program (ANTS_PYTHON)",
                       "elastix-program (ELASTIX_PYTHON)"]
    guest = rows["greedy-program"]
    assert guest.words[0][:2] == [sys.executable, "greedy.py"] and (guest.folder / "greedy.py").is_file()
    assert guest.spec["command"].startswith("$GREEDY_PYTHON")  # the table names no folder of this machine


def test_every_case_has_a_row_of_its_own(script, data, tmp_path):
    cases = read_cases(script["write_cases"](script["CASES"]["slices"](data, tmp_path), tmp_path / "slices.csv"))
    record = {"scores": {"measures": {"dice": 0.5}, "labels": {}, "lost": []}, "cost": {}, "versions": {}}
    records = {("a", "01-02"): record, ("a", "02-03"): {"error": "in /some/folder/of/mine.py"}}
    from classreg.compare import read_methods

    table = tabulate(records, cases, read_methods({"a": {"model": "rigid"}}), ("dice", "tre"), "a")
    page = script["case_by_case"](table)
    assert page == "## Dice\n\n| method | 01-02 |\n| --- | --: |\n| a | 0.500 |"
    assert script["without_folders"]("in /some/folder/of/mine.py, 1/2 of a/b") == "in mine.py, 1/2 of a/b"


def test_guests_report_what_they_cost(tmp_path):
    code = ("import sys; sys.path.insert(0, sys.argv[1]); from cost import measured\n"
            "with measured(sys.argv[2]): x = b'x' * (64 << 20); sum(range(10 ** 5))")
    subprocess.run([sys.executable, "-c", code, str(FOLDER / "guests"), str(tmp_path / "c.json")], check=True)
    found = json.loads((tmp_path / "c.json").read_text())
    assert 0 < found["cpu"] and 0 < found["seconds"] and found.get("memory", 65) > 64


def test_pictures_of_the_table_are_grey_with_pixels_of_one_mm(script, tmp_path):
    module, picture, points = sys.modules["table_cases"], tmp_path / "a.jpg", tmp_path / "a.csv"
    colours = sitk.GetImageFromArray(np.full((6, 8, 3), (30, 60, 90), np.uint8), isVector=True)
    colours.SetSpacing((.36, .36))
    sitk.WriteImage(colours, str(picture))
    points.write_text(",X,Y\n1,5,2\n2,3,4\n")
    grey = load(module._grey(picture, tmp_path / "a.nii.gz"))
    assert grey.grid.shape == (6, 8) and np.allclose(grey.grid.spacing, 1)
    assert np.allclose(grey.grid.to_world([[2, 3]]), [[3, 2]])
    assert np.allclose(grey.array, 60, atol=3)
    assert load_points(module._points(points, tmp_path / "b.csv")) == [[5, 2], [3, 4]]

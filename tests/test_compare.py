"""Cases, methods, scores, the table and its pages, without a run."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from classreg.compare import MEASURES, Case, read_cases, read_methods
from classreg.compare.cases import Data
from classreg.compare.methods import Method, check_for
from classreg.compare.notes import notes_of
from classreg.compare.render import comparisons_csv, escape, latex, markdown, scores_csv, summary_csv
from classreg.compare.saved import as_transform, read_saved, save_transform
from classreg.compare.scores import check_measures, plain, score
from classreg.compare.table import reference_of, tabulate
from classreg.datasets import head_phantom
from classreg.errors import FileError, InputError, OptionError
from classreg.evaluate import hd95, surface_distances, tre, warped_overlap
from classreg.fitted import FittedTransform
from classreg.io import load, save_image
from classreg.mapping import Mapping
from classreg.transforms import BSpline


def write_points(points, path):
    path.write_text("x,y\n" + "\n".join(",".join(map(repr, map(float, p))) for p in points) + "\n")


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Two oblique, off-origin 2-D pairs with labels, landmarks and a mask, and their table; the pairs themselves."""
    folder, pairs = tmp_path_factory.mktemp("some heads"), {}
    rows = ["case,fixed,moving,fixed_labels,moving_labels,fixed_points,moving_points,fixed_mask,labels,subject"]
    for name, seed in (("one", 0), ("two", 1)):
        pair = pairs[name] = head_phantom(6.0, ndim=2, seed=seed)
        (folder / name).mkdir()
        for key in ("fixed", "moving", "fixed_labels", "moving_labels"):
            save_image(getattr(pair, key), folder / name / f"{key}.nii.gz")
        for key in ("fixed_points", "moving_points"):
            write_points(getattr(pair, key), folder / name / f"{key}.csv")
        files = [f"{name}/{key}.nii.gz" for key in ("fixed", "moving", "fixed_labels", "moving_labels")]
        rows.append(",".join([name, *files, f"{name}/fixed_points.csv", f"{name}/moving_points.csv", "", "1 2", ""]))
    (folder / "cases.csv").write_text("\n".join(rows) + "\n\n", encoding="utf-8-sig")
    return folder, pairs


# -- cases --

def test_a_table_of_cases(heads):
    folder, _ = heads
    one, two = read_cases(folder / "cases.csv")
    assert (one.name, two.name) == ("one", "two")
    assert one.fixed == folder / "one" / "fixed.nii.gz" and one.fixed_mask is None
    assert one.labels == (1, 2) and one.subject is None
    assert read_cases([one, {"case": "more", "fixed": str(two.fixed), "moving": two.moving}])[1].fixed == two.fixed


def test_all_that_is_wrong_with_cases_is_said_at_once(heads, tmp_path):
    folder, _ = heads
    a = folder / "one"
    write_points([(1, 2)], tmp_path / "short.csv")
    (tmp_path / "cases.csv").write_text(
        "case,fixed,moving,fixed_label,fixed_labels,fixed_points,moving_points,labels\n"
        f"same,{a}/fixed.nii.gz,{a}/moving.nii.gz,,,,,\n"
        f"same,{a}/fixed.nii.gz,gone.nii.gz,,{a}/fixed_labels.nii.gz,,,\n"
        f"short,{a}/fixed.nii.gz,{a}/moving.nii.gz,,,{a}/fixed_points.csv,short.csv,1 x\n"
        f"../up,{a}/fixed.nii.gz,{a}/moving.nii.gz,,,,,3\n"
        f",{a}/fixed.nii.gz,,,,,,\n"
        f"long,{a}/fixed.nii.gz,{a}/moving.nii.gz,,,,,,,,\n")
    with pytest.raises(InputError) as caught:
        read_cases(tmp_path / "cases.csv")
    text = str(caught.value)
    for part in ("unknown column 'fixed_label'; did you mean 'fixed_labels'?", "'same' is there twice (row 3)",
                 f"there is no file {tmp_path / 'gone.nii.gz'}", "fixed_labels is given and moving_labels is not",
                 "fixed_points holds 60 points in 2-D, moving_points 1", "the labels '1 x' are no whole numbers",
                 "is called '../up'", "labels are named, and there are no label maps", "row 6 has no case, no moving",
                 "row 7 has 11 cells, the first row 8"):
        assert part in text, part
    assert text.startswith(f"{tmp_path / 'cases.csv'}: 10 problems, nothing was run:")


@pytest.mark.parametrize("text, error, part", [
    ("case,fixed\na,b\n", InputError, "lacks the column moving"),
    ("", InputError, "lacks the columns case, fixed, moving"),
    ("case,fixed,moving\n", InputError, "there is no case"),
    ("case,fixed,moving,fixed\n", InputError, "'fixed' is there 2 times"),
    (None, FileError, "cannot read the table of cases"),
])
def test_tables_that_are_none(tmp_path, text, error, part):
    if text is not None:
        (tmp_path / "c.csv").write_text(text)
    with pytest.raises(error, match=part):
        read_cases(tmp_path / "c.csv")


# -- methods --

def test_methods_in_one_line_each(tmp_path):
    found = read_methods([
        "none, rigid", "ours=bspline", "model:affine", "f=package.module:function.inner",
        f"tool@itk={sys.executable} -f {{fixed}} -o '{{output}} 1.tfm' -t {{threads}}",
        "there@displacement=some/{case}/u.nii.gz", {"mine": lambda fixed, moving: None}])
    assert [(m.name, m.kind) for m in found] == [
        ("none", "baseline"), ("rigid", "model"), ("ours", "model"), ("affine", "model"), ("f", "function"),
        ("tool", "command"), ("there", "transforms"), ("mine", "callable")]
    assert found[0].still and not found[1].still
    assert found[2].spec == {"model": "bspline"} and found[4].spec == {"function": "package.module:function.inner"}
    assert found[5].spec["transform"] == "{output} 1.tfm" and found[5].spec["format"] == "itk"
    assert found[5].words[0][2:5] == ["{fixed}", "-o", "{output} 1.tfm"]
    assert found[6].files() == ["some/{case}/u.nii.gz"]


def test_a_methods_file_is_beside_what_it_names(tmp_path, monkeypatch):
    monkeypatch.setenv("THE_PYTHON", sys.executable)
    (tmp_path / "p.txt").write_text("(Transform \"EulerTransform\")\n(Metric \"AdvancedMeanSquares\")\n")
    (tmp_path / "m.json").write_text(json.dumps({
        "short": {"model": "bspline", "metric": "mi", "levels": [4, 2]},
        "tool": {"command": "$THE_PYTHON x.py {fixed} {moving} {output}",
                 "transform": ["{output}0.mat", "{output}1.nii.gz"], "format": "itk",
                 "if_fixed_mask": "-x {fixed_mask}", "version": "$THE_PYTHON --version", "time_limit": 60},
        "old@displacement": "{case}.nii.gz", "file": {"parameters": "p.txt"}}))
    found = read_methods(f"rigid,{tmp_path / 'm.json'}")
    assert [m.name for m in found] == ["rigid", "short", "tool", "old", "file"]
    assert found[1].spec == {"model": "bspline", "metric": "mi", "levels": [4, 2]}
    assert found[2].time_limit == 60 and found[2].folder == tmp_path
    assert found[2].words[1:] == [["-x", "{fixed_mask}"], [], [sys.executable, "--version"]]
    assert found[3].spec == {"transforms": "{case}.nii.gz", "format": "displacement"}
    assert found[4].spec == {"parameters": ["p.txt"]}


@pytest.mark.parametrize("given, part", [
    ("bsplin", "unknown method 'bsplin'; did you mean 'bspline'"),
    ("rigid,rigid", "two methods are called 'rigid'"),
    ([], "there is no method"),
    ({"a": 3}, "method 'a' is 3"),
    ({"a": {"model": "bsplin"}}, "unknown model"),
    ({"a": {"baseline": "nine"}}, "unknown baseline"),
    ({"a": {"model": "rigid", "metrics": "mi"}}, "unknown key 'metrics'; did you mean 'metric'"),
    ({"a": {"model": "rigid", "command": "x"}}, "it must have one"),
    ({"a": {"metric": "mi"}}, "has none of"),
    ({"a": {"model": "rigid", "time_limit": 0}}, "time_limit is 0"),
    ({"a": {"parameters": ["gone.txt"]}}, "method 'a': gone.txt cannot be read as a parameter file"),
    ({"a": {"parameters": 3}}, "parameters are the paths"),
    ({"a": {"function": "no colon"}}, "write package.module:function"),
    ({"a/b": "rigid"}, "is called 'a/b'"),
    ("a=no-such-tool {fixed} {output}", "the program 'no-such-tool' is not there"),
    (f"a={sys.executable} {{fixd}} {{output}}", "unknown field 'fixd'; did you mean 'fixed'"),
    (f"a={sys.executable} '{{output}}", "quotes come in pairs"),
    ({"a": {"command": f"{sys.executable} {{fixed}}"}}, "put {output} there"),
    (f"a={sys.executable} {{output}}.a {{output}}.b", "2 words of the command hold {output}"),
    (f"a@itq={sys.executable} {{output}}.tfm", "unknown format 'itq'"),
    (f"a={sys.executable} {{fixed}} {{moving}}", "put {output} there"),
    (f"a={sys.executable} {{ouput}}.tfm", "unknown field 'ouput'; did you mean 'output'"),
    ("a@itk=bspline", "a format .itk. belongs to files"),
    ({"a": {"transforms": "one.tfm"}}, "put {case} where they differ"),
    ({"a": {"transforms": "{case}/{output}.tfm"}}, "unknown field 'output'"),
    (3, "a method is a name, a line"),
])
def test_methods_that_are_refused(given, part):
    with pytest.raises(OptionError, match=part.replace("{", r"\{").replace("[", r"\[")):
        read_methods(given)


def test_a_name_of_two_kinds_is_asked_about(monkeypatch):
    from classreg.baselines import BASELINES

    monkeypatch.setitem(BASELINES, "rigid", BASELINES["none"])
    with pytest.raises(OptionError, match="write baseline:rigid or model:rigid"):
        read_methods("rigid")
    assert read_methods("model:rigid")[0].kind == "model" and read_methods("baseline:rigid")[0].kind == "baseline"


@pytest.mark.parametrize("text", ["[1]", "{", None])
def test_methods_files_that_are_none(tmp_path, text):
    if text:
        (tmp_path / "m.json").write_text(text)
    with pytest.raises(FileError, match="methods file"):
        read_methods(tmp_path / "m.json")


def test_what_a_command_needs_of_a_case(heads):
    case = read_cases(heads[0] / "cases.csv")[0]
    method, = read_methods(f"a={sys.executable} {{fixed}} {{fixed_mask}} {{output}}.tfm")
    assert check_for(method, [case]) == ["method 'a' needs {fixed_mask}, which case 'one' has not"]


# -- transforms --

def test_everything_that_a_method_may_give_is_the_same_transform(heads):
    pair = heads[1]["one"]
    grid, points = pair.fixed.grid, pair.fixed_points
    matrix = np.array([[1.0, 0, 6], [0, 1, -4], [0, 0, 1]])
    field = np.broadcast_to(np.array([6.0, -4]).reshape(2, 1, 1), (2, *grid.shape))
    fitted = FittedTransform.from_matrix(matrix, grid, pair.moving.grid)
    for given in (matrix, matrix.tolist(), field, Mapping(matrix, None, grid), fitted):
        found = as_transform(given, pair.fixed, pair.moving)
        assert np.allclose(found.map_points(points), points + [6, -4], atol=1e-4)
    for given, part in ((np.eye(4), "a world matrix (3, 3)"), (np.full((3, 3), np.nan), "9 of 9 numbers"),
                        (field[..., 1:], "a displacement in mm"), (None, "no real numbers"),
                        (FittedTransform.from_matrix(np.eye(4), head_phantom(8.0).fixed.grid), "3-D transform")):
        with pytest.raises(InputError) as caught:
            as_transform(given, pair.fixed, pair.moving)
        assert part in str(caught.value)


def test_saved_transforms_come_back(heads, tmp_path):
    pair = heads[1]["one"]
    grid, rng = pair.fixed.grid, np.random.default_rng(0)
    spline = BSpline(grid, 24.0, pair.matrix)
    dense = Mapping(pair.matrix, rng.normal(size=(2, *grid.shape)).astype(np.float32), grid)
    found = {
        ".tfm": FittedTransform.from_matrix(pair.matrix, grid, pair.moving.grid),
        ".h5": FittedTransform("bspline", spline, rng.normal(size=spline.identity().shape).astype(np.float32), grid),
        ".nii.gz": FittedTransform.from_mapping(dense, grid)}
    for suffix, transform in found.items():
        path = save_transform(transform, tmp_path / "case 1.5")
        assert path.name == f"case 1.5{suffix}"
        back = read_saved(path, grid, pair.moving.grid)
        assert np.allclose(back.displacement(grid), transform.displacement(grid), atol=1e-3)


# -- scores --

def test_scores_are_those_of_evaluate(heads):
    folder, pairs = heads
    pair, case = pairs["one"], read_cases(folder / "cases.csv")[0]
    data = Data(case)
    still = FittedTransform.from_matrix(np.eye(3), pair.fixed.grid, pair.moving.grid)
    found = score(still, data, MEASURES)["measures"]
    assert list(found) == [name for name in MEASURES if name not in ("seconds", "cpu", "memory")]
    overlap = warped_overlap(still, pair.moving_labels, pair.fixed_labels, labels=(1, 2))
    assert found["dice"] == pytest.approx(overlap["mean"])
    before = tre(pair.fixed_points, pair.moving_points)
    quantiles = [before[key] for key in ("mean", "p75", "p95")]
    assert [found["tre"], found["tre_p75"], found["tre_p95"]] == pytest.approx(quantiles)
    assert (found["folding"], found["sd_log_j"], found["robustness"]) == (0, 0, 0)

    points = pair.fixed.grid.points()
    true = np.moveaxis(pair.true_map(points) - points, -1, 0)
    after = score(as_transform(true, pair.fixed, pair.moving), data, MEASURES)
    assert after["measures"]["tre"] < 0.3 and after["measures"]["robustness"] == 100
    assert after["measures"]["dice"] > found["dice"] + 0.1 and after["measures"]["ncc"] > found["ncc"]
    assert set(after["labels"]) == {1, 2} and after["lost"] == []
    warped = pair.true_map(points)  # the labels' surfaces by hand
    assert after["labels"][1]["hd95"] < 12 and np.isfinite(warped).all()
    same = surface_distances(pair.fixed_labels.array == 1, pair.fixed_labels.array == 1, pair.fixed.grid)
    assert hd95(same) == 0


def test_only_what_is_asked_for_and_there_is_scored(heads, tmp_path):
    folder, pairs = heads
    pair, case = pairs["one"], read_cases(folder / "cases.csv")[0]
    still = FittedTransform.from_matrix(np.eye(3), pair.fixed.grid, pair.moving.grid)
    bare = Data(Case("bare", case.fixed, case.moving))
    assert list(score(still, bare, ["dice", "tre", "folding"])["measures"]) == ["folding"]
    found = score(still, Data(case), ["dice"])
    assert list(found["measures"]) == ["dice"] and set(found["labels"][1]) == {"dice"}
    assert check_measures("dice") == ("dice", "seconds", "cpu", "memory")
    with pytest.raises(OptionError, match="did you mean 'dice'"):
        check_measures(["dise"])


def test_a_lost_label_counts_in_dice_and_not_in_distances(heads, tmp_path):
    folder, pairs = heads
    pair, case = pairs["one"], read_cases(folder / "cases.csv")[0]
    far = FittedTransform.from_matrix([[1, 0, 9000], [0, 1, 0], [0, 0, 1]], pair.fixed.grid, pair.moving.grid)
    found = score(far, Data(case), MEASURES)
    assert found["lost"] == [1, 2] and found["measures"]["dice"] == 0
    assert all(math.isnan(found["measures"][name]) for name in ("hd95", "assd", "ncc", "nmi"))
    assert plain(found)["measures"]["hd95"] is None and plain({"a": (math.inf,)}) == {"a": ["inf"]}


def test_a_mask_restricts_folding_and_similarity(heads, tmp_path):
    folder, pairs = heads
    pair, case = pairs["one"], read_cases(folder / "cases.csv")[0]
    grid = pair.fixed.grid
    half = np.zeros(grid.shape, np.uint8)
    half[:grid.shape[0] // 2] = 1
    save_image(pair.fixed.with_array(half), tmp_path / "mask.nii.gz")
    field = np.zeros((2, *grid.shape), np.float32)
    field[:, -4:] = np.random.default_rng(0).normal(scale=20, size=field[:, -4:].shape)
    folded = as_transform(field, pair.fixed, pair.moving)
    masked = Data(Case("m", case.fixed, case.moving, fixed_mask=tmp_path / "mask.nii.gz"))
    everywhere = score(folded, Data(Case("e", case.fixed, case.moving)), MEASURES)["measures"]
    inside = score(folded, masked, MEASURES)["measures"]
    assert everywhere["folding"] > 1 and inside["folding"] == 0 and inside["ncc"] != everywhere["ncc"]


# -- the table, by hand --

def method(name, spec=None):
    return Method(name, "model", spec or {"model": "rigid"})


def record(**measures):
    return {"scores": {"measures": measures, "labels": {}, "lost": []}, "cost": {}, "scope": "call", "versions": {}}


def cases_of(names, subjects=None):
    subjects = subjects or [None] * len(names)
    return [Case(name, Path("f"), Path("m"), subject=subject) for name, subject in zip(names, subjects)]


def table_of(rows, names="abcde", subjects=None, reference="base", spec=None):
    """rows: method -> measure -> numbers; None where it failed."""
    records = {}
    for name, columns in rows.items():
        for k, case in enumerate(names):
            numbers = {measure: values[k] for measure, values in columns.items()}
            broken = None in numbers.values()
            records[name, case] = {"error": "it broke\nbadly"} if broken else record(**numbers)
    methods = [method(name, (spec or {}).get(name)) for name in rows]
    return tabulate(records, cases_of(names, subjects), methods, tuple(MEASURES), reference)


def test_cells_by_hand():
    table = table_of({"base": {"dice": [0.5, 0.6, 0.7, 0.8, 0.9], "seconds": [2.0, 2, 2, 2, 2]},
                      "new": {"dice": [0.6, 0.7, 0.8, 0.9, 1.0], "seconds": [1.0, 4, 4, 4, 4]}})
    cell = table.cells["base", "dice"]
    assert (cell.n, cell.mean, cell.median) == (5, pytest.approx(0.7), pytest.approx(0.7))
    assert cell.sd == pytest.approx(math.sqrt(0.1 / 4))
    assert table.cells["new", "dice"].best and not cell.best
    assert table.cells["base", "seconds"].best and table.cells["base", "seconds"].relative == 1
    assert table.cells["new", "seconds"].relative == pytest.approx(2 ** (3 / 5))
    test, = table.tests
    assert (test["method"], test["measure"], test["cases"], test["n"]) == ("new", "dice", 5, 5)
    assert test["p"] == pytest.approx(2 / 2**5) and test["p_holm"] == test["p"]
    assert test["median_difference"] == pytest.approx(0.1) and test["rank_biserial"] == 1
    assert not table.cells["new", "dice"].star


def test_holm_counts_all_tests_and_stars_follow():
    base, up = np.linspace(0.4, 0.5, 9), np.linspace(0.01, 0.09, 9)
    table = table_of({"base": {"dice": base, "tre": base}, "new": {"dice": base + up, "tre": base - up},
                      "same": {"dice": base, "tre": base + [0.1, -0.1, *[0] * 7]}}, names="abcdefghi")
    found = {(t["method"], t["measure"]): t for t in table.tests}
    assert found["new", "dice"]["p"] == pytest.approx(2 / 2**9)
    assert found["new", "dice"]["p_holm"] == pytest.approx(4 * 2 / 2**9)
    assert found["new", "tre"]["p_holm"] == pytest.approx(4 * 2 / 2**9)
    assert found["same", "dice"]["p"] == 1 and found["same", "dice"]["zeros"] == 9
    assert found["same", "tre"]["zeros"] == 7 and found["same", "tre"]["p"] == 1
    assert table.cells["new", "dice"].star and not table.cells["same", "dice"].star
    assert "**0.500***" in markdown(table)


def test_failures_are_counted_and_compared_over_common_cases():
    table = table_of({"base": {"dice": [0.5, 0.5, 0.5, 0.5, 0.5]},
                      "new": {"dice": [0.6, 0.7, 0.8, 0.9, None]},
                      "bad": {"dice": [0.99, None, None, None, None]}})
    assert [table.cells[m, "dice"].n for m in ("base", "new", "bad")] == [5, 4, 1]
    assert table.cells["base", "dice"].best  # the others have fewer cases
    test, = table.tests
    assert test["method"] == "new" and test["cases"] == 4
    assert (table.failed("new"), table.failed("bad"), table.failed("base")) == (1, 4, 0)
    page = markdown(table)
    assert "| method | Dice ↑ | failed |" in page and "| new | 0.750 ± 0.129 (0.750), 4 | 1 of 5 |" in page
    assert "Failed (5):" in page and "- bad, b: it broke\nbadly" in page
    assert "| bad | 0.990, 1 | 4 of 5 |" in page


def test_cases_of_a_subject_are_averaged_before_a_test():
    table = table_of({"base": {"tre": [1.0, 1, 1, 1, 1]}, "new": {"tre": [2.0, 4, 3, 5, 6]}},
                     subjects=["s", "s", None, None, "t"])
    test, = table.tests
    assert (test["cases"], test["n"]) == (5, 4) and test["p"] == pytest.approx(2 / 2**4)
    assert test["median_difference"] == pytest.approx(3.0)  # of 2, 2, 4, 5
    assert "5 (4 subjects)" in markdown(table)
    few = table_of({"base": {"tre": [1.0, 1, 1, 1, 1]}, "new": {"tre": [2.0, 4, 3, 5, 6]}}, subjects=list("aabbb"))
    assert few.tests == []


def test_doing_nothing_is_not_best_at_effort():
    still = Method("none", "baseline", {"baseline": "none"})
    records = {("none", "a"): record(folding=0.0, seconds=0.1, dice=0.9),
               ("new", "a"): record(folding=0.5, seconds=9, dice=0.8),
               ("old", "a"): record(folding=0.7, seconds=8, dice=0.7)}
    methods = [still, method("new"), method("old")]
    table = tabulate(records, cases_of("a"), methods, tuple(MEASURES), reference_of(methods, None))
    assert table.reference == "new" and reference_of(methods, "old") == "old"
    assert {key for key, cell in table.cells.items() if cell.best} == {
        ("new", "folding"), ("old", "seconds"), ("none", "dice")}
    with pytest.raises(OptionError, match="unknown reference 'nwe'; did you mean 'new'"):
        reference_of(methods, "nwe")


def test_numbers_that_are_none_are_left_out():
    table = table_of({"base": {"hd95": [1.0, float("nan"), 3]}, "new": {"hd95": [1.0, 2, "inf"]}}, names="abc")
    assert table.cells["base", "hd95"].n == 2 and table.cells["new", "hd95"].mean == 1.5
    assert table.measures == ("hd95",) and table.tests == []


def test_latex_escapes_and_holds_together():
    table = table_of({"base_1 & 50 %": {"dice": [0.5, 0.6]}, "ours": {"dice": [0.7, None]}}, names="ab",
                     reference="ours")
    page = latex(table)
    assert r"base\_1 \& 50 \% & \textbf{0.550} $\pm$ 0.071 (0.550), 2 & 0 of 2 \\" in page
    assert r"method & Dice $\uparrow$ & failed \\" in page and "\nFailed: ours, b: it broke.\\par}" in page
    assert page.count("{") == page.count("}") and page.count(r"\begin") == page.count(r"\end")
    assert escape("\\{}$&#%_^~<>|±\n") == (r"\textbackslash{}\{\}\$\&\#\%\_\textasciicircum{}\textasciitilde{}"
                                           r"$<$$>$$|$$\pm$ ")


def test_csv_pages_hold_every_number():
    table = table_of({"base": {"dice": [0.5, 0.6, 0.7]}, "new": {"dice": [0.7, None, 0.9]}}, names="abc")
    table.labels["base", "a"] = {"3": {"dice": 0.25}}
    rows = list(csv.DictReader(io.StringIO(scores_csv(table))))
    assert {tuple(row.values()) for row in rows} >= {
        ("base", "a", "", "dice", "", "0.5"), ("base", "a", "3", "dice", "", "0.25"),
        ("new", "b", "", "failed", "", "1")}
    assert len(rows) == 7
    summary = list(csv.DictReader(io.StringIO(summary_csv(table))))
    assert [(r["method"], r["n"], float(r["mean"]), r["best"], r["failed"]) for r in summary] == [
        ("base", "3", pytest.approx(0.6), "1", "0"), ("new", "2", pytest.approx(0.8), "0", "1")]
    assert comparisons_csv(table).startswith("measure,method,reference")


def test_notes_say_what_was_done(heads):
    cases = read_cases(heads[0] / "cases.csv")
    methods = [*read_methods("none,rigid"), Method("tool", "command", {"command": "tool {fixed}"},
                                                   words=[["tool"], [], [], []])]
    records = {(m.name, c.name): {**record(dice=0.5, seconds=1.0), "scope": "program" if m.name == "tool" else "call",
                                  "versions": {"program": "tool 7"} if m.name == "tool" else {"classreg": "9"},
                                  "settings": m.spec, "began": 0.0} for m in methods for c in cases}
    records["tool", "two"] = {"error": "no"}
    table = tabulate(records, cases, methods, ("dice", "seconds"), "rigid")
    text = "\n".join(notes_of(table, methods, 3))
    for part in ("2 cases.", "with 3 threads allowed", "none, rigid: the call alone", "tool: the whole program",
                 "one-hot linear weights", "2 |A and B| / (|A| + |B|)", "none: baseline none 1.0",
                 "rigid: model rigid.", "tool: command tool {fixed}; version tool 7.", "classreg 9", "Run 1970-01-01",
                 "No row is tested", "(none has no part in time)", "how many these are stands in its row"):
        assert part in text, part


def test_label_maps_of_the_phantom_are_as_expected(heads):
    assert {1, 2} <= set(np.unique(load(heads[0] / "one" / "fixed_labels.nii.gz").array))

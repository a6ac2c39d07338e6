"""`Result.save`: real runs, and every file of theirs read back by somebody else."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from heads import head_phantom

import classreg
import classreg.save as saving
from classreg.engine import Record
from classreg.errors import FileError
from classreg.fitted import FittedTransform
from classreg.image import Image
from classreg.io import read_transform, save_image
from classreg.planning import Plan
from classreg.result import Result

NAMES = {"warped.nii.gz", "displacement.nii.gz", "result.json", "report.html"}
RUNS = {"polyaffine": (6.0, 2), "bspline": (6.0, 3), "greedy": (8.0, 2), "svf": (8.0, 2), "symmetric": (8.0, 2),
        "similarity": (8.0, 3), "rigid": (8.0, 2)}


@pytest.fixture(scope="module")
def run():
    """A registration per model, made once."""
    made = {}

    def of(model):
        if model not in made:
            pair = head_phantom(RUNS[model][0], ndim=RUNS[model][1])
            made[model] = classreg.register(pair.fixed, pair.moving, model=model)
        return made[model]

    return of


def names(folder):
    return {path.name for path in folder.iterdir()}


def strict(text):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("model", RUNS)
def test_a_saved_registration_reads_back(run, tmp_path, model):
    result, folder = run(model), tmp_path / "made" / "on the way"
    result.save(folder)
    linear = model in ("similarity", "rigid")
    name = "transform.tfm" if linear else "transform.h5"
    flows = model in ("polyaffine", "svf", "symmetric")
    assert names(folder) == NAMES | {name} | ({"velocity.npz"} if flows else set())

    grid, d = result.fixed.grid, result.fixed.grid.ndim
    points = np.concatenate([grid.points().reshape(-1, d)[::7], grid.corners()])
    mapped = result.transform.map_points(points)
    assert np.abs(mapped - points).max() > 3
    found = sitk.ReadTransform(str(folder / name))
    itk = np.array([found.TransformPoint(p) for p in points.tolist()])
    np.testing.assert_allclose(itk, mapped, rtol=0, atol=1e-3)
    read = read_transform(folder / name, grid).map_points(points)
    np.testing.assert_allclose(read, mapped, rtol=0, atol=1e-3)
    if flows:
        read = read_transform(folder / "velocity.npz", grid, result.moving.grid)
        np.testing.assert_array_equal(read.map_points(points), mapped)
        np.testing.assert_array_equal(read.map_points(mapped, "moving", "fixed"),
                                      result.transform.map_points(mapped, "moving", "fixed"))
        np.testing.assert_array_equal(read.displacement(), result.transform.displacement())

    warped = sitk.ReadImage(str(folder / "warped.nii.gz"))
    assert warped.GetSize() == grid.shape[::-1]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(warped), result.warped.array)
    index = [2, 3, 4][:d]
    place = warped.TransformIndexToPhysicalPoint(index)
    np.testing.assert_allclose(place, grid.to_world(index[::-1]), atol=1e-3)
    field = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "displacement.nii.gz")))
    np.testing.assert_allclose(np.moveaxis(field, -1, 0), result.transform.displacement(), rtol=0, atol=1e-4)

    lowest = float(result.moving.array.min())
    again = sitk.Resample(result.moving.to_sitk(), warped, found, sitk.sitkLinear, lowest)
    difference = np.abs(sitk.GetArrayFromImage(again) - result.warped.array)
    assert np.percentile(difference, 95) < 1e-3 * np.ptp(result.warped.array)  # its border apart
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert result.status in page and page.rstrip().endswith("</html>")


@pytest.mark.parametrize("model", ["bspline", "rigid"])
def test_result_json_says_what_was_run(run, tmp_path, model):
    result = run(model)
    result.save(tmp_path)
    text = (tmp_path / "result.json").read_text(encoding="utf-8")
    said = strict(text)
    assert Plan.from_dict(said["plan"]) == result.plan
    assert said["status"] == result.status and said["model"] == model
    assert said["history"] == strict(json.dumps([asdict(record) for record in result.history]))
    assert set(said["figures"]) == set(result.summary())
    for name, (before, after) in result.summary().items():
        assert said["figures"][name] == {"before": before, "after": after}
    np.testing.assert_array_equal(said["initial_matrix"], result.initial)
    np.testing.assert_array_equal(said["final_matrix"], result.transform.matrix)
    assert tuple(said["fixed_grid"]["shape"]) == result.fixed.grid.shape
    np.testing.assert_array_equal(said["fixed_grid"]["affine"], result.fixed.grid.affine)
    versions = said["versions"]
    assert set(versions) == {"classreg", "python", "numpy", "scipy", "numba", "SimpleITK"}
    assert versions["classreg"] == classreg.__version__ and versions["python"] == platform.python_version()
    assert versions["numpy"] == np.__version__ and versions["SimpleITK"] == sitk.Version.VersionString()


def test_names_of_files_stay_out(tmp_path):
    pair = head_phantom(8.0, ndim=2)
    paths = [tmp_path / "Doe^Jane fixed.nii.gz", tmp_path / "Doe^Jane moving.nii.gz"]
    for image, path in zip((pair.fixed, pair.moving), paths):
        save_image(image, path)
    classreg.register(*paths, model="rigid").save(tmp_path / "out")
    for name in ("result.json", "report.html"):
        assert "Doe" not in (tmp_path / "out" / name).read_text(encoding="utf-8")


def shifted(image, history=(), shift=(6.0, -4.0, 3.0)):
    """A result with a known shift, without a registration."""
    d = image.grid.ndim
    matrix = np.eye(d + 1)
    matrix[:d, d] = shift[:d]
    transform = FittedTransform.from_matrix(matrix, image.grid, image.grid)
    plan = Plan("affine", "identity", ())
    return Result(transform, image, image, list(history), "done", plan, np.eye(d + 1), 1.5)


def test_what_json_lacks_becomes_null(tmp_path):
    image = head_phantom(8.0, ndim=2).fixed
    record = Record("affine", 1, 1, 0, 9, float("nan"), {"ssd": float("inf"), "n": np.float32(2.5)}, 0.0, 0.1)
    result = shifted(image, [record])
    result = replace(result, initial=np.full((3, 3), -np.inf))
    result.save(tmp_path)
    said = strict((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert said["history"][0]["value"] is None and said["history"][0]["terms"] == {"ssd": None, "n": 2.5}
    assert said["initial_matrix"] == [[None] * 3] * 3
    assert said["figures"]["time (s)"] == {"before": None, "after": 1.5}


@pytest.mark.parametrize("ndim", [2, 3])
def test_colour_images(tmp_path, ndim):
    grey = head_phantom(10.0, ndim=ndim).fixed
    colour = np.stack([grey.array, grey.array[..., ::-1], 0.5 * grey.array])
    image = Image((200 * colour / colour.max()).astype(np.uint8), grey.grid)
    result = shifted(image)
    result.save(tmp_path)
    assert names(tmp_path) == NAMES | {"transform.tfm"}
    warped = sitk.ReadImage(str(tmp_path / "warped.nii.gz"))
    assert warped.GetDimension() == ndim and warped.GetNumberOfComponentsPerPixel() == 3
    np.testing.assert_array_equal(np.moveaxis(sitk.GetArrayFromImage(warped), -1, 0), result.warped.array)
    field = nib.load(tmp_path / "displacement.nii.gz").get_fdata()
    moves = np.broadcast_to((6.0, -4.0, 3.0)[:ndim], (grey.grid.size, ndim))
    np.testing.assert_allclose(field.reshape(-1, ndim), moves, atol=1e-5)


def test_a_second_result_replaces_the_first(run, tmp_path):
    run("greedy").save(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    run("rigid").save(tmp_path)
    assert names(tmp_path) == NAMES | {"transform.tfm", "notes.txt"}  # the other run's transform is gone
    assert strict((tmp_path / "result.json").read_text(encoding="utf-8"))["model"] == "rigid"
    run("greedy").save(tmp_path)
    assert names(tmp_path) == NAMES | {"transform.h5", "notes.txt"}


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    result = shifted(head_phantom(8.0, ndim=2).fixed)
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(saving, "save_image", lambda *_: pytest.fail("something was written first"))
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(FileError, match="cannot write in the folder"):
            result.save(folder)
    assert names(tmp_path) == {"file"} and (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("module, function, whole", [
    ("nibabel", "save", set()),
    ("SimpleITK", "WriteTransform", {"warped.nii.gz"}),
    ("pathlib.Path", "write_text", {"warped.nii.gz", "transform.tfm", "displacement.nii.gz"})])
def test_an_error_half_way_leaves_whole_files_only(tmp_path, monkeypatch, module, function, whole):
    def half(*args, **_):
        path = next(a for a in args if isinstance(a, (str, os.PathLike)))
        with open(path, "wb") as file:
            file.write(b"half")
        raise RuntimeError("No space left") if function == "WriteTransform" else OSError(28, "No space left")

    monkeypatch.setattr(f"{module}.{function}", half)
    with pytest.raises(FileError, match="No space left"):
        shifted(head_phantom(8.0, ndim=2).fixed).save(tmp_path)
    assert names(tmp_path) == whole

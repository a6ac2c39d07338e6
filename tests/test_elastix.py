"""Transform files for elastix and from it: numbers that transformix gave, transformix itself where it is there.

RECORDED holds where transformix 5.2 (itk-elastix 0.25.4) takes two points by each file of CASES. To run it again, set
CLASSREG_ELASTIX to a Python that has itk-elastix.
"""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest
from test_itk import GRIDS, MAKERS, close, held, inside, samples, smooth_field, turn, volume_grid

from classreg.errors import ClassregError, FileError, InputError, OptionError
from classreg.fitted import FittedTransform
from classreg.grid import Grid
from classreg.image import Image
from classreg.io import read_transform, save_image, write_transform
from classreg.io.elastix_text import dump, parse
from classreg.transforms import BSpline

CENTRE, SHIFT = (3, 9, -5), (6, -4, 3)
MATRIX = {2: (1.05, 0.2, -0.1, 0.9), 3: (1.05, 0.2, 0.1, -0.1, 0.9, 0.05, 0.3, -0.2, 1.1)}
PYTHON = os.environ.get("CLASSREG_ELASTIX")
TRANSFORMIX = """
import sys, json, re, tempfile, itk, numpy as np
out = {}
for name, (path, points) in json.load(sys.stdin).items():
    maps = itk.ParameterObject.New()
    maps.ReadParameterFile(path)
    with tempfile.TemporaryDirectory() as t:
        with open(t + "/p.txt", "w") as file:
            file.write("point\\n%d\\n" % len(points))
            np.savetxt(file, points, fmt="%.9f")
        image = itk.image_view_from_array(np.zeros((4,) * len(points[0]), np.float32))
        run = itk.TransformixFilter.New(image)
        run.SetTransformParameterObject(maps)
        run.SetFixedPointSetFileName(t + "/p.txt")
        run.SetOutputDirectory(t)
        run.SetLogToConsole(False)
        run.Update()
        found = re.findall(r"OutputPoint = \\[([^]]*)", open(t + "/outputpoints.txt").read())
    out[name] = [[float(v) for v in row.split()] for row in found]
print("FOUND", json.dumps(out))
"""


def geometry(grid, prefix=""):
    """Elastix' keys of a grid, from its definition: directions one after the other, each along x, y[, z]."""
    d, spacing = grid.ndim, grid.spacing[::-1]
    axes = (grid.affine[:d, :d] / grid.spacing)[:, ::-1]
    return {f"{prefix}Size": grid.shape[::-1], f"{prefix}Index": [0] * d, f"{prefix}Spacing": spacing,
            f"{prefix}Origin": grid.affine[:d, d], f"{prefix}Direction": axes.T.ravel()}


def write_file(path, grid, **values):
    """A parameter file as elastix writes them, with these values."""
    d = grid.ndim
    values = {"InitialTransformParameterFileName": "NoInitialTransform", "HowToCombineTransforms": "Compose",
              "FixedImageDimension": d, "MovingImageDimension": d, **geometry(grid), "UseDirectionCosines": True,
              "FixedInternalImagePixelType": "float", "MovingInternalImagePixelType": "float",
              "ResampleInterpolator": "FinalBSplineInterpolator", "Resampler": "DefaultResampler",
              "ResultImageFormat": "nii", "ResultImagePixelType": "float", **values}
    values = {key: value for key, value in values.items() if value is not None}
    if "TransformParameters" in values:
        values["NumberOfParameters"] = len(values["TransformParameters"])
    path.write_text(dump({k: [v] if isinstance(v, (str, bool, int, float)) else v for k, v in values.items()}))
    return path


def lattice_of(grid, turned=False):
    """A lattice as elastix lays it over a grid: off its samples by part of a cell, and around all of it."""
    d, cell = grid.ndim, np.array([6.0, 5, 7][:grid.ndim])
    affine, shape = grid.affine.copy(), np.ceil(grid.extent / cell).astype(int) + (8 if turned else 4)
    affine[:d, :d] *= cell / grid.spacing
    affine[:d, :d] = (turn(d) if turned else np.eye(d)) @ affine[:d, :d]
    affine[:d, d] = grid.centre + 0.7 - affine[:d, :d] @ ((shape - 1) / 2)
    return Grid(tuple(shape), affine)


def spline_values(grid, order=3, turned=False):
    lattice = lattice_of(grid, turned)
    u = np.round(2 * np.sin(1.7 * np.arange(grid.ndim * lattice.size)), 3)
    return {"Transform": "BSplineTransform", "TransformParameters": u, **geometry(lattice, "Grid"),
            "BSplineTransformSplineOrder": order, "UseCyclicTransform": False}


def linear_values(kind, d):
    shift, centre = SHIFT[:d], {"CenterOfRotationPoint": CENTRE[:d]}
    if kind == "translation":
        return {"Transform": "TranslationTransform", "TransformParameters": shift}
    if kind in ("euler", "zyx"):
        angles = [0.3, -0.2, 0.1] if d == 3 else [0.3]
        more = {"ComputeZYX": kind == "zyx"} if d == 3 else {}
        return {"Transform": "EulerTransform", "TransformParameters": [*angles, *shift], **centre, **more}
    if kind == "similarity":
        numbers = [0.1, -0.2, 0.3, *shift, 1.2] if d == 3 else [1.2, 0.3, *shift]
        return {"Transform": "SimilarityTransform", "TransformParameters": numbers, **centre}
    if kind == "log":
        return {"Transform": "AffineLogTransform", "TransformParameters": [*np.array(MATRIX[d]) / 5, *shift], **centre}
    return {"Transform": "AffineTransform", "TransformParameters": [*MATRIX[d], *shift], **centre}


def chain(path, grid, last, how="Compose", **initial):
    first = write_file(path.with_name("first.txt"), grid, **initial)
    return write_file(path, grid, **{**last, "InitialTransformParameterFileName": str(first.resolve()),
                                     "HowToCombineTransforms": how})


def cases():
    """Name to the grid and to a function of a path that writes the file."""
    out = {}
    for key in ("oblique", "2-D flipped"):
        grid, d = GRIDS[key], GRIDS[key].ndim

        def add(name, maker, grid=grid, key=key):
            out[f"{name}, {key}"] = (grid, maker)

        def plain(values, grid=grid):
            return lambda path: write_file(path, grid, **values)

        def both(last, how, initial, grid=grid):
            return lambda path: chain(path, grid, last, how, **initial)

        for kind in ("translation", "euler", "similarity", "affine", "log") + (("zyx",) if d == 3 else ()):
            add(kind, plain(linear_values(kind, d)))
        for order in (1, 2, 3):
            add(f"order {order}", plain(spline_values(grid, order)))
        affine, spline = linear_values("affine", d), spline_values(grid, 3, turned=True)
        for how in ("Compose", "Add"):
            add(f"spline, {how} with affine first", both(spline, how, affine))
            add(f"affine, {how} with spline first", both(affine, how, spline))
        add("two splines", both(spline_values(grid, 3), "Compose", spline))
    return out


CASES = cases()
RECORDED = {
    "translation, oblique": ((-16.586139, 18.409455, 58.646661), (-10.549606, 11.552143, 53.842751)),
    "euler, oblique": ((-27.61459, -1.942379, 53.889682), (-20.22783, -6.743012, 48.51105)),
    "similarity, oblique": ((-45.946958, -20.213722, 51.320478), (-33.886234, -21.294945, 48.715193)),
    "affine, oblique": ((-9.118889, 22.659456, 54.353594), (-4.632383, 15.644027, 52.251716)),
    "log, oblique": ((-20.407704, 22.382849, 71.049754), (-13.409287, 13.976068, 65.838268)),
    "zyx, oblique": ((-27.676858, -3.817398, 53.583658), (-19.970131, -8.201298, 48.298984)),
    "order 1, oblique": ((-22.605197, 23.067441, 56.712323), (-15.143652, 16.625429, 51.143177)),
    "order 2, oblique": ((-22.627966, 22.823464, 56.347018), (-15.758817, 16.154236, 51.009202)),
    "order 3, oblique": ((-22.63557, 22.672425, 56.114362), (-16.031771, 15.944657, 50.948988)),
    "spline, Compose with affine first, oblique":
        ((-8.934295, 22.530211, 54.366802), (-4.799935, 15.804772, 52.173114)),
    "affine, Compose with spline first, oblique": ((-9.176397, 22.830702, 54.04175), (-4.741431, 15.622575, 52.429538)),
    "spline, Add with affine first, oblique": ((-9.189041, 22.85465, 54.124721), (-4.744883, 15.597476, 52.435591)),
    "affine, Add with spline first, oblique": ((-9.189041, 22.85465, 54.124721), (-4.744883, 15.597476, 52.435591)),
    "two splines, oblique": ((-22.742303, 22.826384, 55.856463), (-16.141631, 15.899956, 51.133165)),
    "translation, 2-D flipped": ((-28.630899, -0.526438), (-23.679232, 2.992226)),
    "euler, 2-D flipped": ((-25.316997, -11.400298), (-21.626325, -6.575473)),
    "similarity, 2-D flipped": ((-32.180396, -14.680358), (-27.75159, -8.890567)),
    "affine, 2-D flipped": ((-31.617731, 3.789296), (-25.714748, 6.460927)),
    "log, 2-D flipped": ((-37.674658, -0.699097), (-31.39728, 3.391462)),
    "order 1, 2-D flipped": ((-33.849647, 2.417633), (-30.643638, 8.236024)),
    "order 2, 2-D flipped": ((-34.04944, 2.737611), (-30.282381, 7.763734)),
    "order 3, 2-D flipped": ((-34.213396, 2.988334), (-30.077053, 7.500854)),
    "spline, Compose with affine first, 2-D flipped": ((-32.235919, 3.262259), (-25.121358, 7.07952)),
    "affine, Compose with spline first, 2-D flipped": ((-31.595488, 3.298648), (-26.037668, 6.823487)),
    "spline, Add with affine first, 2-D flipped": ((-31.495298, 3.257736), (-26.091059, 6.821959)),
    "affine, Add with spline first, 2-D flipped": ((-31.495298, 3.257736), (-26.091059, 6.821959)),
    "two splines, 2-D flipped": ((-34.071826, 2.446103), (-30.393678, 7.847986)),
}


def two_points(grid):
    """Two samples, so that what is sampled on the grid is exact too."""
    return grid.to_world([(5, 3, 2)[:grid.ndim], (2, 6, 4)[:grid.ndim]])


def transformix(jobs, tmp_path):
    """Where transformix takes points, for name -> (file, points)."""
    jobs = {name: (str(path), points.tolist()) for name, (path, points) in jobs.items()}
    script = tmp_path / "transformix.py"
    script.write_text(TRANSFORMIX)
    done = subprocess.run([PYTHON, str(script)], input=json.dumps(jobs), capture_output=True, text=True, check=False)
    assert "FOUND" in done.stdout, done.stderr
    return {name: np.array(rows) for name, rows in json.loads(done.stdout.split("FOUND ", 1)[1]).items()}


def as_itk(path):
    """What a file that classreg wrote says, as SimpleITK's transform: for a reader that shares nothing with ours."""
    import SimpleITK as sitk

    values = parse(path.read_text())
    kind, numbers = values["Transform"][0], values.get("TransformParameters")
    d = values["FixedImageDimension"][0]
    if kind == "AffineTransform":
        return sitk.AffineTransform(numbers[:-d], numbers[-d:], values["CenterOfRotationPoint"])
    if kind == "BSplineTransform":
        out = sitk.BSplineTransform(d, 3)
        rows = np.reshape(values["GridDirection"], (d, d)).T.ravel()
        fixed = [*values["GridSize"], *values["GridOrigin"], *values["GridSpacing"], *rows]
        out.SetFixedParameters([float(value) for value in fixed])
        out.SetParameters(numbers)
        return out
    field = sitk.ReadImage(values["DeformationFieldFileName"][0])
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


# --------------------------------------------------------------------------------------------------- reading
@pytest.mark.parametrize("name", CASES)
def test_points_go_where_transformix_took_them(tmp_path, name):
    grid, make = CASES[name]
    read = read_transform(make(tmp_path / "t.txt"), grid)
    points = two_points(grid)
    close(read.map_points(points), RECORDED[name], 3e-6)  # transformix rounds to 6 digits, classreg keeps float32
    moved = np.moveaxis(read.displacement(), 0, -1).reshape(-1, grid.ndim)
    close(moved, read.map_points(samples(grid)) - samples(grid))
    assert isinstance(read.transform, BSpline) == (" with " in name or "order 3" in name)
    assert read.grid is grid and (read.frm, read.to) == ("fixed", "moving")


@pytest.mark.skipif(PYTHON is None, reason="CLASSREG_ELASTIX, a Python that has itk-elastix, is not set")
def test_transformix_agrees(tmp_path):
    jobs, mine = {}, {}
    for k, (name, (grid, make)) in enumerate(CASES.items()):
        (tmp_path / str(k)).mkdir()
        points = samples(grid) if "order 2" in name or "two" in name else inside(grid)
        jobs[name] = make(tmp_path / str(k) / "t.txt"), points
        mine[name] = read_transform(jobs[name][0], grid).map_points(points)
    for key, grid in GRIDS.items():
        for model, make in MAKERS.items():
            name = f"{model}, {key}"
            write_transform(make(grid), tmp_path / f"{name}.txt", format="elastix")
            jobs[name] = tmp_path / f"{name}.txt", inside(grid)
            mine[name] = held(make(grid), inside(grid))
    found = transformix(jobs, tmp_path)
    for name, points in found.items():
        close(points, mine[name], 3e-6)
        assert np.abs(points - jobs[name][1]).max() > 0.5


def test_a_lattice_that_misses_the_image_is_sampled_with_nothing_outside(tmp_path):
    import SimpleITK as sitk

    grid = GRIDS["oblique"]
    lattice = Grid((4, 6, 5), lattice_of(grid).affine)
    u = np.random.default_rng(0).standard_normal(3 * lattice.size)
    path = write_file(tmp_path / "t.txt", grid, **{**spline_values(grid), **geometry(lattice, "Grid"),
                                                   "TransformParameters": u})
    reference = sitk.BSplineTransform(3, 3)
    axes = (lattice.affine[:3, :3] / lattice.spacing)[:, ::-1]
    reference.SetFixedParameters([*lattice.shape[::-1], *lattice.affine[:3, 3], *lattice.spacing[::-1], *axes.ravel()])
    reference.SetParameters(u.tolist())
    expected = np.array([reference.TransformPoint(p) for p in samples(grid).tolist()])
    still = (np.abs(expected - samples(grid)).max(1) == 0).mean()
    assert 0.2 < still < 0.95
    close(read_transform(path, grid).map_points(samples(grid)), expected, 1e-5)


@pytest.mark.parametrize("order", [0, 1])
def test_fields(tmp_path, order):
    """One with linear interpolation keeps its samples; the nearest one is taken at the fixed samples."""
    grid, away = GRIDS["oblique"], volume_grid("oblique", (12, 13, 11))
    save_image(Image(smooth_field(away), away), tmp_path / "u.mha")
    path = write_file(tmp_path / "t.txt", grid, Transform="DeformationFieldTransform", DeformationFieldFileName="u.mha",
                      DeformationFieldInterpolationOrder=order)
    read = read_transform(path, grid)
    assert read.transform.grid.same_as(away if order else grid)
    index = np.random.default_rng(1).uniform(0, 6, (50, 3)) if order else np.array([(1, 2, 3), (7, 0, 5)])
    from scipy.ndimage import map_coordinates
    u = np.stack([map_coordinates(c, index.T, order=order) for c in smooth_field(away)], -1)
    close(read.map_points(grid.to_world(index)), grid.to_world(index) + u, 1e-5)


def test_files_are_found_where_they_are_named_and_beside_the_one_that_names_them(tmp_path, monkeypatch):
    grid = GRIDS["oblique"]
    expected = RECORDED["spline, Compose with affine first, oblique"]
    for sub in ("a", "b"):
        (tmp_path / sub).mkdir()
    write_file(tmp_path / "a" / "first.txt", grid, **linear_values("affine", 3))
    last = spline_values(grid, 3, turned=True)
    for folder, name in (("a", "first.txt"), ("b", "../a/first.txt"), ("a", "/elsewhere/first.txt"),
                         ("a", "C:\\elsewhere\\first.txt"), ("b", "a/first.txt")):
        monkeypatch.chdir(tmp_path)
        path = tmp_path / folder / "last.txt"
        write_file(path, grid, **last, InitialTransformParameterFileName=None, InitialTransformParametersFileName=name)
        close(read_transform(path, grid).map_points(two_points(grid)), expected, 3e-6)


def test_parameters_in_a_binary_file(tmp_path):
    grid = GRIDS["oblique"]
    values = spline_values(grid)
    np.asarray(values["TransformParameters"], "<f8").tofile(tmp_path / "t.dat")
    path = write_file(tmp_path / "t.txt", grid, **{**values, "TransformParameters": ["t.dat"]},
                      UseBinaryFormatForTransformationParameters=True)
    close(read_transform(path, grid).map_points(two_points(grid)), RECORDED["order 3, oblique"], 3e-6)
    (tmp_path / "t.dat").write_bytes(bytes(8))
    with pytest.raises(InputError, match="t.dat has 8 bytes and .* parameters need"):
        read_transform(path, grid)


def test_a_lattice_whose_index_does_not_begin_at_zero(tmp_path):
    grid = GRIDS["oblique"]
    values = spline_values(grid)
    axes = np.reshape(values["GridDirection"], (3, 3)).T * values["GridSpacing"]
    path = write_file(tmp_path / "t.txt", grid, **{**values, "GridIndex": [2, -1, 3],
                                                   "GridOrigin": values["GridOrigin"] - axes @ [2, -1, 3]})
    close(read_transform(path, grid).map_points(two_points(grid)), RECORDED["order 3, oblique"], 3e-6)


def test_without_direction_cosines_both_images_are_upright(tmp_path, caplog):
    fixed, moving = GRIDS["oblique"], volume_grid("PIR-permuted", (9, 8, 7))

    def upright(grid):
        return Grid.from_spacing(grid.shape, grid.spacing, grid.affine[:3, 3])

    one, spline = linear_values("affine", 3), spline_values(upright(fixed))
    for how, last in ((None, one), (None, spline), ("Compose", one), ("Add", one), ("Add", spline)):
        path = write_file(tmp_path / "t.txt", upright(fixed), **last)
        if how is not None:
            path = chain(path, upright(fixed), last, how, **linear_values("euler", 3))
        points = inside(fixed)
        there = read_transform(path, upright(fixed)).map_points(upright(fixed).to_world(fixed.to_index(points)))
        path.write_text(path.read_text().replace('(UseDirectionCosines "true")', '(UseDirectionCosines "false")'))
        read = read_transform(path, fixed, moving)
        close(read.map_points(points), moving.to_world(upright(moving).to_index(there)), 1e-5)
        assert "upright" in caplog.text
        for grid in (fixed, upright(fixed)):
            with pytest.raises(OptionError, match="moving="):
                read_transform(path, grid)
        caplog.clear()
        close(read_transform(path, upright(fixed), upright(moving)).map_points(upright(fixed).to_world(
            fixed.to_index(points))), there, 1e-5)
        assert not caplog.text  # nothing to undo


# --------------------------------------------------------------------------------------------------- writing
@pytest.mark.parametrize("key", [*GRIDS, "one slice"])
@pytest.mark.parametrize("model", MAKERS)
def test_what_is_written_maps_alike_and_comes_back(tmp_path, key, model):
    grid = Grid((1, 9, 7), volume_grid("oblique").affine) if key == "one slice" else GRIDS[key]
    transform, path = MAKERS[model](grid), tmp_path / "t.txt"
    write_transform(transform, path, format="elastix")
    found = as_itk(path)
    points = inside(grid)
    expected = held(transform, points)
    assert np.abs(expected - points).max() > 3
    close([found.TransformPoint(p) for p in points.tolist()], expected, 1e-5)
    values = parse(path.read_text())
    for name, value in geometry(grid).items():
        np.testing.assert_allclose(values[name], value, atol=1e-12)
    again = read_transform(path, grid)  # told from ITK's .txt by its content
    close(again.map_points(points), expected, 1e-5)
    assert isinstance(again.transform, BSpline) == (model == "bspline")
    if model == "bspline" and key != "one slice":
        assert again.transform.grid is grid and again.theta.shape == transform.theta.shape


def test_a_sheared_image_gets_an_upright_field(tmp_path):
    grid = volume_grid("sheared")
    transform = FittedTransform.from_mapping(MAKERS["dense"](grid).mapping(), grid)
    write_transform(transform, tmp_path / "t.txt", format="elastix")
    read = read_transform(tmp_path / "t.txt", grid)
    miss = read.map_points(samples(grid)) - transform.map_points(samples(grid))
    assert np.abs(miss).mean() < 0.2  # interpolated once more


# ---------------------------------------------------------------------------------------------------- errors
BROKEN = {
    "class": (dict(Transform="SplineKernelTransform"), "unknown transform 'SplineKernelTransform'.*BSplineTransform"),
    "centre": (dict(CenterOfRotationPoint=None), "has no CenterOfRotationPoint"),
    "parameters": (dict(TransformParameters=None), "this looks like parameters of a registration"),
    "cut off": (dict(TransformParameters=[1, 0, 0, 0, 1]), "TransformParameters holds 5 numbers and needs 12"),
    "words": (dict(TransformParameters=["a"] * 12), "it takes numbers"),
    "not finite": (dict(TransformParameters=[float("nan")] * 12), "not finite"),
    "singular": (dict(TransformParameters=[0] * 12), "not invertible"),
    "dimension": (dict(MovingImageDimension=2), "is of a 2-D moving image, the image is 3-D"),
    "combination": (dict(HowToCombineTransforms="Multiply"), "unknown HowToCombineTransforms 'Multiply'"),
    "initial": (dict(InitialTransformParameterFileName="x/none.txt"), "there is no such file.*none.txt"),
    "itself": (dict(InitialTransformParameterFileName="t.txt"), "is its own initial transform"),
}
BROKEN_SPLINE = {
    "order": (dict(BSplineTransformSplineOrder=4), "BSplineTransformSplineOrder is 4; elastix has 1, 2 and 3"),
    "cyclic": (dict(UseCyclicTransform=True), "cyclic"),
    "size": (dict(GridSize=[2, 9, 9]), "at least 4 control points"),
    "other size": (dict(GridSize=[9, 9, 900]), "numbers and needs 218700"),
    "spacing": (dict(GridSpacing=[5, 5]), "GridSpacing holds 2 numbers and needs 3"),
    "no spacing": (dict(GridSpacing=[5, 5, 0]), "spacing must be positive"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_file_says_what_is_wrong(tmp_path, name):
    change, match = BROKEN[name]
    path = write_file(tmp_path / "t.txt", GRIDS["oblique"], **{**linear_values("affine", 3), **change})
    with pytest.raises(ClassregError, match=match):
        read_transform(path, GRIDS["oblique"], format="elastix")


@pytest.mark.parametrize("name", BROKEN_SPLINE)
def test_a_bad_spline_says_what_is_wrong(tmp_path, name):
    change, match = BROKEN_SPLINE[name]
    path = write_file(tmp_path / "t.txt", GRIDS["oblique"], **{**spline_values(GRIDS["oblique"]), **change})
    with pytest.raises(ClassregError, match=match):
        read_transform(path, GRIDS["oblique"], format="elastix")


def test_a_chain_that_bites_its_tail(tmp_path):
    grid = GRIDS["oblique"]
    values = linear_values("affine", 3)
    for name, before in (("a", "b"), ("b", "a")):
        write_file(tmp_path / f"{name}.txt", grid, **values, InitialTransformParameterFileName=f"{before}.txt")
    with pytest.raises(InputError, match="own initial transform, by way of 2 files"):
        read_transform(tmp_path / "a.txt", grid)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(FileError, match="it is not text"):
        read_transform(tmp_path / "t.txt", GRIDS["oblique"], format="elastix")
    (tmp_path / "t.txt").write_text("(Transform")
    with pytest.raises(InputError, match="line 1"):
        read_transform(tmp_path / "t.txt", GRIDS["oblique"], format="elastix")

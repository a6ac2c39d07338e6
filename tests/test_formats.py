"""Transform files of other tools: by formulas written out here, by numbers that the tools gave, by the tools."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from io_scenes import ras, rotation
from scipy.ndimage import map_coordinates, zoom
from test_itk import close, smooth_field, turn

from classreg.errors import FileError, InputError, OptionError
from classreg.fitted import FittedTransform
from classreg.grid import Grid
from classreg.image import Image
from classreg.io import load, read_transform, save_image, write_transform
from classreg.mapping import Mapping
from classreg.transforms import BSpline

PEERS = os.environ.get("CLASSREG_PEERS")
FLIP = np.array([-1, -1, 1])
SHIFT = np.array([6.0, -4.0, 3.0])
SKEW = rotation(0.3, -0.5, 0.8)

# voxel (x, y, z) to RAS: handedness, oblique axes, spacing and origin all differ between the two
PAIRS = {
    "both handed one way": (ras(SKEW), ras(rotation(-0.2, 0.1, 0.4), (2.1, 1.3, 1.9))),
    "fixed flipped": (ras(SKEW @ np.diag([-1, 1, 1])), ras(rotation(-0.2, 0.1, 0.4), (2.1, 1.3, 1.9))),
    "moving flipped": (ras(SKEW), ras(rotation(-0.2, 0.1, 0.4) @ np.diag([1, -1, 1]), (2.1, 1.3, 1.9))),
    "permuted": (ras([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]), ras(np.diag([-1, -1, 1]), (0.9, 1.2, 2.5))),
}


def grid_of(affine, shape):
    return Grid(shape[::-1], load(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), affine)).grid.affine)


def pair(key="moving flipped", shape=(8, 10, 6)):
    """A fixed grid, and a moving one about where the transforms below take it."""
    fixed, moving = PAIRS[key]
    fixed, moving = grid_of(fixed, shape), moving.copy()
    size = np.array((30, 34, 28))
    moving[:3, 3] = (fixed.centre + SHIFT) * FLIP - moving[:3, :3] @ ((size - 1) / 2)
    return fixed, grid_of(moving, size)


def matrix_of(fixed):
    d = fixed.ndim
    linear = turn(d) * [1.1, 0.95, 1.03][:d]
    shift = fixed.centre + SHIFT[:d] - linear @ fixed.centre
    return np.vstack([np.column_stack([linear, shift]), np.eye(d + 1)[d]])


def affine(fixed, moving):
    return FittedTransform.from_matrix(matrix_of(fixed), fixed, moving)


def dense(fixed, moving):
    return FittedTransform.from_mapping(Mapping(matrix_of(fixed), smooth_field(fixed), fixed), fixed, moving)


def spline(fixed, moving):
    model = BSpline(fixed, 7.0, matrix_of(fixed))
    theta = 2 * np.random.default_rng(1).standard_normal(model.identity().shape).astype(np.float32)
    return FittedTransform("bspline", model, theta, fixed, moving)


MAKERS = {"affine": affine, "dense": dense, "bspline": spline}


def voxels(grid):
    """Voxel numbers (x, y, z) and world points of all samples, in the order of an array (x, y, z)."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape[::-1]), indexing="ij"), -1).reshape(-1, grid.ndim)
    return index, grid.to_world(index[:, ::-1])


def ras_affine(grid):
    """Voxel (x, y, z) to RAS mm."""
    return np.diag([-1.0, -1, 1, 1]) @ grid.affine[:, [2, 1, 0, 3]]


# ------------------------------------------------------------------------------------ what the tools themselves say
CASES = [
    ("ants", "affine", "ants", ["a.mat"]), ("ants", "affine", "ants", ["w.nii.gz"]),
    ("ants", "dense", "ants", ["w.nii.gz"]), ("ants", "dense", "ants", ["a.h5"]), ("ants", "bspline", "ants", ["a.h5"]),
    ("ants", "dense", "ants", ["w.nii.gz", "a.mat"]), ("ants", "bspline", "itk", ["a.h5"]),
    ("greedy", "affine", "greedy", ["a.mat"]), ("greedy", "affine", "ras", ["a.mat"]),
    ("greedy", "dense", "greedy", ["w.nii.gz"]), ("greedy", "bspline", "greedy", ["w.nii.gz", "a.mat"]),
    ("flirt", "affine", "fsl", ["a.mat"]), ("nitransforms_fsl", "affine", "fsl", ["a.mat"]),
    ("fnirt", "affine", "fsl", ["w.nii.gz"]), ("fnirt", "dense", "fsl", ["w.nii.gz"]),
    ("fnirt", "bspline", "fsl-relative", ["w.nii.gz"]), ("fnirt", "bspline", "fsl-absolute", ["w.nii.gz"]),
    ("nitransforms_itk", "affine", "itk", ["a.tfm"]), ("nitransforms_itk", "dense", "displacement", ["w.nii.gz"]),
]


def save_scene(folder, fixed, moving):
    """Images for `foreign.py`: moving ones hold their own RAS coordinates."""
    for name, grid in (("fixed", fixed), ("moving", moving)):
        nib.save(Image(np.ones(grid.shape, np.float32), grid).to_nibabel(), folder / f"{name}.nii.gz")
    for k, axis in enumerate("xyz"):
        nib.save(Image((moving.points()[..., k] * FLIP[k]).astype(np.float32), moving).to_nibabel(),
                 folder / f"{axis}.nii.gz")


def ask(tool, folder, files):
    """LPS points of the moving image that a tool looks at, NaN outside it."""
    done = subprocess.run([PEERS, Path(__file__).with_name("foreign.py"), tool, folder, *map(str, files)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return np.array([[np.nan] * 3 if p is None else p for p in json.loads(done.stdout)]) * FLIP


@pytest.mark.skipif(not PEERS, reason="CLASSREG_PEERS names no Python with antspyx, picsl-greedy, fslpy, nitransforms")
@pytest.mark.parametrize("key", PAIRS)
@pytest.mark.parametrize("tool, model, format, names", CASES)
def test_a_tool_takes_points_where_classreg_does(tmp_path, tool, model, format, names, key):
    fixed, moving = pair(key)
    save_scene(tmp_path, fixed, moving)
    transform = MAKERS[model](fixed, moving)
    files = [tmp_path / name for name in names]
    write_transform(transform, files if len(files) > 1 else files[0], format=format)
    found = ask(tool, tmp_path, files + ["absolute"] * (format == "fsl-absolute"))
    expected = transform.map_points(voxels(fixed)[1])
    there = np.isfinite(found).all(1)
    assert there.mean() > 0.8
    close(found[there], expected[there], 2e-3)
    again = read_transform(files if len(files) > 1 else files[0], fixed, moving, format=format)
    close(again.map_points(voxels(fixed)[1]), expected, 1e-3)


# ------------------------------------------------------------------------------- numbers that the tools gave, once
MATRIX = "0.98 0.05 -0.1 3\n-0.02 1.04 0.08 -5\n0.11 -0.06 0.95 2\n0 0 0 1\n"
ITK_TEXT = ("#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\nParameters: 0.98 0.05 "
            "-0.1 -0.02 1.04 0.08 0.11 -0.06 0.95 3 -5 2\nFixedParameters: -15 20 45\n")
AT = [(0, 0, 0), (7, 2, 5), (3, 9, 1)]  # voxels (x, y, z) of the fixed image of `pair("moving flipped")`
SAID = [  # format, files, whether each goes the other way, LPS mm
    # fslpy 3.29.1: flirt.fromFlirt, fnirt.readFnirt(...).transform
    ("fsl", ["a.mat"], [False],
     [[15.0071, 15.1124, 22.5586], [21.6595, 16.1585, 38.6143], [13.2471, 28.5089, 29.9446]]),
    ("fsl-relative", ["relative.nii"], [False],
     [[-16.5896, 2.2625, 46.0396], [-9.6922, 5.2827, 63.9939], [-20.1251, 19.535, 51.3385]]),
    ("fsl-absolute", ["absolute.nii"], [False],
     [[-16.5896, 2.2625, 46.0396], [-9.6922, 5.2827, 63.9939], [-20.1251, 19.535, 51.3385]]),
    # picsl-greedy 1.4.0.3: -r
    ("ras", ["a.mat"], [False], [[-14.8875, 26.25, 44.27], [-23.1111, 21.0267, 57.557], [-8.2857, 14.4229, 52.6997]]),
    ("greedy", ["w.nii", "a.mat"], [False, False],
     [[-10.9175, 22.89, 45.55], [-18.4091, 18.0347, 61.774], [-4.6247, 13.9969, 52.7497]]),
    # antspyx 0.6.3: apply_transforms
    ("ants", ["a.txt"], [False], [[-13.8875, 18.11, 42.73], [-24.7409, 14.9906, 54.4261], [-9.3367, 7.9237, 53.7846]]),
    ("ants", ["a.txt"], [True],
     [[-21.5447, 28.1946, 39.9596], [-29.5155, 22.8987, 54.3891], [-13.7114, 17.575, 49.1765]]),
    ("displacement", ["w.nii"], [False],
     [[-13.5, 20.25, 43.0], [-22.6192, 16.656, 59.249], [-7.5761, 12.4863, 51.7549]]),
    ("ants", ["w.nii", "a.txt"], [False, False],
     [[-10.3175, 15.07, 45.25], [-21.0589, 12.8146, 59.8991], [-5.7757, 7.5777, 54.6846]]),
    ("ants", ["w.nii", "a.txt"], [False, True],
     [[-17.1702, 25.2852, 41.3746], [-24.4237, 20.3337, 59.0059], [-9.9171, 17.3538, 49.2495]]),
]


@pytest.mark.parametrize("format, names, inverse, said", SAID)
def test_points_go_where_the_tools_said(tmp_path, format, names, inverse, said):
    fixed, moving = pair("moving flipped")
    shape = fixed.shape[::-1]
    i, j, k = np.meshgrid(*map(np.arange, shape), indexing="ij")
    vectors = np.stack([4 + 0.2 * i - 0.1 * j * k, 0.3 * j - 3, 2 + 0.1 * i * k - 0.2 * j], -1)
    relative = vectors + (27, 14, 18)
    absolute = relative + fsl_mm(1.0 * voxels(fixed)[0], fixed).reshape(*shape, 3)
    (tmp_path / "a.mat").write_text(MATRIX)
    (tmp_path / "a.txt").write_text(ITK_TEXT)
    for name, values, intent in [("w", vectors[:, :, :, None], 1007), ("relative", relative, 2006),
                                 ("absolute", absolute, 2006)]:
        file = nib.Nifti1Image(values.astype(np.float32), ras_affine(fixed))
        file.header["intent_code"] = intent
        nib.save(file, tmp_path / f"{name}.nii")
    paths = [tmp_path / name for name in names]
    points = fixed.to_world([at[::-1] for at in AT])
    close(read_transform(paths, fixed, moving, format=format, inverse=inverse).map_points(points), said)
    if format == "fsl-absolute":  # here it can be told
        close(read_transform(paths[0], fixed, moving).map_points(points), said)
    elif format == "fsl-relative":  # far from where the headers have it, and between axes that run against each other
        with pytest.raises(InputError, match="may be a relative or an absolute warp"):
            read_transform(paths[0], fixed, moving)


# ------------------------------------------------------------------------------------------ formulas, written out here
def fsl_mm(index, grid):
    """FSL's coordinates of voxel numbers (x, y, z): mm, x counted from the other side where the matrix is positive."""
    out = index * grid.spacing[::-1]
    if np.linalg.det(ras_affine(grid)[:3, :3]) > 0:
        out[:, 0] = (grid.shape[2] - 1) * grid.spacing[2] - out[:, 0]
    return out


def voxel_of(points, grid):
    """World points as voxel numbers (x, y, z)."""
    return nib.affines.apply_affine(np.linalg.inv(ras_affine(grid)), points * FLIP)


def stored(path, grid):
    """Vectors of a NIfTI on a grid, in the order of `voxels`."""
    file = nib.load(path)
    close(file.affine, ras_affine(grid), 1e-4)
    return file.get_fdata().reshape(-1, 3)


@pytest.mark.parametrize("key", PAIRS)
def test_matrices_hold_what_their_formulas_say(tmp_path, key):
    fixed, moving = pair(key)
    transform = affine(fixed, moving)
    index, world = voxels(fixed)
    there = transform.map_points(world)
    for name, start, end in [
            ("ras", world * FLIP, there * FLIP),
            ("greedy", world * FLIP, there * FLIP),
            ("fsl", fsl_mm(voxel_of(there, moving), moving), fsl_mm(1.0 * index, fixed))]:  # from moving to fixed
        for suffix in (".mat", ".txt"):
            path = tmp_path / f"a{suffix}"
            write_transform(transform, path, format=name)
            close(nib.affines.apply_affine(np.loadtxt(path), start), end, 1e-9)
            again = read_transform(path, fixed, moving, format=name)
            assert again.linear and again.to_grid is moving
            close(again.matrix, transform.matrix, 1e-9)


@pytest.mark.parametrize("key", PAIRS)
@pytest.mark.parametrize("model", MAKERS)
def test_fields_hold_what_their_formulas_say(tmp_path, model, key):
    fixed, moving = pair(key)
    transform = MAKERS[model](fixed, moving)
    index, world = voxels(fixed)
    there = transform.map_points(world)
    to_voxel = voxel_of(there, moving)
    from_fsl, to_fsl = fsl_mm(1.0 * index, fixed), fsl_mm(1.0 * to_voxel, moving)
    for name, values, axes, intent in [
            ("displacement", there - world, 5, 1007), ("displacement-ras", (there - world) * FLIP, 5, 1006),
            ("greedy", there - world, 5, 1007), ("displacement-voxel", to_voxel - index, 5, 0),
            ("learn2reg", to_voxel - index, 4, 0), ("fsl", to_fsl - from_fsl, 4, 2006),
            ("fsl-relative", to_fsl - from_fsl, 4, 2006), ("fsl-absolute", to_fsl, 4, 2006)]:
        write_transform(transform, tmp_path / "u.nii", format=name)
        close(stored(tmp_path / "u.nii", fixed), values)
        header = nib.load(tmp_path / "u.nii").header
        assert header["dim"][0] == axes and header["intent_code"] == intent
        again = read_transform(tmp_path / "u.nii", fixed, moving, format=name)
        close(again.map_points(world), there)
        assert again.grid is fixed and again.to_grid is moving and again.transform.grid.same_as(fixed)
    write_transform(transform, tmp_path / "u.npz", format="npz")
    with np.load(tmp_path / "u.npz") as archive:
        close(archive["displacement"].transpose(3, 2, 1, 0).reshape(-1, 3), there - world)
        close(archive["affine"], fixed.affine)
    other = grid_of(ras(np.eye(3)), (7, 5, 6))
    other = Grid(other.shape, other.affine + np.pad((fixed.centre - other.centre)[:, None], ((0, 1), (3, 0))))
    close(read_transform(tmp_path / "u.npz", other, moving).map_points(world), there)  # it brings its grid


def test_between_samples_fields_are_linear_in_the_frame_of_the_tool(tmp_path):
    """Nothing is resampled on the way: the vectors of one voxel are interpolated, whatever the frames are."""
    fixed, moving = pair("moving flipped")
    write_transform(spline(fixed, moving), tmp_path / "u.nii", format="fsl")
    index = np.random.default_rng(0).uniform(0, 1, (200, 3)) * (np.array(fixed.shape[::-1]) - 1)
    vectors = nib.load(tmp_path / "u.nii").get_fdata()
    moved = fsl_mm(index, fixed) + np.stack([map_coordinates(vectors[..., k], index.T, order=1) for k in range(3)], -1)
    found = read_transform(tmp_path / "u.nii", fixed, moving).map_points(fixed.to_world(index[:, ::-1]))
    close(fsl_mm(voxel_of(found, moving), moving), moved, 1e-4)


@pytest.mark.parametrize("shape", [(8, 10, 1), (1, 10, 6), (8, 1, 1)])
def test_volumes_of_one_slice(tmp_path, shape):
    fixed, moving = pair("moving flipped", shape)
    world = voxels(fixed)[1]
    noise = np.random.default_rng(0).standard_normal((3, *fixed.shape)).astype(np.float32)
    transform = FittedTransform.from_mapping(Mapping(matrix_of(fixed), noise, fixed), fixed, moving)
    for format in ("fsl", "fsl-absolute", "learn2reg", "displacement-voxel", "displacement-ras"):
        write_transform(transform, tmp_path / "u.nii", format=format)
        again = read_transform(tmp_path / "u.nii", fixed, moving, format=format)
        close(again.map_points(world), transform.map_points(world))


def test_the_script_of_learn2reg_warps_as_the_transform_does(tmp_path):
    """The challenge's own steps: load, zoom, add to the voxel numbers, `map_coordinates` in the moving array."""
    shape = (12, 16, 10)
    fixed, moving = pair("moving flipped", shape)
    transform = dense(fixed, moving)
    image = Image(np.random.default_rng(4).standard_normal(moving.shape).astype(np.float32), moving)
    index, world = voxels(fixed)
    write_transform(transform, tmp_path / "disp.npz", format="learn2reg")
    half = np.load(tmp_path / "disp.npz")["arr_0"]
    assert half.dtype == np.float16 and half.shape == (3, 6, 8, 5)
    full = np.stack([zoom(component.astype("float32"), 2, order=2) for component in half])
    at = index.T.reshape(3, *shape) + full
    theirs = map_coordinates(image.array.T, at, order=1)
    read = read_transform(tmp_path / "disp.npz", fixed, moving)
    to = read.map_points(world)
    close(voxel_of(to, moving), at.reshape(3, -1).T, 1e-4)
    close(map_coordinates(image.array, moving.to_index(to).T, order=1), theirs.ravel(), 1e-3)
    corner = index[(index == 0).all(1) | (index == np.array(shape) - 1).all(1)]  # samples that both resolutions have
    exact = transform.map_points(fixed.to_world(corner[:, ::-1]))
    close(read.map_points(fixed.to_world(corner[:, ::-1])), exact, 0.03)  # float16
    lost = np.abs(to - transform.map_points(world))
    assert 0.03 < lost.max() < 3  # a rough field does not fit half resolution
    np.savez(tmp_path / "full.npz", (voxel_of(transform.map_points(world), moving) - index).T.reshape(3, *shape))
    close(read_transform(tmp_path / "full.npz", fixed, moving).map_points(world), transform.map_points(world))


def fnirt_file(path, fixed, moving):
    """Coefficients as fnirt writes them, with numbers that can be written down."""
    step, knots = np.array([3, 4, 2]), [6, 7, 7]
    i, j, k = np.meshgrid(*map(np.arange, knots), indexing="ij")
    data = np.stack([np.cos(i + 2.0 * j - k), 0.3 * i - 0.1 * j * k, np.sin(3.0 * i * k + j)], -1)
    file = nib.Nifti1Image(data.astype(np.float32), None)
    file.header["intent_code"] = 2007
    for n, size in enumerate(fixed.spacing[::-1], 1):
        file.header[f"intent_p{n}"] = size
    file.header.set_zooms([*step, 1.0])
    start = np.eye(4)
    start[:3, :3], start[:3, 3] = rotation(0.1, -0.2, 0.05) * [1.1, 0.9, 1.0], (2.0, -7.0, 4.0)
    file.set_sform(start, 1)
    shape = np.diag([*step, 1.0])
    shape[:3, 3] = fixed.shape[::-1]
    file.set_qform(shape, 1)
    file.update_header()
    nib.save(file, path)
    return data, start, step


def test_coefficients_of_fnirt(tmp_path):
    fixed, moving = pair("moving flipped")
    data, start, step = fnirt_file(tmp_path / "c.nii.gz", fixed, moving)
    found = read_transform(tmp_path / "c.nii.gz", fixed, moving).map_points(voxels(fixed)[1])

    def b(t):
        t = abs(t)
        return (4 - 6 * t**2 + 3 * t**3) / 6 if t < 1 else (2 - t) ** 3 / 6 if t < 2 else 0.0

    for n in (0, 7, 123, 377, len(found) - 1):
        index = voxels(fixed)[0][n]
        weights = [[b(v / s - k + 1) for k in range(size)] for v, s, size in zip(index, step, data.shape)]
        moved = np.einsum("i,j,k,ijkc->c", *weights, data)
        at = fsl_mm(1.0 * index[None], fixed)[0]
        moved = moved + (np.linalg.inv(start) @ [*at, 1])[:3]
        close(fsl_mm(voxel_of(found[n:n + 1], moving), moving)[0], moved, 1e-4)


@pytest.mark.skipif(not PEERS, reason="CLASSREG_PEERS names no Python with fslpy")
@pytest.mark.parametrize("key", PAIRS)
def test_fslpy_makes_the_same_of_coefficients(tmp_path, key):
    fixed, moving = pair(key)
    save_scene(tmp_path, fixed, moving)
    fnirt_file(tmp_path / "c.nii.gz", fixed, moving)
    found = read_transform(tmp_path / "c.nii.gz", fixed, moving).map_points(voxels(fixed)[1])
    close(found, ask("fnirt", tmp_path, [tmp_path / "c.nii.gz"]), 1e-3)


# ------------------------------------------------------------------------------------------------------------- in 2-D
def flat(shape=(13, 9)):
    t = -0.6
    axes = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    fixed = Grid.from_spacing(shape, (1.9, 0.7), origin=(-31.0, 12.5), direction=axes)
    moving = Grid.from_spacing((20, 22), (1.1, 1.4), origin=(-40.0, 3.0), direction=np.diag([1.0, -1]))
    return fixed, moving


def test_planes(tmp_path):
    fixed, moving = flat()
    index, world = voxels(fixed)
    linear, field = affine(fixed, moving), dense(fixed, moving)
    for transform, name in [(linear, "a.mat"), (field, "u.nii.gz")]:
        there = transform.map_points(world)
        for format in ("ras", "greedy", "fsl", "ants") if transform.linear else (
                "displacement", "displacement-ras", "displacement-voxel", "ants", "greedy"):
            write_transform(transform, tmp_path / name, format=format)
            again = read_transform(tmp_path / name, fixed, moving, format=format)
            close(again.map_points(world), there)
    write_transform(linear, tmp_path / "a.txt", format="ras")
    close(nib.affines.apply_affine(np.loadtxt(tmp_path / "a.txt"), world * -1), linear.map_points(world) * -1, 1e-9)
    write_transform(linear, tmp_path / "a.txt", format="fsl")
    back = np.loadtxt(tmp_path / "a.txt")
    assert back.shape == (4, 4)
    to = moving.to_index(linear.map_points(world))[:, ::-1] * moving.spacing[::-1]  # handed as FSL wants it
    at = index * fixed.spacing[::-1]
    at[:, 0] = (fixed.shape[1] - 1) * fixed.spacing[1] - at[:, 0]
    close(nib.affines.apply_affine(back, np.pad(to, ((0, 0), (0, 1))))[:, :2], at, 1e-9)
    write_transform(field, tmp_path / "u.nii.gz", format="displacement-voxel")
    values = nib.load(tmp_path / "u.nii.gz").get_fdata().reshape(-1, 2)
    close(values, moving.to_index(field.map_points(world))[:, ::-1] - index)
    write_transform(field, tmp_path / "u.npz", format="npz")
    close(read_transform(tmp_path / "u.npz", fixed).map_points(world), field.map_points(world))


# -------------------------------------------------------------------------------------------------------- lists, ends
@pytest.mark.parametrize("format, first", [("ants", True), ("greedy", True), ("itk", False)])
@pytest.mark.parametrize("model", ["dense", "bspline"])
def test_a_warp_and_a_matrix_are_listed_in_the_order_of_the_tool(tmp_path, format, first, model):
    fixed, moving = pair()
    transform = MAKERS[model](fixed, moving)
    warp, matrix = tmp_path / ("w.h5" if format == "itk" else "w.nii.gz"), tmp_path / "a.mat"
    files = [warp, matrix] if first else [matrix, warp]
    write_transform(transform, files, format=format)
    world = voxels(fixed)[1]
    there = transform.map_points(world)
    again = read_transform(files, fixed, moving, format=format)
    close(again.map_points(world), there)
    assert (again.frm, again.to) == ("fixed", "moving") and again.to_grid is moving
    inner = read_transform(warp, fixed, format=format).map_points(world)
    close(read_transform(matrix, fixed, format=format).map_points(inner), there)
    if format != "itk":  # ITK reads both files: the field is its own, and it applies the last one first
        field = sitk.DisplacementFieldTransform(sitk.ReadImage(str(warp), sitk.sitkVectorFloat64))
        close([field.TransformPoint(p) for p in world[::7].tolist()], inner[::7])
    wrong = read_transform(files[::-1], fixed, moving, format=format)
    assert np.abs(wrong.map_points(world) - there).max() > 1


def test_the_way_back_as_ants_lists_it(tmp_path):
    """[affine, 1] and 1InverseWarp take moving points to fixed ones; both lie on the fixed image's side."""
    fixed, moving = pair()
    transform = dense(fixed, moving)
    warp, matrix = transform.parts()
    assert (warp.frm, warp.to, matrix.frm, matrix.to) == ("fixed", "between", "between", "moving")
    close(matrix.compose(warp).map_points(voxels(fixed)[1]), transform.map_points(voxels(fixed)[1]))
    write_transform(matrix, tmp_path / "0GenericAffine.mat", format="ants")
    write_transform(warp.inverse(), tmp_path / "1InverseWarp.nii.gz", format="ants")
    back = read_transform([tmp_path / "0GenericAffine.mat", tmp_path / "1InverseWarp.nii.gz"], moving, fixed,
                          format="ants", inverse=[True, False], frm="moving", to="fixed")
    inside = fixed.to_world(np.random.default_rng(0).uniform(2, np.array(fixed.shape) - 3, (50, 3)))
    close(back.map_points(transform.map_points(inside), "moving", "fixed"), inside, 0.3)  # resampled
    assert back.grid is moving and back.to_grid is fixed


def test_ends_are_named_and_must_meet(tmp_path):
    fixed, moving = pair()
    transform = affine(fixed, moving)
    write_transform(transform, tmp_path / "a.mat", format="fsl")
    write_transform(transform.inverse(), tmp_path / "b.mat", format="fsl")
    there = read_transform(tmp_path / "a.mat", fixed, moving, format="fsl", frm="atlas", to="subject")
    with pytest.raises(OptionError, match="ends at 'subject', the outer begins at 'atlas'"):
        there.compose(there)
    with pytest.raises(OptionError, match="unknown end 'fixed'"):
        there.map_points([SHIFT], "fixed", "moving")
    back = read_transform(tmp_path / "b.mat", moving, fixed, format="fsl", frm="subject", to="atlas")
    assert (back.frm, back.to) == ("subject", "atlas")
    world = voxels(fixed)[1]
    close(back.compose(there).map_points(world, "atlas", "atlas"), world, 1e-9)
    turned = read_transform(tmp_path / "b.mat", fixed, moving, format="fsl", inverse=True)
    close(turned.matrix, transform.matrix, 1e-9)
    with pytest.raises(OptionError, match="the moving grid is needed"):
        read_transform(tmp_path / "b.mat", fixed, format="fsl", inverse=True)
    index = there.map_points([(2, 3, 4)], "atlas", "subject", "index")
    close(moving.to_world(index), transform.map_points(fixed.to_world([(2, 3, 4)])), 1e-9)


def test_a_field_that_goes_the_other_way_is_turned_round(tmp_path):
    fixed, moving = pair()
    transform = dense(fixed, moving)
    for name, format in [("b.nii.gz", "displacement"), ("b.nii.gz", "fsl"), ("b.h5", "itk")]:
        write_transform(transform.inverse(), tmp_path / name, format=format)
        found = read_transform(tmp_path / name, fixed, moving, format=format, inverse=True)
        assert (found.frm, found.to) == ("fixed", "moving") and found.grid is fixed and found.residual["max"] < 0.01
        inside = fixed.to_world(np.random.default_rng(0).uniform(1, np.array(fixed.shape) - 2, (50, 3)))
        close(found.map_points(inside), transform.map_points(inside), 0.6)  # two inversions of a rough field
    with pytest.raises(OptionError, match="needs the moving grid"):
        read_transform(tmp_path / "b.h5", fixed, inverse=True)


# ---------------------------------------------------------------------------------------------------------- auto
def test_what_a_file_shows_itself_to_be(tmp_path):
    fixed, moving = pair()
    linear, field = affine(fixed, moving), dense(fixed, moving)
    world = voxels(fixed)[1]
    for transform, name, format in [
            (linear, "a.tfm", "itk"), (linear, "a.mat", "itk"), (linear, "a.txt", "itk"), (field, "a.h5", "itk"),
            (field, "u.nii.gz", "displacement"), (field, "r.nii.gz", "displacement-ras"), (field, "w.nii.gz", "fsl"),
            (field, "u.npz", "npz")]:
        write_transform(transform, tmp_path / name, format=format)
        close(read_transform(tmp_path / name, fixed, moving).map_points(world), transform.map_points(world))
    for name, format, named in [("a.mat", "fsl", "fsl, fsl-relative"), ("a.txt", "ras", "greedy, ras, fsl")]:
        write_transform(linear, tmp_path / name, format=format)
        with pytest.raises(OptionError, match=f"cannot tell the format .* {named}"):
            read_transform(tmp_path / name, fixed, moving)
    for format, named in [("learn2reg", "fsl, .*learn2reg"), ("displacement-voxel", "displacement-voxel")]:
        write_transform(field, tmp_path / "u.nii.gz", format=format)
        with pytest.raises(OptionError, match=named):
            read_transform(tmp_path / "u.nii.gz", fixed, moving)
    for text in ("hello\n", " \n\n"):
        (tmp_path / "a.txt").write_text(text)
        with pytest.raises(FileError, match="none of the formats with its suffix, itk"):
            read_transform(tmp_path / "a.txt", fixed, moving)
    save_image(Image(np.ones(fixed.shape, np.float32), fixed), tmp_path / "image.nii.gz")
    with pytest.raises(FileError, match="none of the formats"):
        read_transform(tmp_path / "image.nii.gz", fixed, moving)
    for name in ("b.mat", "b.txt", "b.nii.gz", "b.npz"):
        with pytest.raises(OptionError, match="several tools have"):
            write_transform(linear, tmp_path / name)
    write_transform(field, tmp_path / "b.h5")

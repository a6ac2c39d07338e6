"""Transforms for NiftyReg and from it: numbers that reg_transform gave, reg_transform itself where it is there.

RECORDED holds where reg_transform 1.5.58 takes two voxels by each file of CASES. To run it again, set CLASSREG_NIFTYREG
to the folder that has it.
"""

from __future__ import annotations

import os
import subprocess

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from test_itk import GRIDS, MAKERS, close, held, inside, samples, turn, volume_grid, world_matrix

from classreg.errors import ClassregError, FileError, OptionError
from classreg.grid import Grid
from classreg.image import Image
from classreg.io import read_transform, save_image, write_transform
from classreg.transforms import BSpline

FOLDER = os.environ.get("CLASSREG_NIFTYREG")
SINGLE = 5e-5  # mm: NiftyReg works in single precision on absolute positions


def ras_affine(grid):
    """Voxel (x, y, z) to RAS of a grid, (4, 4)."""
    flip = np.diag([-1.0, -1, 1, 1])
    return flip @ grid.affine3[:, [2, 1, 0, 3]]


def vectors_of(size, d, scale=2.0):
    """Vectors without symmetry, (*size, 1, d)."""
    u = scale * np.sin(0.45 * np.arange(np.prod(size) * d))
    return np.round(u, 3).reshape(d, *size[::-1]).T.reshape(*size, 1, d)


def positions(affine, size, d):
    """RAS places of voxels, (*size, 1, d)."""
    index = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    return (index @ affine[:3, :3].T + affine[:3, 3])[:, :, :, None, :d]


def save(path, data, affine, kind, steps=0, matrices=(), name="NREG_TRANS"):
    """A NIfTI as NiftyReg writes them."""
    image = nib.Nifti1Image(data.astype(np.float32), affine)
    image.header.set_intent("vector", (), name)
    image.header["intent_p1"], image.header["intent_p2"] = kind, steps
    image.set_sform(affine, 1)
    for matrix in matrices:
        image.header.extensions.append(nib.nifti1.Nifti1Extension(0, np.asarray(matrix, "<f4").tobytes()))
    nib.save(image, path)
    return path


def lattice_of(grid, cell=5.0):
    """RAS affine and size of the control points that reg_f3d lays over a grid."""
    affine, n = ras_affine(grid), [*grid.shape[::-1], 1][:3]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    size = [int(np.ceil(m * s / cell) + 3) if m > 1 else 1 for m, s in zip(n, spacing)]
    affine[:3, :3] *= np.where(np.array(n) > 1, cell / spacing, 1)
    affine[:3, 3] -= affine[:3, :3] @ np.array([1, 1, 0 if n[2] == 1 else 1])
    return affine, size


def half(grid):
    """A RAS matrix such as half an affine."""
    out = np.eye(4)
    d, shift = grid.ndim, np.array([1.5, -2.0, 0.7])[:grid.ndim]
    out[:d, :d] = (turn(d) + np.eye(d)) / 2 * [1.05, 0.97, 1.02][:d]
    centre = grid.centre * [-1, -1, 1][:d]
    out[:d, 3] = centre + shift - out[:d, :d] @ centre
    return out


def cases():
    """Name to the grid, its file's suffix and a function of a path that writes the file."""
    out = {}
    for key in ("oblique", "2-D flipped"):
        grid, d = GRIDS[key], GRIDS[key].ndim
        own, n = ras_affine(grid), [*grid.shape[::-1], 1][:3]
        affine, size = lattice_of(grid)
        points = positions(affine, size, d)

        def add(name, maker, suffix=".nii.gz", grid=grid, key=key):
            out[f"{name}, {key}"] = (grid, suffix, maker)

        def file(kind, steps=0, matrices=(), scale=2.0, affine=affine, size=size, points=points, d=d):
            return lambda path: save(path, points + vectors_of(size, d, scale), affine, kind, steps, matrices)

        add("matrix", lambda path, grid=grid: np.savetxt(path, half(grid), fmt="%.6f"), ".txt")
        add("deformation", file(0, affine=own, size=n, points=positions(own, n, d)))
        add("displacement", file(1, affine=own, size=n, points=0 * positions(own, n, d)))
        add("control points", file(2))
        add("control points and matrices", file(2, 0, (half(grid), half(grid) @ half(grid))))
        add("velocity", file(5, 6))
        add("velocity backwards", file(5, -3))
        add("large velocity, no steps", file(5, 0, scale=25.0))
        add("velocity and matrices", file(5, 6, (half(grid), half(grid) @ half(grid))))
        if d == 3:  # reg_transform has neither in 2-D
            add("flow", file(3, 5, scale=0.5, affine=own, size=n, points=positions(own, n, d)))
            add("linear control points", file(6))
            few = [n - 3 for n in size]  # they end within the image, and go on as at their border
            add("too few control points", file(2, size=few, points=positions(affine, few, d)))
    return out


CASES = cases()
RECORDED = {
    "matrix, oblique": ((-24.76997, 23.9441, 55.94551), (-17.36576, 18.01751, 51.94392)),
    "deformation, oblique": ((-20.63714, 24.21246, 54.77566), (-18.35261, 14.68114, 50.40175)),
    "displacement, oblique": ((-20.63714, 24.21245, 54.77566), (-18.35261, 14.68114, 50.40175)),
    "control points, oblique": ((-22.36484, 22.56277, 55.57854), (-16.80146, 15.3039, 51.05986)),
    "control points and matrices, oblique": ((-29.78949, 25.88046, 55.78572), (-20.21666, 22.37007, 53.30025)),
    "velocity, oblique": ((-22.37126, 22.55902, 55.57902), (-16.78276, 15.32431, 51.03978)),
    "velocity backwards, oblique": ((-22.80222, 22.26044, 55.71181), (-16.30704, 15.79315, 50.62999)),
    "large velocity, no steps, oblique": ((-20.68988, 23.78961, 54.93695), (-18.02591, 14.18985, 51.93819)),
    "velocity and matrices, oblique": ((-29.7938, 25.87642, 55.78734), (-20.21848, 22.36791, 53.30289)),
    "flow, oblique": ((-22.15096, 22.84742, 55.39704), (-16.92287, 15.39538, 50.71483)),
    "linear control points, oblique": ((-21.36133, 23.27431, 55.2385), (-17.79486, 14.31536, 51.93303)),
    "too few control points, oblique": ((-21.66524, 22.67786, 56.21341), (-16.1976, 15.39126, 51.40683)),
    "matrix, 2-D flipped": ((-36.39917, 5.44895), (-31.82034, 9.55407)),
    "deformation, 2-D flipped": ((-35.3939, 5.29756), (-27.71723, 5.83323)),
    "displacement, 2-D flipped": ((-35.3939, 5.29756), (-27.71723, 5.83323)),
    "control points, 2-D flipped": ((-35.32741, 3.40194), (-28.88391, 7.61788)),
    "control points and matrices, 2-D flipped": ((-41.3376, 8.40383), (-36.71697, 13.52397)),
    "velocity, 2-D flipped": ((-35.3229, 3.364), (-28.95122, 7.46749)),
    "velocity backwards, 2-D flipped": ((-33.98763, 3.50515), (-30.41664, 6.32953)),
    "large velocity, no steps, 2-D flipped": ((-37.80648, -1.86701), (-23.80974, 6.16996)),
    "velocity and matrices, 2-D flipped": ((-41.32795, 8.41636), (-36.75916, 13.44265)),
}


def two_voxels(grid):
    return np.array([(5, 3, 2)[:grid.ndim], (2, 6, 4)[:grid.ndim]])


def reg_transform(path, grid, tmp_path):
    """Where NiftyReg takes the voxels of a grid: (*shape, d) in LPS."""
    save_image(Image(np.zeros(grid.shape, np.float32), grid), tmp_path / "reference.nii.gz")
    done = subprocess.run([os.path.join(FOLDER, "reg_transform"), "-ref", str(tmp_path / "reference.nii.gz"), "-def",
                           str(path), str(tmp_path / "field.nii.gz")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    field = np.asarray(nib.load(tmp_path / "field.nii.gz").dataobj)[:, :, :, 0]
    field = field.transpose(2, 1, 0, 3).reshape(*grid.shape, grid.ndim)
    return field * [-1, -1, 1][:grid.ndim]


# --------------------------------------------------------------------------------------------------- reading
@pytest.mark.parametrize("name", CASES)
def test_voxels_go_where_niftyreg_took_them(tmp_path, name):
    grid, suffix, make = CASES[name]
    path = tmp_path / f"t{suffix}"
    make(path)
    read = read_transform(path, grid, format="niftyreg" if suffix == ".txt" else "auto")
    points = grid.to_world(two_voxels(grid))
    tolerance = 1e-3 if "velocity" in name or "flow" in name else SINGLE  # squarings add up its rounding
    close(read.map_points(points), RECORDED[name], tolerance)
    field = np.stack([read.displacement()[(slice(None), *i)] for i in two_voxels(grid)])
    close(points + field, RECORDED[name], tolerance)
    assert np.abs(points - RECORDED[name]).max() > 0.15
    assert isinstance(read.transform, BSpline) == ("control" in name and "linear" not in name)
    assert read.grid is grid and (read.frm, read.to) == ("fixed", "moving")


@pytest.mark.skipif(FOLDER is None, reason="CLASSREG_NIFTYREG, the folder that has reg_transform, is not set")
def test_niftyreg_agrees(tmp_path):
    for name, (grid, suffix, make) in CASES.items():
        make(tmp_path / f"t{suffix}")
        read = read_transform(tmp_path / f"t{suffix}", grid, format="niftyreg")
        found = reg_transform(tmp_path / f"t{suffix}", grid, tmp_path).reshape(-1, grid.ndim)
        close(found, read.map_points(samples(grid)), 1e-3 if "velocity" in name or "flow" in name else SINGLE)
    for grid in (*GRIDS.values(), volume_grid("sheared")):
        for make in MAKERS.values():
            transform = make(grid)
            for format in ("niftyreg", "niftyreg-deformation", "niftyreg-displacement"):
                write_transform(transform, tmp_path / "t.nii", format=format)
                found = reg_transform(tmp_path / "t.nii", grid, tmp_path).reshape(-1, grid.ndim)
                close(found, held(transform, samples(grid)), SINGLE)


@pytest.mark.parametrize("key", ["oblique", "2-D flipped"])
@pytest.mark.parametrize("steps", [6, -2])
def test_a_velocity_is_squared_as_the_definition_says(tmp_path, key, steps):
    """In double precision, which reg_transform does not have."""
    grid, d = GRIDS[key], GRIDS[key].ndim
    affine, size = lattice_of(grid)
    path = save(tmp_path / "t.nii", positions(affine, size, d) + vectors_of(size, d, 9.0), affine, 5, steps)
    to_lattice = (np.linalg.inv(affine) @ ras_affine(grid))[:d, [*range(d), 3]]
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape[::-1]), indexing="ij"))  # voxels x, y[, z]
    at = np.tensordot(to_lattice[:, :d], index, 1) + to_lattice[:, d].reshape((d,) + (1,) * d)
    v = vectors_of(size, d, 9.0).astype(np.float32).reshape(*size[:d], d)
    u = np.stack([map_coordinates(v[..., k].astype(float), at, order=3, prefilter=False) for k in range(d)])
    u = u / (np.sign(steps) * 2.0 ** abs(steps))
    to_voxel = np.linalg.inv(ras_affine(grid))[:d, :d]
    for _ in range(abs(steps)):
        there = index + np.tensordot(to_voxel, u, 1)
        u = u + np.stack([map_coordinates(c, there, order=1, mode="nearest") for c in u])
    expected = u.transpose(0, *range(d, 0, -1)) * np.reshape([-1, -1, 1][:d], (d,) + (1,) * d)
    assert np.abs(expected).max() > 1
    close(read_transform(path, grid).displacement(), expected, 3e-5)


# --------------------------------------------------------------------------------------------------- writing
def by_nibabel(path, points):
    """Where a file takes LPS points, by its header and the formulas of NiftyReg alone."""
    file, d = nib.load(path), points.shape[1]
    assert file.header["intent_code"] == 1007 and file.header.get_intent()[2] == "NREG_TRANS"
    assert file.get_data_dtype() == np.float32 and file.shape[3:] == (1, d)
    ras = np.column_stack([points * [-1, -1, 1][:d], np.zeros((len(points), 3 - d))])
    index = (np.column_stack([ras, np.ones(len(ras))]) @ np.linalg.inv(file.affine).T)[:, :d].T
    kind, data = int(file.header["intent_p1"]), np.asarray(file.dataobj, float).reshape(*file.shape[:d], d)
    order = 3 if kind == 2 else 1
    found = [map_coordinates(data[..., k], index, order=order, prefilter=False, mode="nearest") for k in range(d)]
    return kind, (np.stack(found, -1) + (ras[:, :d] if kind == 1 else 0)) * [-1, -1, 1][:d]


@pytest.mark.parametrize("key", [*GRIDS, "sheared"])
@pytest.mark.parametrize("model", MAKERS)
def test_what_is_written_maps_alike_and_comes_back(tmp_path, key, model):
    grid = volume_grid("sheared") if key == "sheared" else GRIDS[key]
    transform, path = MAKERS[model](grid), tmp_path / "t.nii.gz"
    expected = held(transform, inside(grid))
    for format in ("niftyreg", "niftyreg-deformation", "niftyreg-displacement"):
        write_transform(transform, path, format=format)
        spline = model == "bspline" and format == "niftyreg"
        points = samples(grid) if model == "bspline" and not spline else inside(grid)
        kind, found = by_nibabel(path, points)
        assert kind == (2 if spline else 1 if "displacement" in format else 0)
        close(found, expected[:len(points)], SINGLE)
        again = read_transform(path, grid)
        close(again.map_points(points), expected[:len(points)], SINGLE)
        assert isinstance(again.transform, BSpline) == spline
        if spline:
            assert again.transform.grid is grid and again.theta.shape == transform.theta.shape


@pytest.mark.parametrize("key", ["oblique", "2-D flipped"])
def test_a_matrix_is_four_rows_of_ras(tmp_path, key):
    grid = GRIDS[key]
    write_transform(MAKERS["affine"](grid), tmp_path / "t.txt", format="niftyreg")
    d, flip = grid.ndim, np.diag([-1.0, -1, 1, 1])
    expected = np.eye(4)
    expected[np.ix_([*range(d), 3], [*range(d), 3])] = world_matrix(grid)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "t.txt"), flip @ expected @ flip, atol=1e-12)
    again = read_transform(tmp_path / "t.txt", grid, format="niftyreg")
    np.testing.assert_allclose(again.matrix, world_matrix(grid), atol=1e-12)


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(FileError, match="as .nii or .nii.gz"):
        write_transform(MAKERS["dense"](GRIDS["oblique"]), tmp_path / "t.txt", format="niftyreg")
    with pytest.raises(FileError, match="suffix is '.txt'"):
        write_transform(MAKERS["affine"](GRIDS["oblique"]), tmp_path / "t.txt", format="niftyreg-deformation")
    slab = Grid((1, 9, 7), GRIDS["oblique"].affine)
    with pytest.raises(OptionError, match="one slice"):
        write_transform(MAKERS["dense"](slab), tmp_path / "t.nii", format="niftyreg")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize("change, match", [
    (dict(name=""), "the intent's name in its header is '' and not 'NREG_TRANS'"),
    (dict(kind=7), "of a kind 7; known are 0 to 6"),
    (dict(kind=5, steps=1e6), "1e\\+06 squarings"),
    (dict(kind=5, steps=np.nan), "nan squarings"),
    (dict(matrices=[np.diag([1, 1, 0, 1])]), "header extension 1 is not invertible"),
    (dict(matrices=[np.eye(3)]), "extension 1 holds no matrix"),
    (dict(data=np.full((9, 9, 9, 1, 3), np.nan)), "not finite"),
    (dict(data=np.zeros((9, 9, 1, 1, 2))), "a 3-D image needs"),
    (dict(affine=np.diag([5.0, 5, 5, 1]) @ [[1, 0, 0, 80], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "lie elsewhere"),
])
def test_a_bad_file_says_what_is_wrong(tmp_path, change, match):
    grid = GRIDS["oblique"]
    affine, size = lattice_of(grid)
    good = dict(data=positions(affine, size, 3), affine=affine, kind=2, matrices=[])
    path = save(tmp_path / "t.nii", **{**good, **change})
    with pytest.raises(ClassregError, match=match):
        read_transform(path, grid, format="niftyreg")


def test_a_truncated_file(tmp_path):
    grid, suffix, make = CASES["control points, oblique"]
    make(tmp_path / "t.nii.gz")
    data = (tmp_path / "t.nii.gz").read_bytes()
    (tmp_path / "t.nii.gz").write_bytes(data[:len(data) // 2])
    with pytest.raises(ClassregError, match="truncated|damaged"):
        read_transform(tmp_path / "t.nii.gz", grid, format="niftyreg")
    (tmp_path / "t.txt").write_text("1 0 0 0\n0 1 0")
    with pytest.raises(FileError, match="no matrix"):
        read_transform(tmp_path / "t.txt", grid, format="niftyreg")

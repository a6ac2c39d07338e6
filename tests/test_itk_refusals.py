"""Files that are no transform, or cannot be written whole: refused with a sentence; see `test_itk` for the scenes."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from test_itk import (
    GRIDS,
    HEAD,
    MAKERS,
    close,
    matrix_alone,
    random_spline,
    volume_grid,
    world_matrix,
    write_displacement,
    write_itk,
)

from classreg.errors import ClassregError, FileError, InputError, OptionError
from classreg.io import read_transform

AFFINE = HEAD + "AffineTransform_double_3_3\nParameters: 1 0 0 0 1 0 0 0 1 6 -4 3\nFixedParameters: 0 0 0\n"
SPLINE = HEAD + "BSplineTransform_double_3_3\nParameters: 0\nFixedParameters: "
AXES = " 0 0 0 1 1 1 1 0 0 0 1 0 0 0 1\n"
FLAT = HEAD + "AffineTransform_double_2_2\nParameters: 1 0 0 1 6 -4\nFixedParameters: 0 0\n"


@pytest.mark.parametrize("text, error, message", [
    ("hello\n", FileError, "not an ITK transform"),
    ('(Transform "EulerTransform")\n', FileError, "not an ITK transform"),
    (AFFINE[:-12], FileError, "truncated"),
    (AFFINE[:-1], FileError, "truncated"),
    (AFFINE.replace("6 -4 3", "6 -4"), FileError, "damaged, incomplete"),
    (AFFINE.replace("6 -4 3", "6 -4 x"), FileError, "damaged"),
    (AFFINE.replace("6 -4 3", "6 nan 3"), InputError, "not finite"),
    (AFFINE.replace("1 0 0 0 1 0 0 0 1 6", "1 0 0 1 0 0 0 0 1 6"), InputError, "not invertible"),
    (AFFINE.replace("Affine", "Cubist"), FileError, "does not know its class"),
    (AFFINE + AFFINE[AFFINE.index("#Transform"):], InputError, "2 transforms"),
    (FLAT, InputError, "2-D transform"),
    (SPLINE + "1e6 1e6 1e6" + AXES, FileError, "truncated"),
    (SPLINE + "-1 1 -1" + AXES, FileError, "truncated"),
    (SPLINE + "\n", FileError, "truncated"),
    (SPLINE.replace("BSpline", "DisplacementField") + "5 5 5" + AXES, FileError, "truncated"),
    (FLAT.replace("2_2", "4_4"), FileError, "damaged, incomplete"),
])
def test_texts_that_are_no_transform(tmp_path, text, error, message):
    (tmp_path / "a.tfm").write_text(text)
    with pytest.raises(error, match=message):
        read_transform(tmp_path / "a.tfm", GRIDS["oblique"])


@pytest.mark.parametrize("model, suffix", [("affine", ".mat"), *itertools.product(
    ["affine", "bspline", "dense"], [".tfm", ".h5", ".nii", ".nii.gz"])])
def test_truncated_files_are_refused_at_every_length(tmp_path, model, suffix):
    grid = volume_grid("oblique", (4, 3, 5))
    transform = MAKERS[model](grid)
    (write_displacement if ".nii" in suffix else write_itk)(transform, tmp_path / f"a{suffix}")
    data = (tmp_path / f"a{suffix}").read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for length in [*np.linspace(0, len(data) - 1, 25).astype(int), len(data)]:
        cut.write_bytes(data[:length])
        try:
            read = read_transform(cut, grid)
        except ClassregError as error:
            assert "cut" in str(error)
        else:  # all numbers were there: what may be missing is gzip's check sum
            assert length >= len(data) - (8 if suffix == ".nii.gz" else 0)
            close(read.displacement(), transform.displacement())


def test_paths_and_suffixes_that_cannot_be(tmp_path):
    grid = GRIDS["oblique"]
    linear, spline = matrix_alone(grid), random_spline(grid)
    (tmp_path / "b.xfm").write_text("x")
    for name, message in [("gone.tfm", "no file"), ("", "folder"), ("b.xfm", "known are .h5")]:
        with pytest.raises(FileError, match=message):
            read_transform(tmp_path / name, grid)
    (tmp_path / "b.xfm").unlink()
    for write, transform, name, message in [
            (write_itk, spline, "a.mat", "'bspline' is saved as one of .h5"),
            (write_itk, linear, "a", "suffix is ''"), (write_itk, linear, "a.nii", "'.nii'"),
            (write_displacement, linear, "a.mha", "known are .nii, .nii.gz"),
            (write_itk, linear, "gone/a.tfm", "cannot write in"),
            (write_displacement, linear, "gone/a.nii.gz", "cannot write in")]:
        with pytest.raises(FileError, match=message):
            write(transform, tmp_path / name)
    for write in (write_itk, write_displacement):
        with pytest.raises(InputError, match="from_matrix"):
            write(world_matrix(grid), tmp_path / "a.tfm")
    assert list(tmp_path.iterdir()) == []


def test_niftis_that_are_no_displacement_field(tmp_path):
    grid, data = GRIDS["oblique"], np.zeros((9, 14, 11, 1, 3), np.float32)
    for values, intent, message in [
            (data[..., 0, 0], "vector", "shape is"), (data[..., :2], "vector", "a 3-D image needs"),
            (data + np.nan, "vector", "not finite"), (data, "fnirt disp field", "of another tool")]:
        file = nib.Nifti1Image(values, np.eye(4))
        file.header.set_intent(intent)
        nib.save(file, tmp_path / "u.nii")
        with pytest.raises(InputError, match=message):
            read_transform(tmp_path / "u.nii", grid, format="displacement")
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "u.nii")  # declares nothing
    with pytest.raises(InputError, match="a 2-D image needs"):
        read_transform(tmp_path / "u.nii", GRIDS["2-D"], format="displacement")
    with pytest.raises(OptionError, match="cannot tell the format .* displacement, displacement-ras"):
        read_transform(tmp_path / "u.nii", grid)


# -------------------------------------------------------------------------------------- a disk that runs full
@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes are POSIX")
@pytest.mark.parametrize("name", ["a.tfm", "a.mat", "a.h5", "b.tfm", "b.h5", "b.nii", "b.nii.gz"])
def test_a_write_that_cannot_be_completed_leaves_the_old_file(tmp_path, name):
    """The file size limit stands in for a full disk; ITK does not notice it in text and Matlab files."""
    (tmp_path / name).write_text("old")
    code = f"""
import resource, signal, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_itk import *
from classreg.errors import FileError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
grid = GRIDS["oblique"]
transform = (random_spline if {name[0]!r} == "b" else matrix_alone)(grid)
write = write_displacement if ".nii" in {name!r} else write_itk
for limit in (0, 60, 150, 500, 700):
    if {name[0]!r} == "a" and {name[2:]!r} != "h5" and limit > 150:
        continue
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write(transform, {str(tmp_path / name)!r})
    except FileError as error:
        assert "cannot write" in str(error), error
    else:
        raise SystemExit(f"no error at a limit of {{limit}} bytes")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-800:]
    assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "old"

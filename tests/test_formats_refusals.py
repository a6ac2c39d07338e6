"""Files of transforms that cannot be used: each refused with a sentence; see `test_formats` for the scenes."""

from __future__ import annotations

import logging
import zipfile
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from test_formats import PAIRS, affine, dense, flat, fnirt_file, pair, spline, voxels
from test_itk import close

from classreg.errors import ClassregError, FileError, InputError, OptionError
from classreg.grid import Grid
from classreg.io import FORMATS, read_transform, write_transform

EYE = "1 0 0 6\n0 1 0 -4\n0 0 1 3\n0 0 0 1\n"


@pytest.mark.parametrize("format", ["fsl", "ras", "greedy"])
@pytest.mark.parametrize("text, error, message", [
    ("hello\n", FileError, "is no matrix"), (EYE[:-9], FileError, "3 rows of"), (EYE[:10], FileError, "no matrix"),
    (EYE.replace("3", ""), FileError, "4 rows of"), (EYE * 2, FileError, "8 rows"),
    (EYE.replace("3", "nan"), InputError, "not finite"),
    (EYE.replace("0 1 0 -4", "1 0 0 6"), InputError, "not invertible"),
    (EYE.replace("0 0 0 1", "0 0 1 1"), InputError, "the last row"),
    ("1 0 6\n0 1 -4\n0 0 1\n", InputError, "2-D matrix"),
    (EYE + " " * 20_000, FileError, "too large for a matrix"), ("é" + EYE, FileError, "is no matrix")])
def test_texts_that_are_no_matrix(tmp_path, format, text, error, message):
    (tmp_path / "a.mat").write_text(text, encoding="utf-8")
    with pytest.raises(error, match=message) as caught:
        read_transform(tmp_path / "a.mat", *pair(), format=format)
    assert "a.mat" in str(caught.value)


@pytest.mark.parametrize("format", ["fsl", "ras"])
def test_a_matrix_that_leaves_the_plane(tmp_path, format):
    (tmp_path / "a.mat").write_text(EYE)
    with pytest.raises(InputError, match="leaves the plane"):
        read_transform(tmp_path / "a.mat", *flat(), format=format)


@pytest.mark.parametrize("format, suffix", [
    ("fsl", ".nii"), ("fsl", ".nii.gz"), ("fsl-absolute", ".nii"), ("learn2reg", ".nii.gz"), ("learn2reg", ".npz"),
    ("displacement-ras", ".nii"), ("displacement-voxel", ".nii.gz"), ("npz", ".npz"), ("greedy", ".nii.gz")])
def test_truncated_fields_are_refused_at_every_length(tmp_path, format, suffix):
    fixed, moving = pair(shape=(4, 6, 4))
    transform = dense(fixed, moving)
    write_transform(transform, tmp_path / f"a{suffix}", format=format)
    whole = read_transform(tmp_path / f"a{suffix}", fixed, moving, format=format).displacement()
    data = (tmp_path / f"a{suffix}").read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for length in [*np.linspace(0, len(data) - 1, 15).astype(int), len(data)]:
        cut.write_bytes(data[:length])
        try:
            read = read_transform(cut, fixed, moving, format=format)
        except ClassregError as error:
            assert "cut" in str(error)
        else:
            assert length == len(data)
            close(read.displacement(), whole)
    if suffix == ".nii.gz":
        cut.write_bytes(data[:-1])
        with pytest.raises(FileError, match="cut.nii.gz, which is truncated"):
            read_transform(cut, fixed, moving, format=format)


def save(path, values, grid, intent=0):
    affine = np.diag([-1.0, -1, 1, 1]) @ grid.affine[:, [2, 1, 0, 3]]
    file = nib.Nifti1Image(np.asarray(values, np.float32), affine)
    file.header["intent_code"] = intent
    nib.save(file, path)


FIELDS = ["fsl", "fsl-absolute", "displacement", "displacement-ras", "displacement-voxel", "learn2reg", "ants",
          "greedy"]


@pytest.mark.parametrize("format", FIELDS)
def test_niftis_that_are_no_field(tmp_path, format):
    fixed, moving = pair()
    values = np.zeros((*fixed.shape[::-1], 3))
    for bad, message in [(values[..., 0], "no field of 3-D vectors"), (values[..., :2], "no field of 3-D vectors"),
                         (values[..., None], "no field of 3-D vectors"), (values * np.nan, "not finite")]:
        save(tmp_path / "u.nii", bad, fixed)
        with pytest.raises(InputError, match=message):
            read_transform(tmp_path / "u.nii", fixed, moving, format=format)
    intent = 1007 if "fsl" in format else 2006
    save(tmp_path / "u.nii", values, fixed, intent)
    if format == "learn2reg":
        assert read_transform(tmp_path / "u.nii", fixed, moving, format=format).ndim == 3  # headers count for nothing
    else:
        with pytest.raises(InputError, match=f"another tool .intent {intent}"):
            read_transform(tmp_path / "u.nii", fixed, moving, format=format)


@pytest.mark.parametrize("format", FIELDS)
def test_fields_of_another_grid(tmp_path, format, caplog):
    fixed, moving = pair()
    far = Grid(fixed.shape, fixed.affine + np.pad([[500.0], [0], [0]], ((0, 1), (3, 0))))
    write_transform(dense(far, replace_centre(moving, far)), tmp_path / "u.nii", format=format)
    if format in ("displacement-voxel", "learn2reg"):  # on the fixed grid whatever the file says
        other = Grid((5, *fixed.shape[1:]), fixed.affine)
        with pytest.raises(InputError, match="holds a field of .* voxels, the fixed image has"):
            read_transform(tmp_path / "u.nii", other, moving, format=format)
        return
    with pytest.raises(InputError, match="lies elsewhere: its centre is 500 mm from .*inverse=True"):
        read_transform(tmp_path / "u.nii", fixed, moving, format=format)
    half = Grid(fixed.shape, fixed.affine.copy())
    shifted = half.affine.copy()
    shifted[:3, 3] = half.to_world((0, 0, 4))
    write_transform(dense(Grid(fixed.shape, shifted), moving), tmp_path / "u.nii", format=format)
    with caplog.at_level(logging.WARNING, "classreg"):
        read_transform(tmp_path / "u.nii", fixed, moving, format=format)
    assert "the field covers 62 %" in caplog.text


@pytest.mark.parametrize("key", PAIRS)
@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_which_warp_of_fsl_it_is_is_told_or_asked_for_and_never_mistaken(tmp_path, kind, key):
    fixed, moving = pair(key)
    transform, path = dense(fixed, moving), tmp_path / "w.nii.gz"
    write_transform(transform, path, format=f"fsl-{kind}")
    if kind == "absolute" and key in ("moving flipped", "permuted"):  # axes that run against each other
        with pytest.raises(InputError, match="may be a relative or an absolute warp"):
            read_transform(path, fixed, moving)
        return
    close(read_transform(path, fixed, moving).map_points(voxels(fixed)[1]), transform.map_points(voxels(fixed)[1]))


@pytest.mark.parametrize("format, name", [("itk", "s.h5"), ("elastix", "s.txt"), ("niftyreg", "s.nii")])
def test_splines_of_another_image(tmp_path, format, name):
    fixed, moving = pair()
    write_transform(spline(fixed, moving), tmp_path / name, format=format)
    far = Grid(fixed.shape, fixed.affine + np.pad([[500.0], [0], [0]], ((0, 1), (3, 0))))
    with pytest.raises(InputError, match="lies? elsewhere"):
        read_transform(tmp_path / name, far, moving)


def test_a_damaged_matlab_file(tmp_path):
    fixed, moving = pair()
    write_transform(affine(fixed, moving), tmp_path / "a.mat", format="itk")
    (tmp_path / "a.mat").write_bytes((tmp_path / "a.mat").read_bytes().replace(b"Affine", b"A\xb3fine"))  # no UTF-8
    with pytest.raises(FileError, match="a.mat as an ITK transform: it is damaged"):
        read_transform(tmp_path / "a.mat", fixed)


def replace_centre(grid, other):
    affine = grid.affine.copy()
    affine[:3, 3] += other.centre - grid.centre
    return Grid(grid.shape, affine)


def test_archives_that_hold_no_field(tmp_path):
    fixed, moving = pair(shape=(8, 10, 6))
    shape, path = fixed.shape, tmp_path / "u.npz"

    def refused(error, message, format, **arrays):
        np.savez(path, **arrays)
        with pytest.raises(error, match=message):
            read_transform(path, fixed, moving, format=format)

    good = np.zeros((3, *shape))
    refused(InputError, "no array 'displacement' but arr_0", "npz", arr_0=good)
    refused(InputError, "no array 'arr_0' but displacement", "learn2reg", displacement=good)
    refused(InputError, "of shape", "npz", displacement=good[0])
    refused(InputError, "of shape", "npz", displacement=good[:2])
    refused(InputError, "no affine, and its shape", "npz", displacement=good[:, 1:])
    refused(InputError, "affine .* cannot be used", "npz", displacement=good, affine=np.zeros((4, 4)))
    refused(InputError, "affine .* cannot be used", "npz", displacement=good, affine=np.eye(3))
    refused(InputError, "not finite", "npz", displacement=good + np.nan)
    refused(InputError, "complex", "npz", displacement=good + 0j)
    refused(FileError, "no plain array", "npz", displacement=np.array([{}, None], object))  # would be unpickled
    refused(InputError, "not finite", "learn2reg", arr_0=np.full((3, 4, 5, 3), np.nan, np.float16))
    refused(InputError, r"field of \(5, 5, 5\) voxels", "learn2reg", arr_0=np.zeros((3, 5, 5, 5), np.float16))
    refused(InputError, "floating point", "learn2reg", arr_0=np.zeros((3, 4, 5, 3), int))
    refused(OptionError, "cannot tell", "auto", displacement=good, arr_0=good)
    refused(FileError, "none of the formats", "auto", something=good)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # a header that claims 8 TB
        archive.writestr("displacement.npy", b"\x93NUMPY\x01\x00\x76\x00" + (
            b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 70000, 70000, 70), }".ljust(117) + b"\n"))
    with pytest.raises(FileError, match="truncated, damaged or no plain array"):
        read_transform(path, fixed, format="npz")


def test_coefficients_of_another_image(tmp_path):
    fixed, moving = pair()
    path = tmp_path / "c.nii"
    fnirt_file(path, fixed, moving)
    with pytest.raises(InputError, match="belongs to an image of shape"):
        read_transform(path, Grid((6, 10, 9), fixed.affine), moving)
    file = nib.load(path)
    file.header["intent_code"] = 2009
    nib.save(nib.Nifti1Image(file.get_fdata(), None, file.header), path)
    with pytest.raises(InputError, match="fnirtfileutils"):
        read_transform(path, fixed, moving)


def test_what_a_format_cannot_hold(tmp_path):
    fixed, moving = pair(shape=(7, 10, 6))
    plane = flat()
    whole, matrix = spline(fixed, moving), affine(fixed, moving)
    for transform, name, format, error, message in [
            (whole, "a.mat", "fsl", OptionError, "a matrix does not hold"),
            (whole, "a.txt", "ras", OptionError, "'bspline'"),
            (whole, "a.mat", "ants", FileError, "saved as one of .h5"),
            (whole, "a.mat", "greedy", OptionError, "write a field"),
            (dense(*plane), "a.nii", "fsl", OptionError, "volumes"),
            (dense(*plane), "a.npz", "learn2reg", OptionError, "volumes"),
            (whole, "a.npz", "learn2reg", OptionError, "even numbers of voxels"),
            (matrix, "a.h5", "fsl", FileError, "the suffix is '.h5'; known are .mat"),
            (matrix, "a.mat", "flirt", OptionError, "unknown format 'flirt'"),
            (matrix, "gone/a.mat", "fsl", FileError, "cannot write in"),
            (matrix, "gone/a.npz", "npz", FileError, "cannot write")]:
        with pytest.raises(error, match=message):
            write_transform(transform, tmp_path / name, format=format)
    for format in ("fsl", "fsl-relative", "fsl-absolute", "learn2reg", "displacement-voxel"):
        with pytest.raises(OptionError, match="the moving grid is needed"):
            write_transform(replace(whole, to_grid=None), tmp_path / "a.nii", format=format)
    assert list(tmp_path.iterdir()) == []
    for format in ("fsl", "fsl-absolute", "learn2reg", "displacement-voxel"):
        write_transform(whole, tmp_path / "a.nii", format=format)
        with pytest.raises(OptionError, match="the moving grid is needed"):
            read_transform(tmp_path / "a.nii", fixed, format=format)
        with pytest.raises(InputError, match="2-D"):
            read_transform(tmp_path / "a.nii", *plane, format=format)


def test_arguments_that_cannot_be(tmp_path):
    fixed, moving = pair()
    write_transform(affine(fixed, moving), tmp_path / "a.tfm")
    path = tmp_path / "a.tfm"
    with pytest.raises(InputError, match="fixed is a Grid or an Image"):
        read_transform(path, "fixed.nii.gz")
    with pytest.raises(InputError, match="moving is a Grid or an Image"):
        read_transform(path, fixed, np.eye(4))
    with pytest.raises(InputError, match="the fixed grid is 3-D, the moving one 2-D"):
        read_transform(path, fixed, flat()[1])
    with pytest.raises(InputError, match="holds a 3-D transform, the image is 2-D"):
        read_transform(path, *flat())
    for paths, inverse, message in [([], False, "at least one file"), ([path], [True, False], "1 files and 2 values")]:
        with pytest.raises(OptionError, match=message):
            read_transform(paths, fixed, format="ants", inverse=inverse)
    for format in [name for name in FORMATS if name not in ("itk", "ants", "greedy")] + ["auto"]:
        with pytest.raises(OptionError, match=r"in which order 2 files apply; name one that does \(itk, ants, greedy"):
            read_transform([path, path], fixed, moving, format=format)
    with pytest.raises(OptionError, match="unknown format 'ant'; did you mean 'ants'"):
        read_transform([path, path], fixed, moving, format="ant")
    for given in (["itk"], None, 3):
        with pytest.raises(OptionError, match="format is a name, one of itk, .*got"):
            read_transform(path, fixed, format=given)
        with pytest.raises(OptionError, match="format is a name, one of itk, .*got"):
            write_transform(affine(fixed, moving), path, format=given)
    for paths, given in ((path, None), (path, [True]), (path, "yes"), ([path], None), ([path], [None])):
        with pytest.raises(OptionError, match="inverse must be True or False"):
            read_transform(paths, fixed, format="ants", inverse=given)
    with pytest.raises(OptionError, match="a list is two files"):
        write_transform(affine(fixed, moving), [path, path], format="ants")
    with pytest.raises(OptionError, match="cannot both be"):
        write_transform(dense(fixed, moving), [tmp_path / "u.nii.gz"] * 2, format="ants")
    for none in (None, 5, {}):
        with pytest.raises(FileError, match="the path of a file is needed, got"):
            read_transform(none, fixed, moving)
        with pytest.raises(FileError, match="the path of a file is needed, got"):
            write_transform(affine(fixed, moving), none)
    with pytest.raises(FileError, match="known are"):
        write_transform(dense(fixed, moving), [tmp_path / "w.nii.gz", tmp_path / "a.xyz"], format="ants")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tfm"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_what_it_is(name, tmp_path):
    found = FORMATS[name]
    assert all(suffix.startswith(".") for suffix in found.SUFFIXES)
    path = tmp_path / "gone.xyz"
    path.write_text("x")
    with pytest.raises(FileError, match=f"as {name}: the suffix is '.xyz'; known are"):
        read_transform(path, pair()[0], pair()[1], format=name)

"""Saved images, read back by nibabel and SimpleITK; writing that leaves no half files."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from io_scenes import LPS, MARK, ORIENTATIONS, marked, true_place

from classreg.errors import FileError, InputError
from classreg.grid import Grid
from classreg.image import Image
from classreg.io import load, save_image
from classreg.io.atomic import atomic_path, writable_folder


# ----------------------------------------------------------------------------------------------------- saving
@pytest.mark.parametrize("key", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_saved_volumes_read_back_elsewhere(tmp_path, key, suffix):
    image = load(nib.Nifti1Image(marked(np.uint16), ORIENTATIONS[key]))
    path, place = tmp_path / f"out{suffix}", true_place(ORIENTATIONS[key])
    if key == "sheared" and suffix in (".nrrd", ".mha"):
        with pytest.raises(InputError, match="sheared"):
            save_image(image, path)
        assert list(tmp_path.iterdir()) == []
        return
    save_image(image, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if ".nii" in suffix:
        read = nib.load(path)
        assert read.get_data_dtype() == np.uint16 and read.header.get_xyzt_units()[0] == "mm"
        np.testing.assert_array_equal(read.dataobj, marked(np.uint16))
        np.testing.assert_allclose((LPS @ read.affine @ [*MARK, 1])[:3], place, atol=1e-4)
    if key != "sheared":
        read = sitk.ReadImage(str(path))
        assert read.GetPixelID() == sitk.sitkUInt16 and read[MARK] == marked(np.uint16)[MARK]
        np.testing.assert_allclose(read.TransformIndexToPhysicalPoint(MARK), place, atol=1e-4)


def test_a_sheared_nifti_claims_no_qform(tmp_path, caplog):
    image = load(nib.Nifti1Image(marked(), ORIENTATIONS["sheared"]))
    save_image(image, tmp_path / "out.nii")
    header = nib.load(tmp_path / "out.nii").header
    assert header["qform_code"] == 0 and header["sform_code"] == 1
    with caplog.at_level(logging.WARNING, "classreg"):
        assert load(tmp_path / "out.nii").grid.same_as(image.grid)
    assert caplog.text == ""


def slice_image(channels=0):
    t = -0.6
    direction = [[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]
    grid = Grid.from_spacing((9, 7), (0.7, 1.9), origin=(-31.0, 12.5), direction=direction)
    shape = (channels, 9, 7) if channels else (9, 7)
    return Image(np.random.default_rng(4).integers(0, 200, shape).astype(np.uint8), grid)


@pytest.mark.parametrize("channels", [0, 3])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_saved_slices_read_back_as_two_dimensional(tmp_path, channels, suffix):
    image = slice_image(channels)
    path = tmp_path / f"slice{suffix}"
    save_image(image, path)
    read = sitk.ReadImage(str(path))
    assert read.GetDimension() == 2 and read.GetNumberOfComponentsPerPixel() == max(channels, 1)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), np.moveaxis(image.array, 0, -1) if channels
                                  else image.array)
    place = read.TransformIndexToPhysicalPoint((5, 2))
    np.testing.assert_allclose(place, image.grid.to_world((2, 5)), atol=1e-4)
    again = load(path, channels="last" if channels else None)
    assert again.grid.same_as(image.grid)
    np.testing.assert_array_equal(again.array, image.array)
    if suffix == ".nii.gz":
        expected = (LPS @ nib.load(path).affine @ [5, 2, 0, 1])[:2]
        np.testing.assert_allclose(image.grid.to_world((2, 5)), expected, atol=1e-4)
        assert nib.load(path).header["dim"][0] == (5 if channels else 2)


@pytest.mark.parametrize("shape", [(5, 9, 7), (1, 9, 7)])
def test_saved_channels_of_volumes(tmp_path, shape):
    grid = Grid(shape, load(nib.Nifti1Image(marked(), ORIENTATIONS["oblique"])).grid.affine)
    image = Image(np.random.default_rng(4).random((3, *shape)).astype(np.float32), grid)
    save_image(image, tmp_path / "out.nii")
    again = load(tmp_path / "out.nii", channels="last")
    assert again.grid.same_as(grid)
    np.testing.assert_array_equal(again.array, image.array)
    read = nib.load(tmp_path / "out.nii")
    np.testing.assert_array_equal(np.squeeze(read.dataobj)[2, 1], np.squeeze(image.array.T)[2, 1])
    if shape[0] > 1:
        vector = sitk.ReadImage(str(tmp_path / "out.nii"))
        np.testing.assert_array_equal(vector[5, 2, 3], image.array[:, 3, 2, 5])
        place = vector.TransformIndexToPhysicalPoint(MARK)
        np.testing.assert_allclose(place, grid.to_world(MARK[::-1]), atol=1e-4)


@pytest.mark.parametrize("channels, suffix", [(0, ".png"), (3, ".png"), (0, ".tif"), (3, ".tiff")])
def test_saved_pictures(tmp_path, channels, suffix):
    image = slice_image(channels)
    save_image(image, tmp_path / f"a{suffix}")
    pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"a{suffix}")))
    np.testing.assert_array_equal(pixels, np.moveaxis(image.array, 0, -1) if channels else image.array)


def test_wide_labels_become_what_nifti_readers_know(tmp_path):
    labels = marked(np.int64).T * 1000
    save_image(load(labels), tmp_path / "labels.nii.gz")
    read = sitk.ReadImage(str(tmp_path / "labels.nii.gz"))
    assert read.GetPixelID() == sitk.sitkInt32
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), labels)
    with pytest.raises(InputError, match="32-bit"):
        save_image(load(labels * 10**6), tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(load(tmp_path / "labels.nii.gz").array, labels)
    save_image(load(np.ones((4, 5), np.float16)), tmp_path / "half.mha")
    assert load(tmp_path / "half.mha").array.dtype == np.float32


def test_formats_that_cannot_hold_the_image_leave_nothing(tmp_path):
    volume = load(marked(np.uint8).T)
    for image, name, message in [(volume, "a.png", "2-D"), (slice_image(2), "a.png", "1 or 3 channels"),
                                 (volume, "a.jpg", "unknown suffix"), (volume, "a", "unknown suffix"),
                                 (load(np.ones((4, 5))), "a.png", "float64.*unsigned char")]:
        with pytest.raises(FileError, match=message):
            save_image(image, tmp_path / name)
    with pytest.raises(InputError, match="ndarray"):
        save_image(volume.array, tmp_path / "a.nii")
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------------- atomicity
def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.v2.nii.gz"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        assert temporary.parent == tmp_path and temporary.name.endswith(".nii.gz") and temporary != path
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match=r"cannot write .*out\.txt: No space left"):
        with atomic_path(tmp_path / "out.txt"):
            raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX permission bits")
def test_written_files_have_ordinary_permissions(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "out") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for bad in (tmp_path / "file" / "out.nii", tmp_path / "gone" / "out.nii"):
        with pytest.raises(FileError, match="cannot write in"):
            save_image(load(np.ones((4, 5))), bad)
    with pytest.raises(FileError, match="is a folder"), atomic_path(tmp_path):
        pass
    with pytest.raises(FileError, match="cannot write in the folder"):
        writable_folder(tmp_path / "file" / "sub")
    made = writable_folder(tmp_path / "a" / "b")
    assert made.is_dir() and list(made.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind here")
def test_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(FileError, match="Permission denied"):
            writable_folder(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_importing_io_imports_no_heavy_library():
    code = "import sys, classreg.io; print([m for m in ('SimpleITK', 'nibabel') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Images from files, libraries and arrays, against nibabel and SimpleITK as independent readers."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from io_scenes import MARK, ORIENTATIONS, ORTHOGONAL, SHAPE, as_sitk, marked, true_place, where, write_nifti

from classreg.errors import FileError, GeometryError, InputError, OptionError
from classreg.io import load

DATA = os.environ.get("CLASSREG_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="CLASSREG_DATA is not set")


# ------------------------------------------------------------------------------------------ orientation table
@pytest.mark.parametrize("key", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nibabel_file_puts_the_mark_in_its_place(tmp_path, key, suffix):
    data, affine = marked(), ORIENTATIONS[key]
    path = write_nifti(tmp_path / f"scan{suffix}", data, affine, qform=int(key != "sheared"))
    image = load(path)
    np.testing.assert_allclose(where(image), true_place(affine), atol=1e-4)
    np.testing.assert_allclose(where(load(nib.load(path))), true_place(affine), atol=1e-4)
    np.testing.assert_array_equal(image.array, data.T)
    assert image.array.dtype == np.int16 and image.array.flags.c_contiguous and image.array.flags.writeable


@pytest.mark.parametrize("key", ORTHOGONAL)
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_simpleitk_file_puts_the_mark_in_its_place(tmp_path, key, suffix):
    data, affine = marked(), ORIENTATIONS[key]
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(as_sitk(data, affine), str(path))
    read = sitk.ReadImage(str(path))
    assert read[MARK] == data[MARK]
    expected = read.TransformIndexToPhysicalPoint(MARK)
    np.testing.assert_allclose(expected, true_place(affine), atol=1e-4)
    np.testing.assert_allclose(where(load(path)), expected, atol=1e-4)
    np.testing.assert_allclose(where(load(read)), expected, atol=1e-9)
    np.testing.assert_array_equal(load(path).array, data.T)


@pytest.mark.parametrize("qform, sform", [(1, 0), (0, 1), (4, 2)])
def test_either_form_places_the_image(tmp_path, qform, sform):
    affine = ORIENTATIONS["oblique"]
    path = write_nifti(tmp_path / "scan.nii", marked(), affine, sform, qform)
    np.testing.assert_allclose(where(load(path)), true_place(affine), atol=1e-4)


def test_without_forms_voxel_sizes_place_the_image_and_a_warning_says_so(tmp_path, caplog):
    path = write_nifti(tmp_path / "scan.nii", marked(), ORIENTATIONS["oblique"], 0, 0)
    with caplog.at_level(logging.WARNING, "classreg"):
        image = load(path, name="moving")
    np.testing.assert_allclose(where(image), true_place(nib.load(path).affine), atol=1e-4)
    np.testing.assert_allclose(image.grid.centre, 0, atol=1e-5)
    assert "moving" in caplog.text and "neither" in caplog.text


def test_conflicting_forms_are_named_with_millimetres(tmp_path, caplog):
    first, second = ORIENTATIONS["oblique"], ORIENTATIONS["oblique"].copy()
    second[:3, 3] += 3.0, 4.0, 0.0
    image = nib.Nifti1Image(marked(), first)
    image.set_sform(first, 1)
    image.set_qform(second, 1)
    nib.save(image, tmp_path / "scan.nii")
    with caplog.at_level(logging.WARNING, "classreg"):
        loaded = load(tmp_path / "scan.nii", name="fixed")
    assert "fixed" in caplog.text and "5 mm" in caplog.text
    np.testing.assert_allclose(where(loaded), true_place(first), atol=1e-4)


def test_forms_that_agree_within_a_tenth_of_a_voxel_are_quiet(tmp_path, caplog):
    affine = ORIENTATIONS["oblique"].copy()
    image = nib.Nifti1Image(marked(), affine)
    image.set_sform(affine, 1)
    affine[0, 3] += 0.1
    image.set_qform(affine, 1)
    nib.save(image, tmp_path / "scan.nii")
    with caplog.at_level(logging.WARNING, "classreg"):
        load(tmp_path / "scan.nii")
    assert caplog.text == ""


def test_a_broken_qform_beside_a_good_sform_is_only_a_warning(tmp_path, caplog):
    path = write_nifti(tmp_path / "scan.nii", marked(), ORIENTATIONS["oblique"])
    raw = bytearray(path.read_bytes())
    raw[256:268] = np.array([3.0, 4.0, 5.0], "<f4").tobytes()  # no unit quaternion
    path.write_bytes(raw)
    with caplog.at_level(logging.WARNING, "classreg"):
        image = load(path)
    np.testing.assert_allclose(where(image), true_place(ORIENTATIONS["oblique"]), atol=1e-4)
    assert "q-form is not valid" in caplog.text


# --------------------------------------------------------------------------------------------------- 2-D, 4-D
def test_two_dimensional_nifti_agrees_with_simpleitk(tmp_path):
    image = sitk.GetImageFromArray(np.ascontiguousarray(marked(shape=(7, 9), mark=(5, 2)).T))
    t = 0.4
    image.SetSpacing((0.8, 1.9))
    image.SetOrigin((-31.0, 12.5))
    image.SetDirection((np.cos(t), -np.sin(t), np.sin(t), np.cos(t)))
    path = tmp_path / "slice.nii.gz"
    sitk.WriteImage(image, str(path))
    assert nib.load(path).header["dim"][0] == 2
    loaded = load(path)
    assert loaded.grid.ndim == 2
    np.testing.assert_allclose(where(loaded), image.TransformIndexToPhysicalPoint((5, 2)), atol=1e-4)
    np.testing.assert_allclose(where(load(image)), image.TransformIndexToPhysicalPoint((5, 2)), atol=1e-9)


def test_one_slice_with_three_axes_stays_three_dimensional(tmp_path):
    affine = ORIENTATIONS["oblique"]
    path = write_nifti(tmp_path / "slice.nii", marked(shape=(7, 9, 1), mark=(5, 2, 0)), affine)
    image = load(path)
    assert image.array.shape == (1, 9, 7)
    np.testing.assert_allclose(where(image), true_place(affine, (5, 2, 0)), atol=1e-4)


def test_two_dimensional_nifti_out_of_the_plane_is_refused(tmp_path):
    path = write_nifti(tmp_path / "slice.nii", marked(shape=(7, 9), mark=(5, 2)), ORIENTATIONS["oblique"])
    with pytest.raises(GeometryError, match=r"fixed: .*x-y plane.*one slice"):
        load(path, name="fixed")


def test_time_axis_is_named_with_its_length(tmp_path):
    path = write_nifti(tmp_path / "fmri.nii.gz", np.zeros((4, 5, 6, 11), np.int16), ORIENTATIONS["RAS"])
    with pytest.raises(InputError, match=r"moving: .*time axis.*11 volumes.*select one.*channels='last'"):
        load(path, name="moving")
    with pytest.raises(InputError, match="time axis.*11 volumes"):
        load(sitk.ReadImage(str(path)))


def test_declared_channels_come_first(tmp_path):
    data = np.stack([marked(), 1000 + marked()], -1)
    affine = ORIENTATIONS["oblique"]
    four = write_nifti(tmp_path / "four.nii", data, affine)
    five = write_nifti(tmp_path / "five.nii", data[:, :, :, None], affine)
    vector = sitk.JoinSeries(as_sitk(data[..., 0], affine), as_sitk(data[..., 1], affine))
    for source in (four, five, vector):
        image = load(source, channels="last")
        np.testing.assert_array_equal(image.array, data.T)
        np.testing.assert_allclose(image.grid.to_world(MARK[::-1]), true_place(affine), atol=1e-4)
    with pytest.raises(InputError, match=r"vector axis.*2 volumes"):
        load(five)
    with pytest.raises(InputError, match="has no axis for them"):
        load(write_nifti(tmp_path / "three.nii", data[..., 0], affine), channels="last")


def test_trailing_axis_of_one_is_dropped(tmp_path):
    path = write_nifti(tmp_path / "one.nii", marked()[..., None], ORIENTATIONS["oblique"])
    assert load(path).array.shape == SHAPE[::-1]
    assert load(sitk.JoinSeries([as_sitk(marked(), ORIENTATIONS["oblique"])])).array.shape == SHAPE[::-1]


def test_colour_voxels_of_nifti_are_channels(tmp_path):
    rgb = np.random.default_rng(3).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)
    voxels = np.ascontiguousarray(rgb).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    path = write_nifti(tmp_path / "rgb.nii", voxels, ORIENTATIONS["LAS"])
    np.testing.assert_array_equal(load(path).array, rgb.T)


# ------------------------------------------------------------------------------------------ values and dtypes
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_dtypes_are_kept_and_made_native(tmp_path, dtype, order):
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    nib.save(nib.Nifti1Image(marked(dtype), ORIENTATIONS["oblique"], header), tmp_path / "scan.nii")
    assert nib.load(tmp_path / "scan.nii").header.endianness == order
    image = load(tmp_path / "scan.nii")
    assert image.array.dtype == np.dtype(dtype) and image.array.dtype.isnative
    np.testing.assert_array_equal(image.array, marked(dtype).T)


def scaled_file(path, slope, intercept):
    write_nifti(path, marked(), ORIENTATIONS["oblique"])
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([slope, intercept], "<f4").tobytes()
    path.write_bytes(raw)
    return path


def test_scaled_integers_are_scaled(tmp_path):
    image = load(scaled_file(tmp_path / "ct.nii", 0.5, -1024.0))
    assert image.array.dtype.kind == "f"
    np.testing.assert_allclose(image.array, marked().T * 0.5 - 1024)


@pytest.mark.parametrize("slope, intercept", [(0, 5), (np.nan, 0), (np.nan, np.nan), (1, 0)])
def test_no_slope_means_no_scaling(tmp_path, slope, intercept):
    image = load(scaled_file(tmp_path / "labels.nii", slope, intercept))
    assert image.array.dtype == np.int16
    np.testing.assert_array_equal(image.array, marked().T)


# ----------------------------------------------------------------------------------------------------- arrays
def test_array_geometry_is_that_of_get_image_from_array():
    array = marked().T
    reference = sitk.GetImageFromArray(np.ascontiguousarray(array))
    reference.SetSpacing((1.5, 2.5, 4.0))
    image = load(array, spacing=(4.0, 2.5, 1.5))
    np.testing.assert_allclose(where(image), reference.TransformIndexToPhysicalPoint(MARK))
    np.testing.assert_array_equal(load(array).grid.spacing, 1)


def test_read_only_fortran_and_mapped_arrays_work(tmp_path):
    plain = np.ascontiguousarray(marked(np.float32).T)
    read_only = plain.copy()
    read_only.setflags(write=False)
    np.save(tmp_path / "scan.npy", plain)
    mapped = np.load(tmp_path / "scan.npy", mmap_mode="r")
    strided = np.zeros((5, 9, 14), np.float32)
    strided[:, :, ::2] = plain
    for array in (read_only, np.asfortranarray(plain), mapped, strided[:, :, ::2], plain.astype(">f4")):
        image = load(array)
        assert image.array.flags.c_contiguous and image.array.dtype == np.float32
        np.testing.assert_array_equal(image.array, plain)


def test_booleans_become_bytes():
    image = load(marked().T > 100)
    assert image.array.dtype == np.uint8 and set(np.unique(image.array)) == {0, 1}


def test_array_channels_only_where_declared():
    array = np.random.default_rng(0).random((8, 9, 3))
    assert load(array).grid.ndim == 3
    declared = load(array, channels="last", spacing=(2.0, 0.5))
    assert declared.grid.ndim == 2 and declared.channels == 3
    np.testing.assert_array_equal(declared.array[1], array[..., 1])
    np.testing.assert_array_equal(declared.grid.spacing, (2.0, 0.5))
    with pytest.raises(OptionError, match="'last'"):
        load(array, channels="first")


class Tensor:
    """Stands for an array of a library that classreg does not know."""

    def __array__(self, dtype=None, copy=None):
        return np.zeros((4, 5))


@pytest.mark.parametrize("source, message", [
    (np.float64(3.0), "numpy.asarray"), (np.array(3.0), "0 axes"), (np.zeros(5), "1 axes"),
    (np.zeros((2, 3, 4, 5)), "4 axes.*select one.*channels='last'"), (np.zeros((2, 2, 2, 2, 2)), "5 axes"),
    (np.zeros((4, 5), complex), "complex128"), (np.full((4, 5), None), "object"),
    (np.full((4, 5), "a"), "U1"),
    (np.ma.masked_less(marked().T, 3), "masked arrays.*filled"), (Tensor(), "Tensor.*numpy.asarray"),
    (None, "NoneType"), ([[1, 2], [3, 4]], "list.*NumPy"),
    (sitk.Image(4, 5, sitk.sitkComplexFloat32), "complex64"),
    (sitk.BinaryImageToLabelMap(sitk.Image(4, 5, sitk.sitkUInt8)), "LabelMapToLabel"),
    (sitk.Image([4, 5, 6], sitk.sitkVectorFloat32, 3), "vector axis.*3 volumes"),
])
def test_what_cannot_be_an_image_is_an_input_error(source, message):
    with pytest.raises(InputError, match=f"(?s)fixed: .*{message}"):
        load(source, name="fixed")


@pytest.mark.parametrize("spacing", [0, -1.0, np.nan, (1.0, 2.0), "wide", (1, 2, [3])])
def test_impossible_spacing_is_a_geometry_error(spacing):
    with pytest.raises(GeometryError, match="image: spacing"):
        load(np.zeros((3, 4, 5)), spacing=spacing)


def test_empty_axes_are_a_geometry_error():
    with pytest.raises(GeometryError, match="at least one sample"):
        load(np.zeros((0, 5)))


def test_spacing_with_what_carries_its_own_is_refused(tmp_path):
    path = write_nifti(tmp_path / "scan.nii", marked(), ORIENTATIONS["oblique"])
    image = load(path)
    assert load(image) is image
    for source in (path, image, nib.load(path), as_sitk(marked(), ORIENTATIONS["oblique"]), tmp_path):
        with pytest.raises(InputError, match="carries its own"):
            load(source, spacing=1.0)


# --------------------------------------------------------------------------------------------------- pictures
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_colour_pictures_have_channels_and_no_spacing(tmp_path, suffix):
    rgb = np.random.default_rng(1).integers(0, 255, (8, 11, 3)).astype(np.uint8)
    picture = sitk.GetImageFromArray(rgb, isVector=True)
    picture.SetSpacing((0.35, 0.35))
    path = tmp_path / f"slide{suffix}"
    sitk.WriteImage(picture, str(path))
    image = load(path)
    np.testing.assert_array_equal(image.array, np.moveaxis(rgb, -1, 0))
    np.testing.assert_array_equal(image.grid.spacing, 1)
    np.testing.assert_array_equal(load(path, spacing=(3.0, 2.0)).grid.spacing, (3.0, 2.0))


def test_alpha_is_dropped_and_equal_channels_are_grey(tmp_path):
    rng = np.random.default_rng(2)
    rgba = rng.integers(0, 255, (8, 11, 4)).astype(np.uint8)
    grey = rgba[..., 0]
    cases = {"rgba": (rgba, np.moveaxis(rgba[..., :3], -1, 0)), "rgb": (np.stack([grey] * 3, -1), grey)}
    for key, (pixels, expected) in cases.items():
        path = tmp_path / f"{key}.png"
        sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(path))
        np.testing.assert_array_equal(load(path).array, expected, err_msg=key)


def test_grey_jpeg(tmp_path):
    ramp = np.tile(np.arange(0, 240, 10, np.uint8), (16, 1))
    sitk.WriteImage(sitk.GetImageFromArray(ramp), str(tmp_path / "a.jpg"))
    image = load(tmp_path / "a.jpg")
    assert image.array.shape == (16, 24)
    assert np.abs(image.array.astype(int) - ramp).max() < 12


# -------------------------------------------------------------------------------------------------- real data
@needs_data
@pytest.mark.data
@pytest.mark.parametrize("path, ndim", [
    ("pairs/slices-r16-r64/fixed.nii.gz", 2), ("pairs/slices-itk/BrainT1Slice.nii.gz", 2),
    ("pairs/brain-2d/r16sliceLM.nii.gz", 2), ("groups/brain-2d-t1-t2/t1.nii.gz", 2),
    ("pairs/heart-cine/fixed.nii.gz", 3), ("pairs/lung-h1/moving.nii.gz", 3), ("io/headers/SPECT.nii", 3),
    ("io/headers/anatomical.nii", 3), ("io/headers/someones_epi.nii.gz", 3)])
def test_real_files_agree_with_simpleitk(path, ndim):
    image, read = load(Path(DATA) / path), sitk.ReadImage(str(Path(DATA) / path))
    assert image.grid.ndim == read.GetDimension() == ndim
    np.testing.assert_allclose(image.array, sitk.GetArrayFromImage(read), rtol=1e-6)
    for index in (np.zeros(ndim, int), np.array(read.GetSize()) - 1, np.array(read.GetSize()) // 3):
        expected = read.TransformIndexToPhysicalPoint([int(i) for i in index])
        np.testing.assert_allclose(image.grid.to_world(index[::-1]), expected, atol=5e-3)


@needs_data
@pytest.mark.data
def test_real_odd_headers(caplog, tmp_path):
    headers = Path(DATA) / "io" / "headers"
    with caplog.at_level(logging.WARNING, "classreg"):
        image = load(headers / "gg-flair-181-asym-8mmFWHM.nii", name="fixed")
    assert "478 mm" in caplog.text
    np.testing.assert_allclose(image.grid.to_world((0, 0, 0)), (-90, 126, -72), atol=1e-4)
    with pytest.raises(FileError, match="no image file analyze.img"):
        load(headers / "analyze.hdr")
    with pytest.raises(InputError, match="2 volumes"):
        load(headers / "example4d.nii.gz")
    assert load(headers / "example4d.nii.gz", channels="last").channels == 2
    pair = tmp_path / "pair"
    pair.mkdir()
    for name in ("0.dcm", "1.dcm"):
        shutil.copy(headers / name, pair)
    volume = load(pair)
    assert volume.array.shape == (2, 256, 256)
    np.testing.assert_allclose(volume.grid.spacing[0], 3.0, atol=1e-3)
    assert volume.to_sitk().GetSize() == (256, 256, 2)


@needs_data
@pytest.mark.data
def test_real_dicom_series():
    folder = Path(DATA) / "io" / "dicom-series"
    read = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    image = load(folder)
    np.testing.assert_array_equal(image.array, sitk.GetArrayFromImage(read))
    expected = read.TransformIndexToPhysicalPoint((3, 5, 16))
    np.testing.assert_allclose(image.grid.to_world((16, 5, 3)), expected, atol=1e-4)


@needs_data
@pytest.mark.data
def test_real_pictures():
    slide = load(Path(DATA) / "pairs" / "histology" / "fixed.jpg")
    assert slide.array.shape == (3, 733, 890)
    np.testing.assert_array_equal(slide.grid.spacing, 1)
    assert load(Path(DATA) / "pairs" / "hands" / "fixed.jpg").array.shape == (128, 128)

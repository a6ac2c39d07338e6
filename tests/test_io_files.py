"""Damaged files and DICOM folders: every fault is a typed error that says what is wrong."""

from __future__ import annotations

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from io_scenes import ORIENTATIONS, SHAPE, as_sitk, marked, rotation, true_place, where, write_nifti

from classreg.errors import FileError, GeometryError, InputError
from classreg.image import Image
from classreg.io import files, load, save_image


# -------------------------------------------------------------------------------------------------- bad files
def test_missing_empty_and_odd_paths(tmp_path):
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.xyz").write_text("hello")
    loop = tmp_path / "loop.nii"
    loop.symlink_to(loop)
    for path, message in [("gone.nii.gz", "no file"), ("empty.nii.gz", "0 bytes"), ("folder", "DICOM"),
                          ("notes.xyz", "known formats"), ("loop.nii", "cannot open"),
                          ("a" * 3000, "cannot open"), ("nul\0.nii", "cannot open")]:
        with pytest.raises(FileError, match=f"moving: .*{message}"):
            load(f"{tmp_path}/{path}", name="moving")


@pytest.mark.parametrize("name", ["a.jpg", "a.nii", "a.mha"])
def test_a_file_without_read_permission(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(b"something")
    monkeypatch.setattr(files.os, "access", lambda path, mode: mode != files.os.R_OK)
    with pytest.raises(FileError, match="no permission"):
        load(tmp_path / name)


def test_truncated_nifti_is_refused_before_it_is_read(tmp_path):
    path = write_nifti(tmp_path / "scan.nii", marked(), ORIENTATIONS["oblique"])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileError, match="truncated.*declares 982 bytes.*981"):
        load(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FileError, match="cannot read"):
        load(path)


@pytest.mark.parametrize("part", [0.2, 0.6, 0.9])
def test_truncated_gzip(tmp_path, part):
    data = np.random.default_rng(0).integers(0, 30000, (20, 21, 22)).astype(np.int16)
    path = write_nifti(tmp_path / "scan.nii.gz", data, ORIENTATIONS["oblique"])
    raw = path.read_bytes()
    path.write_bytes(raw[:int(part * len(raw))])
    with pytest.raises(FileError, match="truncated or damaged"):
        load(path)


def test_a_small_file_that_claims_gigabytes_is_refused(tmp_path):
    path = write_nifti(tmp_path / "bomb.nii", marked(), ORIENTATIONS["oblique"])
    raw = bytearray(path.read_bytes())
    raw[42:48] = np.array([3000, 3000, 3000], "<i2").tobytes()
    path.write_bytes(raw)
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    sitk.WriteImage(sitk.Image(4, 5, 6, sitk.sitkUInt8), str(tmp_path / "bomb.mha"))
    meta = (tmp_path / "bomb.mha").read_bytes()
    (tmp_path / "bomb.mha").write_bytes(meta.replace(b"DimSize = 4 5 6", b"DimSize = 3000 3000 3000"))
    for name in ("bomb.nii", "bomb.nii.gz", "bomb.mha"):
        with pytest.raises(FileError, match="truncated or its header is wrong.*declares [25][47],000,"):
            load(tmp_path / name)


def test_an_image_larger_than_memory_is_refused(tmp_path, monkeypatch):
    path = write_nifti(tmp_path / "scan.nii", marked(), ORIENTATIONS["oblique"])
    monkeypatch.setattr(files, "physical_memory", lambda: 900)
    with pytest.raises(FileError, match="GiB of memory"):
        load(path)
    monkeypatch.setattr(files, "physical_memory", lambda: None)
    assert load(path).array.shape == SHAPE[::-1]


def test_memory_of_this_machine_is_plausible_where_it_is_told():
    memory = files.physical_memory()
    assert memory is None or memory > 2**28


def test_a_header_without_its_image(tmp_path):
    nib.save(nib.Nifti1Pair(marked(), ORIENTATIONS["oblique"]), tmp_path / "scan.hdr")
    place = true_place(ORIENTATIONS["oblique"])
    np.testing.assert_allclose(where(load(tmp_path / "scan.hdr")), place, atol=1e-4)
    np.testing.assert_array_equal(load(tmp_path / "scan.img").array, marked().T)
    (tmp_path / "scan.img").unlink()
    with pytest.raises(FileError, match="no image file scan.img"):
        load(tmp_path / "scan.hdr")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".png", ".jpg", ".tif"])
def test_truncated_files_of_other_formats(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (60, 70)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(path))
    raw = path.read_bytes()
    path.write_bytes(raw[:len(raw) // 2])
    with pytest.raises(FileError) as caught:
        load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def stack():
    return np.random.default_rng(0).integers(0, 255, (20, 60, 70)).astype(np.uint8)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.9, 0.999])
def test_a_truncated_tiff_of_several_pages(tmp_path, part):
    path = tmp_path / "stack.tif"
    sitk.WriteImage(sitk.GetImageFromArray(stack()), str(path))
    np.testing.assert_array_equal(load(path).array, stack())
    raw = path.read_bytes()
    path.write_bytes(raw[:int(part * len(raw))])
    with pytest.raises(FileError, match="truncated or damaged"):
        load(path)


def tiff(order, big, pages=3, height=4, width=5):
    """A TIFF written by hand: each page is its directory, then its pixels in two strips."""
    word, room, form = ("Q", 8, "HHQQ") if big else ("I", 4, "HHII")
    directory = (8 if big else 2) + 7 * struct.calcsize(order + form) + room
    start, size = (16 if big else 8), directory + 2 * 2 * room + height * width
    raw = {"<": b"II", ">": b"MM"}[order]
    raw += struct.pack(f"{order}HHHQ", 43, 8, 0, start) if big else struct.pack(f"{order}HI", 42, start)
    for k in range(pages):
        arrays = len(raw) + directory
        pixels = arrays + 4 * room
        half = height * width // 2
        entries = [(256, width), (257, height), (258, 8), (262, 1), (273, arrays), (278, height // 2),
                   (279, arrays + 2 * room)]
        raw += struct.pack(order + ("Q" if big else "H"), len(entries))
        for tag, value in entries:
            kind, count = (16 if big else 4, 2) if tag in (273, 279) else (16 if big else 4, 1)
            raw += struct.pack(order + form, tag, kind, count, value)
        raw += struct.pack(order + word, 0 if k == pages - 1 else start + (k + 1) * size)
        raw += struct.pack(f"{order}4{word}", pixels, pixels + half, half, half)
        raw += bytes(range(k, k + height * width))
    return raw


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_a_tiff_is_whole_to_its_last_byte(tmp_path, order, big):
    path = tmp_path / "stack.tif"
    raw = tiff(order, big)
    path.write_bytes(raw)
    np.testing.assert_array_equal(load(path).array, np.arange(20).reshape(4, 5) + np.arange(3)[:, None, None])
    for length in range(2, len(raw)):
        path.write_bytes(raw[:length])
        with pytest.raises(FileError, match="truncated or damaged"):
            files.check_whole(path)


def test_a_tiff_whose_pages_go_round_in_circles(tmp_path):
    """Big-endian, one page without entries that names itself as the next."""
    path = tmp_path / "ring.tif"
    path.write_bytes(b"MM\0*" + (8).to_bytes(4, "big") + bytes(2) + (8).to_bytes(4, "big"))
    files.check_whole(path)
    with pytest.raises(FileError, match="cannot read"):
        load(path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".img.gz"])
def test_one_wrong_bit_in_a_packed_nifti(tmp_path, suffix):
    """The array unpacks whole; only the checksum at the end of the file knows."""
    kind = nib.Nifti1Image if suffix == ".nii.gz" else nib.Nifti1Pair
    path = tmp_path / f"scan{suffix}"
    nib.save(kind(stack().T, ORIENTATIONS["oblique"]), path)
    np.testing.assert_array_equal(load(path).array, stack())
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert np.asarray(nib.load(path).dataobj).shape == stack().T.shape
    with pytest.raises(FileError, match="truncated or damaged"):
        load(path)


def test_any_header_byte_may_be_wrong(tmp_path):
    """Random damage to a header gives an image or a typed error, nothing else."""
    path = write_nifti(tmp_path / "scan.nii", marked(), ORIENTATIONS["oblique"])
    good, rng, refused = path.read_bytes(), np.random.default_rng(11), 0
    for _ in range(200):
        raw = bytearray(good)
        for at in rng.integers(0, 352, 4):
            raw[at] = rng.integers(256)
        path.write_bytes(raw)
        try:
            assert isinstance(load(path), Image)
        except InputError as error:
            assert "axes" in str(error) or "axis" in str(error) or "dtype" in str(error), error
            refused += 1
        except (FileError, GeometryError):
            refused += 1
    assert 0 < refused < 200


def test_singular_header_is_a_geometry_error(tmp_path):
    path = write_nifti(tmp_path / "scan.nii", marked(), ORIENTATIONS["RAS"], qform=0)
    raw = bytearray(path.read_bytes())
    raw[280:328] = bytes(48)  # the s-form rows
    path.write_bytes(raw)
    with pytest.raises(GeometryError, match="moving: .*singular"):
        load(path, name="moving")


@pytest.mark.parametrize("suffix", [".nii.gz", ".NII.GZ", ".nrrd"])
def test_spaces_and_letters_of_the_world_in_paths(tmp_path, suffix):
    folder = tmp_path / "größe Δ 脑 scan"
    folder.mkdir()
    image = load(as_sitk(marked(), ORIENTATIONS["oblique"]))
    save_image(image, folder / f"mit Leer zeichen é{suffix}")
    again = load(str(folder / f"mit Leer zeichen é{suffix}"))
    np.testing.assert_allclose(where(again), where(image), atol=1e-4)


# ------------------------------------------------------------------------------------------------------ DICOM
def write_series(folder, positions, uid="1.2.3.4", direction=None, start=0, size=(7, 9)):
    """One slice per position (mm, LPS), each with its own value ramp, in a shuffled order of file names."""
    folder.mkdir(exist_ok=True)
    direction = np.eye(3) if direction is None else direction
    order = np.random.default_rng(5).permutation(len(positions))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k, position in enumerate(positions):
        ramp = np.arange(np.prod(size), dtype=np.int16).reshape(1, *size[::-1])
        piece = sitk.GetImageFromArray(100 * (k + start) + ramp)
        piece.SetSpacing((1.25, 0.75, 1.0))
        tags = {"0008|0060": "MR", "0020|000d": "1.2.3", "0020|000e": uid, "0020|0013": str(k + 1),
                "0008|0018": f"{uid}.{k + start + 1}",
                "0020|0032": "\\".join(f"{p:.6f}" for p in position),
                "0020|0037": "\\".join(f"{c:.9f}" for c in direction[:, :2].T.ravel())}
        for tag, value in tags.items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"slice{start + order[k]:03d}.dcm"))
        writer.Execute(piece)
    return folder


def positions(n, step, origin=(12.0, -40.0, 55.0)):
    return np.array(origin) + np.arange(n)[:, None] * np.asarray(step, float)


def test_dicom_series_lies_where_simpleitk_puts_it(tmp_path):
    direction = rotation(0.3, -0.2, 0.5)
    folder = write_series(tmp_path / "s", positions(6, 2.5 * direction[:, 2]), direction=direction)
    reference = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    image = load(folder)
    np.testing.assert_array_equal(image.array, sitk.GetArrayFromImage(reference))
    for index in [(0, 0, 0), (6, 2, 4)]:
        expected = reference.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(image.grid.to_world(index[::-1]), expected, atol=1e-4)
    np.testing.assert_allclose(image.grid.spacing, (2.5, 0.75, 1.25), atol=1e-5)


def test_a_tilted_gantry_is_a_sheared_grid(tmp_path):
    step = np.array([0.0, 1.0, 2.0])
    places = positions(5, step)
    image = load(write_series(tmp_path / "s", places))
    for k in range(5):
        value = int(image.array[k].min()) // 100  # which slice was written there
        np.testing.assert_allclose(image.grid.to_world((k, 0, 0)), places[value], atol=1e-4)


def test_one_dicom_file_or_a_folder_of_one_is_one_slice(tmp_path):
    folder = write_series(tmp_path / "s", positions(1, (0, 0, 2)))
    for source in (folder, folder / "slice000.dcm"):
        image = load(source)
        assert image.array.shape == (1, 9, 7)
        np.testing.assert_allclose(image.grid.to_world((0, 0, 0)), (12, -40, 55), atol=1e-4)


def test_mixed_series_are_named_with_their_counts(tmp_path):
    write_series(tmp_path / "s", positions(4, (0, 0, 2)), uid="1.2.3.7")
    write_series(tmp_path / "s", positions(3, (0, 0, 3)), uid="1.2.3.9", start=10)
    with pytest.raises(FileError, match=r"2 DICOM series.*1\.2\.3\.7.*\(4 slices\).*3\.9.*\(3 slices\)"):
        load(tmp_path / "s")


def test_a_missing_slice_is_an_error_in_millimetres(tmp_path):
    folder = write_series(tmp_path / "s", np.delete(positions(5, (0, 0, 3)), 1, axis=0))  # at 0, 6, 9, 12 mm
    with pytest.raises(FileError, match=r"gaps run from 3 to 6 mm.*up to 2 mm from"):
        load(folder)


def test_slices_at_one_position_are_refused(tmp_path):
    folder = write_series(tmp_path / "s", np.repeat(positions(3, (0, 0, 3)), 2, axis=0))
    with pytest.raises(FileError, match="several slices at one position"):
        load(folder)


def test_slices_of_unequal_size_are_refused(tmp_path):
    write_series(tmp_path / "s", positions(3, (0, 0, 2)))
    write_series(tmp_path / "s", positions(2, (0, 0, 2), (12, -40, 90)), start=10, size=(8, 9))
    with pytest.raises(FileError, match=r"do not form one volume.*size"):
        load(tmp_path / "s")

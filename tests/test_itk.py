"""Transforms written for ITK, read by SimpleITK, nibabel, nitransforms; transforms that ITK wrote, read."""

from __future__ import annotations

import itertools
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from io_scenes import ORIENTATIONS, ORTHOGONAL, rotation
from scipy.ndimage import gaussian_filter

from classreg import apply
from classreg.fitted import FittedTransform
from classreg.grid import Grid
from classreg.image import Image
from classreg.io import load, read_transform, write_transform
from classreg.mapping import Mapping
from classreg.transforms import BSpline, Linear, Velocity

SHIFT = np.array([6.0, -4.0, 3.0])
HEAD = "#Insight Transform File V1.0\n#Transform 0\nTransform: "
TOLERANCE = 1e-4  # mm; float32 fields with displacements of some mm


def volume_grid(key, shape=(8, 10, 7)):
    return Grid(shape, load(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), ORIENTATIONS[key])).grid.affine)


def slice_grid(flip=False, shape=(13, 9)):
    t = -0.6
    direction = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) @ np.diag([1, -1 if flip else 1])
    return Grid.from_spacing(shape, (1.9, 0.7), origin=(-31.0, 12.5), direction=direction)


GRIDS = {key: volume_grid(key) for key in ORTHOGONAL} | {"2-D": slice_grid(), "2-D flipped": slice_grid(True)}


def turn(d):
    return rotation(0.2, -0.1, 0.3) if d == 3 else rotation(0, 0, 0.3)[:2, :2]


def world_matrix(grid):
    """A turn and stretch about the centre, and a shift that no axis swap or flip hides."""
    d = grid.ndim
    linear = turn(d) * [1.1, 0.95, 1.03][:d]
    shift = grid.centre + SHIFT[:d] - linear @ grid.centre
    return np.vstack([np.column_stack([linear, shift]), np.eye(d + 1)[d]])


def random_spline(grid, spacing=5.0):
    spline = BSpline(grid, spacing, world_matrix(grid))
    theta = 3 * np.random.default_rng(1).standard_normal(spline.identity().shape).astype(np.float32)
    return FittedTransform("bspline", spline, theta, grid)


def smooth_field(grid):
    noise = np.random.default_rng(2).standard_normal((grid.ndim, *grid.shape))
    field = np.stack([gaussian_filter(c, 1.5, mode="nearest") for c in noise])
    return (4 * field / np.abs(field).max()).astype(np.float32)


def random_dense(grid):
    return FittedTransform.from_mapping(Mapping(world_matrix(grid), smooth_field(grid), grid), grid)


def random_velocity(grid):
    velocity = Velocity(grid, world_matrix(grid))
    theta = velocity.refine(velocity.identity(), grid) + smooth_field(grid).reshape((grid.ndim, *grid.shape3))
    return FittedTransform("svf", velocity, theta, grid)


def matrix_alone(grid):
    return FittedTransform.from_matrix(world_matrix(grid), grid)


DEFORMABLE = {"bspline": random_spline, "dense": random_dense, "svf": random_velocity}
MAKERS = {"affine": matrix_alone, **DEFORMABLE}


def write_itk(transform, path):
    write_transform(transform, path, format="itk")


def write_displacement(transform, path):
    write_transform(transform, path, format="displacement")


def close(found, expected, tolerance=TOLERANCE):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def samples(grid):
    return grid.points().reshape(-1, grid.ndim)


def inside(grid):
    """All samples, corners among them, and points between."""
    index = np.random.default_rng(3).uniform(0, 1, (300, grid.ndim)) * (np.array(grid.shape) - 1)
    return np.concatenate([samples(grid), grid.to_world(index)])


def itk_map(transform, points):
    return np.array([transform.TransformPoint(p) for p in points.tolist()])


def held(transform, points):
    """Where a file takes points: as the transform does, or, of a velocity, as its field on the fixed grid does."""
    if isinstance(transform.transform, Velocity):
        return transform.mapping().apply(points)
    return transform.map_points(points, transform.frm, transform.to)


def assert_maps_alike(transform, path, tolerance=TOLERANCE):
    points = inside(transform.grid)
    mapped = held(transform, points)
    assert np.abs(mapped - points).max() > 3  # nothing is shown by a transform that does nothing
    close(itk_map(sitk.ReadTransform(str(path)), points), mapped, tolerance)


# --------------------------------------------------------------------------------------- what ITK makes of it
@pytest.mark.parametrize("key", GRIDS)
@pytest.mark.parametrize("suffix", [".tfm", ".txt", ".mat", ".h5"])
def test_a_matrix_maps_the_same_in_itk(tmp_path, key, suffix):
    grid = GRIDS[key]
    transform, path = matrix_alone(grid), tmp_path / f"a{suffix}"
    write_itk(transform, path)
    assert_maps_alike(transform, path, 1e-9)
    np.testing.assert_allclose(sitk.ReadTransform(str(path)).GetCenter(), grid.centre)
    again = read_transform(path, grid)
    assert again.linear and (again.frm, again.to) == ("fixed", "moving")
    np.testing.assert_allclose(again.matrix, transform.matrix, atol=1e-11)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("kind", ["translation", "rigid", "similarity", "affine"])
def test_every_linear_model_has_its_centre(tmp_path, ndim, kind):
    grid = GRIDS["oblique" if ndim == 3 else "2-D"]
    model = Linear(grid, kind)
    transform = FittedTransform(kind, model, model.parameters(world_matrix(grid)), grid)
    write_itk(transform, tmp_path / "a.tfm")
    assert_maps_alike(transform, tmp_path / "a.tfm", 1e-9)
    shift = sitk.ReadTransform(str(tmp_path / "a.tfm")).GetTranslation()
    np.testing.assert_allclose(shift, SHIFT[:ndim], atol=1e-9)  # about the centre, the turn moves nothing


@pytest.mark.parametrize("key", GRIDS)
@pytest.mark.parametrize("model", DEFORMABLE)
def test_a_deformation_maps_the_same_in_itk_and_back(tmp_path, key, model):
    grid = GRIDS[key]
    transform = MAKERS[model](grid)
    write_itk(transform, tmp_path / "a.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
    assert_maps_alike(transform, tmp_path / "a.h5")
    again = read_transform(tmp_path / "a.h5", grid)
    assert isinstance(again.transform, BSpline) == (model == "bspline")
    np.testing.assert_allclose(again.matrix, transform.matrix, atol=1e-11)
    far = grid.centre + np.array([900.0, -700.0, 500.0])[:grid.ndim]  # clamped, here and there
    points = np.concatenate([inside(grid), [far]])
    close(again.map_points(points), held(transform, points))
    close(again.displacement(), transform.displacement())


@pytest.mark.parametrize("spacing", [0.1, 2.0, 3.7, 100.0])
def test_lattices_of_any_spacing(tmp_path, spacing):
    """From one cell per voxel to one cell per axis; the far border must not fall out by rounding."""
    for key, name in itertools.product(["oblique", "2-D"], ["a.h5", "a.tfm"]):
        transform = random_spline(GRIDS[key], spacing)
        write_itk(transform, tmp_path / name)
        assert_maps_alike(transform, tmp_path / name)
        np.testing.assert_array_equal(read_transform(tmp_path / name, GRIDS[key]).theta, transform.theta)


@pytest.mark.parametrize("model", DEFORMABLE)
@pytest.mark.parametrize("shape", [(1, 10, 7), (8, 10, 1), (1, 1, 7)])
def test_volumes_of_one_slice_stay_volumes(tmp_path, model, shape):
    transform = MAKERS[model](volume_grid("oblique", shape))
    write_itk(transform, tmp_path / "a.h5")
    assert_maps_alike(transform, tmp_path / "a.h5")
    points = inside(transform.grid)
    close(read_transform(tmp_path / "a.h5", transform.grid).map_points(points), held(transform, points))
    write_displacement(transform, tmp_path / "u.nii.gz")
    assert nib.load(tmp_path / "u.nii.gz").shape == (*shape[::-1], 1, 3)
    again = read_transform(tmp_path / "u.nii.gz", transform.grid)
    close(again.map_points(samples(transform.grid)), held(transform, samples(transform.grid)))


@pytest.mark.parametrize("model", ["bspline", "dense"])
def test_a_sheared_grid_is_covered_by_an_orthonormal_one(tmp_path, model):
    """Exact only up to interpolation; halving the voxels quarters the difference."""
    errors = []
    for fine in (1, 2):
        coarse = volume_grid("sheared")
        affine = coarse.affine.copy()
        affine[:3, :3] /= fine
        grid = Grid(tuple((np.array(coarse.shape) - 1) * fine + 1), affine)
        transform = random_spline(grid, 12.0)
        if model == "dense":
            wave = 3 * np.sin((grid.points() - grid.centre) @ (0.2 * rotation(0.5, 0.4, 0.3)))
            mapping = Mapping(world_matrix(grid), np.moveaxis(wave, -1, 0).astype(np.float32), grid)
            transform = FittedTransform.from_mapping(mapping, grid)
        write_itk(transform, tmp_path / "a.h5")
        found = sitk.ReadTransform(str(tmp_path / "a.h5"))
        axes = np.reshape(found.GetNthTransform(1).GetDisplacementField().GetDirection(), (3, 3))
        np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
        points = inside(coarse)
        errors.append(np.abs(itk_map(found, points) - transform.map_points(points)))
        write_displacement(transform, tmp_path / "u.nii.gz")  # SimpleITK refuses sheared headers
        field = sitk.ReadImage(str(tmp_path / "u.nii.gz"), sitk.sitkVectorFloat64)
        close(itk_map(sitk.DisplacementFieldTransform(field), points), itk_map(found, points))
    assert errors[0].max() < 1.5
    assert errors[1].mean() < 0.4 * errors[0].mean()


def test_an_inverse_and_a_composition_are_written_too(tmp_path):
    fixed, moving = GRIDS["oblique"], volume_grid("LAS", (9, 10, 12))
    there = replace(random_dense(fixed), to_grid=moving)
    before = FittedTransform.from_matrix(world_matrix(fixed), fixed, frm="atlas", to="fixed")
    for transform in (there.inverse(), there.compose(before)):
        write_itk(transform, tmp_path / "a.h5")
        assert_maps_alike(transform, tmp_path / "a.h5")


# ----------------------------------------------------------------------------------------- displacement files
@pytest.mark.parametrize("key", GRIDS)
@pytest.mark.parametrize("model", MAKERS)
def test_displacement_files_read_by_simpleitk(tmp_path, key, model):
    grid = GRIDS[key]
    transform = MAKERS[model](grid)
    path = tmp_path / "u.nii.gz"
    write_displacement(transform, path)
    field = sitk.ReadImage(str(path))
    assert field.GetDimension() == grid.ndim and field.GetNumberOfComponentsPerPixel() == grid.ndim
    assert field.GetPixelID() == sitk.sitkVectorFloat32 and field.GetSize() == grid.shape[::-1]
    index = (2, 3, 4)[:grid.ndim]
    close(field.TransformIndexToPhysicalPoint(index), grid.to_world(index[::-1]))
    moved = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    points = samples(grid)
    close(itk_map(moved, points), held(transform, points))
    values = sitk.GetArrayFromImage(field).reshape(-1, grid.ndim)
    close(values, held(transform, points) - points)

    header = nib.load(path).header
    assert header.get_intent()[0] == "vector" and header.get_data_dtype() == np.float32
    assert nib.load(path).shape == (*grid.shape[::-1], *((1, 3) if grid.ndim == 3 else (1, 1, 2)))
    again = read_transform(path, grid)
    assert again.transform.grid.same_as(grid)
    close(again.map_points(points), held(transform, points))


@pytest.mark.parametrize("key", ["oblique", "RPI-flipped", "anisotropic"])
def test_nitransforms_agrees(tmp_path, key):
    nitransforms = pytest.importorskip("nitransforms")
    grid, flip = GRIDS[key], np.array([-1, -1, 1])  # nitransforms takes and gives RAS
    linear = matrix_alone(grid)
    write_itk(linear, tmp_path / "a.tfm")
    points = inside(grid)
    found = nitransforms.linear.load(str(tmp_path / "a.tfm"), fmt="itk")
    close(found.map(points * flip) * flip, linear.map_points(points), 1e-3)
    dense = random_dense(grid)
    write_displacement(dense, tmp_path / "u.nii.gz")
    points = grid.points()[1:-1, 1:-1, 1:-1].reshape(-1, 3)
    field = nitransforms.nonlinear.load(str(tmp_path / "u.nii.gz"), fmt="itk")
    close(field.map(points * flip) * flip, dense.map_points(points), 1e-3)


# ----------------------------------------------------------------------------------------------- whole images
@pytest.mark.parametrize("key", ["oblique", "RPI-flipped", "2-D"])
@pytest.mark.parametrize("model", MAKERS)
def test_resampling_in_simpleitk_equals_apply(tmp_path, key, model):
    """Both sample on the fixed grid and interpolate linearly: equal wherever the moving image is."""
    grid = GRIDS[key]
    transform = MAKERS[model](grid)
    d, affine, shape = grid.ndim, grid.affine.copy(), tuple(n + 7 for n in grid.shape)
    affine[:d, :d] = turn(d).T @ affine[:d, :d] * [1.2, 0.9, -1.1][-d:]
    affine[:d, d] = grid.centre + SHIFT[:d] - affine[:d, :d] @ ((np.array(shape) - 1) / 2)
    moving = Grid(shape, affine)
    noise = gaussian_filter(np.random.default_rng(5).standard_normal(moving.shape), 1.5)
    image = Image((noise / noise.std()).astype(np.float32), moving)
    fixed = Image(np.ones(grid.shape, np.float32), grid)
    write_itk(transform, tmp_path / "a.h5")
    ours = apply(transform, image, fixed, outside=-9).array
    found = sitk.ReadTransform(str(tmp_path / "a.h5"))
    warped = sitk.Resample(image.to_sitk(), fixed.to_sitk(), found, sitk.sitkLinear, -9.0)
    theirs = sitk.GetArrayFromImage(warped)
    both = (ours > -9) & (theirs > -9)
    assert both.mean() > 0.5 and ours[both].std() > 0.5
    close(ours[both], theirs[both], 1e-3)
    close(apply(tmp_path / "a.h5", image, fixed, outside=-9).array[both], ours[both], 1e-3)


# --------------------------------------------------------------------------------------- files that ITK wrote
FOREIGN = {
    "euler": sitk.Euler3DTransform((3, 9, -5), 0.3, -0.2, 0.1, SHIFT),
    "similarity": sitk.Similarity3DTransform(1.3, (0.1, -0.3, 0.2, 0.9), SHIFT, (3, 9, -5)),
    "scale": sitk.ScaleVersor3DTransform((1.1, 0.9, 1.2), (0.1, -0.3, 0.2, 0.9), SHIFT, (3, 9, -5)),
    "affine": sitk.AffineTransform((1, 0.2, 0, -0.1, 0.9, 0, 0.3, 0, 1.1), SHIFT, (3, 9, -5)),
    "translation": sitk.TranslationTransform(3, SHIFT),
    "euler 2-D": sitk.Euler2DTransform((3, 9), 0.3, SHIFT[:2]),
}
FOREIGN["composite"] = sitk.CompositeTransform([FOREIGN["translation"], FOREIGN["euler"], FOREIGN["affine"]])
FOREIGN["euler, zyx"] = sitk.Euler3DTransform(FOREIGN["euler"])
FOREIGN["euler, zyx"].SetComputeZYX(True)


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_linear_transforms(tmp_path, name):
    found = FOREIGN[name]
    grid = GRIDS["2-D" if "2-D" in name else "oblique"]
    points = inside(grid)
    for suffix in (".tfm", ".h5") if name == "composite" else (".tfm", ".h5", ".mat"):
        sitk.WriteTransform(found, str(tmp_path / f"a{suffix}"))
        read = read_transform(tmp_path / f"a{suffix}", grid)
        assert read.linear
        close(read.map_points(points), itk_map(found, points), 1e-9)


def test_the_class_that_ants_writes(tmp_path):
    """ANTs' GenericAffine is a MatrixOffsetTransformBase, in single or double precision."""
    for kind in ("double", "float"):
        (tmp_path / "a.txt").write_text(HEAD + f"MatrixOffsetTransformBase_{kind}_3_3\nParameters: "
                                        "0 -1 0 1 0 0 0 0 1 6 -4 3\nFixedParameters: 10 20 30\n")
        read = read_transform(tmp_path / "a.txt", GRIDS["oblique"])
        np.testing.assert_allclose(read.map_points([[11.0, 20, 30]]), [[16, 17, 33]], atol=1e-9)


def foreign_spline(grid):
    """As SimpleITK's own initialiser lays it over an image, which is not how classreg does."""
    image = sitk.Cast(Image(np.zeros(grid.shape, np.float32), grid).to_sitk(), sitk.sitkFloat32)
    spline = sitk.BSplineTransformInitializer(image, [2] * grid.ndim)
    spline.SetParameters((2 * np.random.default_rng(6).standard_normal(len(spline.GetParameters()))).tolist())
    return spline


def foreign_field(grid):
    vectors = np.ascontiguousarray(np.moveaxis(smooth_field(grid), 0, -1), np.float64)
    field = sitk.GetImageFromArray(vectors, isVector=True)
    field.CopyInformation(Image(np.zeros(grid.shape, np.float32), grid).to_sitk())
    return sitk.DisplacementFieldTransform(field)


@pytest.mark.parametrize("key", ["oblique", "PIR-permuted", "2-D"])
def test_foreign_deformations_hold_at_every_sample(tmp_path, key):
    grid, d = GRIDS[key], GRIDS[key].ndim
    affine = sitk.AffineTransform(world_matrix(grid)[:d, :d].ravel(), SHIFT[:d])
    nested, points = sitk.CompositeTransform([affine, foreign_spline(grid)]), samples(grid)
    write_itk(random_spline(grid), tmp_path / "a.h5")
    cubic = sitk.ReadTransform(str(tmp_path / "a.h5")).GetNthTransform(1)
    quadratic = sitk.BSplineTransform(d, 2)  # on classreg's own lattice, but not its spline
    quadratic.SetFixedParameters(cubic.GetFixedParameters())
    quadratic.SetParameters(cubic.GetParameters())
    spline, field = foreign_spline(grid), foreign_field(grid)
    for parts in ([quadratic], [spline], [affine, spline], [spline, affine], [field, affine],
                  [affine, nested, field]):
        whole = sitk.CompositeTransform(parts)
        whole.FlattenTransform()
        for name in ("a.h5", "a.tfm"):
            sitk.WriteTransform(whole, str(tmp_path / name))
            close(read_transform(tmp_path / name, grid).map_points(points), itk_map(whole, points))


def test_a_foreign_deformation_is_sampled_on_a_sheared_grid(tmp_path):
    whole = sitk.CompositeTransform([FOREIGN["affine"], foreign_spline(GRIDS["oblique"])])
    sitk.WriteTransform(whole, str(tmp_path / "a.h5"))
    sheared = volume_grid("sheared")
    points = samples(sheared)
    close(read_transform(tmp_path / "a.h5", sheared).map_points(points), itk_map(whole, points))


def test_a_field_keeps_its_own_grid(tmp_path):
    field, grid = GRIDS["oblique"], volume_grid("anisotropic", (4, 8, 9))
    found = sitk.CompositeTransform([FOREIGN["affine"], foreign_field(field)])
    sitk.WriteTransform(found, str(tmp_path / "a.h5"))
    vectors = sitk.Cast(foreign_field(field).GetDisplacementField(), sitk.sitkVectorFloat32)
    sitk.WriteImage(vectors, str(tmp_path / "u.nii.gz"))
    for name, reference in (("a.h5", found), ("u.nii.gz", foreign_field(field))):
        read = read_transform(tmp_path / name, grid)
        assert read.grid is grid and read.transform.grid.same_as(field)
        points = inside(field)
        close(read.map_points(points), itk_map(reference, points))


def test_declared_ras_vectors_are_turned_as_itk_turns_them(tmp_path):
    grid = GRIDS["oblique"]
    write_displacement(random_dense(grid), tmp_path / "u.nii")
    file = nib.load(tmp_path / "u.nii")
    file.header.set_intent("displacement vector")
    nib.save(nib.Nifti1Image(np.asarray(file.dataobj), file.affine, file.header), tmp_path / "ras.nii")
    lps, ras = (sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name))) for name in ("u.nii", "ras.nii"))
    close(ras, lps * [-1, -1, 1])
    field = read_transform(tmp_path / "ras.nii", grid).displacement()
    close(np.moveaxis(field, 0, -1), ras)

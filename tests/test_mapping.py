"""Mappings, sampling at mapped positions, and fitted transforms: points both ways, in every space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from classreg import check
from classreg.backend import Workspace
from classreg.errors import InputError, OptionError
from classreg.fitted import FittedTransform
from classreg.grid import Grid
from classreg.image import Image
from classreg.mapping import Mapping, invert_points
from classreg.sampling import Points, sample
from classreg.transforms import BSpline, Dense, Linear

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


def world_matrix(grid, shift=(4.0, -3.0, 2.0)):
    """A general affine about the grid's centre, and an asymmetric shift."""
    d = grid.ndim
    linear = np.array([[1.05, 0.12, -0.04], [-0.1, 0.93, 0.07], [0.03, -0.05, 1.02]])[:d, :d]
    out = np.eye(d + 1)
    out[:d, :d], out[:d, d] = linear, grid.centre - linear @ grid.centre + shift[:d]
    return out


def wave(grid, size=1.5):
    """A displacement of up to `size` mm per component that does not fold, (d, *grid.shape)."""
    points = np.moveaxis(grid.points() - grid.centre, -1, 0)
    return size * np.stack([np.sin(points[(k + 1) % grid.ndim] / 5 + k) for k in range(grid.ndim)])


def long_grid(ndim):
    """Oblique, anisotropic, off-origin; large enough to have an inside."""
    return Grid((40, 36) if ndim == 2 else (20, 36, 30), check.scene(ndim)[0].grid.affine)


def inside(grid, points, margin=0.0):
    index = grid.to_index(points)
    return ((index >= margin) & (index <= np.array(grid.shape) - 1 - margin)).all(-1)


def some_points(grid, n=200, margin=0.0):
    top = np.array(grid.shape) - 1
    return grid.to_world(margin + np.random.default_rng(1).uniform(0, 1, (n, grid.ndim)) * (top - 2 * margin))


def close(found, expected, mm):
    """Largest distance of two sets of points."""
    worst = np.linalg.norm(np.asarray(found) - expected, axis=-1).max()
    assert worst <= mm, f"{worst:.3g} mm apart, allowed {mm:g}"


# -- the normal form -----------------------------------------------------------------------------------------

@DIMENSIONS
def test_apply_is_the_matrix_after_the_displacement(ndim):
    grid = long_grid(ndim)
    matrix, field = world_matrix(grid), wave(grid)
    phi = Mapping(matrix, field, grid)
    u = np.moveaxis(field, 0, -1)
    expected = (grid.points() + u) @ matrix[:ndim, :ndim].T + matrix[:ndim, ndim]
    close(phi.apply(grid.points().reshape(-1, ndim)), expected.reshape(-1, ndim), 1e-9)
    total = phi.total_displacement(grid)
    assert total.dtype == np.float32 and total.shape == (ndim, *grid.shape)
    close(np.moveaxis(total, 0, -1), expected - grid.points(), 1e-4)
    assert Mapping(matrix).apply(grid.centre) == pytest.approx(grid.centre[None] + [4.0, -3.0, 2.0][:ndim])


@DIMENSIONS
def test_beyond_its_grid_a_field_keeps_its_border_value(ndim):
    grid = long_grid(ndim)
    phi = Mapping(np.eye(ndim + 1), wave(grid), grid)
    last = np.array(grid.shape) - 1.0
    corner, beyond = grid.to_world([last, last + 9.5])
    assert phi.displacement(corner) == pytest.approx(phi.displacement(beyond))
    assert phi.displacement(corner)[0] == pytest.approx(phi.field[(slice(None),) + (-1,) * ndim])


@DIMENSIONS
def test_resampled_is_the_displacement_at_the_other_grid(ndim):
    grid, other = long_grid(ndim), check.scene(ndim)[1].grid  # other axes, partly outside
    phi = Mapping(world_matrix(grid), wave(grid), grid)
    found = phi.resampled(other)
    expected = phi.displacement(other.points().reshape(-1, ndim))
    assert 0.05 < inside(grid, other.points()).mean() < 0.95
    assert np.moveaxis(found, 0, -1).reshape(-1, ndim) == pytest.approx(expected, abs=1e-9)
    assert phi.resampled(Grid(grid.shape, grid.affine)) is phi.field


@DIMENSIONS
@pytest.mark.parametrize("inner_field", [True, False])
@pytest.mark.parametrize("outer_field", [True, False])
def test_compose_is_one_after_the_other(ndim, inner_field, outer_field):
    """At the samples exactly (to float32), between them to the error of linear interpolation."""
    grid, other = long_grid(ndim), check.scene(ndim)[1].grid
    inner = Mapping(world_matrix(grid), *((wave(grid), grid) if inner_field else ()))
    outer = Mapping(np.linalg.inv(world_matrix(other)), *((wave(other, 0.8), other) if outer_field else ()))
    both = outer.compose(inner)
    for points, mm in ((grid.points().reshape(-1, ndim), 1e-4), (some_points(grid), 0.25)):
        if not inner_field and outer_field:
            points = points[inside(other, points)]
            assert len(points) > 20
            mm = 0.25
        close(both.apply(points), outer.apply(inner.apply(points)), mm)


@DIMENSIONS
def test_inverse_mapping(ndim):
    grid = long_grid(ndim)
    phi = Mapping(world_matrix(grid), wave(grid).astype(np.float32), grid)
    affine = grid.affine.copy()
    affine[:-1, -1] = phi.apply(grid.to_world(np.array(grid.shape) / 4))[0]
    target = Grid(tuple(n // 2 for n in grid.shape), affine)  # a part of the moving side
    psi, residual = phi.inverse(target)
    assert residual.shape == target.shape and residual.max() < 2e-3
    points = target.points().reshape(-1, ndim)
    close(phi.apply(psi.apply(points)), points, 2e-3)
    assert psi.matrix == pytest.approx(np.linalg.inv(phi.matrix))
    between = some_points(target, margin=1)
    close(phi.apply(psi.apply(between)), between, 0.1)


@DIMENSIONS
def test_the_residual_of_an_inverse_is_honest(ndim):
    """|phi(psi(y)) - y| at every sample, large where three steps do not do and small far from the deformation."""
    grid = long_grid(ndim)
    off = grid.points() - grid.centre
    u = np.moveaxis(-2.5 * off * np.exp(-(off[..., :1] / 4) ** 2), -1, 0)
    phi = Mapping(world_matrix(grid), u.astype(np.float32), grid)
    target = Grid(grid.shape, phi.matrix @ grid.affine)  # so that the samples of psi are those of u
    psi, residual = phi.inverse(target, iterations=3)
    points = target.points().reshape(-1, ndim)
    assert residual.ravel() == pytest.approx(np.linalg.norm(phi.apply(psi.apply(points)) - points, axis=1), abs=1e-4)
    assert residual.max() > 1 and residual[np.abs(off[..., 0]) > 14].max() < 1e-3


@DIMENSIONS
def test_inverse_of_a_strong_expansion(ndim):
    """Threefold along x, and a squeeze along y: a plain fixed-point iteration goes round in circles there.

    phi does not fold, so an inverse exists and must be found.
    """
    grid = long_grid(ndim)

    def stretch(x):
        off = x - grid.centre
        return np.stack([10 * np.tanh(off[..., 0] / 5), -4 * np.tanh(off[..., 1] / 5), 0 * off[..., 0]][:ndim], -1)

    phi = Mapping(np.eye(ndim + 1), np.moveaxis(stretch(grid.points()), -1, 0).astype(np.float32), grid)
    psi, residual = phi.inverse(grid)
    assert residual.max() < 5e-3
    points = some_points(grid, margin=3)
    close(invert_points(phi.matrix, stretch, points + stretch(points)), points, 1e-3)


@DIMENSIONS
def test_inverse_has_the_same_bits_for_any_number_of_threads(ndim):
    grid = Grid((200, 180) if ndim == 2 else (34, 33, 36), check.scene(ndim)[0].grid.affine)
    phi = Mapping(world_matrix(grid), wave(grid).astype(np.float32), grid)
    found = set()
    for threads in (1, 3):
        with Workspace(threads):
            psi, residual = phi.inverse(grid, iterations=8)
            found.add((psi.field.tobytes(), residual.tobytes()))
    assert len(found) == 1


@DIMENSIONS
def test_points_are_inverted_one_by_one(ndim):
    grid = long_grid(ndim)
    phi = Mapping(world_matrix(grid), wave(grid), grid)
    points = some_points(grid, margin=3)
    close(invert_points(phi.matrix, phi.displacement, phi.apply(points)), points, 1e-3)
    linear = Mapping(phi.matrix)
    close(invert_points(phi.matrix, None, linear.apply(points)), points, 1e-9)


def test_points_without_a_preimage_are_nan():
    """x + u jumps over an interval: points in it have none."""
    def jump(x):
        return np.where(x > 0, 3.0, -3.0) * [1.0, 0.0]

    found = invert_points(np.eye(3), jump, [[0.5, 2.0], [7.0, 1.0]])
    assert np.isnan(found[0]).all() and found[1] == pytest.approx([4.0, 1.0])


# -- sampling ------------------------------------------------------------------------------------------------

@DIMENSIONS
@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("with_field", [True, False])
def test_sampling_is_interpolation_at_the_mapped_points(ndim, order, with_field):
    """Against scipy, on oblique grids that partly leave the image, at a grid and at points."""
    fixed, moving = check.scene(ndim, channels=2)
    grid = long_grid(ndim)
    phi = Mapping(world_matrix(grid), *((wave(grid), grid) if with_field else ()))
    warped, weight, _ = sample(moving, phi, grid, order)
    points = phi.apply(grid.points().reshape(-1, ndim))
    index = moving.grid.to_index(points).T
    clamped = np.clip(index.T, 0, np.array(moving.grid.shape) - 1).T
    for c in range(2):
        expected = map_coordinates(moving.array[c], clamped, order=order, mode="mirror")
        assert warped[c].ravel() == pytest.approx(expected, abs=1e-9)
    outside = np.abs(index - clamped)
    assert weight.ravel() == pytest.approx(np.prod(np.clip(1 - outside, 0, 1), axis=0), abs=1e-9)
    assert 0.1 < (weight == 1).mean() < 0.95 and ((weight > 0) & (weight < 1)).any()
    if not with_field:
        at = Points(grid.points().reshape(-1, ndim))
        there, inside_weight, _ = sample(moving, phi, at, order)
        assert there.reshape(2, -1) == pytest.approx(warped.reshape(2, -1), abs=1e-9)
        assert inside_weight.ravel() == pytest.approx(weight.ravel(), abs=1e-9)


@DIMENSIONS
def test_a_moving_mask_is_sampled_along(ndim):
    _, moving = check.scene(ndim)
    grid = long_grid(ndim)
    mask = np.random.default_rng(0).uniform(0, 1, moving.grid.shape)
    mask /= mask.max()
    phi = Mapping(world_matrix(grid))
    _, plain, _ = sample(moving, phi, grid)
    plain = plain.copy()
    _, weight, _ = sample(Image(moving.array, moving.grid, mask), phi, grid)
    index = moving.grid.to_index(phi.apply(grid.points().reshape(-1, ndim))).T
    expected = map_coordinates(mask, index, order=1, mode="nearest") * plain.ravel()
    assert weight.ravel() == pytest.approx(expected, abs=1e-6)


def test_the_weight_does_not_fade_along_a_one_sample_axis():
    """A 2-D image as one slice of a volume counts wherever the slice is looked at."""
    plane = Grid.from_spacing((1, 12, 15), spacing=(5.0, 1.0, 1.5))
    image = Image(np.random.default_rng(0).standard_normal(plane.shape), plane)
    shift = np.eye(4)
    shift[2, 3] = 40.0
    warped, weight, _ = sample(image, Mapping(shift), plane)
    assert (weight == 1).all() and warped[0] == pytest.approx(image.array)


# -- fitted transforms ---------------------------------------------------------------------------------------

def fitted(kind, ndim):
    """A transform of some kind, fixed -> moving, between two grids that have nothing in common."""
    grid, to_grid = long_grid(ndim), check.scene(ndim)[1].grid
    matrix = world_matrix(grid)
    if kind == "linear":
        return FittedTransform.from_matrix(matrix, grid, to_grid)
    if kind == "bspline":
        transform = BSpline(grid, 8.0, matrix)
        theta = 2 * np.random.default_rng(0).uniform(-1, 1, transform.identity().shape)
        return FittedTransform("bspline", transform, theta.astype(np.float32), grid, to_grid)
    return FittedTransform.from_mapping(Mapping(matrix, wave(grid).astype(np.float32), grid), grid, to_grid)


KINDS = pytest.mark.parametrize("kind", ["linear", "bspline", "dense"])


@KINDS
@DIMENSIONS
def test_map_points_there_and_back_in_every_space(kind, ndim):
    transform = fitted(kind, ndim)
    index = transform.grid.to_index(some_points(transform.grid, margin=4))
    world = transform.grid.to_world(index)
    there = transform.map_points(world)
    close(there, transform.mapping().apply(world), 0.3 if kind == "bspline" else 1e-9)
    assert np.linalg.norm(there - world, axis=1).min() > 0.5, "an asymmetric motion"
    close(transform.map_points(there, frm="moving", to="fixed"), world, 1e-2)
    for space, flip in (("index", 1), ("pixel", -1)):
        found = transform.map_points(index[:, ::flip], space=space)
        assert found[:, ::flip] == pytest.approx(transform.to_grid.to_index(there))
        back = transform.map_points(found, frm="moving", to="fixed", space=space)
        assert back == pytest.approx(index[:, ::flip], abs=0.02)


@KINDS
@DIMENSIONS
def test_inverse_of_a_fitted_transform(kind, ndim):
    """Ends change places; it agrees with the points mapped backward, and says how well it holds."""
    transform = fitted(kind, ndim)
    transform = replace(transform, to_grid=transform.grid)
    inverse = transform.inverse()
    assert (inverse.frm, inverse.to) == ("moving", "fixed")
    assert inverse.residual["share"] > 0.5 and inverse.residual["map"].shape == transform.grid.shape
    assert inverse.residual["max"] >= inverse.residual["p99"] >= inverse.residual["mean"] >= 0
    there = transform.map_points(some_points(transform.grid, margin=4))
    there = there[inside(transform.grid, there, margin=2)]
    assert len(there) > 20
    ends = dict(frm="moving", to="fixed")
    close(inverse.map_points(there, **ends), transform.map_points(there, **ends), 0.3)
    for forward in ({}, {"frm": "moving"}, {"to": "fixed"}):  # an end that is not named follows from the other
        np.testing.assert_array_equal(inverse.map_points(there, **forward), inverse.map_points(there, **ends))
    np.testing.assert_array_equal(transform.map_points(there, to="fixed"), transform.map_points(there, **ends))


@KINDS
@DIMENSIONS
def test_composition_of_fitted_transforms(kind, ndim):
    first = fitted(kind, ndim)
    onward = np.linalg.inv(world_matrix(first.grid, (1.0, 2.0, -3.0)))
    second = FittedTransform.from_matrix(onward, first.to_grid, first.grid, frm="moving", to="atlas")
    both = second.compose(first)
    assert (both.frm, both.to) == ("fixed", "atlas")
    points = some_points(first.grid, margin=1)
    expected = second.map_points(first.map_points(points), frm="moving", to="atlas")
    close(both.map_points(points, to="atlas"), expected, 1e-6 if kind == "linear" else 0.3)
    with pytest.raises(OptionError, match="ends at 'moving', the outer begins at 'fixed'"):
        first.compose(first)


@DIMENSIONS
def test_a_deformation_after_a_long_way(ndim):
    """The inner transform leads from a distant space: the composition must hold there."""
    outer = fitted("dense", ndim)
    far = np.eye(ndim + 1)
    far[:ndim, ndim] = [300.0, -120.0, 80.0][:ndim]
    there = Grid(outer.grid.shape, np.linalg.inv(far) @ outer.grid.affine)
    inner = FittedTransform.from_matrix(far, there, outer.grid, frm="scout", to="fixed")
    both = outer.compose(inner)
    points = some_points(there, margin=1)
    expected = outer.map_points(inner.map_points(points, frm="scout", to="fixed"))
    close(both.map_points(points, frm="scout", to="moving"), expected, 0.3)


@KINDS
@DIMENSIONS
def test_displacement_and_jacobian_of_a_fitted_transform(kind, ndim):
    transform = fitted(kind, ndim)
    points = transform.grid.points()
    total = np.moveaxis(transform.displacement(), 0, -1)
    close(points + total, transform.map_points(points.reshape(-1, ndim)).reshape(points.shape), 1e-3)
    determinant = transform.jacobian_determinant()
    if kind == "linear":
        assert determinant == pytest.approx(np.linalg.det(transform.matrix[:-1, :-1]), rel=1e-5)
    h, middle = 1e-3, tuple(n // 2 for n in transform.grid.shape)
    at = points[middle]
    columns = [(transform.map_points(at + h * e) - transform.map_points(at - h * e))[0] / (2 * h)
               for e in np.eye(ndim)]
    assert determinant[middle] == pytest.approx(np.linalg.det(np.array(columns)), rel=0.1)


def test_map_points_refuses_what_it_cannot_map():
    transform = fitted("linear", 3)
    for points, options, error, message in [
            ([[1, 2, 3]], dict(space="voxel"), OptionError, "unknown space 'voxel'.*: index, pixel, world"),
            ([[1, 2, 3]], dict(to="atlas"), OptionError, "unknown end 'atlas'.*Allowed: fixed, moving"),
            ([[1, 2, 3]], dict(frm="fixed", to="fixed"), OptionError, "frm and to are both 'fixed'"),
            ([[1, 2]], {}, InputError, r"points must be \(n, 3\); got \(1, 2\)"),
            ([[1, np.nan, 3]], {}, InputError, "1 of 1 points are not finite")]:
        with pytest.raises(error, match=message):
            transform.map_points(points, **options)
    lonely = FittedTransform.from_matrix(np.eye(4), transform.grid)
    with pytest.raises(OptionError, match="need the grids of both images"):
        lonely.map_points([[1, 2, 3]], space="index")
    assert lonely.map_points([[1, 2, 3]]) == pytest.approx(np.array([[1.0, 2.0, 3.0]]))


@DIMENSIONS
def test_a_dense_transform_keeps_its_field(ndim):
    grid = long_grid(ndim)
    field = wave(grid).astype(np.float32)
    transform = FittedTransform.from_mapping(Mapping(world_matrix(grid), field, grid), grid)
    assert isinstance(transform.transform, Dense) and not transform.linear
    assert np.array_equal(transform.mapping().field, field)
    assert transform.matrix == pytest.approx(world_matrix(grid))
    assert isinstance(FittedTransform.from_mapping(Mapping(np.eye(ndim + 1)), grid).transform, Linear)

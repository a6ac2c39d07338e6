"""Velocity models return what points do that follow the velocity: inverse both ways, on any grid, in every output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from heads import head_phantom
from scipy.linalg import expm

import classreg
from classreg.backend import Workspace
from classreg.errors import InputError, OptionError
from classreg.fitted import FittedTransform
from classreg.grid import Grid
from classreg.io import read_transform, write_transform
from classreg.resample import resample
from classreg.sampling import Points
from classreg.transforms import Polyaffine, Velocity
from classreg.transforms.velocity import exponential, flow

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


def grids(ndim):
    """An oblique, anisotropic, off-origin grid, and another that overlaps it."""
    c, s = np.cos(0.3), np.sin(0.3)
    turn = np.eye(ndim)
    turn[:2, :2] = [[c, -s], [s, c]]
    one = Grid.from_spacing((22, 30, 26)[-ndim:], (1.5, 1.0, 1.2)[-ndim:], (9.0, -3.0, 4.0)[:ndim], turn)
    return one, Grid.from_spacing((25, 24, 28)[-ndim:], (1.3, 1.4, 1.1)[-ndim:], (4.0, 2.0, 3.0)[:ndim])


def matrix_of(grid):
    """A turn and stretch about the centre of a grid, and a shift."""
    d = grid.ndim
    out = np.eye(d + 1)
    out[:d, :d] += 0.08 * np.random.default_rng(0).standard_normal((d, d))
    out[:d, d] = grid.centre - out[:d, :d] @ grid.centre + np.array([2.0, -1.0, 1.5])[:d]
    return out


def fitted(ndim, size=3.0, dtype=np.float32):
    """A velocity model with motions of some voxels, that is not zero at the border."""
    grid, other = grids(ndim)
    index = np.indices(grid.shape3)
    waves = [np.sin(2 * np.pi * (index[1] / 17 + index[2] / 23 + k / 3)) * np.cos(index[0] / 4 + k)
             for k in range(ndim)]
    model = Velocity(grid, matrix_of(grid))
    theta = model.refine(model.identity(), grid) + size * np.array(waves)
    return FittedTransform("svf", model, theta.astype(dtype), grid, other)


def some_points(grid, n=400, margin=0.1):
    index = np.random.default_rng(1).uniform(margin, 1 - margin, (n, grid.ndim)) * (np.array(grid.shape) - 1)
    return grid.to_world(index)


def lengths(vectors):
    return np.sqrt((vectors**2).sum(-1))


@DIMENSIONS
def test_the_way_back_undoes_the_way_there_at_any_point(ndim):
    """By map_points of one transform, and by the inverse as a transform of its own."""
    transform = fitted(ndim)
    back = transform.inverse()
    points = some_points(transform.grid, margin=-0.2)  # outside too, where a velocity keeps its border value
    there = transform.map_points(points)
    assert lengths(there - points).max() > 4
    for again in (transform.map_points(there, "moving", "fixed"), back.map_points(there, "moving", "fixed")):
        assert lengths(again - points).max() < 0.01
    assert lengths(back.inverse().map_points(points) - there).max() < 1e-4
    assert (back.frm, back.to, back.grid, back.to_grid) == ("moving", "fixed", transform.to_grid, transform.grid)
    assert back.residual["max"] < 0.05 and back.residual["share"] == 1
    assert back.residual["map"].shape == back.grid.shape


@DIMENSIONS
def test_the_residual_is_what_the_mapping_back_leaves(ndim):
    transform = fitted(ndim)
    back = transform.inverse()
    y = back.grid.points().reshape(-1, ndim)
    left = lengths(transform.map_points(back.mapping().apply(y)) - y).reshape(back.grid.shape)
    assert np.abs(left - back.residual["map"]).max() < 0.05


@DIMENSIONS
def test_field_points_and_other_grids_agree(ndim):
    transform = fitted(ndim)
    for grid in grids(ndim):
        points = grid.points().reshape(-1, ndim)
        mapped = transform.map_points(points)
        by_field = points + transform.displacement(grid).reshape(ndim, -1).T
        for apart in (by_field - mapped, transform.on(grid).apply(points) - mapped):
            assert lengths(apart).max() < 0.05 and lengths(apart).mean() < 0.005
        assert np.array_equal(transform.map_points(points[3:9]), mapped[3:9])  # a point minds no other


@DIMENSIONS
def test_a_flow_may_begin_anywhere(ndim):
    """Where a mapping of the samples ends, on a grid and at points."""
    transform = fitted(ndim)
    model, theta, grid = transform.transform, transform.theta, grids(ndim)[1]
    start = fitted(ndim, 1.0).on(grid)
    ends = start.apply(grid.points().reshape(-1, ndim))
    expected = model.flow(theta, Points(ends))
    found = model.flow(theta, grid, start).reshape(ndim, -1)
    assert np.abs(expected).max() > 2 and np.abs(found - expected).max() < 0.1
    assert np.abs(found - expected).mean() < 0.005


@DIMENSIONS
def test_flow_of_constant_and_linear_velocities(ndim):
    grid = Grid.from_spacing((31, 33, 29)[:ndim], (1.0, 1.2, 0.9)[:ndim], (9.0, -3.0, 4.0)[:ndim])
    constant = np.zeros((ndim, *grid.shape3)) + np.array([3.0, -2.0, 5.0])[:ndim].reshape(ndim, 1, 1, 1)
    assert flow(constant, grid, grid).reshape(constant.shape) == pytest.approx(constant, abs=1e-12)
    generator = np.array([[0.2, -0.5, 0.1], [0.4, -0.1, 0.2], [-0.1, 0.3, 0.25]])[:ndim, :ndim]
    points = grid.points() - grid.centre
    velocity = np.moveaxis(points @ generator.T, -1, 0).reshape(constant.shape).copy()
    expected = np.moveaxis(points @ (expm(generator) - np.eye(ndim)).T, -1, 0)
    middle = (np.abs(points) < 5).all(-1)
    error = np.abs(flow(velocity, grid, grid) - expected)[:, middle].max()
    assert error < 1e-3 * np.abs(expected[:, middle]).max(), "fourth order in steps of up to two samples"


@DIMENSIONS
def test_flow_agrees_with_scaling_and_squaring(ndim):
    """Within a fifth of a sample at motions of three, where a wave has some twenty samples."""
    transform = fitted(ndim)
    grid = transform.grid
    squared = exponential(transform.theta, grid).reshape((ndim, *grid.shape))
    apart = np.sqrt(((squared - transform.mapping().field) ** 2).sum(0))
    inner = (slice(5, -5),) * ndim
    assert apart[inner].max() < 0.2 and apart[inner].mean() < 0.05


def test_the_same_bits_for_any_number_of_threads():
    transform, found = fitted(3), set()
    points = some_points(transform.grid, 40_000)
    for threads in (1, 2, 3, 7):
        with Workspace(threads):
            field = transform.transform.flow(transform.theta, transform.grid)
            found.add(field.tobytes() + transform.map_points(points).tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("model", ["svf", "symmetric", "polyaffine"])
@DIMENSIONS
def test_every_output_of_a_registration_is_the_same_flow(tmp_path, model, ndim):
    """Warped image, field, Jacobian, saved and read back; the inverse at landmarks."""
    pair = head_phantom(8.0, ndim=ndim)
    result = classreg.register(pair.fixed, pair.moving, model=model)
    transform, grid = result.transform, pair.fixed.grid
    points = grid.points().reshape(-1, ndim)
    mapped = transform.map_points(points)
    assert lengths(mapped - points).max() > 8
    by_field = points + transform.displacement().reshape(ndim, -1).T
    assert lengths(by_field - mapped).max() < 0.01 * grid.resolution
    assert np.array_equal(result.warped.array, resample(transform, pair.moving, grid).array)
    result.save(tmp_path)
    for name in ("transform.h5", "displacement.nii.gz"):
        again = read_transform(tmp_path / name, grid)
        assert lengths(again.map_points(points) - by_field).max() < 1e-3
        assert np.abs(again.jacobian_determinant() - result.jacobian).max() < 1e-3
    between = some_points(grid)
    apart = lengths(again.map_points(between) - transform.map_points(between))
    assert np.percentile(apart, 99) < 0.1 * grid.resolution  # a field is interpolated between voxels
    there = transform.map_points(between)
    back = transform.map_points(there, "moving", "fixed")
    assert lengths(back - between).max() < 0.01 * grid.resolution
    round_trip = transform.inverse().compose(transform)
    assert np.abs(round_trip.displacement()).max() < 0.02 * grid.resolution


@DIMENSIONS
@pytest.mark.parametrize("kind", ["velocity", "polyaffine"])
def test_a_saved_velocity_keeps_its_inverse(ndim, kind, tmp_path):
    transform = fitted(ndim)
    if kind == "polyaffine":
        model = Polyaffine(transform.grid, matrix_of(transform.grid), cells=4)
        theta = model.refine(model.identity(), transform.grid)
        theta += np.random.default_rng(2).standard_normal(theta.shape).astype(np.float32)
        transform = replace(transform, model="polyaffine", transform=model, theta=theta)
    write_transform(transform, tmp_path / "a.npz", format="velocity")
    points, elsewhere = some_points(transform.grid), grids(ndim)[1]
    for fixed, format in ((transform.grid, "velocity"), (elsewhere, "auto")):  # it brings its grid
        read = read_transform(tmp_path / "a.npz", fixed, transform.to_grid, format=format)
        there = read.map_points(points)
        assert np.array_equal(there, transform.map_points(points))
        assert np.array_equal(read.map_points(there, "moving", "fixed"), transform.map_points(there, "moving", "fixed"))
        assert np.array_equal(read.displacement(elsewhere), transform.displacement(elsewhere))
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["velocity"].shape == (ndim, *transform.grid.shape) and archive["matrix"].shape[0] == ndim + 1
        assert np.array_equal(archive["affine"], transform.grid.affine)


def test_archives_that_hold_no_velocity(tmp_path):
    transform = fitted(2)
    grid, path, v = transform.grid, tmp_path / "a.npz", transform.theta[:, 0]
    good = {"velocity": v, "affine": grid.affine, "matrix": np.eye(3)}
    away = grid.affine.copy()
    away[0, 2] += 1e4
    for wrong, message in (({"velocity": v[0]}, "of shape"), ({"velocity": v.astype(int)}, "floating point"),
                           ({"velocity": v + np.nan}, "not finite"), ({"affine": np.zeros((3, 3))}, "cannot be used"),
                           ({"affine": away}, "lies elsewhere"), ({"matrix": np.eye(4)}, "no array 'matrix'"),
                           ({"matrix": np.diag([1.0, 0, 1])}, "not invertible")):
        np.savez(path, **{**good, **wrong})
        with pytest.raises(InputError, match=message):
            read_transform(path, grid)
    del good["matrix"]
    np.savez(path, **good)
    with pytest.raises(InputError, match="no array 'matrix'"):
        read_transform(path, grid)
    with pytest.raises(OptionError, match="of model 'affine' has no velocity"):
        write_transform(FittedTransform.from_matrix(np.eye(3), grid), tmp_path / "b.npz", format="velocity")
    assert not (tmp_path / "b.npz").exists()

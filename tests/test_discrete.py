"""The discrete search that a deformation may start from, and how transforms take such a start."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from heads import head_phantom

import classreg
from classreg.backend import Workspace
from classreg.grid import Grid
from classreg.image import Image
from classreg.initialise.discrete import LEAST_JACOBIAN, deformation, discrete
from classreg.jacobian import jacobian_determinant
from classreg.kernels import reference
from classreg.kernels.cpu import discrete as kernels
from classreg.mapping import Mapping
from classreg.metrics import LNCC
from classreg.pyramid import normalised
from classreg.sampling import sample
from classreg.transforms import BSpline, Dense, Polyaffine, Velocity

DEFORMABLE = ("polyaffine", "bspline", "dense", "svf", "symmetric", "greedy")


def rng():
    return np.random.default_rng(5)


def texture(grid, seed=5, scale=14.0):
    """Smooth noise of about `scale` mm in world space, so that every grid sees one and the same scene."""
    r = np.random.default_rng(seed)
    d = grid.ndim
    waves, phases = r.normal(0, 2 * np.pi / (2.5 * scale), (60, d)), r.uniform(0, 2 * np.pi, 60)
    points = grid.points().reshape(-1, d)
    values = sum(np.cos(points @ w + p) for w, p in zip(waves, phases))
    inside = 1 / (1 + np.exp((np.linalg.norm((points - grid.centre) / grid.extent.max() * 2.6, axis=1) - 1) * 20))
    return Image((inside * (8 + values)).reshape(grid.shape).astype(np.float32), grid)


def oblique(shape, spacing):
    d = len(shape)
    turn = np.linalg.qr(np.eye(d) + 0.25 * np.random.default_rng(3).normal(size=(d, d)))[0]
    return Grid.from_spacing(shape, spacing, origin=[30.0, -20.0, 11.0][:d], direction=turn)


def motion(grid, peak):
    """A smooth displacement along one direction, largest in the middle, (d, *grid.shape) mm."""
    t = np.stack(np.meshgrid(*[np.linspace(0, 1, n) for n in grid.shape], indexing="ij"))
    bump = np.prod(np.sin(np.pi * t), axis=0)
    direction = np.array([0.3, 0.4, 0.87])[-grid.ndim:]
    return (peak * bump * (direction / np.linalg.norm(direction)).reshape((-1,) + (1,) * grid.ndim)).astype(np.float32)


def moved(image, peak):
    """(fixed, moving, u): the fixed image shows the moving one through id + u."""
    u = motion(image.grid, peak)
    values = sample(image, Mapping(np.eye(image.grid.ndim + 1), u, image.grid), image.grid)[0]
    return Image(values.reshape(image.grid.shape).copy(), image.grid), image, u


def error(found, truth, image):
    """Mean distance in mm where the scene is."""
    where = image.array > 3
    return float(np.sqrt(((found - truth) ** 2).sum(0))[where].mean())


@pytest.mark.parametrize("reach, pace", [((1, 2, 1), (2, 1)), ((0, 1, 2), (1, 2))])
def test_the_cost_volume_is_that_of_the_definition(reach, pace):
    r, shape = rng(), (6, 7, 9)
    fixed = r.random((4, *shape)).astype(np.float32)
    far = tuple(n + 2 * k for n, k in zip(shape, reach))
    moving, weight, there = r.random((4, *far)), r.random(shape), r.random(far)
    moving, weight, there = (a.astype(np.float32) for a in (moving, weight, there))
    bounds = [np.array(b) for b in ([[0, 4], [4, 6]], [[0, 3], [3, 7]], [[0, 5], [5, 9]])]
    shifts = np.stack(np.meshgrid(*[np.arange(2 * k + 1) for k in reach], indexing="ij"), -1).reshape(-1, 3)
    out, sums = np.empty((2, 2, 2, len(shifts)), np.float32), np.zeros((1, 1))
    kernels.cost(0, 2, 0, fixed, weight, moving, there, *bounds, np.array(pace), shifts, out, sums)
    wanted = reference.cost(fixed, weight, moving, there, *bounds, pace, shifts)
    assert np.allclose(out, wanted, rtol=1e-5) and np.isclose(sums[0, 0], wanted.sum(), rtol=1e-5)


def test_the_cheapest_shift_is_that_of_the_definition():
    r = rng()
    volume, shifts, centre = (a.astype(np.float32) for a in (r.random((20, 27)), r.normal(size=(27, 3)),
                                                             r.normal(size=(20, 3))))
    out = np.empty((20, 3), np.float32)
    kernels.cheapest(0, 20, 0, volume, shifts, 0.2, centre, out)
    assert np.array_equal(out, reference.cheapest(volume, shifts, 0.2, centre))


GRIDS = {"oblique": oblique((40, 44, 36), 5.0), "thick slices": oblique((18, 60, 52), (11.0, 3.6, 3.6)),
         "plane": oblique((90, 80), 2.5)}


@pytest.mark.parametrize("name", GRIDS)
def test_a_large_smooth_motion_is_found_on_any_grid(name):
    grid = GRIDS[name]
    peak = 0.1 * grid.extent.max()
    fixed, moving, truth = moved(texture(grid), peak)
    u, coarse = discrete(normalised(fixed), normalised(moving), np.eye(grid.ndim + 1))
    assert jacobian_determinant(u, coarse).min() > LEAST_JACOBIAN
    found = Mapping(np.eye(grid.ndim + 1), u, coarse).resampled(grid)
    before = error(0 * truth, truth, fixed)
    assert error(found, truth, fixed) < 0.25 * before


def test_a_linear_map_and_a_mask_are_taken_into_account():
    grid = GRIDS["oblique"]
    fixed, moving, truth = moved(texture(grid), 20.0)
    shift = np.eye(4)
    shift[:3, 3] = 70.0, -40.0, 25.0
    there = Image(moving.array, Grid(grid.shape, shift @ grid.affine), np.ones(grid.shape, np.float32))
    a = discrete(normalised(fixed), normalised(moving), np.eye(4))[0]
    b = discrete(normalised(fixed), normalised(there), shift)[0]
    assert np.abs(a - b).max() < 0.05


@pytest.mark.parametrize("axes", [(0,), (1, 2)])
def test_a_flipped_grid_gives_the_same_field(axes):
    grid = GRIDS["oblique"]
    fixed, moving, _ = moved(texture(grid), 20.0)
    flip = np.eye(4)
    for k in axes:
        flip[k, k], flip[k, 3] = -1, grid.shape[k] - 1
    turned = [Image(np.ascontiguousarray(np.flip(i.array, axes)), Grid(grid.shape, grid.affine @ flip))
              for i in (fixed, moving)]
    a = discrete(normalised(fixed), normalised(moving), np.eye(4))[0]
    b = discrete(*map(normalised, turned), np.eye(4))[0]
    b = np.flip(b, [k + 1 for k in axes])
    assert np.sqrt(((a - b) ** 2).sum(0)).mean() < 0.05 * np.sqrt((a**2).sum(0)).mean()


def test_the_plain_start_stays_where_nothing_moved_much():
    image = normalised(texture(GRIDS["oblique"]))
    found, note = deformation(image, image, np.eye(4), LNCC())
    assert found is None and note.startswith("none")
    line = Image(np.arange(50, dtype=np.float32).reshape(1, 1, 50), Grid.from_spacing((1, 1, 50)))
    assert deformation(line, line, np.eye(4), LNCC())[0] is None


@pytest.mark.parametrize("model", DEFORMABLE)
def test_a_motion_that_is_too_large_for_the_pyramid_is_recovered(model):
    grid = GRIDS["oblique"]
    fixed, moving, truth = moved(texture(grid, scale=7.0), 0.12 * grid.extent.max())
    plan = replace(classreg.plan(fixed, moving, model=model, init="identity", metric="lncc"), search="none")
    plan = replace(plan, stages=plan.stages[-1:])  # the linear stages would take part of it
    plain = classreg.register(fixed, moving, plan=plan)
    found = classreg.register(fixed, moving, plan=replace(plan, search="auto"))
    assert any(n.startswith("start of the deformation: discrete search") for n in found.plan.notes)
    errors = [error(r.transform.displacement(), truth, fixed) for r in (found, plain)]
    assert errors[0] < 0.7 * errors[1] and errors[0] < 0.3 * grid.resolution, errors
    again = classreg.register(fixed, moving, plan=found.plan, threads=3, callback=lambda r: r.iteration == 6)
    assert [r.value for r in again.history] == [r.value for r in found.history[:7]] and len(again.history) == 7
    assert again.plan.notes == found.plan.notes


def test_every_number_of_threads_gives_the_same_bits():
    fixed, moving, _ = moved(texture(GRIDS["oblique"]), 20.0)
    fixed, moving = normalised(fixed), normalised(moving)
    found = []
    for threads in (1, 2, 7):
        with Workspace(threads):
            (u, _), note = deformation(fixed, moving, np.eye(4), LNCC())
            found.append((u.tobytes(), note))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("kind", [BSpline, Dense, Polyaffine, Velocity])
def test_a_transform_takes_a_smooth_field(kind, ndim):
    full = oblique((48, 40, 44)[:ndim], (3.0, 2.0, 2.0)[:ndim])
    grid = full.coarsen(2)
    truth = motion(grid, 12.0)
    more = {"spacing": 4.0, "doublings": 2} if kind is BSpline else {}
    transform = kind(full, matrix=np.eye(ndim + 1), **more)
    theta = transform.fit(truth.reshape((ndim, *grid.shape3)), grid)
    found = transform.forward(theta, grid)[0].field
    assert np.abs(found - truth).max() < 0.15 * grid.resolution
    fine = transform.refine(theta, full)
    assert np.abs(transform.forward(fine, full)[0].field - motion(full, 12.0))[..., 4:-4, 4:-4].max() < 1.0


@pytest.mark.parametrize("model", DEFORMABLE)
def test_deformable_models_begin_from_any_transform(model):
    pair = head_phantom(4.0, deformation=0)
    field = motion(pair.fixed.grid, 10.0)
    begin = classreg.FittedTransform.from_mapping(Mapping(pair.matrix, field, pair.fixed.grid), pair.fixed.grid)
    plan = classreg.plan(pair.fixed, pair.moving, model=model, init=begin)
    none = replace(plan.stages[0], levels=tuple(replace(v, iterations=0) for v in plan.stages[0].levels))
    result = classreg.register(pair.fixed, pair.moving, plan=replace(plan, stages=(none,)), init=begin)
    left = result.transform.displacement() - begin.displacement()
    assert np.sqrt((left**2).sum(0)).mean() < 0.1 * pair.fixed.grid.resolution
    assert not any(n.startswith("start of the deformation") for n in result.plan.notes)


def test_a_plan_says_whether_to_search():
    pair = head_phantom(8.0)
    plan = classreg.plan(pair.fixed, pair.moving, model="greedy")
    assert plan.search == "auto" and "search = auto" in str(plan)
    always = replace(plan, search="discrete")
    assert classreg.Plan.from_dict(always.to_dict()) == always
    notes = classreg.register(pair.fixed, pair.moving, plan=always).plan.notes
    assert sum(n.startswith("start of the deformation: discrete search") for n in notes) == 1
    with pytest.raises(classreg.OptionError, match="discrete"):
        classreg.register(pair.fixed, pair.moving, plan=replace(plan, search="discreet"))

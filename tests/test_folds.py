"""No folds: the barrier, the bound between samples, and the mending of lattices that fold."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import classreg
from classreg import check
from classreg.backend import Workspace
from classreg.errors import OptionError
from classreg.grid import Grid
from classreg.image import Image
from classreg.jacobian import jacobian_determinant
from classreg.metrics import SSD
from classreg.objective import Objective
from classreg.optimisers.linesearch import backtrack
from classreg.regularisers import Volume
from classreg.spline import basis
from classreg.transforms import BSpline
from classreg.transforms.folds import gentle, least_determinants, suspects

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


def noisy(ndim, amplitude, dtype=np.float64, seed=0):
    """A model on an oblique, anisotropic grid, and a lattice of noise (mm)."""
    grid = check.scene(ndim)[0].grid
    model = BSpline(grid, 4.0, np.eye(ndim + 1))
    theta = amplitude * np.random.default_rng(seed).standard_normal(model.identity().shape)
    return model, theta.astype(dtype)


def geometry(model, theta):
    """Control points over the last d axes, cell sizes along them, their unit vectors."""
    d = model.grid.ndim
    return (theta.reshape(d, *theta.shape[4 - d:]), model.cell_size(model.cells_of(theta))[3 - d:],
            model.grid.affine[:d, :d] / model.grid.spacing)


def boxes_of(control):
    """The control points around every cell, (n, d, 4, .., 4)."""
    d = len(control)
    boxes = sliding_window_view(control, (4,) * d, axis=tuple(range(1, d + 1)))
    return np.moveaxis(boxes, 0, d).reshape(-1, d, *(4,) * d)


def dense_minimum(model, theta, steps=9):
    """The smallest determinant in every cell, on a fine grid of points, by the definition of the spline."""
    control, sizes, frame = geometry(model, theta.astype(float))
    d, t = len(control), np.linspace(0, 1, steps)
    columns = []
    for a in range(d):
        rows = [basis(t, int(a == b)) / (sizes[b] if a == b else 1) for b in range(d)]
        letters = ("ncijk,pi,qj,rk->npqrc" if d == 3 else "ncij,pi,qj->npqc")
        columns.append(np.einsum(letters, boxes_of(control), *rows, optimize=True))
    jacobian = np.linalg.det(np.stack(columns, -1) + frame) / np.linalg.det(frame)
    return jacobian.reshape(len(jacobian), -1).min(1)


@DIMENSIONS
@pytest.mark.parametrize("amplitude", [0.1, 0.6, 1.5, 3.0])
def test_the_bound_is_below_the_true_minimum_and_close_to_it(ndim, amplitude):
    model, theta = noisy(ndim, amplitude)
    control, sizes, frame = geometry(model, theta)
    truth, bound = dense_minimum(model, theta), least_determinants(boxes_of(control), sizes, frame)
    assert (bound <= truth + 1e-9).all()
    assert (truth - bound).max() < 0.35 * (1 + np.abs(truth)).max()
    assert truth[gentle(control, sizes, frame).ravel()].min(initial=np.inf) > 0
    found = suspects(control, sizes, frame).ravel()
    assert found[truth <= 0].all(), "no fold is missed"
    assert not found[truth > 0.2].any(), "what does not fold is proved not to"


@DIMENSIONS
def test_the_bound_sees_a_fold_between_samples(ndim):
    grid = Grid.from_spacing((17, 17, 17)[:ndim], spacing=1.0)
    model = BSpline(grid, 8.0, np.eye(ndim + 1))
    theta = model.identity().astype(float)
    theta[0][..., 2] = 15.0  # one column of control points, pushed along x past the next
    truth = dense_minimum(model, theta)
    assert truth.min() < 0 and model.folded(theta).any()


@DIMENSIONS
def test_the_barrier_has_its_gradient(ndim):
    model, theta = noisy(ndim, 0.9)
    step = np.random.default_rng(1).standard_normal(theta.shape)
    part, slopes = Volume(1.7, below=0.9, least=0.0), model.slopes(theta)
    value, gradient = part(theta, slopes)
    assert value > 0
    slope = np.sum(gradient * step)
    for h in (1e-4, 1e-6):
        up, down = (part(theta + e * step, slopes)[0] for e in (h, -h))
        assert (up - down) / (2 * h) == pytest.approx(slope, rel=1e-5)


@DIMENSIONS
def test_the_barrier_looks_at_corners_of_half_cells(ndim):
    model, theta = noisy(ndim, 0.9)
    d = ndim
    s = model.slopes(theta)(theta)
    jacobian = np.moveaxis(s.reshape(d, d, -1), 2, 0).swapaxes(1, 2) + geometry(model, theta)[2]
    jacobian = np.linalg.det(jacobian) / np.linalg.det(geometry(model, theta)[2])
    assert jacobian.min() == pytest.approx(dense_minimum(model, theta, steps=3).min(), rel=1e-9)
    low = jacobian[jacobian < 0.8]
    value, _ = Volume(2.0, below=0.8, least=0.1)(theta, model.slopes(theta))
    assert value == pytest.approx(2.0 * np.sum(np.log((low - 0.1) / 0.7) ** 2) / jacobian.size)
    value, gradient = Volume(below=0.99, least=0.98)(theta, model.slopes(theta))
    assert value == np.inf and gradient is None
    value, gradient = Volume(below=0.01, least=0.0)(0.1 * theta, model.slopes(theta))
    assert value == 0 and gradient is None


@DIMENSIONS
def test_a_step_that_would_fold_is_held_back_there_and_nowhere_else(ndim):
    grid = Grid.from_spacing((41,) * ndim, spacing=1.0)
    model = BSpline(grid, 2.0, np.eye(ndim + 1))
    image = Image(np.random.default_rng(0).normal(size=grid.shape).astype(np.float32), grid)
    objective = Objective(image, image, model, SSD(), [Volume()])
    theta, direction = model.identity(), np.full_like(model.identity(), 0.1)
    direction[(0, *(n // 2 for n in direction.shape[1:]))] = -9.0  # past its neighbour
    objective.renew(objective(theta))
    assert objective(theta + direction).value == np.inf
    eased = direction.copy()
    assert objective.ease(eased, theta + direction)
    corner = (slice(None), *(0,) * 3)
    assert np.array_equal(eased[corner], direction[corner]) and np.abs(eased).max() < 0.5 * np.abs(direction).max()
    assert not objective.ease(eased, theta)
    trial = backtrack(objective, theta, np.inf, direction, -direction, 1.0, 1e-3, np.empty_like(theta))
    assert trial.length == 1.0 and np.isfinite(trial.evaluation.value)


@DIMENSIONS
@pytest.mark.parametrize("amplitude", [4.0, 8.0])
def test_what_changed_is_all_that_need_be_looked_at_again(ndim, amplitude):
    model, theta = noisy(ndim, amplitude, np.float32)
    bad = model.folded(theta)
    other = np.where(bad, 0.5 * theta, theta)
    assert bad.any() and np.array_equal(model.folded(other, bad), model.folded(other))


@DIMENSIONS
def test_a_lattice_that_folds_is_mended_and_one_that_does_not_is_left_alone(ndim):
    model, theta = noisy(ndim, 4.0, np.float32)
    assert dense_minimum(model, theta).min() < 0
    level = Volume().mend(theta, model)
    assert np.isfinite(Volume()(level, model.slopes(level))[0])
    whole = Volume().mend(theta, model, everywhere=True)
    assert dense_minimum(model, whole).min() > 0 and not model.folded(whole).any()
    assert jacobian_determinant(model.forward(whole, model.grid)[0].field, model.grid).min() > 0
    assert whole.std() > 0.1 * theta.std(), "most of the motion stays"
    gentle_one = (0.1 * theta).astype(np.float32)
    assert Volume().mend(gentle_one, model, everywhere=True) is gentle_one


@pytest.mark.parametrize("bad", [dict(weight=0.0), dict(below=0.05), dict(least=-0.1), dict(below=1.5)])
def test_impossible_barriers_are_refused(bad):
    with pytest.raises(OptionError, match="volume"):
        Volume(**bad)


def blob(shape, centre, radius, ndim):
    """A soft ball on a textured background."""
    at = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    distance = np.sqrt(((at - centre) ** 2).sum(-1))
    texture = np.sin(at[..., 0] / 2.0) * np.cos(at[..., -1] / 2.5) * 0.3
    return (1 / (1 + np.exp(distance - radius)) + texture).astype(np.float32)


@DIMENSIONS
def test_a_registration_that_would_fold_does_not(ndim):
    shape = (48,) * 2 if ndim == 2 else (28,) * 3
    middle = (shape[0] - 1) / 2
    fixed, moving = blob(shape, middle, 3.0, ndim), blob(shape, middle, shape[0] / 3.2, ndim)
    plan = classreg.plan(fixed, moving, model="bspline", metric="ssd", init=np.eye(ndim + 1))
    free = [{**r, "weight": 0.01 * r["weight"]} for r in plan.stages[-1].regularisers if r["name"] != "volume"]
    parts = plan.to_dict()
    results = {}
    for name, more in (("free", []), ("held", [{"name": "volume"}])):
        parts["stages"][-1]["regularisers"] = free + more
        with Workspace(1):
            results[name] = classreg.register(fixed, moving, model="bspline", plan=classreg.Plan.from_dict(parts),
                                              init=np.eye(ndim + 1))
    folded, held = (results[k].transform for k in ("free", "held"))
    assert folded.jacobian_determinant().min() < 0, "without the barrier it folds"
    assert held.jacobian_determinant().min() > 0
    assert dense_minimum(held.transform, held.theta).min() > 0
    assert not held.transform.folded(held.theta).any()


def test_the_barrier_gives_the_same_bits_for_any_number_of_threads():
    grid = Grid.from_spacing((60, 70, 80), spacing=(1.0, 1.2, 0.9))
    model = BSpline(grid, 4.0, np.eye(4))
    theta = (0.7 * np.random.default_rng(2).standard_normal(model.identity().shape)).astype(np.float32)
    found = []
    for threads in (1, 3):
        with Workspace(threads):
            value, gradient = Volume(below=0.9, least=0.0)(theta, model.slopes(theta))
            bending = classreg.regularisers.Bending()(theta, model.grams(theta, grid))
            found.append((value, gradient.copy(), bending[0], bending[1].copy(), model.folded(theta)))
    assert found[0][0] == found[1][0] and found[0][2] == found[1][2]
    for k in (1, 3, 4):
        assert np.array_equal(found[0][k], found[1][k])

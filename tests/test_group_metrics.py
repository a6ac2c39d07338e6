"""Metrics of a stack: the contract, invariances, missing data, and what each is by its definition."""

from __future__ import annotations

import tracemalloc
from itertools import permutations

import numpy as np
import pytest

from classreg import backend, check
from classreg.backend import Workspace
from classreg.engine import Control, run_group
from classreg.errors import OptionError
from classreg.grid import Grid
from classreg.image import Image
from classreg.kernels import reference
from classreg.mapping import Mapping
from classreg.metrics import NGF, CorrelationRatio
from classreg.metrics.group import GROUP_METRICS, AllPairs, Variance, XCoReg
from classreg.metrics.group.xcoreg import filled
from classreg.metrics.information import bins_of, range_of
from classreg.objective import GroupObjective
from classreg.optimisers import GaussNewton
from classreg.sampling import sample
from classreg.schedule import Level
from classreg.transforms.log_linear import LogLinear
from classreg.transforms.stack import Stack

EVERY = pytest.mark.parametrize("name", GROUP_METRICS)


#: options of those that would take long
QUICK = {"gmm": dict(classes=2, restarts=1), "xcoreg": dict(classes=5, restarts=2)}


def made(name):
    return GROUP_METRICS[name](**QUICK.get(name, {}))


@EVERY
def test_contract(name):
    check.group_metric(lambda: made(name))


@EVERY
def test_the_same_bits_for_any_number_of_threads(name, monkeypatch):
    monkeypatch.setattr(backend, "SMALL", 1)
    stack, weights, grid = check.stack_of(3, 2, 3, np.float32)
    found = set()
    for threads in (1, 2, 3):
        with Workspace(threads):
            metric = made(name)
            metric.prepare(list(stack), grid)
            for _ in range(2):
                if hasattr(metric, "refresh"):
                    metric.refresh(stack, weights)
            value, adjoints = metric(stack, weights)
            found.add((value, np.stack(adjoints).tobytes()))
    assert len(found) == 1


@EVERY
def test_nothing_of_image_size_is_allocated_in_an_iteration(name):
    shape = (40, 60, 64)
    base = np.random.default_rng(0).standard_normal((3, 1, *shape)).astype(np.float32)
    weights, grid = np.ones((3, *shape), np.float32), Grid.from_spacing(shape)
    with Workspace(1):
        metric = refreshed(made(name), base, weights, grid, 2)
        metric(base, weights)
        tracemalloc.start()
        try:
            if hasattr(metric, "refresh"):
                metric.refresh(base, weights)
            metric(base, weights)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < weights[0].nbytes, "tables are smaller"


def test_variance_is_the_mean_variance_and_a_lone_image_does_not_agree():
    stack, _, _ = check.stack_of(2, 2, 4)
    ones = np.ones((4, *stack.shape[2:]))
    assert Variance()(stack, ones)[0] == pytest.approx(stack.var(axis=0).mean(), rel=1e-12)
    half = stack.shape[-1] // 2
    ones[1:, ..., :half] = 0  # only the first image is seen there
    value, adjoints = Variance()(stack, ones)
    assert value == pytest.approx(stack[..., half:].var(axis=0).mean(), rel=1e-12)
    assert not np.any(adjoints[0][..., :half])
    assert Variance()(stack, ones)[0] > Variance.zero >= Variance()(np.repeat(stack[:1], 4, 0), ones)[0]


def test_many_pairs_are_drawn_evenly_and_average_to_all():
    stack, weights, grid = check.stack_of(2, 1, 12)
    every, some = AllPairs("ssd", cycles=6), AllPairs("ssd", cycles=1)
    for metric in (every, some):
        metric.prepare(list(stack), grid)
    assert len(every._pairs) == 66 and not hasattr(every, "refresh"), "nothing latent"
    values, first = [], None
    for _ in range(60):
        some.refresh(stack, weights)
        drawn = [pair[:2] for pair in some._pairs]
        assert np.bincount(np.ravel(drawn), minlength=12).tolist() == [2] * 12
        first = first or drawn
        values.append(some(stack, weights)[0])
    assert drawn != first
    assert np.mean(values) == pytest.approx(every(stack, weights)[0], abs=3 * np.std(values) / 60**0.5)
    again = AllPairs("ssd", cycles=1)
    again.prepare(list(stack), grid)
    again.refresh(stack, weights)
    assert [pair[:2] for pair in again._pairs] == first


@pytest.mark.parametrize("make, words", [
    (lambda: AllPairs(CorrelationRatio()), "metric cr compares a moving image with a fixed one"),
    (lambda: AllPairs(NGF()), "metric ngf compares"),
    (lambda: AllPairs(cycles=0), "ape: cycles must be a whole number"),
])
def test_pairs_need_a_symmetric_metric_and_an_order(make, words):
    with pytest.raises(OptionError, match=words):
        make()


def refreshed(metric, stack, weights, grid, times=1):
    metric.prepare(list(stack), grid)
    for _ in range(times):
        if hasattr(metric, "refresh"):
            metric.refresh(stack, weights)
    return metric


@EVERY
def test_contrast_that_is_turned_round_matters_only_where_intensities_must_agree(name):
    """u -> 3 - u in one image: nothing changes but for variance and congealing."""
    stack, weights, grid = check.stack_of(2, 1, 3)
    turned = stack.copy()
    turned[1] = 3 - turned[1]
    values = [refreshed(made(name), s, weights, grid)(s, weights)[0] for s in (stack, turned)]
    if name in ("variance", "congealing"):
        assert values[1] > 1.02 * values[0]
    else:
        assert values[1] == pytest.approx(values[0], rel=1e-6)


@pytest.mark.parametrize("name", ["xcoreg", "ape", "cte"])
def test_information_survives_other_contrasts(name):
    """Smooth changes of contrast, rising or not: alignment is still told from a shift, by a similar margin."""
    stack, weights, grid = check.stack_of(3, 1, 3)
    base = stack[:1] + 0.05 * (stack - stack[:1])
    margins = []
    for change in (lambda u: u, lambda u: np.exp(u / 2), lambda u: np.abs(u)):
        same = base.copy()
        same[1] = change(same[1])
        shifted = same.copy()
        shifted[1] = np.roll(shifted[1], 2, -1)
        aligned, apart = (refreshed(made(name), s, weights, grid, 5)(s, weights)[0] for s in (same, shifted))
        margins.append(apart - aligned)
    assert margins[0] > 0.05 and margins[1] == pytest.approx(margins[0], rel=0.3) and margins[2] > 0.2 * margins[0]


# -- the X-metric ------------------------------------------------------------------------------------------------

def tissues(count=4, noise=0.05, shape=(1, 40, 50), seed=0):
    """Three tissues in blocks, each of its own intensity in each image, in no order; their map."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, int)
    labels[:, 8:32, 6:30], labels[:, 14:26, 24:44] = 1, 2
    levels = np.stack([rng.permutation([-1.0, 0.2, 1.4]) for _ in range(count)])
    stack = levels[:, labels][:, None] + noise * rng.standard_normal((count, 1, *shape))
    return stack, np.ones((count, *shape)), Grid.from_spacing(shape[1:], (2.0, 1.5)), labels


def agreement(posterior, labels):
    """Share of samples in their class, under the best naming of the classes."""
    found = posterior.argmax(0)
    return max(np.mean(np.take(order, found) == labels) for order in permutations(range(len(posterior))))


def test_classes_are_found_in_many_contrasts():
    for count, noise in ((3, 0.05), (12, 0.6)):
        stack, weights, grid, labels = tissues(count, noise)
        metric = refreshed(XCoReg(classes=3), stack, weights, grid, 3)
        assert metric.posterior.shape == (3, 1, 40, 50)
        assert metric.posterior.sum(0) == pytest.approx(1) and metric.posterior.min() >= 1e-3 * (1 - 1e-9)
        assert agreement(metric.posterior, labels) > 0.99
        shares = np.bincount(labels.ravel()) / labels.size
        entropy = -np.sum(shares * np.log(shares))
        assert -entropy * 1.02 < metric(stack, weights)[0] < -(0.75 if count == 3 else 0.15) * entropy


def test_an_image_that_misses_half_takes_no_part_there():
    stack, weights, grid, labels = tissues(3)
    weights[2, ..., 25:] = 0
    stack[2, ..., 25:] = stack[2, ..., 24:25]
    metric = refreshed(XCoReg(classes=3), stack, weights, grid, 3)
    assert agreement(metric.posterior, labels) > 0.99
    weights[1, ..., 25:] = 0  # now the first is alone there
    assert not np.any(metric(stack, weights)[1][0][..., 25:])


def test_information_is_that_of_a_histogram():
    """By the formula, from dense windows."""
    stack, weights, grid = check.stack_of(2, 1, 3)
    metric = refreshed(XCoReg(classes=3, bins=16, restarts=1), stack, weights, grid)
    value, share = 0.0, weights * (weights.sum(0) - weights) / 2
    for u, c, data in zip(stack[:, 0], share, stack):
        origin, scale = bins_of(range_of(data[0]), 16)
        nodes = np.arange(17 * 4 + 3)
        spline, _ = reference.parzen(np.clip(1 + (nodes - 0.5) / 4, 1.0, 18.0), 20)
        found = reference.class_histogram(u, c, metric.posterior, (origin - 1) * 4 + 1, scale * 4, len(nodes))
        p = found @ spline / c.sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            value -= np.nansum(p * np.log(p / np.outer(p.sum(1), p.sum(0)))) / 3
    assert metric(stack, weights)[0] == pytest.approx(value, rel=1e-9)


def test_steps_of_expectation_settle():
    stack, weights, grid, _ = tissues(3, 0.3)
    metric = refreshed(XCoReg(classes=3), stack, weights, grid, 1)
    values, moved = [], []
    for _ in range(12):
        before = metric.posterior.copy()
        metric.refresh(stack, weights)
        moved.append(np.abs(metric.posterior - before).mean())
        values.append(metric(stack, weights)[0])
    assert moved[-1] < 0.5 * moved[0] and moved[-1] < 2e-3
    assert np.ptp(values[-4:]) < 1e-3


def test_tempering_keeps_many_images_from_being_too_sure():
    stack, weights, grid, _ = tissues(12, 1.2)
    sure = [np.mean(refreshed(XCoReg(classes=3, tempering=t), stack, weights, grid, 3).posterior.max(0) > 0.95)
            for t in (12, 2)]
    assert sure[0] > 0.9 > 0.6 > sure[1]


def test_smoothing_takes_the_neighbours_word():
    stack, weights, grid, labels = tissues(2, 0.9)
    plain, smoothed = (agreement(refreshed(XCoReg(classes=3, smoothing=s), stack, weights, grid, 5).posterior, labels)
                       for s in (0.0, 3.0))
    assert smoothed > plain + 0.02


def test_an_empty_class_takes_half_of_the_richest():
    rng = np.random.default_rng(0)
    tables = rng.uniform(0, 1, (2, 1, 3, 12))
    tables[:, :, 1] = 0
    tables[:, :, 2] *= 5
    found = filled(tables.copy())
    assert found.sum() == pytest.approx(tables.sum())
    shares = found.sum((0, 1, 3)) / found.sum()
    assert shares.min() > 0.05 and found[:, :, 0] == pytest.approx(tables[:, :, 0])
    cut = [np.flatnonzero((found[j, 0, 1] == 0) & (found[j, 0, 2] > 0)).size for j in range(2)]
    assert sorted(c > 0 for c in cut) == [False, True], "cut in one image, alike on both sides in the other"


def test_an_atlas_names_the_classes_and_may_be_held():
    stack, weights, grid, labels = tissues(2, 0.5)
    probabilities = np.stack([0.2 + 0.6 * (labels[0] == k) for k in (2, 0, 1)])
    finer = Grid.from_spacing((80, 100), (1.0, 0.75), grid.to_world(np.zeros(2)) - [0.375, 0.5])
    atlas = Image(np.repeat(np.repeat(probabilities, 2, 1), 2, 2), finer)
    metric = refreshed(XCoReg(atlas=atlas), stack, weights, grid, 4)
    found = metric.posterior.argmax(0)
    assert np.mean(np.take([2, 0, 1], found) == labels) > 0.97, "in the order of the atlas"
    held = refreshed(XCoReg(atlas=atlas, hold=True), stack, weights, grid, 4)
    inner = np.s_[:, :, 10:12, 10:20]
    assert held.posterior[inner] == pytest.approx(probabilities[:, None][inner] / 1.2, abs=2e-3)
    outside = Image(atlas.array, Grid.from_spacing((80, 100), (1.0, 0.75), (500.0, 500.0)))
    assert refreshed(XCoReg(atlas=outside, hold=True), stack, weights, grid).posterior == pytest.approx(1 / 3)
    for wrong, text in ((dict(hold=True), "needs an atlas"), (dict(atlas=Image(labels[0] * 1.0, grid)), "has 1"),
                        (dict(atlas=atlas.with_array(-atlas.array)), "least value"), (dict(classes=1), "from 2 to 64"),
                        (dict(tempering=0.5), "at least 1"), (dict(restarts=0), "at least 1")):
        with pytest.raises(OptionError, match=text):
            XCoReg(**wrong)


# -- Gauss-Newton of linear groups -----------------------------------------------------------------------------

@pytest.mark.parametrize("still", [None, 1])
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_system_of_a_linear_group_keeps_its_gauge(ndim, still):
    """Of the variance it is, within the gauge, the second difference of the value where the images nearly agree."""
    fixed, moving = check.scene(ndim)
    images, grid = [moving.with_array((1 + 1e-3 * k) * moving.array) for k in range(3)], fixed.grid
    group = Stack([LogLinear(grid, "rigid") for _ in images], still)
    objective = GroupObjective(images, grid, group, Variance(), order=3)
    theta = group.identity()
    start = objective.renew(objective(theta))
    gradient, matrix = start.normal
    assert np.allclose(gradient, start.gradient) and np.allclose(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > 0
    step = np.linalg.solve(matrix, gradient)
    assert group.centred(step.copy()) == pytest.approx(step, abs=1e-9 * np.abs(step).max())
    along = group.centred(np.random.default_rng(0).standard_normal(theta.shape))
    values = [objective(group.retract(theta, s * 1e-2 * along), hold=True).value for s in (1, 0, -1)]
    curvature = (values[0] - 2 * values[1] + values[2]) / 1e-4
    if still is None:
        assert along @ matrix @ along == pytest.approx(curvature, rel=0.05)
    else:  # the mean moves, which changes nothing
        assert 0 < curvature < 1.02 * along @ matrix @ along


@pytest.mark.parametrize("name", ["gmm", "variance", "congealing"])
def test_gauss_newton_aligns_a_group(name):
    """Of images with contrasts of their own (where that may be), moved by known shifts, on an oblique grid."""
    fixed, moving = check.scene(2)
    moves = np.array([[1.6, -0.8], [-1.9, 1.5], [0.3, -0.7]])
    images = []
    for k, move in enumerate(moves):
        shift = np.eye(3)
        shift[:2, 2] = check.SHIFT[:2] - move
        warped = sample(moving, Mapping(shift), fixed.grid, 3)[0][0]
        contrast = 1 if name in ("variance", "congealing") else (1.0, -0.7, 1.5)[k]
        images.append(Image((contrast * warped).reshape(fixed.grid.shape).astype(np.float32), fixed.grid))
    group, control = Stack([LogLinear(fixed.grid, "translation") for _ in images]), Control()
    with Workspace(1):
        theta, _ = run_group("group", images, fixed.grid, group, GROUP_METRICS[name](), [], GaussNewton(),
                             (Level(1, 50),), group.identity(), control)
    assert np.abs(group.parts(theta) - moves).max() < 0.15

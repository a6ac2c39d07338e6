"""Sample sets: where points are drawn, how many, and that sums over them are what sums over all samples are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from heads import head_phantom

import classreg
from classreg import check
from classreg.draws import LEAST, SAMPLINGS, Random, Sobol
from classreg.errors import OptionError
from classreg.metrics import SSD, Composite, MutualInformation
from classreg.objective import Objective
from classreg.transforms import Linear

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
NAMES = pytest.mark.parametrize("name", SAMPLINGS)


def draw_on(image, name, samples=1000, seed=0):
    return SAMPLINGS[name](samples).on(image, np.random.default_rng(seed))


@DIMENSIONS
@NAMES
def test_points_lie_between_the_outermost_samples_off_the_lattice(name, ndim):
    fixed, _ = check.scene(ndim)
    index = fixed.grid.to_index(draw_on(fixed, name)().world)
    assert index.min() > -1e-9 and (index <= np.array(fixed.grid.shape) - 1 + 1e-9).all()
    assert (np.abs(index - np.round(index)) > 1e-3).mean() > 0.9
    assert np.allclose(index.mean(0), (np.array(fixed.grid.shape) - 1) / 2, atol=1.0), "over all of the image"


@DIMENSIONS
@NAMES
def test_points_lie_in_the_mask(name, ndim):
    fixed, _ = check.scene(ndim)
    mask = np.zeros(fixed.grid.shape)
    mask[..., 3:7] = 1
    index = fixed.grid.to_index(draw_on(replace(fixed, weight=mask), name)().world)
    assert 2.5 - 1e-9 <= index[:, -1].min() < 2.7 and 6.3 < index[:, -1].max() <= 6.5 + 1e-9
    assert np.ptp(index[:, 0]) > 0.8 * (fixed.grid.shape[0] - 1)


@NAMES
def test_a_one_sample_axis_keeps_its_place(name):
    fixed = head_phantom(8.0).fixed
    flat = classreg.Image(fixed.array[:1], classreg.Grid((1, *fixed.grid.shape[1:]), fixed.grid.affine))
    assert np.abs(flat.grid.to_index(draw_on(flat, name)().world)[:, 0]).max() < 1e-9


def test_how_many_are_drawn():
    fixed, _ = check.scene(3)
    assert len(draw_on(fixed, "random", 100)().world) == 100
    assert len(draw_on(fixed, "random", 100)(4).world) == 400
    assert len(draw_on(fixed, "random", 0.5)().world) == round(0.5 * fixed.grid.size)
    assert len(draw_on(fixed, "random", 1e-6)().world) == LEAST
    assert len(draw_on(fixed, "sobol", 100)().world) == 128


@NAMES
def test_no_more_are_drawn_than_the_level_has(name):
    fixed, _ = check.scene(2)
    most = fixed.grid.size if name == "random" else 1 << int(np.ceil(np.log2(fixed.grid.size)))
    few = replace(fixed, weight=np.eye(*fixed.grid.shape))
    for image, samples in ((fixed, 1e9), (fixed, 1 << 31), (few, 1e9)):
        assert len(draw_on(image, name, samples)().world) == most
    assert len(draw_on(few, "random", 0.999)().world) == LEAST, "a share of those in the mask"


@NAMES
def test_the_seed_alone_decides(name):
    fixed, _ = check.scene(3)
    first, again, other = (draw_on(fixed, name, seed=s) for s in (0, 0, 1))
    a, b = first().world, first().world
    assert np.array_equal(a, again().world) and np.array_equal(b, again().world)
    assert not np.array_equal(a, b) and not np.array_equal(a, other().world)


@DIMENSIONS
def test_sobol_sums_vary_less(ndim):
    fixed, _ = check.scene(ndim)

    def spread(name):
        draw = draw_on(fixed, name, 1024)
        return np.std([np.sin(draw().world / 10).mean() for _ in range(20)])

    assert spread("sobol") < 0.5 * spread("random")


@pytest.mark.parametrize("samples", [0, -3, 10, 100.5, 1.0, 3e9, 1e300, float("nan"), float("inf"), True, "64"])
@pytest.mark.parametrize("kind", [Random, Sobol])
def test_a_wrong_number_is_refused(kind, samples):
    with pytest.raises(OptionError, match="samples must be a whole number from 64 to 2147483648, or a share"):
        kind(samples)


@DIMENSIONS
@pytest.mark.parametrize("metric", [SSD, MutualInformation])
def test_an_objective_of_many_samples_is_that_of_all(metric, ndim):
    """Interpolated on both sides: alike, not equal; and its ranges are those of the level, whatever is drawn."""
    fixed, moving = check.scene(ndim)
    model = Linear(fixed.grid, "affine")
    theta = model.retract(model.identity(), np.full(len(model.tangent(model.identity())), 0.4))
    every = Objective(fixed, moving, model, metric(), order=3)(theta)
    part = metric()
    objective = Objective(fixed, moving, model, part, draw=draw_on(fixed, "sobol", 1 << 15), order=3)
    ranges, few = getattr(part, "ranges", None), objective(theta)
    assert few.value == pytest.approx(every.value, rel=0.1)
    cosine = few.gradient @ every.gradient / np.sqrt(few.gradient @ few.gradient * (every.gradient @ every.gradient))
    assert cosine > 0.97
    objective.draw()
    assert objective.epoch == 1 and objective(theta).value != few.value
    assert getattr(part, "ranges", None) == ranges


@DIMENSIONS
def test_gauss_newton_matrix_at_points(ndim):
    fixed, moving = check.scene(ndim, 2)
    model = Linear(fixed.grid, "affine")
    theta = model.retract(model.identity(), np.full(len(model.tangent(model.identity())), 0.4))
    every = Objective(fixed, moving, model, SSD())(theta).normal[1]
    few = Objective(fixed, moving, model, SSD(), draw=draw_on(fixed, "sobol", 1 << 15))(theta).normal[1]
    assert np.abs(few - every).max() < 0.1 * np.abs(every).max()


# -- at the door ---------------------------------------------------------------------------------------------

PAIR = head_phantom(8.0)


def refused(message, **options):
    with pytest.raises(OptionError, match=message):
        classreg.register(PAIR.fixed, PAIR.moving, callback=lambda r: pytest.fail("an iteration ran"), **options)


def test_wrong_choices_are_refused_with_a_sentence():
    refused("unknown optimiser 'asdg'; did you mean 'asgd'", optimiser="asdg")
    refused("unknown sampling 'randon'; did you mean 'random'", sampling="randon")
    refused("optimiser must be a name", optimiser=3)
    refused("unknown option of optimiser 'asgd': 'stp'", optimiser={"name": "asgd", "stp": 1})
    refused("samples must be a whole number", sampling={"name": "random", "samples": 3})
    refused("LNCC looks at neighbourhoods", metric="lncc", sampling="random")
    refused("Dense is evaluated at every voxel", model="dense", sampling="random", metric="mi")
    refused("Gaussian only smooths, which ASGD never does", model="greedy", optimiser="asgd", metric="mi")
    refused("moves dense fields; BSpline is none", optimiser="greedy")


def test_choices_reach_the_last_stage():
    plan = classreg.plan(PAIR.fixed, PAIR.moving, model="affine", optimiser={"name": "descent", "first_step": 0.3},
                         sampling={"name": "sobol", "samples": 0.25}, metric="ncc")
    first, last = plan.stages
    assert first.sampling is None and first.optimiser["name"] == "gauss_newton"
    assert last.optimiser == {"name": "descent", "first_step": 0.3}
    assert last.sampling == {"name": "sobol", "samples": 0.25}


def test_asgd_draws_where_the_metric_can_do_with_it():
    kinds = {m: classreg.plan(PAIR.fixed, PAIR.moving, optimiser="asgd", metric=m).stages[-1] for m in
             ("auto", "ncc", "lncc")}
    assert kinds["auto"].metric["name"] == "mi" and kinds["auto"].sampling["name"] == "random"
    assert kinds["ncc"].sampling["name"] == "random" and kinds["lncc"].sampling is None


def test_a_composite_takes_samples_if_its_parts_do():
    parts = {"name": "composite", "parts": [{"metric": "mi"}, {"metric": "ncc", "weight": 0.5}]}
    plan = classreg.plan(PAIR.fixed, PAIR.moving, model="affine", metric=parts, optimiser="asgd")
    assert plan.stages[-1].sampling["name"] == "random"
    check.metric(lambda: Composite([{"metric": MutualInformation()}, {"metric": SSD(), "channels": [0]}]))
    refused("Composite looks at neighbourhoods", metric="composite", sampling="random")

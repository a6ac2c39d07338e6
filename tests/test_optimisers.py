"""Optimisers: the contract over the dictionary, small problems with known minima, what they need; and whole
registrations, which give the same bits for any number of threads.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from heads import head_phantom

import classreg
from classreg import check
from classreg.backend import SMALL, Workspace
from classreg.draws import Random, Sobol
from classreg.engine import Control, check_needs, run
from classreg.errors import ConvergenceError, OptionError
from classreg.grid import Grid
from classreg.image import Image
from classreg.mapping import Mapping
from classreg.metrics import LNCC, METRICS, NCC, SSD, MutualInformation
from classreg.models import MODELS, build
from classreg.objective import Objective
from classreg.optimisers import ASGD, LBFGS, OPTIMISERS, Adam, Descent, GaussNewton, Greedy, NewtonCG
from classreg.regularisers import Bending, Diffusion, Gaussian, Neighbours
from classreg.sampling import sample
from classreg.schedule import Level
from classreg.transforms import BSpline, Dense, Linear, Polyaffine, Velocity

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


def smoothers(field):
    return [Gaussian(1.5, "update"), Gaussian(0.5, field)]


def solve(fixed, moving, model, metric, regularisers, optimiser, count, control=None, factors=(1,), **more):
    """The engine from the identity on; theta and how it ended."""
    levels = tuple(Level(f, count) for f in factors)
    return run("test", fixed, moving, model, metric, regularisers, optimiser, levels, model.identity(),
               control or Control(), **more)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_contract(name):
    check.optimiser(OPTIMISERS[name])


def test_contract_with_steps_of_one_length():
    check.optimiser(lambda: Greedy(pace="even", step=0.1))
    with pytest.raises(OptionError, match="unknown pace of greedy 'evn'; did you mean 'even'"):
        Greedy(pace="evn")


@pytest.mark.parametrize("name, option, bound, values", [
    *((name, option, "finite number above 0", (0, -1, np.inf, np.nan, 10**400, "x", True)) for name, option in (
        ("adam", "step"), ("asgd", "step"), ("asgd", "length"), ("descent", "first_step"), ("lbfgs", "first_step"),
        ("newton_cg", "longest"), ("greedy", "step"), ("greedy", "damping"))),
    *((name, "tolerance", "finite number of at least 0", (-1, np.nan, None)) for name in (
        "descent", "lbfgs", "newton_cg", "gauss_newton", "greedy")),
    *((name, option, "whole number of at least 1", (0, -1, 2.5, True)) for name, option in (
        ("adam", "decay"), ("newton_cg", "inner"), ("greedy", "patience"))),
    ("asgd", "offset", r"finite number from 0 to 1e\+06", (-1, 1e300)), ("asgd", "power", "finite number from 0 to 10",
                                                                        (-1, 11)),
    ("lbfgs", "memory", "whole number from 0 to 1000", (-1, 1001)),
])
def test_options_outside_their_range_are_refused(name, option, bound, values):
    for value in values:
        with pytest.raises(OptionError, match=f"^{name}: {option} must be a {bound}, got "):
            OPTIMISERS[name](**{option: value})
        with pytest.raises(OptionError, match=f"{option} "):
            build({"name": name, option: value}, OPTIMISERS, "optimiser")


@DIMENSIONS
def test_an_even_pace_moves_all_places_by_one_factor_and_the_farthest_by_the_step(ndim):
    fixed, moving = check.scene(ndim)
    model = Dense(fixed.grid, np.eye(ndim + 1), compositive=True)
    smooth = [Gaussian(1.0, "update"), Gaussian(0.0, "displacement")]
    theta, optimiser = model.refine(model.identity(), fixed.grid), Greedy(pace="even", step=0.3)
    with Workspace(1):
        objective = Objective(fixed, moving, model, SSD(), smooth)
        force = objective(theta).gradient.copy()
        wanted = -smooth[0].smooth(force, fixed.grid, np.empty_like(force))
        moved = optimiser.step(objective, theta, optimiser.init(objective, theta))
    length = np.sqrt((moved**2).sum(0))
    assert np.isclose(length.max(), 0.3 * fixed.grid.resolution, rtol=1e-5)
    assert np.allclose(moved * np.sqrt((wanted**2).sum(0)).max() / length.max(), wanted, rtol=1e-4, atol=1e-9)
    with Workspace(1):
        empty = Image(np.zeros_like(fixed.array), fixed.grid)
        objective = Objective(empty, empty, model, SSD(), smooth)
        state = optimiser.init(objective, theta)
        optimiser.step(objective, theta, state)
    assert state.done == "the force is zero"


@pytest.mark.parametrize("broken, message", [
    (dict(step=lambda self, objective, theta, state: theta), "mm from the minimum"),
    (dict(step=lambda self, objective, theta, state: theta + 0.3), "state.value is not that of theta"),
    (dict(needs=frozenset({"luck"})), "needs is"),
])
def test_the_contract_check_refuses_a_broken_optimiser(broken, message):
    with pytest.raises(AssertionError, match=message):
        check.optimiser(type("Broken", (LBFGS,), broken))


def test_the_contract_check_refuses_an_optimiser_that_forgets_its_best():
    class Forgetful(Adam):
        def step(self, objective, theta, state):
            theta = super().step(objective, theta, state)
            state.best, state.best_value = theta, state.value
            return theta

    with pytest.raises(AssertionError, match="the best value is .*; seen were"):
        check.optimiser(Forgetful)


# -- known minima --------------------------------------------------------------------------------------------

def known(ndim, kind, seed=0):
    """A member of a linear model some mm from the identity, and two images of which it is the minimum."""
    _, moving = check.scene(ndim)
    grid = check.scene(ndim)[0].grid
    model = Linear(grid, kind)
    count = len(model.tangent(model.identity()))
    rng = np.random.default_rng(seed)
    truth = model.retract(model.identity(), rng.choice([-1, 1], count) * rng.uniform(0.5, 0.9, count))
    array = sample(moving, model.forward(truth, grid)[0], grid)[0].reshape(grid.shape).copy()
    return model, truth, Image(array, grid), moving


def distance(model, theta, truth):
    """Largest distance in mm of two transforms over the grid."""
    points = model.grid.points().reshape(-1, model.grid.ndim)
    a, b = (model.forward(t, model.grid)[0].apply(points) for t in (theta, truth))
    return np.linalg.norm(a - b, axis=1).max()


@DIMENSIONS
@pytest.mark.parametrize("kind", ["translation", "rigid", "similarity", "affine"])
@pytest.mark.parametrize("optimiser, metric", [
    (GaussNewton, SSD), (GaussNewton, NCC),
    (LBFGS, SSD), (LBFGS, NCC), (LBFGS, LNCC), (LBFGS, MutualInformation)])
def test_linear_models_find_the_known_transform(optimiser, metric, kind, ndim):
    model, truth, fixed, moving = known(ndim, kind)
    assert distance(model, model.identity(), truth) > 0.7
    optimiser = optimiser(tolerance=1e-4)
    theta, ending = solve(fixed, moving, model, metric(), [], optimiser, 60, tolerance=1e-9)
    allowed = 0.25 if metric is MutualInformation else 0.05  # few samples for a histogram
    assert distance(model, theta, truth) < allowed, ending


@DIMENSIONS
@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_gauss_newton_converges_in_a_few_steps(kind, ndim):
    model, truth, fixed, moving = known(ndim, kind)
    control = Control()
    theta, _ = solve(fixed, moving, model, NCC(), [], GaussNewton(), 60, control)
    assert distance(model, theta, truth) < 0.05 and len(control.history) <= 8


@DIMENSIONS
@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_descent_finds_the_known_transform(kind, ndim):
    model, truth, fixed, moving = known(ndim, kind)
    theta, ending = solve(fixed, moving, model, SSD(), [], Descent(tolerance=1e-4), 200, tolerance=1e-9)
    assert distance(model, theta, truth) < 0.1, ending


@DIMENSIONS
@pytest.mark.parametrize("sampling", [Random(512), Sobol(512)])
@pytest.mark.parametrize("kind", ["rigid", "similarity", "affine"])
def test_drawn_samples_find_the_known_transform(kind, sampling, ndim):
    model, truth, fixed, moving = known(ndim, kind)
    control = Control()
    theta, _ = solve(fixed, moving, model, NCC(), [], ASGD(), 300, control, sampling=sampling)
    assert distance(model, theta, truth) < 0.15
    assert len(control.history) == 301, "values of different samples do not compare: they end no level"
    theta, _ = solve(fixed, moving, model, NCC(), [], GaussNewton(), 60, sampling=sampling)
    assert distance(model, theta, truth) < 0.15, "one set of samples for the level"


def test_a_stochastic_run_keeps_its_start_where_that_is_better():
    """Two steps that are much too long: the start wins on the common samples."""
    model, truth, fixed, moving = known(3, "affine")
    levels = (Level(1, 2),)
    theta, _ = run("test", fixed, moving, model, SSD(), [], ASGD(step=30.0), levels, truth, Control(),
                   sampling=Random(512))
    assert np.array_equal(theta, truth)


#: every deformable model with an optimiser that serves it
DEFORMABLE = {
    "bspline": lambda g: (BSpline(g, 5.0, np.eye(g.ndim + 1)), LBFGS(), [Bending(1.0)]),
    "bspline-adam": lambda g: (BSpline(g, 5.0, np.eye(g.ndim + 1)), Adam(0.25, decay=100), [Bending(1.0)]),
    "dense": lambda g: (Dense(g, np.eye(g.ndim + 1)), Adam(0.25, decay=100), [Diffusion(0.01)]),
    "dense-lbfgs": lambda g: (Dense(g, np.eye(g.ndim + 1)), LBFGS(), [Diffusion(0.01)]),
    "bspline-newton": lambda g: (BSpline(g, 5.0, np.eye(g.ndim + 1)), NewtonCG(), [Bending(1.0)]),
    "bspline-descent": lambda g: (BSpline(g, 5.0, np.eye(g.ndim + 1)), Descent(), [Bending(1.0)]),
    "bspline-asgd": lambda g: (BSpline(g, 5.0, np.eye(g.ndim + 1)), ASGD(), [Bending(1.0)]),
    "dense-newton": lambda g: (Dense(g, np.eye(g.ndim + 1)), NewtonCG(), [Diffusion(0.01)]),
    "dense-greedy": lambda g: (Dense(g, np.eye(g.ndim + 1)), Greedy(), smoothers("displacement")),
    "greedy": lambda g: (Dense(g, np.eye(g.ndim + 1), compositive=True), Greedy(), smoothers("displacement")),
    "velocity": lambda g: (Velocity(g, np.eye(g.ndim + 1)), Greedy(), smoothers("velocity")),
    "exact-greedy": lambda g: (Velocity(g, np.eye(g.ndim + 1), gradient="exact"), Greedy(), smoothers("velocity")),
    "exact-lbfgs": lambda g: (Velocity(g, np.eye(g.ndim + 1), gradient="exact"), LBFGS(),
                              [Diffusion(0.02, acts_on="velocity")]),
    "polyaffine": lambda g: (Polyaffine(g, np.eye(g.ndim + 1), cells=4), LBFGS(), [Neighbours(0.1)]),
}


@DIMENSIONS
@pytest.mark.parametrize("name", DEFORMABLE)
@pytest.mark.parametrize("metric", [SSD, LNCC])
def test_deformable_models_approach_the_known_shift(name, metric, ndim):
    """The points of the scene move by SHIFT; the value falls, and the best theta is returned, in float32."""
    fixed, moving = check.scene(ndim, dtype=np.float32)
    model, optimiser, regularisers = DEFORMABLE[name](fixed.grid)
    control = Control()
    theta, _ = solve(fixed, moving, model, metric(), regularisers, optimiser, 40, control, factors=(2, 1))
    assert theta.dtype == np.float32
    field = model.forward(theta, fixed.grid)[0].total_displacement(fixed.grid)
    error = np.linalg.norm(np.moveaxis(field, 0, -1) - check.SHIFT[:ndim], axis=-1)
    assert np.median(error) < 0.5 * np.linalg.norm(check.SHIFT[:ndim]), "grey values tell half of it and more"
    last = [r for r in control.history if r.level == 2]
    best = Objective(fixed, moving, model, metric(), regularisers)(theta).value
    least = min(r.value for r in last)
    if hasattr(optimiser, "finish"):  # the mean of iterates may be better than any
        assert best <= least * (1 + 1e-5)
    else:
        assert best == pytest.approx(least, rel=1e-5), "the best iterate, unspoiled"
    assert best < 0.5 * Objective(fixed, moving, model, metric(), regularisers)(0 * theta).value


@pytest.mark.parametrize("name", DEFORMABLE)
def test_never_worse_than_a_perfect_start(name):
    fixed, _ = check.scene(3, dtype=np.float32)
    model, optimiser, regularisers = DEFORMABLE[name](fixed.grid)
    control = Control()
    theta, _ = solve(fixed, fixed, model, SSD(), regularisers, optimiser, 8, control)
    assert control.history[0].value == pytest.approx(0, abs=1e-6)
    assert Objective(fixed, fixed, model, SSD(), regularisers)(theta).value <= control.history[0].value + 1e-9


@pytest.mark.parametrize("name", [n for n in OPTIMISERS if "smooth" not in OPTIMISERS[n].needs])
def test_no_gradient_is_an_ending_not_an_error(name):
    """A constant image gives no force: the run ends where it began and says so."""
    fixed, moving = check.scene(3)
    flat = moving.with_array(np.full_like(moving.array, 0.5))
    model = Linear(fixed.grid, "translation")
    if "product" in OPTIMISERS[name].needs:
        model = BSpline(fixed.grid, 5.0, np.eye(4))
    theta, ending = solve(fixed, flat, model, SSD(), [], OPTIMISERS[name](), 20)
    assert np.array_equal(theta, np.zeros_like(theta) if theta.ndim > 1 else model.identity()) and ending


@pytest.mark.parametrize("level", [1, 2])
def test_an_interrupt_leaves_a_usable_transform(level):
    """Ctrl-C before a level's first evaluation: what came before is returned, on the grid that the model is at."""
    class Interrupted(SSD):
        prepared = 0

        def prepare(self, fixed, moving, grid):
            super().prepare(fixed, moving, grid)
            self.prepared += 1
            if self.prepared == level:
                raise KeyboardInterrupt

    fixed, moving = check.scene(3, dtype=np.float32)
    model = Dense(fixed.grid, np.eye(4))
    theta, ending = solve(fixed, moving, model, Interrupted(), [Diffusion()], Adam(), 2, factors=(2, 1))
    assert ending == "interrupted"
    assert np.isfinite(model.forward(theta, fixed.grid)[0].total_displacement(fixed.grid)).all()


# -- declared needs ------------------------------------------------------------------------------------------

GRID = check.scene(3)[0].grid
LINEAR, SPLINE, FIELD = Linear(GRID, "affine"), BSpline(GRID, 5.0, np.eye(4)), Dense(GRID, np.eye(4))
COMPOSITIVE, VELOCITY = Dense(GRID, np.eye(4), compositive=True), Velocity(GRID, np.eye(4))


class Plain:
    """A metric of the protocol's least: a value and an adjoint."""

    def prepare(self, fixed, moving, grid):
        self.fixed = fixed

    def describe(self, image):
        return image

    def __call__(self, warped, weight):
        return 0.5 * float(np.mean(weight * (warped - self.fixed) ** 2)), weight * (warped - self.fixed) / warped.size


@pytest.mark.parametrize("optimiser, transform, metric, regularisers, message", [
    (GaussNewton(), LINEAR, Plain(), [], "a metric with a curvature, which Plain has not; use lbfgs, or ssd"),
    (GaussNewton(), SPLINE, SSD(), [], "linear models; BSpline has too many: use lbfgs"),
    (Greedy(), SPLINE, SSD(), smoothers("displacement"), "moves dense fields; BSpline is none: use lbfgs"),
    (Greedy(), LINEAR, SSD(), smoothers("displacement"), "moves dense fields; Linear is none: use lbfgs"),
    (Greedy(), FIELD, SSD(), [], "smooths the update: add gaussian with acts_on='update'"),
    (Greedy(), FIELD, SSD(), [Gaussian(1.0, "update")], "add gaussian with acts_on='displacement'"),
    (Greedy(), VELOCITY, SSD(), smoothers("displacement"), "add gaussian with acts_on='velocity'"),
    (LBFGS(), COMPOSITIVE, SSD(), [], "adds steps, but Dense composes them: use the greedy optimiser"),
    (Adam(), VELOCITY, SSD(), [], "adds steps, but Velocity composes them: use the greedy"),
    (LBFGS(), LINEAR, SSD(), [Bending()], "Bending.*Linear"),
    (NewtonCG(), LINEAR, SSD(), [], "moves B-splines and dense displacements; Linear is neither: use gauss_newton"),
    (NewtonCG(), SPLINE, Plain(), [], "a metric with a curvature, which Plain has not; use lbfgs"),
    (NewtonCG(), COMPOSITIVE, SSD(), [], "adds steps, but Dense composes them"),
    (ASGD(), COMPOSITIVE, SSD(), [], "adds steps, but Dense composes them"),
])
def test_needs_are_checked_before_the_first_iteration(optimiser, transform, metric, regularisers, message):
    fixed, moving = check.scene(3)
    control = Control()
    with pytest.raises(OptionError, match=message):
        solve(fixed, moving, transform, metric, regularisers, optimiser, 2, control)
    assert control.history == []


@pytest.mark.parametrize("optimiser, transform, metric, message", [
    (ASGD(), LINEAR, LNCC(), "LNCC looks at neighbourhoods, which Random samples do not have: use mi, ncc or ssd"),
    (ASGD(), LINEAR, Plain(), "Plain looks at neighbourhoods"),
    (LBFGS(), FIELD, SSD(), "Dense is evaluated at every voxel.*leave sampling out"),
    (Greedy(), SPLINE, SSD(), "Greedy smooths a force at every voxel: leave sampling out"),
    (NewtonCG(), SPLINE, SSD(), "NewtonCG takes the curvature at every voxel: leave sampling out"),
])
def test_samples_are_refused_where_all_count(optimiser, transform, metric, message):
    with pytest.raises(OptionError, match=message):
        check_needs(optimiser, transform, metric, [], sampling=Random())


@pytest.mark.parametrize("name", DEFORMABLE)
def test_good_pairings_pass(name):
    model, optimiser, regularisers = DEFORMABLE[name](GRID)
    check_needs(optimiser, model, SSD(), regularisers)


# -- the whole engine, bit by bit ----------------------------------------------------------------------------

#: metrics per model, so that every kernel takes part
METRICS_OF = {"translation": ["ssd"], "rigid": ["mi", "sad"], "similarity": ["ncc"], "affine": ["lncc", "cr"],
              "bspline": ["lncc", "ngf"], "dense": ["mi", "nmi"], "greedy": ["lncc", "mind", "composite"],
              "svf": ["ncc"], "symmetric": ["lncc", "mi"], "polyaffine": ["lncc"]}


def large_pair():
    """Above the size from which kernels run on the pool."""
    fixed, moving = check.scene(3, dtype=np.float32)
    grid = Grid((36, 35, 37), fixed.grid.affine @ np.diag([0.33, 0.5, 0.4, 1.0]))
    assert grid.size > SMALL
    warped, _, _ = sample(fixed, Mapping(np.eye(4)), grid, 3)
    return Image(warped[0].copy(), grid), moving


def test_every_model_and_metric_takes_part():
    assert set(METRICS_OF) == set(MODELS) and set(sum(METRICS_OF.values(), [])) == set(METRICS)


@pytest.mark.parametrize("model, metric", [(model, metric) for model in METRICS_OF for metric in METRICS_OF[model]])
def test_a_registration_gives_the_same_bits_for_any_number_of_threads(model, metric):
    fixed, moving = large_pair()
    start = np.eye(4)
    start[:3, 3] = 0.5 * check.SHIFT
    found = set()
    for threads in (1, 3):
        result = classreg.register(fixed, moving, model=model, metric=metric, init=start,
                                   levels=(1.5, 1), iterations=(2, 3), threads=threads)
        assert [r.iteration for r in result.history if r.level == 2][:2] == [0, 1], "iterations were made"
        found.add((result.transform.theta.tobytes(), tuple((r.value, r.step) for r in result.history)))
    assert len(found) == 1


@pytest.mark.parametrize("model, more", [
    ("bspline", dict(optimiser="asgd", sampling={"name": "random", "samples": 40000})),
    ("bspline", dict(optimiser="lbfgs", sampling="sobol")),
    ("affine", dict(optimiser="gauss_newton", sampling={"name": "sobol", "samples": 0.9})),
    ("bspline", dict(optimiser="newton_cg")), ("dense", dict(optimiser="newton_cg")),
    ("dense", dict(optimiser="descent"))])
def test_other_optimisers_and_samples_give_the_same_bits_for_any_number_of_threads(model, more):
    fixed, moving = large_pair()
    start = np.eye(4)
    start[:3, 3] = 0.5 * check.SHIFT
    found = set()
    for threads in (1, 3):
        result = classreg.register(fixed, moving, model=model, metric="ncc", init=start, levels=(1.5, 1),
                                   iterations=(2, 3), threads=threads, **more)
        assert [r.iteration for r in result.history if r.level == 2][:2] == [0, 1], "iterations were made"
        found.add((result.transform.theta.tobytes(), tuple((r.value, r.step) for r in result.history)))
    assert len(found) == 1


def test_the_plan_seeds_the_samples():
    pair = head_phantom(8.0)
    plan = classreg.plan(pair.fixed, pair.moving, model="rigid", optimiser="asgd", iterations=40, init=np.eye(4))
    assert "sampling = random(samples=4096)" in str(plan) and classreg.Plan.from_dict(plan.to_dict()) == plan
    runs = [classreg.register(pair.fixed, pair.moving, plan=replace(plan, seed=s), init=np.eye(4)) for s in (3, 3, 4)]
    a, b, c = (r.transform.theta.tobytes() for r in runs)
    assert a == b != c


def test_the_whole_way_from_initialisation_gives_the_same_bits():
    fixed, moving = large_pair()
    found = [classreg.register(fixed, moving, model="affine", iterations=2, threads=t) for t in (1, 3)]
    assert found[0].transform.theta.tobytes() == found[1].transform.theta.tobytes()
    assert [r.value for r in found[0].history] == [r.value for r in found[1].history]


def test_adam_shortens_a_step_that_a_barrier_refuses():
    pair = head_phantom(6.0, ndim=2)
    plan = classreg.plan(pair.fixed, pair.moving, model="bspline")
    stage = replace(plan.stages[-1], optimiser={"name": "adam", "step": 4.0})
    result = classreg.register(pair.fixed, pair.moving, plan=replace(plan, stages=(*plan.stages[:-1], stage)))
    assert result.jacobian.min() > 0 and all(np.isfinite(r.value) for r in result.history)


def test_a_start_that_a_barrier_refuses_is_a_sentence():
    class Wall:
        acts_on = "displacement"

        def __call__(self, theta, grams):
            return np.inf, np.zeros_like(theta)

    fixed, moving = check.scene(2)
    transform = Dense(fixed.grid, np.eye(3))
    for optimiser in (LBFGS(), Adam()):
        with pytest.raises(ConvergenceError, match="level 1, iteration 0: wall is not finite"):
            run("x", fixed, moving, transform, SSD(), [Wall()], optimiser, (Level(1, 2),), transform.identity(),
                Control())


def test_greedy_steps_feel_energies():
    fixed, moving = check.scene(2)
    transform = Dense(fixed.grid, np.eye(3))
    theta = transform.refine(transform.identity(), fixed.grid).astype(np.float64)
    theta += np.random.default_rng(0).standard_normal(theta.shape)
    plain, stiff = (Objective(fixed, moving, transform, SSD(), r)(theta).normal[0].copy()
                    for r in ((), (Diffusion(10.0),)))
    _, energy = Diffusion(10.0)(theta, transform.grams(theta, fixed.grid))
    assert np.allclose(stiff[:2] - plain[:2], energy) and np.array_equal(stiff[2], plain[2])

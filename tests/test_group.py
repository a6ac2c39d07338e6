"""Groups of images that all move, the pair among them: exact gradients, the gauge, and neither image preferred."""

from __future__ import annotations

import tracemalloc
from functools import partial

import numpy as np
import pytest
from heads import head_phantom

import classreg
from classreg import api, check
from classreg.backend import Workspace
from classreg.engine import Control, mended, run_group
from classreg.errors import InputError, OptionError
from classreg.grid import Grid
from classreg.image import Image
from classreg.mapping import Mapping, invert_points
from classreg.metrics import METRICS, NCC, SSD
from classreg.metrics.base import Metric
from classreg.metrics.group import AllPairs, Variance
from classreg.objective import GroupObjective
from classreg.optimisers import LBFGS, Adam, Greedy
from classreg.regularisers import Bending, Gaussian, Temporal, Volume
from classreg.sampling import sample
from classreg.schedule import Level
from classreg.stencil import smooth
from classreg.transforms import PAIRED, BSpline, Dense, Halves, Linear, LinearHalves, LogLinear, Velocity
from classreg.transforms.halves import half, template
from classreg.transforms.linear import KINDS
from classreg.transforms.stack import Stack

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
SYMMETRIC = [name for name in METRICS if METRICS[name].symmetric]
EVERY = pytest.mark.parametrize("name", SYMMETRIC)


def matrix_about(grid, seed=0, size=0.05):
    """A small turn, stretch and shift about the centre of a grid."""
    d, out = grid.ndim, np.eye(grid.ndim + 1)
    rng = np.random.default_rng(seed)
    out[:d, :d] += size * rng.standard_normal((d, d))
    out[:d, d] = grid.centre - out[:d, :d] @ grid.centre + rng.standard_normal(d)
    return out


def stack_of(ndim, count=3, dtype=np.float64):
    """Warped images of a scene, smoothed differently, and weights."""
    fixed, moving = check.scene(ndim, 2, dtype)
    warped = sample(moving, Mapping(np.eye(ndim + 1)), fixed.grid, 3)[0]
    rng = np.random.default_rng(1)
    noise = [smooth(rng.standard_normal(warped.shape), np.ones(3), np.empty_like(warped)) for _ in range(count)]
    stack = np.stack([(fixed.data, warped)[k % 2] + 0.3 * n for k, n in enumerate(noise)])
    weights = np.clip(rng.uniform(-0.3, 1.3, (count, *warped.shape[1:])), 0, 1)
    return stack, weights, fixed.grid


@EVERY
@DIMENSIONS
def test_all_pairs_are_the_mean_of_every_pair_with_exact_adjoints(name, ndim):
    stack, weights, grid = stack_of(ndim)
    metric = AllPairs(METRICS[name]())
    metric.prepare(list(stack), grid)
    value, adjoints = metric(stack, weights)
    adjoints = np.stack([a.copy() for a in adjoints])
    singles = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        pair = METRICS[name]()
        pair.prepare(stack[i], stack[j], grid)
        singles.append(pair.pair(stack[i], stack[j], weights[i], weights[j])[0])
    assert value == pytest.approx(np.mean(singles), rel=1e-12)
    direction = np.random.default_rng(2).standard_normal(stack.shape) * 0.3 + adjoints / adjoints.std()
    slope = np.sum(adjoints * direction)
    for h, tolerance in ((1e-5, 1e-5), (3e-3, 2e-2)):
        measured = (metric(stack + h * direction, weights)[0] - metric(stack - h * direction, weights)[0]) / (2 * h)
        assert measured == pytest.approx(slope, rel=tolerance)
    if hasattr(metric, "curvature"):
        metric(stack, weights)
        for h in metric.curvature(stack, weights)[0]:
            assert h.shape == stack[0].shape and h.min() >= 0
            assert h.max() > 0 or name in ("mi", "nmi") and ndim == 2, "too few samples for its tables there"


def test_a_metric_that_knows_a_fixed_image_has_no_pairs():
    with pytest.raises(OptionError, match="where both images move"):
        AllPairs(Metric())


@DIMENSIONS
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_of_a_linear_model_between_a_pair(kind, ndim):
    """Against central differences, in the parameters of the logarithm."""
    fixed, moving = check.scene(ndim)
    matrix = matrix_about(fixed.grid)
    grid = template(fixed.grid, moving.grid, matrix)
    model = LinearHalves(grid, kind)
    theta = model.parameters(matrix)
    objective = GroupObjective((fixed, moving), grid, model, AllPairs(NCC()), order=3)
    start = objective.renew(objective(theta))
    gradient = start.gradient.copy()
    step = np.random.default_rng(1).standard_normal(len(theta)) + gradient / np.linalg.norm(gradient)
    for h, tolerance in ((1e-5, 1e-5), (1e-2, 1e-2)):
        values = [objective(model.retract(theta, s * h * step), hold=True).value for s in (1, -1)]
        assert (values[0] - values[1]) / (2 * h) == pytest.approx(np.sum(gradient * step), rel=tolerance)


@DIMENSIONS
def test_linear_parameters_of_a_pair_round_trip(ndim):
    grid = check.scene(ndim)[0].grid
    for kind in KINDS:
        one = Linear(grid, kind)
        matrix = one.matrix(one.parameters(matrix_about(grid)))
        model = LinearHalves(grid, kind)
        theta = model.parameters(matrix)
        assert model.matrix(theta) == pytest.approx(matrix, abs=1e-9)
        assert model.matrix(-theta) == pytest.approx(np.linalg.inv(matrix), abs=1e-9)
        to_fixed, to_moving = (phi.matrix for phi in model.forward(theta, grid)[0])
        assert to_moving @ np.linalg.inv(to_fixed) == pytest.approx(matrix, abs=1e-9)
        assert not np.any(model.identity())


@DIMENSIONS
def test_a_velocity_between_a_pair_has_the_force_at_both_ends(ndim):
    """The gradient tends to the slope of the value, as of every compositive model; its halves make the whole."""
    fixed, moving = check.scene(ndim)
    matrix = matrix_about(fixed.grid)
    grid = template(fixed.grid, moving.grid, matrix)
    model = Halves(grid, matrix)
    theta = model.refine(model.identity(), grid).astype(np.float64)
    rng = np.random.default_rng(3)
    theta += smooth(2 * rng.standard_normal(theta.shape), np.full(3, 2.0), np.empty_like(theta))
    objective = GroupObjective((fixed, moving), grid, model, AllPairs(SSD()), order=3)
    start = objective.renew(objective(theta))
    gradient = start.gradient.copy()
    force, typical = start.normal
    assert np.array_equal(force[:-1], gradient) and force[-1].min() >= 0 and typical > 0
    step = smooth(rng.standard_normal(theta.shape), np.full(3, 2.0), np.empty_like(theta))
    step += 0.1 * gradient / np.abs(gradient).max()
    h = 1e-2
    values = [objective(model.retract(theta, s * h * step), hold=True).value for s in (1, -1)]
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(np.sum(gradient * step), rel=0.1)
    whole, v = model.whole(theta, fixed.grid)
    middle = grid.points().reshape(-1, ndim)
    ends = [phi.apply(middle) for phi in model.forward(theta, grid)[0]]
    phi = Mapping(whole.matrix, whole.flow(v, fixed.grid), fixed.grid)
    assert np.abs(phi.apply(ends[0]) - ends[1]).mean() < 0.05 * grid.resolution


@EVERY
@DIMENSIONS
def test_exchanging_the_images_turns_the_objective_round(name, ndim):
    """The same value, the opposite gradient, the same diagonal: of the formulas, with no order chosen beforehand."""
    fixed, moving = check.scene(ndim)
    matrix = matrix_about(fixed.grid)
    found = []
    for pair, a, sign in (((fixed, moving), matrix, 1), ((moving, fixed), np.linalg.inv(matrix), -1)):
        grid = template(fixed.grid, moving.grid, matrix)
        model = Halves(grid, a)
        theta = model.refine(model.identity(), grid).astype(np.float64)
        theta += sign * smooth(np.random.default_rng(3).standard_normal(theta.shape), np.full(3, 2.0),
                               np.empty_like(theta))
        e = GroupObjective(pair, grid, model, AllPairs(METRICS[name]()))(theta)
        force, typical = e.normal
        found.append((e.value, sign * force[:-1].copy(), force[-1].copy(), typical))
    for one, other in zip(*found):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-9 * np.abs(one).max())


@DIMENSIONS
def test_the_template_lies_halfway_and_prefers_neither(ndim):
    fixed, moving = (image.grid for image in check.scene(ndim))
    for matrix in (np.eye(ndim + 1), matrix_about(fixed)):
        one, other = template(fixed, moving, matrix), template(moving, fixed, np.linalg.inv(matrix))
        assert one.size == other.size and one.voxel_volume == pytest.approx(other.voxel_volume)
        assert one.centre == pytest.approx(other.centre, abs=1e-9)
        assert one.voxel_volume == pytest.approx(np.sqrt(fixed.voxel_volume * moving.voxel_volume), rel=1e-2)
    assert template(fixed, fixed, np.eye(ndim + 1)).same_as(fixed, 1e-6)
    upright = Grid.from_spacing((40, 50, 60)[:ndim])
    shift = np.eye(ndim + 1)
    shift[0, ndim] = 4.0
    middle = template(upright, upright, shift)
    assert middle.shape == (*upright.shape[:-1], upright.shape[-1] - 4), "what both cover once each went half"
    assert middle.centre == pytest.approx(upright.centre)
    flipped = Grid(fixed.shape, fixed.affine @ np.diag([-1.0] + [1.0] * ndim))
    assert template(fixed, flipped, np.eye(ndim + 1)).ndim == ndim
    far = np.eye(ndim + 1)
    far[0, ndim] = 1e4
    assert min(template(fixed, fixed, far).shape) >= min(fixed.shape) // 2


def test_there_is_no_halfway_along_a_mirror_or_half_a_turn():
    assert half(np.diag([4.0, 9.0, 1.0])) == pytest.approx(np.diag([2.0, 3.0, 1.0]))
    with pytest.raises(InputError, match="cannot meet halfway"):
        half(np.diag([-1.0, 1.0, 1.0, 1.0]))


# -- the model -----------------------------------------------------------------------------------------------

def mean_and_most(vectors):
    size = np.sqrt((vectors**2).sum(-1))
    return size.mean(), size.max()


@pytest.mark.parametrize("equal", [True, False])
@DIMENSIONS
def test_exchanging_the_images_gives_the_inverse(ndim, equal):
    """Up to the integration of the paths: less than a hundredth of a voxel on average, a tenth at most."""
    pair = head_phantom({2: 3.0, 3: 6.0}[ndim], ndim=ndim)
    fixed, moving = pair.fixed, pair.moving
    if equal:
        moving = classreg.apply(np.eye(ndim + 1), moving, fixed)
    there = classreg.register(fixed, moving, model="symmetric").transform
    back = classreg.register(moving, fixed, model="symmetric").transform
    assert api.exchanged(fixed, moving) != api.exchanged(moving, fixed)
    points = fixed.grid.points().reshape(-1, ndim)
    mapped = there.map_points(points)
    assert np.abs(mapped - points).max() > 5
    mean, most = mean_and_most(back.map_points(mapped) - points)
    assert mean < 5e-3 * fixed.grid.resolution and most < 0.1 * fixed.grid.resolution
    assert there.matrix @ back.matrix == pytest.approx(np.eye(ndim + 1), abs=1e-9)
    assert classreg.plan(fixed, moving, model="symmetric") == classreg.plan(moving, fixed, model="symmetric")
    assert (there.frm, there.to, back.frm) == ("fixed", "moving", "fixed")
    assert there.grid is fixed.grid and back.grid.same_as(moving.grid)


@DIMENSIONS
def test_without_the_order_of_content_both_directions_still_agree(ndim, monkeypatch):
    """The method is symmetric by itself: rounding grows over iterations to less than a twentieth of a voxel."""
    monkeypatch.setattr(api, "exchanged", lambda fixed, moving: False)
    pair = head_phantom({2: 3.0, 3: 6.0}[ndim], ndim=ndim)
    matrix = pair.matrix
    more = dict(model="symmetric", metric="ncc")
    there = classreg.register(pair.fixed, pair.moving, init=matrix, **more).transform
    back = classreg.register(pair.moving, pair.fixed, init=np.linalg.inv(matrix), **more).transform
    points = pair.fixed.grid.points().reshape(-1, ndim)
    mean, most = mean_and_most(back.map_points(there.map_points(points)) - points)
    assert mean < 5e-3 * pair.fixed.grid.resolution and most < 0.05 * pair.fixed.grid.resolution


def test_the_same_bits_for_any_number_of_threads():
    pair = head_phantom(5.0)
    found = {classreg.register(pair.fixed, pair.moving, model="symmetric", iterations=3, threads=n)
             .transform.displacement().tobytes() for n in (1, 2, 3)}
    assert len(found) == 1


def test_it_begins_from_any_transform():
    """From a matrix, from a field and from a velocity that leave little to do."""
    pair = head_phantom(3.0, ndim=2)
    first = classreg.register(pair.fixed, pair.moving, model="symmetric")
    value = first.history[-1].value
    for model in ("svf", "greedy"):
        begin = classreg.register(pair.fixed, pair.moving, model=model)
        again = classreg.register(pair.fixed, pair.moving, model="symmetric", init=begin, levels=[1])
        assert again.history[0].value < 1.3 * value
    again = classreg.register(pair.fixed, pair.moving, model="symmetric", init=first.transform.matrix)
    assert [r.stage for r in again.history][0] == "symmetric"


def test_plan_and_refusals():
    pair = head_phantom(8.0, ndim=2)
    plan = classreg.plan(pair.fixed, pair.moving, model="symmetric")
    assert [s.transform["name"] for s in plan.stages] == ["linear_halves", "linear_halves", "halves"]
    assert {s.transform["name"] for s in plan.stages} == set(PAIRED) and "halves()" in str(plan)
    assert classreg.register(pair.fixed, pair.moving, plan=plan).transform.model == "symmetric"


# -- more than two -------------------------------------------------------------------------------------------

def group_of(ndim, count=4, dtype=np.float32):
    """One smooth scene, moved differently for each image; the moves sum to zero."""
    fixed, moving = check.scene(ndim, dtype=np.float64)
    moves = 2 * np.random.default_rng(0).standard_normal((count, ndim))
    moves -= moves.mean(0)
    images = []
    for move in moves:
        shift = np.eye(ndim + 1)
        shift[:ndim, ndim] = check.SHIFT[:ndim] - move
        warped, _, _ = sample(moving, Mapping(shift), fixed.grid, 3, name=f"one {len(images)}")
        images.append(Image(warped.reshape(fixed.grid.shape).astype(dtype), fixed.grid))
    return images, moves, fixed.grid


@DIMENSIONS
@pytest.mark.parametrize("make", [
    *(partial(LogLinear, kind=kind) for kind in KINDS), lambda g: BSpline(g, 6.0, np.eye(g.ndim + 1)),
    lambda g: Dense(g, np.eye(g.ndim + 1)), lambda g: Velocity(g, np.eye(g.ndim + 1), gradient="exact")],
    ids=[*KINDS, "bspline", "dense", "exact velocity"])
@pytest.mark.parametrize("still", [None, 1])
def test_gradient_of_a_stack_in_its_gauge(ndim, make, still):
    """Exact along every direction that keeps the gauge; none along the one that all images share."""
    images, _, grid = group_of(ndim, dtype=np.float64)
    stack = Stack([make(grid) for _ in images], still)
    theta = stack.refine(stack.identity(), grid).astype(np.float64)
    rng = np.random.default_rng(1)
    move = rng.standard_normal(theta.shape)
    theta = stack.retract(theta, move if move.ndim == 1 else smooth(2 * move, np.full(3, 2.0), np.empty_like(move)))
    def off(parts):
        return np.abs(parts.mean(0) if still is None else parts[still]).max()

    assert off(stack.parts(theta)) < 1e-12
    objective = GroupObjective(images, grid, stack, AllPairs(SSD()), order=3)
    gradient = objective.renew(objective(theta)).gradient.copy()
    assert off(stack.parts(gradient)) < 1e-12 * max(1, np.abs(gradient).max())
    step = rng.standard_normal(theta.shape) + gradient / gradient.std()
    h = 1e-5
    values = [objective(stack.retract(theta, s * h * step), hold=True).value for s in (1, -1)]
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(np.sum(gradient * step), rel=1e-4)


@DIMENSIONS
@pytest.mark.parametrize("what", ["translation lbfgs", "bspline lbfgs", "dense adam", "velocity greedy",
                                  "composed greedy"])
def test_the_engine_aligns_a_group(ndim, what):
    """Every optimiser serves N images: the stack agrees, and the space between them stays where it was."""
    images, moves, grid = group_of(ndim)
    eye, kind = np.eye(ndim + 1), what.split()[0]
    make = {"translation": lambda: Linear(grid, "translation"), "bspline": lambda: BSpline(grid, 8.0, eye),
            "dense": lambda: Dense(grid, eye), "velocity": lambda: Velocity(grid, eye),
            "composed": lambda: Dense(grid, eye, compositive=True)}[kind]
    field = "velocity" if kind == "velocity" else "displacement"
    optimiser, regularisers = {"lbfgs": (LBFGS(), []), "adam": (Adam(), []), "greedy": (
        Greedy(), [Gaussian(1.5, "update"), Gaussian(0.5, field)])}[what.split()[1]]
    if kind == "bspline":
        regularisers = [Bending(0.1)]
    stack, control = Stack([make() for _ in images]), Control()
    with Workspace(1):
        theta, _ = run_group("group", images, grid, stack, AllPairs(SSD()), regularisers, optimiser,
                             (Level(2, 40), Level(1, 40)), stack.identity(), control)
    last = [r for r in control.history if r.level == 2]
    first = [r for r in control.history if r.level == 1][0]
    assert last[-1].terms["metric"] < 0.15 * first.terms["metric"]
    assert np.abs(stack.parts(theta).mean(0)).max() < 1e-4
    if kind == "translation":
        assert np.abs(stack.parts(theta) - moves).max() < 0.15


def composing(ndim, still=None):
    """A stack of three composed fields on an oblique grid, smooth parameters and steps in the gauge."""
    grid = check.scene(ndim)[0].grid
    stack, points = Stack([Dense(grid, np.eye(ndim + 1), compositive=True) for _ in range(3)], still), grid.points()
    points = points.reshape(*grid.shape3, ndim) - points.reshape(-1, ndim).mean(0)
    theta = stack.refine(stack.identity(), grid).astype(float)
    waves = [[amount * np.sin(points[..., k - j] / (7 + j) + j + k) for j in range(3) for k in range(ndim)]
             for amount in (1.0, 0.2)]
    window = np.exp(-(points**2).sum(-1) / (2 * 8.0**2))  # far from the border, where fields are clamped
    return grid, stack, *(stack.centred(theta + wave * window) for wave in map(np.array, waves))


@DIMENSIONS
def test_what_all_images_have_in_common_comes_out_of_composed_steps(ndim):
    """One map before all images leaves them where they were, but for interpolation; the mean is zero."""
    grid, stack, theta, _ = composing(ndim)
    common = np.concatenate([stack.parts(composing(ndim)[3])[0]] * 3)
    moved = stack.retract(theta, common)
    assert np.abs(stack.parts(moved).mean(0)).max() < 1e-12
    plain = [model.retract(*each) for model, *each in zip(stack.models, stack.parts(theta), stack.parts(common))]
    subtracted = stack.centred(np.concatenate(plain))
    assert np.abs(moved - theta).max() < 0.6 * np.abs(subtracted - theta).max() < 0.1 * np.abs(common).max()


@DIMENSIONS
def test_ways_between_images_are_those_of_steps_that_are_not_in_the_gauge(ndim):
    grid, stack, theta, step = composing(ndim)
    plain = [model.retract(*each) for model, *each in zip(stack.models, stack.parts(theta), stack.parts(step))]
    fields = [[Mapping(np.eye(ndim + 1), u.reshape(ndim, *grid.shape), grid) for u in us]
              for us in (plain, stack.parts(stack.retract(theta, step)))]
    points = grid.points().reshape(-1, ndim)
    middle = points.mean(0) + np.random.default_rng(0).uniform(-4, 4, (200, ndim))
    there = fields[0][0].apply(middle)  # where the first image has what lies in the middle of the common space
    ends = [second.apply(invert_points(np.eye(ndim + 1), lambda p, m=first: m.apply(p) - p, there))
            for first, second, _ in fields]
    drift = np.abs(fields[0][1].apply(middle) - fields[1][1].apply(middle)).max()
    assert np.abs(ends[0] - ends[1]).max() < 0.2 * drift and drift > 1e-3


@DIMENSIONS
def test_what_couples_images_turns_to_the_tangent_of_composed_steps(ndim):
    grid, stack, theta, step = composing(ndim, still=1)
    images, energy = group_of(ndim, 3, np.float64)[0], Temporal(0.1)

    def of(regularisers, t):
        return GroupObjective(images, grid, stack, AllPairs(SSD()), regularisers)(t)

    gradient = of([energy], theta).gradient.copy() - of([], theta).gradient
    h = 1e-4
    a, b = (energy(stack.parts(stack.retract(theta, s * h * step)))[0] for s in (1, -1))
    assert (a - b) / (2 * h) == pytest.approx(np.sum(gradient * step), rel=1e-5)


class Following(AllPairs):
    """Squared differences, with a latent state that only counts how often it followed the images."""

    def __init__(self):
        super().__init__(SSD())
        self.calls = []

    def prepare(self, images, grid):
        super().prepare(images, grid)
        self.calls.append("prepare")

    def refresh(self, stack, weights):
        self.calls.append("refresh")

    def __call__(self, stack, weights):
        self.calls.append("value")
        return super().__call__(stack, weights)


@pytest.mark.parametrize("make", [LBFGS, Adam, lambda: Greedy(patience=3)], ids=["lbfgs", "adam", "greedy"])
def test_a_latent_state_follows_the_images_between_steps(make):
    """Once before the first value of a level, then once per step, after which the value is taken anew."""
    images, _, grid = group_of(2)
    smooths = [Gaussian(1.5, "update"), Gaussian(0.5, "velocity")] if "smooth" in make().needs else []
    model = Velocity if smooths else Dense
    runs = {}
    for metric in (Following(), AllPairs(SSD())):
        stack, control = Stack([model(grid, np.eye(3)) for _ in images]), Control()
        with Workspace(1):
            run_group("group", images, grid, stack, metric, smooths, make(), (Level(2, 8),), stack.identity(), control,
                      tolerance=0)
        runs[type(metric)] = [r.value for r in control.history]
    followed, plain = runs[Following], runs[AllPairs]
    assert len(followed) > 8 and followed == pytest.approx(plain, rel=1e-4), "one that never changes changes nothing"


def test_a_level_begins_with_a_refresh():
    images, _, grid = group_of(2)
    metric, stack = Following(), Stack([Dense(grid, np.eye(3)) for _ in images])
    with Workspace(1):
        run_group("group", images, grid, stack, metric, [], Adam(), (Level(2, 3), Level(1, 2)), stack.identity(),
                  Control(), tolerance=0)
    said = " ".join(metric.calls)
    level = ["prepare refresh value", *["value refresh value"] * 2]
    assert said == " ".join([*level, "value", "prepare refresh value", "value refresh value", "value"])


def test_bounds_of_a_stack_hold_for_every_image_in_the_gauge():
    """A lattice that folds is mended, and the others with it, until none folds and the mean is zero again."""
    grid = check.scene(2)[0].grid
    stack = Stack([BSpline(grid, 10.0, np.eye(3)) for _ in range(3)])
    theta = stack.centred(12 * np.random.default_rng(0).standard_normal(stack.identity().shape).astype(np.float32))
    assert any(model.folded(part).any() for model, part in zip(stack.models, stack.parts(theta)))
    out = mended(theta, stack, [Volume()], everywhere=True)
    assert not any(model.folded(part).any() for model, part in zip(stack.models, stack.parts(out)))
    assert np.abs(stack.parts(out).mean(0)).max() < 1e-5 and np.abs(out).max() > 0.5


@pytest.mark.parametrize("make", [
    lambda g: LogLinear(g, "rigid"), lambda g: BSpline(g, 8.0, np.eye(4)), lambda g: Dense(g, np.eye(4)),
    lambda g: Dense(g, np.eye(4), compositive=True), lambda g: Velocity(g, np.eye(4))],
    ids=["rigid", "bspline", "dense", "composed", "velocity"])
def test_an_evaluation_of_a_stack_allocates_no_image(make):
    """From the third on, everything of the size of an image lies in buffers."""
    grid = Grid.from_spacing((32, 40, 36), (2.0, 1.5, 1.8))
    rng = np.random.default_rng(0)
    images = [Image(rng.standard_normal(grid.shape).astype(np.float32), grid) for _ in range(3)]
    stack = Stack([make(grid) for _ in images])
    theta = stack.refine(stack.identity(), grid)
    with Workspace(1):
        objective = GroupObjective(images, grid, stack, Variance())

        def evaluate():
            e = objective(theta)
            return e.normal if getattr(stack, "compositive", False) else e.gradient

        evaluate()
        evaluate()
        tracemalloc.start()
        evaluate()
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert held < 0.5 * images[0].array.nbytes

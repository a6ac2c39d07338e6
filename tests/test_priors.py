"""Priors: the contract over the dictionary, known values, refusals, and registrations that they steer."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from heads import head_phantom

import classreg
from classreg import check
from classreg.engine import check_needs
from classreg.errors import FileError, InputError, OptionError
from classreg.evaluate import dice, tre
from classreg.grid import Grid
from classreg.image import Image
from classreg.io import load_points, save_image
from classreg.metrics import SSD
from classreg.optimisers import LBFGS
from classreg.planning import Plan
from classreg.priors import PRIORS, Labels, Landmarks, Rigidity, SingularValues
from classreg.transforms import BSpline, Dense, Linear

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])


def landmarks(fixed, moving):
    """Points inside the image, moved by about the known shift, one pair wrong by far."""
    rng, d = np.random.default_rng(0), fixed.grid.ndim
    x = fixed.grid.to_world(rng.uniform(0.1, 0.9, (8, d)) * (np.array(fixed.grid.shape) - 1))
    y = x + check.SHIFT[:d] + rng.normal(scale=1.0, size=x.shape)
    y[0] += 30
    return Landmarks(x, y, weight=0.7, scale=3.0)


def labels(fixed, moving):
    """Two intensity ranges."""
    return Labels(*(Image(np.digitize(i.array, [-0.4, 0.5]), i.grid) for i in (fixed, moving)), weight=0.8)


def rigidity(fixed, moving):
    """A soft ball."""
    off = np.linalg.norm(fixed.grid.points() - fixed.grid.centre, axis=-1)
    return Rigidity(Image(np.clip(2 - off / 5, 0, 1), fixed.grid), weight=1.3)


MAKERS = {"landmarks": landmarks, "labels": labels, "rigidity": rigidity,
          "singular_values": lambda fixed, moving: SingularValues(0.5, size=1.0, anisotropy=0.4)}


@pytest.mark.parametrize("name", PRIORS)
def test_contract(name):
    check.prior(MAKERS[name])


@pytest.mark.parametrize("broken, message", [
    (lambda self, theta, transform: (0.5 * float(np.sum(np.square(theta))), 2 * theta), "the gradient"),
    (lambda self, theta, transform: (-1.0, None), "finite number of at least 0, got -1.0"),
    (lambda self, theta, transform: (float(np.sum(np.square(theta))), None), "no gradient, but the value changes"),
])
def test_the_contract_check_refuses_a_broken_prior(broken, message):
    with pytest.raises(AssertionError, match=message):
        check.prior(lambda fixed, moving: type("Broken", (), {"__call__": broken})())


# -- known values ----------------------------------------------------------------------------------------------

@DIMENSIONS
def test_landmarks_cost_hubers_distance(ndim):
    """Off by 2 mm and by 30 mm, scale 5 mm."""
    grid = check.scene(ndim)[0].grid
    x = grid.to_world(np.full((2, ndim), 4.0))
    y = x + np.array([2.0, 30.0])[:, None] * np.eye(ndim)[0]
    expected = 0.5 * ((2 / 5) ** 2 / 2 + 30 / 5 - 0.5)
    for model in (Linear(grid), BSpline(grid, 6.0, np.eye(ndim + 1)), Dense(grid, np.eye(ndim + 1))):
        theta = model.refine(model.identity(), grid)
        assert Landmarks(x, y, weight=3.0)(theta, model)[0] == pytest.approx(3 * expected)


@DIMENSIONS
def test_labels_cost_what_they_do_not_overlap(ndim):
    """Two cubes, one of them moved by half its width: Dice 1/2; of a label that stays, 1."""
    grid = Grid.from_spacing((24,) * ndim, (1.5,) * ndim, origin=(3.0, -8.0, 5.0)[:ndim])
    fixed, moving = np.zeros((2, *grid.shape), np.int16)
    fixed[(slice(8, 16),) * ndim] = moving[(slice(8, 16),) * (ndim - 1) + (slice(12, 20),)] = 7
    fixed[0], moving[0] = 3, 3
    part, model = Labels(Image(fixed, grid), Image(moving, grid), weight=2.0), Linear(grid)
    assert part.labels == [3, 7]
    part.prepare(grid, np.float64)
    assert part(model.identity(), model)[0] == pytest.approx(2 * (1 - (1 + 0.5) / 2))
    shift = model.identity()
    shift[-ndim] = 4 * 1.5
    only = Labels(Image(fixed, grid), Image(moving, grid), labels=[7])
    only.prepare(grid, np.float64)
    assert only(shift, model)[0] == pytest.approx(0, abs=1e-12)


@DIMENSIONS
def test_singular_values_part_size_from_stretch(ndim):
    grid = check.scene(ndim)[0].grid
    model = Linear(grid, "affine")
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((ndim, ndim)))[0]
    logs = np.linspace(-0.1, 0.3, ndim)
    matrix = np.eye(ndim + 1)
    matrix[:ndim, :ndim] = turn @ np.diag(np.exp(logs)) @ turn.T
    theta = model.parameters(matrix)
    assert SingularValues(0.5)(theta, model)[0] == pytest.approx(0.5 * np.sum(logs**2))
    assert SingularValues(1.0, anisotropy=0.0)(theta, model)[0] == pytest.approx(ndim * np.mean(logs) ** 2)
    assert SingularValues(1.0, size=0.0)(theta, model)[0] == pytest.approx(np.sum((logs - logs.mean()) ** 2))
    matrix[:ndim, :ndim] = turn * np.sign(np.linalg.det(turn))
    assert SingularValues()(model.parameters(matrix), model)[0] == pytest.approx(0, abs=1e-20)


@DIMENSIONS
def test_rigidity_is_blind_to_finite_turns_and_to_what_lies_outside(ndim):
    """A turn by 0.5 rad as a displacement; a stretch costs 1/4 |S^2 - 1|^2; outside the region all is free."""
    grid = check.scene(ndim)[0].grid
    off = grid.points() - grid.centre
    a = np.eye(ndim)
    a[:2, :2] = [[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]]
    stretch = np.diag(np.linspace(0.8, 1.3, ndim))
    region = np.zeros(grid.shape)
    region[..., :6] = 1
    wild = np.where(region, 0, np.random.default_rng(0).normal(size=grid.shape))
    wild[..., 6] = 0  # slopes in the region reach one sample further
    for linear, expected in ((a, 0.0), (a @ stretch, np.sum((stretch @ stretch - np.eye(ndim)) ** 2) / 4)):
        part = Rigidity(Image(region, grid), weight=2.0)
        part.prepare(grid)
        field = np.moveaxis(off @ (linear - np.eye(ndim)).T + wild[..., None], -1, 0).reshape(ndim, *grid.shape3)
        assert part(np.ascontiguousarray(field), Dense(grid, np.eye(ndim + 1)))[0] == pytest.approx(2 * expected)
        model = Linear(grid)
        matrix = np.eye(ndim + 1)
        matrix[:ndim, :ndim] = linear
        assert part(model.parameters(matrix), model)[0] == pytest.approx(2 * expected, abs=1e-12)


# -- registrations ---------------------------------------------------------------------------------------------

PAIR = head_phantom(6.0, ndim=2)


def with_value(value):
    """The labels of the fixed image as floats, one of which is this number."""
    array = PAIR.fixed_labels.array.astype(np.float64)
    array[3, 4] = value
    return PAIR.fixed_labels.with_array(array)


def some(step):
    return PAIR.fixed_points[::step], PAIR.moving_points[::step]


@pytest.mark.parametrize("model", ["rigid", "affine", "bspline", "dense", "greedy", "svf"])
def test_landmarks_pull_every_model(model):
    """With the images hardly counting against them, landmarks that lie on move to where they belong."""
    fixed, moving = some(1)
    before = classreg.register(PAIR.fixed, PAIR.moving, model=model, levels=(2, 1))
    prior = {"name": "landmarks", "fixed": fixed + 3.0, "moving": moving, "weight": 30.0}
    after = classreg.register(PAIR.fixed, PAIR.moving, model=model, levels=(2, 1), priors=[prior])
    errors = [tre(r.transform.map_points(fixed + 3.0), moving)["mean"] for r in (before, after)]
    assert errors[1] < (0.75 if model == "rigid" else 0.6) * errors[0], errors
    assert all("landmarks" in record.terms for record in after.history if record.stage == model)


def test_labels_pull_a_deformation():
    prior = {"name": "labels", "fixed": PAIR.fixed_labels, "moving": PAIR.moving_labels}
    found = []
    for priors in ([], [prior]):
        result = classreg.register(PAIR.fixed, PAIR.moving, model="bspline", metric="mi", priors=priors)
        warped = classreg.apply(result, PAIR.moving_labels, PAIR.fixed, interpolation="label").array
        found.append(np.mean(list(dice(PAIR.fixed_labels.array, warped).values())))
    assert found[1] > found[0] + 0.005, found
    assert result.plan.stages[-1].priors[0]["labels"] == sorted(set(np.unique(PAIR.fixed_labels.array)) - {0})


def test_a_rigid_region_stays_rigid():
    region = PAIR.fixed_labels.with_array((PAIR.fixed_labels.array == 2).astype(float))
    strains = []
    for weight in (0.0, 100.0):
        prior = {"name": "rigidity", "region": region, "weight": weight}
        result = classreg.register(PAIR.fixed, PAIR.moving, model="bspline", priors=[prior])
        strains.append(np.std(np.log(result.jacobian[region.array > 0])))
    assert strains[1] < 0.5 * strains[0], strains


def test_singular_values_hold_an_affine_model():
    """The moving image is larger than it was: a strong prior keeps the model near size 1."""
    logs, grid = [], PAIR.moving.grid
    moving = Image(PAIR.moving.array, Grid(grid.shape, np.diag([1.2, 1.2, 1.0]) @ grid.affine))
    for priors in ([], [{"name": "singular_values", "weight": 100.0}]):
        result = classreg.register(PAIR.fixed, moving, model="affine", priors=priors)
        logs.append(np.abs(np.log(np.linalg.svd(result.transform.matrix[:2, :2])[1])).max())
    assert logs[0] > 0.1 and logs[1] < 0.03, logs


@pytest.mark.parametrize("model", ["bspline", "greedy", "svf"])
def test_priors_and_energies_give_the_same_bits_for_any_number_of_threads(model):
    pair = head_phantom(4.0)
    region = pair.fixed_labels.with_array((pair.fixed_labels.array == 2).astype(np.float32))
    priors = [{"name": "landmarks", "fixed": pair.fixed_points, "moving": pair.moving_points},
              {"name": "labels", "fixed": pair.fixed_labels, "moving": pair.moving_labels},
              {"name": "rigidity", "region": region}]
    energies = [{"name": "curvature"}, {"name": "elastic", "where": region}, {"name": "tv"}, {"name": "jacobian"}]
    filters = [{"name": "curvature", "sigma": 1.5, "acts_on": "update"},
               {"name": "diffusion", "sigma": 0.5, "acts_on": {"greedy": "displacement", "svf": "velocity"}.get(model)}]
    plan = classreg.plan(pair.fixed, pair.moving, model=model, metric="ncc", init=np.eye(4), levels=(1,), iterations=3,
                         priors=priors)
    stage = replace(plan.stages[-1], regularisers=(*energies, *(filters if model != "bspline" else ())))
    found = set()
    for threads in (1, 3):
        result = classreg.register(pair.fixed, pair.moving, init=np.eye(4), plan=replace(plan, stages=(stage,)),
                                   threads=threads)
        found.add((result.transform.theta.tobytes(), tuple(r.value for r in result.history)))
    assert len(found) == 1 and len(result.history) == 4


# -- plans, files, refusals ------------------------------------------------------------------------------------

def test_plans_with_priors_are_plain_data(tmp_path):
    fixed, moving = some(2)
    for name in ("fixed_labels", "moving_labels"):
        save_image(getattr(PAIR, name), tmp_path / f"{name}.nii.gz")
    for end, points in (("fixed", fixed), ("moving", moving)):
        np.savetxt(tmp_path / f"{end}.csv", points, delimiter=",", header="x,y", comments="")
    priors = [{"name": "landmarks", "fixed": str(tmp_path / "fixed.csv"), "moving": str(tmp_path / "moving.csv")},
              {"name": "labels", "fixed": str(tmp_path / "fixed_labels.nii.gz"),
               "moving": str(tmp_path / "moving_labels.nii.gz")}, {"name": "singular_values", "weight": 0.01}]
    plan = classreg.plan(PAIR.fixed, PAIR.moving, priors=priors)
    assert [p["name"] for p in plan.stages[0].priors] == ["landmarks", "labels", "singular_values"]
    assert [p["name"] for p in plan.stages[-1].priors] == ["landmarks", "labels"]
    assert np.allclose(plan.stages[0].priors[0]["fixed"], fixed)
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    assert f"prior = landmarks(fixed=<{len(fixed)} points>" in str(plan)
    short = replace(again, stages=again.stages[:1])
    result = classreg.register(PAIR.fixed, PAIR.moving, plan=short)
    result.save(tmp_path / "out")
    assert Plan.from_dict(json.loads((tmp_path / "out" / "result.json").read_text())["plan"]) == short


def test_an_image_in_memory_is_noted_and_asked_for_again(tmp_path):
    where = np.ones(PAIR.fixed.grid.shape)
    plan = classreg.plan(PAIR.fixed, PAIR.moving, model="dense",
                         priors=[{"name": "rigidity", "region": PAIR.fixed_labels}])
    stage = replace(plan.stages[-1], regularisers=({"name": "diffusion", "weight": 0.5, "where": where},))
    plan = replace(plan, stages=(stage,))
    result = classreg.register(PAIR.fixed, PAIR.moving, plan=plan)
    result.save(tmp_path)
    saved = Plan.from_dict(json.loads((tmp_path / "result.json").read_text())["plan"])
    with pytest.raises(OptionError, match="names an image that was in memory"):
        classreg.register(PAIR.fixed, PAIR.moving, plan=saved)


def test_points_files(tmp_path):
    file = tmp_path / "points.txt"
    for text in ("x,y,z\n1,2,3\n4,5,6\n", "1 2 3\n\n4\t5 6\n", "1;2;3\n4;5;6"):
        file.write_text(text)
        assert load_points(file) == [[1, 2, 3], [4, 5, 6]]
    for text, message in (("1,2,3\n4,five,6\n", "row 2 of .* is no point: '4,five,6'"),
                          ("1,2,3\n4,5\n", "row 2 of .* has 2 numbers, the first 3")):
        file.write_text(text)
        with pytest.raises(FileError, match=message):
            load_points(file)
    with pytest.raises(FileError, match="cannot read"):
        load_points(tmp_path / "none.csv")
    for bad in ([], [[1.0]], [[1.0, np.nan]]):
        with pytest.raises(InputError, match="expected .n, 2. or .n, 3. finite"):
            load_points(bad)


@pytest.mark.parametrize("priors, message", [
    ("landmarks", "priors must be a list of dictionaries"),
    ([{"fixed": 1}], "a prior is a dictionary with a name"),
    ([{"name": "landmark"}], "did you mean 'landmarks'"),
    ([{"name": "landmarks"}], "needs a value for fixed, moving"),
    ([{"name": "landmarks", "fixed": [[1, 2]], "moving": [[1, 2], [3, 4]]}], "in the same order"),
    ([{"name": "landmarks", "fixed": [[1, 2, 3]], "moving": [[1, 2, 3]]}], "given in 3-D, the images are 2-D"),
    ([{"name": "landmarks", "fixed": [[1, 2]], "moving": [[1, 2]], "scale": 0.0}], "scale must be a finite .* above 0"),
    ([{"name": "singular_values", "weight": -1.0}], "weight must be a finite number of at least 0, got -1.0"),
    ([{"name": "labels", "fixed": PAIR.fixed_labels, "moving": PAIR.moving_labels, "labels": [99]}], "99. wanted"),
    *(([{"name": "labels", "fixed": PAIR.fixed_labels, "moving": PAIR.moving_labels, "labels": labels}],
       "`labels` is a list of whole numbers") for labels in (1, "1", [True], [1.5], [np.nan], ["a"], np.array(1))),
    *(([{"name": "labels", "fixed": with_value(value), "moving": PAIR.moving_labels}],
       f"the fixed map has values that are no whole numbers, such as {value}") for value in (0.5, np.nan, np.inf)),
    ([{"name": "rigidity", "region": np.zeros((4, 5))}], "an array is taken to lie on the fixed grid"),
    ([{"name": "rigidity", "region": np.zeros(PAIR.fixed.grid.shape)}], "the region is empty"),
])
def test_what_is_no_prior(priors, message):
    with pytest.raises((OptionError, InputError), match=message):
        classreg.register(PAIR.fixed, PAIR.moving, model="affine", priors=priors)


def test_priors_of_linear_models_need_a_linear_stage():
    prior = {"name": "singular_values"}
    with pytest.raises(OptionError, match="is about linear models, and none of the stages has one: bspline"):
        classreg.plan(PAIR.fixed, PAIR.moving, init=np.eye(3), priors=[prior])
    grid = PAIR.fixed.grid
    with pytest.raises(OptionError, match="SingularValues needs a transform with 'tangent'"):
        check_needs(LBFGS(), BSpline(grid, 9.0, np.eye(3)), SSD(), [], [SingularValues()])

"""What the front door refuses: every wrong value is a typed error with a sentence, before the first iteration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import classreg
from classreg.datasets import head_phantom
from classreg.door import check_plan
from classreg.errors import ClassregError, FileError, InputError, OptionError, unknown
from classreg.fitted import FittedTransform
from classreg.grid import Grid
from classreg.image import Image
from classreg.models import _iterations
from classreg.planning import Plan
from classreg.resample import looks_like_labels, resample
from classreg.schedule import Level
from classreg.transforms import Linear

PAIR = head_phantom(6.0, ndim=2)
SHIFT = np.array([[1, 0, 3.0], [0, 1, -4.0], [0, 0, 1]])
NAN = float("nan")


def never(record):
    raise AssertionError("an iteration ran")


def refused(kind, message, **options):
    """The registration is refused before its first iteration, with a sentence that says this."""
    options = {"model": "rigid", "callback": never, **options}
    with pytest.raises(kind, match=message) as caught:
        classreg.register(PAIR.fixed, PAIR.moving, **options)
    assert isinstance(caught.value, ClassregError) and len(str(caught.value).split()) >= 5


def plan_with(**changes):
    """A plan for the pair whose only stage has these changes."""
    plan = classreg.plan(PAIR.fixed, PAIR.moving, model="bspline", metric="ncc", init=SHIFT, iterations=1)
    return replace(plan, init="identity", stages=(replace(plan.stages[-1], **changes),))


# --- numbers and names -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("given", [2.5, "5", ["a"], [None, 1], True, [1.5, 2], [True, 1], -1, [1, -1], [1],
                                   [[1, 2]] * 2, np.array(3.0), {1, 2}, NAN])
def test_iterations_that_are_no_whole_numbers_are_refused(given):
    with pytest.raises(OptionError, match="iterations must be one whole number"):
        _iterations((50, 40), 2, given)


@pytest.mark.parametrize("given", [3, np.int64(3), [3, 3], (3, 3), np.array([3, 3]), np.uint8([3, 3])])
def test_iterations_of_every_integer_type_are_taken(given):
    found = _iterations((50, 40), 2, given)
    assert found == [3, 3] and all(type(n) is int for n in found)


def test_numpy_integers_reach_the_engine():
    result = classreg.register(PAIR.fixed, PAIR.moving, model="rigid", iterations=np.int64(1))
    assert {level.iterations for level in result.plan.stages[-1].levels} == {1}


@pytest.mark.parametrize("options, message", [
    ({"iterations": 2.5}, "iterations"),
    ({"time_limit": "5"}, "time_limit"), ({"time_limit": NAN}, "time_limit"), ({"time_limit": [1]}, "time_limit"),
    ({"memory_limit": "2 GX"}, "memory_limit"), ({"memory_limit": 0}, "memory_limit"),
    ({"memory_limit": NAN}, "memory_limit"), ({"memory_limit": True}, "memory_limit"),
    ({"threads": True}, "threads"), ({"threads": 2.0}, "threads"), ({"threads": 0}, "threads"),
    ({"callback": 5}, "callback"), ({"rotation": "eular"}, "did you mean 'euler'"), ({"model": None}, "model None"),
    ({"model": ["rigid"]}, "unknown model"), ({"levels": (64,)}, "factor of at most"), ({"levels": "2"}, "levels are"),
    ({"metric": None}, "metric must be"), ({"metric": 5}, "metric must be"), ({"metric": ["ncc"]}, "metric must be"),
    ({"metric": {}}, "metric must be"), ({"metric": {"name": 5}}, "metric must be"),
    ({"metric": {"name": "auto", "x": 1}}, "'auto' has no options"),
    ({"metric": {"name": "ncc", "radius": 2}}, "has no options"),
    ({"metric": {"name": "lncc", "radios": 2}}, "did you mean 'radius'"),
    *(({"metric": {"name": "lncc", "radius": r}}, "radius") for r in ("x", NAN, -1, 0, None, np.inf)),
    *(({"metric": {"name": "lncc", "flat": f}}, "flat") for f in ("x", NAN, -1, 0)),
    *(({"metric": {"name": "mi", "bins": b}}, "bins") for b in ("a", 100000, 2, 32.5, NAN)),
    ({"metric": {"name": "mi", "window": "hut"}}, "did you mean 'hat'"),
    *(({"metric": {"name": "sad", "delta": v}}, "delta") for v in ("x", NAN, -1, 0, np.inf)),
    *(({"metric": {"name": "composite", "parts": parts}}, f"composite.*{message}") for parts, message in (
        ([], "at least one part"), ("lncc", "must be a list"), ([5], "part 0: a part is a dictionary"),
        ([{"weight": 1}], "part 0: a part is a dictionary with a metric"),
        ([{"metric": "mi"}, {"metric": "lnc"}], "part 1: .*did you mean 'lncc'"), ([{"metric": "auto"}], "'auto'"),
        ([{"metric": {"name": "mi", "bins": 2}}], "part 0: mi: bins"),
        ([{"metric": "mi", "wait": 2}], "did you mean 'weight'"),
        *(([{"metric": "mi", "weight": w}], "weight must be") for w in (0, -1, NAN, "x", True)),
        *(([{"metric": "mi", "channels": c}], "channels must be") for c in ([], 0, [0, 0], [-1], [0.5], [True], "0")),
        ([{"metric": "mi", "channels": [1]}], r"channels \[1\] of an image with 1"),
    )),
], ids=str)
def test_options_outside_their_range_are_refused(options, message):
    refused(OptionError, message, **options)


@pytest.mark.parametrize("name, allowed, expected", [
    ("near", ["label", "linear", "nearest"], "did you mean 'nearest'"),
    ("NCC", ["lncc", "ncc", "ssd"], "did you mean 'ncc'"),
    ("lnc", ["ssd", "lncc"], "did you mean 'lncc'"),
    ("x", [], "it has no options"),
    ("", ["ssd"], r"''\. Allowed: ssd"),
])
def test_unknown_names_hint_at_the_likeliest(name, allowed, expected):
    with pytest.raises(OptionError, match=expected):
        raise unknown("name", name, allowed)


# --- the start -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("init, message", [
    (None, "init must be"), (5, "init must be"), (True, "init must be"), (object(), "init must be"),
    ({}, "init must be"), ([[1, 2], [3]], "rows of one length"), ([["a"] * 3] * 3, "real numbers"),
    (1j * np.eye(3), "real numbers"),
    (np.eye(4), r"\(3, 3\), not \(4, 4\)"), (np.eye(2), r"not \(2, 2\)"), (np.ones(3), r"not \(3,\)"),
    (np.diag([NAN, 1, 1]), "finite and invertible"), (np.diag([1.0, 0, 1]), "finite and invertible"),
    (SHIFT.T, "last row"), (np.diag([1.0, 1, 2]), "last row"), ("geomtry", "did you mean 'geometry'"),
])
def test_starts_that_are_none_are_refused(init, message):
    refused((InputError, OptionError), message, init=init)


@pytest.mark.parametrize("model", ["rigid", "similarity"])
def test_a_rigid_model_does_not_begin_from_a_reflection(model):
    centre = PAIR.fixed.grid.centre
    mirror = np.diag([-1.0, 1, 1])
    mirror[0, 2] = 2 * centre[0]
    refused(InputError, "cannot mirror", init=mirror, model=model)


def test_affine_models_and_proper_rotations_keep_their_determinant():
    grid = PAIR.fixed.grid
    mirror = np.diag([-1.2, 0.9, 1.0])
    affine = Linear(grid, "affine")
    assert np.allclose(affine.matrix(affine.parameters(mirror)), mirror)
    turned = np.diag([-1.0, -1, 1])
    rigid = Linear(grid, "rigid")
    assert np.allclose(rigid.matrix(rigid.parameters(turned)), turned)


def test_a_result_is_a_start_and_can_be_applied():
    first = classreg.register(PAIR.fixed, PAIR.moving, model="rigid")
    again = classreg.register(PAIR.fixed, PAIR.moving, model="rigid", init=first, iterations=0)
    assert np.allclose(again.initial, first.transform.matrix)
    assert np.array_equal(classreg.apply(first, PAIR.moving, PAIR.fixed).array, first.warped.array)


@pytest.mark.parametrize("name", ["gone.tfm", "gone.TXT", "gone.mat", "gone.h5", "gone.nii", "gone.nii.gz", "gone.xfm",
                                  "folder/gone"])
def test_a_missing_transform_file_is_named_as_one(name):
    refused(FileError, "there is no file .*gone", init=name)


@pytest.mark.parametrize("kind", ["linear", "deformable"])
def test_a_plan_can_be_made_from_every_start_of_register(kind):
    init = FittedTransform.from_matrix(SHIFT, PAIR.fixed.grid) if kind == "linear" else SHIFT
    model = "rigid" if kind == "linear" else "bspline"
    plan = classreg.plan(PAIR.fixed, PAIR.moving, model=model, init=init, metric="ncc")
    assert plan.init == "transform" and [s.name for s in plan.stages] == [model]
    refused(OptionError, "pass it again as init", plan=plan)
    assert classreg.register(PAIR.fixed, PAIR.moving, plan=plan, init=init, time_limit=1e-6).plan == plan


@pytest.mark.parametrize("options", [{"levels": (64,)}, {"threads": 0}, {"metric": 5}, {"rotation": "x"},
                                     {"init": None},
                                     {"iterations": "5"}], ids=str)
def test_a_plan_is_checked_as_a_registration(options):
    with pytest.raises(OptionError):
        classreg.plan(PAIR.fixed, PAIR.moving, **{"model": "rigid", **options})


# --- given plans -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("changes, message", [
    ({"transform": {"name": "bspline"}}, "spacing"), ({"transform": {"name": "bspline", "spacing": 0}}, "spacing"),
    ({"transform": {"name": "bspline", "spacing": -4.0}}, "spacing"), ({"transform": {"name": "spline"}}, "'bspline'"),
    ({"transform": {"spacing": 4.0}}, "a name and options"), ({"transform": "bspline"}, "a name and options"),
    ({"transform": {"name": "linear", "kind": "rigd"}, "regularisers": ()}, "did you mean 'rigid'"),
    ({"metric": {"name": "auto"}}, "unknown metric 'auto'"), ({"metric": {"name": "mi", "bins": 2}}, "bins"),
    ({"optimiser": {"name": "greedy"}}, "Greedy moves dense fields"), ({"optimiser": {"name": "sgd"}}, "unknown optim"),
    ({"optimiser": {"name": "lbfgs", "memory": "x"}}, "memory"),
    ({"optimiser": {"name": "gauss_newton"}}, "GaussNewton"),
    ({"regularisers": ({"name": "bending", "weight": -1},)}, "weight"),
    ({"regularisers": ({"name": "bending", "weight": "x"},)}, "weight"),
    ({"regularisers": ({"name": "gaussian"},)}, "only smooths"), ({"regularisers": None}, "regularisers"),
    ({"order": 2}, "order"), ({"tolerance": NAN}, "tolerance"), ({"levels": ()}, "no levels"),
    ({"levels": None}, "levels"),
    ({"regularisers": ({"name": "bending", "where": Image(np.ones((4, 4, 4)), Grid.from_spacing((4, 4, 4)))},)},
     "the map `where` of bending is given in 3-D, the images are 2-D"),
    ({"regularisers": ({"name": "gaussian", "acts_on": "force"},)}, "acts_on is one of"),
    ({"levels": ((1, 2),)}, "Level"), ({"levels": (Level(1, 2.5),)}, "whole number"),
    ({"levels": (Level(1, -1),)}, "whole number"), ({"levels": (Level(64, 5),)}, "factor of at most"),
    ({"levels": (Level(1, 5), Level(2, 5))}, "coarse to fine"), ({"levels": (Level("2", 5),)}, "factor"),
], ids=str)
def test_plans_that_could_not_run_are_refused(changes, message):
    refused(OptionError, message, plan=plan_with(**changes))


@pytest.mark.parametrize("plan, message", [("x", "Plan.from_dict"), ({"model": "rigid"}, "Plan.from_dict"),
                                           (Plan("rigid", "auto", ()), "at least one stage"),
                                           (Plan("rigid", "auto", ({},)), "Stage"),
                                           (Plan("rigid", "auto", None), "at least one stage")], ids=repr)
def test_what_is_no_plan_is_refused(plan, message):
    refused(OptionError, message, plan=plan)


@pytest.mark.parametrize("seed", [-1, "a", 1.5, None, True])
def test_what_is_no_seed_is_refused(seed):
    refused(OptionError, "seed must be a whole number of at least 0", plan=replace(plan_with(), seed=seed))


def test_a_plan_that_can_run_is_taken():
    result = classreg.register(PAIR.fixed, PAIR.moving, plan=plan_with(levels=(Level(2, np.int64(1)),), order=3))
    assert result.transform.model == "bspline" and len(result.history) == 2


def test_a_linear_stage_cannot_follow_a_deformable_one():
    plan = classreg.plan(PAIR.fixed, PAIR.moving, model="bspline", metric="ncc")
    refused(OptionError, "stage 'rigid' cannot begin", plan=replace(plan, stages=(plan.stages[-1], plan.stages[0])))


def test_default_plans_pass_on_thin_and_small_grids():
    for shape, spacing in (((5, 96, 96), 1.0), ((1, 80, 70), 1.0), ((4, 4), 2.0), ((9, 64, 64), (0.7, 2, 2))):
        image = Image(np.random.default_rng(0).random(shape), Grid.from_spacing(shape, spacing))
        for model in ("rigid", "polyaffine", "bspline", "dense", "svf", "greedy"):
            check_plan(classreg.plan(image, image, model=model, init="identity", metric="ncc"), image.grid)


def test_the_start_of_a_plan_decides_whether_images_must_overlap():
    plan = replace(classreg.plan(PAIR.fixed, PAIR.moving, model="rigid", metric="ncc"), init="identity")
    grid = PAIR.moving.grid
    far = Image(PAIR.moving.array, Grid(grid.shape, grid.affine + [[0, 0, 5e3], [0, 0, 0], [0, 0, 0]]))
    with pytest.raises(classreg.GeometryError, match="do not overlap"):
        classreg.register(PAIR.fixed, far, plan=plan, callback=never)


@pytest.mark.parametrize("data", [{}, None, {"model": "rigid", "init": "auto", "stages": [{"x": 1}], "seed": 0,
                                             "notes": []}], ids=str)
def test_a_dictionary_that_is_no_plan_is_refused(data):
    with pytest.raises(OptionError, match="no plan as Plan.to_dict gives it"):
        Plan.from_dict(data)


# --- masks -----------------------------------------------------------------------------------------------------------

SHAPE = PAIR.fixed.grid.shape


@pytest.mark.parametrize("mask, message", [
    (np.full(SHAPE, "a"), "real numbers"), (np.full(SHAPE, None), "real numbers"),
    (np.ones(SHAPE, complex), "real numbers"), (np.full(SHAPE, NAN), "no finite value"),
    (np.full(SHAPE, np.inf), "no finite value"),
    (np.where(np.arange(SHAPE[1]) > 3, -2.0, NAN) * np.ones(SHAPE), "minimum of -2 "), (np.zeros(SHAPE), "empty"),
    (np.ones((3, *SHAPE)), "has shape"), ([[1, 2], [3]], "rows of one length"), (5, "mask"),
    (Image(np.ones((3, *SHAPE)), PAIR.fixed.grid), "3 channels"),
], ids=[*"abcdefghijk"])
def test_masks_that_are_none_are_refused(mask, message):
    refused(InputError, message, fixed_mask=mask)


@pytest.mark.parametrize("largest", [1e300, 255, 3.0])
def test_masks_of_large_numbers_are_scaled(largest):
    mask = np.zeros(SHAPE)
    mask[2:, 3:], mask[4:, 5:] = largest / 2, largest
    weight = Image(PAIR.fixed.array, PAIR.fixed.grid, mask).weight
    assert weight.dtype == np.float32 and np.allclose(np.unique(weight), [0, 0.5, 1])


# --- resampling ------------------------------------------------------------------------------------------------------

def label_map(dtype):
    """Three regions on a grid with spacing, off the origin."""
    array = np.zeros((24, 30), dtype)
    array[3:15, 4:17], array[10:20, 14:27] = 7, 3
    return Image(array, Grid.from_spacing(array.shape, (2.0, 1.5), (5.0, -8.0)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_whole_numbers_of_any_dtype_look_like_labels(dtype):
    image = label_map(dtype)
    assert looks_like_labels(image)
    moved = classreg.apply(SHIFT * [[1, 1, 0.3], [1, 1, 0.3], [1, 1, 1]], image, image)
    assert moved.array.dtype == dtype and set(np.unique(moved.array)) == {0, 3, 7}


def test_fractions_and_whole_grey_values_do_not_look_like_labels():
    image = label_map(float)
    noise = np.random.default_rng(0).integers(0, 1000, image.array.shape).astype(float)
    for array in (noise, image.array + 0.25 * (image.array == 3), np.where(image.array == 3, NAN, image.array),
                  np.stack([image.array] * 2), image.array * 1e300):
        assert not looks_like_labels(image.with_array(array))


@pytest.mark.parametrize("interpolation", ["nearest", "label"])
@pytest.mark.parametrize("outside", [NAN, "a", -5, 300, 1.5, None, np.inf, [1], True])
def test_a_value_outside_fits_the_dtype(interpolation, outside):
    image = label_map(np.uint8)
    far = np.array([[1, 0, 1e4], [0, 1, 0], [0, 0, 1]])
    if outside is None:
        assert (classreg.apply(far, image, image, interpolation=interpolation).array == 0).all()
        return
    with pytest.raises(OptionError, match="outside must fit"):
        classreg.apply(far, image, image, interpolation=interpolation, outside=outside)


@pytest.mark.parametrize("interpolation, outside, dtype", [
    ("nearest", 9, np.uint8), ("label", np.int64(9), np.uint8), ("linear", 9, np.float32), ("cubic", 9.0, np.float32)])
def test_the_value_outside_and_the_dtype_are_those_that_are_documented(interpolation, outside, dtype):
    far = np.array([[1, 0, 1e4], [0, 1, 0], [0, 0, 1]])
    image = label_map(np.uint8)
    out = classreg.apply(far, image, image, interpolation=interpolation, outside=outside).array
    assert out.dtype == dtype and (out == 9).all()


@pytest.mark.parametrize("outside", ["a", 1e300, [1]])
def test_floats_outside_float32_are_refused(outside):
    with pytest.raises(OptionError, match="outside must fit"):
        classreg.apply(SHIFT, PAIR.moving, PAIR.fixed, interpolation="linear", outside=outside)


@pytest.mark.parametrize("value, message", [(NAN, "finite"), (np.inf, "finite"), (1e300, "finite"), (0.5, "fractions")])
def test_labels_that_are_no_whole_numbers_are_refused(value, message):
    array = label_map(float).array.copy()
    array[5, 6] = value
    image = label_map(float).with_array(array)
    with pytest.raises(InputError, match=message):
        resample(FittedTransform.from_matrix(SHIFT, image.grid), image, image.grid, "label")


@pytest.mark.parametrize("transform, kind, message", [
    (None, OptionError, "transform must be"), (5, OptionError, "transform must be"),
    (np.eye(4), InputError, r"\(3, 3\)"), ("gone", FileError, "there is no file gone"),
    ("auto", FileError, "there is no file auto"),
    ("gone.tfm", FileError, "there is no file")])
def test_apply_refuses_what_is_no_transform(transform, kind, message):
    with pytest.raises(kind, match=message):
        classreg.apply(transform, PAIR.moving, PAIR.fixed)


# --- points, ends and files ------------------------------------------------------------------------------------------

def fitted_transforms():
    grid = PAIR.fixed.grid
    yield FittedTransform.from_matrix(SHIFT, grid, PAIR.moving.grid)
    for model in ("bspline", "greedy"):
        yield classreg.register(PAIR.fixed, PAIR.moving, model=model, init="identity", metric="ncc",
                                iterations=1).transform


def test_no_points_give_no_points():
    for transform in fitted_transforms():
        for frm, to in (("fixed", "moving"), ("moving", "fixed")):
            for space in ("world", "index", "pixel"):
                assert transform.map_points(np.zeros((0, 2)), frm, to, space).shape == (0, 2)


@pytest.mark.parametrize("points", [[["a", "b"]], [[1, 2], [3]], [[None, 1]], [[1j, 1]], [[NAN, 1]], [[1, 2, 3]], [],
                                    {}, np.zeros((1, 1, 2))], ids=str)
def test_points_that_are_none_are_refused(points):
    with pytest.raises(InputError, match="points"):
        FittedTransform.from_matrix(SHIFT, PAIR.fixed.grid).map_points(points)


def test_a_composite_whose_ends_have_one_name_maps_forward():
    there = FittedTransform.from_matrix(SHIFT, PAIR.fixed.grid, PAIR.moving.grid)
    twice = replace(FittedTransform.from_matrix(np.diag([2.0, 3, 1]), PAIR.moving.grid, PAIR.moving.grid), frm="fixed")
    loop = twice.compose(there.inverse())
    assert (loop.frm, loop.to) == ("moving", "moving")
    points = np.array([[10.0, 20], [-3, 8]])
    expected = (points - [3, -4]) * [2, 3]
    assert np.allclose(loop.map_points(points, "moving", "moving"), expected)
    with pytest.raises(OptionError, match="frm and to are both 'fixed'"):
        there.map_points(points, "fixed", "fixed")


@pytest.mark.parametrize("folder", [None, 5, b"x"])
def test_saving_needs_a_path(folder):
    result = classreg.register(PAIR.fixed, PAIR.moving, model="rigid", iterations=0)
    with pytest.raises(FileError, match="path of a folder"):
        result.save(folder)

"""Groups that cannot be registered, or look as if they could not: what the door says before the first iteration."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import classreg
from classreg import Grid, Image, Plan
from classreg.errors import GeometryError, InputError, OptionError
from classreg.group import GroupResult, models

JOINT = ("cte", "pca", "pca2", "low_rank", "correlation", "total_correlation")


def ramp(*shape, **more):
    return Image(np.arange(float(np.prod(shape))).reshape(shape), Grid.from_spacing(shape, **more))


def columns(start, end):
    """A mask of a few columns."""
    out = np.zeros((12, 12))
    out[:, start:end] = 1
    return out


def never(record):
    raise AssertionError("an iteration was run")


def refused(images, kind, words, **more):
    with pytest.raises(kind, match=words):
        classreg.register_group(images, **{"model": "rigid", "method": "variance", "init": "identity",
                                           "callback": never, **more})


def test_masks_that_never_meet_are_refused():
    """Nobody is seen beside another: whatever compares the images would find that they agree."""
    refused([ramp(12, 12)] * 2, GeometryError, "overlaps with none of the other images .or their masks do not.",
            masks=[columns(0, 6), columns(6, 12)])
    classreg.plan_group([ramp(12, 12), ramp(12, 12)], masks=[columns(0, 7), columns(6, 12)], init="identity")


def test_a_group_that_falls_apart_is_refused():
    """Two and three images at two places: each overlaps with some other, but the two with none of the three."""
    here, there = ramp(12, 12), ramp(12, 12, origin=(300.0, 0.0))
    refused([here, there, here, there, there], GeometryError,
            "image_1, image_3 overlap with none .* where they begin; the nearest centre, .* is 300.0 mm away")


def test_images_may_hang_together_through_others():
    chain = [ramp(12, 12, origin=(9.0 * k, 0.0)) for k in range(5)]
    assert classreg.plan_group(chain, model="rigid", init="identity").stages


def test_a_common_grid_that_an_image_does_not_reach_is_refused():
    far = Grid.from_spacing((12, 12), origin=(500.0, 0.0))
    refused([ramp(12, 12), ramp(12, 12)], GeometryError, "does not overlap with the common grid.*reference=",
            reference=far)
    chain = [ramp(12, 12, origin=(9.0 * k, 0.0)) for k in range(3)]
    refused(chain, GeometryError, "image_3 .or its mask. does not overlap with the common grid", gauge=0)


@pytest.mark.parametrize("method", JOINT)
def test_methods_of_samples_that_all_see_need_some(method):
    chain = [ramp(12, 12, origin=(9.0 * k, 0.0)) for k in range(3)]
    refused(chain, GeometryError, f"no sample is seen by all 3 images .* {method} looks at no others", method=method)
    chain[2] = ramp(12, 12, origin=(10.0, 0.0))
    assert classreg.plan_group(chain, model="rigid", method=method, init="identity").stages


def test_intensities_are_counted_where_there_are_some():
    """Empty slices first, as of a brain without its skull: more than a million samples of one value."""
    array = np.zeros((33, 256, 256), np.float32)
    array[30:] = np.random.default_rng(0).standard_normal((3, 256, 256))
    image = Image(array, Grid.from_spacing(array.shape))
    assert classreg.plan_group([image, image], model="translation", init="identity").stages


def test_a_class_too_many_is_refused_however_large_the_image():
    array = np.zeros((300, 300), np.uint8)
    array[3, 4:10], array[5, 7] = 1, 2
    image = Image(array, Grid.from_spacing(array.shape))
    refused([image, image], InputError, "3 different intensities, of which 8 classes", method="xcoreg")


@pytest.mark.parametrize(("more", "kind", "words"), [
    ({"names": ["a", "A"]}, OptionError, "'A' was given twice.*capital letters"),
    ({"masks": {"image_1": None}}, InputError, "one entry per image .2., .* got a dict"),
    ({"masks": np.ones((2, 12, 12))}, InputError, "one entry per image .2., .* got a ndarray of 2 entries"),
    ({"init": {}}, OptionError, "got a dict"),
    ({"init": [np.eye(3), np.array([[1.0, 0, 0], [0, 1, 0], [0, 0.1, 1]])]}, OptionError, "last row"),
    ({"init": [np.eye(3), np.diag([-1.0, -1.0, 1.0])], "gauge": 0}, InputError, "180 degrees"),
])
def test_what_is_wrong_is_named(more, kind, words):
    refused([ramp(12, 12), ramp(12, 12, origin=(-5.0, -5.0))], kind, words, **more)


def test_what_is_wrong_in_a_plan_is_named():
    images = [ramp(12, 12)] * 2
    plan = classreg.plan_group(images, model="bspline", method="variance", init="identity")
    flat = replace(plan.stages[-1], regularisers=({"name": "bending", "where": ramp(4, 4, 4)},))
    refused(images, OptionError, "seed must be a whole number", plan=replace(plan, seed=-1))
    refused(images, OptionError, "the map `where` of bending is given in 3-D, the images are 2-D",
            plan=replace(plan, stages=(*plan.stages[:-1], flat)))


def test_a_mask_is_refused_by_the_name_of_its_image():
    for mask, words in ((np.zeros((12, 12)), "b: the mask is empty"), (-np.eye(12), "b: a mask or weight holds")):
        refused([ramp(12, 12), ramp(12, 12)], InputError, words, masks=[None, mask], names=["a", "b"])


@pytest.mark.parametrize(("shape", "origin"), [((6, 6, 6), (0.0, 0.0, 0.0)), ((6, 6), (900.0, 0.0))])
def test_an_atlas_lies_in_the_common_space(shape, origin):
    atlas = Image(np.ones((3, *shape)), Grid.from_spacing(shape, origin=origin))
    refused([ramp(12, 12), ramp(12, 12)], OptionError, "the atlas .* does not lie in the common space",
            method={"name": "xcoreg", "atlas": atlas})


@pytest.mark.parametrize(("command", "words"), [
    (["group", "a.nii", "a.nii", "--names", "x, x"], "the name 'x' was given twice"),
    (["group", "a.nii", "a.nii", "--method", "{pca}"], "Invalid value for --method"),
    (["motion", "a.nii", "a.nii", "--method", "{pca}"], "Invalid value for --method"),
    (["motion", "a.nii", "a.nii", "--reference", "--1"], "unknown reference '--1'"),
    (["motion", "a.nii", "a.nii", "--reference", "2"], "number of a frame from 0 to 1; got 2"),
])
def test_the_command_line_says_what_is_wrong(command, words, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from classreg import cli, io

    monkeypatch.chdir(tmp_path)
    io.save_image(ramp(12, 12), "a.nii")
    done = CliRunner().invoke(cli.app, [*command, "-o", "out"])
    assert done.exit_code in (1, 2) and words in done.output, done.output


@pytest.mark.parametrize("method", ["ape", "low_rank"])
def test_metrics_within_methods_take_options(method):
    images = [ramp(12, 12)] * 2
    spec = {"name": method, "metric": {"name": "lncc", "radius": 3}}
    plan = classreg.plan_group(images, model="rigid", method=spec, init="identity")
    assert plan.stages[0].metric == spec
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert models.build_method(spec).metric.radius == 3
    for wrong, words in (({"name": "lncc", "radiu": 3}, "did you mean 'radius'"), (3, "metric is a name"),
                         ({"name": "ngf"}, f"metric of {method} 'ngf'"), ("ngf", "metric of .* 'ngf'")):
        refused(images, OptionError, words, method={"name": method, "metric": wrong})


# -- what comes back of groups that are odd --------------------------------------------------------------------------

def given(images, grid):
    """A result that was not looked for: the images where their headers place them."""
    transforms = tuple(classreg.FittedTransform.from_matrix(np.eye(3), grid, image.grid, frm="common",
                                                            to=f"image_{k}") for k, image in enumerate(images, 1))
    plan = classreg.Plan("rigid", "identity", (), gauge="mean")
    return GroupResult(transforms, tuple(t.to for t in transforms), tuple(images), grid, None, [], "", plan,
                       (np.eye(3),) * len(images), 0.0)


def test_the_template_is_not_darker_than_what_is_seen_where_nothing_is():
    """Ten images that see the left half: the rest takes the least value of their mean, not of their sum."""
    images = [Image(np.vander(np.arange(6.0), 12)[:, :6] + k, ramp(6, 6).grid) for k in range(10)]
    result = given(images, ramp(6, 12).grid)
    seen = result.template.array[:, :6]
    assert result.template.array[:, 7:].min() >= seen.min() - 1e-6


def test_images_are_applied_to_one_by_one():
    result = given([ramp(6, 6)] * 2, ramp(6, 6).grid)
    for wrong in (None, (image for image in result.images), "ab", result.images[0]):
        with pytest.raises(InputError, match="for a group of 2; give a list"):
            result.apply(wrong)
    with pytest.raises(InputError, match="given for image_1 is 3-D, the group is 2-D"):
        result.apply([ramp(3, 3, 3), ramp(3, 3, 3)])


# -- what ends the search for a start --------------------------------------------------------------------------------

@pytest.mark.parametrize("where", ["_connection", "moments"])
def test_ctrl_c_during_the_search_for_a_start_ends_it(where, monkeypatch):
    """The images then stay where they are, and the status says so."""
    from classreg.initialise import group

    def pressed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(group, where, pressed)
    result = classreg.register_group([ramp(12, 12)] * 4, model="rigid", method="variance", init="pairwise")
    assert "interrupted" in result.status and "stopped before the search ended" in result.plan.notes[0]
    assert all(np.array_equal(t.matrix, np.eye(3)) for t in result.transforms) and not result.history
    with pytest.raises(KeyboardInterrupt):
        classreg.plan_group([ramp(12, 12)] * 4, model="rigid", method="variance", init="pairwise")


def test_the_time_limit_holds_for_the_search_for_a_start(monkeypatch):
    from classreg.initialise import group

    looks, connection = [], group._connection
    monkeypatch.setattr(group, "_connection", lambda *args: looks.append(1) or connection(*args))
    result = classreg.register_group([ramp(12, 12)] * 4, model="rigid", method="variance", time_limit=1e-9)
    assert "time limit" in result.status and not looks

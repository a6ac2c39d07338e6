"""Groups that cannot be registered, or look as if they could not: what the door says before the first iteration."""

from __future__ import annotations

import numpy as np
import pytest

import classreg
from classreg import Grid, Image
from classreg.errors import GeometryError, InputError, OptionError

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
    refused([ramp(12, 12), ramp(12, 12)], GeometryError, "overlaps with none of the other images .or their masks do not.",
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

"""Intensities: one histogram mapped onto another's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

import classreg
from classreg.datasets import head_phantom
from classreg.errors import OptionError
from classreg.image import Image
from classreg.planning import Plan
from classreg.pyramid import matched, normalised


@pytest.fixture(scope="module")
def head():
    return normalised(head_phantom(4.0, ndim=2).fixed)


def curved(image):
    """The same anatomy with other intensities, in the same order."""
    values = image.array - image.array.min()
    return image.with_array((40 + 3 * values**1.7).astype(np.float32))


def test_scale_and_offset_are_undone(head):
    other = head.with_array(7 * head.array + 100)
    np.testing.assert_allclose(matched(other, head).array, head.array, atol=1e-4)


def test_bright_samples_get_the_quantiles_of_the_reference_and_keep_their_order(head):
    other = curved(head)
    back = matched(other.with_array(other.array.copy()), head).array
    shares = np.linspace(0, 1, 17)
    mine, wanted = back[other.array > other.array.mean()], head.array[head.array > head.array.mean()]
    np.testing.assert_allclose(np.quantile(mine, shares), np.quantile(wanted, shares), atol=0.02)
    assert back.min() == pytest.approx(head.array.min(), abs=1e-5)
    assert (np.diff(back.ravel()[np.argsort(other.array, axis=None, kind="stable")]) > -1e-6).all()


def test_the_mapping_is_that_of_simpleitk(head):
    other = head_phantom(4.0, ndim=2).moving
    theirs = sitk.GetArrayFromImage(sitk.HistogramMatching(
        sitk.GetImageFromArray(np.float32(other.array)), sitk.GetImageFromArray(head.array), 1024, 15, True))
    ours = matched(Image(np.float32(other.array), other.grid), head).array
    assert np.abs(ours - theirs).max() < 0.03  # their quantiles are those of a histogram


def test_channels_are_matched_one_by_one_and_what_has_no_weight_does_not_count(head):
    both = Image(np.stack([curved(head).array, -head.array]), head.grid)
    reference = Image(np.stack([head.array, -3 * head.array]), head.grid)
    found = matched(Image(both.array.copy(), head.grid), reference).array
    np.testing.assert_allclose(found[0], matched(curved(head), head).array, atol=1e-5)
    np.testing.assert_allclose(found[1], reference.array[1], atol=1e-5)
    weight = np.ones(head.grid.shape, np.float32)
    weight[:8] = 0
    wild = curved(head).array.copy()
    wild[:8] = 1e4
    found = matched(Image(wild, head.grid, weight), Image(head.array, head.grid, weight)).array
    plain = matched(Image(curved(head).array, head.grid, weight), Image(head.array, head.grid, weight)).array
    np.testing.assert_array_equal(found[8:], plain[8:])


def test_a_constant_image_stays_finite(head):
    flat = Image(np.zeros(head.grid.shape, np.float32), head.grid)
    assert np.isfinite(matched(flat, head).array).all()
    assert np.isfinite(matched(Image(head.array.copy(), head.grid), flat).array).all()


def test_a_plan_may_ask_for_it():
    pair = head_phantom(8.0, ndim=2)
    moving = pair.moving.with_array((pair.moving.array - pair.moving.array.min()) ** 3)
    plan = replace(classreg.plan(pair.fixed, moving, model="dense", metric="ssd", levels=[2], iterations=[3]),
                   matching=True, search="none")
    assert Plan.from_dict(plan.to_dict()) == plan and "intensities = matched" in str(plan)
    assert "matching" not in replace(plan, matching=False).to_dict()
    one = classreg.register(pair.fixed, moving, plan=plan)
    other = classreg.register(pair.fixed, moving, plan=replace(plan, matching=False))
    assert one.history[-1].value < 0.9 * other.history[-1].value
    np.testing.assert_array_equal(one.initial, other.initial)
    with pytest.raises(OptionError, match="matching"):
        classreg.register(pair.fixed, moving, plan=replace(plan, matching="histogram"))

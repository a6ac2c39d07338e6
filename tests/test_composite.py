"""Sums of metrics over channels: values, buffers, descriptions, curvature, plans."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from heads import head_phantom

import classreg
from classreg import check
from classreg.backend import Workspace
from classreg.errors import OptionError
from classreg.image import Image
from classreg.mapping import Mapping
from classreg.metrics import LNCC, NCC, SSD, CorrelationRatio, MutualInformation
from classreg.metrics.composite import Composite
from classreg.models import DEFORMABLE
from classreg.objective import Objective
from classreg.planning import Plan
from classreg.sampling import Points, sample
from classreg.transforms import Linear


class Powers(SSD):
    """Compares an image and its square: two channels of each."""

    def describe(self, image):
        stack = image.array.reshape(image.channels, *image.grid.shape)
        return Image(np.concatenate([stack, stack**2]), image.grid, image.weight)


def parts(*entries):
    return [dict(zip(("metric", "channels", "weight"), e)) for e in entries]


MIXED = {
    "no neighbours": lambda: Composite(parts((NCC(), None, 2.0), (CorrelationRatio(), None), (SSD(),))),
    "one kind twice": lambda: Composite(parts((LNCC(radius=1), None, 0.5), (LNCC(radius=3), None, 3.0))),
    "nested": lambda: Composite(parts((Composite(parts((NCC(),), (SSD(), None, 2.0))),), (MutualInformation(),))),
    "described": lambda: Composite(parts((NCC(),), (Powers(), None, 0.3))),
    "all described": lambda: Composite(parts((Powers(), None, 0.3), (Powers(), [0]))),
}


def scene(channels, ndim=3):
    """Fixed and warped arrays and a weight."""
    fixed, moving = check.scene(ndim, channels)
    warped, weight, _ = sample(moving, Mapping(np.eye(ndim + 1)), fixed.grid, 3)
    weight = np.clip(np.random.default_rng(1).uniform(-0.3, 1.3, weight.shape), 0, 1)
    return fixed, moving, warped.copy(), weight


@pytest.mark.parametrize("name", MIXED)
def test_contract(name):
    check.metric(MIXED[name])


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_it_is_the_weighted_sum_over_channels_in_one_workspace(threads):
    """In a workspace buffers have names: parts must not write into each other's."""
    fixed, moving, warped, weight = scene(4)
    chosen = [(LNCC(radius=2), [0], 1.5), (LNCC(radius=1), [3, 1], 0.7), (MutualInformation(), [2, 3], 1.0),
              (SSD(), None, 1.0)]
    value, adjoint, curvature = 0.0, np.zeros_like(warped), np.zeros_like(warped)
    for metric, channels, factor in chosen:
        at = list(range(4)) if channels is None else channels
        metric.prepare(fixed.data[at], moving.data[at], fixed.grid)
        found, part = metric(np.ascontiguousarray(warped[at]), weight)
        value += factor * found
        adjoint[at] += factor * part
        curvature[at] += factor * metric.curvature(np.ascontiguousarray(warped[at]), weight)[0]
    composite = Composite(parts(*chosen))
    composite.prepare(fixed.data, moving.data, fixed.grid)
    if threads is None:
        found, part = composite(warped, weight)
        h, deflate = composite.curvature(warped, weight)
    else:
        with Workspace(threads):
            for _ in range(2):
                found, part = composite(warped, weight)
                h, deflate = composite.curvature(warped, weight)
            part, h = part.copy(), h.copy()
    assert found == pytest.approx(value, rel=1e-12)
    assert np.abs(part - adjoint).max() < 1e-12 * np.abs(adjoint).max()
    assert deflate is None and np.abs(h - curvature).max() < 1e-12 * curvature.max()


def test_nothing_of_image_size_is_allocated_anew():
    fixed, moving, warped, weight = scene(3)
    composite = Composite(parts((LNCC(),), (MutualInformation(), [2, 0]), (SSD(), [1])))
    composite.prepare(fixed.data, moving.data, fixed.grid)
    with Workspace(1) as ws:
        composite(warped, weight)
        before = {name: array.ctypes.data for name, array in ws._buffers.items()}
        composite(warped, weight)
        assert {name: array.ctypes.data for name, array in ws._buffers.items()} == before


def test_gauss_newton_deflates_with_what_the_parts_do():
    """ncc of two channels of three, weighted: as ncc alone on those, times the weight."""
    fixed, moving, warped, weight = scene(3)
    alone = NCC()
    alone.prepare(fixed.data[[2, 0]], moving.data[[2, 0]], fixed.grid)
    h, directions = alone.curvature(np.ascontiguousarray(warped[[2, 0]]), weight)
    composite = Composite(parts((NCC(), [2, 0], 4.0), (SSD(), [1])))
    composite.prepare(fixed.data, moving.data, fixed.grid)
    composite(warped, weight)
    found, deflate = composite.curvature(warped, weight)
    v = np.random.default_rng(0).standard_normal(warped.shape)
    v[1] = 0
    expected = [np.sum(d * v[[2, 0]]) ** 2 for d in directions.reshape(-1, 2, *weight.shape)]
    here = [np.sum(d * v) ** 2 for d in deflate.reshape(-1, *v.shape)]
    assert here == pytest.approx([4 * e for e in expected], rel=1e-9)
    assert np.abs(found[[2, 0]] - 4 * h).max() < 1e-12 * found.max()
    assert not hasattr(Composite(parts((SSD(),), (type("Plain", (SSD,), {"curvature": property()})(),))), "curvature")


@pytest.mark.parametrize("order", [1, 3])
def test_each_part_describes_its_own_channels(order):
    fixed, _, _, _ = scene(3)
    masked = replace(fixed, weight=np.random.default_rng(0).uniform(0, 1, fixed.grid.shape))
    composite = Composite(parts((Powers(), [1]), (NCC(), [0, 2]), (Powers(), [2, 0])))
    seen = composite.describe(masked)
    a = fixed.array
    assert np.array_equal(seen.array, np.concatenate([a, a[[1]], a[[1]] ** 2, a[[2, 0]], a[[2, 0]] ** 2]))
    assert np.array_equal(seen.weight, masked.weight)
    composite.prepare(seen.data, seen.data, fixed.grid)
    assert [m.fixed.shape[0] for m in composite.metrics] == [2, 2, 4]
    assert Composite(parts((NCC(), [0]), (SSD(), [1]))).describe(masked) is masked, "nothing to describe"


def test_points_serve_where_no_part_needs_neighbours():
    fixed, moving = check.scene(3, 2)
    model = Linear(fixed.grid, "affine")
    theta = model.retract(model.identity(), np.full(len(model.tangent(model.identity())), 0.137))
    points = Points(fixed.grid.points().reshape(-1, 3))
    assert not MIXED["no neighbours"]().dense and MIXED["one kind twice"]().dense and Composite().dense
    values, gradients = zip(*((e.value, e.gradient) for e in (
        Objective(fixed, moving, model, MIXED["no neighbours"](), at=at, order=3)(theta)
        for at in (fixed.grid, points))))
    assert values[1] == pytest.approx(values[0], rel=1e-9)
    assert np.abs(gradients[1] - gradients[0]).max() < 1e-9 * np.abs(gradients[0]).max()


def test_identical_images_are_seen_as_such():
    assert Composite(parts((NCC(), None, 2.0), (SSD(),))).zero == 2 * NCC.zero + SSD.zero
    assert Composite(parts((NCC(),), (MutualInformation(),))).zero == -np.inf


# -- in plans ------------------------------------------------------------------------------------------------

SPEC = {"name": "composite", "parts": [{"metric": {"name": "lncc"}, "channels": [0], "weight": 1.0},
                                       {"metric": {"name": "mi", "bins": 24}, "channels": (2, np.int64(1)),
                                        "weight": 2}, {"metric": "cr"}]}


def two_modalities():
    """A pair of three channels; the second and third of the moving image have another contrast."""
    pair = head_phantom(4.0, linear="affine", deformation=0)
    contrasts = (lambda a: a, lambda a: a**2 / a.max(), np.sqrt), (lambda a: a, lambda a: a.max() - a, np.cos)
    return pair, *(Image(np.stack([c(i.array.astype(float)) for c in each]), i.grid)
                   for i, each in zip((pair.fixed, pair.moving), contrasts))


@pytest.mark.parametrize("model", ["affine", "bspline", "greedy"])
def test_registration_by_a_plan_that_went_through_json(model):
    pair, fixed, moving = two_modalities()
    plan = classreg.plan(fixed, moving, model=model, metric=SPEC)
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    spec = plan.stages[-1].metric
    assert spec["parts"][1] == {"metric": {"name": "mi", "bins": 24}, "channels": [2, 1], "weight": 2.0}
    assert spec["parts"][2] == {"metric": {"name": "cr"}, "weight": 1.0}
    own = DEFORMABLE[model]["metrics"]["lncc"] if model in DEFORMABLE else {}
    assert spec["parts"][0]["metric"] == {"name": "lncc", **own}, "a model's options reach the parts"
    assert "2 mi(bins=24) of channels 2, 1 + cr()" in str(plan)
    result = classreg.register(fixed, moving, plan=again)
    error = np.linalg.norm(result.transform.map_points(pair.fixed_points) - pair.moving_points, axis=1).mean()
    assert error < 0.3 * fixed.grid.resolution


def test_channels_that_are_not_there_are_refused_at_the_door():
    _, fixed, moving = two_modalities()
    plan = classreg.plan(fixed, moving, model="rigid", metric=SPEC)
    grey = head_phantom(4.0, linear="affine", deformation=0)
    with pytest.raises(OptionError, match=r"part 1: channels \[2, 1\] of an image with 1; they count from 0 to 0"):
        classreg.register(grey.fixed, grey.moving, plan=plan)
    nested = {"name": "composite", "parts": [{"metric": SPEC, "channels": [0, 1]}]}
    with pytest.raises(OptionError, match=r"channels \[2, 1\] of an image with 2"):
        classreg.register(fixed, moving, model="rigid", metric=nested)


def test_without_parts_the_plan_says_which_are_meant():
    grey = head_phantom(8.0)
    plan = classreg.plan(grey.fixed, grey.moving, model="rigid", metric="composite")
    assert [p["metric"] for p in plan.stages[-1].metric["parts"]] == [{"name": "lncc"}, {"name": "mi"}]

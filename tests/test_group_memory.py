"""Memory of groups and series: predicted is what arrays take, and a limit on it is kept before anything runs."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from test_memory import never, shortened

import classreg
from classreg import memory
from classreg.datasets import head_phantom
from classreg.errors import OptionError
from classreg.grid import Grid
from classreg.group import predict
from classreg.group.memory import fit
from classreg.image import Image
from classreg.metrics.group import GROUP_METRICS


def heads(spacing, count, ndim=3):
    """Some heads on a grid of their own each."""
    return [head_phantom(spacing, ndim=ndim, seed=k // 2, linear="rigid",
                         moving_modality=("t1", "t2")[k % 2]).moving for k in range(count)]


def zeros(n, count):
    return [Image(np.zeros((n,) * 3, np.float32), Grid.from_spacing((n,) * 3)) for _ in range(count)]


def plan_of(images, iterations=3, order=1, **options):
    """A plan with few iterations: buffers are there after the first, the pairs of L-BFGS one by one."""
    plan = shortened(classreg.plan_group(images, init="identity", **options), iterations)
    return replace(plan, stages=tuple(replace(stage, order=order) for stage in plan.stages))


def check(plan, images, tiny):
    """Compare prediction and measurement, once all that is compiled was loaded."""
    classreg.register_group(tiny, plan=shortened(plan, 1))
    tracemalloc.start()
    try:
        result = classreg.register_group(images, plan=plan, threads=1)
        measured = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    found = predict(plan, images, result.grid, base=0)
    assert found.bytes == pytest.approx(measured, rel=0.15), found.phase


@pytest.mark.slow
@pytest.mark.parametrize("method", [*GROUP_METRICS, {"name": "ape", "metric": "lncc"}, {"name": "pca", "components": 2},
                                    {"name": "xcoreg", "smoothing": 3.0}], ids=str)
def test_prediction_is_what_methods_take(method):
    check(plan_of(images := heads(3.5, 4), model="rigid", method=method), images, heads(12.0, 3))


@pytest.mark.slow
@pytest.mark.parametrize("options", [
    {"model": "bspline", "iterations": 14}, {"model": "dense"}, {"model": "svf"}, {"model": "greedy"},
    {"model": "bspline", "iterations": 14, "temporal": 0.01}, {"model": "dense", "optimiser": "descent"},
    {"model": "affine", "method": "variance", "optimiser": "gauss_newton"}, {"model": "affine", "order": 3},
    {"model": "bspline", "levels": (4, 2)}], ids=str)
def test_prediction_is_what_models_take(options):
    options = {"method": "xcoreg", **options}
    check(plan_of(images := heads(4.0, 4), **options), images, heads(12.0, 3))


@pytest.mark.parametrize("count", [2, 9])
def test_prediction_follows_the_number_of_images(count):
    images = heads(2.0, count, 2)
    check(plan_of(images, 2, model="affine", method="xcoreg", levels=(1,)), images, heads(8.0, 2, 2))


def test_prediction_counts_masks():
    images = [replace(image, weight=image.array > image.array.mean()) for image in heads(4.0, 3)]
    check(plan_of(images, 1, model="rigid", method="pca"), images, images)


def test_what_methods_and_models_need_grows_with_images_and_voxels():
    for model, method in (("affine", "xcoreg"), ("bspline", "ape"), ("svf", "pca"), ("dense", "low_rank"),
                          ("greedy", "variance")):
        sizes = []
        for n, count in ((32, 4), (32, 8), (64, 4)):
            images = zeros(n, count)
            plan = classreg.group.models.group_plan(model, {"name": method}, images[0].grid, "identity", "mean")
            sizes.append(predict(plan, images, base=0).bytes)
        assert 1.4 * sizes[0] < sizes[1] < 2.1 * sizes[0] < sizes[2]


def test_a_limit_that_is_kept_changes_nothing():
    images = heads(8.0, 3, 2)
    a = classreg.register_group(images, model="rigid", iterations=1)
    b = classreg.register_group(images, model="rigid", iterations=1, memory_limit="1TB")
    assert a.plan == b.plan and all(np.array_equal(p.theta, q.theta) for p, q in zip(a.transforms, b.transforms))


@pytest.mark.parametrize("given", ["model", "levels", "plan"])
def test_what_does_not_fit_is_refused_before_anything_runs(given, monkeypatch):
    monkeypatch.setattr("classreg.group.register.resident", lambda: 200_000_000)
    images = heads(8.0, 3, 2)
    options = {"model": {"model": "rigid"}, "levels": {"model": "rigid", "levels": (2, 1)},
               "plan": {"plan": plan_of(images, model="rigid")}}
    with pytest.raises(OptionError, match="memory_limit=200 MB is too little: rigid on 3 images needs .*MB") as caught:
        classreg.register_group(images, **options[given], memory_limit=200_000_001, callback=never)
    text = str(caught.value)
    assert "200 MB are there before it begins" in text and "take fewer" in text
    assert ("leave the levels to classreg" in text) == (given != "model")


def test_finest_levels_are_left_out_and_noted():
    images = zeros(64, 6)
    plan = classreg.group.models.group_plan("dense", {"name": "variance"}, images[0].grid, "identity", "mean")
    full = predict(plan, images, base=0).bytes
    found = fit(plan, images, images[0].grid, full // 2, 0)
    assert [v.factor for v in found.stages[-1].levels] == [v.factor for v in plan.stages[-1].levels[:-1]]
    assert predict(found, images, base=0).bytes <= full // 2
    assert "left out: dense 1x" in found.notes[-1]


def test_series_keep_a_limit_too(monkeypatch):
    monkeypatch.setattr(memory, "resident", lambda: 0)
    still = head_phantom(3.0, ndim=2).fixed.array
    series, options = np.stack([still, np.roll(still, 1, 1), still]), {"spacing": 3.0, "model": "dense", "interval": 1}
    plan = classreg.plan_series(series, method="variance", **options)
    images = [Image(frame, Grid.from_spacing(frame.shape, 3.0)) for frame in series]
    shorter = replace(plan, stages=tuple(replace(stage, levels=stage.levels[:-1] or stage.levels)
                                         for stage in plan.stages))
    limit = (predict(plan, images, base=0).bytes + predict(shorter, images, base=0).bytes) // 2
    result = classreg.register_series(series, method="variance", iterations=1, memory_limit=limit, **options)
    assert len(result.plan.stages[-1].levels) < len(plan.stages[-1].levels)
    for more in ({}, {"plan": plan, "interval": 1}):
        with pytest.raises(OptionError, match="is too little"):
            classreg.register_series(series, **more or options, memory_limit=1000, callback=never)

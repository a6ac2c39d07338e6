"""Predicted memory is what arrays take, and a limit on it is kept before anything runs."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from heads import head_phantom

import classreg
from classreg import memory
from classreg.errors import OptionError
from classreg.grid import Grid
from classreg.image import Image
from classreg.memory import fit, parse, predict, predict_model
from classreg.models import DEFORMABLE, MODELS
from classreg.schedule import Level

PAIR, TINY = head_phantom(3.0), head_phantom(8.0)
CASES = [*((model, metric) for model in DEFORMABLE for metric in ("lncc", "mi")), ("affine", "lncc"), ("affine", "ncc"),
         ("affine", "sad"), ("dense", "cr"), ("greedy", "nmi"), ("greedy", "composite"),
         ("greedy", "ngf"), ("bspline", "ngf"), ("greedy", "mind"), ("affine", "mind"),
         ("greedy", {"name": "mind", "mode": "exact"})]


def never(record):
    raise AssertionError("an iteration ran")


def shortened(plan, iterations):
    """A plan with few iterations: buffers are there after the first, the pairs of L-BFGS one by one."""
    def short(stage):
        return replace(stage, levels=tuple(Level(v.factor, min(iterations, v.iterations)) for v in stage.levels))

    return replace(plan, stages=tuple(map(short, plan.stages)))


#: other optimisers than the models' own, and samples (of a spline at samples, the search for folds needs most, if any)
OTHERS = [("bspline", "lncc", "asgd", None), ("bspline", "mi", "descent", None),
          ("bspline", "lncc", "newton_cg", None), ("bspline", "ncc", "newton_cg", None),
          ("dense", "ncc", "newton_cg", None), ("dense", "lncc", "newton_cg", None), ("dense", "mi", "descent", None),
          ("dense", "mi", "asgd", None), ("affine", "ncc", "gauss_newton", "random")]


def like(given, image):
    """An image with as many channels as the one given, and a weight if that has one."""
    array = np.stack([image.array] * given.channels) if given.channels > 1 else image.array
    return Image(array, image.grid, None if given.weight is None else image.array > image.array.mean())


def peak_of(plan, fixed, moving):
    """Bytes of all arrays at the peak of a registration, after a tiny one that leaves no kernel to be loaded."""
    classreg.register(*(like(fixed, image) for image in (TINY.fixed, TINY.moving)), threads=1,
                      plan=plan if plan.search == "none" else replace(plan, search="discrete"))
    tracemalloc.start()
    try:
        classreg.register(fixed, moving, plan=plan, threads=1)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("model, metric", CASES)
def test_prediction_is_what_arrays_take(model, metric):
    plan = classreg.plan(PAIR.fixed, PAIR.moving, model=model, metric=metric)
    plan = replace(shortened(plan, 7 if model in ("bspline", "polyaffine") else 3), search="none")
    found = predict(plan, PAIR.fixed, PAIR.moving, base=0)
    assert found.bytes == pytest.approx(peak_of(plan, PAIR.fixed, PAIR.moving), rel=0.15), found.phase


REGION = PAIR.fixed_labels.with_array((PAIR.fixed_labels.array > 1).astype(np.float32))
POINTS = {"name": "landmarks", "fixed": PAIR.fixed_points.tolist(), "moving": PAIR.moving_points.tolist()}
OVERLAP = {"name": "labels", "fixed": PAIR.fixed_labels, "moving": PAIR.moving_labels, "labels": [1, 2, 3]}
FILTERS = tuple({"name": "curvature", "sigma": 1.0, "acts_on": what} for what in ("update", "displacement"))


@pytest.mark.slow
@pytest.mark.parametrize("model, regularisers, priors", [
    ("bspline", ({"name": "curvature"}, {"name": "elastic"}), ()),
    ("bspline", ({"name": "tv"},), ()),
    ("bspline", ({"name": "diffusion", "where": REGION}, {"name": "jacobian"}), (POINTS,)),
    ("dense", ({"name": "elastic"},), (POINTS,)),
    ("dense", ({"name": "tv"}, {"name": "jacobian"}), ()),
    ("dense", ({"name": "diffusion"},), (OVERLAP,)),
    ("greedy", FILTERS, ()),
    ("greedy", (*FILTERS, {"name": "jacobian"}), (POINTS,)),
    ("greedy", FILTERS, ({"name": "rigidity", "region": REGION}, OVERLAP)),
])
def test_energies_and_priors_are_predicted(model, regularisers, priors):
    plan = classreg.plan(PAIR.fixed, PAIR.moving, model=model, metric="mi")
    stage = replace(plan.stages[-1], regularisers=regularisers, priors=priors)
    plan = replace(shortened(replace(plan, stages=(*plan.stages[:-1], stage)), 7 if model == "bspline" else 3),
                   search="none")
    found = predict(plan, PAIR.fixed, PAIR.moving, base=0)
    assert found.bytes == pytest.approx(peak_of(plan, PAIR.fixed, PAIR.moving), rel=0.15), found.phase


@pytest.mark.slow
@pytest.mark.parametrize("model, metric, optimiser, sampling", OTHERS)
def test_prediction_for_other_optimisers_and_samples(model, metric, optimiser, sampling):
    more = dict(model=model, metric=metric, optimiser=optimiser, sampling=sampling)
    plan = replace(shortened(classreg.plan(PAIR.fixed, PAIR.moving, **more), 4), search="none")
    found = predict(plan, PAIR.fixed, PAIR.moving, base=0)
    assert found.bytes == pytest.approx(peak_of(plan, PAIR.fixed, PAIR.moving), rel=0.15), found.phase


@pytest.mark.parametrize("spacing", [3.0, 2.5])
def test_the_discrete_search_is_predicted(spacing):
    pair = head_phantom(spacing)
    plan = shortened(classreg.plan(pair.fixed, pair.moving, model="greedy", metric="lncc"), 1)
    found = predict(plan, pair.fixed, pair.moving, base=0)
    assert found.phase == "the discrete search"
    assert found.bytes == pytest.approx(peak_of(plan, pair.fixed, pair.moving), rel=0.15)


def test_prediction_counts_masks_and_channels():
    masked = [replace(image, weight=image.array > image.array.mean()) for image in (PAIR.fixed, PAIR.moving)]
    coloured = [Image(np.stack([i.array, i.array**2, np.sqrt(i.array)]), i.grid) for i in (PAIR.fixed, PAIR.moving)]
    for fixed, moving in (masked, coloured):
        plan = shortened(classreg.plan(fixed, moving, model="greedy", metric="lncc"), 2)
        plan = replace(plan, search="none")
        found = predict(plan, fixed, moving, base=0)
        assert found.bytes == pytest.approx(peak_of(plan, fixed, moving), rel=0.15), found.phase


def test_prediction_counts_the_parts_of_a_composite():
    fixed, moving = (Image(np.stack([i.array, i.array**2, np.sqrt(i.array)]), i.grid)
                     for i in (PAIR.fixed, PAIR.moving))
    metric = {"name": "composite", "parts": [{"metric": "lncc", "channels": [0, 2]}, {"metric": "cr", "channels": [1]}]}
    for model in ("greedy", "dense"):
        plan = shortened(classreg.plan(fixed, moving, model=model, metric=metric), 2)
        plan = replace(plan, search="none")
        found = predict(plan, fixed, moving, base=0)
        assert found.bytes == pytest.approx(peak_of(plan, fixed, moving), rel=0.15), found.phase


def test_a_coarse_end_leaves_the_result_as_the_peak():
    fixed = Image(np.zeros((128, 128, 128), np.float32), Grid.from_spacing((128, 128, 128)))
    plan = classreg.plan(PAIR.fixed, PAIR.moving, model="dense", metric="mi")
    coarse = replace(plan, search="none", stages=tuple(replace(s, levels=(Level(8, 1),)) for s in plan.stages))
    assert predict(coarse, fixed, fixed, base=0).phase == "the result"


def test_prediction_of_a_model_grows_with_both_images(monkeypatch):
    monkeypatch.setattr("classreg.memory.resident", lambda: 200_000_000)  # that of a process changes in between
    small, large = (Image(np.zeros((n,) * 3, np.float32), Grid.from_spacing((n,) * 3)) for n in (64, 128))
    for model in MODELS:
        least, fixed, moving = (predict_model(a, b, model).bytes
                                for a, b in ((small, small), (large, small), (small, large)))
        assert least < min(fixed, moving)
    assert predict_model(large, large, "dense").bytes > predict_model(large, large, "rigid").bytes
    with pytest.raises(OptionError, match="did you mean 'bspline'"):
        predict_model(small, small, "bsplin")


def test_a_limit_that_holds_changes_nothing():
    plan = classreg.plan(PAIR.fixed, PAIR.moving, model="greedy")
    assert fit(plan, PAIR.fixed, PAIR.moving, 10**12, 0) is plan
    a = classreg.register(PAIR.fixed, PAIR.moving, plan=shortened(plan, 1))
    b = classreg.register(PAIR.fixed, PAIR.moving, plan=shortened(plan, 1), memory_limit="1TB")
    assert a.plan == b.plan and np.array_equal(a.transform.theta, b.transform.theta)


def test_the_search_is_left_out_before_a_level():
    plan = classreg.plan(PAIR.fixed, PAIR.moving, model="greedy")
    without = predict(replace(plan, search="none"), PAIR.fixed, PAIR.moving, base=0).bytes
    found = fit(plan, PAIR.fixed, PAIR.moving, without, 0)
    assert found.search == "none" and found.stages == plan.stages
    assert "left out: the discrete search (" in found.notes[-1]


def test_a_given_start_needs_no_search():
    plan = classreg.plan(PAIR.fixed, PAIR.moving, model="greedy", init=np.eye(4))
    assert predict(plan, PAIR.fixed, PAIR.moving, base=0).phase != "the discrete search"


def test_finest_levels_are_left_out_and_noted():
    plan = replace(classreg.plan(PAIR.fixed, PAIR.moving, model="greedy"), search="none")
    full = predict(plan, PAIR.fixed, PAIR.moving, base=0).bytes
    limit = full // 2
    found = fit(plan, PAIR.fixed, PAIR.moving, limit, 0)
    assert [v.factor for v in found.stages[-1].levels] == [v.factor for v in plan.stages[-1].levels[:-1]]
    assert predict(found, PAIR.fixed, PAIR.moving, base=0).bytes <= limit < full
    note = found.notes[-1]
    assert note.startswith("memory_limit") and "greedy 1x" in note and f"{full / 1e6:,.0f} MB with them" in note


def test_register_keeps_the_limit_and_says_so(monkeypatch):
    monkeypatch.setattr(memory, "resident", lambda: 0)
    plan = replace(classreg.plan(PAIR.fixed, PAIR.moving, model="dense"), search="none")
    limit = int(0.6 * predict(plan, PAIR.fixed, PAIR.moving).bytes)
    result = classreg.register(PAIR.fixed, PAIR.moving, model="dense", iterations=1, memory_limit=limit)
    assert len(result.plan.stages[-1].levels) == len(plan.stages[-1].levels) - 1
    assert any("left out: the discrete search, dense 1x" in note for note in result.plan.notes)
    assert result.transform.mapping().field.shape == (3, *PAIR.fixed.grid.shape)


@pytest.mark.parametrize("given", ["model", "levels", "plan"])
def test_what_does_not_fit_is_refused_before_anything_runs(given, monkeypatch):
    monkeypatch.setattr(memory, "resident", lambda: 200_000_000)
    plan = classreg.plan(PAIR.fixed, PAIR.moving, model="greedy")
    options = {"model": {"model": "greedy"}, "levels": {"model": "greedy", "levels": (2, 1)}, "plan": {"plan": plan}}
    limit = "201MB" if given == "model" else "210MB"
    with pytest.raises(OptionError, match=f"memory_limit={limit[:3]} MB is too little.* needs .*MB") as caught:
        classreg.register(PAIR.fixed, PAIR.moving, **options[given], memory_limit=limit, callback=never)
    text = str(caught.value)
    assert "200 MB are there before it begins" in text
    assert ("leave the levels to classreg" in text) == (given != "model")


def test_the_limit_that_an_error_names_is_enough():
    plan = classreg.plan(PAIR.fixed, PAIR.moving, model="svf")
    needed = predict(plan, PAIR.fixed, PAIR.moving, base=0).bytes
    with pytest.raises(OptionError):
        fit(plan, PAIR.fixed, PAIR.moving, needed - 1, 0, coarser=False)
    assert fit(plan, PAIR.fixed, PAIR.moving, needed, 0, coarser=False) is plan


@pytest.mark.parametrize("text, bytes_", [("2GB", 2 * 10**9), (" 1.5 gib ", 3 * 2**29), ("800m", 8 * 10**8), (5, 5),
                                          ("123", 123), ("64 kB", 64_000), ("12B", 12), (2.5e9, 2_500_000_000),
                                          (np.int64(7), 7), (None, None)])
def test_limits_in_bytes(text, bytes_):
    assert parse(text) == bytes_


@pytest.mark.parametrize("limit", ["", "GB", "-2GB", "2 GX", "2iB", 0, -1, float("nan"), float("inf"), True, [2]])
def test_what_is_no_limit(limit):
    with pytest.raises(OptionError, match="memory_limit must be a number of bytes"):
        parse(limit)


def test_resident_memory_grows_with_what_is_allocated():
    code = """import numpy as np
from classreg import memory
before = memory.resident()
held = np.ones(8_000_000)
print(memory.resident() - before, held[-1])"""  # a process of its own: others hold pages that numpy takes again
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert 60e6 < int(found[0]) < 100e6

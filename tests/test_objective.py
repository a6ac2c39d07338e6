"""The whole objective, metric, regulariser and priors together, has the gradient of its value; and what goes together
runs, what does not is refused by a sentence.
"""

from __future__ import annotations

import numpy as np
import pytest

import classreg
from classreg import check
from classreg.backend import Workspace
from classreg.datasets import head_phantom
from classreg.draws import Sobol
from classreg.errors import OptionError
from classreg.image import Image
from classreg.metrics import NCC, SSD
from classreg.models import MODELS
from classreg.objective import Objective
from classreg.optimisers import OPTIMISERS
from classreg.priors import Labels, Landmarks, Rigidity
from classreg.regularisers import Curvature, Diffusion, Neighbours
from classreg.stencil import smooth
from classreg.transforms import BSpline, Dense, Linear, Polyaffine, Velocity

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])

#: model -> what makes it on a grid, and a regulariser that it takes
MAKES = {
    "affine": (lambda g, a: Linear(g, "affine"), []),
    "bspline": (lambda g, a: BSpline(g, 9.0, a), [Diffusion(0.1)]),
    "dense": (Dense, [Curvature(0.1)]),
    "velocity": (lambda g, a: Velocity(g, a, gradient="exact"), [Diffusion(0.1, acts_on="velocity")]),
    "polyaffine": (lambda g, a: Polyaffine(g, a, cells=2), [Neighbours(0.1)]),
}


def priors(fixed, moving, rigid):
    """Two of each kind, so that none may write over another's."""
    rng, d = np.random.default_rng(3), fixed.grid.ndim
    out = []
    for count in (6, 4):
        points = fixed.grid.centre + rng.uniform(-5, 5, (count, d))
        out.append(Landmarks(points, points + rng.normal(0, 3, (count, d)), weight=2.0))
        level = rng.normal()
        out.append(Labels(*(Image((i.array > level).astype(np.int16), i.grid) for i in (fixed, moving)), weight=2.0))
        if rigid:
            region = np.zeros(fixed.grid.shape)
            region[tuple(slice(n // 4, n // 4 + count) for n in fixed.grid.shape)] = 1
            out.append(Rigidity(Image(region, fixed.grid), weight=2.0))
    return out


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("name", MAKES)
@DIMENSIONS
def test_gradient_with_priors(ndim, name, drawn):
    fixed, moving = check.scene(ndim)
    make, regularisers = MAKES[name]
    model = make(fixed.grid, np.eye(ndim + 1))
    if drawn and not getattr(model, "scatters", False):
        pytest.skip("needs all samples")
    rng = np.random.default_rng(ndim)
    draw = Sobol(256).on(fixed, np.random.default_rng(0)) if drawn else None
    with Workspace(1):
        objective = Objective(fixed, moving, model, SSD(), regularisers,
                              priors(fixed, moving, name not in ("velocity", "polyaffine")), draw=draw, order=3)
        theta = model.refine(model.identity(), fixed.grid).astype(np.float64)
        noise = [rng.normal(0, 1, theta.shape) for _ in range(2)]
        if isinstance(model, Dense):
            noise = [3 * smooth(n, np.where(np.array(n.shape[1:]) > 1, 1.5, 0), np.empty_like(n)) for n in noise]
        start, way = noise
        theta = model.retract(theta, 0.3 * start)
        evaluation = objective.renew(objective(theta))
        slope = float(np.sum(evaluation.gradient * way))
        up, down = (objective(model.retract(theta, h * way), hold=True).value for h in (1e-5, -1e-5))
    assert len(evaluation.terms) >= 3
    assert (up - down) / 2e-5 == pytest.approx(slope, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_takes_an_optimiser_or_says_why_not(model, optimiser):
    pair = head_phantom(12.0, ndim=2)
    try:
        result = classreg.register(pair.fixed, pair.moving, model=model, metric="ncc", optimiser=optimiser,
                                   iterations=2, init="geometry")
    except OptionError as error:
        own = classreg.plan(pair.fixed, pair.moving, model=model, metric="ncc", init="geometry").stages[-1].optimiser
        assert optimiser != own["name"], "a model takes its own"
        assert len(str(error).split()) > 6
    else:
        assert result.plan.stages[-1].optimiser["name"] == optimiser
        assert np.isfinite(result.history[-1].value)


def test_landmarks_bring_every_deformable_model_nearer():
    pair = head_phantom(8.0, ndim=2)
    known = {"name": "landmarks", "fixed": pair.fixed_points, "moving": pair.moving_points, "weight": 5.0}

    def off(**more):
        found = classreg.register(pair.fixed, pair.moving, metric="ncc", **more).transform
        return float(np.linalg.norm(found.map_points(pair.fixed_points) - pair.moving_points, axis=1).mean())

    for model in ("bspline", "polyaffine", "dense", "svf", "greedy"):
        assert off(model=model, priors=[known]) < 0.7 * off(model=model), model


def test_a_symmetric_model_refuses_what_is_about_one_image():
    pair = head_phantom(12.0, ndim=2)
    for more, words in (({"priors": [{"name": "singular_values"}]}, "priors are about one map"),
                        ({"optimiser": "asgd"}, "none are drawn"),
                        ({"sampling": "random"}, "symmetric model|every voxel")):
        with pytest.raises(OptionError, match=words):
            classreg.register(pair.fixed, pair.moving, model="symmetric", metric="ncc", **more)


def test_metrics_are_prepared_once_for_all_samples():
    fixed, moving = check.scene(2)
    metric = NCC()
    with Workspace(1):
        objective = Objective(fixed, moving, Linear(fixed.grid), metric, draw=Sobol(256).on(
            fixed, np.random.default_rng(0)))
        first = metric.fixed.copy()
        objective.draw()
        assert metric.fixed.shape == first.shape and not np.array_equal(metric.fixed, first)


class Counted(SSD):
    """Squared differences, which count how often they are asked for."""

    calls = 0

    def __call__(self, warped, weight):
        self.calls += 1
        return super().__call__(warped, weight)


@DIMENSIONS
def test_a_weight_is_renewed_where_it_changed(ndim):
    """After a held evaluation, unless next to nothing changed; one under its own weight is never taken again."""
    fixed, moving = check.scene(ndim)
    model, metric = Linear(fixed.grid, "translation"), Counted()
    objective = Objective(fixed, moving, model, metric)
    start = model.parameters(np.eye(ndim + 1))
    begun, far = objective.renew(objective(start)), 8 * fixed.grid.resolution  # so far that some samples leave
    assert metric.calls == 1

    def shifted(mm):
        return model.retract(start, np.full(ndim, mm))

    for mm, calls in ((1e-6, 1), (far, 2)):
        metric.calls = 0
        held = objective(shifted(mm), hold=True)
        renewed = objective.renew(held)
        assert metric.calls == calls and (renewed is held) == (calls == 1)
    assert renewed.value == objective(shifted(far)).value != held.value
    metric.calls = 0
    again = objective(start)  # as after a refresh: what it was compared with is held from here on
    assert objective.renew(again) is again and metric.calls == 1
    assert objective(start, hold=True).value == again.value == pytest.approx(begun.value, rel=1e-12)

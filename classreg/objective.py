"""The objective of one level: similarity + regularisers + priors, and its gradient.

    phi, phi_back            = transform.forward(theta, at)
    warped, weight, img_back = sample(moving, phi, at)
    value, adjoint           = metric(warped, weight)
    gradient                 = phi_back(img_back, adjoint) + regularisers + priors

Of a group of images that all move, each of these is one per image, and the metric sees the stack (`GroupObjective`).

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .backend import workspace
from .grid import Grid
from .hessian import Hessian
from .image import Image
from .mapping import Mapping
from .regularisers import is_energy
from .sampling import Points, sample
from .stencil import apart, dot, smooth, total

#: of the samples that counted at the start of a level, the share below which a step is refused
LEAST_OVERLAP = 0.25

#: share of a held weight up to which another one is taken for the same, and the metric not evaluated under it
SAME = 1e-4

#: share of a step that is taken back where it would fold
EASE = 0.75


@dataclass(eq=False)
class Evaluation:
    """The objective at one theta; its gradient is taken on demand, before the next evaluation."""

    value: float
    terms: dict[str, float]
    overlap: float
    _parts: tuple

    @cached_property
    def gradient(self) -> np.ndarray:
        """In the tangent of the transform."""
        objective, theta, phi_back, img_back, _, _, adjoint, energies = self._parts
        g = phi_back(img_back, adjoint)
        for e in energies:
            g += e
        return g

    @cached_property
    def normal(self) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and Gauss-Newton matrix (linear models), or its diagonal (dense ones); see `phi_back.normal`."""
        objective, _, phi_back, img_back, warped, weight, adjoint, energies = self._parts
        g, h = phi_back.normal(img_back, adjoint, *curvature(objective.metric, warped, weight, adjoint))
        for e in energies:  # the matrix, or the diagonal below the gradient, stays that of the metric
            g[:len(e)] += e
        return g, h

    @cached_property
    def hessian(self):
        """The Gauss-Newton matrix of additive deformations as an operator, with the gradient; see `Hessian`."""
        objective, theta, phi_back, img_back, warped, weight, adjoint, _ = self._parts
        return Hessian(objective, theta, phi_back, img_back, self.gradient,
                       *curvature(objective.metric, warped, weight, adjoint))


def curvature(metric, warped, weight, adjoint, name: str = "plain curvature"):
    """The metric's curvature, or for one without the same everywhere: such that residuals are about 1 on average.

    Images have unit deviation, so a step of Gauss-Newton then moves an edge of average contrast by about its width.
    """
    if hasattr(metric, "curvature"):
        return metric.curvature(warped, weight)
    if isinstance(adjoint, (list, tuple)):  # of a group
        return [curvature(None, *each, f"{name} {k}")[0] for k, each in enumerate(zip(warped, weight, adjoint))], None
    scale = np.sqrt(dot(adjoint, adjoint) / max(len(adjoint) * dot(weight, weight), 1e-30))
    out = workspace().buffer(name, adjoint.shape, weight.dtype)
    return np.multiply(weight, weight.dtype.type(scale), out=out), None


class Objective:
    """What an optimiser minimises on one level.

    Parameters
    ----------
    fixed, moving : Image
        Float images of the level, as `metric.describe` returned them.
    transform, metric
        See their packages.
    regularisers : list
        Energies are added to the value; those that smooth are left to the optimiser.
    priors : list
        See their package.
    at : Grid or Points, optional
        Where it is evaluated; the fixed grid by default.
    draw : callable, optional
        Draws `Points` to be evaluated at instead, as many times its usual number as it is told; see `draws`.
    order : 1 or 3
        Interpolation of the moving image.
    """

    def __init__(self, fixed: Image, moving: Image, transform, metric, regularisers=(), priors=(), *,
                 at: Grid | Points | None = None, draw: Callable[[int], Points] | None = None, order: int = 1):
        self.fixed, self.moving = fixed, moving
        self.transform, self.metric, self.regularisers = transform, metric, list(regularisers)
        self.priors = list(priors)
        self.order, self._draw = order, draw
        self._energies = [r for r in self.regularisers if is_energy(r)]
        metric.prepare(fixed.data, moving.data, fixed.grid)
        for p in self.priors:
            if hasattr(p, "prepare"):
                p.prepare(fixed.grid, fixed.data.dtype)
        self._full = None
        self.epoch = 0
        self._evaluate_at(at or (draw(1) if draw else fixed.grid))

    def _evaluate_at(self, at: Grid | Points) -> None:
        self.at, self._held, self._weight = at, None, self.fixed.weight3
        if isinstance(at, Points):
            values, weight, _ = sample(self.fixed, Mapping(np.eye(at.ndim + 1)), at, self.order, "fixed")
            self._weight = weight.copy() if at.weight is None else weight * at.weight
            self.metric.take(values.copy())

    def draw(self, times: int = 1) -> None:
        """Begin an epoch: other samples, `times` as many as usual, where samples are drawn at all.

        Values of different epochs do not compare, and what was evaluated before is no longer valid.
        """
        if self._draw is not None:
            self.epoch += 1
            self._evaluate_at(self._draw(times))

    def refresh(self, theta: np.ndarray) -> bool:
        """Let what the metric estimates follow the images to theta; whether it estimates anything. Here: nothing."""
        return False

    @property
    def grid(self) -> Grid:
        """The level's grid."""
        return self.fixed.grid

    def __call__(self, theta: np.ndarray, hold: bool = False) -> Evaluation:
        """Evaluate; infinite where too little of the images overlaps.

        With `hold` the weight of the last `renew` counts instead of theta's own: the gradient takes the weight as
        constant, so a line search must compare values under one weight, or the edge of the overlap misleads it.
        """
        terms, energies = {}, []
        for part, (value, gradient) in self._parts(theta):
            name = type(part).__name__.lower()
            terms[name] = terms.get(name, 0.0) + float(value)
            if gradient is not None:
                energies.append(gradient)
        if not np.isfinite(sum(terms.values())):  # a step that folds: its images need no look
            return Evaluation(np.inf, terms, 0.0, ())
        warped, weight, img_back, phi_back = self._warp(theta)
        overlap = self._overlap(weight)
        self._full = overlap / weight.size if self._full is None else self._full
        value, adjoint = self.metric(warped, self._held if hold else weight)
        self._own = not hold
        terms = {"metric": float(value), **terms}
        objective = float(sum(terms.values()))
        if np.any(overlap <= LEAST_OVERLAP * self._full * weight.size):
            objective = np.inf
        return Evaluation(objective, terms, overlap,
                          (self, theta, phi_back, img_back, warped, weight, adjoint, energies))

    def _parts(self, theta):
        """Each energy and prior with its value, and its gradient in the tangent or None.

        They come before the transform is evaluated for the images, whose backward steps hold on to its buffers.
        """
        for r in self._energies:
            yield r, self._energy(r, self.transform, theta)
        for k, p in enumerate(self.priors):
            value, gradient = p(theta, self.transform)
            if gradient is not None:  # kept, since the steps of other priors and of the images take its buffer
                kept = workspace().buffer(f"prior {k}", gradient.shape, gradient.dtype)
                np.copyto(kept, gradient)
                gradient = kept
            yield p, (value, gradient)

    def _energy(self, r, transform, theta):
        """An energy's value and gradient in the tangent, or None."""
        at = self.at if isinstance(self.at, Grid) else self.grid
        itself = r.acts_on == getattr(transform, "acts_on", "displacement")
        field = theta if itself else transform.displacement(theta)
        value, gradient = r(field, getattr(transform, getattr(r, "reads", "grams"))(field, at))
        if gradient is not None and getattr(transform, "compositive", False) and r.acts_on == "displacement":
            gradient = transform.to_tangent(field, gradient, workspace().buffer(f"tangent {id(r)}", field.shape,
                                                                                field.dtype))
        return value, gradient

    def _warp(self, theta):
        """What `sample` gives at theta, its weight times that of the samples, and the transform's way back."""
        phi, phi_back = self.transform.forward(theta, self.at)
        warped, weight, img_back = sample(self.moving, phi, self.at, self.order)
        if self._weight is not None:
            np.multiply(weight, self._weight, out=weight)
        return warped, weight, img_back, phi_back

    def ease(self, direction: np.ndarray, theta: np.ndarray) -> bool:
        """Hold a direction back, in place, around where a barrier is infinite at theta; whether it is anywhere."""
        sunk = [r.sunk(theta, self.transform) for r in self._energies if hasattr(r, "sunk")]
        if not np.any(sunk):
            return False
        held = np.any(sunk, axis=0)[None].astype(direction.dtype)
        direction *= 1 - direction.dtype.type(EASE) * smooth(held, np.ones(3), np.empty_like(held))
        return True

    def _overlap(self, weight):
        """How much counts."""
        return total(weight)

    def renew(self, evaluation: Evaluation) -> Evaluation:
        """The last evaluation under its own weight, which is held from here on, unless it is all but that held before.
        """
        objective, theta, phi_back, img_back, warped, weight, _, energies = evaluation._parts
        if self._held is None:
            self._held = weight.copy()
            return evaluation
        if not self._own and self._same(weight):
            return evaluation
        np.copyto(self._held, weight)
        if self._own:  # it has been evaluated under it
            return evaluation
        self._own = True
        value, adjoint = self.metric(warped, weight)
        terms = {**evaluation.terms, "metric": float(value)}
        return Evaluation(float(sum(terms.values())), terms, evaluation.overlap,
                          (objective, theta, phi_back, img_back, warped, weight, adjoint, energies))

    def _same(self, weight) -> bool:
        """Whether a weight is all but the held one."""
        return apart(self._held, weight) <= SAME * total(self._held)


class GroupObjective(Objective):
    """Of a group of images that all move to a common space, the template grid.

    Parameters
    ----------
    images : sequence of Image
        Float images of the level, with equally many channels; each carries its own weight.
    grid : Grid
        The level of the template grid.
    transform
        `forward` gives one mapping per image, each of which may be overwritten by the next (see `transforms/halves.py`,
        `transforms/stack.py`).
    metric
        Of a stack: (N, C, z, y, x) warped images and (N, z, y, x) weights, N adjoints (see `metrics/group`).
    regularisers, order
        As in `Objective`.
    """

    def __init__(self, images, grid: Grid, transform, metric, regularisers=(), *, order: int = 1):
        self.images, self.at, self.order = list(images), grid, order
        self.transform, self.metric, self.regularisers = transform, metric, list(regularisers)
        self.priors, self._draw, self.epoch = [], None, 0
        self._energies = [r for r in self.regularisers if is_energy(r)]
        metric.prepare([image.data for image in self.images], grid)
        self._full = self._held = self._ready = None

    def _energy(self, r, transform, theta):
        """Of a stack the sum over the images, its gradient in the gauge."""
        if getattr(r, "couples", False):
            value, gradient = r(transform.parts(theta))
            return value, transform.centred(transform.to_tangent(theta, gradient.reshape(theta.shape)))
        if not hasattr(transform, "models"):
            return super()._energy(r, transform, theta)
        out, value = workspace().buffer(f"energy of all {id(r)}", theta.shape, theta.dtype), 0.0
        for model, part, into in zip(transform.models, transform.parts(theta), transform.parts(out)):
            one, gradient = super()._energy(r, model, part)
            value += one
            into[...] = 0 if gradient is None else gradient
        return value, transform.centred(out)

    def refresh(self, theta: np.ndarray) -> bool:
        """Let the metric's latent state (classes, templates) follow the images to theta; whether it has one.

        Values before and after do not compare; what was evaluated before is no longer valid.
        """
        if not hasattr(self.metric, "refresh"):
            return False
        self.metric.refresh(*self._warp(theta)[:2])
        return True

    @property
    def grid(self) -> Grid:
        """The level's grid."""
        return self.at

    def __call__(self, theta: np.ndarray, hold: bool = False) -> Evaluation:
        """As for a pair; an optimiser may go on in the memory of a theta whose value is infinite."""
        found = super().__call__(theta, hold)
        if not np.isfinite(found.value):
            self._ready = None
        return found

    def _warp(self, theta):
        if self._ready is not None and self._ready[0] is theta:  # a step or a refresh has just been there
            return self._ready[1]
        self._ready, ws, first = None, workspace(), self.images[0].data
        stack = ws.buffer("stack", (len(self.images), len(first), *self.at.shape3), first.dtype)
        weights = ws.buffer("stack weight", (len(self.images), *self.at.shape3), first.dtype)
        phis, phi_back = self.transform.forward(theta, self.at)
        backs = [sample(image, phi, self.at, self.order, out=out)[2]
                 for image, phi, out in zip(self.images, phis, zip(stack, weights), strict=True)]
        self._ready = theta, (stack, weights, backs, phi_back)
        return self._ready[1]

    def ease(self, direction: np.ndarray, theta: np.ndarray) -> bool:
        """Of a stack no direction is held back: its mean must stay where the gauge wants it."""
        return False

    def _same(self, weight) -> bool:
        return all(apart(held, w) <= SAME * total(held) for held, w in zip(self._held, weight))

    def _overlap(self, weight):
        return np.array([total(w) for w in weight])

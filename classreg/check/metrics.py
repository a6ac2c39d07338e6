"""Does a metric keep its protocol?

Must not import: cli, plot, report.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..mapping import Mapping
from ..sampling import sample
from .scenes import STEPS, check_slope, require, scene, small


def metric(make: Callable) -> None:
    """Check a metric: protocol, gradient, weights, channels, flat images, optimum, curvature.

    Parameters
    ----------
    make : callable
        Returns a new metric.

    Raises
    ------
    AssertionError
        With what broke and the numbers.

    Examples
    --------
    >>> from classreg.metrics import SSD
    >>> metric(SSD)
    """
    for ndim in (2, 3):
        for channels in (1, 2):
            images = scene(ndim, channels)
            fixed, moving = (make().describe(i) for i in images)
            warped, ones, _ = sample(moving, Mapping(np.eye(ndim + 1)), fixed.grid, 3)
            weight = np.clip(np.random.default_rng(1).uniform(-0.3, 1.3, ones.shape), 0, 1)

            def new(image=images[0]):  # described before prepared, as in the engine
                part = make()
                part.describe(image)
                return part

            part = new()
            part.prepare(fixed.data, moving.data, fixed.grid)
            for w in (ones, weight):
                _call(part, warped, w)
                _gradient(part, warped, w)
            if hasattr(part, "curvature"):
                _curvature(part, warped, weight)
            if part.symmetric:
                _symmetry(new, fixed, warped, weight)
            _flat(new, fixed, warped, weight)
            _optimum(new, fixed, weight)
            _precision(new, fixed, moving, warped, weight)
            if not part.dense and hasattr(part, "take"):
                _take(part, fixed, moving, warped, weight)


def _call(part, warped, weight):
    name = type(part).__name__
    value, adjoint = part(warped, weight)
    require(np.isscalar(value) and np.isfinite(value),
            f"{name}: the value must be a finite number, got {value!r}")
    require(adjoint.shape == warped.shape and adjoint.dtype == warped.dtype,
            f"{name}: the adjoint must be {warped.dtype} {warped.shape}, "
            f"got {adjoint.dtype} {adjoint.shape}")
    small(f"{name}: adjoint where the weight is zero", adjoint * (weight == 0), 0)
    again = part(warped, weight)[0]
    require(again == value, f"{name}: called twice, {value} and {again}; nothing of phi may be kept")


def _gradient(part, warped, weight):
    adjoint = part(warped, weight)[1].copy()
    noise = np.random.default_rng(0).standard_normal(warped.shape)
    direction = adjoint / adjoint.std() + 0.3 * noise
    direction /= np.abs(direction).max()
    check_slope(f"{type(part).__name__}, {warped.shape}", lambda h: part(warped + h * direction, weight)[0],
                np.sum(adjoint * direction), STEPS)


def _curvature(part, warped, weight):
    """The quadratic form that Gauss-Newton builds from it must not be negative."""
    h, deflate = part.curvature(warped, weight)
    name = type(part).__name__
    require(h.shape in (warped.shape, (1, *weight.shape)) and h.min() >= 0,
            f"{name}: curvature {h.shape}, minimum {h.min()}")
    directions = [warped, np.ones_like(warped), *np.random.default_rng(2).standard_normal((4, *warped.shape))]
    for v in directions:
        full = np.sum(h * v * v)
        left = 0 if deflate is None else sum(np.sum(d * v) ** 2 for d in deflate.reshape(-1, *warped.shape))
        require(left <= full * (1 + 1e-9),
                f"{name}: the Gauss-Newton form is negative, {full:.6g} - {left:.6g}")


def _take(part, fixed, moving, warped, weight):
    """Some samples alone are what all are with no weight on the others: ranges and scales do not follow them."""
    some = np.flatnonzero(weight.ravel() > 0)[::3]
    alone = weight.ravel()[some].reshape(1, 1, -1)
    rest = np.zeros_like(weight)
    rest.ravel()[some] = alone.ravel()
    at = [np.ascontiguousarray(a.reshape(len(a), -1)[:, some])[:, None, None] for a in (fixed.data, warped)]
    part.prepare(fixed.data, moving.data, fixed.grid)
    value, adjoint = part(warped, rest)
    adjoint = adjoint.reshape(len(adjoint), -1)[:, some].copy()
    part.take(at[0])
    found, force = part(at[1], alone)
    name = type(part).__name__
    small(f"{name}: after `take`, the value is not that of these samples", found - value, 1e-9)
    small(f"{name}: after `take`, the adjoint is not that of these samples",
           (force.reshape(adjoint.shape) - adjoint) / np.abs(adjoint).max(), 1e-6)


def _symmetry(make, fixed, warped, weight):
    """`pair`: neither image is preferred, and both adjoints are the gradient of the value."""
    a, b = fixed.data, warped
    weights = weight, np.ascontiguousarray(weight[..., ::-1])
    name, found = type(make()).__name__, []
    for images, w in (((a, b), weights), ((b, a), weights[::-1])):
        part = make()
        part.prepare(*images, fixed.grid)
        value, *adjoints = part.pair(*images, *w)
        adjoints = [g.copy() for g in adjoints]
        found.append((value, *adjoints))
        for k, (image, adjoint) in enumerate(zip(images, adjoints)):
            require(adjoint.shape == image.shape and adjoint.dtype == image.dtype,
                     f"{name}.pair: an adjoint must be {image.dtype} {image.shape}, "
                     f"got {adjoint.dtype} {adjoint.shape}")
            small(f"{name}.pair: adjoint where a weight is zero", adjoint * (w[0] * w[1] == 0), 0)
            direction = adjoint / adjoint.std() + 0.3 * np.random.default_rng(k).standard_normal(image.shape)
            direction /= np.abs(direction).max()

            def along(h, k=k, direction=direction, part=part, images=images, w=w):
                return part.pair(*(v + h * direction if j == k else v for j, v in enumerate(images)), *w)[0]

            check_slope(f"{name}.pair, image {k}, {image.shape}", along, np.sum(adjoint * direction), STEPS)
        if hasattr(part, "curvature"):
            part.pair(*images, *w)
            for h in part.pair_curvature(*images, *w):
                require(h.shape in (a.shape, (1, *a.shape[1:])) and h.min() >= 0,
                        f"{name}.pair_curvature {h.shape}, minimum {h.min()}")
    (value, *adjoints), (again, *others) = found
    small(f"{name} is declared symmetric; exchanging the images changes the value of the pair", value - again, 1e-9)
    for one, other in zip(adjoints, others[::-1]):
        small(f"{name} is declared symmetric; exchanging the images changes an adjoint", one - other, 1e-9)
    with np.errstate(all="raise", under="ignore"):
        for images, w in (((a, np.full_like(b, 0.5)), weights), ((a, b), (weight, np.zeros_like(weight)))):
            part.prepare(*images, fixed.grid)
            require(all(np.isfinite(v).all() for v in part.pair(*images, *w)),
                     f"{name}.pair of a constant image or without weight is not finite")


def _flat(make, fixed, warped, weight):
    """Constant images, and no weight at all: finite, without a warning."""
    flat = np.full_like(warped, 0.5)
    for f, m, w in ((fixed.data, flat, weight), (flat, warped, weight), (flat, flat, weight),
                    (fixed.data, warped, np.zeros_like(weight))):
        part = make()
        part.prepare(f, m, fixed.grid)
        with np.errstate(all="raise", under="ignore"):
            value, adjoint = part(m, w)
        require(np.isfinite(value) and np.isfinite(adjoint).all(),
                f"{type(part).__name__}: of a constant image or without weight, the value is {value}, and "
                f"{int((~np.isfinite(adjoint)).sum())} entries of the adjoint are not finite")


def _optimum(make, fixed, weight):
    data = fixed.data
    part = make()
    part.prepare(data, data, fixed.grid)
    best = part(data.copy(), weight)[0]
    noise = np.random.default_rng(3).standard_normal(data.shape)
    others = {"noise": data + 0.3 * noise, "a little noise": data + 0.03 * noise,
              "a shift along x": np.roll(data, 1, -1), "a shift along y": np.roll(data, -2, -2)}
    for what, other in others.items():
        value = part(np.ascontiguousarray(other), weight)[0]
        require(best < value,
                f"{type(part).__name__}: {best:.8g} for identical images, {value:.8g} after {what}")


def _precision(make, fixed, moving, warped, weight):
    values = []
    for dtype in (np.float64, np.float32):
        part = make()
        part.prepare(fixed.data.astype(dtype), moving.data.astype(dtype), fixed.grid)
        values.append(part(warped.astype(dtype), weight.astype(dtype))[0])
    small(f"{type(part).__name__}: float32 and float64 values differ", np.diff(values), 1e-3)

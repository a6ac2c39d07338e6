"""Does a metric of a stack keep its protocol?

Must not import: cli, plot, report.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..image import Image
from ..mapping import Mapping
from ..sampling import sample
from ..stencil import smooth
from .scenes import STEPS, check_slope, require, scene, small

#: dimension, channels and number of images of the stacks that are tried
STACKS = ((2, 1, 2), (3, 1, 3), (2, 2, 4), (3, 2, 5))


def group_metric(make: Callable) -> None:
    """Check a metric of a stack: protocol, gradient, weights, missing data, order of images, optimum, curvature.

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
    >>> from classreg.metrics.group import Variance
    >>> group_metric(Variance)
    """
    for ndim, channels, count in STACKS:
        stack, weights, grid = stack_of(ndim, channels, count)

        def new(stack, weights, seen=None, refresh=True, grid=grid):
            """Prepared and refreshed, as the engine does."""
            part = make()
            seen = stack if seen is None else seen
            seen = [part.describe(Image(data.reshape(len(data), *grid.shape), grid)).data for data in seen]
            part.prepare(seen, grid)
            if refresh and hasattr(part, "refresh"):
                part.refresh(stack, weights)
            return part

        for w in (np.ones_like(weights), weights):
            part = new(stack, w)
            _call(part, stack, w)
            _gradient(part, stack, w)
        _first(new, stack, weights)
        _order(new, stack, weights)
        _missing(new, stack, weights)
        _flat(new, stack, weights)
        _optimum(new, stack, weights)
        _precision(new, stack, weights)
        if hasattr(part, "curvature"):
            _curvature(part, stack, weights)


def stack_of(ndim: int, channels: int = 1, count: int = 3, dtype=np.float64):
    """Images that resemble each other and differ by smooth noise, weights that are 0 and 1 at places, and their grid.

    Returns
    -------
    stack : array, (count, channels, z, y, x)
    weights : array, (count, z, y, x)
    grid : Grid
    """
    fixed, moving = scene(ndim, channels, dtype)
    warped = sample(moving, Mapping(np.eye(ndim + 1)), fixed.grid, 3)[0]
    rng = np.random.default_rng(1)
    noise = [smooth(rng.standard_normal(warped.shape), np.ones(3), np.empty(warped.shape)) for _ in range(count)]
    stack = np.stack([(fixed.data, warped)[k % 2] + (0.3 + 0.1 * k) * n for k, n in enumerate(noise)])
    weights = np.clip(rng.uniform(-0.3, 1.3, (count, *warped.shape[1:])), 0, 1)
    return stack.astype(dtype), weights.astype(dtype), fixed.grid


def _call(part, stack, weights):
    name = type(part).__name__
    value, adjoints = part(stack, weights)
    require(np.isscalar(value) and np.isfinite(value), f"{name}: the value must be a finite number, got {value!r}")
    require(isinstance(adjoints, (list, tuple)) and len(adjoints) == len(stack),
            f"{name}: one adjoint per image is expected, a list of {len(stack)}")
    for image, weight, adjoint in zip(stack, weights, adjoints):
        require(adjoint.shape == image.shape and adjoint.dtype == image.dtype,
                f"{name}: an adjoint must be {image.dtype} {image.shape}, got {adjoint.dtype} {adjoint.shape}")
        small(f"{name}: adjoint where the weight is zero", adjoint * (weight == 0), 0)
    part(stack[..., ::-1].copy(), weights)
    again = part(stack, weights)[0]
    require(again == value, f"{name}: called again, {value} and {again}; an evaluation may not change the state")


def _gradient(part, stack, weights):
    adjoints = np.stack(part(stack, weights)[1])
    noise = np.random.default_rng(0).standard_normal(stack.shape)
    direction = adjoints / adjoints.std() + 0.3 * noise
    direction /= np.abs(direction).max()
    check_slope(f"{type(part).__name__}, {stack.shape}", lambda h: part(stack + h * direction, weights)[0],
                np.sum(adjoints * direction), STEPS)


def _first(new, stack, weights):
    """An evaluation before any refresh makes the first."""
    value, other = (new(stack, weights, refresh=r)(stack, weights)[0] for r in (True, False))
    small(f"{type(new(stack, weights)).__name__}: value before a refresh, and after the first", value - other, 1e-9)


def _order(new, stack, weights):
    """Which image is called first makes no difference."""
    value, adjoints = new(stack, weights)(stack, weights)
    adjoints, order = np.stack(adjoints), np.random.default_rng(2).permutation(len(stack))
    order = order if np.any(order != np.arange(len(stack))) else order[::-1]
    other, others = new(stack[order], weights[order])(stack[order], weights[order])
    name = type(new(stack, weights)).__name__
    small(f"{name}: another order of the images changes the value", (value - other) / max(abs(value), 1e-3), 1e-6)
    small(f"{name}: another order of the images changes an adjoint",
          (adjoints[order] - np.stack(others)) / np.abs(adjoints).max(), 1e-4)


def _missing(new, stack, weights):
    """What an image holds where its weight is zero has no influence."""
    part = new(stack, weights)
    value, adjoints = part(stack, weights)
    adjoints = np.stack(adjoints)
    other = np.where(weights[:, None] > 0, stack, np.random.default_rng(5).permuted(stack.ravel()).reshape(stack.shape))
    found, others = new(other, weights, seen=stack)(other, weights)
    name = type(part).__name__
    small(f"{name}: intensities without weight change the value", (value - found) / max(abs(value), 1e-3), 1e-9)
    small(f"{name}: intensities without weight change an adjoint",
          (adjoints - np.stack(others)) / np.abs(adjoints).max(), 1e-6)


def _flat(new, stack, weights):
    """Constant images, one or all, and no weight at all: finite, without a warning."""
    one = stack.copy()
    one[0] = 0.5
    for images, w in ((one, weights), (np.full_like(stack, 0.5), weights), (stack, np.zeros_like(weights))):
        with np.errstate(all="raise", under="ignore"):
            part = new(images, w)
            value, adjoints = part(images, w)
        require(np.isfinite(value) and np.isfinite(np.stack(adjoints)).all(),
                f"{type(part).__name__}: of a constant image or without weight, the value is {value}, and "
                f"{int((~np.isfinite(np.stack(adjoints))).sum())} entries of the adjoints are not finite")


def _optimum(new, stack, weights):
    same = np.repeat(stack[:1], len(stack), 0)
    part = new(same, weights)
    best = part(same, weights)[0]
    require(best <= max(part.zero, -1e300) or part.zero == -np.inf,
            f"{type(part).__name__}: {best:.8g} for identical images, declared {part.zero:g}")
    noise = np.random.default_rng(3).standard_normal(stack.shape)
    shifted = same.copy()
    shifted[0] = np.roll(shifted[0], 1, -1)
    for what, other in (("noise", same + 0.3 * noise), ("a little noise", same + 0.03 * noise),
                        ("a shift of one image", shifted)):
        value = new(other, weights, seen=same)(other, weights)[0]
        require(best < value, f"{type(part).__name__}: {best:.8g} for identical images, {value:.8g} after {what}")


def _precision(new, stack, weights):
    values = []
    for dtype in (np.float64, np.float32):
        part = new(stack.astype(dtype), weights.astype(dtype))
        values.append(part(stack.astype(dtype), weights.astype(dtype))[0])
    small(f"{type(part).__name__}: float32 and float64 values differ", np.diff(values), 1e-3)


def _curvature(part, stack, weights):
    """One per image, none negative."""
    part(stack, weights)
    found, _ = part.curvature(stack, weights)
    require(len(found) == len(stack), f"{type(part).__name__}: one curvature per image is expected, got {len(found)}")
    for image, h in zip(stack, found):
        require(h.shape in (image.shape, (1, *image.shape[1:])) and h.min() >= 0,
                f"{type(part).__name__}: curvature {h.shape}, minimum {h.min()}")

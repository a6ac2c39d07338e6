"""Contract checks: does a part keep its protocol? For the library's own parts and for those from outside.

    check.metric(make)         make() -> metric
    check.transform(make)      make(grid) -> transform
    check.regulariser(make)    make() -> regulariser
    check.optimiser(make)      make() -> optimiser

Each returns None, or raises AssertionError with what broke and the numbers. All is tried in 2-D and 3-D, in
float64, on oblique, anisotropic, off-origin grids, on images without a dark border (`scene`). Gradients are
held against central differences at two step sizes: at the small one alone, an adjoint passes that misses what
happens at the border.

Must not import: cli, plot, report.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .backend import Workspace
from .engine import check_needs
from .grid import Grid
from .image import Image
from .mapping import Mapping
from .metrics import SSD
from .objective import Objective
from .regularisers import Gaussian
from .sampling import Points, sample
from .stencil import smooth
from .transforms import BSpline, Dense, Linear

#: relative steps of central differences, and the relative error allowed
STEPS = ((1e-5, 1e-5), (1e-2, 2e-2))

#: the same for compositive transforms, whose gradient comes from differences of the warped image
COMPOSITIVE_STEPS = ((1e-4, 0.1), (1e-2, 0.1))

#: mm, (x, y[, z]): the moving image of a scene is the fixed one moved by this
SHIFT = np.array([1.7, -1.1, 0.8])

_SHAPES = {2: (23, 19), 3: (11, 15, 13)}
_SPACINGS = {2: (1.7, 1.2), 3: (2.2, 1.2, 1.6)}


def scene(ndim: int, channels: int = 1, dtype=np.float64) -> tuple[Image, Image]:
    """Two smooth images in physical space: moving(x + SHIFT) = fixed(x).

    Both grids are oblique, anisotropic and off-origin; the moving one reaches 8 mm beyond the fixed one, so
    that every sample keeps its weight under small motions. Intensities have about zero mean, unit variance.

    Parameters
    ----------
    ndim : 2 or 3
    channels : int
    dtype : floating-point dtype

    Returns
    -------
    fixed, moving : Image
        (channels, *grid.shape), or (*grid.shape) for one channel.

    Examples
    --------
    >>> fixed, moving = scene(3)
    >>> fixed.grid.shape
    (11, 15, 13)
    """
    turn = _rotation(0.4, -0.3, ndim)
    centre, spacing = np.array([31.0, -57.0, 12.0])[:ndim], np.array(_SPACINGS[ndim])
    half = turn @ (spacing * (np.array(_SHAPES[ndim]) - 1) / 2)[::-1]
    fixed = Grid.from_spacing(_SHAPES[ndim], spacing, centre - half, turn)
    other = _rotation(-0.2, 0.5, ndim)
    seen = fixed.corners() @ other
    low, high = seen.min(0) - 8, seen.max(0) + 8
    spacing = np.array([1.5, 1.1, 1.3])[:ndim]
    shape = tuple(np.ceil((high - low)[::-1] / spacing).astype(int) + 1)
    moving = Grid.from_spacing(shape, spacing, other @ low, other)
    rng = np.random.default_rng(channels)
    waves = [(rng.standard_normal((6, ndim)), rng.uniform(12, 30, 6), rng.uniform(0, 6, 6))
             for _ in range(channels)]

    def image(grid, shift):
        points = grid.points() - shift
        array = np.stack([_waves(points, *w) for w in waves]).astype(dtype)
        return Image(array if channels > 1 else array[0], grid)

    return image(fixed, 0), image(moving, SHIFT[:ndim])


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
                _metric_call(part, warped, w)
                _metric_gradient(part, warped, w)
            if hasattr(part, "curvature"):
                _metric_curvature(part, warped, weight)
            if part.symmetric:
                _metric_symmetry(new, fixed, warped, weight)
            _metric_flat(new, fixed, warped, weight)
            _metric_optimum(new, fixed, weight)
            _metric_precision(new, fixed, moving, warped, weight)


def transform(make: Callable[[Grid], object]) -> None:
    """Check a transform: identity, retract, refine, grid against points, gradient in the tangent, reach.

    Parameters
    ----------
    make : callable
        Takes the fixed grid, returns a new transform whose identity does not move points.

    Raises
    ------
    AssertionError
        With what broke and the numbers.

    Examples
    --------
    >>> transform(Linear)
    """
    for ndim in (2, 3):
        fixed, moving = scene(ndim)
        grid, coarse = fixed.grid, fixed.grid.coarsen(2)
        part = make(grid)
        start = part.refine(part.identity(), coarse).astype(np.float64)
        _small("the identity moves points, mm", _displacement(part, start, coarse), 1e-9)
        theta = part.retract(start, _tangent(part, start, fixed, moving, coarse, 1.5))
        longest = np.abs(_displacement(part, theta, coarse)).max()
        _require(longest > 0.05, f"retract by a step of 1.5 mm moved no point by more than {longest:.3g} mm")
        before = _displacement(part, theta, grid)
        theta = part.refine(theta, grid)
        _small("refine changed the mapping, mm", _displacement(part, theta, grid) - before, 1e-9)
        step = _tangent(part, theta, fixed, moving, grid, 1.0)
        same = part.retract(theta, np.zeros_like(step)).copy()
        _small("retract by zero moves points, mm", _displacement(part, same, grid) - before, 1e-9)
        _transform_reach(part, theta, step, grid)
        points = Points(grid.points().reshape(-1, ndim))
        here = _displacement(part, theta, points)
        _small("grid and points disagree, mm", here - before.reshape(ndim, -1), 1e-9)
        for at in (grid, points):
            if part.forward(theta, at)[1] is not None:
                _transform_gradient(part, theta, step, Objective(fixed, moving, part, SSD(), at=at, order=3))


def regulariser(make: Callable) -> None:
    """Check a regulariser: energy and its gradient, on lattices and dense fields; smoothing.

    Parameters
    ----------
    make : callable
        Returns a new regulariser.

    Raises
    ------
    AssertionError
        With what broke and the numbers.

    Examples
    --------
    >>> regulariser(Gaussian)
    """
    part = make()
    name = type(part).__name__
    _require(part.acts_on in ("displacement", "velocity", "update"), f"{name}.acts_on is {part.acts_on!r}")
    _require(callable(part) or hasattr(part, "smooth"), f"{name} has neither an energy nor `smooth`")
    for ndim in (2, 3):
        grid, matrix = scene(ndim)[0].grid, np.eye(ndim + 1)
        if callable(part):
            for carrier in (BSpline(grid, 4.0, matrix), Dense(grid, matrix)):
                if hasattr(carrier, getattr(part, "reads", "grams")):
                    _regulariser_energy(part, carrier, grid)
        if hasattr(part, "smooth"):
            _regulariser_smooth(part, grid)


def optimiser(make: Callable) -> None:
    """Check an optimiser: it finds a known minimum, keeps the best theta it saw, and ends no worse than it began.

    Parameters
    ----------
    make : callable
        Returns a new optimiser.

    Raises
    ------
    AssertionError
        With what broke and the numbers.

    Examples
    --------
    >>> from classreg.optimisers import LBFGS
    >>> optimiser(LBFGS)
    """
    part = make()
    name, allowed = type(part).__name__, {"gradient", "curvature", "smooth"}
    _require(part.needs and set(part.needs) <= allowed,
             f"{name}.needs is {part.needs}; allowed are {sorted(allowed)}")
    for ndim in (2, 3):
        fixed, moving = scene(ndim)
        model, regularisers = Linear(fixed.grid, "translation"), []
        if "smooth" in part.needs:
            model = Dense(fixed.grid, np.eye(ndim + 1), compositive=True)
            regularisers = [Gaussian(1.0, "update"), Gaussian(0.5, "displacement")]
        check_needs(part, model, SSD(), regularisers)
        identity = model.refine(model.identity(), fixed.grid).astype(np.float64)
        with Workspace(1):
            objective = Objective(fixed, moving, model, SSD(), regularisers)
            begin, state = _optimiser_run(part, objective, identity)
        if "smooth" in part.needs:
            _require(state.best_value < 0.1 * begin,
                     f"{name}, {ndim}-D: the value fell from {begin} to {state.best_value} only")
        else:
            error = np.abs(state.best - SHIFT[:ndim]).max()
            _require(error < 0.1, f"{name}, {ndim}-D: {error:.3f} mm from the minimum: {state.done}")
        truth = identity + SHIFT[:ndim].reshape((ndim,) + (1,) * (identity.ndim - 1))
        with Workspace(1):
            _optimiser_run(make(), Objective(fixed, moving, model, SSD(), regularisers), truth)


# -- what the checks are made of -----------------------------------------------------------------------------

def _require(holds, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _small(what: str, numbers, tolerance: float) -> None:
    worst = float(np.max(np.abs(numbers)))
    _require(worst <= tolerance, f"{what}: {worst:.3g}, allowed {tolerance:g}")


def _slope(what: str, value: Callable[[float], float], slope: float, steps) -> None:
    """Hold a slope against central differences of value(h)."""
    for h, tolerance in steps:
        measured = (value(h) - value(-h)) / (2 * h)
        _require(abs(measured - slope) <= tolerance * abs(slope),
                 f"{what}: the gradient gives a slope of {slope:.8g}, "
                 f"differences at step {h:g} give {measured:.8g}")


def _metric_call(part, warped, weight):
    name = type(part).__name__
    value, adjoint = part(warped, weight)
    _require(np.isscalar(value) and np.isfinite(value),
             f"{name}: the value must be a finite number, got {value!r}")
    _require(adjoint.shape == warped.shape and adjoint.dtype == warped.dtype,
             f"{name}: the adjoint must be {warped.dtype} {warped.shape}, "
             f"got {adjoint.dtype} {adjoint.shape}")
    _small(f"{name}: adjoint where the weight is zero", adjoint * (weight == 0), 0)
    again = part(warped, weight)[0]
    _require(again == value, f"{name}: called twice, {value} and {again}; nothing of phi may be kept")


def _metric_gradient(part, warped, weight):
    adjoint = part(warped, weight)[1].copy()
    noise = np.random.default_rng(0).standard_normal(warped.shape)
    direction = adjoint / adjoint.std() + 0.3 * noise
    direction /= np.abs(direction).max()
    _slope(f"{type(part).__name__}, {warped.shape}", lambda h: part(warped + h * direction, weight)[0],
           np.sum(adjoint * direction), STEPS)


def _metric_curvature(part, warped, weight):
    """The quadratic form that Gauss-Newton builds from it must not be negative."""
    h, deflate = part.curvature(warped, weight)
    name = type(part).__name__
    _require(h.shape == warped.shape and h.min() >= 0, f"{name}: curvature {h.shape}, minimum {h.min()}")
    directions = [warped, np.ones_like(warped), *np.random.default_rng(2).standard_normal((4, *warped.shape))]
    for v in directions:
        full = np.sum(h * v * v)
        left = 0 if deflate is None else sum(np.sum(d * v) ** 2 for d in deflate.reshape(-1, *warped.shape))
        _require(left <= full * (1 + 1e-9),
                 f"{name}: the Gauss-Newton form is negative, {full:.6g} - {left:.6g}")


def _metric_symmetry(make, fixed, warped, weight):
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
            _require(adjoint.shape == image.shape and adjoint.dtype == image.dtype,
                     f"{name}.pair: an adjoint must be {image.dtype} {image.shape}, "
                     f"got {adjoint.dtype} {adjoint.shape}")
            _small(f"{name}.pair: adjoint where a weight is zero", adjoint * (w[0] * w[1] == 0), 0)
            direction = adjoint / adjoint.std() + 0.3 * np.random.default_rng(k).standard_normal(image.shape)
            direction /= np.abs(direction).max()

            def along(h, k=k, direction=direction, part=part, images=images, w=w):
                return part.pair(*(v + h * direction if j == k else v for j, v in enumerate(images)), *w)[0]

            _slope(f"{name}.pair, image {k}, {image.shape}", along, np.sum(adjoint * direction), STEPS)
        if hasattr(part, "curvature"):
            part.pair(*images, *w)
            for h in part.pair_curvature(*images, *w):
                _require(h.shape == a.shape and h.min() >= 0, f"{name}.pair_curvature {h.shape}, minimum {h.min()}")
    (value, *adjoints), (again, *others) = found
    _small(f"{name} is declared symmetric; exchanging the images changes the value of the pair", value - again, 1e-9)
    for one, other in zip(adjoints, others[::-1]):
        _small(f"{name} is declared symmetric; exchanging the images changes an adjoint", one - other, 1e-9)
    with np.errstate(all="raise", under="ignore"):
        for images, w in (((a, np.full_like(b, 0.5)), weights), ((a, b), (weight, np.zeros_like(weight)))):
            part.prepare(*images, fixed.grid)
            _require(all(np.isfinite(v).all() for v in part.pair(*images, *w)),
                     f"{name}.pair of a constant image or without weight is not finite")


def _metric_flat(make, fixed, warped, weight):
    """Constant images, and no weight at all: finite, without a warning."""
    flat = np.full_like(warped, 0.5)
    for f, m, w in ((fixed.data, flat, weight), (flat, warped, weight), (flat, flat, weight),
                    (fixed.data, warped, np.zeros_like(weight))):
        part = make()
        part.prepare(f, m, fixed.grid)
        with np.errstate(all="raise", under="ignore"):
            value, adjoint = part(m, w)
        _require(np.isfinite(value) and np.isfinite(adjoint).all(),
                 f"{type(part).__name__}: of a constant image or without weight, the value is {value}, and "
                 f"{int((~np.isfinite(adjoint)).sum())} entries of the adjoint are not finite")


def _metric_optimum(make, fixed, weight):
    data = fixed.data
    part = make()
    part.prepare(data, data, fixed.grid)
    best = part(data.copy(), weight)[0]
    noise = np.random.default_rng(3).standard_normal(data.shape)
    others = {"noise": data + 0.3 * noise, "a little noise": data + 0.03 * noise,
              "a shift along x": np.roll(data, 1, -1), "a shift along y": np.roll(data, -2, -2)}
    for what, other in others.items():
        value = part(np.ascontiguousarray(other), weight)[0]
        _require(best < value,
                 f"{type(part).__name__}: {best:.8g} for identical images, {value:.8g} after {what}")


def _metric_precision(make, fixed, moving, warped, weight):
    values = []
    for dtype in (np.float64, np.float32):
        part = make()
        part.prepare(fixed.data.astype(dtype), moving.data.astype(dtype), fixed.grid)
        values.append(part(warped.astype(dtype), weight.astype(dtype))[0])
    _small(f"{type(part).__name__}: float32 and float64 values differ", np.diff(values), 1e-3)


def _displacement(part, theta, at):
    """phi(x) - x on a grid, (d, *shape), or at points, (d, n)."""
    phi = part.forward(theta, at)[0]
    world = at.points() if isinstance(at, Grid) else at.world
    u = 0 if phi.field is None else np.moveaxis(phi.field, 0, -1)
    return np.moveaxis((world + u) @ phi.matrix[:-1, :-1].T + phi.matrix[:-1, -1] - world, -1, 0).copy()


def _tangent(part, theta, fixed, moving, at, length):
    """A smooth random step that reaches `length` mm."""
    gradient = Objective(fixed, moving, part, SSD(), at=at)(theta).gradient if at is fixed.grid else None
    if gradient is None:
        coarse = Image(sample(fixed, Mapping(np.eye(at.ndim + 1)), at)[0].reshape(at.shape).copy(), at)
        gradient = Objective(coarse, moving, part, SSD())(theta).gradient
    step = np.random.default_rng(4).standard_normal(gradient.shape) + 0.5 * gradient / np.std(gradient)
    if step.ndim == 4:
        step = smooth(step, (1.5, 1.5, 1.5), np.empty_like(step))
    return step * (length / part.reach(step))


def _transform_reach(part, theta, step, grid):
    """`reach` says how far a step moves points: within a factor of four of the longest motion."""
    new = part.retract(theta, 0.01 * step).copy()
    moved = _displacement(part, new, grid) - _displacement(part, theta, grid)
    longest, said = np.linalg.norm(moved, axis=0).max(), part.reach(0.01 * step)
    _require(longest / 4 <= said <= 4 * longest,
             f"a step reaches {said:.3g} mm by `reach`, points move {longest:.3g} mm")


def _transform_gradient(part, theta, step, objective):
    slope = np.sum(objective(theta).gradient * step)
    _slope(f"{type(part).__name__}, {objective.fixed.grid.ndim}-D, {type(objective.at).__name__}",
           lambda h: objective(part.retract(theta, h * step).copy()).value, slope,
           COMPOSITIVE_STEPS if getattr(part, "compositive", False) else STEPS)


def _regulariser_energy(part, carrier, grid):
    """An energy of the coefficients of `carrier`: positive, with its gradient, blind to constants."""
    name, rng = type(part).__name__, np.random.default_rng(grid.ndim)
    zero = carrier.refine(carrier.identity(), grid).astype(np.float64)
    theta, step = rng.standard_normal((2, *zero.shape))
    grams = getattr(carrier, getattr(part, "reads", "grams"))(theta, grid)
    for _ in range(200):  # a barrier is 0 far from it, infinite beyond
        energy = part(theta, grams)[0]
        if np.isfinite(energy) and energy > 0:
            break
        theta = theta * (1.03 if energy == 0 else 0.98)
    energy, gradient = part(theta, grams)
    _require(np.isfinite(energy) and energy > 0, f"{name}: the energy of noise is {energy}")
    _require(gradient.shape == theta.shape,
             f"{name}: the gradient must be {theta.shape}, got {gradient.shape}")
    _slope(f"{name} on {type(carrier).__name__}, {grid.ndim}-D", lambda h: part(theta + h * step, grams)[0],
           np.sum(gradient * step), STEPS)
    constant = zero + rng.standard_normal((grid.ndim, 1, 1, 1))
    _small(f"{name}: the energy of a constant over that of noise", part(constant, grams)[0] / energy, 1e-9)


def _regulariser_smooth(part, grid):
    """A filter of fields: into `out`, smoother than before, blind to constants."""
    name = type(part).__name__
    field = np.random.default_rng(5).standard_normal((grid.ndim, *grid.shape3))
    kept, out = field.copy(), np.empty_like(field)
    _require(part.smooth(field, grid, out) is out, f"{name}.smooth must return the array it was given")
    _require(np.array_equal(field, kept), f"{name}.smooth changed its input")
    before, after = np.var(field), np.var(out)
    _require(after < before, f"{name}.smooth took the variance of noise from {before:.4g} to {after:.4g}")
    constant = np.full_like(field, 2.5)
    _small(f"{name}.smooth changes a constant", part.smooth(constant, grid, out) - 2.5, 1e-9)


def _optimiser_run(part, objective, theta):
    """Up to 150 steps; the value at the start, and the last state."""
    name, begin = type(part).__name__, objective(theta).value
    state = part.init(objective, theta)
    _small(f"{name}.init: state.value is not that of the start", state.value - begin, 1e-12)
    for _ in range(150):
        theta = part.step(objective, theta, state)
        again = objective(theta).value
        _small(f"{name}: state.value is not that of theta", state.value - again, 1e-9)
        _require(state.best_value <= min(begin, again) + 1e-12,
                 f"{name}: the best value is {state.best_value}; seen were {begin} and {again}")
        if state.done:
            break
    _small(f"{name}: state.best_value is not that of state.best",
           objective(state.best).value - state.best_value, 1e-9)
    return begin, state


def _rotation(a, b, ndim):
    """About z, and in 3-D then about x."""
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    if ndim == 3:
        turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return turn[:ndim, :ndim]


def _waves(points, directions, lengths, phases):
    """Sum of plane waves with the given lengths in mm."""
    k = 2 * np.pi * directions / (np.linalg.norm(directions, axis=1) * lengths)[:, None]
    return np.sum(np.cos(points @ k.T + phases), axis=-1) / np.sqrt(len(k) / 2)

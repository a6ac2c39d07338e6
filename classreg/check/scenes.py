"""What all checks are made of: images to try a part on, and how a claim about numbers is held against them.

Must not import: cli, plot, report.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..grid import Grid
from ..image import Image
from ..mapping import Mapping
from ..metrics import SSD
from ..objective import Objective
from ..sampling import sample
from ..stencil import smooth

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


def require(holds, message: str) -> None:
    """Raise AssertionError with the message unless it holds."""
    if not holds:
        raise AssertionError(message)


def small(what: str, numbers, tolerance: float) -> None:
    """Hold the largest of some numbers against a tolerance."""
    worst = float(np.max(np.abs(numbers)))
    require(worst <= tolerance, f"{what}: {worst:.3g}, allowed {tolerance:g}")


def check_slope(what: str, value: Callable[[float], float], slope: float, steps) -> None:
    """Hold a slope against central differences of value(h)."""
    for h, tolerance in steps:
        measured = (value(h) - value(-h)) / (2 * h)
        require(abs(measured - slope) <= tolerance * abs(slope),
                f"{what}: the gradient gives a slope of {slope:.8g}, "
                f"differences at step {h:g} give {measured:.8g}")


def displacement(part, theta, at):
    """phi(x) - x on a grid, (d, *shape), or at points, (d, n)."""
    phi = part.forward(theta, at)[0]
    world = at.points() if isinstance(at, Grid) else at.world
    u = 0 if phi.field is None else np.moveaxis(phi.field, 0, -1)
    return np.moveaxis((world + u) @ phi.matrix[:-1, :-1].T + phi.matrix[:-1, -1] - world, -1, 0).copy()


def tangent(part, theta, fixed, moving, at, length):
    """A smooth random step that reaches `length` mm."""
    gradient = Objective(fixed, moving, part, SSD(), at=at)(theta).gradient if at is fixed.grid else None
    if gradient is None:
        coarse = Image(sample(fixed, Mapping(np.eye(at.ndim + 1)), at)[0].reshape(at.shape).copy(), at)
        gradient = Objective(coarse, moving, part, SSD())(theta).gradient
    step = np.random.default_rng(4).standard_normal(gradient.shape) + 0.5 * gradient / np.std(gradient)
    if step.ndim == 4:
        step = smooth(step, (1.5, 1.5, 1.5), np.empty_like(step))
    return step * (length / part.reach(step))


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

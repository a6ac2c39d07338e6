"""What a deformation does: the deformed grid, arrows, the Jacobian determinant and the curl.

    lines and arrows end at x + u(x); J = det D phi; |rot u|, in 2-D |du_y/dx - du_x/dy|, in radians

May import anything below and matplotlib; nothing imports it but `plot` and `report`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..errors import InputError
from ..evaluate import curl_magnitude
from ..fitted import FittedTransform
from ..result import Result
from . import shades
from .canvas import DARK, FOLD, LIGHT, LINE, canvas, colour_bar, finish, legend, round_below
from .given import check_above, field_of, grid_of, image_of, mask_of, middle
from .outlines import outline
from .pictures import paint

LINES = 40  # grid lines along the longest side
ARROWS = 24  # arrows along the longest side


def deformed_grid(transform, grid=None, *, linear: bool = False, at: Sequence[int] | None = None,
                  plane: str | None = None, ax=None) -> Figure:
    """Lines of the fixed lattice after the deformation, within each plane: where lines cross, it folds.

    Parameters
    ----------
    transform : Result, FittedTransform or array, (d, *grid.shape)
        An array is a displacement in mm, components world x, y[, z]. The part that leaves a plane is not drawn.
    grid : Grid or Image, optional
        Where it is sampled; the transform's own by default, 1 mm for an array.
    linear : bool
        Draw phi(x) = A (x + u(x)) instead of x + u(x). Where A is all there is, it is drawn anyway.
    at, plane, ax
        As everywhere, see `classreg.plot`.

    Raises
    ------
    InputError
        If the shapes do not fit.

    Examples
    --------
    >>> len(deformed_grid(np.zeros((2, 9, 9))).axes[0].collections)
    1
    """
    field, grid = field_of(transform, grid, linear)
    on = canvas(grid, middle(transform, at), plane, ax)
    gap = max(max(view.size) for view in on.views) / LINES
    for panel, view in on:
        right, down = view.centres()
        points = view.motion(field, grid) + np.stack(np.broadcast_arrays(right[None, :], down[:, None]), -1)
        every = [_every(n, max(1, round(gap / mm))) for n, mm in zip(points.shape, view.step)]
        lines = [*points[every[0]], *points[:, every[1]].swapaxes(0, 1)]
        panel.add_collection(LineCollection(lines, colors=LINE, linewidths=0.6), autolim=False)
        reach = np.nan_to_num(points.reshape(-1, 2))
        low, high = np.minimum(reach.min(0), 0), np.maximum(reach.max(0), view.size[::-1])
        panel.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]))
    return finish(on, DARK)


def quiver(transform, grid=None, *, image=None, linear: bool = False, stretch: float | None = None,
           at: Sequence[int] | None = None, plane: str | None = None, ax=None) -> Figure:
    """Arrows from points of the fixed image to where phi takes them, coloured by how far that is.

    Parameters
    ----------
    transform : Result, FittedTransform or array, (d, *grid.shape)
        An array is a displacement in mm, components world x, y[, z].
    grid : Grid or Image, optional
        Where it is sampled; the transform's own by default, 1 mm for an array.
    image : Image or path, optional
        What lies below, on the same grid; of a `Result` the fixed image.
    linear : bool
        Draw phi(x) - x instead of u. Where A is all there is, it is drawn anyway.
    stretch : float, optional
        How many times as long as the motion the arrows are. By default a round number that makes them readable; the
        figure says which.
    at, plane, ax
        As everywhere, see `classreg.plot`.

    Raises
    ------
    InputError
        If the shapes do not fit.
    OptionError
        If `stretch` is not above 0.

    Notes
    -----
    An arrow shows the part of the motion within its plane; its colour the whole length, in mm.

    Examples
    --------
    >>> figure = quiver(np.ones((2, 9, 9)), stretch=1)
    >>> float(figure.axes[0].collections[0].U[0])
    1.0
    """
    check_above(stretch, 0, "stretch")
    field, grid = field_of(transform, grid, linear)
    if image is None and isinstance(transform, Result) and grid.same_as(transform.fixed.grid):
        image = transform.fixed
    below = None if image is None else image_of(image)
    if below is not None and not below.grid.same_as(grid, 0.05):
        raise InputError(f"the image lies on {below.grid}, the displacement on {grid}; both need one grid")
    on = canvas(grid, middle(transform, at), plane, ax, bar=True)
    if below is not None:
        limits = shades.window(below)
        paint(on, [shades.picture(below, view, limits) // 2 for view in on.views])  # dimmed, for the arrows' sake
    gap = max(max(view.size) for view in on.views) / ARROWS
    arrows, shown = [], np.where(np.isfinite(field), field, np.nan)
    for _, view in on:
        right, down = view.centres()
        every = np.ix_(*(_inner(n, max(1, round(gap / mm))) for n, mm in zip((len(down), len(right)), view.step)))
        length = np.sqrt(np.square(view.cut(shown)[every], dtype=float).sum(-1))
        arrows.append((right[every[1][0]], down[every[0][:, 0]], view.motion(shown, grid)[every], length))
    top = max(float(np.nan_to_num(length).max(initial=0)) for *_, length in arrows)
    within = np.concatenate([np.hypot(*np.moveaxis(motion, -1, 0)).ravel() for *_, motion, _ in arrows])
    longest = float(np.percentile(np.nan_to_num(within), 98))
    stretch = stretch or (round_below(2 * gap / longest) if longest > 0 else 1.0)
    for (panel, _), (right, down, motion, length) in zip(on, arrows):
        drawn = panel.quiver(right, down, motion[..., 0], motion[..., 1], length, angles="xy", scale_units="xy",
                             scale=1 / stretch, units="dots", width=1.3, headwidth=4, headlength=5, headaxislength=4.5,
                             cmap=_part("viridis_r" if below is None else "plasma"), norm=Normalize(0, top or 1.0))
    colour_bar(on, drawn, "motion, mm" + ("" if stretch == 1 else f"; arrows {stretch:g} times as long"))
    return finish(on, DARK if below is None else LIGHT)


def jacobian(det, grid=None, *, mask=None, limit: float | None = None, at: Sequence[int] | None = None,
             plane: str | None = None, ax=None) -> Figure:
    """Map of the Jacobian determinant: white 1, red larger, blue smaller (logarithmic), yellow folded.

    Parameters
    ----------
    det : Result, FittedTransform or array, (*grid.shape)
        Local change of volume of phi. Values of 0 or less, and what is not finite, count as folded.
    grid : Grid or Image, optional
        Where an array is sampled; 1 mm by default.
    mask : array or image, optional
        Only where it is above 0; the rest is left blank.
    limit : float, optional
        Determinant at the red end, and 1 / limit at the blue one: give one to compare two figures. By default 99.9 % of
        the samples are within, at most 8.
    at, plane, ax
        As everywhere, see `classreg.plot`; by default a map with folds is shown through its smallest value.

    Raises
    ------
    InputError
        If the shapes do not fit.
    OptionError
        If the limit is not above 1.

    Examples
    --------
    >>> figure = jacobian(np.full((4, 5), 1.2))
    >>> float(figure.axes[0].images[0].norm(1.0))
    0.5
    """
    check_above(limit, 1, "limit, the determinant at the red end,")
    given = det
    if isinstance(det, (Result, FittedTransform)):
        transform = det.transform if isinstance(det, Result) else det
        mapping, det = transform.mapping(), transform.jacobian_determinant()
        grid = transform.grid if mapping.field is None else mapping.grid
    det = np.asarray(det)
    grid = grid_of(grid, det.shape)
    if det.shape != grid.shape:
        raise InputError(f"a determinant of shape {det.shape} does not fit a grid of shape {grid.shape}; "
                         "give one value per sample")
    inside = mask_of(mask, grid)
    valid = np.isfinite(det) & (det > 0)
    folds = ~valid if inside is None else ~valid & inside
    good = det[valid if inside is None else valid & inside]
    if at is None and folds.any():
        at = np.unravel_index(np.argmin(np.where(folds, np.nan_to_num(det, nan=-np.inf), np.inf)), det.shape)
    spread = float(np.percentile(np.abs(np.log2(good)), 99.9)) if good.size else 0.0
    top = 2 ** min(max(spread, 0.1), 3.0) if limit is None else float(limit)
    on = canvas(grid, middle(given, at, inside), plane, ax, bar=True)
    for panel, view in on:
        part = np.ma.array(view.cut(det).astype(float), mask=~view.cut(valid if inside is None else valid & inside))
        shown = panel.imshow(part, norm=LogNorm(1 / top, top), cmap=colormaps["RdBu_r"], interpolation="nearest",
                             extent=view.extent)
        _mark(panel, view, view.cut(folds))
    colour_bar(on, shown, ticks=[1 / top, top ** -0.5, 1, top ** 0.5, top], format="{x:.3g}", extend="both")
    if folds.any():
        legend(on, [Patch(facecolor=FOLD, edgecolor="black", linewidth=0.5, label="folded")])
    return finish(on, DARK)


def curl(transform, grid=None, *, mask=None, linear: bool = False, limit: float | None = None,
         at: Sequence[int] | None = None, plane: str | None = None, ax=None) -> Figure:
    """Map of the length of the curl of a displacement, which is twice the local rotation, for small ones in radians.

    Parameters
    ----------
    transform : Result, FittedTransform or array, (d, *grid.shape)
        An array is a displacement in mm, components world x, y[, z].
    grid : Grid or Image, optional
        Where it is sampled; the transform's own by default, 1 mm for an array.
    mask : array or image, optional
        Only where it is above 0; the rest is left blank.
    linear : bool
        Of phi(x) - x instead of u. Where A is all there is, it counts anyway.
    limit : float, optional
        Value at the bright end: give one to compare two figures. By default 99.9 % of the samples are below.
    at, plane, ax
        As everywhere, see `classreg.plot`.

    Raises
    ------
    InputError
        If the shapes do not fit or a component is not finite.
    OptionError
        If the limit is not above 0.

    Examples
    --------
    >>> float(curl(np.zeros((2, 4, 5))).axes[0].images[0].get_array().max())
    0.0
    """
    check_above(limit, 0, "limit")
    field, grid = field_of(transform, grid, linear)
    values, inside = curl_magnitude(field, grid), mask_of(mask, grid)
    if limit is None:
        limit = float(np.percentile(values if inside is None else values[inside], 99.9)) or float(values.max()) or 1.0
    on = canvas(grid, middle(transform, at, inside), plane, ax, bar=True)
    for panel, view in on:
        part = view.cut(values)
        part = part if inside is None else np.ma.array(part, mask=~view.cut(inside))
        shown = panel.imshow(part, norm=Normalize(0, limit), cmap=colormaps["cividis"], interpolation="nearest",
                             extent=view.extent)
    colour_bar(on, shown, "curl, rad", extend="max")
    return finish(on, LIGHT if inside is None else DARK)


def _mark(panel, view, folds) -> None:
    """Yellow with a dark rim, which no value of the map has."""
    if folds.any():
        panel.imshow(np.ma.array(np.zeros(folds.shape), mask=~folds), cmap=ListedColormap([FOLD]),
                     interpolation="nearest", extent=view.extent)
        outline(panel, view, folds, "solid", "black", 0.5)


def _part(name):
    """The colours of a map that can be seen on its ground: without the quarter that is like it."""
    return ListedColormap(colormaps[name](np.linspace(0.25, 1, 192)))


def _every(n, step):
    """Indices of every `step`-th of n samples, centred, both ends included."""
    return np.unique([0, *range((n - 1) % step // 2, n, step), n - 1])


def _inner(n, step):
    """Indices of every `step`-th of n samples, centred."""
    return np.arange((n - 1) % step // 2, n, step)

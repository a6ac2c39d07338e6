"""Slices of one image, and of two on one grid: checkerboard, overlay, difference.

    difference = warped - fixed, in the images' unit

May import anything below and matplotlib; nothing imports it but `plot` and `report`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from ..errors import OptionError
from . import shades
from .canvas import DARK, canvas, colour_bar, diverging, finish
from .given import check_above, image_of, mask_of, pair_of
from .views import centre


def slices(image, *, at: Sequence[int] | None = None, plane: str | None = None, ax=None, spacing=None,
           channel: int | None = None) -> Figure:
    """Slices of an image through the middle of what it shows, or through an array index.

    Parameters
    ----------
    image : Image, path, SimpleITK image, nibabel image or array
        2-D or 3-D; three channels are shown as RGB, of others the first.
    at, plane, ax, spacing, channel
        As everywhere, see `classreg.plot`.

    Returns
    -------
    Figure
        One panel per plane, in mm.

    Raises
    ------
    OptionError
        If `at` lies outside the grid.

    Examples
    --------
    >>> len(slices(np.ones((4, 5, 6)), spacing=(3.0, 1.0, 1.0)).axes)
    3
    """
    image = image_of(image, spacing, channel)
    on = canvas(image.grid, centre(image) if at is None else at, plane, ax)
    return ground(on, image)


def checkerboard(fixed, warped=None, *, at: Sequence[int] | None = None, plane: str | None = None, ax=None,
                 spacing=None, channel: int | None = None, squares: int = shades.SQUARES) -> Figure:
    """Alternate squares of two images on one grid; edges that run on across the squares are aligned.

    Parameters
    ----------
    fixed, warped : Image, path, SimpleITK image, nibabel image or array
        On the same grid; or a `Result` alone.
    at, plane, ax, spacing, channel
        As everywhere, see `classreg.plot`.
    squares : int
        Along the longer side; the top left one shows the fixed image.

    Raises
    ------
    InputError
        If the two images lie on different grids.

    Examples
    --------
    >>> len(checkerboard(np.zeros((8, 8)), np.ones((8, 8))).axes)
    1
    """
    if not (isinstance(squares, (int, np.integer)) and squares >= 2):
        raise OptionError(f"squares is {squares!r}; it must be a whole number of at least 2")
    return _mixed(fixed, warped, at, plane, ax, spacing, channel,
                  lambda a, b, view: shades.squares(a, b, view, squares))


def overlay(fixed, warped=None, *, at: Sequence[int] | None = None, plane: str | None = None, ax=None, spacing=None,
            channel: int | None = None) -> Figure:
    """Fixed in orange, warped in blue: grey where the two agree, coloured seams where they do not.

    Parameters
    ----------
    fixed, warped : Image, path, SimpleITK image, nibabel image or array
        On the same grid; or a `Result` alone. Each has its own grey window; colours count by their mean.
    at, plane, ax, spacing, channel
        As everywhere, see `classreg.plot`.

    Raises
    ------
    InputError
        If the two images lie on different grids.

    Examples
    --------
    >>> overlay(np.eye(8), np.eye(8)).axes[0].images[0].get_array().shape
    (8, 8, 3)
    """
    return _mixed(fixed, warped, at, plane, ax, spacing, channel, lambda a, b, view: shades.two_colours(a, b))


def difference(fixed, warped=None, *, limit: float | None = None, mask=None, at: Sequence[int] | None = None,
               plane: str | None = None, ax=None, spacing=None, channel: int | None = None) -> Figure:
    """Warped minus fixed: white where they agree, red where the warped image is brighter, blue where darker.

    Parameters
    ----------
    fixed, warped : Image, path, SimpleITK image, nibabel image or array
        On the same grid and in one unit; or a `Result` alone. Of three channels the mean counts, of others the first.
    limit : float, optional
        Difference at the ends of the colours: give one to compare two figures. By default 99 % of the samples are
        within.
    mask : array or image, optional
        Only where it is above 0; the rest is left blank.
    at, plane, ax, spacing, channel
        As everywhere, see `classreg.plot`.

    Raises
    ------
    InputError
        If the two images or the mask lie on different grids.
    OptionError
        If the limit is not above 0.

    Notes
    -----
    Says something for images of one modality and scale only.

    Examples
    --------
    >>> figure = difference(np.zeros((8, 8)), np.full((8, 8), 3.0))
    >>> figure.axes[0].images[0].get_clim()
    (-3.0, 3.0)
    """
    check_above(limit, 0, "limit")
    a, b = pair_of(fixed, warped, spacing, channel)
    inside = mask_of(mask, a.grid)
    grey = [image.data.mean(0, dtype=float) if image.channels == 3 else image.data[0].astype(float) for image in (a, b)]
    values = (grey[1] - grey[0]).reshape(a.grid.shape)
    values[~np.isfinite(values) if inside is None else ~(np.isfinite(values) & inside)] = np.nan
    if limit is None:
        found = np.abs(values[np.isfinite(values)])
        limit = float(np.percentile(found, 99)) if found.size else 0.0
        limit = limit or float(found.max(initial=0)) or 1.0
    on = canvas(a.grid, centre(a, inside) if at is None else at, plane, ax, bar=True)
    for panel, view in on:
        shown = panel.imshow(np.ma.masked_invalid(view.cut(values)), norm=diverging(limit), cmap=colormaps["RdBu_r"],
                             interpolation="nearest", extent=view.extent)
    colour_bar(on, shown, "warped \N{MINUS SIGN} fixed", extend="both")
    return finish(on, DARK)


def ground(on, image) -> Figure:
    """The slices of an image on all panels of a canvas."""
    limits = shades.window(image)
    paint(on, [shades.picture(image, view, limits) for view in on.views])
    return finish(on)


def paint(on, pictures) -> None:
    """8-bit pictures, one per panel."""
    for (panel, view), array in zip(on, pictures):
        panel.imshow(array, cmap="gray", vmin=0, vmax=255, extent=view.extent)


def _mixed(fixed, warped, at, plane, ax, spacing, channel, mix) -> Figure:
    a, b = pair_of(fixed, warped, spacing, channel)
    on = canvas(a.grid, centre(a) if at is None else at, plane, ax)
    one, other = shades.window(a), shades.window(b)
    paint(on, [mix(shades.picture(a, v, one), shades.picture(b, v, other), v) for v in on.views])
    return finish(on)

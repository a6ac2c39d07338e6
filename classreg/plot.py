"""Pictures of a registration: slices, checkerboard, overlay, deformed grid, Jacobian, convergence.

The functions take arrays or images and return a `matplotlib.figure.Figure` with its own Agg canvas. Nothing
is shown and no global state is touched, so they serve scripts, notebooks and threads alike.

Screen rule: head up, front up, the patient's left on the right (radiological), whatever way the array axes
run; a sagittal slice faces left. An oblique plane bears the name of the nearest anatomical one. A millimetre
is as high as it is wide.

May import anything below and matplotlib; nothing imports it but `report` and a lazy call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, permutations

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from .errors import InputError, OptionError
from .grid import Grid
from .image import Image

TEXT = "#808894"  # reads on white and on black
LINE = "#3f8fd2"
FOLD = "#ffd400"  # on neither side of the blue-red map
SQUARES = 8  # checkerboard squares along the longest side
LINES = 40  # grid lines along the longest side
WIDE, HIGH = 9.0, 4.5  # inches that the panels of a figure fill at most


@dataclass(frozen=True)
class Plane:
    """One array plane of a grid and how it lies on the screen.

    `axis` (None in 2-D) is held at `index`; array axis `rows` runs down and `columns` to the right, each
    reversed where `flip` says so. `size` is (height, width) in mm; `edges` are the patient's sides at the
    top, right, bottom and left.
    """

    name: str
    ndim: int
    axis: int | None
    index: int
    rows: int
    columns: int
    flip: tuple[bool, bool]
    size: tuple[float, float]
    edges: tuple[str, str, str, str]

    def cut(self, array: np.ndarray) -> np.ndarray:
        """The slice of an array (..., *grid.shape) as the screen sees it: (rows, columns, ...)."""
        lead = array.ndim - self.ndim
        if self.axis is not None:
            array = array.take(self.index, axis=lead + self.axis)
        array = np.moveaxis(array, (-2, -1), (0, 1))
        if self.rows > self.columns:
            array = array.swapaxes(0, 1)
        return array[::-1 if self.flip[0] else 1, ::-1 if self.flip[1] else 1]


def planes(grid: Grid, at: Sequence[int] | None = None) -> list[Plane]:
    """The planes of a grid that are worth a panel: axial, coronal, sagittal; one in 2-D.

    Parameters
    ----------
    grid : Grid
        Any direction matrix. Planes one sample thin in the screen are left out, unless there are no others.
    at : sequence of int, optional
        Array index (z, y, x) that the planes cross in; the middle by default.

    Returns
    -------
    list of Plane
        In the order axial, coronal, sagittal.

    Raises
    ------
    OptionError
        If `at` has the wrong length or lies outside the grid.

    Examples
    --------
    >>> [plane.name for plane in planes(Grid.from_spacing((4, 5, 6)))]
    ['axial', 'coronal', 'sagittal']
    """
    d = grid.ndim
    at = [n // 2 for n in grid.shape] if at is None else [int(i) for i in at]
    if len(at) != d or any(not 0 <= i < n for i, n in zip(at, grid.shape)):
        raise OptionError(f"at={at} is no sample of a grid of shape {grid.shape}; "
                          "give one array index per axis, from 0 to the axis' length - 1")
    direction = grid.affine[:d, :d] / grid.spacing  # columns: array axes; rows: world x, y[, z]
    world = max(permutations(range(d)), key=lambda p: sum(abs(direction[w, a]) for a, w in enumerate(p)))
    found = []
    for axis in ([None] if d == 2 else range(3)):
        # the larger world axis runs down the screen: z before y before x
        columns, rows = sorted((a for a in range(d) if a != axis), key=lambda a: world[a])
        up = [direction[world[a], a] > 0 for a in (rows, columns)]
        head_up = world[rows] == 2
        name = "plane" if axis is None else ("sagittal", "coronal", "axial")[world[axis]]
        edges = ("",) * 4 if axis is None else (
            "S" if head_up else "A", "L" if world[columns] == 0 else "P",
            "I" if head_up else "P", "R" if world[columns] == 0 else "A")
        found.append(Plane(name, d, axis, 0 if axis is None else at[axis], rows, columns,
                           (up[0] if head_up else not up[0], not up[1]),
                           (float(grid.extent[rows]), float(grid.extent[columns])), edges))
    found.sort(key=lambda p: p.name)  # the alphabet happens to be the usual order
    thick = [p for p in found if min(grid.shape[p.rows], grid.shape[p.columns]) > 1]
    return thick or [max(found, key=lambda p: grid.shape[p.rows] * grid.shape[p.columns])]


def window(*images: Image) -> tuple[float, float]:
    """Grey values shown as black and white: robust percentiles (0.5, 99.5) over all the images together.

    Colour images (three channels) keep their colours: the range 0..1 or 0..255 that holds them.

    Examples
    --------
    >>> ramp = np.linspace(0.0, 1000.0, 40 * 50).reshape(40, 50)
    >>> low, high = window(Image(ramp, Grid.from_spacing((40, 50))))
    >>> round(low), round(high)
    (5, 995)
    """
    def values(image, most):
        array = image.array if image.channels == 3 or image.channels == 1 else image.array[0]
        thin = tuple(slice(None, None, max(1, n // most)) for n in image.grid.shape)
        part = array[(..., *thin)].ravel()
        return part[np.isfinite(part)]

    some = np.concatenate([values(image, 64) for image in images])
    if some.size == 0:
        return 0.0, 1.0
    if images[0].channels == 3 and some.min() >= 0 and some.max() <= 256:
        return 0.0, 1.0 if some.max() <= 1 else 255.0
    low, high = np.percentile(some, (0.5, 99.5))
    if high <= low:  # a few bright voxels on nothing
        every = np.concatenate([values(image, max(image.grid.shape)) for image in images])
        low, high = every.min(), every.max()
    return float(low), float(high if high > low else low + 1)


def picture(image: Image, plane: Plane, limits: tuple[float, float]) -> np.ndarray:
    """A slice as 8-bit grey (rows, columns), or RGB (rows, columns, 3) of an image with three channels.

    `limits` are the values shown as 0 and 255. Other images show their first channel; NaN is black.
    """
    array = image.array
    if array.ndim > image.grid.ndim and image.channels != 3:
        array = array[0]
    low, high = limits
    scaled = (plane.cut(array).astype(float) - low) / (high - low)
    return (np.clip(np.nan_to_num(scaled), 0, 1) * 255 + 0.5).astype(np.uint8)


def squares(a: np.ndarray, b: np.ndarray, plane: Plane) -> np.ndarray:
    """Two pictures of one plane in alternate squares, equal in mm; the top left one shows `a`."""
    if a.ndim != b.ndim:
        a, b = (p if p.ndim == 3 else np.repeat(p[..., None], 3, -1) for p in (a, b))
    side = max(plane.size) / SQUARES
    row, column = ((np.arange(n) + 0.5) * mm / n // side for n, mm in zip(a.shape, plane.size))
    odd = ((row[:, None] + column) % 2).astype(bool)
    return np.where(odd if a.ndim == 2 else odd[..., None], b, a)


def red_cyan(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Two pictures as one RGB: `a` red, `b` cyan, so that agreement is grey."""
    a, b = (p if p.ndim == 2 else p.mean(-1).astype(np.uint8) for p in (a, b))
    return np.stack([a, b, b], -1)


def slices(image: Image, at: Sequence[int] | None = None) -> Figure:
    """The middle slices of an image, or those through an array index.

    Parameters
    ----------
    image : Image
        2-D or 3-D; three channels are shown as RGB, of others the first.
    at : sequence of int, optional
        Array index (z, y, x).

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
    >>> figure = slices(Image(np.ones((4, 5, 6)), Grid.from_spacing((4, 5, 6), (3.0, 1.0, 1.0))))
    >>> len(figure.axes)
    3
    """
    limits = window(image)
    views = planes(image.grid, at)
    return _pictures(views, [picture(image, plane, limits) for plane in views])


def checkerboard(fixed: Image, warped: Image, at: Sequence[int] | None = None) -> Figure:
    """Alternate squares of two images on one grid; edges that run on across the squares are aligned.

    Parameters
    ----------
    fixed, warped : Image
        On the same grid.
    at : sequence of int, optional
        Array index (z, y, x) of the slices; the middle by default.

    Raises
    ------
    InputError
        If the two images differ in shape.

    Examples
    --------
    >>> grid = Grid.from_spacing((8, 8))
    >>> figure = checkerboard(Image(np.zeros((8, 8)), grid), Image(np.ones((8, 8)), grid))
    >>> len(figure.axes)
    1
    """
    return _pair(fixed, warped, at, squares)


def overlay(fixed: Image, warped: Image, at: Sequence[int] | None = None) -> Figure:
    """Fixed in red, warped in cyan: grey where the two agree, coloured seams where they do not.

    Parameters
    ----------
    fixed, warped : Image
        On the same grid.
    at : sequence of int, optional
        Array index (z, y, x) of the slices; the middle by default.

    Raises
    ------
    InputError
        If the two images differ in shape.

    Examples
    --------
    >>> image = Image(np.eye(8), Grid.from_spacing((8, 8)))
    >>> overlay(image, image).axes[0].images[0].get_array().shape
    (8, 8, 3)
    """
    return _pair(fixed, warped, at, lambda a, b, plane: red_cyan(a, b))


def deformed_grid(displacement: np.ndarray, grid: Grid, at: Sequence[int] | None = None) -> Figure:
    """Lines of the grid after the displacement: where phi takes the fixed image's lattice, within each plane.

    Parameters
    ----------
    displacement : array, (d, *grid.shape)
        phi(x) - x in mm, components world x, y[, z]. The part that leaves a plane is not drawn.
    grid : Grid
        Where the displacement is sampled.
    at : sequence of int, optional
        Array index (z, y, x) of the planes; the middle by default.

    Raises
    ------
    InputError
        If the shapes do not fit.

    Examples
    --------
    >>> grid = Grid.from_spacing((9, 9))
    >>> len(deformed_grid(np.zeros((2, 9, 9)), grid).axes[0].collections)
    1
    """
    displacement = np.asarray(displacement)
    if displacement.shape != (grid.ndim, *grid.shape):
        raise InputError(f"a displacement of shape {displacement.shape} does not fit the grid; "
                         f"it is {(grid.ndim, *grid.shape)}, components first, in mm")
    views = planes(grid, at)
    figure, axes = _canvas(views)
    inverse = np.linalg.inv(grid.affine[:-1, :-1])
    gap = max(max(plane.size) for plane in views) / LINES
    for ax, plane in zip(axes, views):
        moved = np.einsum("rcw,aw->rca", plane.cut(displacement).astype(float), inverse)  # mm -> samples
        points = np.empty((*moved.shape[:2], 2))  # (column, row) in mm on the screen
        steps = []
        for k, (axis, flip) in enumerate(zip((plane.rows, plane.columns), plane.flip)):
            mm = grid.spacing[axis]
            own = (np.arange(moved.shape[k]) + 0.5).reshape((-1, 1) if k == 0 else (1, -1))
            points[..., 1 - k] = (own + (-1 if flip else 1) * moved[..., axis]) * mm
            steps.append(max(1, round(gap / mm)))
        lines = [*points[_every(len(points), steps[0])],
                 *points[:, _every(points.shape[1], steps[1])].swapaxes(0, 1)]
        ax.add_collection(LineCollection(lines, colors=LINE, linewidths=0.6), autolim=False)
        reach = np.nan_to_num(points.reshape(-1, 2))
        low, high = np.minimum(reach.min(0), 0), np.maximum(reach.max(0), plane.size[::-1])
        ax.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal")
    return figure


def jacobian(det: np.ndarray, grid: Grid, at: Sequence[int] | None = None) -> Figure:
    """Map of the Jacobian determinant: white 1, red larger, blue smaller (logarithmic), yellow folded.

    Parameters
    ----------
    det : array, (*grid.shape)
        Local change of volume of phi. Values of 0 or less, and what is not finite, count as folded.
    grid : Grid
        Where the determinant is sampled.
    at : sequence of int, optional
        Array index (z, y, x) of the slices; the middle by default.

    Raises
    ------
    InputError
        If the shapes do not fit.

    Examples
    --------
    >>> figure = jacobian(np.full((4, 5), 1.2), Grid.from_spacing((4, 5)))
    >>> float(figure.axes[0].images[0].norm(1.0))
    0.5
    """
    det = np.asarray(det)
    if det.shape != grid.shape:
        raise InputError(f"a determinant of shape {det.shape} does not fit a grid of shape {grid.shape}; "
                         "give one value per sample")
    good = det[np.isfinite(det) & (det > 0)]
    spread = float(np.percentile(np.abs(np.log2(good)), 99)) if good.size else 0.0
    top = 2 ** min(max(spread, 0.1), 3.0)
    norm = LogNorm(1 / top, top)
    colours = colormaps["RdBu_r"].with_extremes(bad=FOLD)
    views = planes(grid, at)
    figure, axes = _canvas(views, scale=True)
    for ax, plane in zip(axes, views):
        part = plane.cut(det).astype(float)
        folded = ~(np.isfinite(part) & (part > 0))
        shown = ax.imshow(np.ma.array(part, mask=folded), norm=norm, cmap=colours, interpolation="nearest",
                          extent=(0, plane.size[1], plane.size[0], 0))
    ticks = [1 / top, top ** -0.5, 1, top ** 0.5, top]
    bar = figure.colorbar(shown, cax=axes[-1], ticks=ticks, format="{x:.3g}", extend="both")
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(labelsize=8, colors=TEXT, length=2)
    bar.outline.set_visible(False)
    if good.size < det.size:
        figure.legend(handles=[Patch(facecolor=FOLD, label="folded")], loc="lower right", frameon=False,
                      fontsize=8, labelcolor=TEXT, handlelength=0.8, borderpad=0, handletextpad=0.5)
    return figure


def convergence(history: Sequence[dict]) -> Figure:
    """Value against iteration, one panel per stage and level: values compare only within one.

    Parameters
    ----------
    history : sequence of dict
        Records in order, with the keys `stage`, `level`, `iteration`, `value`.

    Returns
    -------
    Figure
        At most four panels a row.

    Raises
    ------
    InputError
        If there are no records.

    Examples
    --------
    >>> records = [dict(stage="affine", level=k // 5, iteration=k % 5, value=1 / (k + 1)) for k in range(10)]
    >>> [ax.get_title(loc="left") for ax in convergence(records).axes]
    ['affine, level 0', 'affine, level 1']
    """
    groups = levels(history)
    if not groups:
        raise InputError("the history is empty: there is nothing to draw before the first iteration")
    across = min(4, len(groups))
    down = -(-len(groups) // across)
    figure = Figure(figsize=(3.0 * across, 2.2 * down), layout="constrained")
    FigureCanvasAgg(figure)
    for k, (stage, level, records) in enumerate(groups):
        ax = figure.add_subplot(down, across, k + 1)
        ax.plot([r["iteration"] for r in records], [r["value"] for r in records], color=LINE, linewidth=1.4,
                marker="o" if len(records) == 1 else None, markersize=3)
        ax.set_title(f"{stage}, level {level}", fontsize=9, color=TEXT, loc="left", parse_math=False)
        ax.set_xlabel("iteration", fontsize=8, color=TEXT)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.ticklabel_format(axis="y", useOffset=False)
        ax.tick_params(labelsize=8, colors=TEXT, length=2)
        ax.patch.set_alpha(0)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set(color=TEXT, alpha=0.6)
    return figure


def levels(history: Sequence[dict]) -> list[tuple[str, int, list[dict]]]:
    """The records of a history in runs of one stage and level: (stage, level, records)."""
    return [(*key, list(part)) for key, part in groupby(history, key=lambda r: (r["stage"], r["level"]))]


def _every(n, step):
    """Indices of every `step`-th of n samples, centred, both ends included."""
    return np.unique([0, *range((n - 1) % step // 2, n, step), n - 1])


def _pair(fixed, warped, at, mix):
    if fixed.grid.shape != warped.grid.shape:
        raise InputError(f"the images have shapes {fixed.grid.shape} and {warped.grid.shape}; "
                         "resample one to the other's grid first (classreg.apply)")
    views = planes(fixed.grid, at)
    a, b = window(fixed), window(warped)
    return _pictures(views, [mix(picture(fixed, p, a), picture(warped, p, b), p) for p in views])


def _pictures(views, pictures):
    figure, axes = _canvas(views)
    for ax, plane, array in zip(axes, views, pictures):
        ax.imshow(array, cmap="gray", vmin=0, vmax=255, extent=(0, plane.size[1], plane.size[0], 0))
    return figure


def _canvas(views, scale=False):
    """A figure with one bare axes per plane at one scale in mm; `scale` adds narrow axes for a colour bar."""
    widths, tallest = [p.size[1] for p in views], max(p.size[0] for p in views)
    gap, title, bar = 0.02 * sum(widths), 0.25, 0.7 * scale  # mm, inches, inches
    total = sum(widths) + gap * (len(views) - 1)
    inches = min((WIDE - bar) / total, HIGH / tallest)  # per mm
    wide, high = total * inches + bar, tallest * inches + title
    figure = Figure(figsize=(wide, high))
    FigureCanvasAgg(figure)
    axes, left = [], 0.0
    for plane, mm in zip(views, widths):
        ax = figure.add_axes((left * inches / wide, 0, mm * inches / wide, tallest * inches / high))
        ax.set_axis_off()
        ax.set_title(plane.name if plane.axis is not None else "", fontsize=9, color=TEXT, pad=4)
        axes.append(ax)
        left += mm + gap
    if scale:
        axes.append(figure.add_axes((1 - 0.6 / wide, 0.12, 0.12 / wide, 0.76 * tallest * inches / high)))
    return figure, axes

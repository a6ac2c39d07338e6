"""Checks at the door: everything that can be known to be wrong before the first iteration.

`check_image`, `check_pair` and `check_levels` raise a typed error that carries the numbers and the remedy.
`inspect_pair` returns the same findings, and softer ones, as a list: what `classreg check` prints.

Must not import: metrics, optimisers, the engine, io, numba, cupy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .errors import ClassregError, GeometryError, InputError, OptionError
from .grid import Grid
from .image import Image

FEWEST_ALONG_LONGEST_AXIS = 4
FEWEST_IN_MASK = 30
_SUBSAMPLE = 200_000
_ORDER = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One line of `classreg check`: how grave it is, a short code, and a sentence.

    Examples
    --------
    >>> Finding("note", "overlap", "100 % of the fixed image lies inside the moving one").level
    'note'
    """

    level: Literal["error", "warning", "note"]
    code: str
    message: str


def check_image(image: Image, name: str) -> None:
    """Refuse an image that cannot be registered.

    Parameters
    ----------
    image : Image
        2-D or 3-D, with or without a mask.
    name : str
        What the messages call it: "fixed" or "moving".

    Raises
    ------
    InputError
        If values are NaN or infinite (anywhere, masks do not excuse them) or beyond float32, if the image is
        constant where its mask counts, if it has under 4 voxels along its longest axis, or its mask covers
        under 30 voxels.

    Examples
    --------
    >>> image = Image(np.arange(20.0).reshape(4, 5), Grid.from_spacing((4, 5)))
    >>> check_image(image, "fixed")
    """
    array, weight = image.array, image.weight
    if max(image.grid.shape) < FEWEST_ALONG_LONGEST_AXIS:
        raise InputError(f"the {name} image has only {_times(image.grid.shape)} voxels; registration needs "
                         f"at least {FEWEST_ALONG_LONGEST_AXIS} along the longest axis: check that the "
                         "right file was read")
    if weight is not None and (covered := int(np.count_nonzero(weight))) < FEWEST_IN_MASK:
        raise InputError(f"the {name} mask covers only {covered} of {weight.size} voxels; at least "
                         f"{FEWEST_IN_MASK} are needed: use a larger mask, or none")
    if array.dtype.kind == "f":
        if not (np.isfinite(array.min()) and np.isfinite(array.max())):
            finite = np.isfinite(array)
            bad = array[~finite]
            nans = int(np.isnan(bad).sum())
            first = tuple(int(i) for i in np.unravel_index(np.argmin(finite), array.shape))
            raise InputError(f"the {name} image has {bad.size} values that are not finite ({nans} NaN, "
                             f"{bad.size - nans} infinite), the first at array index {first}; every voxel "
                             "must be finite, masked or not: replace them (numpy.nan_to_num) and leave "
                             "those voxels out with a mask")
    ranges = [_range(channel, image.weight3) for channel in image.data]
    reach = max(max(abs(low), abs(high)) for low, high in ranges)
    if reach > float(np.finfo(np.float32).max):
        raise InputError(f"the {name} image holds values up to {reach:.3g} in size, beyond what float32 "
                         "holds (3.4e+38): divide the intensities by a constant")
    if all(np.float32(low) == np.float32(high) for low, high in ranges):
        where = "" if weight is None else " inside its mask"
        values = ", ".join(f"{low:g}" for low, _ in ranges)
        raise InputError(f"the {name} image is constant{where} (value {values}); registration needs "
                         "intensities that differ: check that the right file was read"
                         + ("" if weight is None else ", or widen the mask"))


def check_pair(fixed: Image, moving: Image, *, initial: np.ndarray | None = None,
               needs_overlap: bool = False) -> None:
    """Refuse two images that cannot be registered with each other.

    By default registration begins by aligning the centres, so headers that place the images apart are no
    fault. They are one where the start is given: as a matrix, or as the identity (`needs_overlap` without
    `initial`).

    Parameters
    ----------
    fixed, moving : Image
        Both 2-D or both 3-D, with the same number of channels.
    initial : array, (d + 1, d + 1), optional
        The start, fixed world to moving world; given, the images and their masks must overlap under it.
    needs_overlap : bool
        Whether the images must overlap as their headers place them.

    Raises
    ------
    InputError
        If dimensions or channels differ, or the masks never overlap where overlap is needed.
    GeometryError
        If the grids do not overlap where overlap is needed, or `initial` is no invertible matrix of the right
        shape.

    Examples
    --------
    >>> image = Image(np.arange(20.0).reshape(4, 5), Grid.from_spacing((4, 5)))
    >>> check_pair(image, image, needs_overlap=True)
    """
    if fixed.grid.ndim != moving.grid.ndim:
        raise InputError(f"the fixed image is {fixed.grid.ndim}-D ({_times(fixed.grid.shape)}) and the "
                         f"moving image {moving.grid.ndim}-D ({_times(moving.grid.shape)}); both must be "
                         "2-D or both 3-D: take the matching slice of the 3-D image, or give the 2-D one "
                         "as a volume of one slice (array[None])")
    if fixed.channels != moving.channels:
        raise InputError(f"the fixed image has {fixed.channels} channels and the moving image "
                         f"{moving.channels}; both need the same number: convert both to grey values, or "
                         "choose the channels that correspond")
    if initial is None and not needs_overlap:
        return
    matrix = _matrix(initial, fixed.grid.ndim)
    back = np.linalg.inv(matrix)
    if overlap(fixed.grid, moving.grid, matrix) == 0 and overlap(moving.grid, fixed.grid, back) == 0:
        start = "as their headers place them" if initial is None else "under the initial transform"
        raise GeometryError(f"fixed and moving do not overlap {start}: fixed extent "
                            f"{_mm(fixed.grid.extent)}, moving extent {_mm(moving.grid.extent)}, centres "
                            f"{_apart(fixed.grid, moving.grid, matrix):.1f} mm apart; begin with "
                            'init="geometry", or correct the origins in the headers')
    if fixed.weight is not None and moving.weight is not None and not meet(fixed, moving, matrix):
        counts = [int(np.count_nonzero(image.weight)) for image in (fixed, moving)]
        raise InputError(f"the fixed mask ({counts[0]} voxels) and the moving mask ({counts[1]} voxels) "
                         'never overlap: no voxel would count; begin with init="geometry", or leave one of '
                         "the masks out")


def check_levels(grid: Grid, factors: Sequence[float], least: int = 4) -> None:
    """Refuse pyramid levels, asked for by the user, that leave too few samples.

    Parameters
    ----------
    grid : Grid
        The fixed grid.
    factors : sequence of float
        How much coarser each level is than the finest spacing, at least 1, coarse to fine. Axes that are coarser
        already are left alone.
    least : int
        Samples that a level must keep along an axis that has more than that at full resolution.

    Raises
    ------
    OptionError
        If a factor is no number of at least 1, they rise, or a level is too coarse.

    Examples
    --------
    >>> check_levels(Grid.from_spacing((9, 64, 64), (10, 1, 1)), [8, 4, 2, 1])
    """
    if not isinstance(factors, (Sequence, np.ndarray)) or isinstance(factors, str):
        raise OptionError(f"levels are factors of at least 1, coarse to fine, such as (4, 2, 1); got {factors!r}")
    if len(factors) == 0:
        raise OptionError("no levels were given; at least one is needed: 1 is full resolution")
    for number, factor in enumerate(factors, 1):
        if not (isinstance(factor, (int, float, np.number)) and np.isfinite(factor) and factor >= 1):
            raise OptionError(f"level {number} has the factor {factor!r}; a factor is a number of at least 1: "
                              "1 is full resolution, 2 is half of it")
        if number > 1 and factor > factors[number - 2]:
            raise OptionError(f"level {number} has the factor {factor} after {factors[number - 2]}; levels go from "
                              "coarse to fine")
        shrink = np.maximum(1, factor * grid.resolution / grid.spacing)
        for axis, (full, left) in enumerate(zip(grid.shape, np.ceil(grid.shape / shrink))):
            if left < least < full:
                largest = int(np.ceil(full / (least - 1) * grid.spacing[axis] / grid.resolution)) - 1
                raise OptionError(f"level {number} of {len(factors)} (factor {factor}) leaves {left:g} of "
                                  f"{full} samples along axis {axis}, and at least {least} are needed: use "
                                  f"a factor of at most {largest} there, or leave the levels to classreg")


def overlap(fixed: Grid, moving: Grid, matrix: np.ndarray | None = None) -> float:
    """Fraction (0..1) of the fixed grid's samples that lie inside the moving grid.

    Counted on at most 20 samples per axis, outermost ones included. Inside means within half a voxel of a
    sample; an axis of one sample has no outside.

    Parameters
    ----------
    fixed, moving : Grid
        Of one dimension d.
    matrix : array, (d + 1, d + 1), optional
        Fixed world to moving world; the identity by default.

    Examples
    --------
    >>> a = Grid.from_spacing((10, 10), spacing=2.0)
    >>> overlap(a, Grid.from_spacing((10, 10), spacing=2.0, origin=(10.0, 0.0)))
    0.5
    """
    points = fixed.to_world(_lattice(fixed))
    return float(_inside(moving, _move(_matrix(matrix, fixed.ndim), points))[1].mean())


def meet(a: Image, b: Image, matrix: np.ndarray) -> bool:
    """Whether a sample that counts of one image falls on one of the other, through `matrix`, world of a to world of b.

    Examples
    --------
    >>> image = Image(np.arange(20.0).reshape(4, 5), Grid.from_spacing((4, 5)))
    >>> meet(image, image, np.eye(3))
    True
    """
    back = np.linalg.inv(matrix)
    return bool(counts_at(b, _move(matrix, counting(a))).any() or counts_at(a, _move(back, counting(b))).any())


def counting(image: Image) -> np.ndarray:
    """World points (n, d) of samples that count: at most 20 along each axis, and of a mask at most 200 000."""
    grid = image.grid
    if image.weight is None:
        return grid.to_world(_lattice(grid))
    flat = np.flatnonzero(image.weight)
    return grid.to_world(np.column_stack(np.unravel_index(flat[:: -(-len(flat) // _SUBSAMPLE)], grid.shape)))


def counts_at(image: Image, points: np.ndarray) -> np.ndarray:
    """Whether an image counts at the samples nearest to world points (n, d), (n,) bool."""
    index, within = _inside(image.grid, points)
    return within if image.weight is None else within & (image.weight[tuple(index.T)] > 0)


def inspect_pair(fixed: Image, moving: Image, model: str = "bspline") -> list[Finding]:
    """All that can be said about a pair before registering it, gravest first.

    Errors are what would stop `classreg.register`; warnings are what probably is not meant; notes are
    measurements. Percentiles come from a strided subsample, so that a large pair takes less than a second.

    Raises
    ------
    OptionError
        If the model is unknown.

    Examples
    --------
    >>> image = Image(np.arange(400.0).reshape(20, 20), Grid.from_spacing((20, 20)))
    >>> inspect_pair(image, image)[0].level
    'note'
    """
    memory = _memory(fixed, moving, model)
    found = []
    for name, image in (("fixed", fixed), ("moving", moving)):
        grid = image.grid
        found += _caught("error", f"{name} image", check_image, image, name)
        found.append(Finding("note", f"{name} grid", (
            f"{grid.ndim}-D, {_times(grid.shape)} voxels, {image.channels} channel"
            f"{'s' * (image.channels > 1)} of {image.array.dtype}, spacing {_mm(grid.spacing)}, extent "
            f"{_mm(grid.extent)}")))
        found += _intensities(image, name)
    apart = _caught("error", "pair", check_pair, fixed, moving)
    if not apart:
        apart = _caught("warning", "overlap", check_pair, fixed, moving, needs_overlap=True)
    found += apart
    if fixed.grid.ndim == moving.grid.ndim:
        found += _geometry(fixed.grid, moving.grid)
    return sorted([*found, memory], key=lambda finding: _ORDER.index(finding.level))


def _caught(level, code, check, *args, **kwargs) -> list[Finding]:
    """The error that a check raises, as a finding."""
    try:
        check(*args, **kwargs)
    except ClassregError as error:
        return [Finding(level, code, str(error))]
    return []


def _geometry(fixed: Grid, moving: Grid) -> list[Finding]:
    """How the two grids lie to each other and how their sizes compare."""
    share = overlap(fixed, moving)
    apart = _apart(fixed, moving, np.eye(fixed.ndim + 1))
    found = [
        Finding("warning" if 0 < share < 0.25 else "note", "overlap",
                f"{100 * share:.0f} % of the fixed image lies inside the moving one as the headers place "
                "them"),
        Finding("note", "centres", f"the centres are {apart:.1f} mm apart")]
    # sorted: the axes of two scans of one body are often permuted
    extents = np.sort(fixed.extent) / np.sort(moving.extent)
    extents = np.maximum(extents, 1 / extents)
    spacing = float(np.prod(fixed.spacing / moving.spacing) ** (1 / fixed.ndim))
    spacing = max(spacing, 1 / spacing)
    found.append(Finding("note", "spacing", f"the voxels differ in size by a factor of {spacing:.3g}"))
    text = f"the extents differ by a factor of up to {extents.max():.3g}"
    if extents.min() > 10:
        found.append(Finding("warning", "extent", f"{text}, along every axis: is one in micrometres and the "
                             "other in millimetres? Correct the spacing of one of them"))
    elif extents.max() > 1.5:
        found.append(Finding("warning", "extent", f"{text}: check the spacing in both headers; if one "
                                                  "image shows more of the body than the other, crop it "
                                                  "or mask the part that both show"))
    else:
        found.append(Finding("note", "extent", text))
    return found


def _intensities(image: Image, name: str) -> list[Finding]:
    """Range, outliers and label-likeness of the values that count."""
    d, size = image.grid.ndim, image.grid.size
    step = max(1, int(np.ceil((size / _SUBSAMPLE) ** (1 / d))))
    thin = (slice(None, None, step),) * d
    found = []
    for number, channel in enumerate(image.array.reshape(image.channels, *image.grid.shape)):
        sample = channel[thin]
        sample = sample.ravel() if image.weight is None else sample[image.weight[thin] > 0]
        sample = sample[np.isfinite(sample)]
        if sample.size == 0:
            continue
        low, high = _range(channel, image.weight)
        if not np.isfinite([low, high]).all():
            low, high = float(sample.min()), float(sample.max())
        p01, p1, median, p99, p999 = np.percentile(sample, [0.1, 1, 50, 99, 99.9])
        what = f"{name} channel {number}" if image.channels > 1 else name
        found.append(Finding("note", f"{what} values", f"from {low:g} to {high:g}; 1 %, 50 % and 99 % lie "
                                                       f"below {p1:g}, {median:g}, {p99:g}"))
        for end, beyond in ((high, high - p999), (low, p01 - low)):
            if beyond > 10 * (p999 - p01):
                found.append(Finding("warning", f"{what} outlier", (
                    f"a value of {end:g} lies far outside the usual range ({p01:g} to {p999:g} holds 99.8 "
                    "%): clip the intensities (numpy.clip) before registering")))
        distinct = np.unique(sample)
        if 1 < distinct.size <= min(64, sample.size // 50) and (distinct == np.round(distinct)).all():
            found.append(Finding("warning", f"{what} labels", (
                f"only {distinct.size} distinct whole values: this looks like a label map; register the "
                "images and carry labels along with classreg apply --interpolation label")))
    return found


def _memory(fixed: Image, moving: Image, model: str) -> Finding:
    """Predicted memory beside the machine's; where the system does not tell its own, only the prediction."""
    from .memory import predict_model

    need = predict_model(fixed, moving, model).bytes
    text = f"model {model} needs about {need / 1e9:.2f} GB"
    if not hasattr(os, "sysconf"):
        return Finding("note", "memory", text)
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > have:
        return Finding("warning", "memory", f"{text} and this machine has {have / 1e9:.1f} GB: resample both "
                                            "images to larger voxels, or crop them")
    return Finding("note", "memory", f"{text}; this machine has {have / 1e9:.1f} GB")


def _range(channel: np.ndarray, weight: np.ndarray | None) -> tuple[float, float]:
    """Least and greatest value where the weight is positive (not finite where the channel is not)."""
    low, high = channel.min(), channel.max()
    if weight is None:
        return float(low), float(high)
    where = weight.reshape(channel.shape) > 0
    return float(channel.min(where=where, initial=high)), float(channel.max(where=where, initial=low))


def _matrix(matrix, d: int) -> np.ndarray:
    if matrix is None:
        return np.eye(d + 1)
    matrix = np.asarray(matrix, float)
    if matrix.shape != (d + 1, d + 1):
        raise GeometryError(f"a world-to-world matrix of {d}-D images has the shape {(d + 1, d + 1)}, "
                            f"not {matrix.shape}")
    if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) <= d:
        raise GeometryError(f"the initial matrix cannot be inverted: {matrix.tolist()}; give the one that "
                            "takes fixed world points to moving world points, in mm")
    return matrix


def _lattice(grid: Grid) -> np.ndarray:
    """Array indices (n, d) of at most 20 samples along each axis, the outermost included."""
    axes = [np.unique(np.linspace(0, n - 1, min(n, 20)).round()) for n in grid.shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, grid.ndim)


def _move(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:-1, :-1].T + matrix[:-1, -1]


def _inside(grid: Grid, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest array indices of world points (n, d), clipped to the grid, and which of them are inside."""
    shape = np.array(grid.shape)
    index = grid.to_index(points)
    within = ((index >= -0.5 - 1e-6) & (index <= shape - 0.5 + 1e-6)) | (shape == 1)
    return np.clip(index.round().astype(int), 0, shape - 1), within.all(-1)


def _apart(fixed: Grid, moving: Grid, matrix: np.ndarray) -> float:
    return float(np.linalg.norm(_move(matrix, fixed.centre) - moving.centre))


def _times(numbers) -> str:
    return " x ".join(f"{n:.4g}" if isinstance(n, float) else str(n) for n in numbers)


def _mm(lengths) -> str:
    return f"{_times(float(n) for n in lengths)} mm"

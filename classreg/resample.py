"""Images pulled back through a fitted transform.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

import logging
from numbers import Real

import numpy as np

from .errors import InputError, OptionError, unknown
from .fitted import FittedTransform
from .grid import Grid
from .image import Image
from .sampling import position, resample_labels, sample

log = logging.getLogger("classreg")

#: whole numbers stored as floating point are labels below this
LARGEST = 2**53

INTERPOLATIONS = ("linear", "nearest", "cubic", "label")


def resample(transform: FittedTransform, moving: Image, grid: Grid, interpolation: str | None = None,
             outside: float | None = None) -> Image:
    """The moving image on a grid of the fixed side.

    Parameters
    ----------
    interpolation : {"linear", "nearest", "cubic", "label"}, optional
        "label" weighs each label linearly and takes the heaviest. By default label for what looks like a label map (see
        `looks_like_labels`), linear otherwise.
    outside : float, optional
        Value where the grid leaves the moving image: 0 for labels, the image's smallest value otherwise.

    Returns
    -------
    Image
        On `grid`: float32 after linear and cubic interpolation, the moving image's own dtype after nearest and label.

    Raises
    ------
    OptionError
        For an unknown interpolation, or a value `outside` that the result's dtype does not hold.
    InputError
        For labels with channels, with fractions, or that are not finite.
    """
    if interpolation is None:
        interpolation = "label" if looks_like_labels(moving) else "linear"
    if interpolation not in INTERPOLATIONS:
        raise unknown("interpolation", interpolation, INTERPOLATIONS)
    phi = transform.on(grid)
    if interpolation == "label":
        return Image(_labels(moving, phi, grid, 0 if outside is None else outside), grid)
    outside = moving.data.min() if outside is None else outside
    if interpolation == "nearest":
        return Image(_nearest(moving, phi, grid, _fitting(outside, moving.array.dtype)), grid)
    outside = _fitting(outside, np.dtype(np.float32))
    source = Image(np.require(moving.array, np.float32, ("C", "W")), moving.grid)  # as kernels are compiled for
    warped, weight, _ = sample(source, phi, grid, order=3 if interpolation == "cubic" else 1)
    out = np.where(weight > 0.5, warped, outside)
    return Image(out.reshape(moving.array.shape[:-grid.ndim] + grid.shape), grid)


def looks_like_labels(image: Image) -> bool:
    """Whether an image is a label map by its looks: one channel of whole numbers whose neighbours mostly agree.

    Only samples other than the commonest value (the background) are asked for their neighbour along x: at least 60 %
    of them have the same value in a label map (30 % will do if there are no more than 32 values), hardly any in a grey
    image.
    """
    array = image.array
    if image.channels > 1:
        return False
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and np.abs(array).max() < LARGEST
                                        and np.array_equal(array, np.rint(array))):
        return False
    a, b = image.data[0, ..., :-1].ravel(), image.data[0, ..., 1:].ravel()
    values, counts = np.unique(a[:: max(1, a.size // 200_000)], return_counts=True)
    inside = a != values[np.argmax(counts)]
    agree = float((a[inside] == b[inside]).mean()) if inside.any() else 1.0
    return agree > 0.6 or (agree > 0.3 and len(values) <= 32)


def _labels(moving, phi, grid, outside):
    if moving.channels > 1:
        raise InputError(f"a label map has one channel, this one has {moving.channels}")
    array = moving.array
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and np.abs(array).max() < LARGEST):
            raise InputError("interpolation='label' needs finite whole numbers below 2**53; the map has "
                             "others: replace them (numpy.nan_to_num, numpy.clip)")
        whole = np.rint(array)
        if np.abs(array - whole).max() > 1e-3:
            raise InputError("interpolation='label' needs whole numbers; the map has fractions "
                             f"(up to {np.abs(array - whole).max():.3g} from the next): threshold it first")
        array = whole.astype(np.int64 if np.abs(whole).max() >= 2**31 else np.int32)
    out = resample_labels(Image(array, moving.grid), phi, grid, _fitting(outside, array.dtype))
    lost = np.setdiff1d(np.unique(array), np.unique(out))
    if lost.size:
        log.warning("%d of %d labels are not in the resampled map: %s", lost.size, len(np.unique(array)),
                    ", ".join(map(str, lost[:10])))
    return out.astype(moving.array.dtype) if moving.array.dtype.kind == "f" else out


def _nearest(moving, phi, grid, outside):
    """The nearest sample; any dtype, any channels."""
    p = position(moving, phi, grid, np.float64)
    index = np.einsum("ij,j...->i...", p.matrix[:, :3], np.indices(grid.shape3)) + p.matrix[:, 3].reshape(3, 1, 1, 1)
    if phi.field is not None:
        index += np.einsum("ij,j...->i...", p.push[:, :grid.ndim], phi.field3)
    shape = np.array(moving.grid.shape3).reshape(3, 1, 1, 1)
    inside = ((index >= -0.5) & (index <= shape - 0.5) | (shape == 1)).all(0)
    i = np.clip(np.rint(index).astype(np.int64), 0, shape - 1)
    out = np.where(inside, moving.data[:, i[0], i[1], i[2]], outside)
    return out.reshape(moving.array.shape[:-grid.ndim] + grid.shape)


def _fitting(outside, dtype):
    """`outside` as a scalar of the result's dtype, or OptionError."""
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    fits = isinstance(outside, Real) and not isinstance(outside, bool)
    if fits and dtype.kind == "f":
        fits = not (np.isfinite(outside) and abs(outside) > float(limits.max))
    elif fits:
        fits = limits.min <= outside <= limits.max and outside == int(outside)
    if not fits:
        kind = "number" if dtype.kind == "f" else "whole number"
        raise OptionError(f"outside must fit the dtype of the result: a {kind} from {limits.min:g} to {limits.max:g} "
                          f"({dtype}); got {outside!r}")
    return dtype.type(outside)

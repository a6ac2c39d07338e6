"""Images pulled back through a fitted transform.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

import logging

import numpy as np

from .errors import InputError, unknown
from .fitted import FittedTransform
from .grid import Grid
from .image import Image
from .mapping import Mapping
from .sampling import position, resample_labels, sample

log = logging.getLogger("classreg")

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

    Raises
    ------
    OptionError
        For an unknown interpolation.
    InputError
        For labels with channels or with fractions.
    """
    if interpolation is None:
        interpolation = "label" if looks_like_labels(moving) else "linear"
    if interpolation not in INTERPOLATIONS:
        raise unknown("interpolation", interpolation, INTERPOLATIONS)
    mapping = transform.mapping()
    phi = Mapping(mapping.matrix) if mapping.field is None else Mapping(mapping.matrix, mapping.resampled(grid), grid)
    if interpolation == "label":
        return Image(_labels(moving, phi, grid, outside or 0), grid)
    outside = float(moving.data.min()) if outside is None else outside
    if interpolation == "nearest":
        return Image(_nearest(moving, phi, grid, outside), grid)
    source = Image(moving.array.astype(np.float32, copy=False), moving.grid)
    warped, weight, _ = sample(source, phi, grid, order=3 if interpolation == "cubic" else 1)
    out = np.where(weight > 0.5, warped, np.float32(outside))
    return Image(out.reshape(moving.array.shape[:-grid.ndim] + grid.shape), grid)


def looks_like_labels(image: Image) -> bool:
    """Whether an image is a label map by its looks: one channel of integers, and neighbours that mostly agree.

    Only samples other than the commonest value (the background) are asked for their neighbour along x: at least 60 %
    of them have the same value in a label map (30 % will do if there are no more than 32 values), hardly any in a grey
    image.
    """
    if image.array.dtype.kind not in "iu" or image.channels > 1:
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
        whole = np.rint(array)
        if np.abs(array - whole).max() > 1e-3:
            raise InputError("interpolation='label' needs whole numbers; the map has fractions "
                             f"(up to {np.abs(array - whole).max():.3g} from the next): threshold it first")
        array = whole.astype(np.int64 if np.abs(whole).max() >= 2**31 else np.int32)
    out = resample_labels(Image(array, moving.grid), phi, grid, outside)
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
    out = np.where(inside, moving.data[:, i[0], i[1], i[2]], moving.array.dtype.type(outside))
    return out.reshape(moving.array.shape[:-grid.ndim] + grid.shape)

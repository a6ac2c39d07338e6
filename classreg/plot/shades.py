"""Slices as 8-bit pictures: grey values, colours, squares of two images, two images in two colours.

Arrays in, arrays out, no matplotlib: `report` writes them to PNG as they are, the plots hand them to `imshow`.

May import anything below; nothing imports it but `plot` and `report`.
"""

from __future__ import annotations

import numpy as np

from ..image import Image
from .views import Plane

SQUARES = 8  # checkerboard squares along the longest side


def window(*images: Image) -> tuple[float, float]:
    """Grey values shown as black and white: robust percentiles (0.5, 99.5) over all the images together.

    Colour images (three channels) keep their colours: the range 0..1 or 0..255 that holds them.

    Examples
    --------
    >>> from classreg.grid import Grid
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


def squares(a: np.ndarray, b: np.ndarray, plane: Plane, count: int = SQUARES) -> np.ndarray:
    """Two pictures of one plane in alternate squares, equal in mm; the top left one shows `a`.

    `count` is how many squares there are along the longer side.
    """
    if a.ndim != b.ndim:
        a, b = (p if p.ndim == 3 else np.repeat(p[..., None], 3, -1) for p in (a, b))
    side = max(plane.size) / count
    row, column = ((np.arange(n) + 0.5) * mm / n // side for n, mm in zip(a.shape, plane.size))
    odd = ((row[:, None] + column) % 2).astype(bool)
    return np.where(odd if a.ndim == 2 else odd[..., None], b, a)


def two_colours(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Two pictures as one RGB: `a` orange, `b` blue, so that agreement is grey.

    Orange and blue, since whoever cannot tell red from green can tell these; colours count by their mean.
    """
    a, b = (p if p.ndim == 2 else p.mean(-1).astype(np.uint8) for p in (a, b))
    middle = ((a.astype(np.uint16) + b + 1) // 2).astype(np.uint8)
    return np.stack([a, middle, b], -1)

"""Coarse levels of an image: normalised intensities, then Gaussian smoothing and shrinking in one pass per axis.

`matched` gives one image the histogram of another (Nyul et al., IEEE TMI 2000, doi:10.1109/42.836373).

A level has a resolution h in mm. An axis with a finer spacing s is shrunk by h / s with a Gaussian of half that many
samples; coarser axes stay, so levels grow toward isotropic. At least `LEAST` samples stay along an axis that has them.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

import numpy as np

from .grid import Grid
from .image import Image
from .spline import gaussian_band

#: samples that an axis keeps at every level, where it has them
LEAST = 8

#: share of the samples that is clipped at either end (two at least): one wild voxel must not set the scale
CLIP = 0.0005

#: quantiles, besides the ends, at which `matched` ties two histograms together
POINTS = 15


def normalised(image: Image) -> Image:
    """Float32 intensities, the most extreme ones clipped, with zero mean and unit deviation, per channel.

    Makes every metric blind to intensity scale and offset, and float32 sums safe. Only samples with a weight count.
    """
    out = np.empty(image.data.shape, np.float32)
    weight = None if image.weight is None else image.weight3 > 0
    for c, channel in enumerate(image.data):
        values = channel.ravel() if weight is None else channel[weight]
        some = values[:: max(1, values.size // (1 << 20))].astype(np.float64)
        k = min(max(2, int(np.ceil(CLIP * some.size))), (some.size - 1) // 2)
        some.partition((k, some.size - 1 - k))
        low, high = some[[k, some.size - 1 - k]]
        if not high > low:
            low, high = some.min(), some.max()
        np.clip(some, low, high, out=some)
        mean, deviation = some.mean(), some.std()
        np.subtract(channel, mean, out=out[c], dtype=np.float64, casting="unsafe")
        np.clip(out[c], low - mean, high - mean, out=out[c])
        out[c] /= np.float32(deviation if deviation > 0 else 1)
    # kernels take row-major arrays that may be written to: another layout would be compiled for anew
    weight = None if image.weight is None else np.require(image.weight, requirements=("C", "W"))
    return Image(out.reshape(image.array.shape), image.grid, weight)


def matched(image: Image, reference: Image) -> Image:
    """The image with intensities mapped, piecewise linearly and rising, onto the histogram of a reference, per channel.

    Quantiles are those of samples above the mean, which leaves out most background; only samples with a weight count.
    Works in place. The definition is that of ITK's HistogramMatchingImageFilter with ThresholdAtMeanIntensity.
    """
    for channel, other in zip(image.data, reference.data, strict=True):
        source, target = _landmarks(channel, image), _landmarks(other, reference)
        source, first = np.unique(source, return_index=True)
        for plane in channel:
            plane[...] = np.interp(plane, source, target[first])
    return image


def _landmarks(channel, image: Image) -> np.ndarray:
    """The least intensity, and quantiles of those above the mean, from 0 to 1."""
    values = channel.ravel() if image.weight is None else channel[image.weight3 > 0]
    values = values[:: max(1, values.size // (1 << 20))].astype(np.float64)
    above = values[values > values.mean()]
    return np.concatenate([[values.min()], np.quantile(above if above.size else values, np.linspace(0, 1, POINTS + 2))])


def filled(image: Image) -> Image:
    """The image with the nearest sample that counts where its weight is 0, so that smoothing lets nothing leak in."""
    if image.weight is None or (image.weight > 0).all():
        return image
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(image.weight3 == 0, image.grid.spacing3, return_distances=False,
                                     return_indices=True)
    data = image.data[(slice(None), *nearest)]
    return image.with_array(np.ascontiguousarray(data).reshape(image.array.shape))


def factors(grid: Grid, resolution: float) -> np.ndarray:
    """Shrink factor per axis, (d,), that takes `grid` to a resolution in mm; 1 where it is coarser already."""
    most = np.maximum(1.0, np.array(grid.shape) / LEAST)
    wanted = np.clip(resolution / grid.spacing, 1.0, most)
    return np.where(np.array(grid.shape) > 1, np.where(wanted < 1.25, 1.0, wanted), 1.0)


def shrink(image: Image, resolution: float, sigma=None) -> Image:
    """The image at a resolution in mm, smoothed against aliasing; itself where no axis is finer.

    With `sigma`, samples along all axes or one number per axis, intensities are smoothed as widely as it says.
    """
    f = factors(image.grid, resolution)
    against = np.where(f > 1, 0.5 * f, 0.0)
    width = against if sigma is None else np.where(np.array(image.grid.shape) > 1, sigma, 0.0)
    if (f == 1).all() and (width == 0).all():
        return image
    grid = image.grid.coarsen(f)
    array, weight = image.data, image.weight3
    lead = 3 - grid.ndim
    for axis in range(grid.ndim):
        if f[axis] > 1 or width[axis] > 0:
            n, m = image.grid.shape[axis], grid.shape[axis]
            centres = (n - 1) / 2 + (np.arange(m) - (m - 1) / 2) * f[axis]
            array = gaussian_band(centres, n, width[axis]).apply(array, 1 + lead + axis)
            if weight is not None and f[axis] > 1:
                weight = gaussian_band(centres, n, against[axis]).apply(weight, lead + axis)
    weight = None if weight is None else np.clip(weight, 0, 1).reshape(grid.shape)
    return Image(array.reshape(image.array.shape[:-grid.ndim] + grid.shape), grid, weight)

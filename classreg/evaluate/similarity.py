"""Similarity of two images on one grid as a measure, not as an energy: higher is more alike, but for `ssd`.

    ncc     correlation rho, -1 to 1                   ssd    mean squared difference
    lcc     mean local correlation or its square       psnr   10 log10(range^2 / ssd) in dB
    mi      H_A + H_B - H_AB in nats                   ssim   mean structural similarity, up to 1
    nmi     (H_A + H_B) / H_AB, 1 to 2

None says that a registration is right: all but absurd maps can be found that raise them. Histograms are plain (no
Parzen windows), so `mi` here is not the negated metric `mi`, and its value grows with the number of bins.
Sources: Studholme et al., Pattern Recognition 1999, doi:10.1016/S0031-3203(98)00091-0; Wang et al., IEEE TIP 13
(2004), doi:10.1109/TIP.2003.819861.

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

from ..errors import InputError, OptionError, unknown
from ..image import real_numbers
from .checks import mask_of, positive

#: variance in a window, of that in the image, below which its correlation is noise
FLAT = 1e-6

#: Wang's constants, as shares of the range
K1, K2 = 0.01, 0.03

#: his window: deviation in samples, and where it is cut, in deviations (11 samples)
SIGMA, TRUNCATE = 1.5, 3.5

WINDOWS = ("gaussian", "uniform")


def ssd(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean squared difference under the mask; twice the metric `ssd` of images that were not normalised.

    >>> ssd([1.0, 2.0], [1.0, 4.0])
    2.0
    """
    a, b, inside = _pair(a, b, mask)
    return float(((a - b)[inside] ** 2).mean())


def ncc(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Correlation under the mask, -1 to 1; NaN where an image is constant.

    >>> ncc([1.0, 2.0, 3.0], [5.0, 3.0, 1.0])
    -1.0
    """
    a, b, inside = _pair(a, b, mask)
    a, b = a[inside], b[inside]
    a, b = a - a.mean(), b - b.mean()
    below = np.sqrt((a**2).sum() * (b**2).sum())
    return float(np.clip((a * b).sum() / below, -1, 1)) if below > 0 else float("nan")


def lcc(a: np.ndarray, b: np.ndarray, radius: int = 4, mask: np.ndarray | None = None, squared: bool = True) -> float:
    """Mean over samples of the correlation in a box around them.

    Parameters
    ----------
    a, b : array, of one shape
    radius : int
        The box has 2 radius + 1 samples along each axis, whatever the spacing, and is cut at the border.
    mask : array, optional
        Only samples where it is above 0 count, in the boxes too.
    squared : bool
        The square (ANTs, VoxelMorph), which is blind to the sign of contrast, or the correlation itself.

    Returns
    -------
    float
        0 to 1, or -1 to 1. Boxes without structure in one of the images are left out; NaN if none is left.

    Raises
    ------
    InputError
        If shapes differ, a value is not finite, or the mask is empty.
    OptionError
        If the radius is no whole number above 0.
    """
    if not (isinstance(radius, (int, np.integer)) and radius > 0):
        raise OptionError(f"radius is {radius!r}; it must be a whole number of samples above 0")
    a, b, inside = _pair(a, b, mask)
    a, b = ((x - x[inside].mean()) * inside for x in (a, b))

    def box(values):
        return uniform_filter(values, 2 * radius + 1, mode="constant")

    n = np.maximum(box(inside.astype(float)), 1e-12)
    mean_a, mean_b = box(a) / n, box(b) / n
    var_a, var_b, cov = box(a * a) / n - mean_a**2, box(b * b) / n - mean_b**2, box(a * b) / n - mean_a * mean_b
    kept = inside & (var_a > FLAT * a[inside].var()) & (var_b > FLAT * b[inside].var())
    if not kept.any():
        return float("nan")
    rho = np.clip(cov[kept] / np.sqrt(var_a[kept] * var_b[kept]), -1, 1)
    return float((rho**2 if squared else rho).mean())


def mi(a: np.ndarray, b: np.ndarray, bins: int = 64, mask: np.ndarray | None = None) -> float:
    """Mutual information in nats of a histogram of equal bins from the least to the largest value under the mask.

    >>> round(mi([0, 0, 1, 1], [5, 5, 2, 2], bins=2), 6)
    0.693147
    """
    of_a, of_b, joint = _entropies(a, b, bins, mask)
    return of_a + of_b - joint


def nmi(a: np.ndarray, b: np.ndarray, bins: int = 64, mask: np.ndarray | None = None) -> float:
    """Normalised mutual information (H_A + H_B) / H_AB: 1 if independent, 2 if one tells the other; Studholme's form.

    Others divide the mutual information by a mean of the entropies, which gives 0 to 1. NaN for two constant images.

    >>> nmi([0, 0, 1, 1], [5, 5, 2, 2], bins=2)
    2.0
    """
    of_a, of_b, joint = _entropies(a, b, bins, mask)
    return (of_a + of_b) / joint if joint > 0 else float("nan")


def psnr(image: np.ndarray, reference: np.ndarray, value_range: float | None = None,
         mask: np.ndarray | None = None) -> float:
    """Peak signal to noise ratio in dB; infinite for equal images.

    `value_range` is by default the reference's largest less its least value under the mask: print it with the number.

    >>> psnr([0.0, 1.0], [0.1, 1.1], value_range=1.0).__round__(6)
    20.0
    """
    image, reference, inside = _pair(image, reference, mask)
    value_range = _range(reference[inside], value_range)
    error = ((image - reference)[inside] ** 2).mean()
    return float(10 * np.log10(value_range**2 / error)) if error > 0 else float("inf")


def ssim(image: np.ndarray, reference: np.ndarray, value_range: float | None = None, mask: np.ndarray | None = None,
         window: str = "gaussian") -> float:
    """Mean structural similarity.

    Parameters
    ----------
    image, reference : array, of one shape
    value_range : float, optional
        By default the reference's largest less its least value under the mask.
    mask : array, optional
        Whose windows are averaged; the windows themselves see the whole images.
    window : {"gaussian", "uniform"}
        Gaussian of deviation 1.5 cut at 11 samples (Wang et al.), or a box of 7 samples with unbiased variances
        (scikit-image's default). Windows that the border cuts are left out.

    Raises
    ------
    InputError
        If shapes differ, a value is not finite, a side is smaller than the window, or no window is in the mask.
    OptionError
        For an unknown window, or a range that is not above 0.
    """
    if window not in WINDOWS:
        raise unknown("window of ssim", window, WINDOWS)
    image, reference, inside = _pair(image, reference, mask)
    value_range = _range(reference[inside], value_range)
    radius = int(TRUNCATE * SIGMA + 0.5) if window == "gaussian" else 3
    size = 2 * radius + 1
    if min(image.shape) < size:
        raise InputError(f"the images are {image.shape}; this window needs {size} samples along each axis")

    def mean(values):
        if window == "gaussian":
            return gaussian_filter(values, SIGMA, truncate=TRUNCATE)
        return uniform_filter(values, size)

    unbias = 1.0 if window == "gaussian" else size**image.ndim / (size**image.ndim - 1)
    mean_i, mean_r = mean(image), mean(reference)
    var_i, var_r = unbias * (mean(image**2) - mean_i**2), unbias * (mean(reference**2) - mean_r**2)
    cov = unbias * (mean(image * reference) - mean_i * mean_r)
    c1, c2 = (K1 * value_range) ** 2, (K2 * value_range) ** 2
    value = (2 * mean_i * mean_r + c1) * (2 * cov + c2) / ((mean_i**2 + mean_r**2 + c1) * (var_i + var_r + c2))
    inner = (slice(radius, -radius),) * image.ndim
    chosen = value[inner][inside[inner]]
    if chosen.size == 0:
        raise InputError(f"no window of {size} samples around a sample of the mask lies inside the image")
    return float(chosen.mean())


def _pair(a, b, mask):
    """Two float64 arrays of one shape and the mask as booleans; finite where it is above 0, and 0 where not."""
    a, b = real_numbers(a, "first image").astype(float), real_numbers(b, "second image").astype(float)
    if a.shape != b.shape:
        raise InputError(f"the images have shapes {a.shape} and {b.shape}; resample one to the other's grid")
    inside = mask_of(mask, a.shape)
    for x, which in ((a, "first"), (b, "second")):
        bad = ~np.isfinite(x)
        if (bad & inside).any():
            raise InputError(f"{int((bad & inside).sum())} samples of the {which} image are not finite; mask them out")
        x[bad] = 0
    return a, b, inside


def _range(values, value_range):
    if value_range is not None:
        return positive("value_range", value_range)
    found = float(values.max() - values.min())
    if found == 0:
        raise OptionError("the reference is constant, so its range is 0; pass value_range=")
    return found


def _entropies(a, b, bins, mask):
    if not (isinstance(bins, (int, np.integer)) and bins >= 2):
        raise OptionError(f"bins is {bins!r}; it must be a whole number of at least 2")
    a, b, inside = _pair(a, b, mask)
    table = np.histogram2d(a[inside], b[inside], bins=bins)[0]
    p = table / table.sum()
    return tuple(float(-(q[q > 0] * np.log(q[q > 0])).sum()) for q in (p.sum(1), p.sum(0), p))

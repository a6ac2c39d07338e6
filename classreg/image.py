"""Images: samples on a `Grid`, with optional channels and weight.

`Image.array` has the shape of the grid, or (channels, *grid.shape); `Image.data` is the same memory as the engine sees
it, (channels, z, y, x). `weight` (0..1, or a mask) says where the image counts.

Must not import: metrics, optimisers, numba, cupy. SimpleITK and nibabel only inside the two conversion methods.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .errors import InputError
from .grid import Grid


def real_numbers(values, what: str) -> np.ndarray:
    """Whatever was given as an array of real numbers; `what` names it in the message.

    Raises
    ------
    InputError
        If it holds anything else: text, None, complex numbers, or rows of different lengths.

    Examples
    --------
    >>> real_numbers([[1, 2], [3, 4]], "points").shape
    (2, 2)
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: the values form no array ({error}); give rows of one length") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"{what}: the values are no real numbers (dtype {array.dtype}); convert them first "
                         "(numpy.asarray(values, float))")
    return array


@dataclass(frozen=True, eq=False)
class Image:
    """An image in physical space.

    Parameters
    ----------
    array : array, (*grid.shape) or (channels, *grid.shape)
        Intensities or labels, any real dtype.
    grid : Grid
        Where the samples lie.
    weight : array, (*grid.shape), optional
        How much each sample counts, 0..1; a mask is a weight of zeros and ones.

    Raises
    ------
    InputError
        If shapes do not fit, the dtype is not real, or the weight is empty, negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> Image(np.zeros((4, 5)), Grid.from_spacing((4, 5), spacing=2.0)).channels
    1
    """

    array: np.ndarray
    grid: Grid
    weight: np.ndarray | None = None

    def __post_init__(self):
        array = np.asarray(self.array)
        if array.dtype == bool:
            array = array.astype(np.uint8)
        if array.dtype.kind not in "iuf":
            raise InputError(f"an image holds real numbers; this one has dtype {array.dtype}")
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        if array.shape[-self.grid.ndim:] != self.grid.shape or array.ndim - self.grid.ndim not in (0, 1):
            raise InputError(f"array of shape {array.shape} does not fit a grid of shape {self.grid.shape}; "
                             "channels, if any, come first")
        if array.ndim > self.grid.ndim and array.shape[0] == 0:
            raise InputError("the image has no channels")
        object.__setattr__(self, "array", array)
        if self.weight is not None:
            weight = real_numbers(self.weight, "mask")
            if weight.shape != self.grid.shape:
                raise InputError(f"the mask has shape {weight.shape}, the image {self.grid.shape}: resample the mask "
                                 "to the image's grid (classreg.apply with interpolation='nearest')")
            finite = np.isfinite(weight)
            if not finite.all() or weight.min() < 0:
                least = f"a minimum of {weight[finite].min():g}" if finite.any() else "no finite value"
                raise InputError("a mask or weight holds finite numbers of at least 0; got "
                                 f"{least} and {int((~finite).sum())} non-finite values")
            if weight.max() > 1:  # divided before the cast, which large numbers would not survive
                weight = weight / weight.max()
            weight = weight.astype(np.float32)
            if weight.max() == 0:
                raise InputError("the mask is empty: no voxel is above 0")
            object.__setattr__(self, "weight", weight)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return 1 if self.array.ndim == self.grid.ndim else self.array.shape[0]

    @property
    def data(self) -> np.ndarray:
        """The array as (channels, z, y, x); a view."""
        return self.array.reshape((self.channels, *self.grid.shape3))

    @property
    def weight3(self) -> np.ndarray | None:
        """The weight as (z, y, x), or None."""
        return None if self.weight is None else self.weight.reshape(self.grid.shape3)

    @cached_property
    def coefficients(self) -> np.ndarray:
        """Cubic B-spline coefficients of `data` (mirrored border), floating point: (channels, z, y, x), with one sample
        more at either end of each axis that has several, as kernels take them."""
        from scipy.ndimage import spline_filter

        data = self.data if self.data.dtype.kind == "f" else self.data.astype(np.float32)
        many = [n > 1 for n in self.grid.shape3]
        out = np.empty((len(data), *(n + 2 * m for n, m in zip(self.grid.shape3, many))), data.dtype)
        inner = out[(slice(None), *(slice(1, -1) if m else slice(None) for m in many))]
        for c, into in zip(data, inner):
            if any(many):
                spline_filter(c, order=3, output=into, mode="mirror")
            else:
                into[...] = c
        for axis in np.flatnonzero(many):
            ends = np.moveaxis(out, axis + 1, 0)
            ends[0], ends[-1] = ends[2], ends[-3]
        return out

    def with_array(self, array: np.ndarray) -> Image:
        """The same grid and weight with other values."""
        return replace(self, array=array)

    def to_sitk(self):
        """A SimpleITK image; a sheared grid, which SimpleITK cannot hold, raises InputError.

        Channels become a vector image.
        """
        import SimpleITK as sitk

        d = self.grid.ndim
        array = self.array if self.channels == 1 else np.moveaxis(self.array, 0, -1)
        if self.channels == 1:
            array = array.reshape(self.grid.shape)
        out = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=self.channels > 1)
        direction = self.grid.direction
        if np.abs(direction.T @ direction - np.eye(d)).max() > 1e-4:
            raise InputError("the grid is sheared and SimpleITK holds only orthogonal axes; "
                             "resample to an orthogonal grid first (classreg.apply)")
        out.SetSpacing(self.grid.spacing[::-1].tolist())
        out.SetOrigin(self.grid.affine[:d, d].tolist())
        out.SetDirection(direction.ravel().tolist())
        return out

    def to_nibabel(self):
        """A nibabel NIfTI image: (x, y, z[, channels]) array, RAS affine as s-form and, unless sheared, q-form.

        64-bit integers, which NIfTI readers rarely take, become 32-bit; InputError where they do not fit.
        """
        import nibabel as nib

        array = np.moveaxis(self.data, 0, -1).transpose(2, 1, 0, 3)
        array = array[..., 0] if self.channels == 1 else array
        if array.dtype in (np.int64, np.uint64):
            if array.size and (array.min() < -(2**31) or array.max() >= 2**31):
                raise InputError(f"integers up to {array.max()} do not fit 32 bits, which NIfTI files hold")
            array = array.astype(np.int32)
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.grid.affine3[:, [2, 1, 0, 3]]
        out = nib.Nifti1Image(np.ascontiguousarray(array), affine)
        out.set_sform(affine, code=1)
        try:
            out.set_qform(affine, code=1, strip_shears=False)
        except nib.spatialimages.HeaderDataError:  # a sheared grid has no q-form
            out.set_qform(None, code=0)
        return out

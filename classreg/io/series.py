"""Time series of images: in from 4-D files, arrays and lists of frames, and out as 4-D NIfTI.

`load` reads one image, and refuses a time axis or takes it for channels; here the fourth axis of a file is time, and
what its header says of time is kept: pixdim[4] and toffset in the unit that xyzt_units names, in seconds.

Must not import: metrics, the engine, cli. SimpleITK and nibabel are imported on first use.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path

import numpy as np

from ..errors import ClassregError, FileError, InputError, OptionError
from ..grid import Grid
from ..image import Image, real_numbers
from . import nifti
from .atomic import atomic_path
from .files import existing, reason, suffix_of
from .images import load

#: seconds of the units that NIfTI has for time; one that is not named is taken as seconds, which most writers mean
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}

WRITABLE = (".nii", ".nii.gz")


@dataclass(frozen=True, eq=False)
class Series:
    """Images on one grid, one after the other.

    Parameters
    ----------
    array : array, (frames, *grid.shape)
    grid : Grid
    interval : float, optional
        Seconds from frame to frame; None where it is not known.
    begin : float
        Time of the first frame in seconds.

    Raises
    ------
    InputError
        If the array does not fit the grid, or has no real numbers.
    OptionError
        If the interval is no number above 0.

    Examples
    --------
    >>> Series(np.zeros((3, 4, 5)), Grid.from_spacing((4, 5)), interval=2.0).times
    array([0., 2., 4.])
    """

    array: np.ndarray
    grid: Grid
    interval: float | None = None
    begin: float = 0.0

    def __post_init__(self):
        array = real_numbers(self.array, "series")
        if array.ndim != self.grid.ndim + 1 or array.shape[1:] != self.grid.shape or not len(array):
            raise InputError(f"a series is an array (frames, {', '.join(map(str, self.grid.shape))}) on its grid; got "
                             f"{array.shape}")
        object.__setattr__(self, "array", array)
        if self.interval is not None and not (isinstance(self.interval, Real) and not isinstance(self.interval, bool)
                                              and 0 < self.interval < np.inf):
            raise OptionError(f"interval must be a number of seconds above 0, or None; got {self.interval!r}")

    def __len__(self) -> int:
        return len(self.array)

    @property
    def times(self) -> np.ndarray:
        """Seconds, (frames,); the numbers of the frames where the interval is not known."""
        return self.begin + np.arange(len(self)) * (1.0 if self.interval is None else self.interval)

    @property
    def frames(self) -> list[Image]:
        """The frames as images, which share the memory of the array."""
        return [Image(frame, self.grid) for frame in self.array]

    def with_array(self, array: np.ndarray) -> Series:
        """The same grid and times with other values."""
        return replace(self, array=array)

    def __getitem__(self, chosen: slice) -> Series:
        """Some frames, by a slice."""
        if not isinstance(chosen, slice):
            raise InputError(f"frames of a series are chosen by a slice, series[2:9]; got {chosen!r}; one of them is "
                             "series.frames[2]")
        first, _, step = chosen.indices(len(self))
        if step < 1:
            raise InputError(f"a series runs forward; got {chosen!r}")
        interval = None if self.interval is None else step * self.interval
        return Series(self.array[chosen], self.grid, interval, float(self.begin + first * (self.interval or 1.0)))


def load_series(source, *, spacing=None, interval: float | None = None, name: str = "series") -> Series:
    """A series from a 4-D file or image, a list of frames, an array or a `Series`.

    Parameters
    ----------
    source : path, nibabel image, SimpleITK image, sequence or array
        Of files and images in memory the fourth axis is time. A sequence holds frames, each whatever `load` takes, on
        one grid. Arrays are (time, y, x) or (time, z, y, x).
    spacing : float or sequence of float, optional
        mm along each axis in space, for arrays and pictures only.
    interval : float, optional
        Seconds from frame to frame, in the place of what a header says.
    name : str
        What messages call it.

    Raises
    ------
    InputError
        If there is no time axis, or frames do not fit each other.
    FileError, GeometryError, OptionError
        As `load`.

    Examples
    --------
    >>> series = load_series(np.zeros((12, 20, 30)), spacing=1.5, interval=0.8)
    >>> len(series), series.grid.shape, series.interval
    (12, (20, 30), 0.8)
    """
    try:
        found = _load(source, spacing, name)
        return found if interval is None else replace(found, interval=interval)
    except ClassregError as error:
        if str(error).startswith(f"{name}:"):
            raise
        raise type(error)(f"{name}: {error}") from error


def _load(source, spacing, name) -> Series:
    if isinstance(source, Series):
        return source
    if isinstance(source, np.ndarray):
        if source.ndim not in (3, 4):
            raise InputError(f"the array has shape {source.shape}; a series is (time, y, x) or (time, z, y, x)")
        first = load(source[0], spacing=spacing, name=name) if len(source) else None
        if first is None:
            raise InputError("the array has no frames")
        return Series(np.ascontiguousarray(source), first.grid)
    if isinstance(source, (list, tuple)):
        return _stacked([load(frame, spacing=spacing if isinstance(frame, np.ndarray) else None, name=f"frame {k}")
                         for k, frame in enumerate(source)])
    if isinstance(source, Image):
        raise InputError("an Image is one image; give a list of them, or classreg.Series(array, grid)")
    shape, interval, begin = _time(source, name)
    if len(shape) != 4 or shape[3] < 2:
        raise InputError(f"{_which(source)} has no time axis: its shape is {shape} (x, y, z, time); give a 4-D file of "
                         "two frames or more, or a list of images")
    image = load(source, channels="last", name=name)
    return Series(image.array, image.grid, interval, begin)


def _which(source) -> str:
    return str(source) if isinstance(source, (str, os.PathLike)) else f"the {type(source).__name__}"


def _stacked(frames: Sequence[Image]) -> Series:
    if not frames:
        raise InputError("the list holds no frames")
    for k, frame in enumerate(frames):
        if frame.channels != 1:
            raise InputError(f"frame {k} has {frame.channels} channels; frames of a series have one: convert to grey")
        if frame.weight is not None:
            raise InputError(f"frame {k} has a mask of its own, which a series does not keep: give one for all frames "
                             "with mask=, or use classreg.register_group")
        if not frame.grid.same_as(frames[0].grid):
            raise InputError(f"frame {k} lies on another grid than frame 0: {frame.grid} against {frames[0].grid}; "
                             "resample it (classreg.apply), or use classreg.register_group")
    shape = frames[0].grid.shape
    return Series(np.stack([frame.array.reshape(shape) for frame in frames]), frames[0].grid)


def _time(source, name) -> tuple[tuple[int, ...], float | None, float]:
    """Shape (x, y, z, t), interval and begin in seconds, of what carries a header."""
    if isinstance(source, (str, os.PathLike)):
        path = existing(source)
        if path.is_dir():
            raise InputError(f"{path} is a folder; give a 4-D file, or a list with one image per frame")
        if suffix_of(path) in nifti.SUFFIXES:
            import nibabel as nib

            try:
                return _of_nifti(nib.load(path, mmap=False))
            except ClassregError:
                raise
            except Exception as error:  # a foreign parser on a foreign file
                raise FileError(f"cannot read {path} as NIfTI: {reason(error)}") from error
        return _of_sitk(_header(path))
    if (sitk := sys.modules.get("SimpleITK")) and isinstance(source, sitk.Image):
        return _of_sitk(source)
    if (nib := sys.modules.get("nibabel")) and isinstance(source, nib.spatialimages.SpatialImage):
        return _of_nifti(source)
    raise InputError(f"cannot use a {type(source).__name__} as a series; give a 4-D file or image, a list of frames or "
                     "an array (time, ...)")


def _of_nifti(image):
    shape, header = tuple(image.shape), image.header
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 4:
        raise InputError(f"the file has the shape {shape}: its fifth axis holds vectors; a series has one value per "
                         "voxel and frame")
    unit = header.get_xyzt_units()[1] if hasattr(header, "get_xyzt_units") else "unknown"
    zooms = header.get_zooms()
    step = float(zooms[3]) if len(zooms) > 3 else 0.0
    if unit not in SECONDS or not (0 < step < np.inf):
        return shape, None, 0.0
    begin = float(header["toffset"]) if "toffset" in header else 0.0
    return shape, round(step, 9) * SECONDS[unit], (begin if np.isfinite(begin) else 0.0) * SECONDS[unit]


def _header(path: Path):
    """The header of a file that SimpleITK reads, as an object with its geometry."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise FileError(f"cannot read {path}: {reason(error)}; a series is a 4-D NIfTI, NRRD or MetaImage file, or a "
                        "list with one image per frame") from error
    return reader


def _of_sitk(image):
    shape, step, begin = tuple(image.GetSize()), image.GetSpacing()[3:], image.GetOrigin()[3:]
    known = len(step) == 1 and 0 < step[0] < np.inf
    return shape, float(step[0]) if known else None, float(begin[0]) if known else 0.0


def save_series(series: Series, path: str | os.PathLike) -> None:
    """Write a series as a 4-D NIfTI, its times in seconds; whole or not at all.

    A series of 2-D images becomes one of single slices. An interval that is not known is written as 0.

    Raises
    ------
    FileError
        If the suffix is not .nii or .nii.gz, or the file cannot be written.
    InputError
        If 64-bit integers are too large for NIfTI readers.
    """
    import nibabel as nib

    if suffix_of(path) not in WRITABLE:
        raise FileError(f"cannot write the series {path}: use one of {', '.join(WRITABLE)}")
    array = series.array.astype(np.float32) if series.array.dtype == np.float16 else series.array
    out = Image(array if len(array) > 1 else array[0], series.grid).to_nibabel()
    data = np.asarray(out.dataobj)
    out = nib.Nifti1Image(data if data.ndim == 4 else data[..., None], out.affine, out.header)
    out.header.set_xyzt_units("mm", "sec")
    out.header.set_zooms((*out.header.get_zooms()[:3], series.interval or 0.0))
    out.header["toffset"] = series.begin
    with atomic_path(path) as temporary:
        nib.save(out, temporary)

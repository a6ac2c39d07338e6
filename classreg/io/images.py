"""Images from whatever people hold, and back to files.

NIfTI goes through nibabel (`nifti`), DICOM folders through `dicom`, everything else through SimpleITK, which
is world LPS and array order (z, y, x) already: Grid.affine = direction * spacing with its columns reversed.

Must not import: metrics, the engine, cli. SimpleITK and nibabel are imported on first use.
"""

from __future__ import annotations

import math
import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import ClassregError, FileError, GeometryError, InputError, unknown
from ..grid import Grid
from ..image import Image
from . import dicom, nifti
from .atomic import atomic_path
from .files import GZIP_RATIO, check_declared, check_whole, existing, reason, suffix_of

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
VOLUMES = (".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
WRITABLE = (".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif", ".tiff")


def load(source, *, spacing=None, channels: str | None = None, name: str = "image") -> Image:
    """An `Image` in world LPS millimetres from a path, a SimpleITK or nibabel image, an array or an `Image`.

    Parameters
    ----------
    source : path, SimpleITK.Image, nibabel image, array or Image
        Paths: NIfTI (.nii, .nii.gz, .hdr + .img), NRRD, MetaImage, PNG, JPEG, TIFF, BMP, DICOM folder or
        file. Arrays: (y, x) or (z, y, x), last axis x, as for SimpleITK.GetImageFromArray. An `Image` is
        returned as it is.
    spacing : float or sequence of float, optional
        mm between neighbours along each array axis, for arrays and pictures only; 1 mm if left out.
    channels : {None, 'last'}
        'last' declares that the last axis of an array, or the fourth or fifth of a file, holds channels.
        Pictures and colour DICOM declare their channels themselves.
    name : str
        What messages call the image: 'fixed', 'moving', 'mask', ...

    Returns
    -------
    Image
        C-contiguous, native byte order; shares memory with an array that is so already. Integers stay
        integers unless the file scales them; booleans become uint8.

    Raises
    ------
    InputError
        If the type, dtype or number of axes cannot be used, or `spacing` is given with what carries its own.
    GeometryError
        If spacing or orientation span no space, or a 2-D NIfTI leaves the x-y plane.
    FileError
        If a file is missing, empty, truncated, damaged, larger than memory, of no known format; or a DICOM folder
        holds no series, several, or uneven slices.
    OptionError
        If `channels` is neither None nor 'last'.

    Notes
    -----
    NIfTI geometry follows nibabel: s-form if its code is above 0, else q-form, else voxel sizes alone
    (centred, x to the patient's left). Where both forms are set and differ by more than 0.1 voxel at a
    corner, a warning is logged. dim[0] = 2 is 2-D; one slice with dim[0] = 3 stays 3-D, and so does a single
    DICOM slice. The spacing that a picture's header carries is a printing resolution and is ignored. Alpha is
    dropped; three equal colour channels become one.

    Examples
    --------
    >>> import numpy as np
    >>> load(np.zeros((4, 5, 6)), spacing=(3.0, 1.0, 1.0)).grid.spacing
    array([3., 1., 1.])
    """
    if channels not in (None, "last"):
        raise unknown("value of channels", channels, ["last"])
    try:
        return _load(source, spacing, channels, name)
    except ClassregError as error:
        raise type(error)(f"{name}: {error}") from error


def header(path: str | os.PathLike, *, name: str = "image") -> Grid | None:
    """The grid of an image file, of which the header alone is read; None for a DICOM folder, which has none.

    Parameters
    ----------
    path : path
        As `load` takes it.
    name : str
        What messages call the image.

    Raises
    ------
    FileError, InputError, GeometryError
        Where the header cannot be used.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_image(load(np.ones((4, 5), np.uint8), spacing=2.0), folder + "/labels.nii.gz")
    ...     print(header(folder + "/labels.nii.gz"))
    Grid(4 x 5, spacing 2 x 2 mm, centre [4.0, 3.0])
    """
    try:
        path = existing(path)
        if path.is_dir():
            return None
        if suffix_of(path) in nifti.SUFFIXES:
            return nifti.header(path)
        reader = _reader(path)
        if suffix_of(path) in PICTURES:
            return Grid.from_spacing(reader.GetSize()[::-1])
        return _grid_of(reader)
    except ClassregError as error:
        raise type(error)(f"{name}: {error}") from error


def save_image(image: Image, path: str | os.PathLike) -> None:
    """Write an image; a file of that name is replaced only once the new one is complete.

    Parameters
    ----------
    image : Image
        The image; its weight is not written.
    path : path
        .nii, .nii.gz, .nrrd, .mha, or .png, .tif, .tiff, which keep no world geometry. The folder must exist.

    Raises
    ------
    FileError
        If the suffix is unknown, the folder is not writable, or the format cannot hold the image.
    InputError
        If the grid is sheared and the format is not NIfTI, or 64-bit integers are too large for NIfTI
        readers.

    Notes
    -----
    The dtype is kept, except that float16 is written as float32, and 64-bit integers as 32-bit ones in NIfTI.
    A 2-D image becomes a NIfTI with dim[0] = 2. Channels become NIfTI's vector axis; `load` them with
    channels='last'.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_image(load(np.ones((4, 5), np.uint8), spacing=2.0), folder + "/labels.nii.gz")
    ...     print(load(folder + "/labels.nii.gz").grid)
    Grid(4 x 5, spacing 2 x 2 mm, centre [4.0, 3.0])
    """
    if not isinstance(image, Image):
        raise InputError(f"save_image needs an Image, not {type(image).__name__}; use classreg.io.load first")
    suffix = suffix_of(path)
    if suffix not in WRITABLE:
        raise FileError(f"cannot write {path}: unknown suffix {suffix!r}; use one of {', '.join(WRITABLE)}")
    if suffix == ".png" and image.grid.ndim == 3:
        raise FileError(f"cannot write {path}: a PNG is 2-D, the image {image.grid.shape}; use .nii.gz")
    if suffix in PICTURES and image.channels not in (1, 3):
        raise FileError(f"cannot write {path}: pictures have 1 or 3 channels, not {image.channels}; use .mha")
    if image.array.dtype == np.float16:
        image = replace(image, array=image.array.astype(np.float32))
    with atomic_path(path) as temporary:
        if suffix in nifti.SUFFIXES:
            nifti.write(image, temporary)
            return
        import SimpleITK as sitk

        try:
            sitk.WriteImage(image.to_sitk(), str(temporary))
        except (RuntimeError, TypeError) as error:
            raise FileError(f"cannot write {path} with dtype {image.array.dtype}: {reason(error)}; "
                            "convert the values, or use .nii.gz or .nrrd") from error


def _load(source, spacing, channels, name) -> Image:
    if isinstance(source, (str, os.PathLike)):
        return _from_path(existing(source), spacing, channels, name)
    if isinstance(source, np.ndarray):
        return _from_array(source, spacing, channels)
    if isinstance(source, Image):
        _no_spacing(spacing, "a classreg Image")
        return source
    # neither library is imported for this: an object of theirs exists only where they have been
    if (sitk := sys.modules.get("SimpleITK")) and isinstance(source, sitk.Image):
        _no_spacing(spacing, "a SimpleITK image")
        return _from_sitk(source, channels)
    if (nib := sys.modules.get("nibabel")) and isinstance(source, nib.spatialimages.SpatialImage):
        _no_spacing(spacing, "a nibabel image")
        return nifti.from_nibabel(source, channels, name)
    kind = type(source)
    raise InputError(f"cannot use a {kind.__module__}.{kind.__qualname__} as an image; give a path, a "
                     "SimpleITK or nibabel image, or a NumPy array (numpy.asarray(...) with spacing=)")


def _from_path(path: Path, spacing, channels, name) -> Image:
    suffix = suffix_of(path)
    if suffix not in PICTURES:
        _no_spacing(spacing, f"{path}")
    if path.is_dir():
        files = dicom.series_files(path)
        if len(files) > 1:
            array, affine = dicom.read_series(files, path)
            array = _colour(np.moveaxis(array, -1, 0)) if array.ndim == 4 else array
            return Image(array, Grid(array.shape[-3:], affine))
        path = Path(files[0])
    elif suffix in nifti.SUFFIXES:
        return nifti.read(path, channels, name)
    image, colour = _read_sitk(path)
    if suffix not in PICTURES:
        return _from_sitk(image, channels, colour)
    array = _from_sitk(image, channels, colour=True).array
    ndim = image.GetDimension()
    return Image(array, Grid.from_spacing(array.shape[-ndim:], _spacing(spacing, ndim)))


def _read_sitk(path: Path):
    """The SimpleITK image in a file, and whether the format itself declares its components as colour."""
    check_whole(path)
    reader = _reader(path)
    declared = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()  # at least a byte each
    check_declared(declared, path, GZIP_RATIO if suffix_of(path) in (".mha", ".nrrd", ".png") else None)
    with _told(path):
        return reader.Execute(), reader.HasMetaDataKey("0008|0016")  # every DICOM has a SOP class


def _reader(path: Path):
    """A SimpleITK reader that has seen the header of a file."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _told(path):
        reader.ReadImageInformation()
    return reader


@contextmanager
def _told(path: Path):
    """What SimpleITK raises of a file, as an error that says what to do."""
    try:
        yield
    except RuntimeError as error:
        known = suffix_of(path) in PICTURES + VOLUMES
        advice = "it is damaged, incomplete or of an uncommon kind; copy or convert it" if known else (
            f"known formats: {', '.join(nifti.SUFFIXES + VOLUMES + PICTURES)}, and DICOM folders")
        raise FileError(f"cannot read {path}: {reason(error)}; {advice}") from error


def _from_sitk(image, channels: str | None, colour: bool = False) -> Image:
    import SimpleITK as sitk

    if image.GetPixelIDTypeAsString().startswith("label of"):  # its array would end the process
        raise InputError("a SimpleITK label map has no voxels; convert it with SimpleITK.LabelMapToLabel")
    ndim, components, size = image.GetDimension(), image.GetNumberOfComponentsPerPixel(), image.GetSize()
    if ndim not in (2, 3, 4) or (ndim == 4 and components > 1):
        raise InputError(f"the image has {ndim} axes {size} and {components} components; select one volume")
    volumes = size[3] if ndim == 4 else components
    if volumes > 1 and not (channels or (colour and components > 1)):
        what = "time axis (axis 3 of" if ndim == 4 else "vector axis (components of"
        pick = "image[:, :, :, 0]" if ndim == 4 else "SimpleITK.VectorIndexSelectionCast(image, 0)"
        raise InputError(f"its {what} an image of size {size}) holds {volumes} volumes; select one ({pick}), "
                         "or declare channels='last'")
    if channels and not colour and components == 1 and ndim < 4:
        raise InputError(f"channels='last' was declared, but the image of size {size} has one component; "
                         "leave channels out")
    array = sitk.GetArrayFromImage(image)
    if components > 1:
        array = np.ascontiguousarray(np.moveaxis(array, -1, 0))
        array = _colour(array) if colour else array
    elif volumes == 1 and ndim == 4:
        array = array[0]
    return Image(array, _grid_of(image))


def _grid_of(image) -> Grid:
    """The grid of a SimpleITK image, or of a reader that has seen the header of one."""
    ndim = image.GetDimension()
    d = min(ndim, 3)
    affine = np.eye(d + 1)
    direction = np.reshape(image.GetDirection(), (ndim, ndim))[:d, :d]
    affine[:d, :d] = (direction * image.GetSpacing()[:d])[:, ::-1]
    affine[:d, d] = image.GetOrigin()[:d]
    return Grid(image.GetSize()[:d][::-1], affine)


def _colour(array: np.ndarray) -> np.ndarray:
    """Colour channels (channels, ...) without alpha; one channel where all three say the same."""
    array = array[:3]
    grey = all((array[0] == channel).all() for channel in array[1:])
    return np.ascontiguousarray(array[0] if grey else array)


def _from_array(array: np.ndarray, spacing, channels: str | None) -> Image:
    if isinstance(array, np.ma.MaskedArray):
        raise InputError("masked arrays are not images; give array.filled(value) and the mask as a mask "
                         "(~numpy.ma.getmaskarray(array))")
    ndim = array.ndim - bool(channels)
    if ndim not in (2, 3):
        declared = " of which the last holds channels" if channels else ""
        advice = "; select one volume (array[0]), or declare channels='last'" if array.ndim == 4 else ""
        raise InputError(f"the array has {array.ndim} axes{declared} (shape {array.shape}); images are "
                         f"(y, x) or (z, y, x){advice}")
    if channels:
        array = np.moveaxis(array, -1, 0)
        array = array[0] if len(array) == 1 else array
    grid = Grid.from_spacing(array.shape[-ndim:], _spacing(spacing, ndim))
    return Image(np.ascontiguousarray(array), grid)


def _spacing(spacing, ndim: int):
    """`spacing` as None, or checked to be one number or one per array axis."""
    try:
        if spacing is None or np.shape(np.asarray(spacing, float)) in ((), (ndim,)):
            return spacing
    except (TypeError, ValueError):
        pass
    raise GeometryError(f"spacing is a number or {ndim} numbers in mm, one per array axis; got {spacing!r}")


def _no_spacing(spacing, what: str) -> None:
    if spacing is not None:
        raise InputError(f"spacing={spacing!r} was given, but {what} carries its own; leave spacing out, or "
                         "give the bare array")

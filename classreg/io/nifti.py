"""NIfTI and Analyze through nibabel, since SimpleITK refuses or straightens sheared headers.

nibabel's (x, y, z) arrays become C-contiguous (z, y, x); RAS becomes LPS by flipping two rows of the affine:

    affine_lps = diag(-1, -1, 1, 1) @ affine_ras @ (columns in the order z, y, x)

Which header counts is nibabel's rule: the s-form if its code is above 0, else the q-form if its code is above
0, else the voxel sizes alone, centred and with x to the patient's left. dim[0] = 2 is a 2-D image; one slice
with dim[0] = 3 stays 3-D. A vector file (dim[0] = 5) of one slice is 2-D, as ITK has it.

Must not import: SimpleITK, metrics, the engine.
"""

from __future__ import annotations

import gzip
import logging
import math
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import FileError, GeometryError, InputError
from ..grid import Grid
from ..image import Image
from .files import GZIP_RATIO, check_declared, reason

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
FORMS_TOLERANCE = 0.1  # voxels, of the smallest side

log = logging.getLogger("classreg")


def header(path: Path) -> Grid:
    """The grid of a NIfTI or Analyze file; see `classreg.io.header`."""
    nifti, _, _ = _open(path)
    ndim, _ = _axes(nifti.shape, None)
    return Grid(nifti.shape[:ndim][::-1], _index_to_world(nifti.affine, ndim))


def read(path: Path, channels: str | None, name: str) -> Image:
    """The image in a NIfTI or Analyze file; see `classreg.io.load`."""
    nifti, data_file, declared = _open(path)
    packed = data_file.suffix.lower() == ".gz"
    check_declared(declared, data_file, GZIP_RATIO if packed else 1)
    try:
        if not packed:
            return from_nibabel(nifti, channels, name)
        with gzip.open(data_file) as stream:
            nifti.dataobj.file_like = stream
            image = from_nibabel(nifti, channels, name)
            while stream.read(1 << 20):  # the checksum stands at the very end, behind the last voxel
                pass
        return image
    except (OSError, EOFError, ArithmeticError, MemoryError, zlib.error) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"cannot read {path}, which is truncated or damaged: {reason(error)}; "
                        "copy or download it again") from error


def _open(path: Path):
    """The nibabel image in a file, of which the header is read; the file that holds its samples, and their bytes."""
    import nibabel as nib

    try:
        nifti = nib.load(path, mmap=False)  # a mapped file may change under us, or stay locked
        data_file = Path(nifti.file_map["image"].filename)
        declared = nifti.dataobj.offset + math.prod(nifti.shape) * nifti.dataobj.dtype.itemsize
    except Exception as error:  # a foreign parser on a foreign file: anything may come
        raise FileError(f"cannot read {path} as NIfTI: {reason(error)}") from error
    if not data_file.exists():
        raise FileError(f"the header {path} has no image file {data_file.name} beside it; copy both together")
    if min(nifti.shape, default=0) < 1:
        raise FileError(f"the header of {path} declares an impossible shape {nifti.shape}")
    return nifti, data_file, declared


def from_nibabel(nifti, channels: str | None, name: str) -> Image:
    """A nibabel image as an `Image`; values are scaled as the header says, other integers stay integers."""
    ndim, count = _axes(nifti.shape, channels)
    affine = _affine(nifti, name)
    data = np.asarray(nifti.dataobj)
    if data.dtype.names:  # RGB and RGBA voxels, declared as colour by the format; alpha is dropped
        if count > 1:
            raise InputError(f"the colour image has a further axis (shape {nifti.shape}); select one volume")
        data, count = np.stack([data[c] for c in data.dtype.names[:3]], -1), 3
    data = data.reshape((*nifti.shape[:ndim], *([count] if count > 1 else []))).T
    return Image(np.ascontiguousarray(data), Grid(data.shape[-ndim:], _index_to_world(affine, ndim)))


def _axes(shape: tuple[int, ...], channels: str | None) -> tuple[int, int]:
    """Dimension of the grid and number of channels for a NIfTI shape (x, y[, z[, t[, vector]]])."""
    rest = list(shape[3:])
    if len(shape) < 2:
        raise InputError(f"the image has shape {shape}; classreg registers 2-D and 3-D images")
    if channels and not rest:
        raise InputError(f"channels='last' was declared, but the image of shape {shape} has no axis for "
                         "them; leave channels out")
    while rest and rest[-1] == 1:
        rest.pop()
    if not rest:
        return min(len(shape), 3), 1
    if len(rest) > 2 or (len(rest) == 2 and rest[0] > 1):
        raise InputError(f"the image has {len(shape)} axes {shape}; select one 3-D volume "
                         "(nibabel: image.slicer[...])")
    if channels is None:
        axis = "time axis (axis 3)" if len(rest) == 1 else "vector axis (axis 4)"
        pick = ", ".join([":"] * 3 + ["0"] * len(rest))
        raise InputError(f"the image has shape {shape}: its {axis} holds {rest[-1]} volumes; select one "
                         f"(array[{pick}], or nibabel's image.slicer), or declare channels='last'")
    return (2 if len(rest) == 2 and shape[2] == 1 else 3), rest[-1]


def _affine(nifti, name: str) -> np.ndarray:
    """The (x, y, z) -> RAS matrix that counts; logs where the header contradicts itself or says nothing."""
    affine = nifti.affine
    if affine is None:
        raise GeometryError("the nibabel image has no affine; give one (nibabel.Nifti1Image(array, affine))")
    header = nifti.header
    if not hasattr(header, "get_sform"):
        return affine
    sform, s_code = header.get_sform(coded=True)
    try:
        qform, q_code = header.get_qform(coded=True)
    except Exception as error:
        log.warning("%s: the q-form is not valid (%s); the s-form is used", name, reason(error))
        return affine
    if s_code > 0 and q_code > 0:
        distance = _corner_distance(sform, qform, nifti.shape)
        if distance > FORMS_TOLERANCE * np.linalg.norm(sform[:3, :3], axis=0).min():
            log.warning("%s: the s-form and the q-form of the header disagree by up to %.3g mm over the "
                        "corners of the volume; the s-form is used. Other tools may take the q-form: make "
                        "both equal first (nibabel: image.set_qform(image.affine))", name, distance)
    elif s_code == 0 and q_code == 0:
        log.warning("%s: the header has neither an s-form nor a q-form; the image is placed by its voxel "
                    "sizes alone, as nibabel does", name)
    return affine


def _corner_distance(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """Largest distance in mm that two index-to-world matrices put between them at a corner of the volume."""
    ends = [(0, n - 1) for n in (*shape, 1, 1)[:3]]
    corners = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
    move = first - second
    return float(np.linalg.norm(corners @ move[:3, :3].T + move[:3, 3], axis=1).max())


def _index_to_world(affine: np.ndarray, ndim: int) -> np.ndarray:
    """`Grid.affine` of an (x, y, z) -> RAS matrix."""
    lps = LPS @ affine
    if ndim == 3:
        return lps[:, [2, 1, 0, 3]]
    if np.abs(lps[2, :2]).max() > 1e-3 * np.linalg.norm(lps[:3, :2], axis=0).min():
        raise GeometryError(f"a 2-D NIfTI must lie in the world's x-y plane; the axes of this one are "
                            f"{np.round(lps[:3, 0], 4).tolist()} and {np.round(lps[:3, 1], 4).tolist()}. "
                            "Save it as a 3-D image of one slice (shape (x, y, 1)) to keep its orientation")
    return np.vstack([lps[:2][:, [1, 0, 3]], [0, 0, 1]])


def write(image: Image, path: Path) -> None:
    """Write a `.nii` or `.nii.gz` that nibabel and ITK place alike; see `classreg.io.save_image`."""
    import nibabel as nib

    nifti = replace(image, array=_narrow(image.array)).to_nibabel()
    data = np.asarray(nifti.dataobj)
    one_slice = image.grid.ndim == 3 and image.grid.shape[0] == 1
    if image.channels > 1 and not one_slice:  # axis 4 is for vectors; one slice there is 2-D to readers
        data = data[:, :, :, None, :]
        nifti.header.set_intent("vector")
    elif image.grid.ndim == 2:
        data = data[:, :, 0]
    out = nib.Nifti1Image(data, nifti.affine, nifti.header)
    out.header.set_xyzt_units("mm")
    if _corner_distance(out.affine, out.header.get_qform(), nifti.shape) > 1e-3 * image.grid.spacing.min():
        out.header.set_qform(None, 0)  # a sheared grid has no q-form
    nib.save(out, path)


def _narrow(array: np.ndarray) -> np.ndarray:
    """64-bit integers in 32 bits: most NIfTI readers refuse the former."""
    if array.dtype.kind not in "iu" or array.dtype.itemsize < 8:
        return array
    narrow = np.int32 if array.dtype.kind == "i" else np.uint32
    limits = np.iinfo(narrow)
    if array.min() < limits.min or array.max() > limits.max:
        raise InputError(f"the values {array.min()} to {array.max()} do not fit 32-bit integers, which is "
                         "what NIfTI readers know; save as .nrrd or .mha, or convert to float64")
    return array.astype(narrow)

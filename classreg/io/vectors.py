"""Vector NIfTIs, and displacements between two frames of coordinates: what all formats of fields share.

A tool counts in frames of its own, p = P x at the fixed end and q = Q y at the moving one (P, Q affine, of world LPS
mm): RAS mm, voxels, FSL's scaled voxels. Its field is d = q - p, so

    d(x) = Q phi(x) - P x,    phi(x) = Q^-1 (P x + d) = A (x + u),  A = Q^-1 P,  u = P^-1 d (linear part)

and nothing is lost either way: reading keeps the field's own samples. Where the frames differ, A says nothing of the
images but how their voxels happen to lie, and u would be large: then A becomes the affine map nearest to phi, and u
what remains, which is the same phi inside the field, but one that can be inverted.

Must not import: SimpleITK, metrics, the engine. nibabel is imported on first use.
"""

from __future__ import annotations

import contextlib
import gzip
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import ClassregError, FileError, InputError
from ..fitted import FittedTransform
from ..grid import Grid
from ..image import Image
from ..mapping import Mapping
from . import nifti
from .atomic import atomic_path
from .files import GZIP_RATIO, check_declared, reason, suffix_of

SUFFIXES = (".nii", ".nii.gz")
SAMPLES = 24
SHEAR = 1e-4  # cosine between two axes up to which they count as orthogonal


def pixel(grid: Grid) -> np.ndarray:
    """World to voxel numbers along x, y[, z]: the frame of a file that counts in voxels, (d + 1, d + 1)."""
    turned = grid.affine[:, [*range(grid.ndim)[::-1], grid.ndim]]
    return np.linalg.inv(turned)


def from_frames(field: np.ndarray, grid: Grid, p: np.ndarray, q: np.ndarray) -> Mapping:
    """The mapping of d (d, *grid.shape) between the frames P and Q, both (d + 1, d + 1)."""
    d = grid.ndim
    if np.array_equal(p, np.eye(d + 1)) and np.array_equal(q, p):
        return Mapping(p, field, grid)
    u = np.einsum("ij,j...->i...", np.linalg.inv(p)[:d, :d], field)
    matrix = np.linalg.solve(q, p)
    if not np.allclose(matrix, np.eye(d + 1), rtol=0, atol=1e-9):
        matrix, u = _nearest(matrix, u, grid)
    return Mapping(matrix, np.ascontiguousarray(u, np.float32), grid)


def _nearest(matrix: np.ndarray, u: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """A (x + u) with A the affine map nearest to it, from at most `SAMPLES` samples along each axis."""
    d, points = grid.ndim, np.moveaxis(grid.points(), -1, 0)
    thin = (slice(None), *(slice(None, None, -(-n // SAMPLES)) for n in grid.shape))
    x, v = points[thin].reshape(d, -1), u[thin].reshape(d, -1)
    centre, mean = x.mean(1), v.mean(1)
    x, v = x - centre[:, None], v - mean[:, None]
    step = np.eye(d + 1)  # x + u(x) is near step x
    step[:d, :d] += np.einsum("in,jn->ij", v, x) @ np.linalg.pinv(np.einsum("in,jn->ij", x, x), rcond=1e-9)
    step[:d, d] = mean + centre - step[:d, :d] @ centre
    if not np.isfinite(step).all() or abs(np.linalg.det(step)) < 1e-3:
        return matrix, u
    back = np.linalg.inv(step)
    return matrix @ step, np.einsum("ij,j...->i...", back[:d, :d], points + u) + back[:d, d].reshape(
        (d,) + (1,) * d) - points


def to_frames(transform: FittedTransform, grid: Grid, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """d (d, *grid.shape) float32 between the frames P and Q on a grid."""
    d, rest = grid.ndim, q - p
    out = np.einsum("ij,j...->i...", q[:d, :d], transform.displacement(grid))
    if rest.any():
        out += np.einsum("ij,j...->i...", rest[:d, :d], np.moveaxis(grid.points(), -1, 0))
        out += rest[:d, d].reshape((d,) + (1,) * d)
    return out.astype(np.float32)


def head(path: Path) -> tuple[tuple[int, ...], int, str]:
    """Shape, intent code and intent name of a NIfTI; FileError where it is none."""
    import nibabel as nib

    with _reading(path):
        file = nib.load(path, mmap=False)
        return file.shape, int(file.header["intent_code"]), file.header.get_intent()[2]


def array(path: Path) -> np.ndarray:
    """The numbers of a NIfTI as they are, whatever its header says of space."""
    import nibabel as nib

    with _reading(path):
        file = nib.load(path, mmap=False)
        _check_whole(file, path)
        return np.asarray(file.dataobj)


def read(path: Path, d: int) -> tuple[np.ndarray, Grid]:
    """Vectors (d, *shape) float32 and their grid, from (x, y, z, 1, d) or (x, y, z, d); in 2-D from (x, y, 1, 1, 2)."""
    import nibabel as nib

    shape, intent, _ = head(path)
    rest = shape[3:] if len(shape) < 5 else shape[4:] if shape[3] == 1 else ()
    if rest != (d,) or (d == 2 and (len(shape) < 5 or shape[2] != 1)):
        needed = "(x, y, z, 1, 3) or (x, y, z, 3)" if d == 3 else "(x, y, 1, 1, 2)"
        raise InputError(f"{path} is no field of {d}-D vectors: its shape is {shape}, its intent {intent}; a {d}-D "
                         f"image needs {needed}")
    with _reading(path):
        file = nib.load(path, mmap=False)
        _check_whole(file, path)
        image = nifti.from_nibabel(file.slicer[:, :, :, 0] if d == 3 and len(shape) == 5 else file, "last", str(path))
    if not (np.abs(image.array) <= np.finfo(np.float32).max).all():
        raise InputError(f"{path} holds numbers that are not finite; write it again")
    return image.array.astype(np.float32), image.grid


def turned(matrix: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Vectors (d, ...) through the linear part of a world matrix."""
    return np.einsum("ij,j...->i...", matrix[:-1, :-1], u)


def covered(field: Grid, grid: Grid, path: Path) -> float:
    """The share of an image that a field, or a lattice, covers; InputError where it lies beside it."""
    ends = [np.linspace(0, n - 1, min(n, 9)) for n in grid.shape]
    index = field.to_index(grid.to_world(np.stack(np.meshgrid(*ends, indexing="ij"), -1)))
    share = float(((index > -1) & (index < field.shape)).all(-1).mean())
    if share == 0:
        apart = np.linalg.norm(field.centre - grid.centre)
        raise InputError(f"the field in {path} lies elsewhere: its centre is {apart:.4g} mm from the image that it "
                         "should begin at; it belongs to another image, or goes the other way (inverse=True)")
    return share


def fitting(field: np.ndarray, fixed: Grid, path: Path) -> Grid:
    """The fixed grid, once a field that counts in its voxels is found to have as many."""
    if field.shape[1:] != fixed.shape:
        raise InputError(f"{path} holds a field of {field.shape[:0:-1]} voxels, the fixed image has "
                         f"{fixed.shape[::-1]}; a field that counts in voxels lies on those of the fixed image")
    return fixed


def write(field: np.ndarray, grid: Grid, path: Path, *, axes: int = 5, intent: str) -> None:
    """Write vectors (d, *grid.shape) as (x, y, z, 1, d), in 2-D (x, y, 1, 1, 2), or with 4 axes as (x, y, z, d)."""
    import nibabel as nib

    image = Image(field, grid).to_nibabel()
    data = np.asarray(image.dataobj)
    out = nib.Nifti1Image(data[:, :, :, None, :] if axes == 5 else data, image.affine, image.header)
    out.header.set_intent(intent)
    out.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nib.save(out, temporary)


def orthonormal(grid: Grid) -> Grid:
    """The grid itself; for a sheared one, an orthonormal grid of its spacing that covers it."""
    d, spacing = grid.ndim, grid.spacing
    axes = grid.affine[:d, :d] / spacing
    if np.abs(axes.T @ axes - np.eye(d)).max() <= SHEAR:
        return grid
    u, _, vt = np.linalg.svd(axes)
    turn = u @ vt
    along = grid.corners() @ turn
    low, high = along.min(0), along.max(0)
    shape = np.ceil((high - low) / spacing - 1e-6).astype(int) + 1
    affine = np.eye(d + 1)
    affine[:d, :d] = turn * spacing
    affine[:d, d] = turn @ ((low + high - (shape - 1) * spacing) / 2)
    return Grid(tuple(shape), affine)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except ClassregError:
        raise
    except Exception as error:  # a foreign parser on a foreign file: anything may come
        raise FileError(f"cannot read {path}, which is truncated, damaged or no NIfTI: {reason(error)}; "
                        "copy or download it again") from error


def _check_whole(file, path: Path) -> None:
    packed = suffix_of(path).endswith(".gz")
    declared = file.dataobj.offset + math.prod(file.shape) * file.dataobj.dtype.itemsize
    check_declared(declared, path, GZIP_RATIO if packed else 1)
    if packed:
        with gzip.open(path) as stream:
            while stream.read(1 << 20):  # the checksum stands at the very end, behind the last voxel
                pass

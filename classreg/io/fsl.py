"""FSL: matrices of flirt, warps of fnirt and convertwarp.

FSL counts in millimetres of each image's own voxels, c = S (i, j, k), S = diag(spacing), with i -> n - 1 - i first
where the voxel-to-world matrix has a positive determinant; so both grids are needed. With P and Q from world to that
frame of the fixed ("reference") and the moving ("input") image:

    .mat, .txt       a matrix N of 4 x 4 numbers from moving to fixed:  phi(x) = Q^-1 N^-1 P x
    .nii, .nii.gz    (x, y, z, 3), intent 2006, from fixed to moving; relative, d:  phi(x) = Q^-1 (P x + d(x)),
                     or absolute, c:  phi(x) = Q^-1 c(x)
    coefficients     intent 2007, read only: cubic splines whose knots are s voxels apart (pixdim), and a matrix M in
                     place of the s-form:  d(i) = M^-1 c - c + sum_k b(i / s - k + 1) w_k

No header says which of the two a warp is. `fsl` tells by the rule of fslpy: absolute where the numbers vary more than
what is left of them without the coordinates. Absolute warps between images whose axes run in opposite directions fail
that; where Q x itself would, what passes for relative and is nearer to Q x as an absolute one is refused.
`fsl-relative` and `fsl-absolute` say which it is. In 2-D, matrices only.

References: Jenkinson et al., NeuroImage 17 (2002), doi:10.1006/nimg.2002.1132; Andersson et al., FMRIB technical
report TR07JA2 (2007).

Spacing and handedness are those of the voxel-to-world matrix; FSL reads the spacing from pixdim, which is the same
unless a header contradicts itself.

Must not import: SimpleITK, metrics, the engine, cli. nibabel is imported on first use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, OptionError
from ..fitted import FittedTransform
from ..grid import Grid, lift
from . import matrices, vectors
from .files import suffix_of

TEXT = (".mat", ".txt")
WARP, COEFFICIENTS = 2006, 2007
OTHERS = {2008: "cosine coefficients", 2009: "coefficients of quadratic splines"}


@dataclass(frozen=True)
class FSL:
    """FSL's formats, by what a warp holds: relative, absolute, or "either" to read what it is and write relative."""

    warp: str
    SUFFIXES = (*TEXT, *vectors.SUFFIXES)

    def read(self, path: Path, fixed: Grid, moving: Grid | None) -> FittedTransform:
        """From a matrix, a warp on its own grid, or coefficients on the fixed grid."""
        q = frame(matrices.need_moving(moving, path, "FSL"))
        if suffix_of(path) in TEXT:
            back = matrices.inverse(matrices.read_for(path, fixed.ndim), path)
            return matrices.fitted(np.linalg.solve(q, back @ frame(fixed)), fixed, path)
        if fixed.ndim == 2:
            raise InputError(f"{path}: FSL's warps are volumes, the image is 2-D")
        _, intent, _ = vectors.head(path)
        if intent in OTHERS:
            raise InputError(f"{path} holds {OTHERS[intent]}; make a warp of it (fnirtfileutils --out) and read that")
        if intent == COEFFICIENTS:
            mapping = vectors.from_frames(_spline(path, fixed), fixed, frame(fixed), q)
            return FittedTransform.from_mapping(mapping, fixed)
        if intent not in (0, WARP):
            raise InputError(f"{path} declares to be of another tool (intent {intent}); name its format")
        field, grid = vectors.read(path, 3)
        p, here = frame(grid), _coordinates(grid)
        if self.warp == "absolute" or (self.warp == "either" and _absolute(field, here, _at(q, grid), path)):
            field -= here
        return FittedTransform.from_mapping(vectors.from_frames(field, grid, p, q), fixed)

    def write(self, transform: FittedTransform, path: Path) -> None:
        """A matrix, or a warp on the grid of the first end, which FSL takes for the reference's."""
        q = frame(matrices.need_moving(transform.to_grid, path, "FSL"))
        if suffix_of(path) in TEXT:
            forward = q @ matrices.only(transform, path) @ np.linalg.inv(frame(transform.grid))
            matrices.write(lift(np.linalg.inv(forward)), path)
            return
        if transform.ndim == 2:
            raise OptionError(f"cannot write {path}: FSL's warps are volumes, the transform is 2-D")
        grid = transform.grid
        field = vectors.to_frames(transform, grid, frame(grid), q)
        if self.warp == "absolute":
            field += _coordinates(grid)
        vectors.write(field, grid, path, axes=4, intent="fnirt disp field")

    def recognise(self, path: Path) -> bool | None:
        """By the intent of a warp; of matrices nobody can say."""
        if suffix_of(path) in TEXT:
            return None if matrices.is_text(path) else False
        shape, intent, _ = vectors.head(path)
        if intent in (WARP, COEFFICIENTS, *OTHERS):
            return True if self.warp == "either" else None
        return None if len(shape) == 4 and intent == 0 else False


def frame(grid: Grid) -> np.ndarray:
    """World LPS mm to FSL's coordinates of an image, (d + 1, d + 1)."""
    d = grid.ndim
    scale = np.diag([*grid.spacing[::-1], 1.0])
    out = scale @ vectors.pixel(grid)
    if np.linalg.det(out[:d, :d]) > 0:  # of two flipped rows, so of LPS as of RAS
        out[0] = -out[0]
        out[0, d] += (grid.shape[-1] - 1) * grid.spacing[-1]
    return out


def _coordinates(grid: Grid) -> np.ndarray:
    """FSL's coordinates of every sample, (3, *grid.shape) float32."""
    return _at(frame(grid), grid)


def _at(frame: np.ndarray, grid: Grid) -> np.ndarray:
    """Every sample in a frame, (3, *grid.shape) float32."""
    at = grid.points() @ frame[:3, :3].T + frame[:3, 3]
    return np.moveaxis(at, -1, 0).astype(np.float32)


def _absolute(field: np.ndarray, here: np.ndarray, there: np.ndarray, path: Path) -> bool:
    """Whether a field varies more with the coordinates than without; refused where that cannot tell."""
    if _spread(field) > _spread(field - here):
        return True
    if _spread(there) < _spread(there - here) and _spread(field - there) < _spread(field + here - there):
        raise InputError(f"{path} may be a relative or an absolute warp, which cannot be told where the axes of the "
                         "images run in opposite directions; say which: format fsl-relative or fsl-absolute")
    return False


def _spread(field: np.ndarray) -> float:
    return sum(float(component.std()) for component in field)


def _spline(path: Path, fixed: Grid) -> np.ndarray:
    """Displacements of a coefficient file at the samples of the fixed grid, (3, *fixed.shape)."""
    import nibabel as nib

    coefficients = vectors.array(path)
    header = nib.load(path, mmap=False).header
    shape = tuple(int(header[f"qoffset_{axis}"]) for axis in "xyz")
    spacing = [float(header[f"intent_p{k}"]) for k in (1, 2, 3)]
    if shape != fixed.shape[::-1] or not np.allclose(spacing, fixed.spacing[::-1], rtol=1e-3):
        raise InputError(f"{path} belongs to an image of shape {shape} and spacing {spacing} (x, y, z); the fixed one "
                         f"has {fixed.shape[::-1]} and {fixed.spacing[::-1].tolist()}")
    out = coefficients.astype(float)
    for axis, (n, step) in enumerate(zip(shape, header.get_zooms()[:3])):
        if step < 1 or coefficients.shape[axis] < (n - 1) // step + 4:
            raise InputError(f"{path} has {coefficients.shape[axis]} knots every {step:g} voxels along axis {axis}, "
                             f"too few for {n} voxels")
        bands = _bands(n, float(step), coefficients.shape[axis])
        out = np.moveaxis(np.einsum("ij,j...->i...", bands, np.moveaxis(out, axis, 0)), 0, axis)
    moved = np.ascontiguousarray(out.transpose(3, 2, 1, 0))
    start = header.get_sform()
    linear = matrices.inverse(start, path) - np.eye(4)
    here = _coordinates(fixed)
    return moved + np.einsum("ij,j...->i...", linear[:3, :3], here) + linear[:3, 3].reshape(3, 1, 1, 1)


def _bands(n: int, step: float, knots: int) -> np.ndarray:
    """Weights (n, knots) of a cubic spline at n voxels; knot k lies at voxel (k - 1) step."""
    t = np.abs(np.arange(n)[:, None] / step - (np.arange(knots) - 1))
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0))

"""Transforms as ITK holds them, for SimpleITK, ANTs, Slicer: .tfm, .txt, .mat, .h5, displacement NIfTIs.

World and direction are ITK's own (LPS mm, fixed to moving), so nothing is flipped or inverted:

    linear models      AffineTransform about the model's centre
    bspline            A (x + u(x)) as CompositeTransform [A, u]: ITK applies the last one, u, first
    dense and others   the same, u as a DisplacementFieldTransform, interpolated linearly on both sides
    displacement file  phi(x) - x in mm, float32, (x, y, z, 1, 3), intent "vector", as ANTs writes its warps

Outside its grid a field keeps its border value in classreg and is zero in ITK. On a sheared fixed grid fields
are written on an orthonormal grid that covers it, interpolated linearly between its samples.

Must not import: metrics, the engine, cli. SimpleITK and nibabel are imported on first use.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from ..errors import ClassregError, FileError, InputError
from ..fitted import FittedTransform
from ..grid import Grid
from ..image import Image
from ..mapping import Mapping
from ..transforms import BSpline
from . import nifti
from .atomic import atomic_path
from .files import GZIP_RATIO, check_declared, existing, reason, suffix_of
from .images import load

TEXT = (".tfm", ".txt")
LINEAR = (*TEXT, ".mat", ".h5")
DEFORMABLE = (".h5", *TEXT)
FIELDS = (".nii", ".nii.gz")
SHEAR = 1e-4  # cosine between two axes up to which they count as orthogonal
BORDER = 1  # cells of an exported lattice beyond the fixed samples, since ITK drops points on its border


def write_transform(transform: FittedTransform, path: str | os.PathLike) -> None:
    """Write a transform that ITK maps points with as classreg does, everywhere inside the fixed image.

    Parameters
    ----------
    transform : FittedTransform
        Of any model, 2-D or 3-D.
    path : path
        .tfm, .txt or .h5; .mat too for linear models. A dense field as text is slow and large: prefer .h5.

    Raises
    ------
    FileError
        If the suffix does not fit the model, or the file cannot be written; no part of it is left then.
    InputError
        If `transform` is not a FittedTransform.

    Notes
    -----
    A spline is exact. So is a field, but for a sheared fixed grid, where it is interpolated once more.

    Examples
    --------
    >>> import tempfile
    >>> grid = Grid.from_spacing((8, 9, 7), 2.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_transform(FittedTransform.from_matrix(np.diag([2.0, 1, 1, 1]), grid), folder + "/a.tfm")
    ...     read_transform(folder + "/a.tfm", grid).map_points([[3.0, 4, 5]])
    array([[6., 4., 5.]])
    """
    _check(transform)
    suffix, allowed = suffix_of(path), LINEAR if transform.linear else DEFORMABLE
    if suffix not in allowed:
        raise FileError(f"cannot write {path}: a transform of model {transform.model!r} is saved as one of "
                        f"{', '.join(allowed)}; the suffix is {suffix!r}")
    import SimpleITK as sitk

    found = _to_itk(transform)
    with atomic_path(path) as temporary:
        if suffix == ".h5":  # a disk that runs full under HDF5 ends the process: see first that there is room
            temporary.write_bytes(bytes(8 * found.GetNumberOfParameters() + 32768))
        try:
            sitk.WriteTransform(found, str(temporary))
            # under a text or Matlab file ITK does not notice
            whole = suffix == ".h5" or _load(temporary).GetParameters() == found.GetParameters()
        except (RuntimeError, FileError) as error:
            raise FileError(f"cannot write {path}: {reason(error)}") from error
        if not whole:
            raise FileError(f"cannot write {path}: it came back incomplete; is the disk full?")


def read_transform(path: str | os.PathLike, grid: Grid) -> FittedTransform:
    """Read a transform that ITK, SimpleITK, ANTs or `write_transform` wrote, or a displacement field.

    Parameters
    ----------
    path : path
        .tfm, .txt, .mat, .h5: any class that SimpleITK knows, or a composite of them. .nii, .nii.gz: a
        displacement field in the ANTs convention, (x, y, z, 1, 3) or, in 2-D, (x, y, 1, 1, 2).
    grid : Grid
        The fixed grid. A spline written by classreg for this grid comes back as a spline; one displacement
        field keeps its own grid; any other deformation is sampled on `grid`.

    Returns
    -------
    FittedTransform
        From "fixed" to "moving".

    Raises
    ------
    FileError
        If the file is missing, truncated, damaged, or of a class or format that is not known.
    InputError
        If its dimension is not that of `grid`, its numbers are not finite, its matrix is not invertible, it
        holds several transforms that no composite orders, or a NIfTI is not a displacement field.

    Examples
    --------
    >>> import tempfile
    >>> grid = Grid.from_spacing((9, 7), 2.0)
    >>> shift = FittedTransform.from_matrix([[1, 0, 3], [0, 1, -4], [0, 0, 1]], grid)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_displacement(shift, folder + "/u.nii")
    ...     read_transform(folder + "/u.nii", grid).map_points([[5.0, 6.0]])
    array([[8., 2.]])
    """
    path = existing(path)
    if path.is_dir():
        raise FileError(f"{path} is a folder; give the transform file")
    suffix = suffix_of(path)
    if suffix not in LINEAR + FIELDS:
        raise FileError(f"cannot read {path} as a transform: the suffix is {suffix!r}; known are "
                        f"{', '.join(LINEAR + FIELDS)}")
    if suffix in FIELDS:
        out = FittedTransform.from_mapping(_read_displacement(path, grid.ndim), grid)
    else:
        found = _load(path)
        if found.GetDimension() != grid.ndim:
            raise InputError(f"{path} holds a {found.GetDimension()}-D transform, the image is {grid.ndim}-D")
        out = _from_itk(found, grid, path)
    if not (np.isfinite(out.matrix).all() and np.isfinite(out.theta).all()):
        raise InputError(f"{path} holds numbers that are not finite; write it again")
    return out


def write_displacement(transform: FittedTransform, path: str | os.PathLike) -> None:
    """Write phi(x) - x on the fixed grid as a NIfTI displacement field in the ANTs convention.

    Parameters
    ----------
    transform : FittedTransform
        Of any model.
    path : path
        .nii or .nii.gz: float32, mm, (x, y, z, 1, 3), in 2-D (x, y, 1, 1, 2); components along world
        x, y[, z] (LPS), intent code 1007 (vector).

    Raises
    ------
    FileError
        If the suffix is another, or the file cannot be written; no part of it is left then.
    InputError
        If `transform` is not a FittedTransform.

    Examples
    --------
    >>> import nibabel, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shift = FittedTransform.from_matrix([[1, 0, 3], [0, 1, -4], [0, 0, 1]], Grid.from_spacing((9, 7)))
    ...     write_displacement(shift, folder + "/u.nii")
    ...     nibabel.load(folder + "/u.nii").get_fdata()[2, 5].ravel()
    array([ 3., -4.])
    """
    _check(transform)
    if suffix_of(path) not in FIELDS:
        raise FileError(f"cannot write {path}: a displacement field is saved as .nii or .nii.gz")
    import nibabel as nib

    grid = _orthonormal(transform.grid)
    image = Image(transform.displacement(grid), grid).to_nibabel()
    out = nib.Nifti1Image(np.asarray(image.dataobj)[:, :, :, None, :], image.affine, image.header)
    out.header.set_intent("vector")
    out.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nib.save(out, temporary)


def _check(transform) -> None:
    if not isinstance(transform, FittedTransform):
        raise InputError(f"a FittedTransform is needed, not {type(transform).__name__}; for a result give "
                         "result.transform, for a matrix FittedTransform.from_matrix(matrix, grid)")


# ----------------------------------------------------------------------------------------------------- to ITK
def _to_itk(transform: FittedTransform):
    import SimpleITK as sitk

    d, matrix = transform.ndim, transform.matrix
    centre = transform.transform.centre if transform.linear else transform.grid.centre
    linear, shift = matrix[:d, :d], matrix[:d, :d] @ centre + matrix[:d, d] - centre
    affine = sitk.AffineTransform(linear.ravel().tolist(), shift.tolist(), centre.tolist())
    if transform.linear:
        return affine
    grid = _orthonormal(transform.transform.grid)
    if isinstance(transform.transform, BSpline) and grid is transform.transform.grid:
        inner = _spline(transform)
    else:
        field = Image(transform.on(grid).field.astype(np.float64), grid).to_sitk()
        inner = sitk.DisplacementFieldTransform(field)
    return sitk.CompositeTransform([affine, inner])


def _spline(transform: FittedTransform):
    """The lattice as ITK's, with points beyond its border that the inside does not feel."""
    import SimpleITK as sitk

    grid, theta = transform.transform.grid, transform.theta
    theta = theta.reshape((grid.ndim, *theta.shape[-grid.ndim:]))
    pad = [(BORDER, BORDER) if n > 1 else (BORDER + 1, BORDER + 2) for n in grid.shape]
    theta = np.pad(theta.astype(np.float64), [(0, 0), *pad], mode="edge")
    out = sitk.BSplineTransform(grid.ndim, 3)
    out.SetFixedParameters(_geometry(_lattice(grid, theta.shape[1:])))
    out.SetParameters(theta.ravel().tolist())
    return out


def _lattice(grid: Grid, points) -> Grid:
    """Where the control points of an exported lattice lie: point k at cell position k - 1 - BORDER.

    Cell 0 begins at the first sample; on an axis of one sample a cell is a voxel.
    """
    n, cells = np.array(grid.shape), np.array(points) - 3 - 2 * BORDER
    step = np.where(n > 1, (n - 1) / cells, 1.0)
    affine = grid.affine.copy()
    affine[:-1, :-1] *= step
    affine[:-1, -1] = grid.to_world(-(1 + BORDER) * step)
    return Grid(points, affine)


def _geometry(grid: Grid) -> list[float]:
    """Size, origin, spacing and direction along x, y[, z]: ITK's fixed parameters of a lattice."""
    d, spacing = grid.ndim, grid.spacing[::-1]
    direction = grid.affine[:d, :d][:, ::-1] / spacing
    return np.concatenate([grid.shape[::-1], grid.affine[:d, d], spacing, direction.ravel()]).tolist()


def _orthonormal(grid: Grid) -> Grid:
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


# --------------------------------------------------------------------------------------------------- from ITK
def _load(path: Path):
    """The SimpleITK transform in a file."""
    import SimpleITK as sitk

    if suffix_of(path) in TEXT:
        _check_text(path)
    elif suffix_of(path) == ".mat":
        _check_matlab(path)
    try:
        return sitk.ReadTransform(str(path))
    except (RuntimeError, MemoryError) as error:
        if "create an instance of" in str(error) or "is not supported" in str(error):
            raise FileError(f"cannot read {path}: SimpleITK does not know its class of transform; convert it "
                            "to an affine, B-spline or displacement field transform") from error
        raise FileError(f"cannot read {path} as an ITK transform: it is damaged, incomplete or of another "
                        "program; copy or write it again") from error


def _check_text(path: Path) -> None:
    """Refuse text whose numbers are not all there: ITK takes defaults for them, or dies of wrong sizes."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("#Insight Transform File"):
        raise FileError(f"{path} is not an ITK transform: it does not begin with '#Insight Transform File'")
    broken = FileError(f"{path} is truncated or damaged: not all transforms in it have their numbers and "
                       "line ends; copy or write it again")
    if not text.endswith("\n"):
        raise broken
    kinds = []
    for block in text.split("\nTransform:")[1:]:
        kind, *lines = block.split("\n")
        kinds.append(kind.strip())
        numbers = {}
        for line in lines:
            key, _, values = line.partition(":")
            if key in ("Parameters", "FixedParameters"):
                try:
                    numbers[key] = [float(value) for value in values.split()]
                except ValueError as error:
                    raise broken from error
        if not np.isfinite(sum(numbers.values(), [])).all():
            raise InputError(f"{path} holds numbers that are not finite; write it again")
        if kinds[-1].startswith("CompositeTransform"):
            continue
        if len(numbers) < 2:
            raise broken
        if kinds[-1].startswith(("BSpline", "DisplacementField")):
            d = int(kinds[-1][-1]) if kinds[-1][-1] in "23" else 0
            size = numbers["FixedParameters"][:d]
            fits = len(numbers["FixedParameters"]) == d * (d + 3) and all(n >= 1 and n % 1 == 0 for n in size)
            if not fits or math.prod(size) * d != len(numbers["Parameters"]):
                raise broken
    if len(kinds) > 1 and not kinds[0].startswith("CompositeTransform"):
        raise InputError(f"{path} holds {len(kinds)} transforms and does not say in which order they "
                         "apply; keep one, or make them a SimpleITK.CompositeTransform")


def _check_matlab(path: Path) -> None:
    """Refuse a Matlab file without all its numbers: ITK takes the origin for a centre that is cut off."""
    from scipy.io import loadmat

    try:
        if "fixed" in loadmat(path):
            return
        cause = "it has no centre"
    except Exception as error:  # a foreign parser on a foreign file: anything may come
        cause = reason(error)
    raise FileError(f"cannot read {path} as an ITK transform, it is truncated or damaged: {cause}")


def _from_itk(found, grid: Grid, path: Path) -> FittedTransform:
    """Linear parts that apply last become the matrix, what applies before them the displacement."""
    import SimpleITK as sitk

    parts, matrix = [found], np.eye(grid.ndim + 1)
    if isinstance(found, sitk.CompositeTransform):  # files hold none within another
        parts = [found.GetNthTransform(k) for k in range(found.GetNumberOfTransforms())]
    while parts and parts[0].IsLinear():
        matrix = matrix @ _matrix(parts.pop(0))
    if abs(np.linalg.det(matrix)) < 1e-9:
        raise InputError(f"the matrix in {path} is not invertible: {matrix.tolist()}")
    if not parts:
        return FittedTransform.from_matrix(matrix, grid)
    first = parts[0]
    if len(parts) == 1 and isinstance(first, sitk.DisplacementFieldTransform):
        field = load(first.GetDisplacementField(), channels="last")
        return FittedTransform.from_mapping(Mapping(matrix, field.array, field.grid), grid)
    if len(parts) == 1 and isinstance(first, sitk.BSplineTransform):
        spline = _from_spline(first, matrix, grid)
        if spline is not None:
            return spline
    inner = first if len(parts) == 1 else sitk.CompositeTransform(parts)
    d, at = grid.ndim, _geometry(grid)
    field = sitk.TransformToDisplacementField(inner, sitk.sitkVectorFloat64, grid.shape[::-1], at[d:2 * d],
                                              at[2 * d:3 * d], at[3 * d:])
    field = np.moveaxis(sitk.GetArrayFromImage(field), -1, 0)
    return FittedTransform.from_mapping(Mapping(matrix, field, grid), grid)


def _matrix(found) -> np.ndarray:
    """World matrix of a linear transform, whatever its parameters mean."""
    d = found.GetDimension()
    out = np.eye(d + 1)
    out[:d, d] = found.TransformPoint([0.0] * d)
    for k in range(d):
        out[:d, k] = np.array(found.TransformPoint(np.eye(d)[k].tolist())) - out[:d, d]
    return out


def _from_spline(found, matrix: np.ndarray, grid: Grid) -> FittedTransform | None:
    """The spline if its lattice is the one that `_spline` lays over `grid`, else None."""
    d, fixed = grid.ndim, np.array(found.GetFixedParameters())
    points = tuple(int(n) for n in fixed[:d][::-1])
    if found.GetOrder() != 3 or min(points) < 4 + 2 * BORDER:
        return None
    lattice = _lattice(grid, points)
    if not np.allclose(fixed, _geometry(lattice), rtol=1e-6, atol=1e-6 * lattice.spacing.min()):
        return None
    theta = np.array(found.GetParameters(), np.float32).reshape((d, *points))
    inside = [slice(BORDER, -BORDER) if n > 1 else slice(BORDER + 1, BORDER + 2) for n in grid.shape]
    theta = theta[(slice(None), *inside)]
    theta = np.ascontiguousarray(theta if d == 3 else theta[:, None])
    spline = BSpline(grid, float(lattice.spacing.min()), matrix)
    return FittedTransform("bspline", spline, theta, grid)


def _read_displacement(path: Path, d: int) -> Mapping:
    """The field in a NIfTI whose header declares displacement vectors."""
    import nibabel as nib

    try:
        file = nib.load(path, mmap=False)
        shape, intent = file.shape, int(file.header["intent_code"])
        dispvect = nib.nifti1.intent_codes["displacement vector"]
        if len(shape) != 5 or shape[3] != 1 or intent not in (nib.nifti1.intent_codes["vector"], dispvect):
            raise InputError(f"{path} is no displacement field in the ANTs convention: its shape is {shape}, "
                             f"its intent {intent}; shape (x, y, z, 1, 3) and intent 1007 are needed")
        if shape[4] != d or (d == 2 and shape[2] != 1):
            needed = "(x, y, z, 1, 3)" if d == 3 else "(x, y, 1, 1, 2)"
            raise InputError(f"{path} holds a field of shape {shape}; a {d}-D image needs {needed}")
        declared = file.dataobj.offset + math.prod(shape) * file.dataobj.dtype.itemsize
        check_declared(declared, path, GZIP_RATIO if suffix_of(path).endswith(".gz") else 1)
        image = nifti.from_nibabel(file.slicer[:, :, :, 0] if d == 3 else file, "last", str(path))
    except ClassregError:
        raise
    except Exception as error:  # a foreign parser on a foreign file: anything may come
        raise FileError(f"cannot read {path}, which is truncated or damaged: {reason(error)}; "
                        "copy or download it again") from error
    field = image.array.astype(np.float32)
    if intent == dispvect:  # the one intent whose components NIfTI, and ITK, take as RAS
        field[:2] *= -1
    return Mapping(np.eye(d + 1), field, image.grid)

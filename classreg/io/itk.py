"""Transforms as ITK holds them, for SimpleITK, ANTs, Slicer: .tfm, .txt, .mat, .h5.

World and direction are ITK's own (LPS mm, fixed to moving), so nothing is flipped or inverted:

    linear models      AffineTransform about the model's centre
    bspline            A (x + u(x)) as CompositeTransform [A, u]: ITK applies the last one, u, first
    dense and others   the same, u as a DisplacementFieldTransform, interpolated linearly on both sides

Read are all classes that SimpleITK knows, and composites. A cubic spline whose lattice holds all of the fixed image
stays one, exactly; one displacement field keeps its own grid; any other deformation is sampled on the fixed grid.
Outside its grid a field keeps its border value in classreg and is zero in ITK. On a sheared fixed grid fields are
written on an orthonormal grid that covers it, interpolated linearly between its samples.

Must not import: metrics, the engine, cli. SimpleITK is imported on first use.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from ..errors import FileError, InputError
from ..fitted import FittedTransform
from ..grid import Grid
from ..image import Image
from ..mapping import Mapping
from ..transforms import BSpline
from . import lattice, matrices
from .atomic import atomic_path
from .files import reason, suffix_of
from .images import load
from .vectors import covered, orthonormal

TEXT = (".tfm", ".txt")
SUFFIXES = (*TEXT, ".mat", ".h5")
DEFORMABLE = (".h5", *TEXT)
ORDER = "last"


def read(path: Path, fixed: Grid, moving: Grid | None = None) -> FittedTransform:
    """The transform in a file that ITK, SimpleITK, ANTs or `write` wrote."""
    found = _load(path)
    if found.GetDimension() != fixed.ndim:
        raise InputError(f"{path} holds a {found.GetDimension()}-D transform, the image is {fixed.ndim}-D")
    return _from_itk(found, fixed, path)


def write(transform: FittedTransform, path: Path) -> None:
    """Write a transform that ITK maps points with as classreg does, everywhere inside the fixed image.

    .mat holds linear models only; a dense field as text is slow and large: prefer .h5.
    """
    allowed = SUFFIXES if transform.linear else DEFORMABLE
    if suffix_of(path) not in allowed:
        raise FileError(f"cannot write {path}: a transform of model {transform.model!r} is saved as one of "
                        f"{', '.join(allowed)}; the suffix is {suffix_of(path)!r}")
    import SimpleITK as sitk

    found = _to_itk(transform)
    with atomic_path(path) as temporary:
        if suffix_of(path) == ".h5":  # a disk that runs full under HDF5 ends the process: see first that there is room
            temporary.write_bytes(bytes(8 * found.GetNumberOfParameters() + 32768))
        try:
            sitk.WriteTransform(found, str(temporary))
            # under a text or Matlab file ITK does not notice
            whole = suffix_of(path) == ".h5" or _load(temporary).GetParameters() == found.GetParameters()
        except (RuntimeError, FileError) as error:
            raise FileError(f"cannot write {path}: {reason(error)}") from error
        if not whole:
            raise FileError(f"cannot write {path}: it came back incomplete; is the disk full?")


def recognise(path: Path) -> bool:
    """Whether a file is ITK's: by suffix, or by its first line; of .mat files, that it is no text."""
    with path.open("rb") as file:
        start = file.read(64)
    if suffix_of(path) == ".mat":
        return b"\0" in start
    return suffix_of(path) != ".txt" or start.startswith(b"#Insight Transform File")


# ----------------------------------------------------------------------------------------------------- to ITK
def _to_itk(transform: FittedTransform):
    import SimpleITK as sitk

    d, matrix = transform.ndim, transform.matrix
    centre = transform.transform.centre if transform.linear else transform.grid.centre
    linear, shift = matrix[:d, :d], matrix[:d, :d] @ centre + matrix[:d, d] - centre
    affine = sitk.AffineTransform(linear.ravel().tolist(), shift.tolist(), centre.tolist())
    if transform.linear:
        return affine
    grid = orthonormal(transform.transform.grid)
    if isinstance(transform.transform, BSpline) and grid is transform.transform.grid:
        inner = _spline(transform)
    else:
        field = Image(transform.on(grid).field.astype(np.float64), grid).to_sitk()
        inner = sitk.DisplacementFieldTransform(field)
    return sitk.CompositeTransform([affine, inner])


def _spline(transform: FittedTransform):
    """The lattice as ITK's, with points beyond its border that the inside does not feel: ITK drops what lies on it."""
    import SimpleITK as sitk

    points, u = lattice.exported(transform)
    out = sitk.BSplineTransform(points.ndim, 3)
    out.SetFixedParameters(_geometry(points))
    out.SetParameters(u.ravel().tolist())
    return out


def _geometry(grid: Grid) -> list[float]:
    """Size, origin, spacing and direction along x, y[, z]: ITK's fixed parameters of a lattice."""
    origin, spacing = grid.affine[:-1, -1], grid.spacing[::-1]
    return np.concatenate([grid.shape[::-1], origin, spacing, grid.direction.ravel()]).tolist()


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
    except (RuntimeError, MemoryError, UnicodeDecodeError) as error:
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
            named = re.search(r"_([23])_[23](_[0-9])?$", kinds[-1])  # BSplineTransform_double_3_3_2: of order 2
            d = int(named[1]) if named else 0
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
    if not parts:
        return matrices.fitted(matrix, grid, path)
    first = parts[0]
    if len(parts) == 1 and isinstance(first, sitk.DisplacementFieldTransform):
        field = load(first.GetDisplacementField(), channels="last")
        return FittedTransform.from_mapping(Mapping(matrix, field.array, field.grid), grid)
    if len(parts) == 1 and isinstance(first, sitk.BSplineTransform):
        spline = _from_spline(first, matrix, grid, path)
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


def _from_spline(found, matrix: np.ndarray, fixed: Grid, path: Path) -> FittedTransform | None:
    """A cubic spline whose lattice holds the fixed samples, else None; refused if it lies beside them."""
    d, numbers = fixed.ndim, np.array(found.GetFixedParameters())
    size, spacing, origin = numbers[:d].astype(int), numbers[2 * d:3 * d], numbers[d:2 * d]
    points = Grid.from_spacing(tuple(size[::-1].tolist()), spacing[::-1], origin, numbers[3 * d:])
    covered(points, fixed, path)
    if found.GetOrder() != 3 or size.min() < 4:
        return None
    u = np.array(found.GetParameters()).reshape((d, *points.shape))
    return lattice.spline(points, u, matrix, fixed)

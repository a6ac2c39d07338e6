"""A folder of DICOM slices as one volume.

GDCM sorts the slices by position; the volume's matrix is built here from the positions themselves, so that a
tilted gantry gives the sheared grid that it is:

    column of z = (position of the last slice - position of the first) / (slices - 1)

A sideways drift of less than 0.1 voxel over the whole stack is rounding, and is taken out.

Must not import: nibabel, metrics, the engine.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..errors import FileError
from .files import check_declared, reason

TOLERANCE = 0.1  # voxels


def series_files(folder: Path) -> list[str]:
    """The files of the one DICOM series in a folder, in the order of their positions."""
    import SimpleITK as sitk

    reader, where = sitk.ImageSeriesReader, str(folder)
    series = {uid: reader.GetGDCMSeriesFileNames(where, uid) for uid in reader.GetGDCMSeriesIDs(where)}
    if not series:
        raise FileError(f"{folder} is a folder without DICOM files; give an image file or a DICOM folder")
    if len(series) > 1:
        found = "; ".join(f"{uid} ({len(files)} slices)" for uid, files in series.items())
        raise FileError(f"{folder} holds {len(series)} DICOM series: {found}. Put the one you want in a "
                        "folder of its own")
    return list(next(iter(series.values())))


def read_series(files: list[str], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Array (slices, y, x[, channels]) and index-to-world matrix (4, 4) of two or more slices in order."""
    import SimpleITK as sitk

    headers = [_header(file) for file in files]
    first = headers[0]
    for file, header in zip(files, headers):
        for key in ("size", "spacing", "direction"):
            if not np.allclose(header[key], first[key], rtol=0, atol=1e-3):
                raise FileError(f"the slices in {folder} do not form one volume: {Path(file).name} has {key} "
                                f"{header[key]}, {Path(files[0]).name} has {first[key]}; remove those that "
                                "do not belong")
    if first["size"][2] > 1:
        raise FileError(f"{folder} holds {len(files)} multi-frame files; give the path of one")
    step = _step(np.array([header["origin"] for header in headers]), files, folder)
    check_declared(math.prod(first["size"]) * len(files), files[0], ratio=None)  # at least a byte each
    series = sitk.ImageSeriesReader()
    series.SetFileNames(files)
    if len({header["pixel"] for header in headers}) > 1:  # each slice has its own scaling
        series.SetOutputPixelType(sitk.sitkFloat32)
    try:
        array = sitk.GetArrayFromImage(series.Execute())
    except RuntimeError as error:
        raise FileError(f"cannot read the DICOM slices in {folder}: {reason(error)}") from error
    axes, spacing = np.reshape(first["direction"], (3, 3)), np.array(first["spacing"])
    normal = axes[:, 2] * (step * axes[:, 2]).sum()
    if np.linalg.norm(step - normal) * (len(files) - 1) < TOLERANCE * spacing.min():
        step = normal
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 3] = step, first["origin"]
    affine[:3, 1:3] = (axes[:, :2] * spacing)[:, ::-1]
    return array, affine


def _header(file: str) -> dict:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise FileError(f"cannot read {file}: {reason(error)}") from error
    # the third spacing of a single slice is its thickness, which says nothing about where the next one lies
    return dict(size=reader.GetSize(), spacing=reader.GetSpacing()[:2], origin=reader.GetOrigin(),
                direction=reader.GetDirection(), pixel=reader.GetPixelID())


def _step(positions: np.ndarray, files: list[str], folder: Path) -> np.ndarray:
    """World vector (mm) from one slice to the next; the slices must be evenly spaced."""
    gaps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    names = [Path(file).name for file in files]
    if gaps.min() < 1e-3:
        k = int(gaps.argmin())
        raise FileError(f"{folder} holds several slices at one position ({names[k]} and {names[k + 1]}, for "
                        "example): a time series, or slices without positions. Keep one slice per position")
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    deviation = np.linalg.norm(positions - expected, axis=1).max()
    if deviation > TOLERANCE * np.linalg.norm(step):
        raise FileError(f"the slices in {folder} are not evenly spaced: gaps run from {gaps.min():.4g} to "
                        f"{gaps.max():.4g} mm (the largest after {names[int(gaps.argmax())]}), and a slice "
                        f"lies up to {deviation:.4g} mm from its place on an even grid. A slice may be "
                        "missing: complete the series, or resample it first")
    return step

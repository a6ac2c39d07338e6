"""Landmark files: one point per row, world LPS mm, as x, y[, z]; a first row of names is allowed.

Must not import: the engine, metrics, optimisers, cli, plot, report.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import FileError, InputError
from ..image import real_numbers


def load_points(source, name: str = "points") -> list[list[float]]:
    """World points (n, d) in mm, d = 2 or 3, from an array, rows, or a text file of rows.

    Columns of a file are parted by commas, semicolons, tabs or spaces.

    Raises
    ------
    FileError
        If the file cannot be read, or a row is no point; it names the row.
    InputError
        If the points are not (n, 2) or (n, 3) finite numbers, n > 0.

    Examples
    --------
    >>> load_points([(1, 2.5)])
    [[1.0, 2.5]]
    """
    if isinstance(source, (str, os.PathLike)):
        source = _read(Path(source), name)
    points = real_numbers(source, name).astype(float)
    if points.ndim != 2 or points.shape[1] not in (2, 3) or len(points) == 0 or not np.isfinite(points).all():
        raise InputError(f"{name}: expected (n, 2) or (n, 3) finite world coordinates in mm, n > 0; got an array of "
                         f"shape {points.shape}")
    return points.tolist()


def _read(path: Path, name: str) -> list[list[float]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{name}: cannot read {path}: {error}; give a text file with x, y[, z] in mm per row"
                        ) from error
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        cells = line.replace(",", " ").replace(";", " ").split()
        if not cells:
            continue
        try:
            rows.append([float(cell) for cell in cells])
        except ValueError:
            if rows or number > 1:
                raise FileError(f"{name}: row {number} of {path} is no point: {line.strip()!r}; each row holds x, y[, "
                                "z] in mm") from None
        if rows and len(rows[-1]) != len(rows[0]):
            raise FileError(f"{name}: row {number} of {path} has {len(rows[-1])} numbers, the first {len(rows[0])}; "
                            "each row holds x, y[, z] in mm")
    return rows

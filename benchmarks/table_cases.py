"""The cases of `table.py`: which real pairs have a truth, and the table of them that `classreg compare` reads.

Of pictures all rows see the same: grey, in NIfTI files with pixels of 1 mm, since programs differ in how they take
colour, and what a JPEG says of its resolution is no size of the object.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk


def pairs(data: Path, _: Path) -> list[dict]:
    """The 3-D pairs with labels or landmarks."""
    rows = []
    for folder in sorted((data / "pairs").iterdir()):
        row = {"case": folder.name}
        for kind, suffix in (("", ".nii.gz"), ("_labels", ".nii.gz"), ("_points", ".csv")):
            files = {f"{end}{kind}": folder / f"{end}{kind}{suffix}" for end in ("fixed", "moving")}
            if all(path.is_file() for path in files.values()):
                row.update({name: str(path.absolute()) for name, path in files.items()})
        if "fixed" in row and ("fixed_labels" in row or "fixed_points" in row):
            rows.append({**row, **_labels(folder)})
    return rows


def slices(data: Path, _: Path) -> list[dict]:
    """Each of the labelled slices registered to the next."""
    folder = data / "groups" / "brain-2d-labelled"
    numbers = sorted(path.name[len("image_"):-len(".nii.gz")] for path in folder.glob("image_*.nii.gz"))
    rows = []
    for fixed, moving in zip(numbers, numbers[1:] + numbers[:1]):
        row = {"case": f"{fixed}-{moving}"}
        for end, number in (("fixed", fixed), ("moving", moving)):
            row[end] = str((folder / f"image_{number}.nii.gz").absolute())
            row[f"{end}_labels"] = str((folder / f"labels_{number}.nii.gz").absolute())
        rows.append({**row, **_labels(folder)})
    return rows


def pictures(data: Path, folder: Path) -> list[dict]:
    """Two stains of histology and three artificial motions of one, with landmarks; two slices of heads, with curves."""
    source, rows = data / "pairs", []
    histology, artificial = source / "histology", source / "histology-artificial"
    found = [("histology", histology / "fixed.jpg", histology / "moving.jpg",
              histology / "fixed_points.csv", histology / "moving_points.csv")]
    for motion in ("rigid", "affine", "elastic"):
        stems = artificial / "artificial_reference", artificial / f"artificial_moving-{motion}"
        found.append((f"artificial-{motion}", *(stem.with_suffix(".jpg") for stem in stems),
                      *(stem.with_suffix(".csv") for stem in stems)))
    folder.mkdir(parents=True, exist_ok=True)
    for name, *pictures, points, moved in found:
        row = {"case": name}
        for end, picture, rows_of in zip(("fixed", "moving"), pictures, (points, moved)):
            row[end] = _grey(picture, folder / f"{name}_{end}.nii.gz")
            row[f"{end}_points"] = _points(rows_of, folder / f"{name}_{end}.csv")
        rows.append(row)
    row = {"case": "brain-2d"}
    for end, slice_ in (("fixed", "r16slice"), ("moving", "r85slice")):
        row[end] = _grey(source / "brain-2d" / f"{slice_}.jpg", folder / f"brain-2d_{end}.nii.gz")
        row[f"{end}_labels"] = str((source / "brain-2d" / f"{slice_}LM.nii.gz").absolute())
    return [*rows, row]


CASES = {"pairs": pairs, "slices": slices, "pictures": pictures}


def _grey(picture: Path, file: Path) -> str:
    """The mean of a picture's channels, in a NIfTI file with a spacing of 1 mm."""
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(picture))).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(array if array.ndim == 2 else array.mean(axis=-1)), str(file))
    return str(file.absolute())


def _points(source: Path, file: Path) -> str:
    """Landmarks x, y in pixels, the last two columns of a file with a row of names; such pixels are mm here."""
    with open(source, newline="", encoding="utf-8") as text:
        lines = [line[-2:] for line in csv.reader(text) if line]
    file.write_text("\n".join(["x,y", *(",".join(line) for line in lines[1:])]) + "\n", encoding="utf-8")
    return str(file.absolute())


def _labels(folder: Path) -> dict:
    found = json.loads((folder / "case.json").read_text()).get("evaluation_labels")
    return {"labels": " ".join(map(str, found))} if found else {}


def write_cases(rows: list[dict], path: Path) -> Path:
    """The table of cases, as `classreg compare` reads it."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path

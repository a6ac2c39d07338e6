"""The cases of a comparison: pairs of images with what they are scored by, read from a table and checked as a whole.

    case,fixed,moving[,fixed_labels,moving_labels][,fixed_mask,moving_mask][,fixed_points,moving_points]
        [,labels][,subject]

Paths are relative to the table. `labels` names those that are scored, parted by spaces (all by default); cases of one
`subject` are averaged before a test, since they are not independent.

Must not import: metrics, optimisers, engine, faces.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..door import SAME_GRID, load_pair
from ..errors import ClassregError, FileError, InputError, unknown
from ..image import Image
from ..io import header, load, load_points
from ..io.files import existing

NEEDED = ("case", "fixed", "moving")
PAIRS = ("labels", "points")
FILES = ("fixed", "moving", "fixed_labels", "moving_labels", "fixed_mask", "moving_mask", "fixed_points",
         "moving_points")
COLUMNS = ("case", *FILES, "labels", "subject")

#: files that hold no samples themselves: these lie beside them
HEADERS = (".hdr", ".mhd", ".nhdr")

#: names of cases and methods, which name files too
NAME = re.compile(r"[^\W_][\w. +()-]*", re.UNICODE)


@dataclass(frozen=True)
class Case:
    """A pair of images, as paths, and what is known about it.

    Attributes
    ----------
    name : str
    fixed, moving : Path
    fixed_labels, moving_labels, fixed_mask, moving_mask, fixed_points, moving_points : Path, optional
        Label maps and landmarks come in pairs.
    labels : tuple of int, optional
        Those that are scored; all but 0 that either map holds by default.
    subject : str, optional
        Cases that share one are averaged before a test.
    """

    name: str
    fixed: Path
    moving: Path
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    fixed_points: Path | None = None
    moving_points: Path | None = None
    labels: tuple[int, ...] | None = None
    subject: str | None = None

    def files(self) -> dict[str, Path]:
        """The files that there are, by column."""
        return {name: getattr(self, name) for name in FILES if getattr(self, name) is not None}


def read_cases(source: str | os.PathLike | Iterable[Case | Mapping]) -> list[Case]:
    """Cases from a table (CSV), or from `Case`s and dictionaries of its columns; all of them checked.

    Parameters
    ----------
    source : path, or iterable of Case or mapping
        Paths in a table are relative to it, those of mappings to the working folder.

    Raises
    ------
    FileError
        If the table cannot be read.
    InputError
        With all that is wrong: columns that are not known, cases without name or twice, files that are missing, label
        maps or landmarks without their partner, landmarks of unequal number, labels that are no numbers.
    """
    problems: list[str] = []
    if isinstance(source, (str, os.PathLike)):
        rows, folder, where = _table(Path(source), problems), Path(source).parent, str(source)
    else:
        rows, folder, where = list(enumerate(source, 1)), Path(), "cases"
    cases: list[Case] = []
    for number, row in rows:
        case = row if isinstance(row, Case) else _case(number, row, folder, problems)
        if case is not None:
            problems += [f"case {case.name!r}: {what}" for what in _faults(case)]
            if case.name.casefold() in [other.name.casefold() for other in cases]:
                problems.append(f"case {case.name!r} is there twice (row {number}); each needs a name of its own, "
                                "by more than capital letters")
            cases.append(case)
    if not rows and not problems:
        problems.append("there is no case; give one per row")
    if problems:
        raise InputError(f"{where}: {len(problems)} problem{'s' * (len(problems) > 1)}, nothing was run:\n- "
                         + "\n- ".join(problems))
    return cases


def check_headers(cases: Iterable[Case]) -> list[str]:
    """What is wrong with how the files of cases lie in space, as far as the headers of images and landmarks tell."""
    return [f"case {case.name!r}: {what}" for case in cases for what in _misfits(case)]


def check_name(name: str, what: str) -> str | None:
    """What is wrong with a name that files are called by; None if nothing is."""
    if isinstance(name, str) and NAME.fullmatch(name) and not name.endswith((" ", ".")):
        return None
    return (f"{what} is called {name!r}; a name holds letters, digits, blanks and any of . _ + - ( ), and begins with "
            "a letter or digit, since files are called by it")


class Data:
    """The files of a case, each loaded when it is first asked for.

    Attributes
    ----------
    fixed, moving : Image
        With the masks as weights.
    fixed_labels, moving_labels : Image or None
    fixed_points, moving_points : array, (n, d), or None
    """

    def __init__(self, case: Case):
        self.case = case

    @cached_property
    def fixed(self) -> Image:
        """The fixed image, its mask as weight."""
        return self._pair[0]

    @cached_property
    def moving(self) -> Image:
        """The moving image, its mask as weight."""
        return self._pair[1]

    @cached_property
    def fixed_labels(self) -> Image | None:
        """Label map of the fixed image."""
        return None if self.case.fixed_labels is None else load(self.case.fixed_labels, name="fixed labels")

    @cached_property
    def moving_labels(self) -> Image | None:
        """Label map of the moving image."""
        return None if self.case.moving_labels is None else load(self.case.moving_labels, name="moving labels")

    @cached_property
    def fixed_points(self) -> np.ndarray | None:
        """Landmarks of the fixed image in world mm."""
        return _points(self.case.fixed_points, "fixed")

    @cached_property
    def moving_points(self) -> np.ndarray | None:
        """Where they belong in the moving image."""
        return _points(self.case.moving_points, "moving")

    @cached_property
    def digests(self) -> dict[str, str]:
        """A hash of the content of each file, by column."""
        return {name: digest(path) for name, path in self.case.files().items()}

    @cached_property
    def _pair(self) -> tuple[Image, Image]:
        case = self.case
        return load_pair(case.fixed, case.moving, case.fixed_mask, case.moving_mask, None, None)


def digest(path: Path) -> str:
    """A hash of what a file holds and those that it may name as its data, or of all files in a folder with names."""
    found = hashlib.blake2b(digest_size=16)
    inside = [path]
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
    elif path.suffix.lower() in HEADERS:
        inside = sorted(p for p in path.parent.glob(f"{glob.escape(path.stem)}.*") if p.is_file())
    try:
        for file in inside:
            found.update(os.path.relpath(file, path).encode() + b"\0")
            with open(file, "rb") as stream:
                while block := stream.read(1 << 20):
                    found.update(block)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    return found.hexdigest()


def _points(path: Path | None, end: str) -> np.ndarray | None:
    return None if path is None else np.array(load_points(path, f"{end} points"))


def _table(path: Path, problems: list[str]) -> list[tuple[int, dict]]:
    """The rows of a table with their numbers, empty cells left out."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines, skipped = list(csv.reader(file)), 0
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"cannot read the table of cases {path}: {error}; give a CSV file with the columns "
                        f"{', '.join(NEEDED)}") from error
    while lines and not any(map(str.strip, lines[0])):
        del lines[0]
        skipped += 1
    head = [name.strip() for name in lines[0]] if lines else []
    for name in dict.fromkeys(head):
        if name not in COLUMNS:
            problems.append(str(unknown("column", name, COLUMNS)))
        elif head.count(name) > 1:
            problems.append(f"the column {name!r} is there {head.count(name)} times")
    missing = [name for name in NEEDED if name not in head]
    if missing:
        problems.append(f"the first row lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}")
        return []
    rows = []
    for number, line in enumerate(lines[1:], skipped + 2):
        cells = [cell.strip() for cell in line]
        if len(cells) > len(head):
            problems.append(f"row {number} has {len(cells)} cells, the first row {len(head)}; cells that hold a comma "
                            "stand in quotes")
        elif any(cells):
            rows.append((number, {name: cell for name, cell in zip(head, cells) if cell and name in COLUMNS}))
    return rows


def _case(number: int, row, folder: Path, problems: list[str]) -> Case | None:
    """A case from the cells of a row; None where it has no name or no images."""
    if not isinstance(row, Mapping):
        raise InputError(f"case {number} is {row!r}; give a Case, or a dictionary with {', '.join(NEEDED)}")
    row = {name: value for name, value in row.items() if not _empty(value)}
    missing = [name for name in NEEDED if name not in row]
    if missing:
        problems.append(f"row {number} has no {', no '.join(missing)}")
        return None
    problems += [str(unknown("column", name, COLUMNS)) for name in row if name not in COLUMNS]
    wrong = [name for name in FILES if not isinstance(row.get(name, ""), (str, os.PathLike))]
    if wrong:
        problems += [f"case {row['case']!r}: {name} is {row[name]!r}; give the path of a file" for name in wrong]
        return None
    values = {name: folder / Path(row[name]).expanduser() for name in FILES if name in row}
    if "subject" in row:
        values["subject"] = str(row["subject"])
    if "labels" in row:
        given = row["labels"]
        try:
            values["labels"] = tuple(int(part) for part in (given.split() if isinstance(given, str) else given))
        except (ValueError, TypeError):
            problems.append(f"case {row['case']!r}: the labels {given!r} are no whole numbers; write 1 2 5")
    return Case(str(row["case"]), **values)


def _empty(value) -> bool:
    """Whether a cell holds nothing: no text, None, or the NaN of a table with gaps."""
    return value is None or (isinstance(value, str) and not value) or (isinstance(value, float) and value != value)


def _faults(case: Case) -> list[str]:
    """What is wrong with one case."""
    found = [wrong for wrong in [check_name(case.name, "it")] if wrong]
    readable = {}
    for name, path in case.files().items():
        try:
            readable[name] = existing(path)
        except FileError as error:
            found.append(f"{name}: {error}")
    for kind in PAIRS:
        ends = [f"{end}_{kind}" for end in ("fixed", "moving") if getattr(case, f"{end}_{kind}") is not None]
        if len(ends) == 1:
            other = ends[0].replace("fixed", "@").replace("moving", "fixed").replace("@", "moving")
            found.append(f"{ends[0]} is given and {other} is not; give both or neither")
    if case.labels is not None and case.fixed_labels is None:
        found.append("labels are named, and there are no label maps to score; give fixed_labels and moving_labels")
    if {"fixed_points", "moving_points"} <= readable.keys():
        try:
            a, b = (load_points(readable[f"{end}_points"], f"{end}_points") for end in ("fixed", "moving"))
            if len(a) != len(b) or len(a[0]) != len(b[0]):
                found.append(f"fixed_points holds {len(a)} points in {len(a[0])}-D, moving_points {len(b)} in "
                             f"{len(b[0])}-D; they must be the same landmarks in the same order")
        except ClassregError as error:
            found.append(str(error))
    return found


def _misfits(case: Case) -> list[str]:
    """Images and label maps of other dimensions, masks on other grids, landmarks of another dimension.

    A file that cannot be read is left to its case: other cases, and the run itself where it holds the truth, go on.
    """
    found, grids = [], {}
    for name, path in case.files().items():
        with suppress(ClassregError):
            grids[name] = None if name.endswith("_points") else header(path, name=name)
    fixed = grids.get("fixed")
    if fixed is None:
        return found
    for name, grid in grids.items():
        if grid is not None and grid.ndim != fixed.ndim:
            found.append(f"{name} is {grid.ndim}-D, the fixed image {fixed.ndim}-D")
        elif name.endswith("_mask") and None not in (grid, image := grids.get(name.partition("_")[0])):
            if not grid.same_as(image, SAME_GRID):
                found.append(f"{name} lies on another grid than its image: {grid} against {image}; resample it with "
                             "classreg.apply(..., interpolation='nearest')")
    if case.fixed_points is not None and (d := len(load_points(case.fixed_points, "fixed_points")[0])) != fixed.ndim:
        found.append(f"fixed_points is {d}-D, the fixed image {fixed.ndim}-D")
    return found

"""Transform parameter files of elastix, and the chain that they name: what is in them, and where they lie.

Each names the file of the transform before it under InitialTransformParameterFileName (before elastix 5.2
InitialTransformParametersFileName), or "NoInitialTransform".

Must not import: SimpleITK, nibabel, anything above `classreg.errors`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FileError, InputError
from .elastix_text import parse
from .files import existing

INITIAL = ("InitialTransformParameterFileName", "InitialTransformParametersFileName")
NONE = "NoInitialTransform"


@dataclass(frozen=True)
class File:
    """The parameters in one file."""

    path: Path
    values: dict

    @classmethod
    def open(cls, path: Path) -> File:
        """Read one; FileError or InputError says what is wrong with it."""
        try:
            text = existing(path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise FileError(f"{path} is no elastix parameter file: it is not text") from error
        return cls(path, parse(text, str(path)))

    def text(self, key: str, default: str | None = None) -> str:
        """The first value of a parameter."""
        if key not in self.values and default is None:
            raise InputError(f"{self.path} has no {key}; a transform parameter file of elastix needs it"
                             + (", and this looks like parameters of a registration: give TransformParameters.0.txt, "
                                "which elastix writes" if "TransformParameters" not in self.values else ""))
        return str(self.values.get(key, [default])[0])

    def flag(self, key: str, default: bool) -> bool:
        """Whether a parameter is "true"."""
        return self.text(key, str(default)).lower() == "true"

    def numbers(self, key: str, count: int | None = None, default=None) -> np.ndarray:
        """The values of a parameter, (count,) float64."""
        if default is None:
            self.text(key)
        try:
            found = np.array([float(value) for value in self.values.get(key, default)])
        except ValueError as error:
            raise InputError(f"{self.path}: {key} holds {error}; it takes numbers") from error
        if count is not None and len(found) != count:
            raise InputError(f"{self.path}: {key} holds {len(found)} numbers and needs {count}; the file is cut off, "
                             "or of another dimension")
        if not np.isfinite(found).all():
            raise InputError(f"{self.path}: {key} holds numbers that are not finite; write it again")
        return found

    def parameters(self, count: int) -> np.ndarray:
        """TransformParameters, (count,), from the text or the binary file that it names."""
        if not self.flag("UseBinaryFormatForTransformationParameters", False):
            return self.numbers("TransformParameters", count)
        data = self.beside(self.text("TransformParameters"))
        if data.stat().st_size != 8 * count:
            raise InputError(f"{data} has {data.stat().st_size} bytes and {count} parameters need {8 * count}; copy it "
                             "again")
        found = np.fromfile(data, "<f8")
        if not np.isfinite(found).all():
            raise InputError(f"{data} holds numbers that are not finite; write it again")
        return found

    def beside(self, name: str) -> Path:
        """Where a file that this one names is: from this one's folder, in it, or from the working folder."""
        tried = [self.path.parent / name, self.path.parent / re.split(r"[\\/]", name)[-1], Path(name)]
        for path in tried:
            if path.is_file():
                return existing(path)
        raise FileError(f"{self.path} names {name!r}, and there is no such file: it is none of "
                        f"{', '.join(map(str, dict.fromkeys(tried)))}; copy it beside {self.path.name}")


def chain(path: Path) -> list[File]:
    """The files from the first that points meet to the last, which names the one before."""
    found, seen = [], []
    while True:
        if path.resolve() in seen:
            raise InputError(f"{path} is its own initial transform, by way of {len(seen)} files; the first of a chain "
                             f"has {INITIAL[0]} {NONE!r}")
        seen.append(path.resolve())
        file = File.open(path)
        found.insert(0, file)
        name = next((file.text(key) for key in INITIAL if key in file.values), NONE)
        if name in (NONE, ""):
            return found
        path = file.beside(name)

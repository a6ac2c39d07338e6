"""A parameter map of elastix: its values, checked, as the plan takes them.

Which keys there are stands in `elastix_keys`; what is asked of them together, in `Map`.

Must not import: api, io, numba, cupy.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import OptionError
from ..grid import Grid
from .elastix_keys import KEYS, WEIGHT

#: elastix's transforms: the engine's kind, from few numbers to many
TRANSFORMS = {"TranslationTransform": "translation", "EulerTransform": "rigid", "SimilarityTransform": "similarity",
              "AffineTransform": "affine", "BSplineTransform": "bspline", "RecursiveBSplineTransform": "bspline"}

METRICS = {"AdvancedMattesMutualInformation": "mi", "NormalizedMutualInformation": "nmi",
           "AdvancedMeanSquares": "ssd", "AdvancedNormalizedCorrelation": "ncc"}

BENDING = "TransformBendingEnergyPenalty"

INITS = {"GeometricalCenter": "geometry", "CenterOfGravity": "mass"}


class Map:
    """Values by name as the plan takes them: a word, a number, one per resolution or axis, or elastix's default.

    Parameters
    ----------
    values : mapping of str to sequence
        As `parse` gives them.
    name : str
        What errors call the map.
    """

    def __init__(self, values: Mapping[str, Sequence], name: str):
        self.values, self.name = values, name
        self.levels = 1
        for key, given in values.items():
            if not len(given):
                raise OptionError(f"{name}: {key} has no value; give one, or leave the key out")
        self.levels = self.whole("NumberOfResolutions")

    @property
    def model(self) -> str:
        """The engine's kind of the transform."""
        return TRANSFORMS[self.word("Transform")]

    def checked(self) -> Map:
        """Itself, once every key is known and every value allowed."""
        for key, values in self.values.items():
            spec = spec_of(key)
            if spec is None:
                allowed = (*KEYS, *(f"Metric{k}Weight" for k in range(len(self.values.get("Metric", ())))))
                raise OptionError(f"{self.name}: {_nearest(key, allowed)}")
            if spec.kind in ("left", "output"):
                continue
            if spec.kind == "held":
                for value in values:
                    if word_of(value) not in map(word_of, spec.values):
                        raise self._refused(key, value, spec.values, spec.says)
            elif isinstance(spec.values, tuple):
                for value in values:
                    if word_of(value) not in spec.values:
                        raise self._refused(key, value, spec.values)
                if key != "Metric":
                    self._counted(key, values, spec.levels)
            else:
                for value in values:
                    number_of(value, spec.values, f"{self.name}: {key}")
                if "Schedule" not in key and "GridSpacing" not in key:
                    self._counted(key, values, spec.levels)
        self._check_together()
        return self

    def _check_together(self):
        if self.levels < 1:
            raise OptionError(f"{self.name}: NumberOfResolutions is {self.levels}; at least 1 is needed")
        metrics = self.metrics()
        if not any(m in METRICS for m, _ in metrics):
            raise OptionError(f"{self.name}: {BENDING} alone compares no images: add one of {', '.join(METRICS)}")
        if [m for m, _ in metrics].count(BENDING) > 1:
            raise OptionError(f"{self.name}: {BENDING} is given twice; give it once, with the sum of the weights")
        spacings = [k for k in self.values if k.startswith("FinalGridSpacing")]
        if len(spacings) > 1:
            raise OptionError(f"{self.name}: {' and '.join(spacings)} both say how fine the lattice is; keep one")
        fixed, moving = (self.word(f"{end}ImagePyramid").removeprefix(end) for end in ("Fixed", "Moving"))
        if fixed != moving:
            raise OptionError(f"{self.name}: both pyramids must be of one kind, these are {fixed} and {moving}")
        schedules = [self.values[k] for k in self.values if k.endswith("ImagePyramidSchedule")]
        if any(list(map(float, s)) != list(map(float, schedules[0])) for s in schedules):
            raise OptionError(f"{self.name}: both images are smoothed by one schedule; these differ: {schedules}")
        if len(self.values.get("Metric", [1])) > 1 and self.word("Registration") == "MultiResolutionRegistration" \
                and "Registration" in self.values:
            raise self._refused("Registration", "MultiResolutionRegistration",
                                ("MultiMetricMultiResolutionRegistration",), "there are several metrics")

    def check_dimension(self, fixed: Grid, moving: Grid) -> None:
        """Raise OptionError if the map is for images of another dimension."""
        for end, grid in (("Fixed", fixed), ("Moving", moving)):
            wanted = self.whole(f"{end}ImageDimension")
            if wanted not in (None, grid.ndim):
                raise OptionError(f"{self.name}: {end}ImageDimension is {wanted}, the image is {grid.ndim}-D")

    @property
    def init(self) -> str:
        """How it begins, if it is the first."""
        if self.model == "bspline" or not self.flag("AutomaticTransformInitialization"):
            return "identity"
        return INITS[self.word("AutomaticTransformInitializationMethod")]

    def word(self, key: str, level: int = 0) -> str:
        """A word: its value, or the default."""
        values = self.values.get(key)
        if values is None and key == "MovingImagePyramid":
            return self.word("FixedImagePyramid").replace("Fixed", "Moving")
        return KEYS[key].default if values is None else word_of(values[level if len(values) > 1 else 0])

    def flag(self, key: str, level: int = 0) -> bool:
        """Whether a key is true."""
        value = self._value(key, level)
        return number_of(value, bool, f"{self.name}: {key}")

    def whole(self, key: str, level: int = 0) -> int | None:
        """A whole number."""
        value = self._value(key, level)
        return None if value is None else number_of(value, int, f"{self.name}: {key}")

    def real(self, key: str, level: int = 0) -> float | None:
        """A number."""
        value = self._value(key, level)
        return None if value is None else number_of(value, float, f"{self.name}: {key}")

    def axes(self, key: str, ndim: int, level: int | None = None) -> np.ndarray | None:
        """Numbers per axis x, y[, z], of a level or of the map, (ndim,); None where there are none."""
        if (values := self.values.get(key)) is None:
            return None
        found, count = np.array([float(v) for v in values]), 1 if level is None else self.levels
        if not (np.isfinite(found).all() and (found >= 0).all()):
            raise OptionError(f"{self.name}: {key} is made of numbers of at least 0, got {values}")
        if level is not None and len(found) > count * ndim and len(found) % ndim == 0:
            found = found[:count * ndim]
        if len(found) not in (count, count * ndim):
            raise OptionError(f"{self.name}: {key} has {len(found)} values; it takes {count}"
                              f"{' (one per resolution)' if count > 1 else ''} or {count * ndim}, with one per axis")
        return np.broadcast_to(found.reshape(count, -1), (count, ndim))[level or 0]

    def bins(self, level: int) -> int:
        """Bins of the histogram, alike for both images."""
        both = self.whole("NumberOfHistogramBins", level)
        each = [self.whole(f"NumberOf{end}HistogramBins", level) or both for end in ("Fixed", "Moving")]
        if each[0] != each[1]:
            raise OptionError(f"{self.name}: both images have as many bins; these are {each[0]} and {each[1]}")
        return each[0]

    def metrics(self, level: int = 0) -> list[tuple[str, float]]:
        """Names and weights."""
        names = list(map(word_of, self.values.get("Metric", [KEYS["Metric"].default])))
        out = []
        for k, name in enumerate(names):
            value = self._value(f"Metric{k}Weight", level)
            weight = 1 / len(names) if value is None else float(value)
            if not 0 <= weight < np.inf:
                raise OptionError(f"{self.name}: Metric{k}Weight must be a number of at least 0, got {value!r}")
            out.append((name, weight))
        return out

    def spare_weights(self) -> list[str]:
        """Weights of metrics that there are not."""
        used = {f"Metric{k}Weight" for k in range(len(self.values.get("Metric", [1])))}
        return [key for key in self.values if key not in KEYS and key not in used]

    def _value(self, key, level):
        values = self.values.get(key)
        return spec_of(key).default if values is None else values[level if len(values) > 1 else 0]

    def _counted(self, key, values, levels):
        alike = len(set(map(word_of, values))) == 1  # files often have as many as somebody once had resolutions
        if not alike and not (levels and len(values) >= self.levels):
            per = f" or {self.levels}, one per resolution" if levels and self.levels > 1 else ""
            raise OptionError(f"{self.name}: {key} has {len(values)} values; it takes 1{per}")

    def beyond(self, ndim: int) -> list[str]:
        """Keys with more values than there are resolutions, of which elastix takes the first."""
        out = []
        for key, values in self.values.items():
            spec = spec_of(key)
            axes = "Schedule" in key
            if spec.kind == "read" and (spec.levels or axes) and len(set(map(word_of, values))) > 1:
                most = self.levels * (ndim if axes and len(values) % ndim == 0 else 1)
                out += [key] * (len(values) > most)
        return out

    def _refused(self, key, value, allowed, why=""):
        why = f" ({why})" if why else ""
        return OptionError(f"{self.name}: {key} {word_of(value)!r} is not supported{why}; supported: "
                           f"{', '.join(allowed)}")


def spec_of(key: str):
    """What is known of a key; None where nothing is."""
    return KEYS.get(key, WEIGHT if re.fullmatch(r"Metric\d+Weight", key) else None)


def _nearest(key: str, allowed) -> str:
    """The sentence on an unknown key; there are too many to list them."""
    known = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.4)
    hint = f"; did you mean {known[near[0]]!r}?" if near else "."
    return f"unknown parameter {key!r}{hint} Those that are known stand on the page about parameter files of elastix"


def word_of(value) -> str:
    """A value as it is written: 3.0 and "3.0" are 3, True is true."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return f"{float(value):.12g}"
    except ValueError:
        return str(value).strip()


def number_of(value, kind: type, name: str):
    """A value as bool, int or float; OptionError if it is none."""
    word = word_of(value)
    if kind is bool:
        if word not in ("true", "false"):
            raise OptionError(f"{name} is true or false, got {value!r}")
        return word == "true"
    try:
        found = float(word)
    except ValueError:
        found = np.nan
    if not np.isfinite(found) or found < 0 or (kind is int and found != int(found)):
        raise OptionError(f"{name} must be a {'whole ' if kind is int else ''}number of at least 0, got {value!r}")
    return kind(found)

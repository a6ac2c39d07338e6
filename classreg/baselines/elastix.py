"""Registration parameter files of elastix, read as plans of this engine.

    plan = read_parameters(["rigid.txt", "bspline.txt"])(fixed, moving)
    result = classreg.register(fixed, moving, plan=plan)

A file is a transform model, as in `elastix -p rigid.txt -p bspline.txt`; each of its resolutions is a stage of the
plan, so that lattice, samples, bins, steps and weights may differ between them. With w the weights of elastix's metrics
(one over their number by default), u the displacement of the spline, and A the affine map before it:

    smoothing     a Gaussian of half the schedule's factor, in samples of each image, along each axis
    map           A (x + u(x)), the lattice on the fixed grid; elastix: A x + u(A x), the lattice about the moving image
    bending       2 w / (w of the similarity) times `bending`, over all of the image and not its samples alone
    mean squares  2 s^2 times `ssd`, s the deviation of the fixed image, since intensities are normalised here

What a file asks for is done, or said in the plan's notes, or refused; which keys are known stands in `elastix_keys`.

Must not import: matplotlib, numba, cupy.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import door, models
from ..errors import FileError, OptionError
from ..grid import Grid
from ..image import Image
from ..io.elastix_text import parse
from ..planning import Plan, Stage
from ..pyramid import normalised
from ..schedule import Level, default_factors
from .elastix_keys import KEYS, WEIGHT

#: elastix's transforms: the engine's kind, from few numbers to many
TRANSFORMS = {"TranslationTransform": "translation", "EulerTransform": "rigid", "SimilarityTransform": "similarity",
              "AffineTransform": "affine", "BSplineTransform": "bspline", "RecursiveBSplineTransform": "bspline"}

METRICS = {"AdvancedMattesMutualInformation": "mi", "NormalizedMutualInformation": "nmi",
           "AdvancedMeanSquares": "ssd", "AdvancedNormalizedCorrelation": "ncc"}

BENDING = "TransformBendingEnergyPenalty"

OPTIMISERS = {"AdaptiveStochasticGradientDescent": "asgd", "QuasiNewtonLBFGS": "lbfgs",
              "RegularStepGradientDescent": "descent"}

WINDOWS = {"0": "box", "1": "hat"}

INITS = {"GeometricalCenter": "geometry", "CenterOfGravity": "mass"}

#: samples of a level's grid per deviation of its Gaussian: what is so smooth is stored on a coarser grid
STORED = 1.0

#: cells of a lattice hold so many samples of a level at least
CELL = 1.4


@dataclass(frozen=True)
class Parameters:
    """Parameter maps, checked: `parameters(fixed, moving)` is the plan for a pair.

    Attributes
    ----------
    maps : tuple of dict
        Values by name, one map per transform, in the order in which they run.
    names : tuple of str
        What errors and notes call each map.
    """

    maps: tuple[dict, ...]
    names: tuple[str, ...]

    def __post_init__(self):
        kinds = [_Map(values, name).checked().model for values, name in zip(self.maps, self.names, strict=True)]
        order = list(dict.fromkeys(TRANSFORMS.values()))
        for before, after, name in zip(kinds, kinds[1:], self.names[1:]):
            if order.index(after) < order.index(before):
                raise OptionError(f"{name}: {after} after {before}: a stage begins where the one before ended, so "
                                  f"models go from few numbers to many: {', '.join(order)}")

    def __call__(self, fixed: Image, moving: Image) -> Plan:
        """The plan for a pair of images.

        Raises
        ------
        OptionError
            If a map is for images of another dimension, or asks for what the engine cannot do with these.
        """
        stages, notes = [], []
        maps = [_Map(values, name) for values, name in zip(self.maps, self.names)]
        for number, each in enumerate(maps, 1):
            each.check_dimension(fixed.grid, moving.grid)
            others = [other.model for other in maps].count(each.model) > 1
            prefix = f"{each.model} ({number})" if others else each.model
            stages += _stages(each, prefix, fixed, moving)
            notes += _notes(each)
        first = maps[0]
        plan = Plan(maps[-1].model, first.init, tuple(stages), first.whole("RandomSeed"), "none",
                    notes=tuple(notes))
        door.check_plan(plan, fixed.grid, None, fixed.channels)
        return plan


def read_parameters(paths: str | os.PathLike | Sequence[str | os.PathLike]) -> Parameters:
    """Parameter files of elastix, in the order in which they run.

    Parameters
    ----------
    paths : path, or sequence of path

    Returns
    -------
    Parameters
        A callable: `read_parameters(paths)(fixed, moving)` is a plan.

    Raises
    ------
    FileError
        If a file cannot be read.
    InputError
        If one is no text of parameters.
    OptionError
        If a key is unknown, or has a value that the engine does not support.
    """
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not paths:
        raise OptionError("no parameter files were given; at least one is needed, in the order in which they run")
    maps = []
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"{path} cannot be read as a parameter file ({error}); give the path of a text "
                            "file") from error
        maps.append(parse(text, str(path)))
    return Parameters(tuple(maps), tuple(map(str, paths)))


def parameters_of(*maps: Mapping[str, Sequence]) -> Parameters:
    """The same from parameter maps in memory: values by name.

    Examples
    --------
    >>> parameters_of({"Transform": ["EulerTransform"], "Metrik": ["AdvancedMeanSquares"]})
    Traceback (most recent call last):
    classreg.errors.OptionError: map 1: unknown parameter 'Metrik'; did you mean 'Metric'? ...
    """
    return Parameters(tuple({key: list(values) for key, values in each.items()} for each in maps),
                      tuple(f"map {k}" for k in range(1, len(maps) + 1)))


class _Map:
    """One map: its values as the plan takes them."""

    def __init__(self, values: Mapping[str, Sequence], name: str):
        self.values, self.name = values, name
        self.levels = 1
        self.levels = self.whole("NumberOfResolutions")

    @property
    def model(self) -> str:
        """The engine's kind of the transform."""
        return TRANSFORMS[self.word("Transform")]

    def checked(self) -> _Map:
        """Itself, once every key is known and every value allowed."""
        for key, values in self.values.items():
            spec = _spec(key)
            if spec is None:
                allowed = (*KEYS, *(f"Metric{k}Weight" for k in range(len(self.values.get("Metric", ())))))
                raise OptionError(f"{self.name}: {_nearest(key, allowed)}")
            if spec.kind in ("left", "output"):
                continue
            if spec.kind == "held":
                for value in values:
                    if _word(value) not in map(_word, spec.values):
                        raise self._refused(key, value, spec.values, spec.says)
            elif isinstance(spec.values, tuple):
                for value in values:
                    if _word(value) not in spec.values:
                        raise self._refused(key, value, spec.values)
                if key != "Metric":
                    self._counted(key, values, spec.levels)
            else:
                for value in values:
                    _number(value, spec.values, f"{self.name}: {key}")
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
        return KEYS[key].default if values is None else _word(values[level if len(values) > 1 else 0])

    def flag(self, key: str, level: int = 0) -> bool:
        """Whether a key is true."""
        value = self._value(key, level)
        return _number(value, bool, f"{self.name}: {key}")

    def whole(self, key: str, level: int = 0) -> int | None:
        """A whole number."""
        value = self._value(key, level)
        return None if value is None else _number(value, int, f"{self.name}: {key}")

    def real(self, key: str, level: int = 0) -> float | None:
        """A number."""
        value = self._value(key, level)
        return None if value is None else _number(value, float, f"{self.name}: {key}")

    def axes(self, key: str, ndim: int, level: int | None = None) -> np.ndarray | None:
        """Numbers per axis x, y[, z], of a level or of the map, (ndim,); None where there are none."""
        if (values := self.values.get(key)) is None:
            return None
        found, count = np.array([float(v) for v in values]), 1 if level is None else self.levels
        if not (np.isfinite(found).all() and (found >= 0).all()):
            raise OptionError(f"{self.name}: {key} is made of numbers of at least 0, got {values}")
        if len(found) not in (count, count * ndim):
            raise OptionError(f"{self.name}: {key} has {len(found)} values; it takes {count}"
                              f"{' (one per resolution)' if count > 1 else ''} or {count * ndim}, with one per axis")
        return np.broadcast_to(found.reshape(count, -1), (count, ndim))[level or 0]

    def metrics(self, level: int = 0) -> list[tuple[str, float]]:
        """Names and weights."""
        names = list(map(_word, self.values.get("Metric", [KEYS["Metric"].default])))
        out = []
        for k, name in enumerate(names):
            value = self._value(f"Metric{k}Weight", level)
            weight = 1 / len(names) if value is None else float(value)
            if not 0 <= weight < np.inf:
                raise OptionError(f"{self.name}: Metric{k}Weight must be a number of at least 0, got {value!r}")
            out.append((name, weight))
        return out

    def _value(self, key, level):
        values = self.values.get(key)
        return _spec(key).default if values is None else values[level if len(values) > 1 else 0]

    def _counted(self, key, values, levels):
        if len(values) != 1 and not (levels and len(values) == self.levels):
            per = f" or {self.levels}, one per resolution" if levels and self.levels > 1 else ""
            raise OptionError(f"{self.name}: {key} has {len(values)} values; it takes 1{per}")

    def _refused(self, key, value, allowed, why=""):
        why = f" ({why})" if why else ""
        return OptionError(f"{self.name}: {key} {_word(value)!r} is not supported{why}; supported: "
                           f"{', '.join(allowed)}")


def _spec(key: str):
    """What is known of a key; None where nothing is."""
    return KEYS.get(key, WEIGHT if re.fullmatch(r"Metric\d+Weight", key) else None)


def _nearest(key: str, allowed) -> str:
    """The sentence on an unknown key; there are too many to list them."""
    known = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.4)
    hint = f"; did you mean {known[near[0]]!r}?" if near else "."
    return f"unknown parameter {key!r}{hint} Those that are known stand on the page about baselines"


def _word(value) -> str:
    """A value as it is written: 3.0 is 3, True is true."""
    if isinstance(value, str):
        return value.strip()
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _number(value, kind: type, name: str):
    """A value as bool, int or float; OptionError if it is none."""
    word = _word(value)
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


def _stages(m: _Map, prefix: str, fixed: Image, moving: Image) -> list[Stage]:
    """A stage per resolution."""
    out = []
    for k in range(m.levels):
        name = prefix if m.levels == 1 else f"{prefix} {k + 1}"
        transform = _transform(m, k, fixed.grid)
        metric, regularisers = _metric(m, k, fixed)
        optimiser, sampling = _optimiser(m, k, fixed.grid, moving.grid), _sampling(m, k)
        level = _level(m, k, fixed.grid, transform, sampling)
        straight = m.word("Interpolator") == "LinearInterpolator"
        order = 1 if straight else int(m.word("BSplineInterpolationOrder", k))
        out.append(Stage(name, transform, metric, optimiser, (level,), regularisers, order, 0.0, (), sampling))
    return out


def _schedule(m: _Map, k: int, ndim: int) -> np.ndarray:
    """Factors of the image pyramid at a resolution, per array axis."""
    for key in ("ImagePyramidSchedule", "FixedImagePyramidSchedule", "MovingImagePyramidSchedule"):
        if (factors := m.axes(key, ndim, k)) is not None:
            return factors[::-1]
    return np.full(ndim, 2.0 ** (m.levels - 1 - k))


def _level(m: _Map, k: int, grid: Grid, transform: dict, sampling: dict | None) -> Level:
    """Smoothed as the pyramid says; stored on a coarser grid where nothing is lost by it."""
    factors, kind = _schedule(m, k, grid.ndim), m.word("FixedImagePyramid")
    least = float(min((f for f, n in zip(factors, grid.shape) if n > 1), default=1.0))
    sigma = 0.5 * factors
    if kind == "FixedSmoothingImagePyramid":
        factor = 0.5 * least / STORED if sampling else 1.0
    else:
        factor = least
    if "spacing" in transform:
        factor = min(factor, np.min(transform["spacing"]) / (2 * grid.resolution) * CELL)
    factor = float(np.clip(factor, 1.0, max(default_factors(grid, most=4))))
    if kind == "FixedShrinkingImagePyramid":
        return Level(factor, m.whole("MaximumNumberOfIterations", k))
    sigma = float(sigma[0]) if (sigma == sigma[0]).all() else tuple(map(float, sigma))
    return Level(factor, m.whole("MaximumNumberOfIterations", k), sigma)


def _transform(m: _Map, k: int, grid: Grid) -> dict:
    if m.model != "bspline":
        return {"name": "linear", "kind": m.model, "rotation": "euler" if m.model == "rigid" else "quaternion"}
    spacing = m.axes("FinalGridSpacingInPhysicalUnits", grid.ndim)
    if spacing is None:
        samples = m.axes("FinalGridSpacingInVoxels", grid.ndim)
        spacing = (KEYS["FinalGridSpacingInVoxels"].default if samples is None else samples) * grid.spacing[::-1]
    times = m.axes("GridSpacingSchedule", grid.ndim, k)
    spacing = (spacing * (2.0 ** (m.levels - 1 - k) if times is None else times))[::-1]
    same = (spacing == spacing[0]).all()
    return {"name": "bspline", "spacing": float(spacing[0]) if same else spacing.tolist()}


def _metric(m: _Map, k: int, fixed: Image) -> tuple[dict, tuple[dict, ...]]:
    """The metric and the regularisers."""
    parts, bending = [], 0.0
    for name, weight in m.metrics(k):
        if name == BENDING:
            bending = 2 * weight
            continue
        spec = {"name": METRICS[name]}
        if spec["name"] in ("mi", "nmi"):
            spec |= {"bins": m.whole("NumberOfHistogramBins", k), "window": WINDOWS[m.word("FixedKernelBSplineOrder")]}
        elif spec["name"] == "ssd" and len(m.metrics()) > 1:
            weight *= 2 * _variance(fixed)
        if weight > 0:
            parts.append({"metric": spec, "weight": weight})
    if not parts:
        raise OptionError(f"{m.name}: the weights of all metrics that compare images are 0 at resolution {k + 1}")
    if len(parts) == 1:
        metric, bending = parts[0]["metric"], bending / parts[0]["weight"]
    else:
        metric = {"name": "composite", "parts": parts}
    regularisers = ({"name": "bending", "weight": bending},) if bending > 0 and m.model == "bspline" else ()
    return models.spelt_out(metric), regularisers


def _variance(image: Image) -> float:
    """What intensities are divided by when they are normalised, squared; mean over channels."""
    out = []
    for values, scaled in zip(image.data, normalised(image).data):
        inside = (scaled > scaled.min()) & (scaled < scaled.max())  # beyond, the most extreme ones are clipped
        values, scaled = (values[inside], scaled[inside]) if inside.any() else (values.ravel(), scaled.ravel())
        low, high = scaled.argmin(), scaled.argmax()
        out.append((float(values[high]) - float(values[low])) / max(float(scaled[high] - scaled[low]), 1e-12))
    return float(np.mean(np.square(out)))


def _optimiser(m: _Map, k: int, fixed: Grid, moving: Grid) -> dict:
    name = OPTIMISERS[m.word("Optimizer")]
    if name == "lbfgs":
        return {"name": name, "memory": m.whole("LBFGSUpdateAccuracy", k)}
    if name == "descent":
        return {"name": name}
    length = m.real("MaximumStepLength", k)
    if length is None:
        plane = np.concatenate([fixed.spacing[-2:], moving.spacing[-2:]])
        length = m.real("MaximumStepLengthRatio", k) * float(plane.mean())
    return {"name": name, "length": length, "offset": m.real("SP_A", k), "noise": True}


def _sampling(m: _Map, k: int) -> dict | None:
    if m.word("ImageSampler") == "Full":
        return None
    kept = {} if m.flag("NewSamplesEveryIteration", k) else {"kept": True}
    return {"name": "random", "samples": m.whole("NumberOfSpatialSamples", k), **kept}


def _notes(m: _Map) -> list[str]:
    """What the plan does in another way than the file says."""
    out, about = [], {}
    for key in m.values:
        spec = _spec(key)
        if spec.kind in ("left", "output"):
            about.setdefault("only about output" if spec.kind == "output" else spec.says, []).append(key)
    if m.word("FixedImagePyramid") == "FixedShrinkingImagePyramid":
        out.append("the shrinking pyramid smooths before it leaves samples out")
    if m.word("FixedImagePyramid") == "FixedRecursiveImagePyramid" and m.word("ImageSampler") != "Full":
        out.append("the recursive pyramid is stored at samples as close as smoothing wants, toward isotropic")
    if m.init == "mass":
        out.append("CenterOfGravity: of what an intensity is above the smallest one of its image")
    if m.word("ImageSampler") == "Random":
        out.append("Random: samples lie between voxels, as RandomCoordinate's")
    if (name := m.word("Optimizer")) != "AdaptiveStochasticGradientDescent":
        out.append(f"{name}: {OPTIMISERS[name]} with a line search of its own, one set of samples per resolution")
    if any(name == "AdvancedMeanSquares" for name, _ in m.metrics()):
        out.append("AdvancedMeanSquares: each image is brought to zero mean and unit deviation")
    if m.model != "bspline" and any(name == BENDING for name, _ in m.metrics()):
        out.append(f"{BENDING}: zero for a {m.model} model")
    if m.model == "bspline":
        out.append("the lattice lies on the fixed grid: a whole number of cells along each axis, no longer than asked")
    out += [f"{', '.join(keys)}: {why}" for why, keys in about.items()]
    return [f"{m.name}: {note}" for note in out]

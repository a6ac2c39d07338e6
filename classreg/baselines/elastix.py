"""Registration parameter files of elastix, read as plans of this engine.

    plan = read_parameters(["rigid.txt", "bspline.txt"])(fixed, moving)
    result = classreg.register(fixed, moving, plan=plan)

A file is a transform model, as in `elastix -p rigid.txt -p bspline.txt`; each of its resolutions is a stage of the
plan, so that lattice, samples, bins, steps and weights may differ between them. With w the weights of elastix's metrics
(one over their number by default), u the displacement of the spline, and A the affine map before it:

    smoothing     a Gaussian of half the schedule's factor, in samples of each image, along each axis; recursive ones
                  add up, and do nothing at a factor of 1
    map           A (x + u(x)), the lattice on the fixed grid; elastix: A x + u(A x), the lattice about the moving image
    bending       2 w / (w of the similarity) times `bending`, over all of the image and not its samples alone
    mean squares  2 s^2 times `ssd`, s the deviation of the fixed image, since intensities are normalised here

What a file asks for is done, or said in the plan's notes, or refused; which keys are known stands in `elastix_keys`.

Must not import: matplotlib, numba, cupy.
"""

from __future__ import annotations

import os
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
from .elastix_keys import KEYS, SEARCHED
from .elastix_map import BENDING, METRICS, TRANSFORMS, Map, spec_of

OPTIMISERS = {"AdaptiveStochasticGradientDescent": "asgd", "QuasiNewtonLBFGS": "lbfgs",
              "RegularStepGradientDescent": "descent"}

WINDOWS = {"0": "box", "1": "hat"}

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
        kinds = [Map(values, name).checked().model for values, name in zip(self.maps, self.names, strict=True)]
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
        maps = [Map(values, name) for values, name in zip(self.maps, self.names)]
        for number, each in enumerate(maps, 1):
            each.check_dimension(fixed.grid, moving.grid)
            others = [other.model for other in maps].count(each.model) > 1
            prefix = f"{each.model} ({number})" if others else each.model
            stages += _stages(each, prefix, fixed, moving)
            notes += _notes(each, fixed.grid.ndim, first=each is maps[0])
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


def _stages(m: Map, prefix: str, fixed: Image, moving: Image) -> list[Stage]:
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


def _schedule(m: Map, k: int, ndim: int) -> np.ndarray:
    """Factors of the image pyramid at a resolution, per array axis."""
    for key in ("ImagePyramidSchedule", "FixedImagePyramidSchedule", "MovingImagePyramidSchedule"):
        if (factors := m.axes(key, ndim, k)) is not None:
            return factors[::-1]
    return np.full(ndim, 2.0 ** (m.levels - 1 - k))


def _widths(m: Map, k: int, ndim: int) -> np.ndarray:
    """Widths of the Gaussian at a resolution in samples, per array axis; a recursive pyramid's add up."""
    factors = np.array([_schedule(m, j, ndim) for j in range(k, m.levels)] + [np.ones(ndim)])
    ratios = factors[:-1] / np.maximum(factors[1:], 1e-9)
    if m.word("FixedImagePyramid") == "FixedRecursiveImagePyramid" and (ratios == np.round(ratios)).all():
        return np.sqrt(((0.5 * factors[:-1])**2 * (ratios > 1)).sum(0))
    return 0.5 * factors[0]


def _level(m: Map, k: int, grid: Grid, transform: dict, sampling: dict | None) -> Level:
    """Smoothed as the pyramid says; stored on a coarser grid where nothing is lost by it."""
    factors, kind = _schedule(m, k, grid.ndim), m.word("FixedImagePyramid")
    least = float(min((f for f, n in zip(factors, grid.shape) if n > 1), default=1.0))
    sigma = _widths(m, k, grid.ndim)
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


def _transform(m: Map, k: int, grid: Grid) -> dict:
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


def _metric(m: Map, k: int, fixed: Image) -> tuple[dict, tuple[dict, ...]]:
    """The metric and the regularisers."""
    parts, bending = [], 0.0
    for name, weight in m.metrics(k):
        if name == BENDING:
            bending = 2 * weight
            continue
        spec = {"name": METRICS[name]}
        if spec["name"] in ("mi", "nmi"):
            spec |= {"bins": m.bins(k), "window": WINDOWS[m.word("FixedKernelBSplineOrder")]}
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


def _optimiser(m: Map, k: int, fixed: Grid, moving: Grid) -> dict:
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


def _sampling(m: Map, k: int) -> dict | None:
    if m.word("ImageSampler") == "Full":
        return None
    kept = {} if m.flag("NewSamplesEveryIteration", k) else {"kept": True}
    return {"name": "random", "samples": m.whole("NumberOfSpatialSamples", k), **kept}


def _notes(m: Map, ndim: int, first: bool) -> list[str]:
    """What the plan does in another way than the file says."""
    out, about = [], {}
    for key in m.values:
        spec = spec_of(key)
        if spec.kind in ("left", "output"):
            about.setdefault("only about output" if spec.kind == "output" else spec.says, []).append(key)
    if m.word("FixedImagePyramid") == "FixedShrinkingImagePyramid":
        out.append("the shrinking pyramid smooths before it leaves samples out")
    if m.word("FixedImagePyramid") == "FixedRecursiveImagePyramid" and m.word("ImageSampler") != "Full":
        out.append("the recursive pyramid is stored at samples as close as smoothing wants, toward isotropic")
    if first and m.init == "mass":
        out.append("CenterOfGravity: of what an intensity is above the smallest one of its image")
    if m.word("ImageSampler") in ("Random", "RandomSparseMask"):
        out.append(f"{m.word('ImageSampler')}: samples lie between voxels, as RandomCoordinate's")
    if (name := m.word("Optimizer")) != "AdaptiveStochasticGradientDescent":
        out.append(f"{name}: {OPTIMISERS[name]} with a line search of its own, one set of samples per resolution")
    if any(name == "AdvancedMeanSquares" for name, _ in m.metrics()):
        out.append("AdvancedMeanSquares: each image is brought to zero mean and unit deviation")
    if m.model != "bspline" and any(name == BENDING for name, _ in m.metrics()):
        out.append(f"{BENDING}: zero for a {m.model} model")
    if m.model == "bspline":
        out.append("the lattice lies on the fixed grid: a whole number of cells along each axis, no longer than asked")
    if not (first and m.model != "bspline") and m.flag("AutomaticTransformInitialization"):
        out.append("AutomaticTransformInitialization: of a first linear model only, as in elastix")
    if not first and "RandomSeed" in m.values:
        out.append("RandomSeed: one for the plan, that of the first map")
    if name == "RegularStepGradientDescent" and "MaximumStepLength" in m.values:
        about.setdefault(SEARCHED, []).append("MaximumStepLength")
    if spare := m.spare_weights():
        out.append(f"{', '.join(spare)}: of no metric, since there are {len(m.metrics())}")
    if beyond := m.beyond(ndim):
        out.append(f"{', '.join(beyond)}: more values than the {m.levels} resolution(s) have; the first ones count")
    out += [f"{', '.join(keys)}: {why}" for why, keys in about.items()]
    return [f"{m.name}: {note}" for note in out]

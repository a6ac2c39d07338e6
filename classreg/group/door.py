"""What comes in through the door of groups, turned into objects or refused with a sentence.

Must not import: matplotlib, numba, cupy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import door, preflight
from ..engine import check_needs
from ..errors import GeometryError, InputError, OptionError, unknown
from ..fitted import FittedTransform
from ..grid import Grid
from ..image import Image, real_numbers
from ..initialise import GROUP_INITS
from ..metrics.group import GROUP_METRICS
from ..models import real
from ..planning import Plan, Stage
from ..transforms import GROUPED
from . import models

#: the end that transforms of a group have in common
COMMON = "common"

#: the gauge in which nothing moves on average
MEAN = "mean"

#: samples that a look at an image's intensities begins with
SOME = 1 << 16


def load_group(images, masks, names, spacing, channels) -> tuple[list[Image], list[str]]:
    """All images with their masks, checked one by one and against each other; and what they are called."""
    if isinstance(images, (str, bytes, dict)) or not isinstance(images, Sequence):
        raise InputError(f"a group is a list of images (paths, Images, arrays); got {type(images).__name__}: give "
                         "[first, second, ...]")
    if len(images) < 2:
        raise InputError(f"a group has at least two images, this one has {len(images)}")
    names = names_of(names, len(images))
    if masks is None:
        masks = [None] * len(images)
    if not isinstance(masks, Sequence) or isinstance(masks, str) or len(masks) != len(images):
        raise InputError(f"masks are a list with one entry per image ({len(images)}), None for an image without; got "
                         f"{_what(masks)}")
    out = []
    for name, source, mask in zip(names, images, masks):
        image = door.load_image(source, spacing, channels, name)
        if mask is not None:
            image = _masked(image, door.weight_of(mask, image, name), name)
        preflight.check_image(image, name)
        out.append(image)
    for name, image in zip(names[1:], out[1:]):
        if image.grid.ndim != out[0].grid.ndim:
            raise InputError(f"{names[0]} is {out[0].grid.ndim}-D and {name} {image.grid.ndim}-D; a group is 2-D or "
                             "3-D throughout: take matching slices, or give pictures as volumes of one slice "
                             "(array[None])")
        if image.channels != out[0].channels:
            raise InputError(f"{names[0]} has {out[0].channels} channels and {name} {image.channels}; all images of a "
                             "group have the same number: convert them to grey values, or choose channels")
    return out, names


def _masked(image: Image, weight: np.ndarray, name: str) -> Image:
    try:
        return replace(image, weight=weight)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _what(value) -> str:
    kind = type(value).__name__
    return f"a {kind} of {len(value)} entries" if isinstance(value, (Sequence, np.ndarray)) else f"a {kind}"


def names_of(names, count: int) -> list[str]:
    """Names of the images, checked; image_1, image_2, ... where none are given."""
    if names is None:
        return [f"image_{k}" for k in range(1, count + 1)]
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(n, str) for n in names):
        raise OptionError(f"names are a list of strings, one per image; got {names!r}")
    if len(names) != count:
        raise OptionError(f"{len(names)} names were given for {count} images")
    names = list(names)
    for name in names:
        if not name or any(c in '/\\:*?"<>|' or not c.isprintable() for c in name) or name.startswith("."):
            raise OptionError(f"an image's name serves as the name of files too, and cannot be {name!r}: use letters, "
                              "digits, - and _")
    low = [name.casefold() for name in names]
    if twice := sorted({n for n, small in zip(names, low) if low.count(small) > 1}):
        raise OptionError(f"the name {twice[0]!r} was given twice; names tell the images apart, also as files, by more "
                          "than capital letters")
    for name, stands in ((COMMON, "the common space"), (MEAN, "the gauge without a still image")):
        if name in names:
            raise OptionError(f"the name {name!r} stands for {stands}; call the image otherwise")
    return names


def which(image, names: Sequence[str], what: str) -> int:
    """The number of an image that is given by number or name."""
    if isinstance(image, (int, np.integer)) and not isinstance(image, bool) and -len(names) <= image < len(names):
        return int(image) % len(names)
    if isinstance(image, str):
        if image in names:
            return list(names).index(image)
        raise unknown(what, image, names)
    raise OptionError(f"{what} is a name ({', '.join(names)}) or a number from 0 to {len(names) - 1}; got {image!r}")


def gauge_of(gauge, names: Sequence[str]) -> str:
    """"mean", or the name of the image that is still."""
    if isinstance(gauge, str):
        if gauge not in (MEAN, *names):
            raise unknown("gauge", gauge, (MEAN, *names))
        return gauge
    return names[which(gauge, names, "gauge")]


def method_of(method) -> dict[str, Any]:
    """A method's name and options, checked."""
    spec = {"name": method} if isinstance(method, str) else method
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise OptionError(f"method must be a name ({', '.join(GROUP_METRICS)}), or a dictionary with one and options, "
                          f"such as {{'name': 'ape', 'metric': 'mi'}}; got {method!r}")
    models.build_method(spec)
    return dict(spec)


def check_classes(images: Sequence[Image], names: Sequence[str], plan: Plan) -> None:
    """Refuse images with fewer intensities than the method tells classes apart."""
    for stage in plan.stages:
        wanted = getattr(models.build_method(stage.metric, plan.seed), "classes", None)
        for name, image in zip(names, images) if isinstance(wanted, int) else ():
            data = image.data if image.weight is None else image.data[:, image.weight3 > 0]
            found = max(_intensities(channel.ravel(), wanted) for channel in data)
            if found < wanted:
                raise InputError(f"{name} has {found} different intensities, of which {wanted} classes cannot be made: "
                                 f"ask for at most {found}, as in method={{'name': {stage.metric['name']!r}, "
                                 f"'classes': {found}}}")


def _intensities(values: np.ndarray, enough: int) -> int:
    """How many different ones there are; of many, at least as many as are enough."""
    some = len(np.unique(values[:: -(-len(values) // SOME)]))
    return some if some >= enough else len(np.unique(values))


def init_of(plan: Plan) -> str:
    """How a plan finds where to begin."""
    if plan.init not in GROUP_INITS:
        raise OptionError("this plan began from given matrices: pass them again as init=")
    return plan.init


def check_temporal(weight) -> None:
    """Raise OptionError for what is no weight of a coupling."""
    if not real(weight) or weight < 0:
        raise OptionError(f"temporal is the weight of a penalty, a number of at least 0; got {weight!r}")


def starts_of(init, images: Sequence[Image], names: Sequence[str]) -> dict[str, np.ndarray] | None:
    """The matrix that `init` gives for each name, common world to image; None where it names a way to find them."""
    if isinstance(init, str):
        if init not in GROUP_INITS:
            raise unknown("init", init, GROUP_INITS)
        return None
    d = images[0].grid.ndim
    if not isinstance(init, (Sequence, np.ndarray)) or len(init) != len(images):
        raise OptionError(f"init must be a name ({', '.join(GROUP_INITS)}), or one world matrix {(d + 1, d + 1)} per "
                          f"image ({len(images)}), common space to image; got {_what(init)}")
    out = []
    for given in init:
        if isinstance(given, FittedTransform) and not given.linear:
            raise OptionError("init of a group takes linear transforms; this one is a "
                              f"{given.model}: give its matrix, or the images resampled")
        matrix = given.matrix if isinstance(given, FittedTransform) else real_numbers(given, "init").astype(float)
        if (matrix.shape != (d + 1, d + 1) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-9
                or np.abs(matrix[d] - np.eye(d + 1)[d]).max() > 1e-6):
            raise OptionError(f"init: a start is an invertible world matrix of shape {(d + 1, d + 1)}, last row "
                              f"{np.eye(d + 1, dtype=int)[d].tolist()}; got {matrix.tolist()}")
        out.append(matrix)
    return dict(zip(names, out))


def check_overlap(images: Sequence[Image], names: Sequence[str], matrices) -> None:
    """Refuse images that do not hang together where they begin, each by samples that count with some other.

    Raises
    ------
    GeometryError
        With the images that lie apart, and the distance to the nearest of the others.
    """
    groups, rest = [], list(range(len(images)))
    while rest:
        groups.append([rest.pop(0)])
        for k in groups[-1]:  # which grows by those that meet its members
            back = np.linalg.inv(matrices[k])
            found = [j for j in rest if preflight.meet(images[k], images[j], matrices[j] @ back)]
            groups[-1] += found
            rest = [j for j in rest if j not in found]
    if len(groups) == 1:
        return
    apart = min(groups, key=len)
    centres = [_at(matrix, image) for matrix, image in zip(matrices, images)]
    far, nearest = min((np.linalg.norm(centres[k] - centres[j]), names[j]) for k in apart
                       for j in set(range(len(images))) - set(apart))
    one, masks = len(apart) == 1, any(image.weight is not None for image in images)
    raise GeometryError(f"{', '.join(sorted(names[k] for k in apart))} overlap{'s' * one} with none of the other images"
                        f"{' (or their masks do not)' * masks} where {'it begins' if one else 'they begin'}; the "
                        f"nearest centre, that of {nearest}, is {far:.1f} mm away: begin with init='pairwise', or "
                        f"correct {'the masks, or ' * masks}the origins in the headers")


def check_common(images: Sequence[Image], names: Sequence[str], matrices, grid: Grid) -> None:
    """Refuse a common grid that an image does not reach where it begins."""
    common = Image(np.broadcast_to(np.float32(0), grid.shape), grid)
    for name, image, matrix in zip(names, images, matrices):
        if not preflight.meet(common, image, matrix):
            far = np.linalg.norm(_at(matrix, image) - grid.centre)
            raise GeometryError(f"{name} (or its mask) does not overlap with the common grid, {grid}, where it begins; "
                                f"the centres are {far:.1f} mm apart: give another grid with reference=, take another "
                                "gauge, or begin with init='pairwise'")


def check_joint(images: Sequence[Image], matrices, plan: Plan) -> None:
    """Refuse methods that look only at samples that all images see where there are none."""
    joint = [stage.metric["name"] for stage in plan.stages
             if getattr(models.build_method(stage.metric, plan.seed), "joint", False)]
    if not joint:
        return
    counted = [image.grid.size if image.weight is None else np.count_nonzero(image.weight) for image in images]
    least = int(np.argmin(counted))
    whole = np.ones(images[least].grid.shape) if images[least].weight is None else images[least].weight
    points = _moved(np.linalg.inv(matrices[least]), preflight.counting(replace(images[least], weight=whole)))
    if not np.all([preflight.counts_at(image, _moved(matrix, points)) for image, matrix in zip(images, matrices)],
                  axis=0).any():
        raise GeometryError(f"no sample is seen by all {len(images)} images (and masks) where they begin, and "
                            f"{joint[0]} looks at no others: use a method that counts each image where it is seen, as "
                            "xcoreg, ape or variance, or leave images out")


def _at(matrix: np.ndarray, image: Image) -> np.ndarray:
    """Where the centre of an image lies in the common space, which `matrix` leaves."""
    return _moved(np.linalg.inv(matrix), image.grid.centre)


def _moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:-1, :-1].T + matrix[:-1, -1]


def reference_of(reference, spacing, channels, ndim: int) -> Grid | None:
    """The grid of what is given as one, or as an image."""
    if reference is None:
        return None
    grid = reference if isinstance(reference, Grid) else door.load_image(reference, spacing, channels, "reference").grid
    if grid.ndim != ndim:
        raise InputError(f"the reference is {grid.ndim}-D, the images are {ndim}-D")
    return grid


def check_kind(plan: Plan) -> None:
    """Refuse what is no plan of a group."""
    if not isinstance(plan, Plan):
        raise OptionError(f"plan must be a Plan, got {plan!r}; Plan.from_dict makes one from a dictionary, "
                          "classreg.plan_group from images")
    if not plan.gauge:
        raise OptionError("this is the plan of a pair; begin from classreg.plan_group(images, ...)")
    door.check_seed(plan.seed)
    if plan.matching:
        raise OptionError("a group has no image whose histogram the others could take: leave matching out of the plan")
    if not isinstance(plan.stages, (tuple, list)) or not plan.stages:
        raise OptionError(f"a plan needs at least one stage, got {plan.stages!r}; begin from classreg.plan_group(...)")


def check_plan(plan: Plan, grid: Grid, count: int) -> None:
    """Refuse a plan that could not be run to its end for a group on this common grid; see `door.check_plan`."""
    check_kind(plan)
    was_linear = True
    for stage in plan.stages:
        if not isinstance(stage, Stage):
            raise OptionError(f"a plan's stages are Stage objects, got {stage!r}; Plan.from_dict makes them")
        where = f"stage {stage.name!r}"
        door.check_specs(stage, grid, where)
        if stage.transform["name"] not in GROUPED:
            raise unknown(f"{where}: transform of a group", stage.transform["name"], GROUPED)
        if stage.priors or stage.sampling is not None:
            raise OptionError(f"{where}: a group takes neither priors nor samples: leave them out")
        if not was_linear:
            raise OptionError(f"{where} follows a stage that deforms: the deformable stage of a group comes last")
        was_linear = models.linear(stage)
        check_stage(stage, grid, count, where)


def check_stage(stage: Stage, grid: Grid, count: int, where: str) -> None:
    """Refuse a stage whose parts do not serve each other in a group."""
    eye = np.eye(grid.ndim + 1)
    transform, metric, regularisers, optimiser = models.build_stage(stage, grid, [eye] * count)
    if "product" in optimiser.needs or getattr(optimiser, "stochastic", False):
        raise OptionError(f"{where}: {type(optimiser).__name__} moves one image; a group takes lbfgs, descent or adam, "
                          "greedy for greedy and svf, and gauss_newton for linear models where the method has a "
                          "curvature: gmm, variance, ape, xcoreg, cte and congealing")
    check_needs(optimiser, transform, metric, regularisers)
    door.check_dimension(regularisers, grid, where)
    atlas = getattr(metric, "atlas", None)
    if atlas is not None and (atlas.grid.ndim != grid.ndim or not preflight.overlap(grid, atlas.grid)):
        raise OptionError(f"{where}: the atlas ({atlas.grid}) does not lie in the common space, which is {grid}: "
                          "resample it, or give a reference= that meets it")

"""Where a group begins: at its headers, or aligned image by image to its best-connected member.

Two images are connected by their mutual information times the share of their overlap, on a coarse level. Candidates for
the motion from one to another are those of `start` (headers, centres, principal axes with every sign) and turns about
the centres of mass; the best few by that figure are refined by some rigid iterations. Images that are members of the
contest to be the hub are those best connected where only their centres of mass were brought together.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ..engine import Control
from ..errors import ConvergenceError, GeometryError, unknown
from ..image import Image
from ..metrics import MutualInformation
from ..objective import Objective
from ..pyramid import shrink
from ..transforms import Linear
from ..transforms.linear import exp_rotation
from .start import COARSE, about, candidates, moments, race, volume

GROUP_INITS = ("auto", "identity", "pairwise")

#: turns about the centre of mass that are tried, in degrees: about the axis of a plane, about each axis of space
TURNS = {2: (-90, -60, -30, 30, 60, 90), 3: (-40, 40)}

#: candidates that are refined, and images that may become the hub
REFINED, HUBS = 4, 2

#: gain in connection above which another start than the headers' is called for
GAIN = 1.1


def group_start(images: Sequence[Image], names: Sequence[str], init: str = "auto",
                control: Control | None = None) -> tuple[list[np.ndarray], str]:
    """World matrices (d + 1, d + 1), hub to each image, and a sentence on how they were found.

    With "auto" they are the identity unless some image is connected much better under another motion.

    Parameters
    ----------
    images : sequence of Image
        Normalised (`pyramid.normalised`), on any grids.
    names : sequence of str
        What the sentence calls them.
    init : {"auto", "identity", "pairwise"}
    control : Control, optional
        May end the search early, for the identity; so does Ctrl-C, which it then tells.

    Raises
    ------
    OptionError
        For an unknown name.
    GeometryError
        If an image overlaps with the hub under no candidate.
    """
    if init not in GROUP_INITS:
        raise unknown("init", init, GROUP_INITS)
    still = [np.eye(images[0].grid.ndim + 1)] * len(images)
    if init == "identity":
        return still, "init: identity"
    control = control or Control()
    resolution = max(float(np.max(image.grid.extent)) for image in images) / COARSE
    try:
        small = [shrink(image, resolution) for image in images]
        tried = [(hub, _aligned(small, names, hub, init == "auto", control)) for hub in _hubs(small, control)]
    except KeyboardInterrupt:
        control.stopped = "interrupted"
    if control.stopped:
        return still, "init: identity (stopped before the search ended)"
    hub, found = max(tried, key=lambda one: sum(value for value, *_ in one[1]))
    moved = [name for name, (value, plain, _) in zip(names, found) if value > GAIN * max(plain, 0)]
    figures = ", ".join(f"{name} {value:.3f}" for k, (name, (value, *_)) in enumerate(zip(names, found)) if k != hub)
    connection = f"to {names[hub]} (mutual information times overlap: {figures})"
    if init == "auto" and not moved:
        return still, f"init: identity; no image is connected much better under another motion, {connection}"
    why = f"; the headers place {', '.join(moved)} apart" if init == "auto" else ""
    return [matrix for *_, matrix in found], f"init: pairwise, {connection}{why}"


def _hubs(images, control) -> list[int]:
    """The images best connected with their centres of mass brought together, best first; all of three."""
    if len(images) <= HUBS + 1:
        return list(range(len(images)))
    centres, sums = [moments(image)[0] for image in images], np.zeros(len(images))
    eye = np.eye(images[0].grid.ndim)
    for i, j in combinations(range(len(images)), 2):
        if control.late():
            return []
        value = _connection(images[i], images[j], about(eye, centres[i], centres[j]))
        sums[i] += value
        sums[j] += value
    return [int(k) for k in np.argsort(-sums, kind="stable")[:HUBS]]


def _aligned(images, names, hub: int, easy: bool, control) -> list[tuple[float, float, np.ndarray]]:
    """Of each image, how well it is connected to the hub, how well under the headers alone, and the motion.

    Where that is `easy`, nothing is refined for images that no candidate connects much better than the headers do.
    """
    out, f = [], images[hub]
    model = Linear(f.grid, "rigid")
    for k, m in enumerate(images):
        if control.stopped or control.late():
            return out
        if k == hub:
            out.append((0.0, 0.0, np.eye(f.grid.ndim + 1)))
            continue
        tried = [matrix for _, matrix in candidates(f, m, ("identity", "geometry", "mass", "moments"))]
        tried += _turned(f, m)
        values = [_connection(f, m, matrix) for matrix in tried]
        if easy and values[0] > 0 and max(values) <= GAIN * values[0]:
            out.append((values[0], values[0], tried[0]))
            continue
        order = [int(i) for i in np.argsort(-np.array(values), kind="stable")[:REFINED]]
        refined = {}
        for i in {0, *order}:  # what the headers say is refined in any case, to compare with
            try:
                theta, value = race(f, m, model, model.parameters(tried[i]), control)
            except ConvergenceError:  # nothing overlaps there
                continue
            refined[i] = -value, model.matrix(theta)
            if control.stopped:
                return out
        if not refined:
            apart = float(np.linalg.norm(f.grid.centre - m.grid.centre))
            raise GeometryError(f"under no start does {names[k]} (or its mask) overlap with {names[hub]}; their "
                                f"centres are {apart:.1f} mm apart: check the masks and headers, or give init= as "
                                "matrices")
        value, matrix = max(refined.values(), key=lambda r: r[0])
        out.append((value, refined[0][0] if 0 in refined else 0.0, matrix))
    return out


def _turned(f: Image, m: Image) -> list[np.ndarray]:
    """Motions that bring the centres of mass together and turn about them."""
    d, (here, *_), (there, *_) = f.grid.ndim, moments(f), moments(m)
    axes = np.eye(3) if d == 3 else np.ones((1, 1))
    return [about(exp_rotation(np.radians(angle) * axis, d), here, there) for axis in axes for angle in TURNS[d]]


def _connection(f: Image, m: Image, matrix: np.ndarray) -> float:
    """Mutual information times the share of overlap; 0 where nothing overlaps."""
    model = Linear(f.grid, "affine")
    e = Objective(f, m, model, MutualInformation(bins=16))(model.parameters(matrix))
    if not np.isfinite(e.value):
        return 0.0
    share = e.overlap * f.grid.voxel_volume / min(volume(f.grid), volume(m.grid))
    return -e.value * min(1.0, share)

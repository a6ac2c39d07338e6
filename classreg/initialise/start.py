"""Candidates for the first matrix, and the contest between them.

identity  what the headers say;  geometry  centres of the grids;  mass  centres of mass;  moments  principal axes too;
auto  all of these, each refined for some iterations on a coarse level, the best by metric and overlap.

Intensities are those of `pyramid.normalised` above their low end, so scale, offset and sign of the input do not matter.
"""

from __future__ import annotations

import numpy as np

from ..engine import Control, run
from ..errors import ConvergenceError, GeometryError, unknown
from ..grid import Grid
from ..image import Image
from ..mapping import Mapping
from ..metrics import MutualInformation
from ..metrics.base import moments as sums_of
from ..objective import Objective
from ..optimisers import LBFGS
from ..pyramid import shrink
from ..sampling import sample
from ..schedule import Level
from ..transforms import Linear

INITS = ("auto", "identity", "geometry", "mass", "moments")

#: samples along the longest axis at which candidates are compared
COARSE = 32

#: principal axes count only where the moments differ by this factor
DISTINCT = 1.1

#: share of the best agreement from which on another counts as equal
EQUAL = 0.999

#: correlation inside the foreground above which two images count as of one modality
SAME = 0.25


def start(fixed: Image, moving: Image, init: str = "auto", control: Control | None = None) -> tuple[np.ndarray, str]:
    """The first matrix (d + 1, d + 1), fixed world to moving world, and a sentence on how it was chosen.

    `control` may end the contest early, with the best candidate so far.

    Raises
    ------
    OptionError
        For an unknown name.
    GeometryError
        If under no candidate anything overlaps that counts.
    """
    if init not in INITS:
        raise unknown("init", init, INITS)
    resolution = float(np.max(fixed.grid.extent)) / COARSE
    f, m = shrink(fixed, resolution), shrink(moving, resolution)
    found = candidates(f, m, INITS[1:] if init == "auto" else (init,))
    if len(found) == 1:
        name, matrix = found[0]
        return matrix, f"init: {name}"
    scored, model = [], Linear(f.grid, "rigid")
    control = control or Control()
    for name, matrix in found:
        try:
            theta, value = race(f, m, model, model.parameters(matrix), control)
        except ConvergenceError:  # nothing overlaps there
            continue
        scored.append((value, name, model.matrix(theta)))
        if control.stopped:
            break
    if not scored:
        apart = float(np.linalg.norm(f.grid.centre - m.grid.centre))
        names = ", ".join(sorted({name for name, _ in found}))
        raise GeometryError(f"under none of the starts {names} do the images (or their masks) overlap; "
                            f"their centres are {apart:.1f} mm apart: check the masks and headers, or give a start "
                            "with init=")
    best = min(value for value, *_ in scored)
    # of those that are as good as the best the first is taken, or rounding would choose
    chosen = next((s for s in scored if s[0] <= EQUAL * best), min(scored, key=lambda s: s[0]))
    scored.sort(key=lambda s: (s is not chosen, s[0]))
    listing = ", ".join(f"{name} {-value:.3f}" for value, name, _ in scored)
    return chosen[2], f"init: {chosen[1]} (mutual information times overlap: {listing})"


def modality(fixed: Image, moving: Image, matrix: np.ndarray) -> tuple[bool, float, float]:
    """Whether the images look like one modality under a matrix; their correlation in the common foreground and overall.

    The foreground is where both images are above the middle of their range's lower half (their Otsu threshold).
    """
    resolution = float(np.max(fixed.grid.extent)) / (2 * COARSE)
    f, m = shrink(fixed, resolution), shrink(moving, resolution)
    warped, weight, _ = sample(m, Mapping(matrix), f.grid)
    if f.weight is not None:
        weight = weight * f.weight3
    inside = weight > 0.5
    foreground = inside & (f.data[0] > _otsu(f.data[0])) & (warped[0] > _otsu(m.data[0]))
    rho, overall = (_correlation(f.data[0], warped[0], w) for w in (foreground, inside))
    return rho > SAME, rho, overall


def _correlation(fixed, warped, where) -> float:
    if where.sum() < 30:
        return 0.0
    n, a, b, aa, bb, ab = sums_of(fixed, warped, where.astype(np.float32))
    return float((ab - a * b / n) / np.sqrt(max((aa - a * a / n) * (bb - b * b / n), 1e-12)))


def candidates(f: Image, m: Image, names) -> list[tuple[str, np.ndarray]]:
    """The matrices that names of starts stand for, each once: principal axes with every sign."""
    d = f.grid.ndim
    (cf, axes_f, size_f), (cm, axes_m, size_m) = moments(f), moments(m)
    out = []
    for name in names:
        if name == "identity":
            out.append((name, np.eye(d + 1)))
        elif name == "geometry":
            out.append((name, about(np.eye(d), f.grid.centre, m.grid.centre)))
        elif name == "mass":
            out.append((name, about(np.eye(d), cf, cm)))
        elif _distinct(size_f) and _distinct(size_m):
            turns = [axes_m @ np.diag(signs) @ axes_f.T for signs in np.ndindex(*(2,) * d)
                     for signs in [1 - 2 * np.array(signs)]]
            out += [(name, about(r, cf, cm)) for r in turns if np.linalg.det(r) > 0]
    distinct = [(name, m) for k, (name, m) in enumerate(out) if not any(np.array_equal(m, n) for _, n in out[:k])]
    return distinct or [("mass", about(np.eye(d), cf, cm))]


def about(turn, here, there):
    """x -> turn (x - here) + there."""
    d = len(turn)
    out = np.eye(d + 1)
    out[:d, :d] = turn
    out[:d, d] = there - turn @ here
    return out


def moments(image: Image):
    """Centre of mass, principal axes (columns) and moments of intensity above the low end."""
    d = image.grid.ndim
    mass = image.data[0].astype(float).reshape(-1)
    mass = mass - mass.min()
    if image.weight is not None:
        mass *= image.weight.reshape(-1)
    points = image.grid.points().reshape(-1, d)
    total = mass.sum()
    if total <= 0:
        return image.grid.centre, np.eye(d), np.ones(d)
    centre = np.array([np.sum(mass * points[:, k]) for k in range(d)]) / total
    off = points - centre
    second = np.array([[np.sum(mass * off[:, i] * off[:, j]) for j in range(d)] for i in range(d)]) / total
    size, axes = np.linalg.eigh(second)
    return centre, axes, size


def _distinct(size) -> bool:
    return bool(np.all(size[1:] > DISTINCT * np.maximum(size[:-1], 1e-12)))


def race(f: Image, m: Image, model, theta, control: Control):
    """Some iterations on the coarse level; the value is minus mutual information times the share of overlap.

    The start itself stays in the race, so that aligned images are not moved by what interpolation costs.
    """
    metric = MutualInformation(bins=16)
    own = Control(time_limit=control.time_limit, start=control.start)
    refined, _ = run("start", f, m, model, metric, [], LBFGS(first_step=0.5), (Level(1, 12),), theta, own)
    control.stopped = own.stopped
    scored = []
    for candidate in (theta, refined):
        e = Objective(f, m, model, metric)(candidate)
        share = e.overlap * f.grid.voxel_volume / min(volume(f.grid), volume(m.grid))
        scored.append(e.value * min(1.0, share))
    return (theta, scored[0]) if scored[0] <= EQUAL * scored[1] else (refined, scored[1])


def volume(grid: Grid) -> float:
    """Of a grid, mm^d."""
    return grid.size * grid.voxel_volume


def _otsu(values: np.ndarray) -> float:
    """Threshold between background and foreground with the largest between-class variance (Otsu 1979)."""
    counts, edges = np.histogram(values, 64)
    mids = (edges[1:] + edges[:-1]) / 2
    below, mean = np.cumsum(counts), np.cumsum(counts * mids)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mean / below - (mean[-1] - mean) / above) ** 2
    return float(edges[1:][np.nanargmax(between[:-1])])

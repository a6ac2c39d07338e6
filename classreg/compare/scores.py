"""What a transform is scored by: one number per measure and case, and per label where labels are scored.

All methods are scored by the same code, from the transform as it was saved:

    dice                   labels by one-hot linear weights, the heaviest wins; mean over labels
    hd95, assd             mm between surfaces of the warped and the fixed label, weighted by area; mean over labels
    tre, tre_p75, tre_p95  mm between mapped fixed landmarks and their partners: mean and quantiles of a case
    robustness             % of landmarks that came nearer than the headers have them
    folding, sd_log_j      % of det J <= 0 and SD of log max(J, 0.001), central differences of the displacement
    ncc, nmi               of the fixed and the warped image, where the latter is inside the moving one
    seconds, cpu, memory   what the run cost

Must not import: metrics, optimisers, engine, faces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, unknown
from ..evaluate import (
    assd,
    dice,
    folding,
    hd95,
    landmark_scores,
    mean_over_labels,
    sd_log_jacobian,
    similarity,
    surface_distances,
)
from ..evaluate.checks import foreground, label_map
from ..fitted import FittedTransform
from ..image import Image
from ..jacobian import jacobian_determinant
from ..resample import resample
from .cases import Data

#: counts up when numbers change, so that what was scored before is scored again
SCORING = 1

#: bins of the histogram of `nmi`
BINS = 64


@dataclass(frozen=True)
class Measure:
    """A column of the table.

    Attributes
    ----------
    head, unit : str
        As printed.
    better : 1, -1 or 0
        Higher, lower, or neither (nothing is set in bold then).
    digits : int
        Decimals.
    tested : bool
        Whether rows are tested for differences.
    cost : bool
        Whether it measures effort or regularity, of which doing nothing has least.
    """

    head: str
    unit: str
    better: int
    digits: int
    tested: bool = False
    cost: bool = False


MEASURES = {
    "dice": Measure("Dice", "", 1, 3, tested=True),
    "hd95": Measure("HD95", "mm", -1, 2, tested=True),
    "assd": Measure("ASSD", "mm", -1, 2, tested=True),
    "tre": Measure("TRE", "mm", -1, 2, tested=True),
    "tre_p75": Measure("TRE 75 %", "mm", -1, 2),
    "tre_p95": Measure("TRE 95 %", "mm", -1, 2),
    "robustness": Measure("robustness", "%", 1, 1),
    "folding": Measure("folding", "%", -1, 4, tested=True, cost=True),
    "sd_log_j": Measure("SD log J", "", 0, 3, tested=True),
    "ncc": Measure("NCC", "", 1, 3),
    "nmi": Measure("NMI", "", 1, 3),
    "seconds": Measure("time", "s", -1, 1, cost=True),
    "cpu": Measure("CPU time", "s", -1, 1, cost=True),
    "memory": Measure("peak memory", "MiB", -1, 0, cost=True),
}

COST = ("seconds", "cpu", "memory")
LABELLED = ("dice", "hd95", "assd")
LANDMARKS = ("tre", "tre_p75", "tre_p95", "robustness")


def check_measures(measures: Iterable[str] | None) -> tuple[str, ...]:
    """The measures asked for in the order of the table, all by default; what a run costs is always among them."""
    if measures is None:
        return tuple(MEASURES)
    measures = [measures] if isinstance(measures, str) else list(measures)
    for name in measures:
        if name not in MEASURES:
            raise unknown("measure", name, MEASURES)
    return tuple(name for name in MEASURES if name in measures or name in COST)


def score(transform: FittedTransform, data: Data, measures: Iterable[str]) -> dict:
    """Measures of one case.

    Parameters
    ----------
    transform : FittedTransform
        From fixed to moving world points.
    data : Data
        Images, label maps and landmarks of the case.
    measures : iterable of str
        Names in `MEASURES`; those whose label maps or landmarks the case lacks are left out.

    Returns
    -------
    dict
        "measures": name -> number; "labels": label -> {"dice", "hd95", "assd"}; "lost": labels that are in one map
        only after the warp, for which surfaces have no distance (left out of its mean, 0 in that of Dice).

    Raises
    ------
    InputError
        If the displacement is not finite, or a file does not hold what it should.
    """
    wanted, out, labels, lost = set(measures), {}, {}, []
    if wanted & set(LABELLED) and data.fixed_labels is not None:
        labels, lost = _labels(transform, data, wanted)
        for name in LABELLED:
            if name in wanted:
                out[name] = mean_over_labels({label: row[name] for label, row in labels.items()
                                              if np.isfinite(row[name])})
    if wanted & set(LANDMARKS) and data.fixed_points is not None:
        out.update(_landmarks(transform, data))
    if wanted & {"folding", "sd_log_j"}:
        grid, mask = data.fixed.grid, data.fixed.weight
        displacement = transform.displacement(grid)
        if not np.isfinite(displacement).all():
            raise InputError(f"{int((~np.isfinite(displacement)).sum())} components of the displacement are not finite")
        det = jacobian_determinant(displacement, grid)
        out.update(folding=folding(det, mask), sd_log_j=sd_log_jacobian(det, mask))
    if wanted & {"ncc", "nmi"}:
        out.update(_similarity(transform, data))
    return {"measures": {name: float(out[name]) for name in MEASURES if name in out and name in wanted},
            "labels": labels, "lost": lost}


def conventions(measures: Iterable[str], masked: int, cases: int) -> list[str]:
    """What the numbers mean, a sentence each; `masked` of so many cases have a fixed mask."""
    measures, mask = set(measures), ""
    if masked:
        mask = f" inside the fixed mask ({masked} of {cases} cases have one)"
    found = []
    if measures & set(LABELLED):
        found.append("Labels are warped by one-hot linear weights of which the heaviest wins, 0 outside the moving "
                     "map; the background is left out; a case's number is the mean over its labels.")
    if "dice" in measures:
        found.append("Dice: 2 |A and B| / (|A| + |B|); 0 for a label that only one of both maps has, left out if "
                     "neither has it.")
    if measures & {"hd95", "assd"}:
        found.append("HD95, ASSD: in mm between surface elements of cells of 2 x 2 (x 2) voxels, weighted by area; "
                     "HD95 is the larger of both directed 95 % quantiles, ASSD the mean over both surfaces together; a "
                     "label that only one map has is left out.")
    if measures & set(LANDMARKS):
        found.append("TRE: distance in mm of mapped fixed landmarks from their partners; a case's number is the mean "
                     "or quantile over its landmarks, not snapped to voxels; robustness: share of landmarks that came "
                     "nearer than the headers have them.")
    if measures & {"folding", "sd_log_j"}:
        found.append(f"Folding: share of voxels of the fixed grid{mask} with det J <= 0; SD log J: standard deviation "
                     "of log max(J, 0.001) there; J by central differences of the displacement on the fixed grid, "
                     "one-sided at the border.")
    if measures & {"ncc", "nmi"}:
        found.append(f"NCC: correlation; NMI: (H_A + H_B) / H_AB of {BINS} x {BINS} bins; of the fixed and the "
                     f"linearly interpolated warped image{mask}, where it is inside the moving one"
                     f"{' and its mask' if masked else ''}; of several channels the first. A method that maximises one "
                     "of them is expected to lead it.")
    return found


def _labels(transform, data, wanted):
    """Scores per label, and which labels one of the maps lacks."""
    fixed, moving = data.fixed_labels, data.moving_labels
    for image, end in ((fixed, "fixed"), (moving, "moving")):
        if image.channels > 1:
            raise InputError(f"the {end} label map has {image.channels} channels; a label map has one")
        if image.grid.ndim != transform.ndim:
            raise InputError(f"the {end} label map is {image.grid.ndim}-D, the images are {transform.ndim}-D")
    b = label_map(fixed.array, "fixed")
    labels = foreground(b, label_map(moving.array, "moving"), data.case.labels)
    a = label_map(resample(transform, moving, fixed.grid, "label", 0).array, "warped")
    overlap = dice(a, b, labels)
    rows, lost = {}, []
    for label in labels:
        rows[label] = {"dice": overlap[label]}
        if wanted & {"hd95", "assd"}:
            surfaces = surface_distances(a == label, b == label, fixed.grid)
            rows[label].update(hd95=hd95(surfaces), assd=assd(surfaces))
        if overlap[label] == 0 and (a == label).any() != (b == label).any():
            lost.append(label)
    return rows, lost


def _landmarks(transform, data):
    mapped = transform.map_points(data.fixed_points)
    found = landmark_scores(mapped, data.moving_points, start=data.fixed_points)
    return {"tre": found["mean"], "tre_p75": found["p75"], "tre_p95": found["p95"],
            "robustness": 100 * found["robustness"]}


def _similarity(transform, data):
    """Over the voxels that map inside the moving image, of its mask and the fixed one where there are any."""
    fixed, moving = data.fixed, data.moving
    there = np.ones(moving.grid.shape, np.float32) if moving.weight is None else moving.weight
    inside = resample(transform, Image(there, moving.grid), fixed.grid, "linear", 0).array > 0.5
    if fixed.weight is not None:
        inside &= fixed.weight > 0
    if not inside.any():
        return {"ncc": float("nan"), "nmi": float("nan")}
    warped = resample(transform, moving, fixed.grid, "linear").data[0].reshape(fixed.grid.shape)
    still = fixed.data[0].reshape(fixed.grid.shape).astype(np.float64)
    return {"ncc": similarity.ncc(still, warped, inside), "nmi": similarity.nmi(still, warped, BINS, inside)}


def plain(value):
    """As JSON takes it: keys as text, NaN as None, infinite numbers as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else str(value)
    return value


def number(value) -> float:
    """The number that `plain` made something of."""
    return float("nan") if value is None else float(value)

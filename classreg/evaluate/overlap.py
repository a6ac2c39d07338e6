"""Overlap of label maps, one number per label. With s = #S, t = #T and b = #(S and T), of a label in map S and T:

    dice               2 b / (s + t)        jaccard             b / (s + t - b)
    target overlap     b / t                volume similarity   2 (s - t) / (s + t)
    false negatives    (t - b) / t          false positives     (s - b) / s

S is the warped moving map, T the fixed one ("source" and "target" in Klein et al.). Sources: Dice, Ecology 26 (1945),
doi:10.2307/1932409; Klein et al., NeuroImage 46 (2009), doi:10.1016/j.neuroimage.2008.12.037.

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..errors import InputError, unknown
from ..fitted import FittedTransform
from ..image import Image
from ..resample import resample
from .checks import foreground, label_map, label_maps

EMPTY = {"nan": float("nan"), "one": 1.0, "zero": 0.0}

#: numerator and denominator from s, t and b
OVERLAPS = {
    "dice": lambda s, t, b: (2 * b, s + t),
    "jaccard": lambda s, t, b: (b, s + t - b),
    "target_overlap": lambda s, t, b: (b, t),
    "volume_similarity": lambda s, t, b: (2 * (s - t), s + t),
    "false_negatives": lambda s, t, b: (t - b, t),
    "false_positives": lambda s, t, b: (s - b, s),
}

#: how labels may be brought to the fixed grid
WARPS = {"label": "one-hot linear weights, the heaviest label wins", "nearest": "nearest neighbour"}


def dice(a: np.ndarray, b: np.ndarray, labels: Iterable[int] | None = None,
         empty: str = "nan") -> dict[int, float]:
    """Dice overlap of two label maps on one grid, label by label.

    Parameters
    ----------
    a, b : array of integers, of one shape
        Label maps; a mask is a map with the label 1.
    labels : iterable of int, optional
        Labels to score, in this order; by default all that occur in `a` or `b`, without the background 0.
    empty : {"nan", "one", "zero"}
        The score of a label that is in neither map. A label that is in one of them only scores 0.

    Returns
    -------
    dict of int to float
        0 (disjoint) to 1 (equal) for each label.

    Raises
    ------
    InputError
        If the shapes differ or the values are no integers.
    OptionError
        For an unknown `empty`.

    Notes
    -----
    Conventions in print differ: some average over the background too, some count labels absent from both maps
    as 0 or 1. Averaged by `mean_over_labels`, the default leaves out both. Label maps are to be warped with
    their own interpolation (nearest, or one-hot linear), and the number printed with its name: see
    `warped_overlap`.

    References
    ----------
    Dice, Ecology 26 (1945) 297-302, doi:10.2307/1932409

    Examples
    --------
    >>> dice([1, 1, 2, 0], [1, 0, 2, 0])
    {1: 0.6666666666666666, 2: 1.0}
    """
    return _scores("dice", a, b, labels, empty)


def jaccard(a: np.ndarray, b: np.ndarray, labels: Iterable[int] | None = None, empty: str = "nan") -> dict[int, float]:
    """Union overlap b / (s + t - b), which is dice / (2 - dice); parameters as for `dice`.

    >>> jaccard([1, 1, 2, 0], [1, 0, 2, 0])
    {1: 0.5, 2: 1.0}
    """
    return _scores("jaccard", a, b, labels, empty)


def target_overlap(warped: np.ndarray, fixed: np.ndarray, labels: Iterable[int] | None = None,
                   empty: str = "nan") -> dict[int, float]:
    """Share b / t of the fixed label that the warped one covers; parameters as for `dice`.

    A warped label that covers everything scores 1: print the false positives or `dice` beside it. A label that only
    the warped map has scores NaN: there is no target.

    >>> target_overlap([1, 1, 2, 0], [1, 0, 2, 2])
    {1: 1.0, 2: 0.5}
    """
    return _scores("target_overlap", warped, fixed, labels, empty)


def volume_similarity(warped: np.ndarray, fixed: np.ndarray,
                      labels: Iterable[int] | None = None) -> dict[int, float]:
    """2 (s - t) / (s + t): above 0 where the warped label is the larger, 2 or -2 where one map lacks it.

    Signed, as in Klein et al.; some scripts print its absolute value. Says nothing of position. NaN for a label in
    neither map.

    >>> volume_similarity([1, 1, 1, 0], [1, 0, 0, 0])
    {1: 1.0}
    """
    return _scores("volume_similarity", warped, fixed, labels, "nan")


def false_negatives(warped: np.ndarray, fixed: np.ndarray, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Share (t - b) / t of the fixed label that the warped one misses; NaN where the fixed map lacks the label.

    >>> false_negatives([1, 1, 0, 0], [1, 0, 0, 1])
    {1: 0.5}
    """
    return _scores("false_negatives", warped, fixed, labels, "nan")


def false_positives(warped: np.ndarray, fixed: np.ndarray, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Share (s - b) / s of the warped label outside the fixed one; NaN where the warped map lacks the label.

    >>> false_positives([1, 1, 1, 1], [1, 0, 0, 0])
    {1: 0.75}
    """
    return _scores("false_positives", warped, fixed, labels, "nan")


def pooled_overlap(measure: str, warped: np.ndarray, fixed: np.ndarray,
                   labels: Iterable[int] | None = None) -> float:
    """One number for all labels, as in Klein et al.: sum of the numerators over the sum of the denominators.

    Large labels count more than in the mean over labels. `measure` is a name in `OVERLAPS`; NaN if no label occurs.

    >>> pooled_overlap("target_overlap", [1, 0, 2, 0], [1, 1, 2, 0])
    0.6666666666666666
    """
    if measure not in OVERLAPS:
        raise unknown("overlap", measure, OVERLAPS)
    warped, fixed = label_maps(warped, fixed)
    pairs = [OVERLAPS[measure](*n) for n in _counts(warped, fixed, labels).values()]
    below = sum(d for _, d in pairs)
    return sum(n for n, _ in pairs) / below if below else float("nan")


def mean_over_labels(scores: dict[int, float]) -> float:
    """Mean of the scores that are numbers; NaN if there is none.

    >>> mean_over_labels({1: 0.5, 2: float("nan"), 3: 1.0})
    0.75
    """
    kept = [score for score in scores.values() if not np.isnan(score)]
    return sum(kept) / len(kept) if kept else float("nan")


def warped_overlap(transform: FittedTransform, moving: Image, fixed: Image, measure: str = "dice",
                   interpolation: str = "label", labels: Iterable[int] | None = None, empty: str = "nan") -> dict:
    """Warp the moving label map to the fixed one's grid and score it there.

    Parameters
    ----------
    transform : FittedTransform
        From fixed to moving world points, as `register` returns it.
    moving, fixed : Image
        Label maps.
    measure : str
        A name in `OVERLAPS`.
    interpolation : {"label", "nearest"}
        One-hot linear weights of which the heaviest wins, or nearest neighbour, which the Learn2Reg script takes and
        which scores thin structures lower.
    labels, empty
        As for `dice`; by default the labels of the fixed and of the unwarped moving map, so that one which the warp
        loses still counts.

    Returns
    -------
    dict
        "scores" per label, their "mean", the "skipped" labels (score NaN), the "convention".

    Raises
    ------
    InputError
        If a map holds values that are no integers, or has channels.
    OptionError
        For an unknown measure, interpolation or `empty`.
    """
    if interpolation not in WARPS:
        raise unknown("interpolation of labels", interpolation, WARPS)
    if fixed.channels > 1 or moving.channels > 1:
        raise InputError(f"label maps have one channel; these have {fixed.channels} and {moving.channels}")
    if labels is None:
        labels = foreground(label_map(fixed.array, "fixed"), label_map(moving.array, "moving"), None)
    warped = resample(transform, moving, fixed.grid, interpolation, 0)
    scores = _scores(measure, warped.array, fixed.array, labels, empty)
    return {"scores": scores, "mean": mean_over_labels(scores),
            "skipped": [label for label, score in scores.items() if np.isnan(score)],
            "convention": {"measure": measure, "interpolation": WARPS[interpolation], "outside": 0, "empty": empty,
                           "mean": "over labels whose score is a number"}}


def _scores(measure, s, t, labels, empty):
    if measure not in OVERLAPS:
        raise unknown("overlap", measure, OVERLAPS)
    if empty not in EMPTY:
        raise unknown("rule for empty labels", empty, EMPTY)
    s, t = label_maps(s, t)
    out = {}
    for label, (in_s, in_t, both) in _counts(s, t, labels).items():
        above, below = OVERLAPS[measure](in_s, in_t, both)
        if in_s + in_t == 0:
            out[label] = EMPTY[empty]
        else:
            out[label] = above / below if below else float("nan")
    return out


def _counts(s: np.ndarray, t: np.ndarray, labels: Iterable[int] | None) -> dict[int, tuple[int, int, int]]:
    """#S, #T and #(S and T) for each label; by default of all but 0 that occur."""
    found = (np.unique(x, return_counts=True) for x in (s, t, s[s == t]))
    of_s, of_t, of_both = (dict(zip(values.tolist(), counts.tolist())) for values, counts in found)
    labels = sorted((of_s.keys() | of_t.keys()) - {0}) if labels is None else [int(label) for label in labels]
    return {label: (of_s.get(label, 0), of_t.get(label, 0), of_both.get(label, 0)) for label in labels}

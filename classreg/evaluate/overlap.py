"""Overlap of label maps: Dice(l) = 2 |A_l and B_l| / (|A_l| + |B_l|), one number per label.

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..errors import InputError, unknown

EMPTY = {"nan": float("nan"), "one": 1.0, "zero": 0.0}


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
    as 0 or 1. Averaged by `numpy.nanmean`, the default leaves out both. Label maps are to be warped with
    their own interpolation (nearest, or one-hot linear), and the number printed with its name.

    References
    ----------
    Dice, Ecology 26 (1945) 297-302, doi:10.2307/1932409

    Examples
    --------
    >>> dice([1, 1, 2, 0], [1, 0, 2, 0])
    {1: 0.6666666666666666, 2: 1.0}
    """
    if empty not in EMPTY:
        raise unknown("rule for empty labels", empty, EMPTY)
    a, b = _label_map(a, "first"), _label_map(b, "second")
    if a.shape != b.shape:
        raise InputError(f"the label maps have shapes {a.shape} and {b.shape}; overlap needs one grid: "
                         "resample one map to the other's grid (classreg.apply)")
    in_a, in_b, in_both = _counts(a), _counts(b), _counts(a[a == b])
    labels = sorted((in_a.keys() | in_b.keys()) - {0}) if labels is None else [int(label) for label in labels]
    out = {}
    for label in labels:
        total = in_a.get(label, 0) + in_b.get(label, 0)
        out[label] = 2 * in_both.get(label, 0) / total if total else EMPTY[empty]
    return out


def _label_map(values: np.ndarray, which: str) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "iub":
        raise InputError(f"the {which} label map (dtype {values.dtype}) holds values that are no integers; "
                         "pass an array of labels, of an image its .array, warped with "
                         "interpolation='nearest'")
    return values


def _counts(values: np.ndarray) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return {int(label): int(count) for label, count in zip(found, counts)}

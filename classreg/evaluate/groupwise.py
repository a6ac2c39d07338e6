"""How well a group of images that all move meets in its common space: errors, overlap, surfaces, folds.

With phi_j from the common space to image j, and T_j from image j to where its anatomy truly lies (known where images
were moved on purpose), r_j(x) = T_j(phi_j(x)) is the same for all j where the group is aligned. Where that is in the
common space does not matter, so errors are taken from the mean over the images, or between them.

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from ..errors import InputError, unknown
from ..grid import Grid
from ..mapping import Mapping
from .checks import displacement_on, label_map, mask_of
from .digital import folding_share
from .fields import Map, _chunks, _through
from .overlap import dice, mean_over_labels
from .surfaces import UNITS, assd, surface_distances


def group_errors(transforms: Sequence[Map], truths: Sequence[Map], at: Grid | np.ndarray,
                 mask: np.ndarray | None = None) -> dict:
    """gRE: how far the images' points lie from where they would meet, mm.

    gre = 1/N sum_j mean_x |r_j(x) - 1/N sum_k r_k(x)|,   pairwise = 2 / (N (N - 1)) sum_{i<j} mean_x |r_i(x) - r_j(x)|.

    Parameters
    ----------
    transforms : sequence of FittedTransform, Mapping or function
        phi_j of each image: common world points (n, d) to points of the image.
    truths : sequence of the same
        T_j of each image: its points to where they truly lie.
    at : Grid or array, (n, d)
        Samples of the common grid, or points in the common space.
    mask : array, optional
        On the grid, or one number per point: counts only where it is above 0.

    Returns
    -------
    dict
        "gre", "pairwise", "per_image" (a list), the number of points "n", the "convention".

    Raises
    ------
    InputError
        If there are fewer than two images, the lists differ in length, or a mapped point is not finite.

    Notes
    -----
    The pairwise form has no mean to be taken from, and is the larger one: by a factor of 2 for two images.

    Examples
    --------
    >>> still, moved = (lambda x: x), (lambda x: x + [3.0, 4.0])
    >>> found = group_errors([still, moved], [still, still], np.zeros((1, 2)))
    >>> found["gre"], found["pairwise"]
    (2.5, 5.0)
    """
    transforms, truths = list(transforms), list(truths)
    if len(transforms) != len(truths) or len(transforms) < 2:
        raise InputError(f"{len(transforms)} transforms and {len(truths)} true ones; a group has two or more of both, "
                         "one for each image")
    count = len(transforms)
    single, pair, n = np.zeros(count), 0.0, 0
    for points in _chunks(at, mask):
        r = np.stack([_through(truth, _through(phi, points)) for phi, truth in zip(transforms, truths)])
        single += _lengths(r - r.mean(0)).sum(1)
        pair += sum(float(_lengths(r[i] - r[j]).sum()) for i, j in combinations(range(count), 2))
        n += len(points)
    return {"gre": float(single.mean() / n), "pairwise": 2 * pair / (count * (count - 1) * n),
            "per_image": [float(s) / n for s in single], "n": n,
            "convention": {"unit": "mm", "gre": "from the mean over the images", "pairwise": "mean over all pairs"}}


def warping_index(fields: Sequence[np.ndarray], initial: Sequence[np.ndarray], grid: Grid,
                  masks: Sequence[np.ndarray] | None = None, unit: str = "voxel") -> dict:
    """gWI: root mean square of the residual displacement of each image, and its mean over them.

    r_j(x) = u_j(x) + v_j(x + u_j(x)), less its mean over j;   gWI_j = sqrt(sum_x m_j |r_j|^2 / sum_x m_j).

    Parameters
    ----------
    fields : sequence of arrays, (d, *grid.shape)
        Estimated displacement u_j of each image, mm.
    initial : sequence of arrays, (d, *grid.shape)
        Displacement v_j that each image was moved by beforehand, mm; less their mean before registration.
    grid : Grid
        What all are sampled on.
    masks : sequence of arrays, grid.shape, optional
        Foreground of each image as it was moved beforehand. It counts as it is before registration, and moved by u_j,
        with the nearest neighbour and 0 outside, after it. By default all samples.
    unit : {"voxel", "mm"}
        Voxels: the components along the grid's axes, each divided by its spacing.

    Returns
    -------
    dict
        "gwi" and "before", means over the images; "per_image" and "per_image_before", lists; the "convention".

    Raises
    ------
    InputError
        If the lists differ in length, a field or mask does not fit the grid, or a mask is empty, also after moving.
    OptionError
        For an unknown unit.

    Notes
    -----
    v_j is interpolated linearly and keeps its value at the border outside its grid.

    References
    ----------
    Luo and Zhuang, IEEE TPAMI 2023, doi:10.1109/TPAMI.2022.3225418
    """
    if unit not in UNITS:
        raise unknown("unit", unit, UNITS)
    fields, initial = list(fields), list(initial)
    masks = [None] * len(fields) if masks is None else list(masks)
    if not len(fields) == len(initial) == len(masks) or len(fields) < 2:
        raise InputError(f"{len(fields)} fields, {len(initial)} initial ones and {len(masks)} masks; a group has two "
                         "or more of each, one for each image")
    points, d = grid.points().reshape(-1, grid.ndim), grid.ndim
    first, moved, before, after = [], [], [], []
    for j, (u, v, mask) in enumerate(zip(fields, initial, masks)):
        u, v = displacement_on(u, grid), displacement_on(v, grid, "initial displacement")
        there = points + u.reshape(d, -1).T
        first.append(v.reshape(d, -1).T)
        moved.append(u.reshape(d, -1).T + Mapping(np.eye(d + 1), v, grid).displacement(there))
        before.append(mask_of(mask, grid.shape))
        index = np.rint(grid.to_index(there)).astype(int)
        inside = ((index >= 0) & (index < grid.shape)).all(1)
        if mask is None:
            after.append(np.ones(grid.size, bool))
            continue
        after.append(inside & before[-1][tuple(np.clip(index, 0, np.array(grid.shape) - 1).T)])
        if not after[-1].any():
            raise InputError(f"mask {j} is empty once it is moved by its field; check the sign and unit of the field")
    to_unit = np.eye(d) if unit == "mm" else np.linalg.inv(grid.affine[:-1, :-1])
    found = []
    for residuals, where in ((moved, after), (first, before)):
        residuals = np.stack(residuals)
        square = _lengths(np.einsum("ij,knj->kni", to_unit, residuals - residuals.mean(0))) ** 2
        found.append([float(np.sqrt(s[m.ravel()].mean())) for s, m in zip(square, where)])
    return {"gwi": float(np.mean(found[0])), "before": float(np.mean(found[1])), "per_image": found[0],
            "per_image_before": found[1],
            "convention": {"unit": unit, "residual": "less the mean over the images", "mean": "of roots over images"}}


def group_overlap(maps: Sequence[np.ndarray], labels: Iterable[int] | None = None, empty: str = "nan") -> dict:
    """Dice of the label maps of a group in the common space: mean over all pairs, label by label.

    Parameters
    ----------
    maps : sequence of integer arrays of one shape
        The label map of each image, warped to the common grid.
    labels, empty
        As for `dice`; by default the labels of all maps, without the background 0.

    Returns
    -------
    dict
        "scores" per label (of the pairs that have one), their "mean", "per_pair" means by (i, j), the "convention".

    Raises
    ------
    InputError
        If there are fewer than two maps, or they are no label maps of one shape.

    Examples
    --------
    >>> group_overlap([[1, 1, 0], [1, 0, 0], [1, 1, 0]])["scores"]
    {1: 0.7777777777777777}
    """
    maps, labels = _maps(maps, labels)
    pairs = {(i, j): dice(maps[i], maps[j], labels, empty) for i, j in combinations(range(len(maps)), 2)}
    scores = {label: mean_over_labels(dict(enumerate(p[label] for p in pairs.values()))) for label in labels}
    return {"scores": scores, "mean": mean_over_labels(scores),
            "per_pair": {at: mean_over_labels(p) for at, p in pairs.items()},
            "convention": {"measure": "dice", "pairs": "all, each once", "empty": empty}}


def group_surfaces(maps: Sequence[np.ndarray], grid: Grid, labels: Iterable[int] | None = None,
                   elements: str = "surfel", unit: str = "mm") -> dict:
    """ASSD of the label maps of a group in the common space: mean over all pairs, label by label.

    Parameters
    ----------
    maps, labels
        As for `group_overlap`.
    grid : Grid
        What they are sampled on.
    elements, unit
        As for `surface_distances`.

    Returns
    -------
    dict
        "scores" per label: the mean of the pairs that have it in both maps, NaN without any; their "mean"; "missing",
        the number of pairs in which one map alone has a label; the "convention".
    """
    maps, labels = _maps(maps, labels)
    scores, missing = {}, 0
    for label in labels:
        found = [assd(surface_distances(maps[i] == label, maps[j] == label, grid, elements, unit))
                 for i, j in combinations(range(len(maps)), 2)]
        missing += sum(np.isinf(v) for v in found)
        scores[label] = mean_over_labels({k: v for k, v in enumerate(found) if np.isfinite(v)})
    return {"scores": scores, "mean": mean_over_labels(scores), "missing": int(missing),
            "convention": {"measure": "assd, pooled", "elements": elements, "unit": unit, "pairs": "all, each once",
                           "one map without the label": "left out, counted as missing"}}


def group_folding(fields: Sequence[np.ndarray], grid: Grid, mask: np.ndarray | None = None,
                  scheme: str = "central") -> dict:
    """Folded samples of each image's displacement (d, *grid.shape), in percent; see `folding_share` for the schemes.

    Returns
    -------
    dict
        "mean" and "max" over the images, "per_image", the "convention".
    """
    found = [folding_share(field, grid, scheme, mask) for field in fields]
    if not found:
        raise InputError("there is no field to look for folds in")
    return {"mean": float(np.mean(found)), "max": max(found), "per_image": found, "convention": {"scheme": scheme}}


def _lengths(vectors):
    return np.sqrt((vectors**2).sum(-1))


def _maps(maps, labels):
    """Label maps of one shape, and the labels to score."""
    maps = [label_map(values, f"label map {k}") for k, values in enumerate(maps)]
    if len(maps) < 2 or len({m.shape for m in maps}) > 1:
        raise InputError(f"label maps of shapes {[m.shape for m in maps]}; a group has two or more on one grid: warp "
                         "them to the common one")
    if labels is None:
        labels = sorted({int(v) for m in maps for v in np.unique(m)} - {0})
    return maps, [int(label) for label in labels]

"""Distance between landmarks: the target registration error |phi(x_fixed) - x_moving| in mm.

Beside the distance: snapped to the voxel centres that DIR-Lab's and COPDgene's landmarks were set on, relative to the
image's diagonal, and the share of landmarks that came nearer (both ANHIR). Sources: Castillo et al., Phys Med Biol 54
(2009), doi:10.1088/0031-9155/54/7/001; Borovec et al., IEEE TMI 39 (2020), doi:10.1109/TMI.2020.2986331.

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError, unknown
from ..grid import Grid

SNAPS = ("none", "voxel")


def landmark_errors(mapped: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Distance in mm of every mapped landmark from where it belongs.

    Parameters
    ----------
    mapped, true : array, (n, d)
        World points (x, y[, z]) in mm: fixed landmarks through phi, and their partners in the moving image.

    Returns
    -------
    array, (n,)

    Raises
    ------
    InputError
        If there are no points, the shapes differ, or a coordinate is not finite.

    Examples
    --------
    >>> landmark_errors([[3.0, 4.0, 0.0]], [[0.0, 0.0, 0.0]])
    array([5.])
    """
    mapped, true = np.asarray(mapped, float), np.asarray(true, float)
    if mapped.shape != true.shape:
        raise InputError(f"{mapped.shape} mapped against {true.shape} true landmarks; both lists must have "
                         "the same points, one per row, in the same order")
    if mapped.ndim != 2 or mapped.shape[1] not in (2, 3) or len(mapped) == 0:
        raise InputError(f"landmarks of shape {mapped.shape}; expected (n, 2) or (n, 3) world points in mm, "
                         "n > 0")
    bad = ~(np.isfinite(mapped) & np.isfinite(true)).all(1)
    if bad.any():
        raise InputError(f"{int(bad.sum())} of {len(bad)} landmarks are not finite, the first in row "
                         f"{int(bad.argmax())}; remove these rows from both lists")
    return np.sqrt(((mapped - true) ** 2).sum(1))


def tre(mapped: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Target registration error of one case: mean, median, 75 % and 95 % quantile, and maximum, in mm.

    Parameters
    ----------
    mapped, true : array, (n, d)
        As for `landmark_errors`, which also says what is refused.

    Returns
    -------
    dict
        Keys "mean", "median", "p75", "p95", "max". Quantiles interpolate linearly between landmarks.

    Raises
    ------
    InputError
        As `landmark_errors`.

    Examples
    --------
    >>> tre([[1.0, 0.0], [0.0, 3.0]], [[0.0, 0.0], [0.0, 0.0]])["mean"]
    2.0
    """
    return _summary(landmark_errors(mapped, true))


def snap_to_voxel(points: np.ndarray, grid: Grid) -> np.ndarray:
    """World points (n, d) moved to the nearest voxel centres of a grid; halves go to the higher index.

    DIR-Lab's reference landmarks lie on voxel centres of the moving image, so its evaluation snaps the mapped ones
    there too, which hides errors below half a voxel: print that it was done.

    >>> snap_to_voxel([[3.4, 7.0]], Grid.from_spacing((9, 9), spacing=(2.0, 1.0)))
    array([[3., 8.]])
    """
    points = np.asarray(points, float)
    if points.ndim != 2 or points.shape[1] != grid.ndim:
        raise InputError(f"points of shape {points.shape}; expected (n, {grid.ndim}) world points in mm on this grid")
    return grid.to_world(np.floor(grid.to_index(points) + 0.5))


def relative_errors(errors: np.ndarray, grid: Grid) -> np.ndarray:
    """Errors in mm divided by the length of the fixed image's diagonal in mm, no unit (rTRE).

    ANHIR divides pixels by pixels; that is the same on square pixels only.

    >>> relative_errors([5.0], Grid.from_spacing((30, 40), spacing=1.0))
    array([0.1])
    """
    diagonal = np.sqrt((np.einsum("ij,j->i", grid.affine[:-1, :-1], np.array(grid.shape, float)) ** 2).sum())
    return np.asarray(errors, float) / diagonal


def robustness(errors: np.ndarray, before: np.ndarray) -> float:
    """Share of landmarks that are nearer than before registration, 0 to 1; one that stays as it was does not count.

    Parameters
    ----------
    errors, before : array, (n,)
        Distances of the same landmarks after and before.

    Raises
    ------
    InputError
        If the lists differ in length or are empty: pairs that were cut off would not be noticed.

    Examples
    --------
    >>> robustness([1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 4.0, 3.0])
    0.5
    """
    errors, before = np.asarray(errors, float), np.asarray(before, float)
    if errors.shape != before.shape or errors.ndim != 1 or errors.size == 0:
        raise InputError(f"{errors.shape} errors after and {before.shape} before; both lists need the same landmarks")
    return float((errors < before).mean())


def landmark_scores(mapped: np.ndarray, true: np.ndarray, start: np.ndarray | None = None,
                    fixed: Grid | None = None, moving: Grid | None = None, snap: str = "none") -> dict:
    """All landmark measures of one case, with what they mean.

    Parameters
    ----------
    mapped, true : array, (n, d)
        As for `landmark_errors`.
    start : array, (n, d), optional
        The fixed landmarks as the unregistered images have them in the moving world: the same world points, or what an
        initial transform makes of them. Adds "robustness" and "before".
    fixed : Grid, optional
        Of the fixed image; adds "relative", the median of the errors over its diagonal.
    moving : Grid, optional
        Of the moving image; needed to snap.
    snap : {"none", "voxel"}
        Snap mapped points (and starts) to the moving image's voxel centres first.

    Returns
    -------
    dict
        The keys of `tre` in mm, "n", what was asked for, and the "convention".

    Raises
    ------
    InputError
        As `landmark_errors`; also if there is no grid to snap to.
    OptionError
        For an unknown `snap`.
    """
    if snap not in SNAPS:
        raise unknown("snap", snap, SNAPS)
    if snap == "voxel":
        if moving is None:
            raise InputError("snap='voxel' needs the moving image's grid, which is None; pass moving=image.grid")
        mapped = snap_to_voxel(mapped, moving)
        start = None if start is None else snap_to_voxel(start, moving)
    errors = landmark_errors(mapped, true)
    out = {**_summary(errors), "n": len(errors)}
    if start is not None:
        before = landmark_errors(start, true)
        out["before"], out["robustness"] = _summary(before), robustness(errors, before)
    if fixed is not None:
        out["relative"] = float(np.median(relative_errors(errors, fixed)))
    out["convention"] = {"unit": "mm", "snap": snap, "quantiles": "linear between landmarks",
                         "robustness": "share strictly nearer than before", "relative": "median over fixed diagonal"}
    return out


def _summary(errors):
    median, p75, p95 = np.quantile(errors, [0.5, 0.75, 0.95])
    return {"mean": float(errors.mean()), "median": float(median), "p75": float(p75), "p95": float(p95),
            "max": float(errors.max())}

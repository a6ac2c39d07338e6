"""Distance between landmarks: the target registration error |phi(x_fixed) - x_moving| in mm.

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError


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
    errors = landmark_errors(mapped, true)
    median, p75, p95 = np.quantile(errors, [0.5, 0.75, 0.95])
    return {"mean": float(errors.mean()), "median": float(median), "p75": float(p75), "p95": float(p95),
            "max": float(errors.max())}

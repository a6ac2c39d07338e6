"""Regularity of a deformation, from its Jacobian determinants (see `classreg.jacobian`).

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError, OptionError


def folding(det: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Share of the samples whose Jacobian determinant is at most 0, in percent.

    Parameters
    ----------
    det : array
        Jacobian determinants.
    mask : array of the same shape, optional
        Counts only samples where it is above 0.

    Returns
    -------
    float
        0 to 100.

    Raises
    ------
    InputError
        If a determinant is not finite, or the mask does not fit or is empty.

    Examples
    --------
    >>> import numpy as np
    >>> folding(np.array([1.0, 0.5, 0.0, -1.0]))
    50.0
    """
    return 100.0 * float((_selected(det, mask) <= 0).mean())


def sd_log_jacobian(det: np.ndarray, mask: np.ndarray | None = None, floor: float = 1e-3) -> float:
    """Standard deviation of log J: how unevenly the volume changes, without units.

    Parameters
    ----------
    det : array
        Jacobian determinants, the identity being 1.
    mask : array of the same shape, optional
        Counts only samples where it is above 0.
    floor : float
        Smaller determinants, folded ones among them, are raised to this value before the logarithm.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If a determinant is not finite, or the mask does not fit or is empty.
    OptionError
        If the floor is not above 0.

    Notes
    -----
    This is the plain definition. Learn2Reg's evaluation adds 3 to J first and cuts the border, which gives
    smaller numbers: do not compare the two. It is in `learn2reg.sd_log_jacobian`.

    Examples
    --------
    >>> import numpy as np
    >>> sd_log_jacobian(np.exp([1.0, -1.0]))
    1.0
    """
    if not (np.isfinite(floor) and floor > 0):
        raise OptionError(f"floor is {floor!r}; the logarithm needs a finite value above 0, such as 1e-3")
    return float(np.log(np.maximum(_selected(det, mask).astype(float), floor)).std())


def sd_jacobian(det: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Standard deviation of J itself, without units; some papers print it under the head "Jacobian".

    Parameters, and what is refused, as for `folding`. Recursive cascaded networks take forward differences
    (`one_sided_determinant`).

    >>> sd_jacobian(np.array([0.5, 1.5]))
    0.5
    """
    return float(_selected(det, mask).astype(float).std())


def _selected(det: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The determinants under the mask, checked; a NaN would otherwise count as no fold."""
    det = np.asarray(det)
    if mask is not None:
        mask = np.asarray(mask)
        if mask.shape != det.shape:
            raise InputError(f"the mask has shape {mask.shape}, the determinants {det.shape}; "
                             "both need one grid")
        det = det[mask > 0]
    if det.size == 0:
        raise InputError("there is no determinant to count: the array or the mask is empty")
    bad = int((~np.isfinite(det)).sum())
    if bad:
        raise InputError(f"{bad} of {det.size} Jacobian determinants are not finite; "
                         "check the displacement field")
    return det

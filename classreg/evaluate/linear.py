"""How far a linear transform is from the true one.

With E = T'^-1 T the residual of a recovered T and the true T' (both fixed to moving world, so E is the identity on the
fixed side if T is right), L its linear part and Q the rotation nearest to L:

    Mat_err        |E - Id|^2, squared Frobenius; translation in half image sizes, about the image centre
    theta          arccos(tr L / 2), in 3-D arccos((tr L - 1) / 2): includes scale; argument clipped to [-1, 1]
    theta_polar    the angle of Q, 2 arcsin(|Q - Id| / sqrt 8): the geodesic distance on rotations
    RMS deviation  sqrt(mean over a ball or a box of |T x - T' x|^2), in mm

Sources: Hachicha et al., MILLanD workshop at MICCAI 2023 (Mat_err and theta; norm and units are ours, the paper states
none); Jenkinson, FMRIB technical report TR99MJ1, 1999 (RMS deviation).

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..grid import Grid
from .checks import positive


def linear_errors(recovered: np.ndarray, true: np.ndarray, grid: Grid) -> dict:
    """Mat_err, both angles and deviations in mm of a recovered matrix.

    Parameters
    ----------
    recovered, true : array, (d + 1, d + 1)
        World matrices, fixed to moving.
    grid : Grid
        Of the fixed image: its centre is where translation is measured, its size is what it is divided by.

    Returns
    -------
    dict
        "mat_err" (no unit), "theta" and "theta_polar" in degrees, "translation" of the residual at the centre and
        "rms_box", the RMS deviation over the image box, in mm; the "convention".

    Raises
    ------
    InputError
        If a matrix is not finite, not of the grid's dimension, not affine, or the true one is singular.

    Notes
    -----
    Where the truth is a map T' that took the image away, I = I_0 o T', the T to recover is its inverse: pass
    `true=inv(T')`; then E = T' T, as in the paper. theta mistakes scale for rotation, in a shrunken residual even where
    there is none: prefer theta_polar.

    Examples
    --------
    >>> grid = Grid.from_spacing((11, 21), spacing=2.0)
    >>> linear_errors(np.diag([-1.0, -1.0, 1.0]), np.eye(3), grid)["theta"]
    180.0
    """
    recovered, true, d = _matrix(recovered, grid.ndim), _matrix(true, grid.ndim), grid.ndim
    residual = np.linalg.solve(true, recovered)
    linear = residual[:d, :d]
    shift = linear @ grid.centre + residual[:d, d] - grid.centre
    axes = grid.axes
    halves = np.linalg.solve(axes, shift) / (grid.extent / 2)
    cosine = np.clip((np.trace(linear) - (d - 2)) / 2, -1, 1)
    return {"mat_err": float(((linear - np.eye(d)) ** 2).sum() + (halves**2).sum()),
            "theta": float(np.degrees(np.arccos(cosine))), "theta_polar": rotation_angle(linear),
            "translation": float(np.sqrt((shift**2).sum())), "rms_box": rms_deviation_box(recovered, true, grid),
            "convention": {"residual": "true^-1 recovered", "theta": "from the trace, clipped, degrees",
                           "theta_polar": "of the nearest rotation, degrees",
                           "mat_err": "squared Frobenius, translation at the centre in half image sizes"}}


def rotation_angle(matrix: np.ndarray) -> float:
    """Angle in degrees, 0 to 180, of the rotation nearest to a matrix (d, d): the geodesic distance from the identity.

    Of a mirror map, the nearest proper rotation is taken.

    >>> round(rotation_angle([[0.0, -2.0], [2.0, 0.0]]), 6)
    90.0
    """
    u, _, vt = np.linalg.svd(np.asarray(matrix, float))
    flip = np.eye(len(u))
    flip[-1, -1] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    gap = u @ flip @ vt - np.eye(len(u))
    return float(np.degrees(2 * np.arcsin(min(1.0, np.sqrt((gap**2).sum() / 8)))))


def theta_rates(angles: np.ndarray, limits=(45.0, 90.0)) -> dict[str, float]:
    """Percentage of cases whose angle in degrees exceeds each limit: theta_45 and theta_90, of which 0 is best.

    >>> theta_rates([3.0, 50.0, 170.0, 90.0])
    {'theta_45': 75.0, 'theta_90': 25.0}
    """
    angles = np.asarray(angles, float)
    if angles.ndim != 1 or angles.size == 0 or not np.isfinite(angles).all():
        raise InputError(f"angles of shape {angles.shape}; expected one finite number per case, at least one case")
    return {f"theta_{limit:g}": 100.0 * float((angles > limit).mean()) for limit in limits}


def rms_deviation(first: np.ndarray, second: np.ndarray, centre, radius: float = 80.0) -> float:
    """RMS distance in mm of two affine maps over a ball, as FSL's `rmsdiff` takes it.

    sqrt(R^2 / (d + 2) tr(A^T A) + |t + A c|^2) with first second^-1 - Id = [A t]: 1/5 in 3-D, 1/4 on a disc.

    Parameters
    ----------
    first, second : array, (d + 1, d + 1)
        Maps to one space.
    centre : array, (d,)
        Of the ball, in the space that the maps lead to. FSL's matrices and centre are in its own scaled coordinates,
        not in world space.
    radius : float
        In mm; 80 stands for an adult's brain.

    Raises
    ------
    InputError
        If a matrix is not finite, not affine, or the second one is singular.
    OptionError
        If the radius is not above 0.

    Examples
    --------
    >>> shift = np.eye(4); shift[0, 3] = 2.0
    >>> rms_deviation(shift, np.eye(4), np.zeros(3))
    2.0
    """
    d, radius = len(centre), positive("radius", radius)
    first, second = _matrix(first, d), _matrix(second, d)
    gap = first @ np.linalg.inv(second) - np.eye(d + 1)
    at_centre = gap[:d, :d] @ np.asarray(centre, float) + gap[:d, d]
    return float(np.sqrt(radius**2 / (d + 2) * (gap[:d, :d] ** 2).sum() + (at_centre**2).sum()))


def rms_deviation_box(first: np.ndarray, second: np.ndarray, grid: Grid) -> float:
    """RMS of |first(x) - second(x)| in mm over all x of an image's box, exactly; any orientation and shear.

    >>> grid = Grid.from_spacing((6, 6), spacing=2.0)
    >>> round(rms_deviation_box(np.diag([2.0, 2.0, 1.0]), np.eye(3), grid) ** 2, 9)
    74.0
    """
    d = grid.ndim
    gap = _matrix(first, d) - _matrix(second, d)
    at_centre = gap[:d, :d] @ grid.centre + gap[:d, d]
    sides = gap[:d, :d] @ grid.affine[:d, :d] * grid.shape  # columns; a side's mean square about its middle is 1/12
    return float(np.sqrt((at_centre**2).sum() + (sides**2).sum() / 12))


def corner_distance(first: np.ndarray, second: np.ndarray, grid: Grid) -> float:
    """Largest |first(x) - second(x)| in mm over the outermost sample centres, hence over all samples.

    >>> corner_distance(np.diag([2.0, 2.0, 1.0]), np.eye(3), Grid.from_spacing((4, 5))).__round__(6)
    5.0
    """
    d = grid.ndim
    gap = _matrix(first, d) - _matrix(second, d)
    at = grid.corners() @ gap[:d, :d].T + gap[:d, d]
    return float(np.sqrt((at**2).sum(1)).max())


def _matrix(matrix, d):
    matrix = np.asarray(matrix, float)
    if matrix.shape != (d + 1, d + 1) or not np.isfinite(matrix).all():
        raise InputError(f"a matrix of shape {matrix.shape}; expected a finite one of {(d + 1, d + 1)}, world to world")
    if not np.allclose(matrix[d], np.eye(d + 1)[d]) or abs(np.linalg.det(matrix)) < 1e-12:
        raise InputError(f"the matrix {matrix.tolist()} is no invertible affine map; its last row must be 0 ... 0 1")
    return matrix

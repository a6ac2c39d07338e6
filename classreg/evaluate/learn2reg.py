"""The numbers that Learn2Reg's evaluation script prints, bug for bug, so that published rows can be compared.

What it does differently from the plain definitions in this package:

    TRE          the field is read at landmarks with cubic splines and *zeros outside* (a landmark beyond the last voxel
                 centre is not displaced); distances use the moving image's spacing and no orientation
    SDlogJ       std of log(clip(J + 3, 1e-9, 1e9)), voxel units, two voxels of border cut: J holds the identity already
    num_foldings counted after + 3 and the clip, hence always 0
    DSC, HD95    NaN where the fixed or the *unwarped* moving map lacks the label; HD95 in voxels whatever the spacing
    labels       warped by nearest neighbour, 0 outside

Fields are (*shape, 3) in voxels, component k along array axis k, as the challenge's files hold them; `voxel_field`
makes one. Source: MDL-UzL/L2R, evaluation/utils.py and evaluation.py; Hering et al., IEEE TMI 42 (2023),
doi:10.1109/TMI.2022.3213983.

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import map_coordinates

from ..errors import InputError
from ..grid import Grid
from ..jacobian import determinant
from .checks import displacement_on, label_map
from .overlap import dice as plain_dice
from .surfaces import hd95 as surface_hd95
from .surfaces import surface_distances

#: what is added to the determinant, which already holds the identity
OFFSET = 3

#: limits of the determinants before the logarithm
CLIP = (1e-9, 1e9)

#: voxels cut from each side
BORDER = 2


def voxel_field(field: np.ndarray, grid: Grid) -> np.ndarray:
    """A displacement in mm (3, *grid.shape) as (*grid.shape, 3) in voxels, component k along array axis k.

    Learn2Reg's files have the axes (x, y, z), as `write_transform(..., format="learn2reg")` writes them. That changes
    none of the numbers here.
    """
    if grid.ndim != 3:
        raise InputError(f"Learn2Reg's fields are volumes; this grid is {grid.ndim}-D")
    to_index = np.linalg.inv(grid.affine[:3, :3])
    return np.moveaxis(np.einsum("ij,j...->i...", to_index, displacement_on(field, grid)), 0, -1)


def jacobian_determinant(disp: np.ndarray) -> np.ndarray:
    """J by central differences in voxels, without two voxels of border, (*shape - 4).

    Parameters
    ----------
    disp : array, (*shape, 3)

    Raises
    ------
    InputError
        If it is no such field, or a side has less than 5 voxels.
    """
    disp = np.asarray(disp, float)
    if disp.ndim != 4 or disp.shape[-1] != 3 or min(disp.shape[:3]) <= 2 * BORDER:
        raise InputError(f"the field has shape {disp.shape}; expected (x, y, z, 3) with more than {2 * BORDER} voxels "
                         "along each side")
    cut = (slice(BORDER, -BORDER),) * 3
    return determinant([[np.gradient(component, axis=axis)[cut] + (i == axis) for axis in range(3)]
                        for i, component in enumerate(np.moveaxis(disp, -1, 0))])


def sd_log_jacobian(disp: np.ndarray, mask: np.ndarray | None = None) -> dict:
    """SDlogJ as the script prints it, and the same without the offset.

    Parameters
    ----------
    disp : array, (*shape, 3)
        In voxels.
    mask : array, (*shape), optional
        Counts only voxels where it is above 0.

    Returns
    -------
    dict
        "sdlogj" bug for bug; "corrected" with log(clip(J)); "convention".

    Raises
    ------
    InputError
        If the field or mask does not fit, or the mask is empty inside the border.
    """
    det = _within(jacobian_determinant(disp), np.shape(disp)[:3], mask)
    return {"sdlogj": float(np.log(np.clip(det + OFFSET, *CLIP)).std()),
            "corrected": float(np.log(np.clip(det, *CLIP)).std()),
            "convention": {"sdlogj": "std log clip(J + 3)", "corrected": "std log clip(J)", "clip": CLIP,
                           "border": f"{BORDER} voxels cut", "differences": "central, voxels"}}


def foldings(disp: np.ndarray, mask: np.ndarray | None = None) -> dict:
    """Voxels that fold: "num_foldings" as the script counts them, which is always 0, and the "corrected" count."""
    det = _within(jacobian_determinant(disp), np.shape(disp)[:3], mask)
    return {"num_foldings": int((np.clip(det + OFFSET, *CLIP) <= 0).sum()), "corrected": int((det <= 0).sum()),
            "convention": {"num_foldings": "clip(J + 3) <= 0", "corrected": "J <= 0", "border": f"{BORDER} voxels cut"}}


def tre(fixed_points: np.ndarray, moving_points: np.ndarray, disp: np.ndarray, spacing) -> np.ndarray:
    """Landmark errors of the script, (n,), in mm where the grid's axes are orthogonal.

    Parameters
    ----------
    fixed_points, moving_points : array, (n, 3)
        Voxel coordinates, in the order of the field's axes.
    disp : array, (*shape, 3)
        In voxels of the fixed grid.
    spacing : array, (3,)
        Of the moving image, in the order of the field's axes.

    Raises
    ------
    InputError
        If the lists differ in shape.
    """
    fixed_points, moving_points = np.asarray(fixed_points, float), np.asarray(moving_points, float)
    if fixed_points.shape != moving_points.shape or fixed_points.ndim != 2 or fixed_points.shape[1] != 3:
        raise InputError(f"{fixed_points.shape} fixed against {moving_points.shape} moving landmarks; both need (n, 3)")
    moved = np.stack([map_coordinates(component, fixed_points.T, output=float)
                      for component in np.moveaxis(np.asarray(disp, float), -1, 0)], -1)
    return np.sqrt((((fixed_points + moved - moving_points) * np.asarray(spacing, float)) ** 2).sum(1))


def warp_labels(moving: np.ndarray, disp: np.ndarray) -> np.ndarray:
    """The moving label map at x + disp(x) in voxels, nearest neighbour, 0 outside; (*disp.shape[:-1])."""
    disp = np.asarray(disp, float)
    return map_coordinates(np.asarray(moving), np.indices(disp.shape[:-1]) + np.moveaxis(disp, -1, 0), order=0)


def dice(fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, labels: Iterable[int]) -> dict[int, float]:
    """Dice of the warped and the fixed map; NaN where the fixed or the unwarped moving map lacks the label."""
    scores = plain_dice(warped, fixed, labels)
    kept = _in_both(fixed, moving, scores)
    return {label: score if label in kept else float("nan") for label, score in scores.items()}


def hd95(fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, labels: Iterable[int]) -> dict[int, float]:
    """HD95 in voxels, surfels, max of both directions; NaN where the fixed or the unwarped moving map lacks the label.

    Infinite where the warp lost the label.
    """
    fixed, warped = label_map(fixed, "fixed"), label_map(warped, "warped")
    grid, labels = Grid.from_spacing(fixed.shape), [int(label) for label in labels]
    kept = _in_both(fixed, moving, labels)
    return {label: surface_hd95(surface_distances(fixed == label, warped == label, grid)) if label in kept
            else float("nan") for label in labels}


def _in_both(fixed, moving, labels):
    found = set(np.unique(label_map(fixed, "fixed")).tolist()) & set(np.unique(label_map(moving, "moving")).tolist())
    return found & set(labels)


def _within(det, shape, mask):
    """The determinants under the part of the mask that is not border."""
    if mask is None:
        return det
    mask = np.asarray(mask)
    if mask.shape != shape:
        raise InputError(f"the mask has shape {mask.shape}, the field {shape}; both need one grid")
    inside = mask[(slice(BORDER, -BORDER),) * 3] > 0
    if not inside.any():
        raise InputError("the mask is empty inside the border of two voxels: there is nothing to measure")
    return det[inside]

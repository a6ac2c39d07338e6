"""What metrics of a stack share.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ...backend import workspace
from ...image import Image
from ...kernels.cpu import histogram
from ...kernels.cpu import stack as kernels
from ..information import information


class GroupMetric:
    """Base of the metrics of a stack."""

    #: whether neighbourhoods are needed
    dense = False
    #: values up to here cannot be told from those of identical images: nothing is left to do
    zero = -np.inf

    def describe(self, image: Image) -> Image:
        """What is warped instead of the image: the image itself."""
        return image

    def prepare(self, images, grid) -> None:
        """See the data of a level, one array (channels, z, y, x) per image, and the template `grid`; once."""


def adjoints_buffer(stack: np.ndarray) -> np.ndarray:
    """Where metrics of a stack write d value / d stack; lives until the next evaluation."""
    return workspace().buffer("group adjoints", stack.shape, stack.dtype)


def company(weights: np.ndarray, name: str = "company") -> np.ndarray:
    """w_j (W - w_j) / (N - 1), the weight of an image where others are seen too; lives until the next evaluation."""
    out = workspace().buffer(name, weights.shape, weights.dtype)
    workspace().run(kernels.company, weights.shape[1], weights, out)
    return out


def informed_on(stack: np.ndarray, weights: np.ndarray, tables, places):
    """Curvatures of metrics that tell of each image how it depends on something the group shares.

    The Fisher information of counts `tables[j][c]` (something shared, bins of the image) on the intensities, as of
    `MutualInformation.curvature`; `places[j][c]` are origin and scale of the bins.
    """
    out, alone = workspace().buffer("group curvature", stack.shape, stack.dtype), company(weights)
    for j, c in np.ndindex(stack.shape[:2]):
        n, (origin, scale) = max(float(tables[j][c].sum()), 1e-12), places[j][c]
        told = information(tables[j][c] / n, n) * (scale**2 / (n * stack.shape[0] * stack.shape[1]))
        workspace().run(histogram.look_up, stack.shape[2], stack[j, c], alone[j], origin, scale, told, out[j, c])
    return list(out), None

"""The mean of a pairwise metric between each image and its own low-rank reconstruction:  E = 1/N sum_j D(r_j, u_j).

    r_j = mu_j + s_j sum_{i <= m} v_ij y_i,     y_i = sum_j v_ij Z_j

Z_j are the images with zero mean and unit deviation, v_i the leading eigenvectors of their correlation matrix (see
`components.py`). What contrast agents and relaxation do to images needs few components, and motion many: the
reconstruction shows the contrast of each image, the motion averaged. It is latent, made anew by each refresh; and m
grows, by one after every `rounds` refreshes, from 1 to `components`, so that what moves much is not explained before
it is moved. Samples that all images see count. With D half the squared difference and all m at once it is close to
`pca`; with `lncc` it stands contrast that differs from place to place.
Source: progressive principal component registration, Melbourne et al., Physics in Medicine and Biology 2007,
doi:10.1088/0031-9155/52/17/003; the refresh in each iteration is ours.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ...backend import workspace
from ...bounds import whole
from ...errors import OptionError, unknown
from ...kernels.cpu import gram as kernels
from ..lncc import LNCC
from ..ncc import NCC
from ..ssd import SSD
from .base import GroupMetric, adjoints_buffer
from .components import correlations, joint_weight, leading, standards
from .pca import ROUNDS, orthogonal_iteration, scored

#: metrics that compare an image with its reconstruction
NAMED = {"ssd": SSD, "ncc": NCC, "lncc": LNCC}


class LowRank(GroupMetric):
    """Mean over the images of their difference from what the first components say of them.

    Parameters
    ----------
    components : int
        How many at the end, at least 1; one fewer than there are images at most.
    metric : {"ssd", "ncc", "lncc"}
        In plans also a dictionary with options, {"name": "lncc", "radius": 3}.
    rounds : int
        Refreshes after which there is one component more.
    """

    joint = True

    def __init__(self, components: int = 3, metric="ssd", rounds: int = 5):
        if isinstance(metric, str):
            if metric not in NAMED:
                raise unknown("metric of low_rank", metric, NAMED)
            metric = NAMED[metric]()
        if not isinstance(metric, tuple(NAMED.values())):
            raise OptionError(f"low_rank: metric is a name ({', '.join(NAMED)}), or a dictionary with one and options; "
                              f"got {metric!r}")
        self.components = whole("low_rank: components", components, 1)
        self.rounds = whole("low_rank: rounds", rounds, 1)
        self.metric = metric
        self.dense, self.zero = self.metric.dense, self.metric.zero
        self._refreshed, self._vectors, self._reference = 0, None, None

    def prepare(self, images, grid) -> None:
        """The reconstructions begin anew, with as many components as there are by now."""
        self._vectors = self._reference = None
        self.metric.prepare(images[0], images[0], grid)

    def refresh(self, stack: np.ndarray, weights: np.ndarray) -> None:
        """Reconstruct the images from where they are now."""
        weight, (count, channels) = joint_weight(weights), stack.shape[:2]
        m = min(self.components, 1 + self._refreshed // self.rounds, count - 1)
        self._refreshed += 1
        if self._reference is None:
            self._reference = np.empty_like(stack)
        if self._vectors is None or len(self._vectors[0]) < m:
            self._vectors = [leading(correlations(stack, c, weight)[3], m) for c in range(channels)]
        else:
            self._vectors = [orthogonal_iteration(stack, c, weight, v, ROUNDS) for c, v in enumerate(self._vectors)]
        out = workspace().buffer("reconstruction", (count, *stack.shape[2:]), stack.dtype)
        for c, vectors in enumerate(self._vectors):
            n, mean, inverse = standards(stack, c, weight)
            scores, _ = scored(stack, c, weight, vectors, n, mean, inverse)
            deviation = np.where(inverse > 0, 1 / np.where(inverse > 0, inverse, 1), 0)
            workspace().run(kernels.project, stack.shape[2], scores[:, None], 0, (deviation * vectors).T.copy(), mean,
                            out)
            self._reference[:, c] = out

    def __call__(self, stack: np.ndarray, weights: np.ndarray):
        """Value, and one adjoint per image."""
        if self._reference is None:
            self.refresh(stack, weights)
        value, out, share = 0.0, adjoints_buffer(stack), 1 / len(stack)
        weight = joint_weight(weights)
        for image, reference, into in zip(stack, self._reference, out):
            self.metric.fixed = reference
            one, adjoint = self.metric(image, weight)
            value += share * one
            np.multiply(adjoint, adjoint.dtype.type(share), out=into)
        return float(value), list(out)

"""MIND-SSC: both images are described by their own self-similarity, whatever their contrast, and descriptors compared.

    E = s/(2 n C) sum_x w sum_c (m_c(M) - m_c(F))^2,    n = sum w,    C descriptors (see `descriptors`),
s a constant that brings E to the size of other metrics.

mode "warped": both images are described once per level, along the axes of each that are nearest to the world's, and
what is warped are the descriptors: SSD of C channels. A motion that turns or scales what a patch covers changes
descriptors, which this mode does not see; nor does it see how oblique an image lies.
mode "exact": the warped image is described anew each time, with the derivative through all of it. With q_c =
s w/(n C) (m_c(M) - m_c(F)) m_c(M), f_c = (D_c - least D)/V and V the mean of D,
    dE/dD_c = (-q_c + 1/C sum_s f_s q_s + [D_c least] sum_s q_s) / V,
    dE/dM = sum_c (what the first of each pair gets, less the second) 2 (I(. + a) - I(. + b)) G dE/dD_c,
G the transpose of the mean over patches. The weight that counts pairs is that of both images, so that samples outside a
mask touch neither descriptor.
Source: Heinrich et al., MICCAI 2013, doi:10.1007/978-3-642-40811-3_24.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ..backend import workspace
from ..bounds import whole
from ..descriptors import Patch, describe, distances, limits, padded
from ..errors import unknown
from ..grid import nearest_axes
from ..image import Image
from ..kernels.cpu import descriptors as kernels
from ..kernels.cpu import pointwise
from ..stencil import total
from .base import Metric, adjoint_buffer

MODES = ("warped", "exact")

#: what mean squared differences of descriptors are multiplied by: weights of regularisers that suit the other metrics
#: then suit this one
SIZE = 20

#: share of the curvature of a single sample that remains when its neighbours move along, mode "exact"; from trying
STIFFNESS = 1 / 16


class MIND(Metric):
    """Ten times the mean squared difference of self-similarity descriptors.

    Parameters
    ----------
    mode : {"warped", "exact"}
        Descriptors are warped, or those of the warped image are taken.
    radius : int
        Half the side of the patches, in samples of the level's resolution, at least 1; along coarser axes patches keep
        their size in mm.
    dilation : int
        How far apart from the sample its neighbours are, likewise; at least 1, and one sample at least.
    """

    zero = 1e-9
    symmetric = True  # unless descriptors of the warped image are taken

    def __init__(self, mode: str = "warped", radius: int = 1, dilation: int = 2):
        if mode not in MODES:
            raise unknown("mode of mind", mode, MODES)
        self.mode, self.dense, self.symmetric = mode, mode == "exact", mode == "warped"
        self.radius, self.dilation = whole("mind: radius", radius, 1, 16), whole("mind: dilation", dilation, 1, 16)

    def describe(self, image: Image) -> Image:
        """Descriptors of the image, 12 in space and 4 in the plane; the image itself in mode "exact"."""
        if self.mode == "exact":
            return image
        weight = None if image.weight is None else image.weight3.astype(image.data.dtype, copy=False)
        found = describe(image.data, self._patch(image.grid), weight)
        return Image(found.reshape((len(found), *image.grid.shape)), image.grid, image.weight)

    def prepare(self, fixed: np.ndarray, moving: np.ndarray, grid) -> None:
        """Take the fixed data, and in mode "exact" the limits that V is clamped to."""
        super().prepare(fixed, moving, grid)
        if self.mode == "exact":
            self.patch = self._patch(grid)
            self.limits = [limits(self._distances(data, None, np.empty((len(self.patch.pairs), *data.shape[1:]),
                                                                       data.dtype), None))
                           for data in (fixed, moving)]

    def __call__(self, warped: np.ndarray, weight: np.ndarray):
        """Value and adjoint."""
        self._count = max(total(weight), 1e-12) / SIZE
        if self.mode == "exact":
            return self._exact(warped, weight)
        adjoint = adjoint_buffer(warped)
        scale = 1 / (self._count * len(warped))
        square, = workspace().total(pointwise.residuals, len(weight), 1, self.fixed, warped, weight, scale, adjoint)
        return 0.5 * scale * square, adjoint

    def _exact(self, warped, weight):
        ws, patch = workspace(), self.patch
        shape, dtype = (len(patch.pairs), *weight.shape), warped.dtype
        fixed, moving, count = (ws.buffer(f"mind {name}", shape, dtype) for name in ("fixed", "moving", "count"))
        wide = np.array(weight.shape) + 2 * patch.margin
        there = padded(weight, patch, ws.buffer("mind weight", wide, dtype))
        self._distances(self.fixed, there, fixed, count)
        ws.run(kernels.descriptors, shape[1], *self.limits[0], fixed)
        self._distances(warped, there, moving, count)
        scale = 1 / (self._count * len(fixed))
        self._curvature = ws.buffer("mind curvature", (1, *weight.shape), dtype)
        square, = ws.total(kernels.mismatch, shape[1], 1, fixed, weight, *self.limits[1], scale, STIFFNESS,
                           count, moving, self._curvature[0])
        adjoint, room = adjoint_buffer(warped), ws.buffer("mind image", wide, dtype)
        turned = ws.buffer("scratch", (len(fixed), *(np.array(weight.shape) + 2 * patch.radius)), dtype)
        for channel, out in zip(warped, adjoint):
            image = padded(channel, patch, room)
            ws.run(kernels.spread, turned.shape[1], image, there, patch.first, patch.radius, moving, turned)
            out[...] = 0
            ws.run(kernels.collect, len(out), turned, patch.first, patch.margin, out)
        return 0.5 * scale * square, adjoint

    def curvature(self, warped: np.ndarray, weight: np.ndarray):
        """One channel for all. Weight over its sum (times s), the exact Hessian in warped descriptors; or, of the last
        call in mode "exact", how much a sample of the image changes descriptors around it."""
        if self.mode == "exact":
            return self._curvature, None
        out = workspace().buffer("mind curvature", (1, *weight.shape), weight.dtype)
        np.multiply(weight, weight.dtype.type(1 / (self._count * len(warped))), out=out[0])
        return out, None

    def _distances(self, data, weight, out, count):
        """Distances of all channels (see `descriptors`), summed into `out`."""
        ws = workspace()
        wide = np.array(data.shape[1:]) + 2 * self.patch.margin
        for k, channel in enumerate(data):
            part = ws.buffer("scratch", out.shape, out.dtype) if k else out
            image = padded(channel, self.patch, ws.buffer("mind image", wide, data.dtype))
            distances(image, weight, self.patch, part, count)
            if k:
                np.add(out, part, out=out)
        return out

    def _patch(self, grid) -> Patch:
        """Pairs of neighbours along all axes of a grid, in the order and the directions of the world's axes."""
        samples = grid.resolution / grid.spacing3
        axes, signs = along_world(grid)
        reach = signs * np.maximum(1, np.round(self.dilation * samples)).astype(int)
        radius = np.where(np.array(grid.shape3) > 1, np.round(self.radius * samples), 0).astype(int)
        return Patch.of(axes, reach, radius)


def along_world(grid) -> tuple[list[int], np.ndarray]:
    """The axis of `shape3` nearest to each world axis x, y, z, and whether axes run with theirs or against, (3,).

    So that channels mean the same in images whose axes are flipped or permuted.
    """
    lead, signs = 3 - grid.ndim, np.ones(3, int)
    order, senses = nearest_axes(grid.axes, np.eye(grid.ndim))
    axes = [lead + axis for axis in order]
    signs[axes] = senses
    return axes, signs

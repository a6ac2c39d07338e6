"""The conditional template entropy: how uncertain each image is, given a template that is their first component.

    E = 1/N sum_j H(u_j | T),     T = sum_j e_j Z_j,     Z_j = (u_j - mu_j) / s_j,
    H(u | T) = - sum_ab P(a, b) log(P(a, b) / P_T(b)),   P(a, b) = sum_x c beta(xi(u) - a) beta(xi(T) - b) / sum_x c.

e is the leading eigenvector of the correlation matrix; beta is the cubic B-spline. The images move in P and, together,
in T: with S_j = - log(P_j / P_T), c_j the weight of image j where others are seen (see `xcoreg.py`) and h bin widths,

    dE/du_j = 1/N [c_j / (n_j h_j) sum_ab beta' S_j beta + (e_j / s_j) sum_i c_i / (n_i h_T) sum_ab beta S_i beta'].

e, mu, s and the range of T are latent: a refresh improves e by orthogonal iteration, the first of a level takes it from
the matrix, and e keeps its sign in between (its largest entry is positive at first). An iteration costs a multiple of
N.
Where images are missing, T = (1 + r) / (r + sum w_j e_j^2) sum w_j e_j Z_j, the estimate of the score from those seen,
with r = 1 / N. direction="template|image" is H(T | u_j), S_j = - log(P_j / P_j(a)), which some code takes instead.
A template that leans on few images sees little of other contrasts: start near, or use xcoreg.
H(u_j | T) = H(u_j, T) - H(T) also falls where misaligned images make a template of more entropy: deformable models can
leave a good alignment for it, those of the other direction less.
Source: Polfliet et al., Medical Image Analysis 2018, doi:10.1016/j.media.2018.02.003; what is done where images are
missing is ours.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ...backend import workspace
from ...bounds import whole
from ...errors import unknown
from ...kernels.cpu import gram as kernels
from ...kernels.cpu import histogram_pair
from ..information import bins_of, range_of, table_size, table_slab
from .base import GroupMetric, adjoints_buffer, company, informed_on
from .components import correlations, joint_weight, leading, standards
from .pca import ROUNDS, orthogonal_iteration

#: which is uncertain given which
DIRECTIONS = ("image|template", "template|image")


class CTE(GroupMetric):
    """Mean conditional entropy in nats, over images and channels.

    Parameters
    ----------
    bins : int
        Histogram bins of each image and of the template, 4 to 256.
    direction : {"image|template", "template|image"}
        Which is uncertain given which.
    """

    joint = True

    def __init__(self, bins: int = 32, direction: str = "image|template"):
        self.bins = whole("cte: bins", bins, 4, 256)
        if direction not in DIRECTIONS:
            raise unknown("direction of cte", direction, DIRECTIONS)
        self.direction, self._state = direction, None

    def prepare(self, images, grid) -> None:
        """Fix the bin ranges of the images for the level; the template begins anew."""
        self._places = [[bins_of(range_of(channel), self.bins) for channel in image] for image in images]
        self._state = None

    def refresh(self, stack: np.ndarray, weights: np.ndarray) -> None:
        """Let the template follow the images."""
        weight, before, self._state = joint_weight(weights), self._state, []
        for c in range(stack.shape[1]):
            if before is None:
                vectors = leading(correlations(stack, c, weight)[3], 1)
                vectors *= np.sign(vectors[0, np.argmax(np.abs(vectors[0]))])
            else:
                vectors = orthogonal_iteration(stack, c, weight, before[c][0], ROUNDS)
            _, mean, inverse = standards(stack, c, weight)
            slope = vectors[0] * inverse
            parts = vectors, slope, -slope * mean
            low, high = range_of(self._template(stack, c, weights, parts)[0])
            margin = 0.1 * (high - low)
            self._state.append((*parts, bins_of((low - margin, high + margin), self.bins)))

    def __call__(self, stack: np.ndarray, weights: np.ndarray):
        """Value, and one adjoint per image."""
        if self._state is None:
            self.refresh(stack, weights)
        ws, value, out, alone = workspace(), 0.0, adjoints_buffer(stack), company(weights)
        (count, channels, planes), size = stack.shape[:3], table_size(self.bins)
        share, slab = 1 / (count * channels), table_slab(planes)
        along, total = (ws.buffer(f"template {name}", weights.shape[1:], stack.dtype) for name in ("slope", "adjoint"))
        self._last = [[None] * channels for _ in range(count)]
        for c, parts in enumerate(self._state):
            template, spread = self._template(stack, c, weights, parts)
            total[...] = 0
            for j in range(count):
                origin, scale = np.array([self._places[j][c], parts[3]]).T.copy()
                tables = np.zeros((-(-planes // slab), size, size))
                args = stack[j, c], template, alone[j], origin, scale
                ws.run(histogram_pair.joint_pair, planes, *args, tables, slab=slab)
                table = self._last[j][c] = tables.sum(0)
                found, score, n = self._uncertain(table)
                value += share * found
                ws.run(histogram_pair.joint_pair_adjoint, planes, *args, score * (share / n), out[j, c], along)
                total += along
            ws.run(kernels.add_template, planes, total, spread, c, weights, parts[1], out)
        return float(value), list(out)

    def curvature(self, stack: np.ndarray, weights: np.ndarray):
        """Fisher information on the intensities of each image, given the template, of the last call's tables."""
        turned = [[table.T for table in tables] for tables in self._last]
        return informed_on(stack, weights, turned, self._places)

    def _uncertain(self, table):
        """Of counts (image, template): the conditional entropy, its derivative by the shares, and the total count."""
        n = max(float(table.sum()), 1e-12)
        p = table / n
        given = p.sum(0 if self.direction == DIRECTIONS[0] else 1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            score = np.where(p > 0, -np.log(p / given), 0.0)
        return float((p * score).sum()), score, n

    @staticmethod
    def _template(stack, c, weights, parts):
        """The template, and what the sum over the images is multiplied by in it, (z, y, x) each."""
        vectors, slope, offset, *_ = parts
        out = [workspace().buffer(f"template{name}", weights.shape[1:], stack.dtype) for name in ("", " share")]
        workspace().run(kernels.template, stack.shape[2], stack, c, weights, slope, offset, vectors[0] ** 2,
                        1 / len(stack), *out)
        return out

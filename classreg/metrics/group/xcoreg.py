"""The X-metric: what each image tells of a common anatomy, which is estimated from all of them.

    E = - 1/N sum_j I(U_j; Z),     I(U_j; Z) = sum_bk P_j(b, k) log(P_j(b, k) / (p_j(b) pi_j(k))),
    P_j(b, k) = sum_x c_j beta(xi_j(u_j) - b) gamma_k / sum_x c_j,     c_j = w_j (W - w_j) / (N - 1),
    dE/du_j = - c_j / (N h_j sum_x c_j) sum_k gamma_k sum_b beta'(xi_j(u_j) - b) log(P_j / (p_j pi_j)).

Z is one of K classes at each sample, gamma its posterior. beta is the cubic B-spline, known at `NODES` nodes in a bin
and a quadratic B-spline between them, so that an intensity touches three entries of a small table. The images are
independent given Z, each with densities f_jk = P_j(., k) / pi_k of its own, so each is registered by mutual information
to a soft template that all make together: any mixture of contrasts, and a cost that grows with N, not N^2. gamma is
latent. A refresh is one step of expectation maximisation,

    gamma_k <- softmax_k [log pi_k + log a_k + t sum_j w_j log f_jk(u_j)],   t = min(1, tempering / N),

in the log domain, mixed with a little of the uniform; log f is smoothed by the window and linear between bins. Without
t, several images with noise of their own make gamma binary, and it freezes where they do not fit yet. a_k is an atlas,
or gamma smoothed, or their product, or 1. The first refresh of a level begins from the atlas, or from k-means of some
samples, several times, and keeps the start that is best after ten steps; a class that loses its samples there takes
half of the one with most entropy. With `hold` gamma is the atlas throughout: class maps from elsewhere, to which the
images are registered. c_j, an image's weight where others are seen, keeps a lone image from agreeing with itself. gamma
is held in the gradient, exact at its fixed points.
Source: Luo and Zhuang, IEEE TPAMI 2023, doi:10.1109/TPAMI.2022.3225418; what is not theirs: the start, the tempering,
the look-up, frozen bin ranges, c_j.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from ...backend import workspace
from ...bounds import number, whole
from ...errors import OptionError
from ...image import Image
from ...kernels.cpu import classes as kernels
from ...mapping import Mapping
from ...sampling import sample
from ...stencil import smooth
from ..information import bins_of, range_of, table_size, table_slab
from .base import GroupMetric, adjoints_buffer, company, informed_on
from .clusters import k_means, memberships, thinned

#: least posterior of any class, and least density
LEAST, DENSITY = 1e-3, 1e-8

#: nodes in a bin
NODES = 4

#: steps of a start on some samples, and then on all
TRIED, SETTLED = 10, 3


class XCoReg(GroupMetric):
    """Minus the mean information of the images about the common classes, in nats.

    Parameters
    ----------
    classes : int
        How many, 2 to 64: tissues, background and what lies between them. Fewer than there are tissues blur the
        template, more cost little else than time.
    bins : int
        Histogram bins per image, 4 to 256.
    tempering : float, optional
        How many independent images the posterior takes the evidence of, at most; at least 1. High values make it
        binary, and the motions of a step then small. By default the square root of the number N of intensities per
        sample, and at least 2: between 1, where all images say the same, and N, where none knows of another.
    smoothing : float
        Deviation in mm of the Gaussian that smooths the posterior into a prior; 0 for none.
    restarts : int
        Starts that are tried.
    seed : int
        Of the starts.
    atlas : Image, optional
        Probabilities of the classes in the common space, one channel each (their number is then that of the classes):
        what is more likely where. Nothing is said of samples outside it. It must lie where the images meet: with the
        mean as gauge nothing moves towards it that all images have in common.
    hold : bool
        Whether the posterior stays what the atlas says.

    Raises
    ------
    OptionError
        For options out of bounds, and an atlas with fewer than two channels or negative probabilities.
    """

    def __init__(self, classes: int = 8, bins: int = 32, tempering: float | None = None, smoothing: float = 0.0,
                 restarts: int = 3, seed: int = 0, atlas: Image | None = None, hold: bool = False):
        if atlas is not None:
            if atlas.channels < 2 or not np.min(atlas.data) >= 0:
                raise OptionError(f"xcoreg: an atlas has a channel of probabilities, 0 or more, for each class; this "
                                  f"one has {atlas.channels}, the least value {np.min(atlas.data):g}")
            classes = atlas.channels
        elif hold:
            raise OptionError("xcoreg: hold=True needs an atlas to hold to")
        self.classes, self.restarts = whole("xcoreg: classes", classes, 2, 64), whole("xcoreg: restarts", restarts, 1)
        self.bins = whole("xcoreg: bins", bins, 4, 256)
        self.tempering, self.smoothing = (None if tempering is None else number("xcoreg: tempering", tempering, 1),
                                          number("xcoreg: smoothing", smoothing, 0))
        self.seed, self.atlas, self.hold, self.posterior = seed, atlas, hold, None

    def prepare(self, images, grid) -> None:
        """Fix the bin ranges for the level; the classes begin anew."""
        places = np.array([[bins_of(range_of(channel), self.bins) for channel in image] for image in images])
        self._origins, self._scales = np.ascontiguousarray(places[..., 0]), np.ascontiguousarray(places[..., 1])
        self._window = window(table_size(self.bins))
        self._sigma = self.smoothing / np.asarray(grid.spacing3)
        self.posterior = None
        if self.atlas is not None:
            atlas = self.atlas.with_array(self.atlas.array.astype(images[0].dtype))
            found, seen, _ = sample(atlas, Mapping(np.eye(grid.ndim + 1)), grid, name="atlas")
            sums = found.sum(0)
            known = (seen > 0) & (sums > 0)
            shares = np.where(known, found / np.where(known, sums, 1), 1 / self.classes)
            self._atlas = (LEAST + (1 - self.classes * LEAST) * shares).astype(images[0].dtype)

    def refresh(self, stack: np.ndarray, weights: np.ndarray) -> None:
        """One step of expectation maximisation; the first of a level starts the classes."""
        alone, steps = company(weights), 1
        if self.posterior is None:
            steps = SETTLED
            if self.atlas is not None:
                self.posterior = self._atlas.copy()
            else:
                start = self._start(stack, weights)
                self.posterior = np.empty((self.classes, *weights.shape[1:]), stack.dtype)
                self._expect(stack, weights, start, self.posterior, smoothed=False)
        for _ in range(0 if self.hold else steps):
            self._expect(stack, weights, self._tables(stack, alone, self.posterior), self.posterior)

    def __call__(self, stack: np.ndarray, weights: np.ndarray):
        """Value, and one adjoint per image."""
        if self.posterior is None:
            self.refresh(stack, weights)
        value, out, alone = 0.0, adjoints_buffer(stack), company(weights)
        share, tables = 1 / (stack.shape[0] * stack.shape[1]), self._tables(stack, alone, self.posterior)
        self._last = tables
        for j, c in np.ndindex(stack.shape[:2]):
            found, score, n = informed(tables[j, c])
            value -= share * found
            workspace().run(kernels.class_adjoint, stack.shape[2], stack[j, c], alone[j], self.posterior,
                            *finer(self._origins[j, c], self._scales[j, c]),
                            score @ self._window.T * (-share / n), out[j, c])
        return value, list(out)

    def curvature(self, stack: np.ndarray, weights: np.ndarray):
        """Fisher information on the intensities of each image, given the class, of the last call's tables."""
        return informed_on(stack, weights, self._last, np.stack([self._origins, self._scales], -1))

    def _tables(self, stack, alone, posterior):
        """Weighted counts of classes and bins, (N, C, K, bins)."""
        (nodes, size), slab = self._window.shape, table_slab(stack.shape[2])
        out = np.zeros((*stack.shape[:2], self.classes, size))
        for j, c in np.ndindex(stack.shape[:2]):
            tables = np.zeros((-(-stack.shape[2] // slab), self.classes, nodes))
            workspace().run(kernels.class_histogram, stack.shape[2], stack[j, c], alone[j], posterior,
                            *finer(self._origins[j, c], self._scales[j, c]), tables, slab=slab)
            out[j, c] = tables.sum(0) @ self._window
        return out

    def _expect(self, stack, weights, tables, out, smoothed=True):
        """The posterior of the classes given these tables, into `out`, from which its own smoothing is taken."""
        given = tables.sum(3, keepdims=True)
        logs = np.log(np.maximum(tables / np.maximum(given, 1e-12), DENSITY))
        padded = np.concatenate([logs[..., :1], logs, logs[..., -1:]], -1)
        logs = (padded[..., :-2] + 4 * logs + padded[..., 2:]) / 6
        prior = given.sum((0, 1, 3))
        start = np.log(np.maximum(prior / max(prior.sum(), 1e-12), LEAST))
        near = np.empty((0, 1, 1, 1), out.dtype) if self.atlas is None else self._atlas
        if smoothed and self.smoothing > 0:
            near = smooth(out, self._sigma, workspace().buffer("class prior", out.shape, out.dtype))
            if self.atlas is not None:
                near *= self._atlas
        count = stack.shape[0] * stack.shape[1]
        factor = min(1.0, (self.tempering or max(2.0, np.sqrt(count))) / count)
        workspace().run(kernels.class_posterior, stack.shape[2], stack, weights, self._origins, self._scales, logs,
                        start, near, factor, LEAST, out)

    def _start(self, stack, weights):
        """Tables of the best of several starts on some samples."""
        stack, weights = thinned(stack, weights)
        alone, rng, best = company(weights, "some company"), np.random.default_rng(self.seed), (-np.inf, None)
        for _ in range(self.restarts):
            posterior = memberships(k_means(stack, weights, self.classes, rng), self.classes, stack.dtype)
            for _ in range(TRIED):
                tables = filled(self._tables(stack, alone, posterior))
                self._expect(stack, weights, tables, posterior, smoothed=False)
            tables = self._tables(stack, alone, posterior)
            value = sum(informed(tables[at])[0] for at in np.ndindex(tables.shape[:2]))
            if value > best[0]:
                best = value, tables
        return best[1]


def finer(origin: float, scale: float) -> tuple[float, float]:
    """Origin and scale of positions that count nodes; node n lies at n + 1/2, and bin 1 at 1."""
    return (origin - 1) * NODES + 1, scale * NODES


def window(size: int) -> np.ndarray:
    """The cubic B-spline of each bin at the nodes, (nodes, size): counts at nodes to counts in bins."""
    places = np.clip(1 + (np.arange((size - 3) * NODES + 3) - 0.5) / NODES, 1, size - 2)
    t = np.abs(places[:, None] - np.arange(size))
    return np.where(t < 1, (4 - 6 * t**2 + 3 * t**3) / 6, np.maximum(2 - t, 0) ** 3 / 6)


def informed(table: np.ndarray):
    """Of counts (K, bins): the mutual information in nats, its derivative by the shares, and the total count."""
    n = max(float(table.sum()), 1e-12)
    p = table / n
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(p > 0, np.log(p / (p.sum(1, keepdims=True) * p.sum(0, keepdims=True))), 0.0)
    return float((p * score).sum()), score, n


def filled(tables: np.ndarray) -> np.ndarray:
    """Counts (N, C, K, bins) in which each empty class has taken half of the one with the largest joint entropy.

    It is cut where its widest image has its median; the other images keep their densities on both sides.
    """
    shares = tables.sum((0, 1, 3)) / max(float(tables.sum()), 1e-12)
    for empty in np.flatnonzero(shares < 2 * LEAST):
        f = tables / np.maximum(tables.sum(3, keepdims=True), 1e-12)
        entropy = -np.where(f > 0, f * np.log(np.maximum(f, 1e-300)), 0).sum(3)
        rich = int(np.argmax(shares * entropy.sum((0, 1))))
        at = np.unravel_index(np.argmax(entropy[:, :, rich]), entropy.shape[:2])
        upper = np.cumsum(f[at][rich]) > 0.5
        half = tables[:, :, rich] / 2
        tables[:, :, empty], tables[:, :, rich] = half, half
        whole_one = 2 * half[at]
        tables[at][empty], tables[at][rich] = whole_one * upper, whole_one * ~upper
        shares = tables.sum((0, 1, 3)) / max(float(tables.sum()), 1e-12)
    return tables

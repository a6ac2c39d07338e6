"""The likelihood of the intensities at a sample under a mixture of Gaussians over the images.

    E = - sum_x log sum_k pi_k N(u(x); mu_k, Sigma_k) / (C sum_x sum_j w_j),   u = (u_1, ..., u_N) in R^(N C),
    dE/du = sum_k tau_k Sigma_k^-1 (u - mu_k) / (C sum_x sum_j w_j),           tau_k = pi_k N_k / sum_l pi_l N_l.

Where images are missing the Gaussians are those of the others, with all between for weights below 1 (see
`kernels/cpu/mixture.py`). pi, mu and Sigma are latent: a refresh is one step of expectation maximisation, the first of
a level begins from k-means of some samples. Covariances have 1/1000 of the images' variance added to their diagonals,
or two images could collapse onto each other in a flat region.

Gauss-Newton (Orchard and Mann solve one linear system for all motions) takes, for each image j, sum_k tau_k times the
larger of H_jj and N / (2 (N - 1)) sum_i |H_ij|, H = Sigma_k^-1: a system for each image, that accounts for the others
moving against it and is exact for two of equal variance.

Cost K (N C)^2 per sample: for a few images. Not blind to overlap: mask, or keep the common space covered.
Source: Orchard and Mann, IEEE Transactions on Image Processing 2010, doi:10.1109/TIP.2009.2039371; missing intensities,
start and the bound on H are ours.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...backend import workspace
from ...bounds import whole
from ...kernels.cpu import mixture as kernels
from ...stencil import total
from .base import GroupMetric, adjoints_buffer
from .clusters import k_means, thinned

#: steps of a start on some samples
TRIED = 10

#: share of the images' variance that each covariance has at least, and least share of a class
FLOOR, LEAST = 1e-3, 1e-6


@dataclass(frozen=True, eq=False)
class Mixture:
    """Shares (K,), means (K, M), covariances (K, M, M)."""

    shares: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def arguments(self):
        """As the kernels take it."""
        inverses = np.linalg.inv(self.covariances)
        halves = 0.5 * np.linalg.slogdet(self.covariances)[1]
        return self.means, self.covariances, inverses, np.log(np.maximum(self.shares, LEAST)), halves


class GMM(GroupMetric):
    """Minus the mean log likelihood, in nats per image and channel.

    Parameters
    ----------
    classes : int
        Gaussians, 1 to 64.
    restarts : int
        Starts that are tried.
    seed : int
        Of the starts.
    """

    def __init__(self, classes: int = 5, restarts: int = 3, seed: int = 0):
        self.classes, self.restarts = whole("gmm: classes", classes, 1, 64), whole("gmm: restarts", restarts, 1)
        self.seed, self.mixture = seed, None

    def prepare(self, images, grid) -> None:
        """The mixture begins anew."""
        self.mixture = None

    def refresh(self, stack: np.ndarray, weights: np.ndarray) -> None:
        """One step of expectation maximisation; the first of a level starts the mixture."""
        if self.mixture is None:
            self._start(stack, weights)
        self.mixture = self._improved(stack, weights, self.mixture)[0]

    def __call__(self, stack: np.ndarray, weights: np.ndarray):
        """Value, and one adjoint per image."""
        if self.mixture is None:
            self.refresh(stack, weights)
        out, scale = adjoints_buffer(stack), 1 / (max(total(weights), 1e-12) * stack.shape[1])
        log = workspace().buffer("log likelihood", weights.shape[1:], stack.dtype)
        workspace().run(kernels.mixture_adjoint, stack.shape[2], stack, weights, *self.mixture.arguments(), -scale, log,
                        out)
        known = 0.5 * np.log(2 * np.pi) if scale < 1e9 else 0.0
        return known - total(log) * scale, list(out)

    def curvature(self, stack: np.ndarray, weights: np.ndarray):
        """One per image; nothing to deflate with."""
        out = workspace().buffer("group curvature", stack.shape, stack.dtype)
        scale = 1 / (max(total(weights), 1e-12) * stack.shape[1])
        workspace().run(kernels.mixture_curvature, stack.shape[2], stack, weights, *self.mixture.arguments(), scale,
                        out)
        return list(out), None

    def _improved(self, stack, weights, mixture):
        """After one step, and the log likelihood before it."""
        K, M = mixture.means.shape
        sums = workspace().total(kernels.mixture_moments, stack.shape[2], 1 + K * (1 + M + M * M), stack, weights,
                                 *mixture.arguments())
        log, rest = float(sums[0]), sums[1:].reshape(K, -1)
        n = rest[:, 0]
        some = n > LEAST * max(n.sum(), 1e-12)
        size = np.where(some, n, 1.0)[:, None]
        means = np.where(some[:, None], rest[:, 1:1 + M] / size, mixture.means)
        second = (rest[:, 1 + M:] / size).reshape(K, M, M) - means[:, :, None] * means[:, None]
        second = (second + second.swapaxes(1, 2)) / 2 + self._floor * np.eye(M)
        covariances = np.where(some[:, None, None], second, mixture.covariances)
        return Mixture(n / max(n.sum(), 1e-12), means, covariances), log

    def _start(self, stack, weights):
        """The best of several starts on some samples."""
        stack, weights = thinned(stack, weights)
        count, channels = stack.shape[:2]
        values = stack.reshape(count * channels, -1).astype(np.float64)
        w = np.repeat(weights.reshape(count, -1).astype(np.float64), channels, 0)
        rng, best = np.random.default_rng(self.seed), -np.inf

        def described(inside):
            n = np.maximum(inside.sum(1), 1e-12)
            mean = (inside * values).sum(1) / n
            return mean, (inside * (values - mean[:, None]) ** 2).sum(1) / n

        self._floor = FLOOR * max(float(described(w)[1].mean()), FLOOR)
        for _ in range(self.restarts):
            labels = k_means(stack, weights, self.classes, rng).ravel()
            parts = [described(w * (labels == k)) for k in range(self.classes)]
            shares = np.bincount(labels, minlength=self.classes) / labels.size
            mixture = Mixture(shares, np.stack([mean for mean, _ in parts]),
                              np.stack([np.diag(variance + self._floor) for _, variance in parts]))
            for _ in range(TRIED):
                mixture, log = self._improved(stack, weights, mixture)
            if log > best:
                best, self.mixture = log, mixture

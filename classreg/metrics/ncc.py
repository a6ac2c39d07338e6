"""Normalised cross correlation over the whole image:  E = 1 - rho.

With f = F - mean F, m = M - mean M (weighted):  rho = <f, m> / (|f| |m|),
    d rho / d M = w (f / (|f| |m|) - rho m / |m|^2).

Gauss-Newton takes E = 1/2 | m/|m| - f/|f| |^2, the distance of two unit vectors: curvature w / |m|^2, less the two
directions that normalisation removes (the mean and m itself).

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np

from .base import Metric, adjoint_buffer, centred, combine, moments, unit_curvature


class NCC(Metric):
    """One minus the correlation, mean over channels."""

    zero = 1e-9
    symmetric = True

    def __call__(self, warped: np.ndarray, weight: np.ndarray):
        """Value and adjoint; a constant image has correlation 0 and no force."""
        value, adjoint, k = 0.0, adjoint_buffer(warped), len(warped)
        for f, m, out in zip(self.fixed, warped, adjoint):
            n, mean_f, mean_m, ff, mm, fm = centred(moments(f, m, weight))
            if min(ff, mm) <= 1e-9 * n or n <= 0:
                value += 1 / k
                out[...] = 0
                continue
            rho = fm / np.sqrt(ff * mm)
            value += (1 - rho) / k
            a, b = -1 / (k * np.sqrt(ff * mm)), rho / (k * mm)
            combine(f, m, weight, a, b, -a * mean_f - b * mean_m, out)
        return value, adjoint

    def curvature(self, warped: np.ndarray, weight: np.ndarray):
        """Curvature (C, z, y, x), and what to deflate with: per channel its mean and m itself, (2 C * C, z, y, x)."""
        return unit_curvature(self.fixed, warped, weight)

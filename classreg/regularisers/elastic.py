"""Linear elasticity: the mean energy density of a material with the Lame constants mu and lambda (no unit).

    mean of  mu / 4 |grad u + grad u^T|^2 + lambda / 2 (div u)^2

Constants and, to first order, rotations cost nothing. In terms of D[a, k], the derivative of component k along array
axis a, and P = E^-1 (see `transforms/slopes.py`), half of

    sum C[ak, bl] D[a, k] D[b, l],   C = mu (delta_kl (P P^T)_ab + P_al P_bk) + lambda P_ak P_bl,

so components may lie in world axes and derivatives along any grid's. With `sigma` it smooths: the semi-implicit step

    (1 - s (mu Laplacian + (mu + lambda) grad div))^-1,    s = sigma^2 / 2,

of what is left of the field without its mean, under a border along which things slide: beside the mean no displacement
across it, no slope of what runs along it. Then the component along an axis is a sum of sines along that axis and of
cosines along the others, grad div keeps waves apart, and what is left is a d x d matrix per wave, 1 + s mu |k|^2 +
s (mu + lambda) k k^T. Axes of a sheared grid are taken as orthogonal. Broit, 1981; Christensen et al., IEEE TIP 1996,
doi:10.1109/83.536892, for the border.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn, dst, idctn, idst

from ..backend import workspace
from ..bounds import number
from ..grid import Grid
from ..image import Image
from ..kernels.cpu import filters
from ..kernels.cpu import slopes as kernels
from ..stencil import total
from .base import Energy, cosine_filter
from .quadratic import VALUE, long_axes, quadratic


class Elastic(Energy):
    """The linear elastic energy, times `weight`; or with `sigma`, the filter.

    Parameters
    ----------
    weight : float
    shear, dilation : float
        mu and lambda; with a dilation of 0 volume changes as easily as shape.
    where : Image, optional
        How much it counts at each place.
    sigma : float, optional
        Smooth with this width in units of the level's resolution instead of costing: shear waves are damped as by a
        Gaussian of sqrt(mu) sigma, compression waves as by one of sqrt(2 mu + lambda) sigma.
    acts_on : {"displacement", "velocity", "update"}
    """

    quadratic = True

    def __init__(self, weight: float = 1.0, shear: float = 1.0, dilation: float = 0.5, where: Image | None = None,
                 sigma: float | None = None, acts_on: str = "displacement"):
        super().__init__(weight, where, sigma, acts_on)
        self.shear, self.dilation = number("elastic: shear", shear, 0), number("elastic: dilation", dilation, 0)

    def __call__(self, theta: np.ndarray, read) -> tuple[float, np.ndarray]:
        """Value and gradient in the coefficients."""
        mu, lam = self.weight * self.shear, self.weight * self.dilation
        if self.reads == "slopes":
            return read.density(theta, kernels.quadratic, 0.0, mu, lam,
                                where=self.weights(read, theta.dtype), name=self.name)
        axes, d = long_axes(theta), len(theta)
        p = np.linalg.inv(read.frame)
        p[np.abs(p) < 1e-9] = 0
        terms = []
        for a in axes:
            for b in axes:
                orders = {a: (1, 1)} if a == b else {a: (1, 0), b: (0, 1)}
                orders = tuple(orders.get(i, VALUE) for i in range(3))
                pa, pb = p[a - 3 + d], p[b - 3 + d]
                c = mu * (np.eye(d) * np.sum(pa * pb) + np.outer(pb, pa)) + lam * np.outer(pa, pb)
                terms += [(c[k, l], orders, k, l) for k in range(d) for l in range(d) if c[k, l] != 0]
        return quadratic(theta, read, terms, self.name)

    def smooth(self, field: np.ndarray, grid: Grid, out: np.ndarray) -> np.ndarray:
        """Vectors (d, z, y, x) on `grid`, or several images' in turn, smoothed into `out`; one number per sample, (1,
        z, y, x), as by `diffusion`, without borders that hold it."""
        if len(field) == 1:
            return cosine_filter(field, grid, self.sigma * np.sqrt(self.shear), 1, out)
        d, ws, strength = grid.ndim, workspace(), (self.sigma * grid.resolution) ** 2 / 2
        if strength == 0:
            np.copyto(out, field)
            return out
        axes = grid.affine[:d, :d] / grid.spacing
        to_axes = np.ascontiguousarray(np.linalg.inv(axes))
        numbers = [2 * np.sin(np.pi * np.arange(n + 1) / (2 * n)) / h if n > 1 else np.zeros(1)
                   for n, h in zip(grid.shape3, grid.spacing3)]
        for vectors, waves in zip(field.reshape(-1, d, *grid.shape3), out.reshape(-1, d, *grid.shape3)):
            mean = np.array([total(component) for component in vectors]) / vectors[0].size
            ws.run(filters.rotate, grid.shape3[0], vectors, to_axes, -(to_axes * mean).sum(1), waves)
            for k, part in enumerate(waves):
                into_waves(part, 3 - d + k, ws.threads)
            ws.run(filters.damp_elastic, len(numbers[0]), waves, *numbers, strength * self.shear,
                   strength * (self.shear + self.dilation))
            for k, part in enumerate(waves):
                into_waves(part, 3 - d + k, ws.threads, back=True)
            ws.run(filters.rotate, grid.shape3[0], waves, axes, mean, waves)
        return out


def into_waves(part: np.ndarray, own: int, threads: int, back: bool = False) -> None:
    """A component (z, y, x) in place: sines along axis `own`, cosines along the others; one-sample axes are left."""
    cosine, sine = (idctn, idst) if back else (dctn, dst)
    axes = tuple(k for k in range(3) if part.shape[k] > 1 and k != own)
    found = cosine(part, axes=axes, norm="ortho", overwrite_x=True, workers=threads) if axes else part
    if part.shape[own] > 1:
        found = sine(found, axis=own, norm="ortho", overwrite_x=True, workers=threads)
    if found is not part:
        np.copyto(part, found)

"""The Gauss-Newton matrix of an additive deformation, as an operator: no entry of it is stored.

    H v = P^T T (P v) - sum_k b_k (b_k . v) + R v,     T = sum over channels of h g g^T,

P takes a step to displacements (`transform.spread`) and P^T back (`gather`), T is a d x d tensor per voxel from the
metric's curvature h and the slopes g of the warped image, b_k the directions that the metric deflates, R the Hessian of
the quadratic regularisers; the others (barriers) have none here. A product costs a pass of the transform there and
back and one gradient of each regulariser, and nothing of the images.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

import numpy as np

from .backend import workspace
from .kernels.cpu import dense
from .regularisers import is_energy
from .stencil import add_scaled, dot


class Hessian:
    """See the module; `gradient` and `diagonal` are like theta, the latter without what is deflated.

    Valid until the next evaluation is asked for its own.
    """

    def __init__(self, objective, theta, phi_back, img_back, gradient, curvature, deflate):
        ws, d, channels = workspace(), len(theta), img_back.image.channels
        self._objective, self._at = objective, objective.at
        self.gradient, self.diagonal = (ws.buffer(f"hessian {k}", theta.shape, theta.dtype) for k in (0, 1))
        np.copyto(self.gradient, gradient)
        self._quadratics = [r for r in objective.regularisers if is_energy(r) and getattr(r, "quadratic", False)]
        self._deflated = []
        if deflate is not None:
            for v in deflate.reshape(-1, channels, *curvature.shape[1:]):
                self._deflated.append(phi_back(img_back, v).copy())
        self._tensor = ws.buffer("hessian tensor", (d * (d + 1) // 2, *curvature.shape[1:]), curvature.dtype)
        for c in range(channels):
            h = curvature[c if len(curvature) > 1 else 0]
            ws.run(dense.tensor, len(h), img_back.slope(c), h, c == 0, self._tensor)
        self._fill_diagonal(theta)

    def times(self, v: np.ndarray, out: np.ndarray) -> np.ndarray:
        """H v into `out`, which is not v."""
        transform, ws = self._objective.transform, workspace()
        u = transform.spread(v, self._at)
        force = ws.buffer("force", u.shape, u.dtype)
        ws.run(dense.multiply, u.shape[1], self._tensor, u, force)
        np.copyto(out, transform.gather(force, self._at, v))
        for b in self._deflated:
            add_scaled(out, -dot(b, v), b, out)
        for g in self._stiffness(v):
            add_scaled(out, 1.0, g, out)
        return out

    def _stiffness(self, v):
        """R v, regulariser by regulariser."""
        for r in self._quadratics:
            yield r(v, getattr(self._objective.transform, r.reads)(v, self._at))[1]

    def _fill_diagonal(self, theta):
        """Exact for the metric; that of R is taken to be everywhere what it is in the middle."""
        d, ws = len(theta), workspace()
        squares = ws.buffer("force", (d, *self._tensor.shape[1:]), self._tensor.dtype)
        for k, entry in enumerate((0, 2) if d == 2 else (0, 3, 5)):
            np.copyto(squares[k], self._tensor[entry])
        np.copyto(self.diagonal, self._objective.transform.gather(squares, self._at, theta, squared=True))
        unit, middle = ws.buffer("hessian unit", theta.shape, theta.dtype), tuple(n // 2 for n in theta.shape[1:])
        for k in range(d):
            unit[...] = 0
            unit[(k, *middle)] = 1
            for g in self._stiffness(unit):
                self.diagonal[k] += g[(k, *middle)]

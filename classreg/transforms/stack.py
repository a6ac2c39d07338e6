"""A group of images that all move to a common space, by one model each, and the gauge that keeps the space in place.

    x -> phi_1(x), ..., phi_N(x),     sum over j of theta_j = 0

If all phi_j were preceded by one more map, a metric of the stack would hardly notice: the mean of the parameters
(displacement, velocity, control points, coordinates of a logarithm) is taken out of the gradient and of every step.
The parameters of the images follow each other along the first axis, so that regularisers, filters and optimisers treat
N images as they treat one. Source: Balci et al., MICCAI workshop 2007; Metz et al., Medical Image Analysis 2011,
doi:10.1016/j.media.2010.10.003.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

import numpy as np

from ..mapping import Mapping


class Stack:
    """N models of one kind in a gauge.

    Parameters
    ----------
    models : sequence
        One transform per image, all on the template grid; steps are added to their parameters (dense fields that are
        not compositive, B-splines, velocities, affine and translation).
    """

    def __init__(self, models):
        self.models = list(models)
        first = self.models[0]
        for name in ("grid", "acts_on", "compositive", "grams"):
            if hasattr(first, name):
                setattr(self, name, getattr(first, name))

    def parts(self, theta: np.ndarray) -> np.ndarray:
        """The parameters of each image, (N, ...), as views."""
        return theta.reshape(len(self.models), -1, *theta.shape[1:])

    def identity(self) -> np.ndarray:
        """Parameters of the identity, for all."""
        return np.concatenate([model.identity() for model in self.models])

    def refine(self, theta: np.ndarray, grid) -> np.ndarray:
        """Each for the next level's grid."""
        return np.concatenate([model.refine(part, grid) for model, part in zip(self.models, self.parts(theta))])

    def forward(self, theta: np.ndarray, at):
        """The mappings in turn, and their way back to a step of all parameters."""
        backs = []

        def mappings():
            for model, part in zip(self.models, self.parts(theta)):
                phi, back = model.forward(part, at)
                backs.append(back)
                # the next model may write where this one's field lies, which the way back still reads
                yield phi if phi.field is None else Mapping(phi.matrix, phi.field.copy(), phi.grid)

        return mappings(), StackBack(self, backs)

    def centred(self, theta: np.ndarray) -> np.ndarray:
        """Theta without the mean over the images, in place."""
        parts = self.parts(theta)
        parts -= parts.mean(0)
        return theta

    def retract(self, theta: np.ndarray, step: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Theta moved by a step, less what all images have in common; into `out` if given."""
        pairs = zip(self.models, self.parts(theta), self.parts(step))
        moved = [model.retract(part, move) for model, part, move in pairs]
        return self.centred(np.concatenate(moved, out=out))

    def reach(self, step: np.ndarray) -> float:
        """Longest motion of any image, mm."""
        return max(model.reach(part) for model, part in zip(self.models, self.parts(step)))


class StackBack:
    """To a step of every image, in the gauge."""

    def __init__(self, stack: Stack, backs: list):
        self.stack, self.backs = stack, backs

    def __call__(self, image_backs, adjoints):
        """d value / d step, the mean over the images taken out."""
        found = [back(image, adjoint).copy() for back, image, adjoint in zip(self.backs, image_backs, adjoints)]
        return self.stack.centred(np.concatenate(found))

    def normal(self, image_backs, adjoints, curvatures, deflate):
        """Forces of all images in the gauge, then their diagonals; and the diagonals' typical value."""
        found, typical = [], []
        for back, image, adjoint, curvature in zip(self.backs, image_backs, adjoints, curvatures):
            out, size = back.normal(image, adjoint, curvature, None)
            found.append(out.copy())
            typical.append(size)
        forces = self.stack.centred(np.concatenate([f[:-1] for f in found]))
        return np.concatenate([forces, *(f[-1:] for f in found)]), float(np.mean(typical))

"""A group of images that all move to a common space, by one model each, and the gauge that keeps the space in place.

    x -> phi_1(x), ..., phi_N(x),     sum over j of theta_j = 0,     or phi_k = id for one k

If all phi_j were preceded by one more map, a metric of the stack would hardly notice: the mean of the parameters
(displacement, velocity, control points, coordinates of a logarithm) is taken out of the gradient and of every step,
or one image is held still. Where steps are composed, the displacements come out with a mean m again: all are preceded
by id - m, which changes no way from image to image, and what little mean is left then is taken off. The parameters of
the images follow each other along the first axis, so that filters and optimisers treat N images as they treat one.
Source: Balci et al., MICCAI workshop 2007; Metz et al., Medical Image Analysis 2011, doi:10.1016/j.media.2010.10.003.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..backend import workspace
from ..errors import InputError
from ..grid import lift, lower
from ..mapping import Mapping
from .log_linear import exponential, logarithm

#: largest entry of the mean logarithm, in mm or shares, below which a group of matrices counts as centred
CENTRED = 1e-10

#: the same, up to which it is rounding where no further step is found
ROUNDING = 1e-5

#: step towards the mean at which the search for it is given up, to begin from another place
LEAST = 1e-3

#: how often a group is mended; the second half of the rounds shrink it
ROUNDS = 40


class Stack:
    """N models of one kind in a gauge.

    Parameters
    ----------
    models : sequence
        One transform per image, all on the template grid.
    still : int, optional
        The image that does not move; by default all do, and nothing moves on average.
    """

    def __init__(self, models, still: int | None = None):
        self.models, self.still = list(models), still
        first = self.models[0]
        for name in ("grid", "acts_on", "compositive", "grams", "tangent"):
            if hasattr(first, name):
                setattr(self, name, getattr(first, name))
        self._composes = getattr(first, "compositive", False) and first.acts_on == "displacement"
        # whose way back reads buffers of the way there: those of each image must be others
        self._apart = hasattr(first, "velocity") or getattr(first, "gradient", "") == "exact"

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
        """The mappings in turn, each before the next is asked for, and their way back to a step of all parameters."""
        backs, ws = [], workspace()

        def mappings():
            for k, (model, part) in enumerate(zip(self.models, self.parts(theta))):
                if self._apart:
                    with ws.named(f"image {k} "):
                        phi, back = model.forward(part, at)
                else:
                    phi, back = model.forward(part, at)
                    phi = self._kept(phi, theta, k)
                backs.append(back)
                yield phi

        return mappings(), StackBack(self, backs)

    def _kept(self, phi: Mapping, theta: np.ndarray, k: int) -> Mapping:
        """A mapping that the next model does not write over, where the way back still reads its field."""
        if phi.field is None or getattr(self, "compositive", False) or np.may_share_memory(phi.field, theta):
            return phi
        field = workspace().buffer(f"field of image {k}", phi.field.shape, phi.field.dtype)
        np.copyto(field, phi.field)
        return Mapping(phi.matrix, field, phi.grid)

    def centred(self, theta: np.ndarray) -> np.ndarray:
        """Theta without the mean over the images, or without the motion of the one that is still; in place."""
        parts = self.parts(theta)
        if self.still is not None:
            parts[self.still] = 0
            return theta
        mean = self._mean(parts)
        for part in parts:
            part -= mean
        return theta

    @staticmethod
    def _mean(parts: np.ndarray) -> np.ndarray:
        """Over the images; in a buffer."""
        mean = workspace().buffer("stack mean", parts.shape[1:], parts.dtype)
        np.copyto(mean, parts[0])
        for part in parts[1:]:
            mean += part
        mean /= parts.dtype.type(len(parts))
        return mean

    def mended(self, theta: np.ndarray, mend) -> np.ndarray:
        """The parameters of each image after `mend(part, model)`, in the gauge.

        To mend one image moves the mean, and to take that out may break another: after some rounds all are shrunk
        towards the identity in between.
        """
        for k in range(ROUNDS):
            parts = [mend(part, model) for part, model in zip(self.parts(theta), self.models)]
            if all(part is before or np.array_equal(part, before) for part, before in zip(parts, self.parts(theta))):
                break
            theta = self.centred(np.concatenate(parts))
            if k >= ROUNDS // 2:
                theta *= theta.dtype.type(0.8)
        return theta

    def retract(self, theta: np.ndarray, step: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Theta after a step, less what all images have in common; into `out` if given."""
        out = np.empty_like(theta) if out is None else out
        if not self._composes:
            return self.centred(np.add(theta, step, out=out))
        for model, *each in zip(self.models, *map(self.parts, (theta, step, out))):
            model.retract(*each)
        if self.still is None:
            parts = self.parts(out)
            common, before = self._mean(parts), workspace().buffer("stack before", parts.shape[1:], out.dtype)
            np.negative(common, out=common)
            for model, part in zip(self.models, parts):
                np.copyto(before, part)
                model.retract(before, common, part)
        return self.centred(out)

    def to_tangent(self, theta: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """A gradient in the parameters, turned to that in a step; in place."""
        for model, part, g in zip(self.models, self.parts(theta), self.parts(gradient)) if self._composes else ():
            np.copyto(g, model.to_tangent(part, g, workspace().buffer("stack before", g.shape, g.dtype)))
        return gradient

    def reach(self, step: np.ndarray) -> float:
        """Longest motion of any image, mm."""
        return max(model.reach(part) for model, part in zip(self.models, self.parts(step)))


class StackBack:
    """To a step of every image, in the gauge."""

    def __init__(self, stack: Stack, backs: list):
        self.stack, self.backs = stack, backs

    def __call__(self, image_backs, adjoints):
        """d value / d step, the mean over the images taken out; in a buffer."""
        out = None
        for k, (back, image, adjoint) in enumerate(zip(self.backs, image_backs, adjoints, strict=True)):
            found = back(image, adjoint)
            if out is None:
                shape = (len(self.backs) * len(found), *found.shape[1:])
                out = workspace().buffer("stack gradient", shape, found.dtype)
            out[k * len(found):(k + 1) * len(found)] = found
        return self.stack.centred(out)

    def normal(self, image_backs, adjoints, curvatures, deflate):
        """Forces of all images in the gauge, then their diagonals; and the diagonals' typical value; in a buffer.

        Of linear models, the gradient in the gauge and the Gauss-Newton matrix of all parameters.
        """
        if hasattr(self.stack, "tangent"):
            parts = zip(self.backs, image_backs, adjoints, curvatures, strict=True)
            return self._together(*zip(*(back.normal(image, *rest, deflate) for back, image, *rest in parts)))
        out, typical, count = None, [], len(self.backs)
        for k, each in enumerate(zip(self.backs, image_backs, adjoints, curvatures, strict=True)):
            back, image, adjoint, curvature = each
            found, size = back.normal(image, adjoint, curvature, None)
            d = len(found) - 1
            if out is None:
                out = workspace().buffer("stack normal", (count * (d + 1), *found.shape[1:]), found.dtype)
            out[k * d:(k + 1) * d] = found[:d]
            out[count * d + k] = found[d]
            typical.append(size)
        self.stack.centred(out[:count * d])
        return out, float(np.mean(typical))

    def _together(self, gradients, matrices):
        """A system of all images whose solution keeps the gauge: what they have in common has a matrix of its own."""
        count, p = len(gradients), len(gradients[0])
        h, common, still = np.zeros((count, p, count, p)), sum(matrices) / count, self.stack.still
        for k, matrix in enumerate(matrices):
            h[k, :, k] = matrix
        if still is None:
            h -= h.mean(0, keepdims=True)
            h -= h.mean(2, keepdims=True)
            h += common[None, :, None] / count
        else:
            h[still, :, still] = common
        return self.stack.centred(np.concatenate(gradients)), h.reshape(count * p, count * p)


def centred_matrices(matrices: Sequence[np.ndarray], still: int | None = None) -> list[np.ndarray]:
    """World matrices (d + 1, d + 1) after one more map of the common space, A_j B, so that they are in the gauge.

    B is the inverse of the one that is to be still, or such that the logarithms of all sum to zero: the Karcher mean
    taken out, A_j <- A_j exp(-mean of log A_j), until nothing is left.

    Raises
    ------
    InputError
        Where a matrix has no real logarithm: it mirrors, or turns by 180 degrees against all; and where they lie about
        so widely that no mean is found.
    """
    d, out = len(matrices[0]) - 1, [lift(m) for m in matrices]
    if still is not None:
        back = np.linalg.inv(out[still])
        moved = [_affine(m @ back, d) for m in out]
        moved[still] = np.eye(d + 1)
        return moved
    for back in (np.eye(4), *map(np.linalg.inv, out)):  # seen from where they are, and from each of them
        found, left = _settled([m @ back for m in out])
        if left <= ROUNDING:
            return [_affine(m, d) for m in found]
    for m in out:  # one without a logarithm is named
        logarithm(m)
    raise InputError("the images begin turned so widely against each other that there is no mean of their motions: "
                     "hold one still with gauge=, or begin closer with init=")


def _settled(matrices) -> tuple[list[np.ndarray], float]:
    """Lifted matrices from which their mean was taken until no step makes it smaller, and its largest entry."""
    out, mean, pace = matrices, _mean(matrices), 1.0
    while mean is not None and np.abs(mean).max() > CENTRED and pace > LEAST:
        moved = [m @ exponential(-pace * mean)[0] for m in out]
        after = _mean(moved)
        if after is not None and np.abs(after).max() < np.abs(mean).max():
            out, mean, pace = moved, after, min(1.0, 2 * pace)
        else:
            pace /= 2
    return out, np.inf if mean is None else float(np.abs(mean).max())


def _affine(matrix: np.ndarray, d: int) -> np.ndarray:
    """A product of lifted matrices (4, 4) as a world matrix, its last row without what rounding left there."""
    out = lower(matrix, d)
    out[d] = np.eye(d + 1)[d]
    return out


def _mean(matrices) -> np.ndarray | None:
    """The mean logarithm; None where there is none."""
    try:
        return sum(logarithm(m) for m in matrices) / len(matrices)
    except InputError:
        return None

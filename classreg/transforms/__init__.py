"""Transforms: parameters -> mapping, and the way back. One protocol:

    identity()                        parameters of the identity
    forward(theta, at)                (Mapping on at, back); back(image_back, adjoint) is the gradient in the tangent
    refine(theta, grid)               the same transform for the next level's grid
    fit(field, grid)                  deformable ones: parameters of a displacement in mm on a grid
    retract(theta, step)              theta moved by a tangent step
    reach(step)                       about how far a step moves a point, mm
    grams(theta, at)                  per axis, Gram matrices of derivatives 0, 1, 2 (deformable ones, for regularisers)
"""

from .bspline import BSpline
from .dense import Dense
from .halves import Halves, LinearHalves
from .linear import Linear
from .velocity import Velocity

TRANSFORMS = {"linear": Linear, "bspline": BSpline, "dense": Dense, "velocity": Velocity}

#: of two images that both move to a template: `forward` gives two mappings, from the template to either
PAIRED = {"halves": Halves, "linear_halves": LinearHalves}

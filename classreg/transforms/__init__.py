"""Transforms: parameters -> mapping, and the way back. One protocol:

    identity()                        parameters of the identity
    forward(theta, at)                (Mapping on at, back); back(image_back, adjoint) is the gradient in the tangent,
                                      back.normal(image_back, adjoint, curvature, deflate) that and the Gauss-Newton
                                      matrix (linear ones) or its diagonal (dense ones)
    refine(theta, grid)               the same transform for the next level's grid
    fit(field, grid)                  deformable ones: parameters of a displacement in mm on a grid
    retract(theta, step, out=)        theta moved by a tangent step; dense ones write into `out` if given
    reach(step)                       about how far a step moves a point, mm
    scatters                          whether forward has a way back at points (False where it does not say)
    spread(step, at)                  additive deformations: the displacement in mm that a step adds at the samples
    gather(force, at, like, squared)  its transpose, for parameters like others, or that of its squared entries
  and deformable ones, for regularisers and priors:
    displacement(theta)               coefficients of u (theta itself, unless that is a velocity)
    grams(c, at)                      along each axis, Gram matrices of derivatives of coefficients c, see `grams.py`
    slopes(c, at)                     their derivatives at points, and the way back, see `slopes.py`
    to_tangent(u, gradient, out)      of those that compose: a gradient in u, turned into the tangent
    folded(theta)                     splines: control points around folds
    flow(theta, at), inverse(...)     velocities: what points do that follow them, and the transform back
    stationary(theta)                 velocities: samples of v, and the grid that they lie on
"""

from .bspline import BSpline
from .dense import Dense
from .halves import Halves, LinearHalves
from .linear import Linear
from .log_linear import LogLinear
from .polyaffine import Polyaffine
from .velocity import Velocity

TRANSFORMS = {"linear": Linear, "polyaffine": Polyaffine, "bspline": BSpline, "dense": Dense, "velocity": Velocity}

#: of two images that both move to a template: `forward` gives two mappings, from the template to either
PAIRED = {"halves": Halves, "linear_halves": LinearHalves}

#: of a group of images that all move to a common space, one each (see `stack.py`)
GROUPED = {"log_linear": LogLinear, "bspline": BSpline, "dense": Dense, "velocity": Velocity}

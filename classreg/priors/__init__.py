"""Priors: what is known about the transform beside the two images, added to the objective. One protocol:

    __call__(theta, transform) -> (value, gradient)   the gradient in the tangent of `retract`; None for zero
    prepare(grid, dtype)                              optional: told the fixed grid of a level before it begins
    needs                                             optional: functions that the transform must have

All are pure numbers, so their weights mean the same for every image. Points, label maps and masks are in world space.
Adding one is a file and a line in `PRIORS`.
"""

from .labels import Labels
from .landmarks import Landmarks
from .rigidity import Rigidity
from .singular_values import SingularValues

PRIORS = {"landmarks": Landmarks, "labels": Labels, "singular_values": SingularValues, "rigidity": Rigidity}

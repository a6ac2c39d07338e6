"""Contract checks: does a part keep its protocol? For the library's own parts and for those from outside.

    check.metric(make)         make() -> metric
    check.group_metric(make)   make() -> metric of a stack
    check.transform(make)      make(grid) -> transform
    check.regulariser(make)    make() -> regulariser
    check.prior(make)          make(fixed, moving) -> prior
    check.optimiser(make)      make() -> optimiser

Each returns None, or raises AssertionError with what broke and the numbers. All is tried in 2-D and 3-D, in
float64, on oblique, anisotropic, off-origin grids, on images without a dark border (`scene`). Gradients are
held against central differences at two step sizes: at the small one alone, an adjoint passes that misses what
happens at the border.

Must not import: cli, plot, report.
"""

from .groups import group_metric, stack_of
from .metrics import metric
from .optimisers import optimiser
from .priors import prior
from .regularisers import regulariser
from .scenes import COMPOSITIVE_STEPS, SHIFT, STEPS, scene
from .transforms import transform

__all__ = ["metric", "group_metric", "transform", "regulariser", "prior", "optimiser", "scene", "stack_of", "SHIFT",
           "STEPS", "COMPOSITIVE_STEPS"]

"""Metrics: warped image -> number, always minimised. One protocol:

    describe(image)                   what is warped instead of the image (default: the image); before `prepare`
    prepare(fixed, moving, grid)      sees the data of a level, once; nothing of phi
    take(fixed)                       the fixed data at other samples, where these are drawn; ranges stay
    __call__(warped, weight)          (value, adjoint), adjoint = d value / d warped, (channels, z, y, x)
    zero                              the value up to which images count as identical
    pair(a, b, weight_a, weight_b)    (value, adjoint of a, adjoint of b), where `symmetric`: both images move
    pair_curvature(...)               the curvature in each of the two
    curvature(warped, weight)         for Gauss-Newton: (curvature, deflate), see `optimisers/gauss_newton.py`,
                                      and `hessian.py` for deformations; the curvature has as many channels as
                                      `warped`, or one for all of them

Arrays are (channels, z, y, x), weights (z, y, x). A metric knows nothing of positions. Adding one is a file and a line
in `METRICS`.
"""

from .composite import Composite
from .information import MutualInformation, NormalisedMutualInformation
from .lncc import LNCC
from .mind import MIND
from .ncc import NCC
from .ngf import NGF
from .ratio import CorrelationRatio
from .sad import SAD
from .ssd import SSD

METRICS = {"ssd": SSD, "sad": SAD, "ncc": NCC, "lncc": LNCC, "mi": MutualInformation,
           "nmi": NormalisedMutualInformation, "cr": CorrelationRatio, "ngf": NGF, "mind": MIND, "composite": Composite}

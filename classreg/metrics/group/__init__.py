"""Metrics of a stack of warped images, all of which move: always minimised. One protocol:

    describe(image)                   what is warped instead of the image
    prepare(images, grid)             sees the data of a level, one array (channels, z, y, x) per image, once
    refresh(stack, weights)           optional: renews a latent state (a template, classes, a choice of pairs); called
                                      before the first evaluation of a level and between steps, never within one
    __call__(stack, weights)          (value, adjoints), one adjoint (channels, z, y, x) per image
    curvature(stack, weights)         optional, for Gauss-Newton: (one curvature per image, None)
    zero                              the value up to which images count as identical
    joint                             optional, True where only samples that all images see count

`stack` is (N, channels, z, y, x), `weights` (N, z, y, x): each image carries its own, 0 where it is missing. Values are
means over the images, whatever their number: where regularisers are sums over the images, weigh them by 1 / N. A latent
state is that of the last refresh, and values compare until the next one; an evaluation before any makes the first.
Which image is called first makes no difference. Adding one is a file and a line in `GROUP_METRICS`.
"""

from .all_pairs import AllPairs
from .congealing import Congealing
from .correlation import Correlation
from .cte import CTE
from .gmm import GMM
from .low_rank import LowRank
from .pca import PCA
from .pca2 import PCA2
from .total_correlation import TotalCorrelation
from .variance import Variance
from .xcoreg import XCoReg

GROUP_METRICS = {"variance": Variance, "xcoreg": XCoReg, "ape": AllPairs, "cte": CTE, "gmm": GMM, "pca": PCA,
                 "pca2": PCA2, "low_rank": LowRank, "congealing": Congealing, "correlation": Correlation,
                 "total_correlation": TotalCorrelation}

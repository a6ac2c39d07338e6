"""Metrics of a stack of warped images, all of which move: always minimised. One protocol:

    describe(image)                   what is warped instead of the image
    prepare(images, grid)             sees the data of a level, one array (channels, z, y, x) per image, once
    __call__(stack, weights)          (value, adjoints), one adjoint (channels, z, y, x) per image
    curvature(stack, weights)         for Gauss-Newton: (one curvature per image, None)
    zero                              the value up to which images count as identical

`stack` is (N, channels, z, y, x), `weights` (N, z, y, x).
"""

from .all_pairs import AllPairs

GROUP_METRICS = {"all_pairs": AllPairs}

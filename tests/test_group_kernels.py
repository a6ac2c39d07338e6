"""The kernels of metrics of a stack against their definitions in `kernels/reference`; see `test_kernels`."""

from __future__ import annotations

import numpy as np
import pytest
from test_kernels import DIMENSIONS, DTYPES, close, run, smooth_noise, tolerance, total

from classreg.kernels import reference
from classreg.kernels.cpu import stack as kernels

COUNT = pytest.mark.parametrize("count, channels", [(2, 1), (3, 2), (5, 1)])
SHAPES = {2: (1, 130, 70), 3: (37, 23, 25)}


def scene(ndim, dtype, count, channels):
    """Images that resemble each other, weights of which some samples have none, and some all."""
    rng, shape = np.random.default_rng(count), SHAPES[ndim]
    base = smooth_noise(rng, shape, dtype)
    stack = np.stack([[base + smooth_noise(rng, shape, dtype) for _ in range(channels)] for _ in range(count)])
    weights = np.clip(rng.uniform(-0.3, 1.3, (count, *shape)), 0, 1).astype(dtype)
    weights[..., 2] = 0
    return stack.astype(dtype), weights


@DTYPES
@DIMENSIONS
@COUNT
def test_variation(ndim, dtype, count, channels):
    stack, weights = scene(ndim, dtype, count, channels)
    n = stack.shape[2]
    close(total(kernels.variation, n, 2, stack, weights, slab=8), reference.variation(stack, weights), tolerance(dtype))
    out, = run(kernels.variation_adjoint, n, stack, weights, 0.3, outs=(stack,), slab=8)
    close(out, reference.variation_adjoint(stack, weights, 0.3), tolerance(dtype))

"""The kernels of metrics of a stack against their definitions in `kernels/reference`; see `test_kernels`."""

from __future__ import annotations

import numpy as np
import pytest
from test_kernels import DIMENSIONS, DTYPES, close, run, smooth_noise, tolerance, total
from test_metric_kernels import summing

from classreg.kernels import reference
from classreg.kernels.cpu import classes
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


@DTYPES
@DIMENSIONS
@COUNT
def test_company(ndim, dtype, count, channels):
    stack, weights = scene(ndim, dtype, count, channels)
    out, = run(kernels.company, stack.shape[2], weights, outs=(weights,), slab=8)
    close(out, reference.company(weights), tolerance(dtype))


@DTYPES
@DIMENSIONS
@pytest.mark.parametrize("prior", [True, False])
def test_classes(ndim, dtype, prior):
    stack, weights = scene(ndim, dtype, 3, 2)
    rng, n, bins = np.random.default_rng(9), stack.shape[2], 20
    posterior = rng.dirichlet(np.ones(4), weights.shape[1:]).astype(dtype)
    posterior = np.ascontiguousarray(np.moveaxis(posterior, -1, 0))
    origin, scale = 9.5, 3.5  # some intensities lie beyond the table
    args = (stack[0, 0], weights[0], posterior, origin, scale)
    tables, = run(summing(classes.class_histogram), n, *args, outs=(np.zeros((-(-n // 8), 4, bins)),), slab=8)
    close(tables.sum(0), reference.class_histogram(*args, bins), tolerance(dtype))
    score = rng.standard_normal((4, bins))
    out, = run(classes.class_adjoint, n, *args, score, outs=(stack[0, 0],), slab=8)
    close(out, reference.class_adjoint(*args, score), tolerance(dtype, 3))
    spatial = posterior if prior else np.empty((0, 1, 1, 1), dtype)
    origins, scales = rng.uniform(9, 10, (3, 2)), rng.uniform(2, 4, (3, 2))
    args = (stack, weights, origins, scales, rng.standard_normal((3, 2, 4, bins)), np.log([0.1, 0.2, 0.3, 0.4]),
            spatial, 0.7, 1e-3)
    out, = run(classes.class_posterior, n, *args, outs=(posterior,), slab=8)
    close(out, reference.class_posterior(*args), tolerance(dtype, 3))

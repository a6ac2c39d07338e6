"""The kernels of metrics of a stack against their definitions in `kernels/reference`; see `test_kernels`."""

from __future__ import annotations

import numpy as np
import pytest
from test_kernels import DIMENSIONS, DTYPES, close, run, smooth_noise, tolerance, total
from test_metric_kernels import summing

from classreg.kernels import reference
from classreg.kernels.cpu import classes, gram, mixture
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
def test_dispersion(ndim, dtype, count, channels):
    stack, weights = scene(ndim, dtype, count, channels)
    n = stack.shape[2]
    found = total(kernels.dispersion, n, 2, stack, weights, slab=8)
    close(found, reference.dispersion(stack, weights), tolerance(dtype))
    out, = run(kernels.dispersion_adjoint, n, stack, weights, 0.3, outs=(stack,), slab=8)
    close(out, reference.dispersion_adjoint(stack, weights, 0.3), tolerance(dtype))


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


@DTYPES
@DIMENSIONS
@COUNT
def test_products_and_combinations(ndim, dtype, count, channels):
    stack, weights = scene(ndim, dtype, count, channels)
    rng, n, c = np.random.default_rng(3), stack.shape[2], channels - 1
    weight, = run(gram.together, n, weights, outs=(weights[0],), slab=8)
    close(weight, reference.together(weights), tolerance(dtype))
    for name, width in (("sizes", 1 + 2 * count), ("gram", 1 + count + count * (count + 1) // 2)):
        close(total(getattr(gram, name), n, width, stack, c, weight, slab=8),
              getattr(reference, name)(stack, c, weight), tolerance(dtype))
    matrix, offset = rng.standard_normal((count, count)), rng.standard_normal(count)
    out, = run(gram.mix, n, stack, c, weight, matrix, offset, outs=(stack,), slab=8)
    close(out[:, c], reference.mix(stack, c, weight, matrix, offset), tolerance(dtype))
    scores, = run(gram.project, n, stack, c, matrix[:2], offset[:2], outs=(stack[:2, 0],), slab=8)
    close(scores, reference.project(stack, c, matrix[:2], offset[:2]), tolerance(dtype))
    close(total(gram.products, n, 2 * count, scores, stack, c, weight, slab=8),
          reference.products(scores, stack, c, weight), tolerance(dtype))
    args = (scores, stack, c, weight, matrix[:, :2].copy(), offset, offset[::-1].copy())
    out, = run(gram.unproject, n, *args, outs=(stack,), slab=8)
    close(out[:, c], reference.unproject(*args), tolerance(dtype))


@DTYPES
@DIMENSIONS
@COUNT
def test_template(ndim, dtype, count, channels):
    stack, weights = scene(ndim, dtype, count, channels)
    rng, n, c = np.random.default_rng(4), stack.shape[2], channels - 1
    slope, offset = rng.standard_normal(count), rng.standard_normal(count)
    args = (stack, c, weights, slope, offset, slope**2, 0.3)
    out, share = run(gram.template, n, *args, outs=(stack[0, 0], stack[0, 0]), slab=8)
    for found, wanted in zip((out, share), reference.template(*args)):
        close(found, wanted, tolerance(dtype))

    def begun(z0, z1, k, *rest):
        rest[-1][:, c, z0:z1] = 0  # `run` fills outputs with NaN, this one is added to
        gram.add_template(z0, z1, k, *rest)

    found, = run(begun, n, stack[0, 0], share, c, weights, slope, outs=(stack,), slab=8)
    close(found[:, c], reference.add_template(stack[0, 0], share, c, weights, slope), tolerance(dtype))


@DTYPES
@DIMENSIONS
@COUNT
def test_surprise(ndim, dtype, count, channels):
    stack, weights = scene(ndim, dtype, count, channels)
    lone, n = reference.company(weights).astype(dtype), stack.shape[2]
    args = (stack, weights, lone, 0.8)
    out, = run(kernels.surprise, n, *args, outs=(weights[0],), slab=8)
    close(out, reference.surprise(*args), tolerance(dtype, 3))
    out, = run(kernels.surprise_adjoint, n, *args, 0.2, outs=(stack,), slab=8)
    close(out, reference.surprise_adjoint(*args, 0.2), tolerance(dtype, 3))


@DTYPES
@pytest.mark.parametrize("ndim, count, channels", [(2, 2, 1), (3, 3, 1), (2, 2, 2)])
def test_mixture(ndim, dtype, count, channels):
    stack, weights = scene(ndim, dtype, count, channels)
    weights[:, :, 3:] = np.where(weights[:, :, 3:] > 0.2, 1, 0)  # most are whole, some missing, some between
    rng, n, m = np.random.default_rng(6), stack.shape[2], count * channels
    roots = rng.standard_normal((3, m, m))
    covariances = roots @ roots.swapaxes(1, 2) + 0.3 * np.eye(m)
    args = (stack, weights, rng.standard_normal((3, m)), covariances, np.linalg.inv(covariances),
            np.log([0.2, 0.3, 0.5]), 0.5 * np.linalg.slogdet(covariances)[1])
    log, out = run(mixture.mixture_adjoint, n, *args, 0.2, outs=(weights[0], stack), slab=8)
    for found, wanted in zip((log, out), reference.mixture_adjoint(*args, 0.2)):
        close(found, wanted, tolerance(dtype, 30))
    out, = run(mixture.mixture_curvature, n, *args, 0.2, outs=(stack,), slab=8)
    close(out, reference.mixture_curvature(*args, 0.2), tolerance(dtype, 30))
    sums = total(mixture.mixture_moments, n, 1 + 3 * (1 + m + m * m), *args, slab=8)
    close(sums, reference.mixture_moments(*args), tolerance(dtype, 30))

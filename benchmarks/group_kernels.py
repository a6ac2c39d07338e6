"""The kernels of metrics of a stack, as `kernels.py` measures them: four images of one channel, four classes."""

from __future__ import annotations

import numpy as np

from classreg.kernels.cpu import classes, gram, mixture, stack

IMAGES, CLASSES, BINS, NODES = 4, 4, 36, 135


def stacks(image, weight, sums):
    """(kernel, note, range of its work items, slab, arguments); `sums(n, slab, width)` makes room for sums."""
    rng, z = np.random.default_rng(2), len(image)
    images = np.stack([np.roll(image, k, axis=2) for k in range(IMAGES)])[:, None]
    weights, out, slab = np.stack([weight] * IMAGES), np.zeros((IMAGES, 1, *image.shape), np.float32), max(1, z // 32)
    one, two = out[0, 0], out[1, 0]
    lone = np.ones_like(weights)
    yield stack.dispersion, "", z, 16, (images, weights, sums(z, 16, 2))
    yield stack.dispersion_adjoint, "", z, 16, (images, weights, 0.5, out)
    yield stack.company, "", z, 16, (weights, np.empty_like(weights))
    yield stack.surprise, "", z, 16, (images, weights, lone, 0.8, one)
    yield stack.surprise_adjoint, "", z, 16, (images, weights, lone, 0.8, 0.5, out)

    posterior = np.full((CLASSES, *image.shape), 1 / CLASSES, np.float32)
    tables, score = np.zeros((-(-z // slab), CLASSES, NODES)), np.ones((CLASSES, NODES))
    of_one = (image, weight, posterior, NODES / 2, 12.0)
    yield classes.class_histogram, "", z, slab, (*of_one, tables)
    yield classes.class_adjoint, "", z, 16, (*of_one, score, one)
    yield classes.class_posterior, "", z, 16, (
        images, weights, np.full((IMAGES, 1), 18.0), np.full((IMAGES, 1), 3.0),
        np.ones((IMAGES, 1, CLASSES, BINS)), np.zeros(CLASSES), np.empty((0, 1, 1, 1), np.float32), 1.0, 1e-3,
        posterior)

    matrix, offset = rng.standard_normal((IMAGES, IMAGES)), np.zeros(IMAGES)
    scores = np.zeros((2, *image.shape), np.float32)
    yield gram.together, "", z, 16, (weights, one)
    yield gram.sizes, "", z, 16, (images, 0, weight, sums(z, 16, 1 + 2 * IMAGES))
    yield gram.gram, "", z, 16, (images, 0, weight, sums(z, 16, 1 + IMAGES + IMAGES * (IMAGES + 1) // 2))
    yield gram.mix, "", z, 16, (images, 0, weight, matrix, offset, out)
    yield gram.project, "two components", z, 16, (images, 0, matrix[:2], offset[:2], scores)
    yield gram.products, "two components", z, 16, (scores, images, 0, weight, sums(z, 16, 2 * IMAGES))
    yield gram.unproject, "two components", z, 16, (scores, images, 0, weight, matrix[:, :2].copy(), offset, offset,
                                                       out)
    yield gram.template, "", z, 16, (images, 0, weights, offset, offset, offset, 0.3, one, two)
    yield gram.add_template, "", z, 16, (one, two, 0, weights, offset, out)

    same = np.stack([np.eye(IMAGES)] * CLASSES)
    model = (images, weights, np.zeros((CLASSES, IMAGES)), same, same, np.zeros(CLASSES), np.zeros(CLASSES))
    yield mixture.mixture_adjoint, "", z, 16, (*model, 0.5, one, out)
    yield mixture.mixture_curvature, "", z, 16, (*model, 0.5, out)
    yield mixture.mixture_moments, "", z, 16, (*model, sums(z, 16, 1 + CLASSES * (1 + IMAGES + IMAGES**2)))

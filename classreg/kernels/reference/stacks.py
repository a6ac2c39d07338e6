"""What metrics of a stack (N, C, z, y, x) with weights (N, z, y, x) are made of.

Must not import: anything above floor 0, numba.
"""

from __future__ import annotations

import numpy as np


def _mean(stack, weights):
    """Weighted mean over the images, (C, z, y, x), and the sum of the weights, (z, y, x)."""
    w = weights.astype(float)[:, None]
    count = w.sum(0)
    return (w * stack).sum(0) / np.where(count > 0, count, 1), count[0]


def dispersion(stack, weights):
    """Sums of w_j (u_j - mean)^2 over images and channels, and of W - sum w_j^2 / W, W the sum of the weights."""
    w, (mean, count) = weights.astype(float), _mean(stack, weights)
    free = count - (w**2).sum(0) / np.where(count > 0, count, 1)
    return np.array([(w[:, None] * (stack - mean) ** 2).sum(), free.sum()])


def dispersion_adjoint(stack, weights, scale):
    """scale * w_j (u_j - mean)."""
    return scale * weights.astype(float)[:, None] * (stack - _mean(stack, weights)[0])


def company(weights):
    """w_j (W - w_j) / (N - 1)."""
    w = weights.astype(float)
    return w * (w.sum(0) - w) / (len(w) - 1)


def parabolas(xi, bins):
    """Quadratic B-spline windows of positions, around the middle of each bin, and their derivatives, (n, bins) each."""
    q = np.clip(xi.ravel(), 1.0, bins - 2.0001)[:, None]
    t = q - np.arange(bins) - 0.5
    a = np.abs(t)
    value = np.where(a < 0.5, 0.75 - a**2, np.maximum(1.5 - a, 0) ** 2 / 2)
    slope = np.where(a < 0.5, -2 * t, -np.sign(t) * np.maximum(1.5 - a, 0))
    return value, slope * (q == xi.ravel()[:, None])


def class_histogram(image, weight, posterior, origin, scale, bins):
    """sum over samples of weight * posterior_k * window(image)_b, (K, bins)."""
    window = parabolas(origin + scale * image.astype(float), bins)[0]
    return (weight * posterior.astype(float)).reshape(len(posterior), -1) @ window


def class_adjoint(image, weight, posterior, origin, scale, score):
    """weight * scale * sum over k of posterior_k * sum over b of window'(image)_b * score[k, b]."""
    slopes = parabolas(origin + scale * image.astype(float), score.shape[1])[1]
    given = (score @ slopes.T).reshape(posterior.shape)
    return scale * weight.astype(float) * (posterior * given).sum(0)


def class_posterior(stack, weights, origins, scales, tables, start, spatial, factor, least):
    """least + (1 - K least) softmax of start + log spatial + factor * weighted tables at the intensities."""
    K, bins = tables.shape[2:]
    log = np.zeros((K, *weights.shape[1:])) + start[:, None, None, None]
    if len(spatial):
        log += np.log(np.maximum(spatial.astype(float), 1e-8))
    for j, c in np.ndindex(stack.shape[:2]):
        at = np.clip(origins[j, c] + scales[j, c] * stack[j, c].astype(float), 1.0, bins - 2.0001)
        for k in range(K):
            log[k] += factor * weights[j] * np.interp(at, np.arange(bins), tables[j, c, k])
    p = np.exp(log - log.max(0))
    return least + (1 - K * least) * p / p.sum(0)


def together(weights):
    """The product of the weights."""
    return weights.astype(float).prod(0)


def sizes(stack, c, weight):
    """Weighted sums of 1, of each image and of its square."""
    u = stack[:, c].astype(float)
    return np.concatenate([[weight.sum(dtype=float)], (weight * u).sum((1, 2, 3)), (weight * u**2).sum((1, 2, 3))])


def gram(stack, c, weight):
    """Weighted sums of 1, of each image, and of the products of image i with images 0 to i."""
    u = stack[:, c].reshape(len(stack), -1).astype(float)
    w = weight.astype(float).ravel()
    return np.concatenate([[w.sum()], u @ w, ((u * w) @ u.T)[np.tril_indices(len(u))]])


def mix(stack, c, weight, matrix, offset):
    """weight * (matrix u + offset), (N, z, y, x)."""
    return weight * (np.tensordot(matrix, stack[:, c].astype(float), 1) + offset[:, None, None, None])


def project(stack, c, matrix, offset):
    """matrix u + offset, (m, z, y, x)."""
    return np.tensordot(matrix, stack[:, c].astype(float), 1) + offset[:, None, None, None]


def products(scores, stack, c, weight):
    """Weighted sums of scores_i u_j, flat."""
    return np.einsum("izyx,jzyx,zyx->ij", scores.astype(float), stack[:, c].astype(float), weight).ravel()


def unproject(scores, stack, c, weight, matrix, own, offset):
    """weight * (matrix scores + own u + offset), (N, z, y, x)."""
    across = [a[:, None, None, None] for a in (own, offset)]
    return weight * (np.tensordot(matrix, scores.astype(float), 1) + across[0] * stack[:, c] + across[1])


def template(stack, c, weights, slope, offset, size, ridge):
    """(share * sum of w (slope u + offset), share), share = (1 + ridge) / (ridge + sum of w size)."""
    w = weights.astype(float)
    share = (1 + ridge) / (ridge + np.tensordot(size, w, 1))
    return share * (np.tensordot(slope, w * stack[:, c], 1) + np.tensordot(offset, w, 1)), share


def add_template(adjoint, share, c, weights, slope):
    """What is added to each image: adjoint * share * w slope."""
    return slope[:, None, None, None] * (weights * (adjoint.astype(float) * share))


def _windows(stack, weights, lone, over):
    """exp(-over |u_i - u_j|^2), (N, N, z, y, x), and the share of each image's sum in its weight, c_i / q_i."""
    u = stack.astype(float)
    near = np.exp(-over * ((u[:, None] - u[None]) ** 2).sum(2))
    total = (near * weights).sum(1)
    return near, np.where(lone > 0, lone / np.where(total > 0, total, 1), 0), total


def surprise(stack, weights, lone, over):
    """sum over i of c_i log(W / q_i)."""
    _, _, total = _windows(stack, weights, lone, over)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lone > 0, lone * np.log(weights.astype(float).sum(0) / total), 0).sum(0)


def surprise_adjoint(stack, weights, lone, over, scale):
    """scale * sum over j of window (u_i - u_j) (c_i w_j / q_i + c_j w_i / q_j)."""
    near, share, _ = _windows(stack, weights, lone, over)
    both = near * (share[:, None] * weights[None] + share[None] * weights[:, None])
    return scale * (both[:, :, None] * (stack[:, None].astype(float) - stack[None])).sum(1)


def _mixture(stack, weights, means, covariances, starts):
    """Samples with a weight, and for each of them: log shares, log likelihood, s A^-1 s r, s A^-1 s, per class."""
    w = np.repeat(weights.reshape(len(weights), -1).astype(float), stack.shape[1], 0).T
    u = stack.reshape(w.shape[1], -1).astype(float).T
    keep = w.sum(1) > 0
    w, u = w[keep], u[keep]
    s = np.sqrt(w)
    a = s[:, None, :, None] * covariances * s[:, None, None] + np.eye(w.shape[1]) * (1 - w)[:, None, None]
    inverse = s[:, None, :, None] * np.linalg.inv(a) * s[:, None, None]
    r = u[:, None] - means
    g = (inverse @ r[..., None])[..., 0]
    logs = starts - 0.5 * np.linalg.slogdet(a)[1] - 0.5 * (g * r).sum(-1)
    log = np.logaddexp.reduce(logs, 1)
    return keep, u, np.exp(logs - log[:, None]), log, g, inverse


def _laid(values, keep, stack):
    """Values (samples, M) of the samples with a weight back as (N, C, z, y, x), 0 elsewhere."""
    out = np.zeros((keep.size, values.shape[1]))
    out[keep] = values
    return out.T.reshape(stack.shape)


def mixture_adjoint(stack, weights, means, covariances, inverses, starts, halves, scale):
    """(log likelihood of each sample, scale * its derivative)."""
    keep, _, shares, log, g, _ = _mixture(stack, weights, means, covariances, starts)
    out = np.zeros(keep.size)
    out[keep] = log
    return out.reshape(weights.shape[1:]), _laid(-scale * (shares[..., None] * g).sum(1), keep, stack)


def mixture_curvature(stack, weights, means, covariances, inverses, starts, halves, scale):
    """scale * sum over classes of shares times max(H_ii, N / (2 (N - 1)) sum_j |H_ij|)."""
    keep, _, shares, _, _, inverse = _mixture(stack, weights, means, covariances, starts)
    count = len(stack)
    rows = count / (2 * (count - 1)) * np.abs(inverse).sum(-1)
    h = np.maximum(np.abs(np.diagonal(inverse, axis1=2, axis2=3)), rows)
    return _laid(scale * (shares[..., None] * h).sum(1), keep, stack)


def mixture_moments(stack, weights, means, covariances, inverses, starts, halves):
    """Log likelihood, then of each class the sums of p, p v and p (v v^T + V); see the kernel."""
    _, _, shares, log, g, inverse = _mixture(stack, weights, means, covariances, starts)
    v = means + (covariances @ g[..., None])[..., 0]
    rest = covariances - covariances @ inverse @ covariances
    second = (shares[..., None, None] * (v[..., None] * v[..., None, :] + rest)).sum(0)
    classes = [[[shares[:, k].sum()], (shares[:, k, None] * v[:, k]).sum(0), second[k].ravel()]
               for k in range(len(means))]
    return np.concatenate([[log.sum()], *(part for parts in classes for part in parts)])

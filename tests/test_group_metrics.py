"""Metrics of a stack: the contract, invariances, missing data, and what each is by its definition."""

from __future__ import annotations

import numpy as np
import pytest

from classreg import backend, check
from classreg.backend import Workspace
from classreg.metrics.group import GROUP_METRICS, AllPairs, Variance

EVERY = pytest.mark.parametrize("name", GROUP_METRICS)


#: options of those that would take long
QUICK = {"gmm": dict(classes=2, restarts=1), "xcoreg": dict(restarts=2)}


def made(name):
    return GROUP_METRICS[name](**QUICK.get(name, {}))


@EVERY
def test_contract(name):
    check.group_metric(lambda: made(name))


@EVERY
def test_the_same_bits_for_any_number_of_threads(name, monkeypatch):
    monkeypatch.setattr(backend, "SMALL", 1)
    stack, weights, grid = check.stack_of(3, 2, 3, np.float32)
    found = set()
    for threads in (1, 2, 3):
        with Workspace(threads):
            metric = made(name)
            metric.prepare(list(stack), grid)
            for _ in range(2):
                if hasattr(metric, "refresh"):
                    metric.refresh(stack, weights)
            value, adjoints = metric(stack, weights)
            found.add((value, np.stack(adjoints).tobytes()))
    assert len(found) == 1


def test_variance_is_the_mean_variance_and_a_lone_image_does_not_agree():
    stack, _, _ = check.stack_of(2, 2, 4)
    ones = np.ones((4, *stack.shape[2:]))
    assert Variance()(stack, ones)[0] == pytest.approx(stack.var(axis=0).mean(), rel=1e-12)
    half = stack.shape[-1] // 2
    ones[1:, ..., :half] = 0  # only the first image is seen there
    value, adjoints = Variance()(stack, ones)
    assert value == pytest.approx(stack[..., half:].var(axis=0).mean(), rel=1e-12)
    assert not np.any(adjoints[0][..., :half])
    assert Variance()(stack, ones)[0] > Variance.zero >= Variance()(np.repeat(stack[:1], 4, 0), ones)[0]


def test_many_pairs_are_drawn_evenly_and_average_to_all():
    stack, weights, grid = check.stack_of(2, 1, 12)
    every, some = AllPairs("ssd", cycles=6), AllPairs("ssd", cycles=1)
    for metric in (every, some):
        metric.prepare(list(stack), grid)
    assert len(every._pairs) == 66 and not hasattr(every, "refresh"), "nothing latent"
    values, first = [], None
    for _ in range(60):
        some.refresh(stack, weights)
        drawn = [pair[:2] for pair in some._pairs]
        assert np.bincount(np.ravel(drawn), minlength=12).tolist() == [2] * 12
        first = first or drawn
        values.append(some(stack, weights)[0])
    assert drawn != first
    assert np.mean(values) == pytest.approx(every(stack, weights)[0], abs=3 * np.std(values) / 60**0.5)
    again = AllPairs("ssd", cycles=1)
    again.prepare(list(stack), grid)
    again.refresh(stack, weights)
    assert [pair[:2] for pair in again._pairs] == first

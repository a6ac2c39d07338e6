"""Optimisers on arrays of another library: one that refuses to become a NumPy array goes the way of NumPy's."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from classreg.backend import Workspace
from classreg.optimisers import LBFGS, Adam, Descent, NewtonCG


class Foreign(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that answers to NumPy's functions and never becomes a NumPy array by itself, as CuPy's."""

    def __init__(self, array):
        self.held = np.asarray(array)

    shape, size, dtype = (property(lambda self, name=name: getattr(self.held, name)) for name in
                          ("shape", "size", "dtype"))

    def __array__(self, *args, **kwargs):
        raise TypeError("this array is on another device")

    def _call(self, function, args, kwargs):
        def inner(a):
            if isinstance(a, np.ndarray) and a.ndim:
                raise TypeError(f"{function.__name__} mixes arrays of two devices")
            return a.held if isinstance(a, Foreign) else tuple(map(inner, a)) if isinstance(a, tuple) else a

        found = function(*map(inner, args), **{k: inner(v) for k, v in kwargs.items()})
        out = kwargs.get("out", (None,))[0]
        return None if found is None else out if out is not None else Foreign(found)

    def __array_ufunc__(self, ufunc, method, *args, **kwargs):
        return self._call(getattr(ufunc, method), args, kwargs)

    def __array_function__(self, function, types, args, kwargs):
        return self._call(function, args, kwargs)

    def __setitem__(self, key, value):
        self.held[key] = value.held if isinstance(value, Foreign) else value

    def __float__(self):
        return float(self.held)

    def __bool__(self):
        return bool(self.held)

    def copy(self):
        return Foreign(self.held.copy())

    def max(self):
        return Foreign(self.held.max())


class Quartic:
    """sum c (theta - t)^2 / 2 + (theta - t)^4 / 4, with as much of an objective's protocol as optimisers use."""

    grid, epoch = SimpleNamespace(resolution=1.0), 0
    transform = SimpleNamespace(retract=lambda theta, step: theta + step,
                                reach=lambda step: float(np.sqrt((step * step).max())))

    def __init__(self, c, t):
        self.c, self.t = c, t

    def __call__(self, theta, hold=False):
        r = theta - self.t
        bend = self.c + 3 * r * r

        def times(v, out):
            np.multiply(bend, v, out=out)

        gradient = self.c * r + r * r * r
        value = float(np.sum(self.c * r * r / 2 + r * r * r * r / 4))
        hessian = SimpleNamespace(gradient=gradient.copy(), diagonal=bend.copy(), times=times)
        return SimpleNamespace(value=value, terms={"metric": value}, gradient=gradient, hessian=hessian)

    def renew(self, evaluation):
        return evaluation


@pytest.mark.parametrize("make", [LBFGS, Descent, Adam, NewtonCG])
def test_arrays_of_another_library_go_the_same_way(make):
    rng = np.random.default_rng(0)
    c, t, theta = rng.uniform(0.1, 9, (2, 3, 4, 5)), rng.normal(size=(2, 3, 4, 5)), np.zeros((2, 3, 4, 5))
    ways = []
    for kind in (np.array, Foreign):
        with Workspace(2):
            part, objective, at = make(), Quartic(kind(c), kind(t)), kind(theta)
            state, way = part.init(objective, at), []
            for _ in range(12):
                at = part.step(objective, at, state)
                assert type(at) is type(kind(theta)) and type(state.best) is type(at)
                way.append(np.array(getattr(at, "held", at)))
                if state.done:
                    break
            ways.append((way, state.value, state.done))
    (one, value, done), (other, again, ended) = ways
    assert len(one) == len(other) and done == ended and again == pytest.approx(value, rel=1e-9)
    assert np.array(other) == pytest.approx(np.array(one), rel=1e-9, abs=1e-12)
    assert value < 0.2 * Quartic(c, t)(theta).value
    with pytest.raises(TypeError, match="on another device"):
        np.asarray(Foreign(c))

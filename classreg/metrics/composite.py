"""A weighted sum of metrics, each on channels of its own:  E = sum_k weight_k E_k(channels_k).

For pairs of several modalities (a T1 channel by local correlation, a T2 channel by mutual information), or for two
views of the same channels. Adjoints are added channel by channel; the curvature is the weighted sum of the parts',
where every part has one. Parts write into buffers of their own.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np

from ..backend import workspace
from ..errors import OptionError, unknown
from ..image import Image
from ..kernels.cpu import pointwise
from .base import Metric, adjoint_buffer
from .information import MutualInformation
from .lncc import LNCC

#: the parts where none are given, each on all channels
DEFAULT = {"lncc": LNCC, "mi": MutualInformation}

#: what a part may say
KEYS = ("metric", "channels", "weight")

#: values per slab of a sum of flat arrays
SLAB = 1 << 18


class Composite(Metric):
    """The sum of metrics times their weights.

    Parameters
    ----------
    parts : sequence of dict, optional
        Each with `metric` (as a name with options in plans, a metric here), `channels` (whole numbers from 0, all by
        default) and `weight` (above 0, 1 by default). Without parts: lncc and mi of all channels.
    """

    dense, symmetric = True, True  # without parts; otherwise as they say

    def __init__(self, parts: Sequence[dict] | None = None):
        parts = [{"metric": make()} for make in DEFAULT.values()] if parts is None else parts
        if not isinstance(parts, (list, tuple)) or not parts:
            raise OptionError(f"composite: parts must be a list of at least one part, such as {{'metric': {{'name': "
                              f"'mi'}}, 'channels': [0], 'weight': 1.0}}; got {parts!r}")
        self.metrics, self.channels, self.weights = zip(*(_checked(part, k) for k, part in enumerate(parts)))
        self.dense, self.symmetric = any(m.dense for m in self.metrics), all(m.symmetric for m in self.metrics)
        self.zero = sum(w * m.zero for m, w in zip(self.metrics, self.weights))
        if all(hasattr(m, "curvature") for m in self.metrics):
            self.curvature = self._curvature
        self._places = None

    def check_channels(self, count: int) -> None:
        """Raise OptionError if a part asks for channels beyond those of an image."""
        for k, (metric, channels) in enumerate(zip(self.metrics, self.channels)):
            if channels is not None and max(channels) >= count:
                raise OptionError(f"composite, part {k}: channels {list(channels)} of an image with {count}; they "
                                  f"count from 0 to {count - 1}")
            if hasattr(metric, "check_channels"):
                metric.check_channels(count if channels is None else len(channels))

    def describe(self, image: Image) -> Image:
        """The channels as they are, if a part takes them so, and then those that parts describe them by."""
        self.check_channels(image.channels)
        stack = image.array.reshape(image.channels, *image.grid.shape)
        found = []
        for metric, channels in zip(self.metrics, self.channels):
            own = image if channels is None else Image(stack[list(channels)], image.grid, image.weight)
            seen = metric.describe(own)
            found.append(None if seen is own else seen)
        plain = image.channels if None in found else 0
        self._places, at = [], plain
        for channels, seen in zip(self.channels, found):
            count = 0 if seen is None else seen.channels
            self._places.append(_listed(channels, plain) if seen is None else list(range(at, at + count)))
            at += count
        described = [seen for seen in found if seen is not None]
        if not described:
            return image
        arrays = [stack[:plain], *(seen.array.reshape(-1, *image.grid.shape) for seen in described)]
        weights = [w for w in (image.weight, *(seen.weight for seen in described)) if w is not None]
        return Image(np.concatenate(arrays), image.grid, np.minimum.reduce(weights) if weights else None)

    def prepare(self, fixed: np.ndarray, moving: np.ndarray, grid) -> None:
        """Give each part its channels."""
        if self._places is None:  # nothing was described
            self._places = [_listed(channels, len(fixed)) for channels in self.channels]
        self.fixed = fixed
        for metric, places in zip(self.metrics, self._places):
            metric.prepare(fixed[_index(places)], moving[_index(places)], grid)

    def take(self, fixed: np.ndarray) -> None:
        """Give each part its channels at other samples."""
        self.fixed = fixed
        for metric, places in zip(self.metrics, self._places):
            metric.take(fixed[_index(places)])

    def __call__(self, warped: np.ndarray, weight: np.ndarray):
        """Value and adjoint."""
        ws, value, adjoint = workspace(), 0.0, adjoint_buffer(warped)
        adjoint[...] = 0
        for k, (metric, places, factor) in enumerate(zip(self.metrics, self._places, self.weights)):
            with ws.named(f"part {k} "):
                found, part = metric(_seen(warped, places), weight)
            value += factor * found
            _add(adjoint, places, factor, part)
        return value, adjoint

    def pair(self, a: np.ndarray, b: np.ndarray, weight_a: np.ndarray, weight_b: np.ndarray):
        """Value and both adjoints, where all parts are symmetric."""
        value, ws = 0.0, workspace()
        adjoints = adjoint_buffer(a), ws.buffer("adjoint b", b.shape, b.dtype)
        for out in adjoints:
            out[...] = 0
        for metric, places, factor, both in self._each(a, b):
            found, *parts = metric.pair(*both, weight_a, weight_b)
            value += factor * found
            for out, part in zip(adjoints, parts):
                _add(out, places, factor, part)
        return value, *adjoints

    def pair_curvature(self, a: np.ndarray, b: np.ndarray, weight_a: np.ndarray, weight_b: np.ndarray):
        """Of the last `pair`, where all parts have one."""
        out = [workspace().buffer(f"composite curvature {k}", a.shape, a.dtype) for k in "ab"]
        for h in out:
            h[...] = 0
        for metric, places, factor, both in self._each(a, b):
            for h, part in zip(out, metric.pair_curvature(*both, weight_a, weight_b)):
                _add(h, places, factor, part)
        return tuple(out)

    def _each(self, a, b):
        """Each part, its channels and weight, and what it sees of two images, among buffers of its own."""
        ws = workspace()
        for k, (metric, places, factor) in enumerate(zip(self.metrics, self._places, self.weights)):
            with ws.named(f"part {k} first "):
                one = _seen(a, places)
            with ws.named(f"part {k} "):
                yield metric, places, factor, (one, _seen(b, places))

    def _curvature(self, warped: np.ndarray, weight: np.ndarray):
        """The weighted sum of the parts' curvatures, and all that they deflate with."""
        ws, deflate = workspace(), []
        h = ws.buffer("composite curvature", warped.shape, warped.dtype)
        h[...] = 0
        for k, (metric, places, factor) in enumerate(zip(self.metrics, self._places, self.weights)):
            with ws.named(f"part {k} "):
                part, directions = metric.curvature(_seen(warped, places), weight)
            _add(h, places, factor, part)
            if directions is not None:
                directions = directions.reshape(-1, len(places), *weight.shape)
                full = np.zeros((len(directions), *warped.shape), warped.dtype)
                full[:, places] = directions
                full *= warped.dtype.type(np.sqrt(factor))
                deflate.append(full.reshape(-1, *weight.shape))
        if len(deflate) < 2:
            return h, deflate[0] if deflate else None
        return h, np.concatenate(deflate)


def _checked(part, k: int):
    """Metric, channels and weight of a part, or OptionError."""
    where = f"composite, part {k}"
    if not isinstance(part, dict) or "metric" not in part:
        raise OptionError(f"{where}: a part is a dictionary with a metric, and channels and weight if wanted; got "
                          f"{part!r}")
    for key in part:
        if key not in KEYS:
            raise unknown(f"entry of {where}:", key, KEYS)
    channels, weight = part.get("channels"), part.get("weight", 1.0)
    if channels is not None:
        whole = isinstance(channels, (list, tuple)) and channels and all(
            isinstance(c, Integral) and not isinstance(c, bool) and c >= 0 for c in channels)
        if not whole or len(set(channels)) < len(channels):
            raise OptionError(f"{where}: channels must be a list of different whole numbers from 0, or left out for "
                              f"all; got {channels!r}")
        channels = tuple(map(int, channels))
    if not isinstance(weight, Real) or isinstance(weight, bool) or not np.isfinite(weight) or weight <= 0:
        raise OptionError(f"{where}: weight must be a finite number above 0, got {weight!r}; leave the part out to "
                          "switch it off")
    return part["metric"], channels, float(weight)


def _listed(channels, count: int) -> list[int]:
    return list(range(count)) if channels is None else list(channels)


def _index(places: list[int]):
    """A slice where places follow each other, so that no copy is made."""
    return slice(places[0], places[-1] + 1) if places == list(range(places[0], places[-1] + 1)) else places


def _seen(warped: np.ndarray, places: list[int]) -> np.ndarray:
    """The channels of a part."""
    index = _index(places)
    if isinstance(index, slice):
        return warped[index]
    out = workspace().buffer("seen", (len(places), *warped.shape[1:]), warped.dtype)
    return np.take(warped, places, axis=0, out=out, mode="clip")  # "raise" would make a copy


def _add(out: np.ndarray, places: list[int], factor: float, part: np.ndarray) -> None:
    """out[places] += factor * part, which has a channel per place, or one for all of them."""
    for c, source in zip(places, part if len(part) > 1 else [part[0]] * len(places)):
        flat = out[c].reshape(-1)
        workspace().run(pointwise.add_scaled, flat.size, flat, factor, source.reshape(-1), flat, slab=SLAB)

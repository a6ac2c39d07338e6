"""What regularisers share: their options, the map that weighs an energy in space, and the cosine filter.

A regulariser with `sigma` smooths and costs nothing; without, it is an energy. The filter is the semi-implicit solve of
one step of descent on the energy, (1 + s L^p)^-1 with L minus the Laplacian, no slope across the border, and
p = 1 (diffusion) or 2 (curvature); s = (sigma^2 / 2)^p, so that for p = 1 long waves are damped as by a Gaussian of
that sigma. It is diagonal in cosine waves, which makes it exact and as quick for a wide sigma as for a narrow one.

Must not import: transforms, optimisers, engine, numba, cupy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from scipy.fft import dctn, idctn

from ..backend import workspace
from ..bounds import number
from ..errors import InputError, OptionError
from ..grid import Grid
from ..image import Image
from ..kernels.cpu import filters
from ..mapping import Mapping
from ..sampling import sample
from ..spline import band

log = logging.getLogger("classreg")

#: how often coefficients are mended; the second half of the rounds shrink them, which must end the folds
ROUNDS = 100

ACTS_ON = ("displacement", "velocity", "update")


def is_energy(regulariser) -> bool:
    """Whether a regulariser is added to the objective: it can be called, and has no `sigma` to smooth with."""
    return callable(regulariser) and getattr(regulariser, "sigma", None) is None


def smooths(regulariser) -> bool:
    """Whether a regulariser filters fields: it has `smooth`, and a `sigma` unless that is all it can."""
    return hasattr(regulariser, "smooth") and not is_energy(regulariser)


class Where:
    """How much an energy counts at each place: an image of numbers of at least 0, or None for 1 everywhere.

    It is interpolated linearly at the points where the energy is evaluated; beyond its edge, its border goes on.
    """

    def __init__(self, image: Image | None, name: str):
        if image is not None:
            if image.channels != 1:
                raise InputError(f"{name}: `where` has {image.channels} channels; give a map with one")
            if not np.isfinite(image.array).all() or image.array.min() < 0:
                raise InputError(f"{name}: `where` holds numbers that are negative or not finite; give how much the "
                                 "energy counts at each place, 0 or more")
            image = Image(image.array.astype(np.float32).reshape(image.grid.shape), image.grid)
        self.image = image
        self._seen: dict = {}

    def at(self, points: Grid, dtype) -> np.ndarray | None:
        """Its values on a grid, (z, y, x); None for 1 everywhere."""
        if self.image is None:
            return None
        key = (points.shape, points.affine.tobytes(), np.dtype(dtype))
        if key not in self._seen:
            self._seen.clear()  # one level at a time
            values = sample(self.image, Mapping(np.eye(points.ndim + 1)), points, name="where")[0][0]
            self._seen[key] = values.astype(dtype)
            workspace().release("where", "where weight")
        return self._seen[key]


def check_acts_on(name: str, acts_on) -> None:
    """Raise OptionError for what no regulariser acts on."""
    if acts_on not in ACTS_ON:
        raise OptionError(f"{name}: acts_on is one of {', '.join(ACTS_ON)}; got {acts_on!r}")


class Energy:
    """Base of the energies: their weight, where it counts, and what it is an energy of.

    Parameters
    ----------
    weight : float
    where : Image, optional
        See `Where`.
    sigma : float, optional
        Smooth with this width in units of the level's resolution instead of costing.
    acts_on : {"displacement", "velocity", "update"}
        What costs or is smoothed; an update is smoothed only.
    """

    #: power of the Laplacian in the cosine filter
    power = 1

    def __init__(self, weight: float, where: Image | None = None, sigma: float | None = None,
                 acts_on: str = "displacement"):
        name = type(self).__name__.lower()
        check_acts_on(name, acts_on)
        sigma = None if sigma is None else number(f"{name}: sigma", sigma, 0)
        if sigma is None and acts_on == "update":
            raise OptionError(f"{name}: an update is smoothed, it costs nothing: give the width of the filter, sigma")
        if sigma is not None and where is not None:
            raise OptionError(f"{name}: with sigma it smooths alike everywhere: leave out `where`, or sigma")
        self.weight, self.where, self.sigma, self.acts_on = weight, Where(where, name), sigma, acts_on
        self.reads = "grams" if where is None else "slopes"
        self.name = f"{name} gradient {id(self)}"  # of the buffer: there may be two of a kind

    @property
    def ndim(self) -> int | None:
        """That of the map of weights; None where there is none."""
        return None if self.where.image is None else self.where.image.grid.ndim

    def weights(self, slopes, dtype):
        """The map of weights at the points of `slopes`."""
        return self.where.at(slopes.points, dtype)


def cosine_filter(field: np.ndarray, grid: Grid, sigma: float, power: int, out: np.ndarray) -> np.ndarray:
    """The field (C, z, y, x) on `grid` through (1 + (s L)^power)^-1, s = (sigma * resolution)^2 / 2, into `out`."""
    ws = workspace()
    np.copyto(out, field)
    axes = tuple(k for k in range(3) if field.shape[k + 1] > 1)
    if not axes or sigma == 0:
        return out
    strength = (sigma * grid.resolution) ** 2 / 2
    rates = [strength * (2 - 2 * np.cos(np.pi * np.arange(n) / n)) / h**2
             for n, h in zip(field.shape[1:], grid.spacing3)]
    for part in out:  # in place, component by component
        waves = dctn(part, axes=axes, norm="ortho", overwrite_x=True, workers=ws.threads)
        ws.run(filters.damp, part.shape[0], waves, *rates, power)
        back = idctn(waves, axes=axes, norm="ortho", overwrite_x=True, workers=ws.threads)
        if back is not part:
            np.copyto(part, back)
    return out


def unfolded(theta: np.ndarray, folded: Callable[..., np.ndarray]) -> np.ndarray:
    """The coefficients (d, z, y, x), smoothed where `folded(theta)`, (z, y, x) bool, says so, until it says so nowhere.

    What resists is shrunk towards the identity. After a round of smoothing `folded` is told which coefficients changed.
    """
    smooth = [band(np.tile([0.25, 0.5, 0.25], (n, 1)), np.arange(n) - 1, n) for n in theta.shape[1:]]
    changed = ()
    for k in range(ROUNDS):
        bad = folded(theta, *changed)
        if not bad.any():
            break
        log.debug("round %d: %d coefficients fold", k + 1, bad.sum())
        if k < ROUNDS // 2:
            mean = smooth[0].apply(smooth[1].apply(smooth[2].apply(theta, 3), 2), 1)
            theta, changed = np.where(bad, mean, theta), (bad,)
        else:
            theta, changed = theta * theta.dtype.type(0.8), ()
    return theta

"""Priors: the contract over the dictionary, known values, refusals, and registrations that they steer."""

from __future__ import annotations

import numpy as np
import pytest

from classreg import check
from classreg.image import Image
from classreg.priors import PRIORS, Labels, Landmarks, Rigidity, SingularValues


def landmarks(fixed, moving):
    """Points inside the image, moved by about the known shift, one pair wrong by far."""
    rng, d = np.random.default_rng(0), fixed.grid.ndim
    x = fixed.grid.to_world(rng.uniform(0.1, 0.9, (8, d)) * (np.array(fixed.grid.shape) - 1))
    y = x + check.SHIFT[:d] + rng.normal(scale=1.0, size=x.shape)
    y[0] += 30
    return Landmarks(x, y, weight=0.7, scale=3.0)


def labels(fixed, moving):
    """Two intensity ranges."""
    return Labels(*(Image(np.digitize(i.array, [-0.4, 0.5]), i.grid) for i in (fixed, moving)), weight=0.8)


def rigidity(fixed, moving):
    """A soft ball."""
    off = np.linalg.norm(fixed.grid.points() - fixed.grid.centre, axis=-1)
    return Rigidity(Image(np.clip(2 - off / 5, 0, 1), fixed.grid), weight=1.3)


MAKERS = {"landmarks": landmarks, "labels": labels, "rigidity": rigidity,
          "singular_values": lambda fixed, moving: SingularValues(0.5, size=1.0, anisotropy=0.4)}


@pytest.mark.parametrize("name", PRIORS)
def test_contract(name):
    check.prior(MAKERS[name])

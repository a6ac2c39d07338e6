"""Regularisers, in physical units: means over the image of an integrand in mm, so a weight survives any resampling.

A regulariser has any of three faculties, and says what it acts on:
    __call__(theta, read) -> (value, gradient)      an energy of the coefficients, given what `reads` names;
                                                    a gradient of None is zero
    smooth(field, grid, out) -> out                 a filter of the update or of the whole field
    mend(theta, transform, everywhere) -> theta     the nearest coefficients that a barrier admits
    acts_on = "displacement" | "velocity" | "update"
    reads = "grams" | "slopes" | "patches"          what the energy is given: a method of the transform
    sigma                                           of those that do both: they smooth if it is a number, and are an
                                                    energy if it is None (see `base.is_energy`)
    quadratic = True                                of energies whose gradient at v is their Hessian times v
"""

from .base import is_energy, smooths
from .bending import Bending
from .curvature import Curvature
from .diffusion import Diffusion
from .elastic import Elastic
from .gaussian import Gaussian
from .jacobian import Jacobian
from .neighbours import Neighbours
from .temporal import Temporal
from .tv import TV
from .volume import Volume

REGULARISERS = {"diffusion": Diffusion, "bending": Bending, "curvature": Curvature, "elastic": Elastic,
                "tv": TV, "jacobian": Jacobian, "volume": Volume, "gaussian": Gaussian, "neighbours": Neighbours}

#: those that couple the images of a group: called with the parameters of all, (N, ...)
COUPLINGS = {"temporal": Temporal}

__all__ = ["COUPLINGS", "REGULARISERS", "Temporal", "is_energy", "smooths",
           *(c.__name__ for c in REGULARISERS.values())]

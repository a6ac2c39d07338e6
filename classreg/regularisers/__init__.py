"""Regularisers, in physical units: means over the image of an integrand in mm, so a weight survives any resampling.

A regulariser has any of three faculties, and says what it acts on:
    __call__(theta, grams) -> (value, gradient)     an energy of the coefficients, given their Gram matrices
                                                    or what else `reads` names; a gradient of None is zero
    smooth(field, grid)                             a filter of the update or of the whole field
    mend(theta, transform, everywhere) -> theta     the nearest coefficients that a barrier admits
    acts_on = "displacement" | "velocity" | "update"
    reads = "grams" | "slopes"                      what the energy is given: a method of the transform
    quadratic = True                                of energies whose gradient at v is their Hessian times v
"""

from .bending import Bending
from .diffusion import Diffusion
from .gaussian import Gaussian
from .volume import Volume

REGULARISERS = {"diffusion": Diffusion, "bending": Bending, "gaussian": Gaussian, "volume": Volume}

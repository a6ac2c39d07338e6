"""Regularisers, in physical units: means over the image of an integrand in mm, so a weight survives any resampling.

A regulariser has any of two faculties, and says what it acts on:
    __call__(theta, grams) -> (value, gradient)     an energy of the coefficients, given the transform's Gram matrices
    smooth(field, grid)                             a filter of the update or of the whole field
    acts_on = "displacement" | "velocity" | "update"
"""

from .bending import Bending
from .diffusion import Diffusion
from .gaussian import Gaussian
from .volume import Volume

REGULARISERS = {"diffusion": Diffusion, "bending": Bending, "gaussian": Gaussian, "volume": Volume}

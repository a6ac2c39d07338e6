"""Where a registration begins: a world matrix, fixed to moving, from headers, centres or moments."""

from .start import INITS, modality, start

__all__ = ["INITS", "modality", "start"]

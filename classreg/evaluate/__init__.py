"""How good a registration is: overlap of labels, distance of landmarks, regularity of the deformation.

Report all three: each can be excellent while the others are terrible. The functions take arrays (and a `Grid`
where millimetres matter), no files.

Must not import: faces (cli, plot, report).
"""

from ..jacobian import jacobian_determinant
from .deformation import folding, sd_log_jacobian
from .landmarks import landmark_errors, tre
from .overlap import dice

__all__ = ["dice", "folding", "jacobian_determinant", "landmark_errors", "sd_log_jacobian", "tre"]

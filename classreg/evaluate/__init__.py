from ..jacobian import jacobian_determinant
from .deformation import folding, sd_log_jacobian
from .landmarks import landmark_errors, tre
from .overlap import dice

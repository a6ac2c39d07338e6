"""What every kernel of `cpu/` computes, in plain NumPy: slow, short, the definition they are tested against.

Each function takes the arrays of the kernel of the same name, without slabs and buffers, and returns what the
kernel leaves in its outputs; everything is float64. Positions in the moving image, in indices, are

    p(i) = matrix (i, 1) + push u(i),   q = p clamped to the samples,   weight = max(0, 1 - |p - q|) per axis.

Must not import: anything above floor 0, numba.
"""

from .arrays import *  # noqa: F403
from .energies import *  # noqa: F403
from .intensities import *  # noqa: F403
from .lattice import *  # noqa: F403
from .space import *  # noqa: F403
from .stacks import *  # noqa: F403
from .structure import *  # noqa: F403

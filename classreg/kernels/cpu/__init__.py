"""Numba kernels: `kernel(start, stop, slab_index, ...)`, without the GIL, compiled once and cached on disk."""

import numba

#: reassociation and fused multiply-add let LLVM use vector registers; the order is fixed at compile time, so the same
#: build gives the same bits. NaN and infinity keep their meaning (non-finite values must be seen).
FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}

kernel = numba.njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
inline = numba.njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy", inline="always")

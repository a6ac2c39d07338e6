"""Numba kernels: `kernel(start, stop, slab_index, ...)`, without the GIL, compiled once and cached on disk."""

import gc

import numba
from numba.core import event

#: reassociation and fused multiply-add let LLVM use vector registers; the order is fixed at compile time, so the same
#: build gives the same bits. NaN and infinity keep their meaning (non-finite values must be seen).
FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}

kernel = numba.njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")

#: what kernels call: compiled once, and put into each of them by LLVM
part = kernel

#: the same, put into each before types are known: slower to compile, faster where LLVM would leave a call
inline = numba.njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy", inline="always")


class Undisturbed(event.Listener):
    """Collects no garbage while kernels are compiled: their compiler holds so much that it takes a tenth of the time.
    """

    def __init__(self):
        self.depth, self.wanted = 0, False

    def on_start(self, what):
        """A kernel, or what it calls, begins."""
        if self.depth == 0:
            self.wanted = gc.isenabled()
            gc.disable()
        self.depth += 1

    def on_end(self, what):
        """It ends, or it failed."""
        self.depth -= 1
        if self.depth == 0 and self.wanted:
            gc.enable()


event.register("numba:compile", Undisturbed())

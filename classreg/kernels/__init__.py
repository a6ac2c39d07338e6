"""The kernel table: loops over voxels, one family per file.

`cpu/` holds the Numba kernels, `reference` the slow NumPy definition each of them is tested against. A kernel is a
function `kernel(start, stop, slab_index, ...)` of a slab, run by `backend.Workspace.run`; it knows arrays, indices and
small matrices, and nothing of images or world space.
"""

"""Scenes for the io tests: one marked voxel on oblique, flipped, sheared, anisotropic, off-origin grids."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import SimpleITK as sitk

SHAPE = (7, 9, 5)  # x, y, z
MARK = (5, 2, 3)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def rotation(a, b, c):
    def about(axis, t):
        out, (i, j) = np.eye(3), [k for k in range(3) if k != axis]
        out[i, i] = out[j, j] = np.cos(t)
        out[i, j], out[j, i] = -np.sin(t), np.sin(t)
        return out
    return about(0, a) @ about(1, b) @ about(2, c)


def ras(matrix, spacing=(1.1, 1.7, 2.9)):
    """An off-origin (x, y, z) -> RAS affine."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(matrix, float) * spacing
    affine[:3, 3] = 17.5, -23.25, 41.0
    return affine


ORIENTATIONS = {
    "RAS": ras(np.eye(3)),
    "LAS": ras(np.diag([-1, 1, 1])),
    "LPS": ras(np.diag([-1, -1, 1])),
    "RPI-flipped": ras(np.diag([1, -1, -1])),
    "PIR-permuted": ras([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]),
    "anisotropic": ras(np.eye(3), (0.7, 0.7, 9.0)),
    "oblique": ras(rotation(0.3, -0.5, 0.8)),
    "sheared": ras(rotation(0.3, -0.5, 0.8) @ [[1, 0.3, 0.1], [0, 1, -0.2], [0, 0, 1]]),
}
ORTHOGONAL = [key for key in ORIENTATIONS if key != "sheared"]


def marked(dtype=np.int16, shape=SHAPE, mark=MARK):
    """An (x, y[, z]) array without symmetry, largest at the mark; fits any integer type."""
    data = (np.arange(np.prod(shape)) % 113).reshape(shape).astype(dtype)
    data[mark] = 120
    return data


def as_sitk(data, affine):
    """The SimpleITK image of an (x, y, z) array with a RAS affine, built from SimpleITK's own definitions."""
    out = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    out.SetSpacing(spacing.tolist())
    out.SetOrigin(lps[:3, 3].tolist())
    out.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return out


def write_nifti(path, data, affine, sform=1, qform=1):
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    nib.save(image, path)
    return path


def where(image):
    """World position of the brightest voxel."""
    return image.grid.to_world(np.unravel_index(image.array.argmax(), image.array.shape))


def true_place(affine, mark=MARK):
    return (LPS @ affine @ [*mark, 1])[:3]

"""Linear models: translation, rigid, similarity, affine. One class, four bases.

    phi(x) = L (x - c) + c + t,     L = 1 | R | s R | any

The optimiser works in the tangent: rotations turn by a local increment, R <- exp([w]x) R, whatever numbers `theta`
stores them in (Euler angles or a quaternion), so there is neither gimbal lock nor a constraint. Tangent coordinates are
scaled to mm: a unit step moves the grid by about 1 mm root mean square.

Must not import: metrics, optimisers, numba, cupy, file libraries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError, unknown
from ..grid import Grid, lower
from ..image import real_numbers
from ..mapping import Mapping

KINDS = ("translation", "rigid", "similarity", "affine")
ROTATIONS = ("quaternion", "euler")


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear model about a centre.

    Parameters
    ----------
    grid : Grid
        The fixed grid: its centre and size set the centre of rotation and the scale of the tangent.
    kind : {"translation", "rigid", "similarity", "affine"}
    rotation : {"quaternion", "euler"}
        How theta stores a 3-D rotation: scalar-first quaternion (w, x, y, z), or angles about x, y, z in radians with
        R = Rz Ry Rx (the order of ITK's Euler transform with ComputeZYX). In 2-D theta holds the angle.
    """

    grid: Grid
    kind: str = "affine"
    rotation: str = "quaternion"
    scatters = True

    def __post_init__(self):
        for what, name, allowed in (("kind", self.kind, KINDS), ("rotation", self.rotation, ROTATIONS)):
            if name not in allowed:
                raise unknown(what, name, allowed)

    @property
    def centre(self) -> np.ndarray:
        """World point about which the model turns, (d,)."""
        return self.grid.centre

    @property
    def radius(self) -> float:
        """Root mean square distance of the grid's samples from its centre, mm."""
        return float(np.sqrt(np.sum(np.maximum(self.grid.extent, self.grid.spacing) ** 2) / 12))

    def identity(self) -> np.ndarray:
        """Parameters of the identity."""
        return self.parameters(np.eye(self.grid.ndim + 1))

    def parameters(self, matrix: np.ndarray) -> np.ndarray:
        """Parameters of the model's member nearest to a world matrix (d + 1, d + 1).

        Raises
        ------
        InputError
            For a reflection, which no rotation is near to.
        """
        d = self.grid.ndim
        linear = matrix[:d, :d]
        shift = linear @ self.centre + matrix[:d, d] - self.centre
        if self.kind == "translation":
            return shift
        if self.kind == "affine":
            return np.concatenate([linear.ravel(), shift])
        if (det := np.linalg.det(linear)) <= 0:
            raise InputError(f"a {self.kind} model turns and cannot mirror: it has no member near a reflection, and "
                             f"this matrix has the determinant {det:.3g}; use model='affine', or correct the matrix")
        u, s, vt = np.linalg.svd(linear)
        scale = [np.log(np.mean(s))] if self.kind == "similarity" else []
        return np.concatenate([scale, self._store(u @ vt), shift])

    def _split(self, theta):
        """Linear part, scale and rotation of theta."""
        d = self.grid.ndim
        if self.kind == "translation":
            return np.eye(d), 1.0, np.eye(d)
        if self.kind == "affine":
            return theta[:-d].reshape(d, d), 1.0, None
        scale = float(np.exp(theta[0])) if self.kind == "similarity" else 1.0
        turn = self._rotation(theta[1:-d] if self.kind == "similarity" else theta[:-d])
        return scale * turn, scale, turn

    def matrix(self, theta: np.ndarray) -> np.ndarray:
        """World to world, (d + 1, d + 1)."""
        d = self.grid.ndim
        out = np.eye(d + 1)
        out[:d, :d] = self._split(theta)[0]
        out[:d, d] = self.centre + theta[-d:] - out[:d, :d] @ self.centre
        return out

    def forward(self, theta: np.ndarray, at):
        """The mapping, and its way back: `back(image_back, adjoint)` is the gradient in the tangent, (p,)."""
        return Mapping(self.matrix(theta)), LinearBack(self.tangent(theta))

    def tangent(self, theta: np.ndarray) -> np.ndarray:
        """d A / d step at zero, lifted, (p, 4, 4)."""
        d, c, r = self.grid.ndim, self.centre, self.radius
        linear, scale, turn = self._split(theta)
        columns = []
        if self.kind == "affine":
            for i in range(d):
                for j in range(d):
                    e = np.zeros((d, d))
                    e[i, j] = 1 / r
                    columns.append(e)
        if self.kind == "similarity":
            columns.append(linear / r)
        if self.kind in ("rigid", "similarity"):
            columns += [g @ linear / r for g in generators(d)]
        out = np.zeros((len(columns) + d, 4, 4))
        keep = list(range(d)) + [3]
        for k, m in enumerate(columns):
            out[k][np.ix_(range(d), keep)] = np.column_stack([m, -m @ c])
        for k in range(d):
            out[len(columns) + k, k, 3] = 1
        return out

    def retract(self, theta: np.ndarray, step: np.ndarray) -> np.ndarray:
        """theta moved by a tangent step (p,) in mm."""
        d, r = self.grid.ndim, self.radius
        out = theta.copy()
        out[-d:] += step[-d:]
        if self.kind == "affine":
            out[:-d] += step[:-d] / r
        elif self.kind in ("rigid", "similarity"):
            first = 1 if self.kind == "similarity" else 0
            turn = exp_rotation(step[first:-d] / r, d) @ self._split(theta)[2]
            out[first:-d] = self._store(turn)
            if first:
                out[0] += step[0] / r
        return out

    def refine(self, theta: np.ndarray, grid: Grid) -> np.ndarray:
        """Linear parameters know no resolution."""
        return theta

    def reach(self, step: np.ndarray) -> float:
        """About how far a step moves the grid, mm."""
        return float(np.sqrt(np.sum(step**2)))

    def _store(self, turn):
        if self.grid.ndim == 2:
            return np.array([np.arctan2(turn[1, 0], turn[0, 0])])
        return matrix_to_quaternion(turn) if self.rotation == "quaternion" else matrix_to_euler(turn)

    def _rotation(self, numbers):
        if self.grid.ndim == 2:
            c, s = np.cos(numbers[0]), np.sin(numbers[0])
            return np.array([[c, -s], [s, c]])
        return quaternion_to_matrix(numbers) if self.rotation == "quaternion" else euler_to_matrix(numbers)


@dataclass(frozen=True, eq=False)
class LinearBack:
    """From the image back to tangent coordinates, through the 12 sums."""

    tangent: np.ndarray

    def __call__(self, image_back, adjoint: np.ndarray) -> np.ndarray:
        """Gradient in the tangent, (p,)."""
        return np.tensordot(self.tangent, image_back.reduce(adjoint)[0], axes=2)

    def normal(self, image_back, adjoint, curvature, deflate) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (p,), and the Gauss-Newton matrix J^T diag(curvature) J minus the outer squares of J^T deflate.

        `deflate` is (K * C, *shape) or None.
        """
        stack = adjoint if deflate is None else np.concatenate([adjoint, deflate])
        sums = np.tensordot(image_back.reduce(stack), self.tangent, axes=([1, 2], [1, 2]))
        h = np.einsum("pab,abcd,qcd->pq", self.tangent, image_back.normal(curvature), self.tangent, optimize=True)
        for v in sums[1:]:
            h -= np.outer(v, v)
        return sums[0], (h + h.T) / 2


def generators(d: int) -> list[np.ndarray]:
    """The skew matrices of the rotations about x, y, z (one in 2-D)."""
    if d == 2:
        return [np.array([[0.0, -1.0], [1.0, 0.0]])]
    out = np.zeros((3, 3, 3))
    out[0, 2, 1] = out[1, 0, 2] = out[2, 1, 0] = 1
    return list(out - out.transpose(0, 2, 1))


def exp_rotation(w: np.ndarray, d: int) -> np.ndarray:
    """exp([w]x) by Rodrigues' formula; in 2-D w holds one angle."""
    angle = float(np.sqrt(np.sum(np.square(w))))
    k = sum(a * g for a, g in zip(w, generators(d)))
    if angle < 1e-12:
        return np.eye(d) + k
    return np.eye(d) + np.sin(angle) / angle * k + (1 - np.cos(angle)) / angle**2 * (k @ k)


def quaternion_to_matrix(q: np.ndarray) -> np.ndarray:
    """Rotation of a scalar-first quaternion (w, x, y, z), of any length but zero."""
    w, x, y, z = np.asarray(q, float) / np.linalg.norm(q)
    return np.array([
        [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z]])


def matrix_to_quaternion(r: np.ndarray) -> np.ndarray:
    """Scalar-first unit quaternion of a rotation, with w >= 0; stable for every angle (Shepperd 1978)."""
    diagonal = np.array([np.trace(r), r[0, 0], r[1, 1], r[2, 2]])
    k = int(np.argmax(diagonal))
    if k == 0:
        q = np.array([1 + diagonal[0], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    else:
        i, j, l = k - 1, k % 3, (k + 1) % 3
        q = np.zeros(4)
        q[0] = r[l, j] - r[j, l]
        q[1 + i] = 1 + r[i, i] - r[j, j] - r[l, l]
        q[1 + j] = r[j, i] + r[i, j]
        q[1 + l] = r[l, i] + r[i, l]
    q /= np.linalg.norm(q)
    return -q if q[0] < 0 else q


def euler_to_matrix(angles: np.ndarray) -> np.ndarray:
    """R = Rz Ry Rx of angles (ax, ay, az) in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return rz @ ry @ rx


def matrix_to_euler(r: np.ndarray) -> np.ndarray:
    """Angles (ax, ay, az) with R = Rz Ry Rx; at the poles ax is 0."""
    ay = -np.arcsin(np.clip(r[2, 0], -1, 1))
    if abs(r[2, 0]) < 1 - 1e-12:
        return np.array([np.arctan2(r[2, 1], r[2, 2]), ay, np.arctan2(r[1, 0], r[0, 0])])
    return np.array([0.0, ay, np.arctan2(-r[0, 1], r[1, 1])])


def as_linear(grid: Grid, matrix: np.ndarray) -> tuple[Linear, np.ndarray]:
    """The affine model and its parameters for a lifted or plain world matrix."""
    matrix, size = real_numbers(matrix, "world matrix").astype(float), grid.ndim + 1
    if matrix.shape == (4, 4):
        matrix = lower(matrix, grid.ndim)
    if matrix.shape != (size, size):
        raise InputError(f"a world matrix is ({size}, {size}) for {grid.ndim}-D images, not {matrix.shape}")
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:-1, :-1])) < 1e-9:
        raise InputError(f"a world matrix is finite and invertible; got {matrix.tolist()}; give the one that takes "
                         "fixed world points to moving world points, in mm")
    if np.abs(matrix[-1] - np.eye(size)[-1]).max() > 1e-6:
        raise InputError(f"the last row of a world matrix is (0, ..., 0, 1), not {matrix[-1].tolist()}: points are "
                         "columns, and the shift stands in the last column; transpose a matrix for rows")
    model = Linear(grid, "affine")
    return model, model.parameters(matrix)

"""Fitted transforms: what a registration returns, and what is read from files.

A fitted transform goes from one named end to the other ("fixed" -> "moving" after a registration): it maps world points
of the first image's space to the second's, which is the direction images are pulled back along.

Must not import: registries, io, matplotlib.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .errors import InputError, OptionError, unknown
from .grid import Grid
from .image import real_numbers
from .jacobian import jacobian_determinant
from .mapping import Mapping, invert_points
from .sampling import Points
from .transforms import BSpline, Dense, Linear, Polyaffine
from .transforms.linear import as_linear

SPACES = ("world", "index", "pixel")


@dataclass(frozen=True, eq=False)
class FittedTransform:
    """A transform with its parameters, grids and named ends.

    Attributes
    ----------
    model : str
        The model it was fitted with.
    transform, theta
        The transform and its parameters (lattice, field or linear parameters).
    grid, to_grid : Grid
        Grids of the images at its two ends; `to_grid` may be None for a transform that was read from a file.
    frm, to : str
        Names of the ends.
    residual : dict or None
        Of an inverse: `max`, `p99` and `mean` of |phi(psi(y)) - y| in mm, `share`, the part of the grid where it is
        below 0.1 mm, and the `map` itself.
    """

    model: str
    transform: Linear | Polyaffine | BSpline | Dense
    theta: np.ndarray
    grid: Grid
    to_grid: Grid | None = None
    frm: str = "fixed"
    to: str = "moving"
    residual: dict | None = None

    @classmethod
    def from_matrix(cls, matrix, grid: Grid, to_grid: Grid | None = None, **ends) -> FittedTransform:
        """From a world matrix (d + 1, d + 1)."""
        transform, theta = as_linear(grid, matrix)
        return cls("affine", transform, theta, grid, to_grid, **ends)

    @classmethod
    def from_mapping(cls, mapping: Mapping, grid: Grid, to_grid: Grid | None = None, *, model="dense", **more):
        """From a mapping; a field keeps the grid it is sampled on."""
        if mapping.field is None:
            return cls.from_matrix(mapping.matrix, grid, to_grid, **more)
        transform = Dense(mapping.grid, mapping.matrix)
        theta = np.ascontiguousarray(mapping.field3, np.float32)
        transform.refine(theta, mapping.grid)
        return cls(model, transform, theta, grid, to_grid, **more)

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return self.grid.ndim

    @property
    def linear(self) -> bool:
        """Whether a matrix says it all."""
        return isinstance(self.transform, Linear)

    @property
    def matrix(self) -> np.ndarray:
        """The world matrix (d + 1, d + 1): all of a linear model, the A of phi(x) = A (x + u(x)) otherwise."""
        return self.transform.matrix(self.theta) if self.linear else self.transform.matrix

    @property
    def flows(self) -> bool:
        """Whether points follow a velocity, and so find their way back."""
        return hasattr(self.transform, "flow")

    @cached_property
    def _mapping(self) -> Mapping:
        at = self.transform.grid
        if self.flows:
            return Mapping(self.matrix, self.transform.flow(self.theta, at), at)
        mapping = self.transform.forward(self.theta, at)[0]
        if mapping.field is None or np.may_share_memory(mapping.field, self.theta):
            return mapping
        return Mapping(mapping.matrix, mapping.field.copy(), at)  # its field is a buffer of the workspace

    def mapping(self) -> Mapping:
        """The normal form phi(x) = A (x + u(x)), u on the grid that the model was fitted on."""
        return self._mapping

    def on(self, grid: Grid) -> Mapping:
        """The mapping with u on another grid: exact of a spline, along the path of a velocity, else interpolated."""
        if isinstance(self.transform, BSpline) and not self.transform.grid.same_as(grid, 1e-9):
            return Mapping(self.matrix, self._spread(grid), grid)
        mapping = self.mapping()
        if mapping.field is None or mapping.grid is grid or mapping.grid.same_as(grid, 1e-9):
            return mapping
        field = self.transform.flow(self.theta, grid) if self.flows else mapping.resampled(grid)
        return Mapping(mapping.matrix, field, grid)

    def _spread(self, grid: Grid) -> np.ndarray:
        """The spline's u on any grid: axis by axis where its axes are the lattice's, else point by point."""
        d, out = self.ndim, np.empty((self.ndim, *grid.shape), self.theta.dtype)
        turn = np.linalg.solve(self.transform.grid.affine[:d, :d], grid.affine[:d, :d])
        if (np.abs(turn - np.diag(np.diag(turn))) @ grid.shape).max() < 1e-4:  # voxels of the lattice's grid
            out[...] = self.transform.spread(self.theta, grid).reshape(out.shape)
            return out
        for k in range(grid.shape[0]):
            plane = np.stack(np.meshgrid([k], *map(np.arange, grid.shape[1:]), indexing="ij"), -1).reshape(-1, d)
            u = self.transform.forward(self.theta, Points(grid.to_world(plane)))[0].field
            out[:, k] = u.reshape((d, *grid.shape[1:]))
        return out

    def displacement(self, grid: Grid | None = None) -> np.ndarray:
        """phi(x) - x in mm on a grid (default: the first end's), (d, *grid.shape) float32, components x, y[, z]."""
        grid = self.grid if grid is None else grid
        return self.on(grid).total_displacement(grid)

    def map_points(self, points, frm: str | None = None, to: str | None = None, space: str = "world") -> np.ndarray:
        """Points of one end to the other.

        Parameters
        ----------
        points : array, (n, d)
        frm, to : str, optional
            Ends of this transform, in either order, forward by default; the backward direction is solved point by
            point, or followed back along the velocity if there is one. Where both ends have one name, as after
            `t.compose(t.inverse())`, points are mapped forward.
        space : {"world", "index", "pixel"}
            LPS mm; array index (z, y, x); pixel (x, y, z). Input and output each in their own image.

        Returns
        -------
        array, (n, d)
            NaN where the inverse does not exist.

        Raises
        ------
        OptionError
            For unknown ends or space.
        InputError
            If the points have the wrong number of coordinates or are not finite.
        """
        ends = (self.frm, self.to)
        if space not in SPACES:
            raise unknown("space", space, SPACES)
        for end in (frm, to):
            if end is not None and end not in ends:
                raise unknown("end", end, ends)
        if frm is None:
            frm = self.to if to == self.frm != self.to else self.frm
        if to is None:
            to = self.frm if frm == self.to else self.to
        if frm == to and self.frm != self.to:
            raise OptionError(f"frm and to are both {frm!r}; this transform goes from {self.frm!r} to {self.to!r}")
        points = np.atleast_2d(real_numbers(points, "points").astype(float))
        if points.ndim != 2 or points.shape[1] != self.ndim:
            raise InputError(f"points must be (n, {self.ndim}); got {points.shape}")
        if not np.isfinite(points).all():
            raise InputError(f"{int((~np.isfinite(points)).any(1).sum())} of {len(points)} points are not finite")
        grids = (self.grid, self.to_grid) if frm == self.frm else (self.to_grid, self.grid)
        if space != "world" and None in grids:
            raise OptionError("index and pixel coordinates need the grids of both images, and this transform has "
                              "none at one end: use space='world', or read it with moving=")
        if len(points) == 0:
            return points
        world = points if space == "world" else grids[0].to_world(points[:, ::-1] if space == "pixel" else points)
        if frm == self.frm:
            out = self._forward(world)
        elif self.flows:
            out = self.opposite()._forward(world)
        else:
            out = invert_points(self.matrix, None if self.linear else self._at, world)
        if space == "world":
            return out
        index = grids[1].to_index(out)
        return index[:, ::-1] if space == "pixel" else index

    def _forward(self, world):
        """phi at world points."""
        return (world + self._at(world)) @ self.matrix[:-1, :-1].T + self.matrix[:-1, -1]

    def _at(self, world):
        """u at world points; exact for a spline, along the path for a velocity, linear interpolation of a field."""
        if self.linear:
            return np.zeros_like(world)
        if isinstance(self.transform, BSpline):
            return self.transform.forward(self.theta.astype(np.float64), Points(world))[0].field.T
        if self.flows:
            return self.transform.flow(self.theta, Points(world)).T
        return self.mapping().displacement(world)

    def inverse(self) -> FittedTransform:
        """The transform back, on the other end's grid; see `residual` for how well it holds, and where.

        Of a velocity model it is one too, that of the opposite velocity; of others a field, solved for voxel by voxel.
        """
        if self.flows:
            back = self.opposite()
            return replace(back, residual=_residual(self._miss(back.mapping())))
        grid = self.to_grid or self.grid
        mapping, error = self.mapping().inverse(grid)
        return FittedTransform.from_mapping(mapping, grid, self.grid, model=self.model, frm=self.to, to=self.frm,
                                            residual=_residual(error))

    def opposite(self) -> FittedTransform:
        """The inverse, of a velocity model without a look at how well it holds."""
        if not self.flows:
            return self.inverse()
        grid = self.to_grid or self.grid
        model, theta = self.transform.inverse(self.theta, grid)
        return FittedTransform(self.model, model, theta, grid, self.grid, self.to, self.frm)

    def _miss(self, psi: Mapping) -> np.ndarray:
        """|phi(psi(y)) - y| in mm on the grid of psi, whose matrix is the inverse of this one's."""
        d = self.ndim
        u = self.transform.flow(self.theta, psi.grid, psi)
        rest = psi.field + np.einsum("ij,j...->i...", self.matrix[:d, :d].astype(u.dtype), u)
        return np.sqrt((rest**2).sum(0))

    def compose(self, inner: FittedTransform) -> FittedTransform:
        """self after inner, from inner's begin to self's end; inner must end where self begins.

        Both ends of `t.compose(t.inverse())` have one name; see `map_points`.
        """
        if inner.to != self.frm:
            raise OptionError(f"cannot compose: the inner transform ends at {inner.to!r}, the outer begins at "
                              f"{self.frm!r}; rename the ends or take an inverse")
        more = dict(frm=inner.frm, to=self.to)
        matrix, grid, d = self.matrix @ inner.matrix, inner.transform.grid, self.ndim
        if self.linear and inner.linear:
            return FittedTransform.from_matrix(matrix, inner.grid, self.to_grid, **more)
        points, back = grid.points().reshape(-1, d), np.linalg.inv(matrix)
        u = self._forward(inner.mapping().apply(points)) @ back[:d, :d].T + back[:d, d] - points
        mapping = Mapping(matrix, np.ascontiguousarray(u.T.reshape((d, *grid.shape)), np.float32), grid)
        return FittedTransform.from_mapping(mapping, inner.grid, self.to_grid, model="composite", **more)

    def parts(self) -> tuple[FittedTransform, FittedTransform]:
        """The warp x + u(x) and the matrix A of phi(x) = A (x + u(x)), which meet at an end called "between".

        A spline stays one; a velocity becomes its field.
        """
        d, ends = self.ndim, dict(frm=self.frm, to="between")
        if self.linear:
            warp = FittedTransform.from_matrix(np.eye(d + 1), self.grid, self.grid, **ends)
        elif isinstance(self.transform, BSpline):
            spline = replace(self.transform, matrix=np.eye(d + 1))
            warp = FittedTransform(self.model, spline, self.theta, self.grid, self.grid, **ends)
        else:
            mapping = self.mapping()
            mapping = Mapping(np.eye(d + 1), mapping.field, mapping.grid)
            warp = FittedTransform.from_mapping(mapping, self.grid, self.grid, **ends)
        return warp, FittedTransform.from_matrix(self.matrix, self.grid, self.to_grid, frm="between", to=self.to)

    def jacobian_determinant(self) -> np.ndarray:
        """det D phi on the grid it was fitted on, (*grid.shape) float32; below 0 it folds."""
        mapping = self.mapping()
        scale = float(np.linalg.det(mapping.matrix[:-1, :-1]))
        if mapping.field is None:
            return np.full(self.grid.shape, scale, np.float32)
        return jacobian_determinant(mapping.field, mapping.grid) * np.float32(scale)

    def __repr__(self):
        return f"FittedTransform({self.model}, {self.frm} -> {self.to}, {self.grid})"


def _residual(error: np.ndarray) -> dict:
    """What `FittedTransform.residual` says of a map of errors in mm."""
    return {"max": float(error.max()), "p99": float(np.percentile(error, 99)), "mean": float(error.mean()),
            "share": float((error < 0.1).mean()), "map": error}

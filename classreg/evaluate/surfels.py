"""Surface elements of a mask: the piece of surface in every cell between 2 x 2 (x 2) samples.

A cell whose corners are not all alike is cut by segments (2-D) or triangles (3-D) through the midpoints of the edges
that change sides. Where inside corners meet only across a face's diagonal, the side with fewer corners is the one that
is separated; a polygon that is not flat is triangulated so that its area in a unit cube is largest. With these two
rules the areas are those of DeepMind's `surface-distance` for all 16 and 256 cells, and hold on sheared grids too.
Cell: Lorensen and Cline, SIGGRAPH 1987, doi:10.1145/37401.37422; measure: Nikolov et al., J Med Internet Res 2021,
doi:10.2196/26151.

Must not import: metrics, optimisers, engine, file libraries, faces.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np


def codes(mask: np.ndarray) -> np.ndarray:
    """Which corners of each cell are inside, a bit each; (*shape + 1), cells over the border included.

    >>> codes(np.array([[True]])).tolist()
    [[8, 4], [2, 1]]
    """
    padded = np.pad(mask, 1)
    out = np.zeros([n + 1 for n in mask.shape], np.uint8)
    for bit, corner in enumerate(product((0, 1), repeat=mask.ndim)):
        out |= padded[tuple(slice(c, c + n) for c, n in zip(corner, out.shape))].astype(np.uint8) << bit
    return out


def areas(linear: np.ndarray) -> np.ndarray:
    """Area in mm^2 (length in mm for two axes) of the surface in a cell of each code.

    Parameters
    ----------
    linear : array, (world components, 2 or 3)
        World step per array axis in mm, in columns; sheared ones are allowed.

    Returns
    -------
    array, (16,) for two axes, (256,) for three

    Examples
    --------
    >>> areas(np.eye(2))[[0, 1, 3]].round(4).tolist()
    [0.0, 0.7071, 1.0]
    """
    steps, owner = elements(np.shape(linear)[1])
    return np.bincount(owner, _sizes(np.einsum("ij,nkj->nki", linear, steps)), minlength=owner[-1] + 2)


@lru_cache(maxsize=2)
def elements(axes: int) -> tuple[np.ndarray, np.ndarray]:
    """The segments or triangles of all codes in a unit cell, by the steps from their first vertex to the others.

    Returns
    -------
    steps : array, (n, axes - 1, axes)
    owner : array of int, (n,)
        The code that each belongs to, ascending; the last code but one has one.
    """
    corners = list(product((0, 1), repeat=axes))
    steps, owner = [], []
    for code in range(1 << len(corners)):
        inside = {corner: bool(code >> bit & 1) for bit, corner in enumerate(corners)}
        if 2 * sum(inside.values()) + (not inside[corners[0]]) > len(corners):  # both sides of a surface are one
            inside = {corner: not value for corner, value in inside.items()}
        cuts = [cut for face in _faces(axes) for cut in _cuts(face, inside)]
        for vertices in cuts if axes == 2 else [t for polygon in _polygons(cuts) for t in _triangles(polygon)]:
            steps.append([v - vertices[0] for v in vertices[1:]])
            owner.append(code)
    return np.array(steps), np.array(owner)


def _faces(axes):
    """The squares of a unit cell, each as its corners in turn."""
    turn = [(0, 0), (0, 1), (1, 1), (1, 0)]
    if axes == 2:
        return [turn]
    return [[(*c[:axis], side, *c[axis:]) for c in turn] for axis in range(3) for side in (0, 1)]


def _cuts(face, inside):
    """Segments across a face, one around each run of inside corners."""
    cuts = []
    for first in range(4):
        if inside[face[first]] and not inside[face[first - 1]]:
            last = first
            while inside[face[(last + 1) % 4]]:
                last += 1
            cuts.append([_middle(face[first - 1], face[first]), _middle(face[last % 4], face[(last + 1) % 4])])
    return cuts


def _middle(a, b):
    return (np.array(a) + np.array(b)) / 2


def _polygons(cuts):
    """Closed rings of vertices from segments that share their ends."""
    left, rings = [[tuple(a), tuple(b)] for a, b in cuts], []
    while left:
        ring = left.pop()
        while ring[0] != ring[-1]:
            following = next(cut for cut in left if ring[-1] in cut)
            left.remove(following)
            ring.append(following[1] if following[0] == ring[-1] else following[0])
        rings.append([np.array(v) for v in ring[:-1]])
    return rings


def _triangles(polygon):
    """The triangulation of largest area."""
    def area(triangles):
        return round(float(_sizes(np.array([[b - a, c - a] for a, b, c in triangles])).sum()), 9)

    return max(_triangulations(polygon), key=area)


def _triangulations(polygon):
    """All ways to cut a polygon into triangles: the last edge belongs to one of them, and two polygons remain."""
    if len(polygon) < 3:
        return [[]]
    return [[[polygon[0], polygon[k], polygon[-1]], *left, *right] for k in range(1, len(polygon) - 1)
            for left in _triangulations(polygon[:k + 1]) for right in _triangulations(polygon[k:])]


def _sizes(steps):
    """Length of a segment from its step (n, 1, d), area of a triangle from its two (n, 2, d), in any dimension d."""
    first, last = steps[:, 0], steps[:, -1]
    if steps.shape[1] == 1:
        return np.sqrt((first**2).sum(-1))
    gram = (first**2).sum(-1) * (last**2).sum(-1) - (first * last).sum(-1) ** 2
    return np.sqrt(np.maximum(gram, 0)) / 2

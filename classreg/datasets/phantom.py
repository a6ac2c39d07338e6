"""A head phantom: a pair of scans whose anatomy, labels and deformation are known analytically.

The anatomy is a list of smooth implicit surfaces (levels in mm, positive inside) painted one over the other,
in a head frame (x to the left, y to the back, z to the head, mm). The cortex is folded by a band-limited
random wave g on the direction from the middle of the head: its zero lines are the sulci, |g| / |grad g| the
distance to them. The fixed scan samples the anatomy at x; the moving scan samples it at phi^-1(y), with

    phi(x) = A (x + u(x)),   u a sum of Gaussian bumps, |grad u| < 1,

solved to below 1e-4 mm, so that moving(phi(x)) = fixed(x) but for noise and bias. Blurred edges (partial
volume) belong to the anatomy, so they move with it.

Must not import: metrics, optimisers, numba, cupy, faces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.special import expit

from ..errors import InputError, OptionError, unknown
from ..grid import Grid
from ..image import Image

LABELS = {name: code for code, name in enumerate((
    "background", "scalp", "skull", "csf", "grey matter", "white matter", "ventricles", "left caudate",
    "right caudate", "left putamen", "right putamen", "left thalamus", "right thalamus", "cerebellum",
    "brainstem", "eyes"))}

# tissue: (t1, t2, ct); magnetic resonance in arbitrary units of about 0..1000, computed tomography in HU
MODALITIES = ("t1", "t2", "ct")
TISSUES = {
    "air": (0, 0, -1000), "muscle": (400, 240, 50), "fat": (880, 600, -90), "bone": (70, 50, 1100),
    "marrow": (430, 330, 500), "csf": (160, 1000, 8), "grey": (540, 650, 40), "white": (790, 450, 30),
    "striatum": (600, 590, 40), "thalamus": (660, 550, 38), "stem": (720, 480, 32), "lens": (450, 300, 60),
    "dura": (330, 180, 60),
}
LINEAR = ("identity", "translation", "rigid", "similarity", "affine")

HEAD = np.array([12.0, -18.0, 30.0])  # middle of the head in fixed world coordinates
SLICE = 9.0  # height of the 2-D phantom in the head frame: ventricles and all nuclei in one plane
SHIFT = np.array([6.0, -4.0, 3.0])
FOLD_RADIUS = 75.0
CHUNK = 1 << 16


@dataclass(frozen=True, eq=False)
class TrueMap:
    """The analytic map phi(x) = A(x + u(x)) of a phantom, fixed world -> moving world.

    Parameters
    ----------
    matrix : array, (d + 1, d + 1)
        A, world to world.
    centres, amplitudes : array, (bumps, d)
        Where the Gaussian bumps of u sit and how far they push, mm.
    widths : array, (bumps,)
        Their standard deviations, mm.

    Examples
    --------
    >>> phi = TrueMap(np.eye(3), np.zeros((1, 2)), np.array([[3.0, 0.0]]), np.array([20.0]))
    >>> phi(np.zeros((1, 2)))
    array([[3., 0.]])
    """

    matrix: np.ndarray
    centres: np.ndarray
    amplitudes: np.ndarray
    widths: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Moving world points (..., d) in mm of fixed world points (..., d)."""
        points = np.asarray(points, float)
        return _affine(self.matrix, points + self.displacement(points))

    def displacement(self, points: np.ndarray) -> np.ndarray:
        """u at fixed world points (..., d), mm."""
        out = np.zeros_like(points)
        for centre, amplitude, width in zip(self.centres, self.amplitudes, self.widths):
            bump = np.exp(((points - centre) ** 2).sum(-1) / (-2 * width**2))
            out += bump[..., None] * amplitude
        return out

    def gradient(self, points: np.ndarray) -> np.ndarray:
        """du_i / dx_j at fixed world points (..., d) -> (..., d, d)."""
        out = np.zeros((*points.shape, points.shape[-1]))
        for centre, amplitude, width in zip(self.centres, self.amplitudes, self.widths):
            offset = points - centre
            bump = np.exp((offset**2).sum(-1) / (-2 * width**2)) / -(width**2)
            out += (bump[..., None] * amplitude)[..., None] * offset[..., None, :]
        return out

    def inverse(self, points: np.ndarray) -> np.ndarray:
        """Fixed world points (..., d) of moving world points (..., d), to below 1e-4 mm.

        x <- A^-1 y - u(x), which contracts because |grad u| < 1.
        """
        target = _affine(np.linalg.inv(self.matrix), np.asarray(points, float))
        x = target
        for _ in range(200):
            update = target - self.displacement(x)
            change = np.abs(update - x).max(initial=0)
            x = update
            if change < 1e-6:
                break
        return x


@dataclass(frozen=True, eq=False)
class Pair:
    """A registration problem with its solution.

    `true_map` maps fixed world points (n, d) to moving world points (n, d) in LPS mm; `matrix`,
    (d + 1, d + 1), is its linear part: the whole truth where no deformation was asked for.
    `moving_points = true_map(fixed_points)`. The labels are those of `LABELS`.
    """

    fixed: Image
    moving: Image
    fixed_labels: Image
    moving_labels: Image
    fixed_points: np.ndarray
    moving_points: np.ndarray
    true_map: TrueMap
    matrix: np.ndarray


def head_phantom(spacing: float = 1.5, *, ndim: int = 3, seed: int = 0, grid: Grid | None = None,
                 modality: str = "t1", moving_modality: str | None = None, linear: str = "affine",
                 deformation: float = 6.0, noise: float = 0.02, bias: float = 0.15) -> Pair:
    """Two scans of one generated head, on different grids, with the map between them.

    Parameters
    ----------
    spacing : float
        In-plane voxel size of the fixed scan in mm; every other size follows. 1.5 gives 96 x 141 x 117 voxels
        in some seconds, 4 gives 36 x 53 x 44 in a fraction of one.
    ndim : {3, 2}
        2 takes the plane through the basal ganglia, with a map inside the plane.
    seed : int
        Selects the folding of the cortex, the deformation, the landmarks and the noise.
    grid : Grid, optional
        The fixed grid; by default an oblique, anisotropic, off-origin one. The head is centred at world
        (12, -18, 30).
    modality, moving_modality : {"t1", "t2", "ct"}
        Contrast of both scans, or of the moving one where it differs.
    linear : {"affine", "similarity", "rigid", "translation", "identity"}
        Kind of A: nothing; a shift by (6, -4, 3) mm; then also a rotation by 8 degrees about an oblique axis
        through the centre of the head; then also a scale of 1.04, or unequal scales and a shear.
    deformation : float
        Largest |u| in mm; 0 leaves the linear part alone.
    noise : float
        Standard deviation of the noise as a share of 1000 (grey values or HU), Rician in magnetic resonance.
    bias : float
        Logarithm of the largest factor of the smooth bias field, independent in the two scans; none in "ct".

    Returns
    -------
    Pair
        float32 scans, uint8 labels, 60 landmarks in the brain.

    Raises
    ------
    OptionError
        For an unknown name, a number outside its range, or a deformation that would fold.
    InputError
        For a grid of another dimension than `ndim`.

    Examples
    --------
    >>> pair = head_phantom(8.0, ndim=2)
    >>> bool(np.allclose(pair.true_map(pair.fixed_points), pair.moving_points))
    True
    """
    moving_modality = modality if moving_modality is None else moving_modality
    for name in (modality, moving_modality):
        if name not in MODALITIES:
            raise unknown("modality", name, MODALITIES)
    if linear not in LINEAR:
        raise unknown("linear part", linear, LINEAR)
    if ndim not in (2, 3):
        raise OptionError(f"ndim is {ndim!r}; a head phantom has 2 or 3 dimensions")
    if not (isinstance(seed, (int, np.integer)) and seed >= 0):
        raise OptionError(f"seed is {seed!r}; it must be an integer of at least 0")
    if not 0.5 <= spacing <= 20:
        raise OptionError(f"spacing is {spacing!r} mm; allowed are 0.5 to 20")
    for name, value in (("deformation", deformation), ("noise", noise), ("bias", bias)):
        if not (np.isfinite(value) and value >= 0):
            raise OptionError(f"{name} is {value!r}; it must be finite and at least 0")
    if grid is not None and grid.ndim != ndim:
        raise InputError(f"the grid has {grid.ndim} dimensions but ndim is {ndim}; give both alike")

    matrix = _linear_part(linear, ndim)
    phi = _true_map(matrix, deformation, _random(seed, "map"))
    fixed_grid, moving_grid = _grids(spacing, ndim)
    fixed_grid = fixed_grid if grid is None else grid
    soft = 0.25 * float(np.exp(np.log(fixed_grid.spacing).mean()))
    anatomy = _Anatomy(_waves(_random(seed, "folds"), 24, 14.0, 23.0),
                       _waves(_random(seed, "shape"), 8, 45.0, 90.0), soft)

    fixed, fixed_labels = _scan(anatomy, fixed_grid, lambda points: points, modality)
    moving, moving_labels = _scan(anatomy, moving_grid, phi.inverse, moving_modality)
    fixed = _acquire(fixed, fixed_grid, modality, noise, bias, _random(seed, "fixed"))
    moving = _acquire(moving, moving_grid, moving_modality, noise, bias, _random(seed, "moving"))
    points = _landmarks(anatomy, ndim, _random(seed, "points"))
    return Pair(Image(fixed, fixed_grid), Image(moving, moving_grid), Image(fixed_labels, fixed_grid),
                Image(moving_labels, moving_grid), points, phi(points), phi, matrix)


# -- the map and the grids --------------------------------------------------------------------------------

def _random(seed: int, purpose: str) -> np.random.Generator:
    """One stream per purpose, so that an option changes only what it names."""
    return np.random.default_rng([seed, *purpose.encode()])


def _affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    d = points.shape[-1]
    return sum(points[..., j, None] * matrix[:d, j] for j in range(d)) + matrix[:d, d]


def _rotation(degrees: float, axis: tuple[float, float, float], ndim: int) -> np.ndarray:
    axis = np.array(axis if ndim == 3 else (0, 0, 1), float)
    turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.sqrt((axis**2).sum()))
    return turn.as_matrix()[:ndim, :ndim]


def _linear_part(kind: str, ndim: int) -> np.ndarray:
    rank = LINEAR.index(kind)
    part, centre = np.eye(ndim), HEAD[:ndim]
    if rank >= LINEAR.index("rigid"):
        part = _rotation(8.0, (1, -2, 3), ndim)
    if kind == "similarity":
        part = 1.04 * part
    if kind == "affine":
        stretch = np.diag([1.05, 0.97, 1.02][:ndim])
        stretch[0, 1] = 0.03
        part = part @ stretch
    out = np.eye(ndim + 1)
    out[:ndim, :ndim] = part
    out[:ndim, ndim] = centre - part @ centre + (SHIFT[:ndim] if rank else 0)
    return out


def _true_map(matrix: np.ndarray, deformation: float, rng: np.random.Generator) -> TrueMap:
    ndim = len(matrix) - 1
    if deformation == 0:
        return TrueMap(matrix, np.zeros((0, ndim)), np.zeros((0, ndim)), np.zeros(0))
    centres = HEAD[:ndim] + rng.uniform(-60, 60, (10, ndim))
    amplitudes, widths = rng.normal(size=(10, ndim)), rng.uniform(22, 38, 10)
    lattice = HEAD[:ndim] + np.stack(np.meshgrid(*[np.arange(-120.0, 121.0, 8.0)] * ndim, indexing="ij"), -1)
    size = np.sqrt((TrueMap(matrix, centres, amplitudes, widths).displacement(lattice) ** 2).sum(-1)).max()
    phi = TrueMap(matrix, centres, amplitudes * deformation / size, widths)
    steepest = float(np.sqrt((phi.gradient(lattice) ** 2).sum((-2, -1))).max())
    if steepest > 0.85:
        raise OptionError(f"a deformation of {deformation} mm has gradients of up to {steepest:.2f} and "
                          f"might fold; the largest allowed with this seed is "
                          f"{np.floor(8.5 * deformation / steepest) / 10} mm")
    return phi


def _grids(spacing: float, ndim: int) -> tuple[Grid, Grid]:
    """A near-axial fixed grid and a sagittal (in 2-D: flipped) moving one, both oblique."""
    if ndim == 3:
        fixed = _rotation(6.0, (3, 1, -2), 3)[:, [2, 1, 0]]
        moving = _rotation(9.0, (-1, 2, 2), 3)[:, [0, 2, 1]] * [1, -1, 1]
        low = np.array([0.0, -4.0, -10.0])
        return (_grid(spacing * np.array([4 / 3, 1, 1]), (192, 212, 176), fixed, HEAD + low),
                _grid(spacing * np.array([1.2, 1.1, 1.1]), (188, 200, 222), moving, HEAD + low + [2, -5, 4]))
    fixed = _rotation(6.0, (0, 0, 1), 2)[:, [1, 0]]
    moving = _rotation(-11.0, (0, 0, 1), 2)[:, [1, 0]] * [-1, 1]
    return (_grid(spacing * np.array([1.2, 1]), (212, 176), fixed, HEAD[:2]),
            _grid(spacing * np.array([1, 1.1]), (222, 190), moving, HEAD[:2] + [2, -5]))


def _grid(spacing: np.ndarray, extent: tuple[float, ...], axes: np.ndarray, centre: np.ndarray) -> Grid:
    """Columns of `axes`: world directions of the array axes."""
    shape = np.maximum(1, np.round(extent / spacing)).astype(int)
    affine = np.eye(len(shape) + 1)
    affine[:-1, :-1] = axes * spacing
    affine[:-1, -1] = centre - affine[:-1, :-1] @ ((shape - 1) / 2)
    return Grid(tuple(shape), affine)


# -- scanning ---------------------------------------------------------------------------------------------

def _scan(anatomy: _Anatomy, grid: Grid, to_fixed, modality: str) -> tuple[np.ndarray, np.ndarray]:
    """Noise-free grey values and labels on a grid; `to_fixed` maps its world points to fixed world points."""
    points = grid.points().reshape(-1, grid.ndim)
    values, labels = np.empty(grid.size, np.float32), np.empty(grid.size, np.uint8)
    for start in range(0, grid.size, CHUNK):
        part = slice(start, start + CHUNK)
        values[part], labels[part] = anatomy.render(to_fixed(points[part]), modality)
    return values.reshape(grid.shape), labels.reshape(grid.shape)


def _acquire(values: np.ndarray, grid: Grid, modality: str, noise: float, bias: float, rng) -> np.ndarray:
    """What the scanner adds: bias (not in "ct") and noise."""
    first, second = rng.normal(0, 1000 * noise, (2, *grid.shape)).astype(np.float32)
    if modality == "ct":
        return values + first
    waves = _waves(rng, 4, 250.0, 400.0)
    values = values * np.exp(bias / math.sqrt(2 * 4) * _wave_sum(waves, _components(grid.points())))
    return np.hypot(values + first, second)


def _landmarks(anatomy: _Anatomy, ndim: int, rng: np.random.Generator) -> np.ndarray:
    """60 fixed world points at least 2 mm inside the brain."""
    points = HEAD[:ndim] + rng.uniform(-1, 1, (2000, ndim)) * [64, 80, 70][:ndim]
    inside = dict(anatomy.layers(anatomy.head_frame(points)))["grey", "grey matter"] > 2
    return points[inside][:60]


# -- anatomy ----------------------------------------------------------------------------------------------

def _components(points: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(points[..., j], np.float32) for j in range(points.shape[-1])]


def _waves(rng, n: int, shortest: float, longest: float) -> tuple[np.ndarray, np.ndarray]:
    """n plane waves: vectors (n, 3) in radians per mm, in all directions, and phases (n,)."""
    k = rng.normal(size=(n, 3))
    k *= (2 * np.pi / rng.uniform(shortest, longest, n) / np.sqrt((k**2).sum(1)))[:, None]
    return k.astype(np.float32), rng.uniform(0, 2 * np.pi, n).astype(np.float32)


def _wave_sum(waves, p) -> np.ndarray:
    """Sum of the waves with unit variance; p is a list of components."""
    total = sum(np.cos(sum(a * b for a, b in zip(k, p)) + phase) for k, phase in zip(*waves))
    return total * np.float32(np.sqrt(2 / len(waves[1])))


def _ellipsoid(p, centre, radii) -> np.ndarray:
    """About the distance to the surface in mm, positive inside."""
    q = [(a - c) / r for a, c, r in zip(p, centre, radii)]
    k0 = np.sqrt(sum(a * a for a in q) + 1e-6)
    k1 = np.sqrt(sum((a / r) ** 2 for a, r in zip(q, radii)) + 1e-6 / min(radii) ** 2)
    return k0 * (1 - k0) / k1


def _join(a, b, blend: float) -> np.ndarray:
    """Union of two levels, with the crease rounded over `blend` mm."""
    return np.maximum(a, b) + np.maximum(blend - np.abs(a - b), 0) ** 2 / (4 * blend)


def _meet(a, b, blend: float) -> np.ndarray:
    """Intersection of two levels."""
    return -_join(-a, -b, blend)


@dataclass(frozen=True, eq=False)
class _Anatomy:
    """A head: the waves of its folds and of its slower variations, and the blur of its edges in mm."""

    folds: tuple[np.ndarray, np.ndarray]
    shape: tuple[np.ndarray, np.ndarray]
    soft: float

    def head_frame(self, points: np.ndarray) -> list[np.ndarray]:
        """Components in the head frame of fixed world points (n, 2 or 3)."""
        p = _components(points - HEAD[:points.shape[-1]])
        return p if len(p) == 3 else [*p, np.full(p[0].shape, SLICE, np.float32)]

    def render(self, points: np.ndarray, modality: str) -> tuple[np.ndarray, np.ndarray]:
        """Grey values and labels at fixed world points (n, d): later layers cover earlier ones."""
        channel = MODALITIES.index(modality)
        value = np.full(len(points), TISSUES["air"][channel], np.float32)
        label = np.zeros(len(points), np.uint8)
        for (tissue, name), level in self.layers(self.head_frame(points)):
            value += expit(level / np.float32(self.soft)) * (TISSUES[tissue][channel] - value)
            label[level > 0] = LABELS[name]
        return value, label

    def layers(self, p) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
        """((tissue, label), level) from the outside in."""
        x, y, z = p
        slow = _wave_sum(self.shape, p)
        # a head is broader at the back, and no head is quite symmetric
        p = x, y, z = x / (1 + 0.0012 * np.clip(y, -200, 200)) + 0.6 * slow, y + 0.03 * x, z
        mirror = [np.abs(x), y, z]
        upper, cavity = self._cavity(p, mirror)
        yield from self._face(p, mirror, cavity, slow)
        yield from self._vault(cavity, slow)
        yield from self._cerebellum(p, mirror, upper, cavity, slow)
        yield from self._cerebrum(p, mirror, upper, slow)
        yield from self._deep(p)

    def _cavity(self, p, mirror):
        """Level of the space above the tentorium and of the whole cranial cavity."""
        upper = _meet(_ellipsoid(p, (0, 2, 6), (65, 81, 66)), p[2] + 12 + 0.15 * mirror[0], 12)
        upper = _join(upper, _ellipsoid(mirror, (38, -6, -20), (27, 38, 27)), 8)
        return upper, _join(upper, _ellipsoid(p, (0, 44, -34), (49, 39, 33)), 10)

    def _face(self, p, mirror, cavity, slow):
        """Soft tissue, with fat below the skin; airways; jaw; orbits and eyes."""
        x, y, z = p
        head = _join(cavity + 11.5 + slow, _ellipsoid(p, (0, -34, -66), (58, 54, 64)), 14)
        head = _join(head, _ellipsoid(p, (0, 16, -110), (54, 58, 80)), 18)
        head = _join(head, _ellipsoid(p, (0, -84, -56), (10, 15, 18)), 9)
        head = _join(head, _ellipsoid(mirror, (76, 18, -36), (7, 14, 24)), 5)
        yield ("muscle", "scalp"), head
        yield ("fat", "scalp"), np.minimum(head - 1.8, 6.2 + 1.5 * slow + np.maximum(0, -z - 40) / 10 - head)
        yield ("bone", "skull"), _ellipsoid(mirror, (24, -54, -54), (16, 20, 17))
        yield ("air", "background"), _ellipsoid(mirror, (25, -53, -55), (11, 15, 12)) + 1.5 * slow
        yield ("air", "background"), _ellipsoid(mirror, (6, -56, -46), (4, 24, 20))
        yield ("air", "background"), _ellipsoid(p, (0, -14, -78), (8, 6, 34))
        jaw = np.hypot(_ellipsoid(p, (0, -34, -90), (46, 46, 60)), np.maximum(0, np.abs(z + 92) - 9))
        yield ("bone", "skull"), _meet(5 - jaw, 8 - y, 5)
        yield ("bone", "skull"), _ellipsoid(p, (0, 40, -92), (22, 20, 34))
        yield ("fat", "scalp"), _ellipsoid(mirror, (31, -58, -33), (18, 26, 16))
        globe = _ellipsoid(mirror, (32, -67, -33), (12.3, 12.3, 12.3))
        yield ("muscle", "eyes"), globe + 0.8
        yield ("csf", "eyes"), globe
        yield ("lens", "eyes"), _ellipsoid(mirror, (32, -76, -33), (4.5, 2.2, 4.5))

    def _vault(self, cavity, slow):
        """Skull, its marrow, dura, and fluid: the brain is painted over most of it."""
        yield ("bone", "skull"), cavity + 6.2 + 0.8 * slow
        yield ("marrow", "skull"), 0.9 + 0.4 * slow - np.abs(cavity + 3.3 + 0.3 * slow)
        yield ("dura", "csf"), cavity
        yield ("csf", "csf"), cavity - 1.2

    def _cerebellum(self, p, mirror, upper, cavity, slow):
        """What the cerebrum leaves of the back of the cavity; the folia are level sheets, 6 mm apart."""
        x, y, z = p
        hull = _meet(cavity - 3, -upper - 0.5, 3)
        hull = _meet(hull, _ellipsoid(mirror, (16, 46, -33), (36, 33, 30)), 6)
        hull = _meet(hull, np.hypot(x, np.maximum(0, 62 - y)) - 1.5, 5)
        level = z + 0.35 * y + 0.004 * x * x + 1.5 * slow
        sheet = np.abs(np.sin(level * np.float32(np.pi / 6))) * np.float32(6 / np.pi)
        pial = _meet(hull, np.hypot(sheet, np.maximum(0, hull - 8)) - 0.4, 1)
        yield ("grey", "cerebellum"), pial
        yield ("white", "cerebellum"), pial - 2.0

    def _cerebrum(self, p, mirror, upper, slow):
        """Grey and white matter: everything within 3 mm of the hull, a sulcus or a fissure is grey."""
        x, y, z = p
        hull = upper - 2.4 - 0.5 * slow
        too_deep = np.maximum(hull - 15 - 5 * slow, _ellipsoid(p, (0, 6, -4), (36, 46, 26)))
        sulcus = np.hypot(self._to_sulcus(p), np.maximum(0, too_deep))
        pial = _meet(hull, sulcus - 0.5 - 0.9 * np.exp(np.clip(hull, -5, 60) / -5), 3)
        callosum = np.maximum(0, _ellipsoid((y, z), (4, 4), (44, 27)))
        pial = _meet(pial, np.hypot(x - slow, callosum) - 0.8, 2)
        lateral = np.hypot(z + 6 - 0.3 * y - slow, np.maximum(0, 37 - mirror[0]))
        pial = _meet(pial, np.hypot(lateral, np.maximum(0, np.abs(y + 6) - 34)) - 1.2, 3)
        yield ("grey", "grey matter"), pial
        yield ("white", "white matter"), pial - 3.0

    def _to_sulcus(self, p) -> np.ndarray:
        """Distance in mm to the nearest zero of the folding wave, along the surface."""
        q = [p[0], p[1], p[2] - 12]
        radius = np.sqrt(sum(a * a for a in q)) + 1
        unit = [a / radius for a in q]
        # mostly a wave on the sphere (sulci run inwards), partly one in space (they curve, and do not crowd)
        across, inwards = 0.55 * FOLD_RADIUS / radius + 0.45, np.float32(0.45)
        at = [across * a for a in q]
        value, slope = 0, [0, 0, 0]
        for k, phase in zip(*self.folds):
            angle = sum(a * b for a, b in zip(k, at)) + phase
            value, sine = value + np.cos(angle), np.sin(angle)
            slope = [s + a * sine for s, a in zip(slope, k)]
        radial = sum(s * u for s, u in zip(slope, unit))
        tangential = np.maximum(sum(s * s for s in slope) - radial**2, 0)
        return np.abs(value) / np.sqrt(across**2 * tangential + inwards**2 * radial**2 + 0.01)

    def _deep(self, p):
        """Brainstem, nuclei and ventricles; the left ventricle is the larger one."""
        x, y, z = p
        stem = _join(_ellipsoid(p, (0, 12, -34), (16, 13, 15)), _ellipsoid(p, (0, 12, -16), (15, 11, 16)), 6)
        stem = _join(stem, _ellipsoid(p, (0, 26, -75), (7, 7, 50)), 6)
        cord = _ellipsoid(p, (0, 26, -80), (11, 11, 46))
        yield ("csf", "csf"), np.minimum(cord, -z - 45)
        yield ("stem", "brainstem"), stem
        for side, sign, size in (("left", 1, 1.05), ("right", -1, 0.96)):
            q = [sign * x, y, z]
            head = _ellipsoid(q, (14, -20, 8), (5.5 * size, 12, 9))
            tail = _ellipsoid(q, (18, 4, 17), (3.5, 20, 4.5 * size))
            yield ("striatum", f"{side} caudate"), _join(head, tail, 4)
            tilted = [q[0] - 0.25 * (y + 4), y, z]
            yield ("striatum", f"{side} putamen"), _ellipsoid(tilted, (26, -4, 3), (5.5, 17 * size, 10))
            tilted = [q[0] - 0.3 * (y - 14), y, z]
            yield ("thalamus", f"{side} thalamus"), _ellipsoid(tilted, (11, 14, 6), (7.5, 13, 8.5 * size))
        for sign, size in ((1, 1.15), (-1, 0.95)):
            q = [sign * x - 0.2 * np.maximum(0, y), y, z]
            horn = _ellipsoid(q, (7, -22, 12), (4 * size, 14, 8))
            body = _join(horn, _ellipsoid(q, (7.5, 2, 18), (4.5 * size, 24, 5)), 5)
            rear = _ellipsoid(q, (15, 34, 9), (6 * size, 17, 9))
            yield ("csf", "ventricles"), _join(body, rear, 8)
        third = _ellipsoid(p, (0, 4, 0), (2.0, 13, 11))
        yield ("csf", "ventricles"), np.maximum(third, _ellipsoid(p, (0, 30, -36), (6, 5, 10)))

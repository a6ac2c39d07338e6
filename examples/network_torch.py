"""A small network beside the classical rows: trained without labels on generated heads, scored on heads it never saw.

In the manner of VoxelMorph (Balakrishnan et al., IEEE TMI 38 (2019), doi:10.1109/TMI.2019.2897538): a U-Net takes the
moving and the fixed image and gives a displacement u, a spatial transformer warps the moving image by it, and the loss

    -mean lncc(warped, fixed) + WEIGHT mean |grad u|^2

needs no truth, labels or landmarks. A network is a function (fixed, moving) -> displacement in mm, so
`classreg.compare` puts it into one table with `none`, `greedy`, `bspline` and `svf`: the same pairs, the same measures.

Requirements: classreg and PyTorch (`pip install torch`, 2.0 or later; a build without CUDA will do), which classreg
itself does not need. About two minutes on two cores. Seeded: the same machine and versions give the same table.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

try:
    import torch
except ImportError:
    sys.exit("network_torch.py needs PyTorch, which classreg itself does not: pip install torch")
from torch import nn
from torch.nn import functional as F

import classreg
from classreg.compare import compare
from classreg.datasets import head_phantom
from classreg.io import save_image

TRAINING, TEST = range(120), range(1000, 1008)  # seeds: other heads, other deformations
STEPS, BATCH, RATE = 600, 4, 1e-3
RADIUS, WEIGHT = 4, 1.0  # of the lncc window in samples; of the smoothness
SIZE = {"spacing": 2.0, "ndim": 2, "linear": "identity", "deformation": 6.0}


class Network(nn.Module):
    """Moving and fixed image (n, 2, rows, columns) -> displacement (n, 2, rows, columns) in samples, rows first."""

    def __init__(self, width=16):
        super().__init__()
        wide = 2 * width
        down, up = [(width, wide), (wide, wide), (wide, wide)], [(2 * wide, wide), (2 * wide, wide), (3 * width, width)]
        self.down = nn.ModuleList(self.block(inputs, outputs, stride=2) for inputs, outputs in down)
        self.up = nn.ModuleList(self.block(inputs, outputs) for inputs, outputs in up)
        self.first, self.last = self.block(2, width), nn.Conv2d(width, 2, 3, padding=1)
        nn.init.normal_(self.last.weight, std=1e-4)  # begin where nothing moves
        nn.init.zeros_(self.last.bias)

    @staticmethod
    def block(inputs, outputs, stride=1):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.LeakyReLU(0.2))

    def forward(self, pair):
        levels = [self.first(pair)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in self.up:
            x = up(torch.cat([F.interpolate(x, levels[-1].shape[2:], mode="nearest"), levels.pop()], 1))
        return self.last(x)


def warp(moving, u):
    """Spatial transformer: moving(x + u), linear, the border's value beyond it."""
    rows, columns = moving.shape[2:]
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    at = torch.stack([2 * (x + u[:, 1]) / (columns - 1) - 1, 2 * (y + u[:, 0]) / (rows - 1) - 1], -1)
    return F.grid_sample(moving, at, padding_mode="border", align_corners=True)


def lncc(a, b):
    """Mean squared local correlation; windows lose what is outside the image."""
    def mean(values):
        return F.avg_pool2d(values, 2 * RADIUS + 1, 1, RADIUS, count_include_pad=False)

    cross = mean(a * b) - mean(a) * mean(b)
    return (cross**2 / ((mean(a * a) - mean(a)**2) * (mean(b * b) - mean(b)**2)).clamp_min(1e-4)).mean()


def roughness(u):
    """Mean squared forward difference of a displacement."""
    return (u[:, :, 1:] - u[:, :, :-1]).square().mean() + (u[:, :, :, 1:] - u[:, :, :, :-1]).square().mean()


def prepared(fixed, moving):
    """What the network sees: the moving image on the fixed grid as the headers place it, both with unit deviation."""
    moving = classreg.apply(np.eye(fixed.grid.ndim + 1), moving, fixed)
    values = np.stack([moving.array, fixed.array]).astype(np.float32)
    return (values - values.mean((1, 2), keepdims=True)) / values.std((1, 2), keepdims=True)


def train(pairs):
    """A trained network, and the loss of the first and of the last tenth of the steps."""
    torch.manual_seed(0)
    draws, network = np.random.default_rng(0), Network()
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    losses = []
    for _ in range(STEPS):
        batch = torch.from_numpy(pairs[draws.choice(len(pairs), BATCH, replace=False)])
        u = network(batch)
        loss = WEIGHT * roughness(u) - lncc(warp(batch[:, :1], u), batch[:, 1:])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    tenth = STEPS // 10
    return network.eval(), np.mean(losses[:tenth]), np.mean(losses[-tenth:])


def as_method(network):
    """The network as classreg.compare takes any method: (fixed, moving) -> displacement in mm, world components."""
    def method(fixed, moving):
        with torch.no_grad():
            u = network(torch.from_numpy(prepared(fixed, moving))[None])[0].numpy()
        return np.einsum("wa,a...->w...", fixed.grid.affine[:-1, :-1], u)  # samples along the axes -> mm in the world

    return method


def case(seed, folder):
    """Images, labels and landmarks of a test pair as files, and the row that names them."""
    pair, row = head_phantom(seed=seed, **SIZE), {"case": f"head {seed}"}
    for name in ("fixed", "moving", "fixed_labels", "moving_labels"):
        row[name] = str(folder / f"{name}-{seed}.nii.gz")
        save_image(getattr(pair, name), row[name])
    for name in ("fixed_points", "moving_points"):
        row[name] = str(folder / f"{name}-{seed}.csv")
        np.savetxt(row[name], getattr(pair, name), delimiter=",")
    return row


def classical(model):
    """A model of classreg in this process, as the network is."""
    return lambda fixed, moving: classreg.register(fixed, moving, model=model)


def main():
    """Train, compare, print."""
    torch.set_num_threads(2)
    began = time.perf_counter()
    heads = [head_phantom(seed=seed, **SIZE) for seed in TRAINING]
    pairs = np.stack([prepared(pair.fixed, pair.moving) for pair in heads])
    print(f"{len(pairs)} training pairs of {pairs.shape[2]} x {pairs.shape[3]} samples made in "
          f"{time.perf_counter() - began:.0f} s")
    began = time.perf_counter()
    network, first, last = train(pairs)
    size = sum(p.numel() for p in network.parameters())
    print(f"{size} weights trained in {time.perf_counter() - began:.0f} s; loss {first:.3f} -> {last:.3f}")
    methods = {"none": lambda fixed, moving: np.eye(3), "network": as_method(network),
               **{model: classical(model) for model in ("greedy", "bspline", "svf")}}
    for method in methods.values():  # compiled and loaded before the clock starts
        method(heads[0].fixed, heads[0].moving)
    with tempfile.TemporaryDirectory() as name:
        rows = [case(seed, Path(name)) for seed in TEST]
        print(compare(rows, methods, Path(name) / "out", reference="network",
                      measures=["dice", "tre", "folding", "sd_log_j", "seconds"]))


if __name__ == "__main__":
    main()

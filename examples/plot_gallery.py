"""Every plot of `classreg.plot`, each one call: single files in `plot_gallery/`, and all on one sheet.

A generated head in 3-D, registered affinely, and a slice of one in 2-D, registered by B-splines, with the noise of the
air left out by a mask. Writes `plot_gallery.png`, which is put together with `ax=`.
"""

from pathlib import Path

from matplotlib.figure import Figure

import classreg
from classreg import plot
from classreg.datasets import LABELS, head_phantom
from classreg.evaluate import dice

volume, flat = head_phantom(4.0), head_phantom(2.0, ndim=2)
head = flat.fixed_labels.array > 0
affine = classreg.register(volume.fixed, volume.moving, model="affine")
bspline = classreg.register(flat.fixed, flat.moving, model="bspline", fixed_mask=head)

parts = [LABELS[name] for name in ("ventricles", "left thalamus", "right thalamus", "left putamen", "right putamen")]
overlap = {}
for name, transform in (("before", [[1, 0, 0], [0, 1, 0], [0, 0, 1]]), ("bspline", bspline)):
    warped = classreg.apply(transform, flat.moving_labels, flat.fixed, interpolation="label")
    overlap[name] = [dice(flat.fixed_labels.array, warped.array)[label] for label in parts]

plots = {
    "slices": lambda ax=None: plot.slices(volume.fixed, ax=ax),
    "checkerboard": lambda ax=None: plot.checkerboard(bspline.fixed, bspline.before, ax=ax),
    "overlay": lambda ax=None: plot.overlay(affine, ax=ax),
    "difference": lambda ax=None: plot.difference(bspline, ax=ax),
    "contour": lambda ax=None: plot.contour(bspline, flat.fixed_labels, flat.moving_labels, only=parts, ax=ax),
    "deformed_grid": lambda ax=None: plot.deformed_grid(bspline, ax=ax),
    "quiver": lambda ax=None: plot.quiver(bspline, ax=ax),
    "jacobian": lambda ax=None: plot.jacobian(bspline, mask=head, ax=ax),
    "curl": lambda ax=None: plot.curl(bspline, mask=head, ax=ax),
    "convergence": lambda ax=None: plot.convergence(bspline, ax=ax),
    "boxes": lambda ax=None: plot.boxes(overlap, measure="Dice of five regions", ax=ax),
}

folder = Path("plot_gallery")
folder.mkdir(exist_ok=True)
sheet = Figure(figsize=(12, 10), layout="constrained")
for (name, draw), ax in zip(plots.items(), sheet.subplots(3, 4).flat):
    draw().savefig(folder / f"{name}.png", dpi=80)
    draw(ax)
    ax.set_title(name)
sheet.axes[11].set_axis_off()
sheet.savefig("plot_gallery.png", dpi=90)

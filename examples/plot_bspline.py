"""A B-spline registration: image, deformed grid, Jacobian determinant and convergence.

Writes `plot_bspline.png`. The four panels are what to look at before a deformation is believed: does the
image fit, is the grid smooth, is the determinant positive, has the optimiser come to rest?
"""

import matplotlib.pyplot as plt
import numpy as np

import classreg
from classreg.datasets import head_phantom
from classreg.evaluate import folding, tre

pair = head_phantom(2.0, ndim=2)
head = pair.fixed_labels.array > 0  # the noise around the head shall not count
result = classreg.register(pair.fixed, pair.moving, model="bspline", fixed_mask=head)

mapped = result.transform.map_points(pair.fixed_points)
det = result.transform.jacobian_determinant()
print(result.plan)
print(result.status)
print(f"mean distance of the landmarks: {tre(pair.fixed_points, pair.moving_points)['mean']:.2f} mm before, "
      f"{tre(mapped, pair.moving_points)['mean']:.2f} mm after")
print(f"folded: {folding(det, head):.3f} % of the head")

figure, axes = plt.subplots(2, 2, figsize=(8, 8), layout="constrained")
grid = pair.fixed.grid
square = grid.spacing[0] / grid.spacing[1]  # a millimetre is as high as it is wide
axes[0, 0].imshow(result.warped.array - pair.fixed.array, cmap="gray", aspect=square)
axes[0, 0].set(title="warped minus fixed", xticks=[], yticks=[])

# a field moves the lines of a grid: u alone, without the affine part
lines = grid.points() + np.moveaxis(result.transform.mapping().field, 0, -1)
for family in (lines[::6], lines[:, ::6].swapaxes(0, 1)):
    for line in family:
        axes[0, 1].plot(line[:, 0], line[:, 1], color="tab:blue", linewidth=0.7)
axes[0, 1].set(title="x + u(x), mm", aspect="equal")
axes[0, 1].invert_yaxis()  # world y points to the back

shown = axes[1, 0].imshow(det, cmap="RdBu_r", vmin=0.5, vmax=1.5, aspect=square)
axes[1, 0].set(title="Jacobian determinant", xticks=[], yticks=[])
figure.colorbar(shown, ax=axes[1, 0], shrink=0.8)

for level in sorted({r.level for r in result.history if r.stage == "bspline"}):
    values = [r.value for r in result.history if (r.stage, r.level) == ("bspline", level)]
    axes[1, 1].plot(values, label=f"level {level}")
axes[1, 1].set(title="objective", xlabel="iteration")
axes[1, 1].legend()
figure.savefig("plot_bspline.png", dpi=120)
plt.close(figure)

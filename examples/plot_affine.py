"""Affine registration, and how far from the truth it ends.

The phantom is a pair of generated heads on two oblique grids, with landmarks and the true map between them.
Writes `plot_affine.png`: fixed image, moving image as the headers place it, moving image after registration.
"""

import matplotlib.pyplot as plt

import classreg
from classreg.datasets import head_phantom
from classreg.evaluate import tre

pair = head_phantom(4.0, deformation=0)  # without deformation the truth is a matrix
result = classreg.register(pair.fixed, pair.moving, model="affine")

before = tre(pair.fixed_points, pair.moving_points)["mean"]
after = tre(result.transform.map_points(pair.fixed_points), pair.moving_points)["mean"]
print(result.status)
print(f"mean distance of the landmarks: {before:.2f} mm before, {after:.2f} mm after")
print("largest difference from the true matrix:", abs(result.transform.matrix - pair.matrix).max())

middle = pair.fixed.grid.shape[0] // 2
views = {"fixed": result.fixed, "moving, by the headers": result.before, "moving, registered": result.warped}
figure, axes = plt.subplots(1, 3, figsize=(9, 4), layout="constrained")
for axis, (title, image) in zip(axes, views.items()):
    axis.imshow(image.array[middle], cmap="gray", aspect=image.grid.spacing[1] / image.grid.spacing[2])
    axis.set(title=title, xticks=[], yticks=[])
figure.savefig("plot_affine.png", dpi=120)
plt.close(figure)

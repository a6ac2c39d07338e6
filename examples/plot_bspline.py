"""A B-spline registration: image, deformed grid, Jacobian determinant and convergence.

Writes `plot_bspline.png`. The four panels are what to look at before a deformation is believed: does the
image fit, is the grid smooth, is the determinant positive, has the optimiser come to rest?
"""

from matplotlib.figure import Figure

import classreg
from classreg import plot
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

figure = Figure(figsize=(8, 8), layout="constrained")
panels = figure.subplots(2, 2).flat
for panel, (title, draw) in zip(panels, {
        "warped minus fixed": plot.difference, "x + u(x)": plot.deformed_grid,
        "Jacobian determinant": plot.jacobian, "objective": plot.convergence}.items()):
    draw(result, ax=panel)
    panel.set_title(title)
figure.savefig("plot_bspline.png", dpi=120)

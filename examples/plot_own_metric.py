"""A metric of your own, from outside the package: a robust difference that forgives outliers.

    E = sum w rho(M - F) / sum w,        rho(r) = c^2 (sqrt(1 + (r / c)^2) - 1),
    dE/dM = w r / sqrt(1 + (r / c)^2) / sum w

Near r = 0 this is half the squared difference, far away it grows like |r|, so that a lesion that only one
image has pulls less. Writes `plot_own_metric.png`.
"""

import matplotlib.pyplot as plt
import numpy as np

import classreg
from classreg import check
from classreg.datasets import head_phantom
from classreg.evaluate import tre
from classreg.metrics import METRICS
from classreg.metrics.base import Metric


class Robust(Metric):
    """Mean robust difference; `c` is where it turns from square to linear (images have unit deviation)."""

    def __init__(self, c: float = 0.3):
        self.c = c

    def __call__(self, warped, weight):
        """Value, and d value / d warped of the same shape (channels, z, y, x)."""
        r = warped - self.fixed
        root = np.sqrt(1 + (r / self.c) ** 2)
        scale = 1 / max(weight.sum(dtype=np.float64) * len(warped), 1e-12)  # no overlap: no force
        value = self.c**2 * float(np.sum(weight * (root - 1), dtype=np.float64)) * scale
        return value, (weight * r / root * scale).astype(warped.dtype)


check.metric(Robust)  # is the adjoint the derivative of the value? Raises, with the numbers, if not
METRICS["robust"] = Robust  # from here on every function that takes a metric takes this one

pair = head_phantom(4.0, deformation=0)
sick = pair.moving.array.copy()
sick[20:, 25:40, 5:25] = 1000  # a bright lesion in the moving image alone
found = {}
for metric in ("ssd", "robust", {"name": "robust", "c": 0.1}):
    result = classreg.register(pair.fixed, pair.moving.with_array(sick), model="affine", metric=metric)
    found[str(metric)] = tre(result.transform.map_points(pair.fixed_points), pair.moving_points)["mean"]

figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.barh(list(found), list(found.values()))
axis.set(xlabel="mean distance of the landmarks, mm", title="affine, with a lesion in one image")
figure.savefig("plot_own_metric.png", dpi=120)
plt.close(figure)
print(found)

"""What plots are given that cannot be drawn, each refused with a sentence; and what can, odd as it is."""

from __future__ import annotations

import numpy as np
import pytest
from plot_scenes import blob, oblique

from classreg import plot
from classreg.errors import ClassregError
from classreg.image import Image

GRID = oblique((0, 1, 2), (1, 1, 1))
IMAGE = blob(GRID, [n // 2 for n in GRID.shape])
FIELD = np.ones((3, *GRID.shape))


@pytest.mark.parametrize("draw, says", [
    (lambda: plot.slices(IMAGE, at="abc"), "at is 'abc'; give one array index per axis"),
    (lambda: plot.slices(IMAGE, at=5), "at is 5; give one array index per axis"),
    (lambda: plot.slices(IMAGE, ax=5), "must be a matplotlib Axes, got int"),
    (lambda: plot.slices(IMAGE, ax=[1, 2, 3]), "must be a matplotlib Axes, got int"),
    (lambda: plot.difference(IMAGE, IMAGE, limit="a"), "limit is 'a'; it must be a finite number above 0"),
    (lambda: plot.curl(FIELD, GRID, limit="a"), "limit is 'a'; it must be a finite number above 0"),
    (lambda: plot.jacobian(FIELD[0], GRID, limit="a"), "red end, is 'a'; it must be a finite number above 1"),
    (lambda: plot.quiver(FIELD, GRID, stretch="a"), "stretch is 'a'; it must be a finite number above 0"),
    (lambda: plot.contour(IMAGE, Image(np.full(GRID.shape, np.nan), GRID)), "hold no label but 0"),
    (lambda: plot.convergence(None), "a history is a result, or records .* got NoneType"),
    (lambda: plot.convergence("history.json"), "a history is a result, or records .* got str"),
    (lambda: plot.convergence([{"value": 1.0}]), "a history is a result, or records"),
    (lambda: plot.boxes({"a": 3.0}), "values of 'a' are 3.0; give a row of numbers"),
    (lambda: plot.boxes({"a": {}}), "the methods have no labels"),
])
def test_what_cannot_be_drawn(draw, says):
    with pytest.raises(ClassregError, match=says):
        draw()


def test_arrows_that_are_infinite_are_left_out():
    field = FIELD.copy()
    field[0, :, 3] = np.inf
    figure = plot.quiver(field, GRID)
    figure.canvas.draw()
    lengths = np.ma.concatenate([ax.collections[0].get_array() for ax in figure.axes[:3]])
    assert np.allclose(lengths.compressed(), 3**0.5)
    assert np.isclose(figure.axes[0].collections[0].norm.vmax, 3**0.5)


def test_names_are_not_read_as_formulas():
    figure = plot.boxes({"a$x_$": {"l$_$": [1, 2]}, "b": {"l$_$": [2, 3]}}, measure="$m_$")
    figure.canvas.draw()
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "a$x_$"

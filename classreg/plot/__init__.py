"""Pictures of a registration, each one call on a result or on arrays.

    from classreg import plot
    plot.checkerboard(result).savefig("checkerboard.png")
    plot.checkerboard(fixed, warped, plane="axial", ax=ax)

slices, checkerboard, overlay, difference, contour; deformed_grid, quiver, jacobian, curl; convergence; boxes; motion,
profile. All return a `matplotlib.figure.Figure` with a canvas of its own; nothing is shown and no global state is
touched.

Options that mean the same everywhere:

    at        array index (z, y, x) that the slices cross in; by default the middle of what the fixed image shows (of
              its mask, if it has one), of a bare array of numbers the middle of the grid
    plane     "axial", "coronal" or "sagittal": only this one
    ax        matplotlib axes to draw on instead of a new figure: one per plane, or one for the plane named (or the
              first)
    spacing   mm between samples, in array-axis order, for images given as plain arrays
    channel   of images with channels, the one that is shown; by default three are RGB, and of others the first

Screen rule: head up, front up, the patient's left on the right; see `views`.

May import anything below and matplotlib; nothing imports it but `report` and a lazy call.
"""

from .canvas import FOLD, LINE, TEXT
from .comparison import boxes
from .curves import convergence, levels
from .fields import curl, deformed_grid, jacobian, quiver
from .motion import motion, profile
from .outlines import contour
from .pictures import checkerboard, difference, overlay, slices
from .shades import picture, squares, two_colours, window
from .views import Plane, centre, planes

__all__ = ["FOLD", "LINE", "TEXT", "Plane", "boxes", "centre", "checkerboard", "contour", "convergence", "curl",
           "deformed_grid", "difference", "jacobian", "levels", "motion", "overlay", "picture", "planes", "profile",
           "quiver", "slices", "squares", "two_colours", "window"]

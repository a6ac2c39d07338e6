"""The report of a group: the stack before and after, the template, the classes, the curves; one HTML file.

Built from the parts of `report`, under its rules: nothing is asked of the network, every text is escaped.

May import anything below; nothing imports it but a lazy call.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from . import plot, report
from .image import Image

#: images of a stack that are shown, evenly chosen
MOST = 12

#: colours of the classes, after black for none
COLOURS = np.array([(0, 0, 0), (68, 119, 170), (238, 102, 119), (34, 136, 51), (204, 187, 68), (102, 204, 238),
                    (170, 51, 119), (187, 187, 187), (238, 119, 51), (0, 153, 136)], np.uint8)


def write_group_report(path: str | os.PathLike, *, names: Sequence[str], before: Sequence[Image],
                       after: Sequence[Image], templates: tuple[Image, Image], classes: Image | None,
                       history: Sequence[dict], figures: Mapping[str, tuple], each: Sequence[tuple], plan: str,
                       status: str, title: str, notes: Sequence[str]) -> None:
    """Write the report of a group.

    Parameters
    ----------
    path : path
        Where to write; written whole or not at all.
    names : sequence of str
        Of the images.
    before, after : sequence of Image
        The images on the common grid, as the headers place them, and through their transforms.
    templates : (Image, Image)
        Their mean before and after.
    classes : Image or None
        Labels 1, 2, ... of the classes on the common grid.
    history, figures, plan, status, title, notes
        As in `report.write_report`.
    each : sequence of (str, number, ...)
        Rows of the table of images: name, mean and largest motion in mm, smallest Jacobian determinant.
    """
    views = plot.planes(templates[1].grid)
    sections = [
        ("summary", "Summary", _summary(templates[1], len(names), figures, each)),
        ("template", "Template", _template(views, templates)),
        ("stack", "Stack", _stack(views[0], names, before, after))]
    if classes is not None:
        sections.append(("classes", "Classes", _classes(views, classes)))
    report._write(path, title, status, sections, history, plan, notes)


def _summary(template, count, figures, each):
    grid = template.grid
    shape = " × ".join(str(n) for n in grid.shape)
    spacing = " × ".join(f"{mm:.4g}" for mm in grid.spacing)
    text = (f'<p class="soft">{count} images on a common grid of {shape} samples, {spacing} mm '
            f"({'z, y, x' if grid.ndim == 3 else 'y, x'}).</p>")
    rows = [(name, *map(report._number, values)) for name, values in figures.items()]
    heads = ("Image", "Mean motion (mm)", "Largest motion (mm)", "Smallest Jacobian determinant")
    return (text + report._table(("", "Before", "After"), rows)
            + report._table(heads, [(name, *map(report._number, values)) for name, *values in each]))


def _template(views, templates):
    limits = plot.window(*templates)
    pairs = {when: [report._png_tag(plot.picture(image, plane, limits), plane, f"Template {when} registration, "
                                                                               f"{plane.name}") for plane in views]
             for when, image in zip(("before", "after"), templates)}
    rows = "".join(f"<div><h3>{when.capitalize()} registration</h3>{report._row(views, tiles)}</div>"
                   for when, tiles in pairs.items())
    text = ('<p class="soft">The mean of the images, each brought to zero mean and unit deviation: it is sharp where '
            "they agree.</p>")
    return text + (rows if len(views) > 1 else f'<div class="row two">{rows}</div>')


def _stack(plane, names, before, after):
    chosen = np.unique(np.linspace(0, len(names) - 1, min(MOST, len(names))).round().astype(int))
    text = f'<p class="soft">One slice of {"each image" if len(chosen) == len(names) else f"{len(chosen)} images"}.</p>'
    for when, stack in (("Before", before), ("After", after)):
        tiles = ""
        for k in chosen:
            picture = plot.picture(stack[k], plane, plot.window(stack[k]))
            tag = report._png_tag(picture, plane, f"{names[k]} {when.lower()} registration")
            tiles += (f'<figure><div class="tile">{tag}</div><figcaption>{escape(names[k])}</figcaption></figure>')
        text += (f'<h3>{when} registration</h3><div class="row" style="grid-template-columns:repeat(auto-fill,'
                 f'minmax(9rem,1fr))">{tiles}</div>')
    return text


def _classes(views, classes):
    labels = classes.array
    tiles = []
    for plane in views:
        cut = plane.cut(labels).astype(int)
        picture = COLOURS[np.where(cut > 0, 1 + (cut - 1) % (len(COLOURS) - 1), 0)]
        tiles.append(report._png_tag(picture, plane, f"Classes, {plane.name}"))
    count = int(labels.max())
    return (f'<p class="soft">The likeliest of {count} classes at each sample of the common space.</p>'
            + report._row(views, tiles))

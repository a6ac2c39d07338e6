"""Pictures and the HTML report: orientation, scale, colour, escaping, and the page in a real browser."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from classreg import plot
from classreg.errors import FileError, InputError, OptionError
from classreg.grid import Grid
from classreg.image import Image
from classreg.report import write_report

EVIL = "<script>alert(1)</script>"


def rotation(ndim):
    """A turn of 14 degrees in the plane x, y, in 3-D tilted by 7 about x."""
    a, b = np.deg2rad((14, 7))
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return tilt @ turn if ndim == 3 else turn[:2, :2]


def oblique(order=(2, 1, 0), signs=(1, 1, 1), shape=(20, 24, 28), spacing=(3.0, 1.5, 1.0)):
    """A grid off the origin: array axis `order[w]` runs along (turned) world axis w, towards `signs[w]`."""
    d = len(shape)
    affine = np.eye(d + 1)
    turn = rotation(d)
    for world, (axis, sign) in enumerate(zip(order, signs)):
        affine[:d, axis] = sign * turn[:, world] * spacing[axis]
    affine[:d, d] = [-37.0, 61.0, 113.0][:d]
    return Grid(shape, affine)


def blob(grid, index):
    array = np.zeros(grid.shape, np.float32)
    array[tuple(slice(max(0, i - 1), i + 2) for i in index)] = 100
    return Image(array, grid)


def brain(grid, shift=0.0):
    """A smooth ball with stripes, moved by `shift` mm along world x."""
    points = grid.points() - grid.centre
    points[..., 0] -= shift
    inside = np.linalg.norm(points / (0.4 * np.ptp(grid.corners(), axis=0)), axis=-1) < 1
    return Image((inside * (100 + 40 * np.sin(points.sum(-1) / 5))).astype(np.float32), grid)


def history():
    return [dict(stage=stage, level=level, iteration=i, value=1 / (1 + i + level), step=0.5, seconds=0.01,
                 terms={"lncc": 0.4, "bending": 0.1})
            for stage in ("affine", "bspline") for level in (0, 1) for i in range(6)]


def write(path, grid, **changes):
    displacement = np.zeros((grid.ndim, *grid.shape))
    displacement[0] = 2 * np.sin(grid.points()[..., 1] / 9)
    options = dict(
        fixed=brain(grid), before=brain(grid, 7.0), after=brain(grid, 0.6), displacement=displacement,
        jacobian=np.linspace(0.5, 1.8, grid.size).reshape(grid.shape), history=history(), title="A pair",
        figures={"lncc": (-0.25, -0.75), "landmarks": (None, 1.5), "verdict": ("poor", "good")},
        plan="model = 'bspline'\nseed = 0", status="Converged after 24 iterations.", notes=["80 % masked"])
    write_report(path, **{**options, **changes})
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def image(self, alt):
        """Values 0..255 of the picture with this alternative text."""
        source = next(image["src"] for image in self.all("img") if image["alt"] == alt)
        data = base64.b64decode(source.removeprefix("data:image/png;base64,"), validate=True)
        return np.rint(255 * imread(io.BytesIO(data), format="png"))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, 1, -1), (-1, 1, -1)])
def test_left_is_right_front_and_head_are_up(order, signs):
    grid, index = oblique(order, signs), [0, 0, 0]
    for world, towards in enumerate((1, -1, 1)):  # a point of the patient's left, front and head
        axis, n = order[world], grid.shape[order[world]]
        index[axis] = round(n * (0.75 if towards * signs[world] > 0 else 0.25))
    image = blob(grid, index)
    views = plot.planes(grid, at=index)
    assert [plane.name for plane in views] == ["axial", "coronal", "sagittal"]
    for plane in views:
        shown = plot.picture(image, plane, (0, 100))
        (row, column), (rows, columns) = np.argwhere(shown == 255).mean(0), shown.shape
        assert row < 0.4 * rows, plane.name
        if plane.name == "sagittal":
            assert column < 0.4 * columns  # faces left
            assert plane.edges == ("S", "P", "I", "A")
        else:
            assert column > 0.6 * columns
            assert (plane.edges[1], plane.edges[3]) == ("L", "R")
    assert views[0].edges[0] == "A" and views[1].edges[0] == "S"


@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_two_dimensions_have_one_plane_with_x_right_and_y_down(order, signs):
    grid = oblique(order, signs, shape=(20, 30), spacing=(2.0, 1.0))
    index = [round((0.75 if signs[order.index(axis)] > 0 else 0.25) * n) for axis, n in enumerate(grid.shape)]
    plane, = plot.planes(grid)
    row, column = np.argwhere(plot.picture(blob(grid, index), plane, (0, 100)) == 255).mean(0)
    rows, columns = (20, 30) if order == (1, 0) else (30, 20)
    assert row > 0.6 * rows and column > 0.6 * columns
    assert plane.size == pytest.approx((40.0, 30.0) if order == (1, 0) else (30.0, 40.0))
    assert plane.edges == ("",) * 4


def test_slices_are_the_middle_ones_unless_given_and_none_is_thin():
    grid = oblique()
    assert {plane.axis: plane.index for plane in plot.planes(grid)} == {0: 10, 1: 12, 2: 14}
    for at in ((20, 0, 0), (0, -1, 0), (1, 2)):
        with pytest.raises(OptionError, match="at="):
            plot.planes(grid, at)
    assert [p.name for p in plot.planes(oblique(shape=(1, 24, 28)))] == ["axial"]
    assert len(plot.planes(oblique(shape=(1, 1, 28)))) == 1


def test_window_ignores_outliers_and_nan():
    grid = Grid.from_spacing((50, 60))
    array = np.random.default_rng(0).uniform(10, 20, grid.shape)
    array[3, 4], array[5, 6], array[7, 8] = 1e6, -1e6, np.nan
    low, high = plot.window(Image(array, grid))
    assert 10 <= low < 10.5 and 19.5 < high <= 20


def test_window_of_little_to_see():
    grid = Grid.from_spacing((200, 210))
    assert plot.window(Image(np.full(grid.shape, 7.0), grid)) == (7.0, 8.0)
    assert plot.window(Image(np.full(grid.shape, np.nan), grid)) == (0.0, 1.0)
    dot = np.zeros(grid.shape)
    dot[101, 33] = 9
    assert plot.window(Image(dot, grid)) == (0.0, 9.0)
    dark = np.full((3, *grid.shape), 40, np.uint8)
    assert plot.window(Image(dark, grid)) == (0.0, 255.0)  # colours are kept
    assert plot.window(Image(dark / np.float32(255), grid)) == (0.0, 1.0)


def test_first_of_several_channels_is_shown_and_nan_is_black():
    grid = Grid.from_spacing((4, 5))
    array = np.stack([np.full((4, 5), 10.0), np.full((4, 5), 90.0)])
    array[0, 1, 2] = np.nan
    shown = plot.picture(Image(array, grid), plot.planes(grid)[0], (0, 20))
    assert shown[1, 2] == 0 and np.unique(shown).tolist() == [0, 128]


def test_panels_keep_millimetres_square():
    grid = oblique()  # z, y, x: 60 x 36 x 28 mm
    figure = plot.slices(brain(grid))
    figure.canvas.draw()
    axial, coronal, sagittal = figure.axes
    assert axial.images[0].get_extent() == pytest.approx([0, 28, 36, 0])
    assert coronal.images[0].get_extent() == pytest.approx([0, 28, 60, 0])
    assert sagittal.images[0].get_extent() == pytest.approx([0, 36, 60, 0])
    scales = []
    for ax in figure.axes:
        box, (left, right, bottom, top) = ax.get_window_extent(), ax.images[0].get_extent()
        scales += [box.width / (right - left), box.height / (bottom - top)]
    assert np.ptp(scales) < 0.02 * np.mean(scales)


def test_slices_of_a_colour_image_are_rgb():
    grid = Grid.from_spacing((10, 12), (2.0, 1.0), origin=(5, -3))
    array = np.zeros((3, 10, 12), np.uint8)
    array[0, 2, 3], array[2, 7, 8] = 200, 100
    shown = plot.slices(Image(array, grid)).axes[0].images[0].get_array()
    assert shown.shape == (10, 12, 3)
    assert shown[2, 3].tolist() == [200, 0, 0] and shown[7, 8].tolist() == [0, 0, 100]


def test_checkerboard_squares_are_equal_in_mm():
    grid = Grid.from_spacing((16, 64), (4.0, 1.0), origin=(9, 8))  # 64 x 64 mm: squares of 8 mm
    ramp = np.tile(np.linspace(-1, 1, 64), (16, 1))
    shown = plot.checkerboard(Image(ramp, grid), Image(-ramp, grid)).axes[0].images[0].get_array().astype(int)
    moving = (np.arange(16)[:, None] // 2 + np.arange(64) // 8) % 2 == 1
    assert np.array_equal(shown > 127, moving ^ (ramp > 0))


def test_checkerboard_of_grey_and_colour():
    grid = Grid.from_spacing((16, 16), 1.0)
    colour = np.zeros((3, 16, 16), np.uint8)
    colour[1] = 250
    ramp = np.arange(256.0).reshape(16, 16)
    shown = plot.checkerboard(Image(ramp, grid), Image(colour, grid)).axes[0].images[0].get_array()
    assert shown[0, 2].tolist() == [0, 250, 0]
    assert len(set(shown[8, 8].tolist())) == 1  # grey


def test_overlay_is_grey_where_aligned_and_coloured_where_not():
    grid = oblique()
    same = plot.overlay(brain(grid), brain(grid)).axes[0].images[0].get_array()
    apart = plot.overlay(brain(grid), brain(grid, 9.0)).axes[0].images[0].get_array().astype(int)
    assert np.ptp(same, axis=-1).max() == 0
    fixed, moving = (plot.picture(brain(grid, shift), plot.planes(grid)[0], (0, 100)) for shift in (0.0, 9.0))
    assert (apart[(fixed == 255) & (moving == 0)] @ [1, -1, 0] > 100).all()  # only the fixed: red
    assert (apart[(fixed == 0) & (moving == 255)] @ [-1, 1, 0] > 100).all()  # only the moving: cyan
    assert ((fixed == 255) & (moving == 0)).any() and ((fixed == 0) & (moving == 255)).any()
    for draw in (plot.overlay, plot.checkerboard):
        with pytest.raises(InputError, match="27"):
            draw(brain(grid), brain(oblique(shape=(20, 24, 27))))


def screen(figure):
    """Middle of every panel's first grid line, (column, row) in mm."""
    return np.array([ax.collections[0].get_segments()[0].mean(0) for ax in figure.axes])


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
@pytest.mark.parametrize("order", [(2, 1, 0), (0, 2, 1)])
def test_deformed_grid_moves_lines_by_the_displacement_in_mm(order, signs):
    grid = oblique(order, signs)
    still = screen(plot.deformed_grid(np.zeros((3, *grid.shape)), grid))
    # 5 mm to the (oblique) left, 3 to the back, 2 to the head
    world = rotation(3) @ np.array([5.0, 3.0, 2.0])
    moved = screen(plot.deformed_grid(np.broadcast_to(world[:, None, None, None], (3, *grid.shape)), grid))
    assert moved - still == pytest.approx(np.array([[5, 3], [5, -2], [3, -2]]))


def test_deformed_grid_lines_start_at_the_samples_and_bend():
    grid = Grid.from_spacing((30, 40), (2.0, 1.5), origin=(4, -9))
    displacement = np.zeros((2, 30, 40))
    displacement[0, 15, 20] = 4.0
    ax, = plot.deformed_grid(displacement, grid).axes
    segments = ax.collections[0].get_segments()
    assert segments[0][0] == pytest.approx([0.75, 1.0])
    points = np.concatenate(segments)
    at = [20.5 * 1.5 + 4, 15.5 * 2]
    assert np.isclose(points, at).all(-1).any()
    with pytest.raises(InputError, match="components first"):
        plot.deformed_grid(np.zeros((30, 40, 2)), grid)


def test_jacobian_is_white_at_one_and_marks_folds():
    grid = oblique(signs=(-1, 1, -1))
    det = np.ones(grid.shape)
    det[:, :12] = 2.0  # front half grows
    index = (4, 18, 21)
    det[index] = -0.1
    figure = plot.jacobian(det, grid, at=index)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255

    def colour(ax, column, row):
        x, y = ax.transData.transform((column, row))
        return pixels[pixels.shape[0] - 1 - int(y), int(x)]

    axial = figure.axes[0]
    column, row = (28 - 21 - 0.5) * 1.0, 18.5 * 1.5  # x runs to the patient's right: flipped on the screen
    assert colour(axial, column, row) == pytest.approx(to_rgb(plot.FOLD), abs=0.02)
    assert colour(axial, 5, 30) == pytest.approx((1, 1, 1), abs=0.06)
    red, green, blue = colour(axial, 5, 5)
    assert red > blue + 0.2 and red > green + 0.2
    assert axial.images[0].norm(2.0) + axial.images[0].norm(0.5) == pytest.approx(1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["folded"]
    assert not plot.jacobian(np.ones(grid.shape), grid).legends
    with pytest.raises(InputError, match="does not fit"):
        plot.jacobian(np.ones((3, 4, 5)), grid)


def test_convergence_has_a_panel_per_level_with_its_values():
    records = history()
    records[3]["value"] = np.nan
    axes = plot.convergence(records).axes
    assert [ax.get_title(loc="left") for ax in axes] == [
        "affine, level 0", "affine, level 1", "bspline, level 0", "bspline, level 1"]
    x, y = axes[1].lines[0].get_data()
    assert list(x) == list(range(6)) and y == pytest.approx([1 / (2 + i) for i in range(6)])
    plot.convergence([dict(stage="$x_{$", level=0, iteration=0, value=1.0)]).canvas.draw()  # no formula
    with pytest.raises(InputError, match="empty"):
        plot.convergence([])


def test_no_global_matplotlib_state():
    code = "import sys, classreg.plot, classreg.report; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_report_holds_every_section_and_number_and_no_address(tmp_path):
    html = write(tmp_path / "report.html", oblique())
    assert html == write(tmp_path / "again.html", oblique())
    page = Page(html)
    ids = [attributes["id"] for attributes in page.all("section")]
    assert ids == "summary compare checkerboard overlay deformed-grid jacobian convergence plan notes".split()
    assert {a["href"] for a in page.all("a")} == {f"#{key}" for key in ids}
    for text in ("Converged after 24 iterations.", "−0.75", "1.5", "poor", "20 × 24 × 28", "3 × 1.5 × 1",
                 "seed = 0", "80 % masked", "bspline, level 1", "0 of 13,440 voxels folded"):
        assert text in page.text
    assert len(page.all("img")) == 3 * 2 * 2 + 3 * 2 + 3 * 2 + 2 + 4
    assert all(len(image["alt"]) > 10 for image in page.all("img"))
    assert not re.search(r"url\(|@import|https?:", html)
    assert all(a.get(name, "#").startswith(("data:", "#")) for _, a in page.tags for name in ("src", "href"))


def test_tiles_have_square_pixels_and_stay_small(tmp_path):
    grid = oblique(shape=(4, 700, 900), spacing=(15.0, 0.5, 0.5))  # 60 x 350 x 450 mm
    html = write(tmp_path / "report.html", grid, displacement=None, jacobian=None, history=[])
    sizes = [Page(html).image(f"Fixed image, {plane}").shape for plane in ("axial", "coronal", "sagittal")]
    assert sizes == [(467, 600), (80, 600), (103, 600)]
    assert len(html) < 3e6


def test_tiles_are_the_slices_to_the_grey_level(tmp_path):
    grid = Grid.from_spacing((20, 24, 28), 2.0, origin=(3, -50, 9), direction=np.diag([-1, 1, -1]))
    page = Page(write(tmp_path / "report.html", grid))
    fixed, before, after = brain(grid), brain(grid, 7.0), brain(grid, 0.6)
    for plane in plot.planes(grid):  # grey PNG: two dimensions, one byte a pixel
        expected = plot.picture(fixed, plane, plot.window(fixed))
        assert np.array_equal(page.image(f"Fixed image, {plane.name}"), expected)
        expected = plot.picture(after, plane, plot.window(before, after))
        assert np.array_equal(page.image(f"Moving image after registration, {plane.name}"), expected)


def test_colour_in_two_dimensions(tmp_path):
    grid = oblique((1, 0), (1, 1), shape=(40, 30), spacing=(1.0, 1.0))
    array = np.zeros((3, 40, 30), np.uint8)
    array[0, :20], array[2, 20:] = 220, 130
    image = Image(array, grid)
    page = Page(write(tmp_path / "report.html", grid, fixed=image, before=image, after=image))
    tile = page.image("Fixed image, plane")
    assert tile[5, 5].tolist() == [220, 0, 0] and tile[35, 5].tolist() == [0, 0, 130]
    assert len(page.all("img")) == 2 * 2 + 2 + 2 + 2 + 4


def test_folds_are_counted_and_shown(tmp_path):
    grid = oblique()
    det = np.ones(grid.shape)
    det[2, 3, 4], det[5, 6, 7] = 0.0, -2.0
    text = Page(write(tmp_path / "report.html", grid, jacobian=det)).text
    assert "Range −2 to 1" in text and "2 of 13,440 voxels folded" in text and "yellow" in text


def test_what_is_not_given_has_no_section(tmp_path):
    page = Page(write(tmp_path / "report.html", oblique(), displacement=None, jacobian=None, history=[],
                      notes=[], figures={}))
    assert not {"deformed-grid", "jacobian", "notes"} & {section["id"] for section in page.all("section")}
    assert "No iterations were run." in page.text and not page.all("table")


def test_all_text_is_escaped(tmp_path):
    records = [dict(record, stage=EVIL, terms={EVIL: 1.0}) for record in history()]
    text = write(tmp_path / "report.html", oblique(), title=EVIL, status=EVIL, plan=f"</pre>{EVIL}",
                 notes=[EVIL], figures={EVIL: (EVIL, '"><img src=x onerror=alert(1)>')}, history=records)
    page = Page(text)
    assert len(page.all("script")) == 1 and EVIL not in text
    assert page.text.count(EVIL) > 10
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert page.all("img")[-1]["alt"] == f"Value against iteration, {EVIL}, level 1"


@pytest.mark.parametrize("changes", [
    dict(after=brain(oblique(shape=(20, 24, 27)))),
    dict(displacement=np.zeros((20, 24, 28, 3))),
    dict(jacobian=np.zeros((20, 24, 27))),
])
def test_what_does_not_fit_is_refused_and_the_old_report_stays(tmp_path, changes):
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(InputError, match="27|28, 3"):
        write(path, oblique(), **changes)
    assert path.read_text(encoding="utf-8") == "old" and list(tmp_path.iterdir()) == [path]


def test_odd_names_of_files(tmp_path):
    assert "moving?.nii" in write(tmp_path / "report.html", oblique(), title="moving\udcff.nii")  # no Unicode
    with pytest.raises(FileError, match="nowhere"):
        write(tmp_path / "nowhere" / "report.html", oblique())


@pytest.fixture(scope="module")
def driver():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for name in ("headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
                 "disable-component-update disable-sync disable-dev-shm-usage").split():
        options.add_argument(f"--{name}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield driver
    driver.quit()


def opened(driver, path, motion="no-preference", width=1200, **changes):
    write(path, oblique(), **changes)
    media = {"features": [{"name": "prefers-reduced-motion", "value": motion}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    driver.get(path.as_uri())


def visible(driver):
    """Which of the stacked images each flicker tile shows; one call, lest the page turn half way."""
    return driver.execute_script("""
        const seen = image => getComputedStyle(image).visibility === "visible";
        const shown = tile => [...tile.children].filter(e => e.alt && seen(e)).map(e => e.className).join();
        return [...document.querySelectorAll("#flicker .tile")].map(shown);""")


def until(driver, shown):
    wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait(driver, 20, poll_frequency=0.05)
    wait.until(lambda _: visible(driver) == [shown] * 6)


def test_page_loads_clean_and_alone(driver, tmp_path):
    opened(driver, tmp_path / "report.html")
    images = driver.execute_script(
        "return [...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])")
    assert len(images) == 30
    assert all(complete and natural > 0 and shown > 0 for complete, natural, shown in images)
    assert driver.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"]
    assert {url.split(":")[0] for url in urls} == {"file", "data"}


def test_flicker_runs_by_itself_pauses_and_plays(driver, tmp_path):
    opened(driver, tmp_path / "report.html")
    for name in ("moving", "fixed", "moving"):
        until(driver, name)
    pause = driver.find_element("id", "auto")
    pause.click()
    assert pause.text == "Play"
    before = visible(driver)
    driver.execute_async_script("setTimeout(arguments[0], 1200)")  # longer than one turn
    assert visible(driver) == before
    pause.click()
    assert pause.text == "Pause"
    until(driver, "fixed" if before[0] == "moving" else "moving")


def test_flicker_switches_by_button_key_and_picture(driver, tmp_path):
    opened(driver, tmp_path / "report.html", motion="reduce")
    assert driver.find_element("id", "auto").text == "Play"  # still, for those who ask for little motion
    assert visible(driver) == ["fixed"] * 6
    button = driver.find_element("id", "swap")
    button.click()
    assert visible(driver) == ["moving"] * 6
    assert driver.find_element("id", "shown").text == "Showing the moving image"
    button.send_keys(" ")
    assert visible(driver) == ["fixed"] * 6
    button.send_keys("\n")
    assert visible(driver) == ["moving"] * 6
    driver.find_element("css selector", "#flicker .tile").click()
    assert visible(driver) == ["fixed"] * 6


def test_a_script_in_the_title_is_text(driver, tmp_path):
    exceptions = pytest.importorskip("selenium.common.exceptions")
    opened(driver, tmp_path / "report.html", title=EVIL, status=EVIL, notes=[EVIL], plan=f"</pre>{EVIL}",
           figures={EVIL: ("<img src=x onerror=alert(1)>", EVIL)})
    with pytest.raises(exceptions.NoAlertPresentException):
        _ = driver.switch_to.alert.text
    assert driver.find_element("tag name", "h1").text == EVIL
    assert driver.title == EVIL
    assert driver.get_log("browser") == []


def test_a_phone_does_not_scroll_sideways(driver, tmp_path):
    opened(driver, tmp_path / "report.html", width=390, title="a_very_long_file_name_" * 6 + ".nii.gz")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
    tiles = driver.execute_script(
        "return [...document.querySelectorAll('.tile')].map(tile => tile.getBoundingClientRect().width)")
    assert min(tiles) > 300

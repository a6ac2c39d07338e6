"""The HTML report: what it says and shows, escaping, and the page in a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread
from plot_scenes import brain, history, oblique

from classreg import plot
from classreg.errors import FileError, InputError
from classreg.grid import Grid
from classreg.image import Image
from classreg.report import write_report

EVIL = "<script>alert(1)</script>"


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
    for plane in plot.planes(grid, plot.centre(fixed)):  # grey PNG: two dimensions, one byte a pixel
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


def test_grid_is_drawn_without_the_linear_part_where_the_rest_is_given(tmp_path):
    grid, alt = oblique(), "Lines of the fixed grid after the displacement"
    shift, still = np.full((3, *grid.shape), 60.0), np.zeros((3, *grid.shape))
    drawn = {name: Page(write(tmp_path / "report.html", grid, **given)) for name, given in {
        "still": dict(displacement=still), "whole": dict(displacement=shift),
        "rest": dict(displacement=shift, deformation=still)}.items()}
    assert np.array_equal(drawn["rest"].image(alt), drawn["still"].image(alt))
    assert not np.array_equal(drawn["whole"].image(alt), drawn["still"].image(alt))
    assert "mean 104 mm" in drawn["rest"].text and "but for the linear part" in drawn["rest"].text


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

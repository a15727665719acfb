"""The reports in a browser, as a person reads them: wide and narrow, light and dark, by keys."""

import os
import pathlib

import pytest

from experiments import compare, launch
from tiny_launches import TINY

pytestmark = pytest.mark.slow

CUT = """[...document.querySelectorAll("section *")].filter(e =>
    e.clientWidth && e.scrollWidth > e.clientWidth + 1 &&
    getComputedStyle(e).overflowX === "hidden"
).map(e => e.outerHTML.slice(0, 80))"""
OVERLAPS = """(() => {
    const boxes = [...document.querySelectorAll("section")].map(e => e.getBoundingClientRect());
    const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 &&
        a.top < b.bottom - 1 && b.top < a.bottom - 1;
    return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => meet(a, b))).length;
})()"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A report of each task, and a comparison."""
    root = tmp_path_factory.mktemp("reports")
    for name, changes in TINY.items():
        assert launch.main([name, "--workdir", str(root / name), *changes]) == 0
    assert compare.main([str(root / "quickstart"), "--rounds=1", f"--out={root / 'compare'}"]) == 0
    pages = {name: root / name / "report.html" for name in TINY}
    return pages | {"compare": root / "compare" / "compare.html"}


def opened(browser, path, width, scheme):
    """The page, with `faults`: errors of scripts, and all that it asked the network for."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda said: page.faults.append(said.text))
    page.on("requestfailed", lambda request: page.faults.append(request.url))
    page.goto(path.as_uri())
    return page


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", [*TINY, "compare"])
def test_nothing_is_cut_and_nothing_overlaps(browser, reports, name, scheme, width):
    page = opened(browser, reports[name], width, scheme)
    if folder := os.environ.get("ZOO_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}-{scheme}-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # What is wider than its box can be scrolled to there.
    assert page.evaluate(CUT) == []
    assert page.evaluate(OVERLAPS) == 0
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == ("rgb(15, 20, 25)" if scheme == "dark" else "rgb(246, 247, 249)")
    assert page.faults == []
    page.close()


def test_a_slider_goes_from_picture_to_prediction_by_keys(browser, reports):
    page = opened(browser, reports["quickstart"], 1280, "light")
    figure = page.locator("figure", has=page.locator(".slide")).first
    slider, images = figure.locator("input"), figure.locator(".layers img")

    def opacities():
        return [
            round(float(images.nth(i).evaluate("e => getComputedStyle(e).opacity")), 2)
            for i in (1, 2)
        ]

    assert opacities() == [1, 1] and slider.get_attribute("aria-valuetext") == "prediction"
    slider.focus()
    page.keyboard.press("Home")
    assert opacities() == [0, 0] and slider.get_attribute("aria-valuetext") == "picture"
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert opacities() == [1, 0] and slider.get_attribute("aria-valuetext") == "truth"
    boxes = [images.nth(i).bounding_box() for i in range(3)]
    assert boxes[0] == boxes[1] == boxes[2]  # They lie on one another.
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_site_s_style_keeps_what_is_wide_within_its_window(browser, width):
    """The benchmark's table and a long name, as MkDocs sets them, without its own style."""
    root = pathlib.Path(__file__).resolve().parents[3]
    lines = (root / "experiments" / "bench" / "bench.md").read_text("utf-8").splitlines()
    rows = [line.split("|") for line in lines if line.startswith("| `unet")]
    cells = "".join(f"<tr>{''.join(f'<td>{cell}' for cell in row)}" for row in rows * 2)
    name = "experiments.image_folder_classes." * 6
    body = f"<h1>{name}</h1><h2><code>{'name = 1, ' * 40}</code></h2>"
    body += f"<p><code>{name}</code></p><table>{cells}</table>"
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.set_content(f"<div role=main>{body}</div>")
    wider = "document.documentElement.scrollWidth - innerWidth"
    assert page.evaluate(wider) > 0
    page.add_style_tag(path=root / ".ci" / "site" / "site.css")
    assert page.evaluate(wider) <= 0
    page.close()

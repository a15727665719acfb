"""The page in a browser: pictures are dropped on it, and what it shows is looked at."""

import base64
import os

import numpy as np
import pytest
from PIL import Image

from experiments.serve import server as served
from serving import embedded, running, trained
from zoo.data.images import read_mask, write_rgb
from zoo.infer import embed_files, load_run, predict

pytestmark = pytest.mark.slow
# Drops files as a hand would.
DROP = """([selector, nth, files]) => {
    const data = new DataTransfer();
    for (const [name, base64] of files)
        data.items.add(new File([Uint8Array.from(atob(base64), c => c.charCodeAt(0))], name));
    const zone = document.querySelectorAll(selector)[nth];
    const event = {dataTransfer: data, bubbles: true, cancelable: true};
    for (const kind of ["dragover", "drop"]) zone.dispatchEvent(new DragEvent(kind, event));
}"""


def drop(page, selector, *files, nth=0):
    given = [[file.name, base64.b64encode(file.read_bytes()).decode()] for file in files]
    page.evaluate(DROP, [selector, nth, given])


def open_page(browser, url, width=1280, scheme="light"):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.set_default_timeout(60_000)
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(url)
    page.wait_for_selector("section:visible")
    page.faults = faults
    return page


def fits(page):
    """Whether nothing is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def keep(page, name):
    if folder := os.environ.get("ZOO_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def scene(path, side=(160, 240)):
    y, x = np.mgrid[: side[0], : side[1]]
    rgb = np.stack([x * 255 // side[1], y * 255 // side[0], (x + y) % 256], -1).astype(np.uint8)
    rgb[40:110, 60:150] = 230, 40, 40
    write_rgb(path, rgb)
    return rgb


def test_a_dropped_picture_gets_its_overlay(playwright, browser, tmp_path):
    trained.write(tmp_path / "run")
    run = load_run(tmp_path / "run")
    rgb = scene(tmp_path / "scene.png")
    (tmp_path / "text.jpg").write_text("no picture")
    want = predict(run.model, run.variables, rgb, preprocess=run.preprocess)
    with running(run, None, served.names("127.0.0.1")) as url:
        for width, scheme in ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
            page = open_page(browser, url, width, scheme)
            keep(page, f"empty_{width}_{scheme}")
            drop(page, "#segment .drop", tmp_path / "scene.png")
            page.wait_for_selector("article .mask")
            drop(page, "#segment .drop", tmp_path / "text.jpg")
            page.wait_for_selector("article p.bad")
            assert "text.jpg is none of PNG" in page.inner_text("article p.bad")
            playwright.expect(page.locator(".stack img").first).to_have_js_property(
                "naturalWidth", 240
            )
            keep(page, f"segment_{width}_{scheme}")
            assert fits(page) and not page.faults
            # The mask lies on the picture, pixel on pixel.
            boxes = [page.locator(".stack img").nth(n).bounding_box() for n in (0, 1)]
            assert boxes[0] == boxes[1] and boxes[0]["width"] > 200
            mask = page.locator(".mask")
            assert mask.evaluate("m => getComputedStyle(m).opacity") == "0.6"
            page.get_by_label("Opacity of the classes").focus()
            page.keyboard.press("Home")
            assert mask.evaluate("m => getComputedStyle(m).opacity") == "0"
            shares = np.bincount(want.ravel(), minlength=3) / want.size
            names = np.array(["ground", "disc", "square"])[np.argsort(-shares)]
            told = page.locator(".legend li").all_inner_texts()
            assert [t.split("\n")[0] for t in told] == list(names[: (shares > 0).sum()])
            assert f"{100 * shares.max():.1f} %" in told[0]
            with page.expect_download() as download:
                page.get_by_text("Download the class ids").click()
            assert download.value.suggested_filename == "scene_ids.png"
            download.value.save_as(tmp_path / "ids.png")
            np.testing.assert_array_equal(read_mask(tmp_path / "ids.png"), want)
            page.close()


def test_two_pictures_and_a_gallery(playwright, browser, tmp_path):
    embedded.write(tmp_path / "run")
    run = load_run(tmp_path / "run")
    (tmp_path / "pictures").mkdir()
    for n in range(9):
        grey = np.random.default_rng(n).integers(0, 256, (8, 8), np.uint8)
        name = f"glyph_{n}.png" if n != 7 else "glyph_<i>7\\.png"  # No markup, and no folder.
        Image.fromarray(grey).save(tmp_path / "pictures" / name)
    files, _ = embed_files(run, [tmp_path / "pictures"], tmp_path / "gallery.npz")
    files[7].unlink()
    with running(run, tmp_path / "gallery.npz") as url:
        for width, scheme in ((1280, "light"), (390, "dark")):
            page = open_page(browser, url, width, scheme)
            # By the keyboard's way: the input of the zone that has the focus.
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.type") == "file"
            page.locator("#verify input").nth(0).set_input_files(files[0])
            drop(page, "#verify .drop", files[0], nth=1)
            page.wait_for_selector("#verify .answer.same")
            assert page.inner_text("#verify .answer").startswith("Same: distance 0")
            drop(page, "#verify .drop", files[4], nth=1)
            playwright.expect(page.locator("#verify .answer")).to_contain_text(
                "Different: distance"
            )
            drop(page, "#search .drop", files[4])
            playwright.expect(page.locator(".near li")).to_have_count(9)
            assert page.locator(".near li").first.inner_text().startswith("glyph_4.png")
            page.locator(".near img").first.scroll_into_view_if_needed()
            playwright.expect(page.locator(".near img").first).to_have_js_property(
                "naturalWidth", 8
            )
            told = page.locator(".near li").all_inner_texts()
            assert sum("\nglyph_<i>7\\.png\n" in f"\n{text}" for text in told) == 1
            gone = page.locator(".near li", has_text="glyph_8.png").locator(".bad")
            playwright.expect(gone).to_have_text(
                f"{files[7]} is gone; embed the gallery's pictures anew."
            )
            keep(page, f"embed_{width}_{scheme}")
            assert fits(page) and not page.faults
            page.close()

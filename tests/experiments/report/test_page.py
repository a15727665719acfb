"""Pages read back by an HTML parser: escaped, and in need of nothing beside themselves."""

import base64
import importlib.util
import io
import pathlib

import cv2
import numpy as np
import pytest
from PIL import Image

from experiments.report import page
from experiments.report.page import Figure, Layers, Part, Table

spec = importlib.util.spec_from_file_location("pages", pathlib.Path(__file__).with_name("pages.py"))
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)

EVIL = "</td><script>alert('1')</script> \"&amp;\" <img src=x onerror=alert(2)> {{ 7 * 7 }}"
DOT = page.picture(np.full((1, 1, 3), 7, np.uint8), exact=True)


def values(**changes):
    shown = Figure(EVIL, EVIL, DOT, wide=False)
    table = Table(EVIL, [EVIL, "x"], [[EVIL, "1"]], ["#010203"])
    layer = Layers(EVIL, DOT, DOT, DOT, small=True)
    part = Part(EVIL, [shown, shown], [table], table, {"Worst": [layer], "Best": []}, EVIL)
    names = {"title": EVIL, "best": EVIL, "command": EVIL, "fields": EVIL}
    return {**names, "part": part, "curves": shown, "scores": table, "tables": [table], **changes}


def test_what_a_user_wrote_is_text_and_no_markup(tmp_path):
    page.write("report.html.j2", tmp_path / "report.html", **values())
    parsed = pages.read(tmp_path / "report.html")
    assert [tag for tag, _ in parsed.elements].count("script") == 1  # Our own.
    assert parsed.tables[EVIL] == [[EVIL, "x"], [EVIL, "1"]]
    assert parsed.text("h1") == [EVIL] == parsed.text("figcaption") == parsed.text("code")
    # What each figure shows is told under its heading, too: the curves' and the part's two.
    told = [data for at, data in parsed.words if at[-2:] == ("section", "p")]
    assert told[:3] == [EVIL] * 3 and told.count(EVIL) == 3
    sliders = [a for tag, a in parsed.elements if tag == "input"]
    assert [a["aria-label"] for a in sliders] == [EVIL] and sliders[0]["type"] == "range"
    # A heading without pictures is not there; every picture says what it is.
    assert "Worst" in parsed.text("h2") and "Best" not in parsed.text("h2")
    assert all(a["alt"] for tag, a in parsed.elements if tag == "img")
    values_ = {k: v for k, v in values().items() if k in ("title", "command", "tables")}
    values_ |= {"sentence": EVIL, "note": EVIL, "figure": Figure(EVIL, EVIL, DOT, wide=True)}
    values_["facts"] = [Table("told", [EVIL], [[EVIL]])]
    page.write("compare.html.j2", tmp_path / "compare.html", **values_)
    compared = pages.read(tmp_path / "compare.html")
    assert compared.tables[EVIL] == parsed.tables[EVIL]
    assert compared.tables["told"] == [[EVIL], [EVIL]]
    assert "script" not in [tag for tag, _ in compared.elements]


def test_a_page_is_whole_or_the_old_one(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(page.jinja2.UndefinedError):
        page.write("report.html.j2", path, title="a value is missing")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    page.write("report.html.j2", path, **values(title="name of bytes \udcff"))
    assert pages.read(path).text("h1") == ["name of bytes ?"]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_exact_where_they_must_be(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 40, channels), dtype=np.uint8)
    for exact in (True, False):
        kind, _, data = page.picture(pixels, exact=exact).partition(";base64,")
        assert kind == ("data:image/png" if exact else "data:image/jpeg")
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).reshape(pixels.shape)
        assert np.array_equal(image, pixels) == exact
    small = page.picture(pixels[:256], exact=False).partition(",")[2]
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(small), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded.reshape(256, 40, -1)[..., ::-1], pixels[:256])


def test_nan_is_a_dash():
    assert page.number(float("nan")) == "–" and page.number(0.5, "{:.1%}") == "50.0%"

"""The menu by what people have, what ``auto`` took, and two models side by side on a detail."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.files import saved
from harness.server import Server, quick_server, running_server
from harness.zoo import small_zoo
from tests.support.auto import drawing, photograph
from tests.support.browser import Browser
from tests.support.nearest import write_models
from tests.support.page import choose, save, settled

GROUPS = "[...document.querySelectorAll('#model optgroup')]"
LOOSE = "return [...document.querySelectorAll('#model > option')].map((each) => [each.textContent, each.value])"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("auto")


@pytest.fixture(scope="module")
def jpeg(folder: Path) -> Path:
    path = folder / "chat.jpg"
    path.write_bytes(saved(photograph(300), "JPEG", quality=50))
    return path


def ready(browser: Browser, server: Server, **window: int) -> None:
    browser.open(server.url, **window)
    browser.wait(lambda: browser.script("return document.getElementById('model').options.length"))


DRAWN = """
const image = document.querySelector(arguments[0]);
const canvas = document.createElement("canvas");
Object.assign(canvas, { width: image.naturalWidth, height: image.naturalHeight });
canvas.getContext("2d").drawImage(image, 0, 0);
return canvas.toDataURL("image/png");
"""
TO_COMPARE = """
return document.getElementById("compare-left")?.value && !document.getElementById("compare-go").disabled
"""


def pixels(browser: Browser, selector: str) -> np.ndarray:
    """What an image of the page shows: uint8 ``[h, w, 3]``."""
    data = base64.b64decode(browser.script(DRAWN, selector).split(",")[1])
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def open_comparison(browser: Browser) -> None:
    browser.wait(lambda: browser.find("#viewer").is_displayed())
    browser.click("#compare summary")
    browser.wait(lambda: browser.script(TO_COMPARE))


def compare(browser: Browser) -> None:
    browser.click("#compare-go")
    browser.wait(lambda: browser.script("return !document.getElementById('compare-go').disabled"))


def test_the_menu_begins_with_what_people_have(browser: Browser, server: Server) -> None:
    ready(browser, server)
    loose = dict(browser.script(LOOSE))
    assert next(iter(loose)) == "Automatic"
    assert loose["Automatic"] == browser.script("return document.getElementById('model').value") == "auto"
    assert (loose["Photograph"], loose["Exact"]) == ("photo", "balanced")
    assert "Looks at the image" in browser.text("#model-hint")
    assert browser.script(f"return {GROUPS}.map((group) => group.label)") == ["By name", "Baselines"]


def test_only_what_is_there_is_offered(browser: Browser, folder: Path) -> None:
    with quick_server() as server:
        ready(browser, server)
        assert browser.script(LOOSE) == [["Automatic", "auto"], ["Exact", "bicubic"]]


def test_it_says_what_it_took_and_why(browser: Browser, server: Server, jpeg: Path) -> None:
    ready(browser, server)
    choose(browser, jpeg)
    browser.wait(lambda: browser.text(".job .choice"))
    assert browser.text(".job .choice") == "photo: a spoiled photograph: compressed at quality 50"
    browser.shoot("auto-chosen")
    browser.fill("#scale", "2")
    browser.wait(lambda: "at this scale" in browser.text(".job .choice"))
    browser.fill("#scale", "4")
    browser.fill("#model", "bicubic")
    browser.wait(lambda: browser.text(".job .state").startswith("about") and not browser.text(".job .choice"))
    browser.fill("#model", "auto")
    browser.click("#go")
    assert settled(browser) == "done"
    assert browser.text(".job .choice") == "photo: a spoiled photograph: compressed at quality 50"
    assert not browser.complaints()
    assert not browser.violations()


@pytest.fixture(scope="module")
def repeating(folder: Path) -> Iterator[Server]:
    """With a network that repeats pixels, and bicubic interpolation."""
    models = folder / "models"
    models.mkdir()
    with running_server(models=str(write_models(models, "bicubic-x4", name="nearest", scale=4))) as running:
        yield running


@pytest.mark.parametrize("width", [1300, 400])
def test_two_models_are_compared_on_a_detail(browser: Browser, repeating: Server, folder: Path, width: int) -> None:
    shown = photograph(400)
    picture = save(folder / "detail.png", np.asarray(shown))
    ready(browser, repeating, width=width)
    choose(browser, picture)
    open_comparison(browser)
    browser.fill("#compare-left", "nearest")
    browser.fill("#compare-right", "bicubic")
    compare(browser)
    cut = np.asarray(shown)[136:264, 136:264]
    np.testing.assert_array_equal(pixels(browser, "#compare-left-image"), cut.repeat(4, 0).repeat(4, 1))
    assert pixels(browser, "#compare-right-image").shape == (512, 512, 3)
    assert browser.text("#compare-right-name") == "bicubic-x4"
    browser.shoot(f"compare-{width}")
    assert browser.script("return document.documentElement.scrollWidth") <= width
    assert not browser.complaints()
    assert not browser.violations()

    browser.find("#compare-where").send_keys("\ue012" * 200)  # to the left, as far as it goes
    browser.find("#compare-where").send_keys("\ue013" * 200)
    compare(browser)
    cut = np.asarray(shown)[:128, :128]
    np.testing.assert_array_equal(pixels(browser, "#compare-left-image"), cut.repeat(4, 0).repeat(4, 1))
    browser.click("#compare-right-take")
    assert browser.script("return document.getElementById('model').value") == "bicubic"


def test_a_picture_smaller_than_a_detail_is_compared_whole(browser: Browser, repeating: Server, folder: Path) -> None:
    shown = np.asarray(drawing(90, 70))
    ready(browser, repeating)
    choose(browser, save(folder / "small.png", shown))
    open_comparison(browser)
    browser.fill("#compare-left", "nearest")
    compare(browser)
    np.testing.assert_array_equal(pixels(browser, "#compare-left-image"), shown.repeat(4, 0).repeat(4, 1))


def test_automatic_compares_what_the_whole_picture_gets(browser: Browser, folder: Path, jpeg: Path) -> None:
    with running_server(models=str(small_zoo("fast", "photo"))) as server:
        ready(browser, server)
        choose(browser, jpeg)
        browser.wait(lambda: browser.text(".job .choice"))
        open_comparison(browser)
        assert browser.script("return document.getElementById('compare-right').value") == "fast"
        compare(browser)
        assert browser.text("#compare-left-name") == "Automatic (photo-x4)"
        assert browser.text("#compare-right-name") == "Exact (fast-x4)"
        browser.shoot("compare-auto")
        assert not browser.complaints()

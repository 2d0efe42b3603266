"""What the page offers where the zoo has it: QR codes read before and after, and pictures drawn from noise."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import httpx
import numpy as np
import pytest
import segno
import zxingcpp
from PIL import Image

from app.http.pages import FOLDER
from app.inference.zoo import load_zoo
from app.settings import MODELS
from harness.pictures import decoded
from harness.server import Server, running_server
from tests.support.browser import Browser
from tests.support.nearest import write_models
from tests.support.page import choose, save, settled

SAMPLE = FOLDER / "sample-qr.png"
CONTENT = "MADE READABLE BY ENLARGER"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("extras")


@pytest.fixture(scope="module")
def able(folder: Path) -> Iterator[Server]:
    """A service whose ``qr`` repeats pixels, which makes sharp modules of one pixel readable, and with a generator."""
    with running_server(models=str(write_models(folder, name="qr", scale=4, generator="digits"))) as server:
        yield server


def shown(browser: Browser, selector: str) -> bool:
    browser.wait(lambda: browser.script("return document.getElementById('model').options.length"))
    return browser.find(selector).is_displayed()


def test_only_what_the_zoo_has_is_offered(browser: Browser, server: Server, able: Server) -> None:
    zoo = load_zoo(MODELS)
    browser.open(server.url)
    assert shown(browser, "#codes") == ("qr" in zoo.names)
    assert shown(browser, "#generators") == bool(zoo.generators)
    browser.open(able.url)
    assert shown(browser, "#codes")
    assert shown(browser, "#generators")


def test_no_reader_reads_the_sample_as_it_is() -> None:
    with Image.open(SAMPLE) as image:
        gray = image.convert("L")
    larger = gray.resize((4 * gray.width, 4 * gray.height), Image.Resampling.BICUBIC)
    for each in (gray, larger):
        assert not [code.text for code in zxingcpp.read_barcodes(np.asarray(each)) if code.valid]


def test_the_sample_is_read_after_the_shipped_qr(client: httpx.Client) -> None:
    asked = {"model": "qr", "scale": 4, "format": "png", "decode": True}
    headers = client.post("/upscale", params=asked, content=SAMPLE.read_bytes()).headers
    assert headers["enlarger-codes-before"] == ""
    assert unquote(headers["enlarger-codes-after"]) == CONTENT


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_the_sample_is_one_click(browser: Browser, able: Server, width: int, dark: bool) -> None:
    browser.open(able.url, width=width, dark=dark)
    assert shown(browser, "#codes")
    browser.click("#codes button")
    browser.wait(lambda: browser.text("#read-After"))
    assert browser.text("#read-Before") == "Before: a reader reads nothing"
    assert browser.text("#read-After") == "After: a reader reads nothing", "repeated pixels are as blurred as before"
    width_of = "return document.getElementById(arguments[0]).naturalWidth"
    browser.wait(lambda: browser.script(width_of, "code-after") == 4 * browser.script(width_of, "code-before") > 0)
    browser.script("document.getElementById('codes').scrollIntoView()")
    browser.shoot(f"codes-{width}")
    assert not browser.violations()
    assert not browser.complaints()


def test_codes_of_ones_own_are_read_before_and_after(browser: Browser, able: Server, folder: Path) -> None:
    modules = np.array([list(row) for row in segno.make("A, b & ü", micro=False).matrix_iter(border=2)], np.uint8)
    small = save(folder / "small.png", (255 * (1 - modules)).astype(np.uint8))
    browser.open(able.url)
    choose(browser, small)
    browser.fill("#model", "qr")
    browser.click("#go")
    assert settled(browser) == "done", browser.text(".job")
    assert browser.text(".job .codes") == "Read before: “A, b & ü”; after: “A, b & ü”."
    browser.script("document.getElementById('decode').click()")
    browser.click("#go")
    browser.wait(lambda: browser.text(".job .codes") == "")
    assert settled(browser) == "done"
    assert browser.text(".job .codes") == "", "nothing is read where nobody asked for it"


DRAWN = """
const image = document.getElementById("drawn"), canvas = document.createElement("canvas");
Object.assign(canvas, { width: image.naturalWidth, height: image.naturalHeight });
const context = canvas.getContext("2d");
context.drawImage(image, 0, 0);
return [canvas.width, canvas.height, [...context.getImageData(0, 0, canvas.width, canvas.height).data]];
"""


def test_a_generator_draws(browser: Browser, able: Server) -> None:
    browser.open(able.url)
    assert shown(browser, "#generators")
    browser.fill("#count", "6")
    browser.fill("#seed", "42")
    browser.click("#generators button")
    browser.wait(lambda: "Seed 42" in browser.text("#drawn-seed"))
    with able.client() as client:
        expected = client.post("/generate", params={"model": "digits", "count": 6, "seed": 42}).content
    browser.wait(lambda: browser.script("return document.getElementById('drawn').naturalWidth"))
    width, height, pixels = browser.script(DRAWN)
    assert (np.array(pixels, np.uint8).reshape(height, width, 4)[:, :, 0] == decoded(expected)).all()
    browser.script("document.getElementById('generators').scrollIntoView()")
    browser.shoot("generators")
    assert not browser.violations()
    assert not browser.complaints()


def test_a_count_out_of_range_is_not_sent(browser: Browser, able: Server) -> None:
    browser.open(able.url)
    assert shown(browser, "#generators")
    browser.fill("#count", "401")
    browser.click("#generators button")
    assert not browser.find("#drawn").is_displayed()
    assert browser.script("return document.activeElement.id") == "count"

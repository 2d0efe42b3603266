"""The slider of a network's strength, and its effect on a part of the picture."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.server import Server, running_server
from harness.zoo import small_zoo
from tests.support.adjustable import NAME, strength_in, write_adjustable
from tests.support.browser import Browser
from tests.support.page import choose, save, settled

DRAWN = """
const from = document.querySelector(given[0]), canvas = document.createElement("canvas");
await from.decode?.();
Object.assign(canvas, { width: from.naturalWidth || from.width, height: from.naturalHeight || from.height });
const context = canvas.getContext("2d");
context.drawImage(from, 0, 0);
return [canvas.width, canvas.height, [...context.getImageData(0, 0, canvas.width, canvas.height).data]];
"""
RIGHT, DOWN, HOME, END = "\ue014", "\ue015", "\ue011", "\ue010"


@pytest.fixture(scope="module")
def adjustable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(models=str(write_adjustable(tmp_path_factory.mktemp("adjustable")))) as server:
        yield server


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each pixel tells where it is: red its column, green its row, both halved and lifted away from black."""
    down, across = np.mgrid[:240, :320]
    pixels = np.stack([50 + across // 2, 50 + down // 2, np.full_like(down, 120)], axis=2)
    return save(tmp_path_factory.mktemp("strength") / "ramp.png", pixels.astype(np.uint8))


def wait_for(browser: Browser, percent: int) -> None:
    """Until the result of that strength is shown."""
    browser.wait(lambda: browser.text("#part-told") == f"Strength {percent} %")


def opened(browser: Browser, server: Server, picture: Path, **window: int | bool) -> None:
    browser.open(server.url, **window)
    browser.wait(lambda: browser.script("return document.getElementById('model').options.length"))
    browser.fill("#model", NAME)
    choose(browser, picture)
    browser.fill("#scale", "2")
    wait_for(browser, 100)


def drawn(browser: Browser, selector: str) -> np.ndarray:
    """uint8 ``[h, w, 3]``."""
    width, height, data = browser.run(DRAWN, selector)
    return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]


def part(browser: Browser, picture: Path) -> np.ndarray:
    """The pixels of the picture that are marked."""
    with Image.open(picture) as image:
        width, height = image.size
        style = "return ['left', 'top', 'width', 'height'].map((side) => parseFloat(arguments[0].style[side]))"
        left, top, across, down = browser.script(style, browser.find("#part-mark"))
        x, y = round(left * width / 100), round(top * height / 100)
        return np.asarray(image)[y : y + round(down * height / 100), x : x + round(across * width / 100)]


def tried(browser: Browser, picture: Path) -> float:
    """The strength of the result that is shown."""
    return strength_in(part(browser, picture), drawn(browser, "#part-result"))


def test_the_slider_shows_its_effect_on_a_part_at_once(browser: Browser, adjustable: Server, picture: Path) -> None:
    opened(browser, adjustable, picture)
    assert max(part(browser, picture).shape) <= 128
    assert tried(browser, picture) == pytest.approx(1, abs=0.02)
    for percent in (0, 40):
        browser.fill("#strength", str(percent / 100))
        wait_for(browser, percent)
        assert tried(browser, picture) == pytest.approx(percent / 100, abs=0.02)
    plain = drawn(browser, "#part-before")
    assert plain.shape == drawn(browser, "#part-result").shape
    assert strength_in(part(browser, picture), plain) == pytest.approx(0, abs=0.02)
    assert browser.find("#strength").get_attribute("aria-valuetext") == "40 %"
    assert browser.text("#strength-level") == "40 %"
    browser.shoot("strength")
    assert not browser.violations()
    assert not browser.complaints()


def test_the_part_is_enlarged_like_the_picture(browser: Browser, adjustable: Server, picture: Path) -> None:
    opened(browser, adjustable, picture)
    width = browser.script("return document.getElementById('part-result').naturalWidth")
    assert width == 2 * part(browser, picture).shape[1]
    browser.fill("#by", "size")
    browser.fill("#height", "960")  # four times the picture's
    browser.wait(lambda: drawn(browser, "#part-result").shape == drawn(browser, "#part-before").shape)
    height, width = part(browser, picture).shape[:2]
    assert drawn(browser, "#part-result").shape == (4 * height, 4 * width, 3)
    browser.fill("#height", "")
    assert browser.text("#part-problem") == "", "nothing is asked with settings that are wrong"


def test_the_result_has_the_strength_of_the_slider(browser: Browser, adjustable: Server, picture: Path) -> None:
    opened(browser, adjustable, picture)
    browser.fill("#strength", "0.3")
    browser.click("#go")
    assert settled(browser) == "done", browser.text(".job")
    with Image.open(picture) as image:
        whole = np.asarray(image)
    assert strength_in(whole, drawn(browser, "#after canvas")) == pytest.approx(0.3, abs=0.02)


def test_the_part_is_chosen_by_click_and_by_keys(browser: Browser, adjustable: Server, picture: Path) -> None:
    opened(browser, adjustable, picture)
    before = part(browser, picture)
    browser.script(
        "const image = arguments[0], box = image.getBoundingClientRect();"
        "image.dispatchEvent(new MouseEvent('click', { bubbles: true, clientX: box.x + 3, clientY: box.y + 3 }));",
        browser.find("#part-image"),
    )
    corner = part(browser, picture)
    assert tuple(corner[0, 0]) == (50, 50, 120), "the upper left one"
    browser.wait(lambda: np.abs(drawn(browser, "#part-result")[0, 0].astype(int) - (50, 50, 120)).max() <= 41)
    browser.find("#part").send_keys(*[RIGHT] * 4, *[DOWN] * 4)
    assert (part(browser, picture)[0, 0] > corner[0, 0]).tolist() == [True, True, False]
    assert not np.array_equal(part(browser, picture), before)
    browser.find("#strength").send_keys(HOME)
    wait_for(browser, 0)
    assert np.array_equal(drawn(browser, "#part-result")[::2, ::2], part(browser, picture))
    browser.find("#strength").send_keys(RIGHT)
    wait_for(browser, 1)


def test_movements_are_gathered_and_older_requests_are_aborted(
    browser: Browser, adjustable: Server, picture: Path
) -> None:
    opened(browser, adjustable, picture)
    browser.script(
        "window.sent = []; const ask = window.fetch; window.fetch = (path, options) => {"
        " if (path !== 'upscale') return ask(path, options);"
        " sent.push(options.signal);"
        " const held = sent.length === 1 ? new Promise((_, fail) => options.signal.addEventListener('abort', () =>"
        " fail(options.signal.reason))) : ask(path, options); return held; };"
    )
    for step in range(20):
        browser.fill("#strength", str(step / 100))
    browser.wait(lambda: browser.script("return sent.length") == 1)
    browser.fill("#strength", "0.5")
    wait_for(browser, 50)
    assert browser.script("return sent.map((signal) => signal.aborted)") == [True, False]
    assert browser.text("#part-problem") == ""
    assert tried(browser, picture) == pytest.approx(0.5, abs=0.02)


def test_only_a_model_with_a_strength_has_the_slider(browser: Browser, adjustable: Server, picture: Path) -> None:
    opened(browser, adjustable, picture)
    browser.fill("#strength", "0.2")
    browser.fill("#model", "nearest")
    assert not browser.find("#strength-field").is_displayed()
    browser.click("#go")
    assert settled(browser) == "done", browser.text(".job")  # no strength is sent, or it would be refused
    browser.fill("#model", "adjustable")
    assert browser.find("#strength").is_displayed()
    assert browser.text("#strength-level") == "100 %", "the default of the model"
    with running_server(models=str(small_zoo("fast"))) as without:
        browser.open(without.url)
        browser.wait(lambda: browser.script("return document.getElementById('model').options.length"))
        assert not browser.find("#strength-field").is_displayed()
        loaded = browser.script("return performance.getEntriesByType('resource').map(({ name }) => name)")
        assert not any(name.endswith("strength.js") for name in loaded)


@pytest.mark.parametrize(("width", "dark"), [(390, True), (320, False), (1400, False)])
def test_it_fits_any_screen(browser: Browser, adjustable: Server, picture: Path, width: int, dark: bool) -> None:
    opened(browser, adjustable, picture, width=width, dark=dark)
    browser.script("document.getElementById('strength-field').scrollIntoView()")
    browser.shoot(f"strength-{width}")
    assert browser.script("return document.documentElement.scrollWidth <= innerWidth")
    assert not browser.violations()
    assert not browser.complaints()


def test_a_picture_that_a_browser_cannot_show_has_no_trial(
    browser: Browser, adjustable: Server, picture: Path, tmp_path: Path
) -> None:
    opened(browser, adjustable, picture)
    with Image.open(picture) as image:
        image.save(tmp_path / "other.tif")
    browser.click("[data-act=remove]")
    assert not browser.find("#trial").is_displayed()
    choose(browser, tmp_path / "other.tif")
    browser.wait(lambda: "about" in browser.text(".job .state"))
    assert browser.find("#strength").is_displayed()
    assert not browser.find("#trial").is_displayed()
    browser.click("#go")
    assert settled(browser) == "done", browser.text(".job")

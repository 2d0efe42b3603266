"""The pages in a real Chromium, on a real server. Screenshots are in build/screenshots."""

import io
import itertools
import signal
import struct
import threading
import zlib
from pathlib import Path

import httpx
import numpy as np
import pytest
import skimage.data
from PIL import Image
from selenium.webdriver import ActionChains

from app.http.pages import FOLDER
from app.inference.zoo import load_zoo
from harness.pictures import decoded
from harness.server import QUICK, Server
from harness.watched import HOLD, marked, quick_server, watched_server
from harness.zoo import small_zoo
from tests.support.browser import PATIENCE, WATCH_PROGRESS, Browser
from tests.support.page import choose, save, settled, state

PAGE_BYTES = 73_000  # without the list of jobs, which is loaded where the server keeps any


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def cat(folder: Path) -> Path:
    return save(folder / "cat.png", skimage.data.chelsea()[60:160, 100:250])


@pytest.fixture(scope="module")
def large(folder: Path) -> Path:
    """1500 x 1000, of several bands."""
    image = Image.fromarray(skimage.data.chelsea()).resize((1500, 1000), Image.Resampling.BICUBIC)
    return save(folder / "large.png", np.asarray(image))


def enlarge(browser: Browser, server: Server, picture: Path, **settings: str) -> None:
    browser.open(server.url)
    choose(browser, picture)
    for name, value in settings.items():
        browser.fill(f"#{name}", value)
    browser.click("#go")


def canvas(browser: Browser) -> np.ndarray:
    """What is drawn: uint8 ``[h, w, 4]``."""
    data = browser.run(
        "const canvas = document.querySelector('#after canvas');"
        "const blob = await new Promise((resolve) => canvas.toBlob(resolve));"
        "return [...new Uint8Array(await blob.arrayBuffer())];"
    )
    with Image.open(io.BytesIO(bytes(data))) as image:
        return np.asarray(image.convert("RGBA"))


# -- the whole way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["png", "jpeg"])
def test_a_picture_appears_while_it_is_computed(browser: Browser, photo: np.ndarray, folder: Path, format: str) -> None:
    """Its lower half is not computed before its first row was seen on the page."""
    scale = 4  # the page draws a JPEG's first 128 rows once the next ones arrive: there must be more before the hold
    gate, picture = folder / f"open-{format}", folder / f"held-{format}.png"
    picture.write_bytes(marked(photo, HOLD, 150))
    with watched_server(gate) as held:
        browser.open(held.url)
        choose(browser, picture)
        for name, value in {"format": format, "scale": str(scale), "model": "bicubic"}.items():
            browser.fill(f"#{name}", value)
        size = f"{451 * scale} × {300 * scale} px"  # noqa: RUF001
        browser.wait(lambda: size in browser.text(".job .facts") and "about" in browser.text(".job .state"))
        browser.shoot("chosen")
        browser.script(WATCH_PROGRESS)
        browser.click("#go")
        browser.wait(lambda: browser.script("return window.seen.some((each) => each.first)"))
        browser.shoot("computing")
        assert not browser.script("return window.seen.some((each) => each.last) || window.ended")
        gate.touch()
        assert settled(browser) == "done", browser.text(".job")
    values = [each["value"] for each in browser.script("return window.seen")]
    assert len(values) > 1
    assert values == sorted(set(values)), "progress goes forward"


def test_what_is_shown_and_downloaded_is_what_the_service_makes(
    browser: Browser, server: Server, client: httpx.Client, cat: Path
) -> None:
    enlarge(browser, server, cat, scale="2.5", model="espcn")
    assert settled(browser) == "done", browser.text(".job")
    parameters = {"scale": 2.5, "model": "espcn", "format": "png"}
    expected = decoded(client.post("/upscale", params=parameters, content=cat.read_bytes()).content)
    drawn = canvas(browser)
    assert (drawn[..., :3] == expected).all()
    assert (drawn[..., 3] == 255).all()
    browser.click("[data-act=download]")
    saved = browser.downloads / "cat-375x250.png"
    browser.wait(saved.exists)
    assert (decoded(saved.read_bytes()) == expected).all()
    assert not browser.complaints()


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_other_formats_are_shown_too(
    browser: Browser, server: Server, client: httpx.Client, cat: Path, format: str
) -> None:
    enlarge(browser, server, cat, format=format)
    assert settled(browser) == "done", browser.text(".job")
    body = client.post("/upscale", params={"format": format, "quality": 90}, content=cat.read_bytes()).content
    expected = decoded(body).astype(int)
    differences = abs(canvas(browser)[..., :3] - expected)
    assert differences.mean() < 0.5, "decoders may differ by rounding, and by no more"
    assert differences.max() < 10


def test_a_box_gives_the_size(browser: Browser, server: Server, cat: Path) -> None:
    browser.open(server.url)
    choose(browser, cat)
    browser.fill("#by", "size")
    browser.fill("#width", "300")
    browser.wait(lambda: "300 × 200 px" in browser.text(".job .facts"))  # noqa: RUF001
    browser.click("#go")
    assert settled(browser) == "done"
    assert canvas(browser).shape == (200, 300, 4)


# -- before and after ----------------------------------------------------------------------------------------------


def test_before_and_after_are_cut_by_the_slider_and_zoomed_together(
    browser: Browser, server: Server, cat: Path
) -> None:
    enlarge(browser, server, cat, scale="8")
    assert settled(browser) == "done", browser.text(".job")
    width = browser.script("return document.getElementById('viewport').clientWidth")

    def cut() -> str:
        return str(browser.script("return document.getElementById('after').style.clipPath"))

    def boxes() -> list[list[float]]:
        return [
            browser.script(
                f"const box = document.querySelector('{selector}').getBoundingClientRect();"
                "return [box.x, box.y, box.width, box.height]"
            )
            for selector in ("#before-image", "#after canvas")
        ]

    browser.fill("#split", "25")
    assert f"{width / 4:g}px" in cut()
    browser.find("#split").send_keys("\ue014")  # the right arrow key
    assert browser.script("return Number(document.getElementById('split').value)") == 25.5
    browser.click("#one")
    assert browser.text("#zoom-level") == "100 %"
    before, after = boxes()
    assert before == pytest.approx(after)
    assert after[2:] == [1200, 800]
    browser.find("#viewport").send_keys("\ue014\ue015")  # right, down: the picture moves the other way
    moved = boxes()
    assert moved[0] == pytest.approx(moved[1])
    assert (moved[1][0], moved[1][1]) < (after[0], after[1])
    browser.find("#viewport").send_keys("0")
    assert max(box[2] for box in boxes()) <= width + 1
    browser.shoot("compared")
    assert not browser.violations()


# -- what goes wrong -----------------------------------------------------------------------------------------------


def test_cancel_stops_the_servers_work(browser: Browser, server: Server, client: httpx.Client, large: Path) -> None:
    def backlog() -> float:
        body = {"image": ("cat.png", large.read_bytes(), "image/png")}
        return float(client.post("/estimate", files=body).json()["queue_seconds"])

    enlarge(browser, server, large, scale="8", model="fast")
    browser.wait(lambda: browser.script("return document.querySelector('.job progress').value > 0"))
    left = server.log().count("the client disconnected")
    assert backlog() > 0
    browser.click("[data-act=cancel]")
    assert settled(browser) == "cancelled"
    server.wait_until(lambda: backlog() == 0, seconds=60)
    server.wait_until(lambda: server.log().count("the client disconnected") == left + 1, seconds=60)
    assert browser.find("[data-act=again]").is_displayed()
    assert not browser.find("[data-act=download]").is_displayed()


def test_what_is_no_picture_is_refused_in_words(
    browser: Browser, server: Server, client: httpx.Client, folder: Path
) -> None:
    path = folder / "letter.png"
    path.write_text("Dear Sir or Madam")
    enlarge(browser, server, path)
    assert settled(browser) == "failed"
    assert browser.text(".job .problem") == client.post("/upscale", content=path.read_bytes()).json()["detail"]
    assert browser.find(".job .problem").is_displayed()
    browser.shoot("refused")
    assert not browser.violations()


def test_a_scale_out_of_range_is_told_before_anything_is_sent(browser: Browser, server: Server, cat: Path) -> None:
    enlarge(browser, server, cat, scale="9")
    assert "8" in browser.text("#error")
    assert state(browser) == "waiting"
    assert browser.script("return document.activeElement.id") == "scale"


def test_a_broken_transfer_is_no_picture(browser: Browser, large: Path) -> None:
    with quick_server() as server:
        enlarge(browser, server, large, scale="8", model="fast")
        browser.wait(lambda: browser.script("return document.querySelector('.job progress').value > 0"))
        server.process.send_signal(signal.SIGKILL)
        assert settled(browser) == "failed"
    assert "aborted after" in browser.text(".job .problem")
    assert not browser.find("[data-act=download]").is_displayed()


def test_a_busy_server_is_asked_again(browser: Browser, large: Path, cat: Path) -> None:
    with quick_server(max_queue_seconds="0.2") as server, server.client() as client:
        parameters = {"scale": 8, "format": "png", "model": "fast"}
        arguments = {"params": parameters, "content": large.read_bytes(), "timeout": 600}
        other = threading.Thread(target=client.post, args=("/upscale",), kwargs=arguments)
        other.start()
        asked = {"content": cat.read_bytes()}  # only asked about: a picture in the queue would keep the other one out
        server.wait_until(lambda: client.post("/estimate", **asked).json()["queue_seconds"] > 0.2, seconds=60)
        enlarge(browser, server, cat)
        told = browser.wait(lambda: "Trying again in" in browser.text(".job .state") and browser.text(".job .state"))
        browser.wait(lambda: "Trying again in" in (now := browser.text(".job .state")) and now != told)
        assert settled(browser, seconds=4 * PATIENCE) == "done", browser.text(".job")  # after all of the other picture
        other.join()


# -- several -------------------------------------------------------------------------------------------------------


def test_several_pictures_go_in_turn(browser: Browser, server: Server, cat: Path, folder: Path) -> None:
    gray = save(folder / "gray.png", skimage.data.camera()[:60, :80])
    cutout = np.dstack([skimage.data.coffee()[:64, :64], np.tile(np.arange(0, 256, 4, np.uint8), (64, 1))])
    browser.open(server.url)
    choose(browser, cat, gray, save(folder / "cutout.png", cutout))
    browser.wait(lambda: browser.text("#total").startswith("3 pictures, about"))
    browser.click("#go")
    assert [settled(browser, number) for number in (1, 2, 3)] == ["done"] * 3
    names = browser.script("return [...document.querySelectorAll('[data-act=download]')].map((link) => link.download)")
    assert names == ["cat-600x400.png", "gray-320x240.png", "cutout-256x256.png"]
    browser.click(".job:nth-child(1) [data-act=show]")
    browser.wait(lambda: browser.text("#viewer-title") == "cat.png")
    browser.wait(lambda: canvas(browser)[0, 0, 3] == 255)
    assert canvas(browser).shape == (400, 600, 4)
    browser.click(".job:nth-child(3) [data-act=show]")
    browser.wait(lambda: browser.text("#viewer-title") == "cutout.png")
    browser.shoot("several")
    assert not browser.violations()
    browser.click(".job:nth-child(3) [data-act=remove]")
    assert browser.script("return document.querySelectorAll('.job').length") == 2


# -- for everyone --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 400])
def test_it_fits_a_phone(browser: Browser, server: Server, cat: Path, width: int, dark: bool) -> None:
    browser.open(server.url, width=width, height=700, dark=dark)

    def overhang() -> int:
        # Not against window.innerWidth: a phone zooms out where something sticks out.
        return int(browser.script("return document.documentElement.scrollWidth")) - width

    assert overhang() <= 0
    choose(browser, cat)
    browser.click("#go")
    assert settled(browser) == "done"
    assert overhang() <= 0
    browser.click("#one")
    assert browser.text("#zoom-level") == "100 %"
    drawn = browser.script("return document.querySelector('#after canvas').getBoundingClientRect().width")
    assert drawn == 600 / 2, "1:1 is a device pixel a pixel, and this phone has two a CSS pixel"
    background = browser.script("return getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, background[4:-1].split(","))) < 80) is dark
    browser.script("scrollTo(0, 0)")
    browser.shoot(f"phone-{width}-{'dark' if dark else 'light'}")
    browser.click("#viewport")
    browser.shoot(f"phone-{width}-{'dark' if dark else 'light'}-viewer")
    assert not browser.violations()


def test_the_keyboard_is_enough(browser: Browser, server: Server, cat: Path) -> None:
    """Tab reaches every control in the order of the page, and Enter starts the work."""
    browser.open(server.url)
    choose(browser, cat)
    browser.script("document.activeElement.blur()")
    reached = []
    for _ in range(8):
        ActionChains(browser.chrome).send_keys("\t").perform()  # to the page: keys sent to a file input are file names
        reached.append(browser.script("return document.activeElement.id"))
    assert [name for name in reached if name] == ["files", "model", "by", "scale", "format", "keep", "go"]
    browser.find("#go").send_keys("\n")
    assert settled(browser) == "done"


def test_the_menu_sets_baselines_apart(browser: Browser, server: Server) -> None:
    browser.open(server.url)
    browser.wait(lambda: browser.script("return document.getElementById('model').options.length"))
    groups = "[...document.querySelectorAll('#model optgroup')]"
    networks, baselines = browser.script(f"return {groups}.map(g => [g.label, [...g.children].map(o => o.value)])")
    assert networks[0] == "By name"
    assert "balanced" in networks[1]
    assert baselines[0] == "Baselines"
    assert "bicubic" in baselines[1]


def test_nothing_comes_from_elsewhere_and_little_in_all(browser: Browser, server: Server) -> None:
    browser.open(server.url)
    browser.wait(lambda: browser.script("return document.getElementById('model').options.length"))
    names = browser.script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert {name[: len(server.url)] for name in names} == {server.url}
    files = {"index.html", *(name.rsplit("/", 1)[1] for name in names if "/page/" in name)}
    own = sum((FOLDER / file).stat().st_size for file in files)
    assert 30_000 < own < PAGE_BYTES
    assert not browser.complaints()
    assert not browser.violations()
    browser.shoot("empty")


def test_the_pages_policy_is_strict(client: httpx.Client) -> None:
    for path in ("/", "/page/page.js"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
    assert "<style" not in client.get("/").text


# -- the decoder ---------------------------------------------------------------------------------------------------


def make_png(samples: np.ndarray, colour: int) -> bytes:
    """A PNG of ``[h, w, C]``, uint8 or uint16, whose rows go through all five filters in turn (PNG 9.2)."""
    height, width, channels = samples.shape
    step = channels * samples.dtype.itemsize
    raw = samples.astype(samples.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    lines, above = [], np.zeros_like(raw[0], int)
    for y, row in enumerate(raw.astype(int)):
        left, corner = (np.concatenate([np.zeros(step, int), line[:-step]]) for line in (row, above))
        estimate = left + above - corner
        distances = np.stack([abs(estimate - one) for one in (left, above, corner)])
        paeth = np.choose(distances.argmin(0), [left, above, corner])  # of equal ones the first, as it should be
        guess = [0 * row, left, above, (left + above) // 2, paeth][y % 5]
        lines.append(bytes([y % 5]) + ((row - guess) % 256).astype(np.uint8).tobytes())
        above = row
    header = struct.pack(">IIBBBBB", width, height, 8 * samples.dtype.itemsize, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tEXt", b"a\0b"), (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


DECODE = """
const { PngDecoder } = await import("/page/png.js");
const [file, cut] = given;
const rows = [];
const decoder = new PngDecoder(() => {}, (top, pixels) => rows.push(...pixels));
for (let at = 0; at < file.length; at += cut) await decoder.push(Uint8Array.from(file.slice(at, at + cut)));
await decoder.finish();
return rows;
"""


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)], ids=["L", "LA", "RGB", "RGBA"])
def test_every_kind_of_png_is_decoded(
    browser: Browser, server: Server, colour: int, channels: int, depth: type[np.generic]
) -> None:
    browser.open(server.url)
    samples = np.random.default_rng(1).integers(0, np.iinfo(depth).max, (13, 9, channels), depth, endpoint=True)
    expected = (samples >> 8 * (samples.dtype.itemsize - 1)).astype(np.uint8)
    gray, alpha = expected[..., :1], expected[..., -1:]
    rgb = np.repeat(gray, 3, axis=2) if channels < 3 else expected[..., :3]
    opaque = np.full_like(gray, 255) if channels % 2 else alpha
    rows = browser.run(DECODE, list(make_png(samples, colour)), 7)
    assert rows == np.concatenate([rgb, opaque], axis=2).ravel().tolist()


@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_a_png_that_is_not_whole_is_told(browser: Browser, server: Server, damage: str) -> None:
    browser.open(server.url)
    file = bytearray(make_png(np.random.default_rng(2).integers(0, 256, (20, 20, 3), np.uint8), 2))
    if damage == "cut":
        del file[-30:]
    else:
        file[len(file) // 2] ^= 255
    assert str(browser.run(DECODE, list(file), 100)).startswith("ERROR")


SHRINK = """
const { Preview } = await import("/page/preview.js");
const [width, height] = given;
const preview = new Preview({ width, height, alpha: false });
const line = new Uint8ClampedArray(width * 4);
for (let y = 0; y < height; y++) {
  for (let x = 0; x < width; x++) line.set([(x & 1) * 200, y & 1 ? 100 : 0, 60, 255], x * 4);
  preview.rows(y, line, 1);
}
const data = preview.context.getImageData(0, 0, preview.canvas.width, preview.canvas.height).data;
return [preview.step, preview.canvas.width, preview.canvas.height, [...data.slice(0, 4)], [...data.slice(-4)]];
"""


def test_a_result_too_large_for_a_canvas_is_averaged(browser: Browser, server: Server) -> None:
    browser.open(server.url)
    step, width, height, first, last = browser.run(SHRINK, 20_001, 5)
    assert (step, width, height) == (2, 10_001, 3)
    assert first == [100, 50, 60, 255]
    assert last == [0, 0, 60, 255], "the edge is averaged over what there is"


# -- the study -----------------------------------------------------------------------------------------------------


def test_the_study_from_the_first_rating_to_the_results(browser: Browser, folder: Path) -> None:
    pictures = folder / "study"
    pictures.mkdir()
    save(pictures / "cat.png", skimage.data.chelsea()[60:188, 100:228])
    save(pictures / "coffee.png", skimage.data.coffee()[100:228, 100:228])
    versions = 1 + len({spec.name for spec in load_zoo(small_zoo(*QUICK)) if spec.scale == 4})  # and the original
    count = 2 * versions
    with quick_server(study=str(pictures)) as server:
        browser.open(f"{server.url}/study")
        assert not browser.violations()
        browser.click("#begin")
        for number, key in enumerate(itertools.islice(itertools.cycle("12345"), count)):
            browser.wait(lambda at=number: f"Picture {at + 1} of {count}" in browser.text("#position"))
            browser.wait(lambda: browser.script("return document.getElementById('picture').naturalWidth") == 128)
            if number == 1:
                browser.shoot("study")
                assert not browser.violations()
            if number == 2:  # by mouse
                browser.click(f"#scores label:nth-of-type({key})")
            else:
                browser.find("body").send_keys(key)
        browser.wait(lambda: browser.find("#end").is_displayed())
        browser.open(f"{server.url}/study")  # a reload does not begin anew
        browser.wait(lambda: browser.text("#begun") == f"{count} of {count} rated so far.")
        browser.open(f"{server.url}/study/results")
        browser.wait(lambda: f"{count} ratings by 1 people" in browser.text("#summary"))
        assert browser.script("return document.querySelectorAll('#models tr').length") == 1 + versions
        assert browser.script("return document.querySelectorAll('#pictures tr').length") == 1 + 2
        browser.shoot("results")
        assert not browser.violations()
        for path, ready in (("", "#begun"), ("/results", "#summary")):  # on a phone, in the dark
            browser.open(f"{server.url}/study{path}", width=390, height=800, dark=True)
            browser.wait(lambda at=ready: browser.text(at))
            if not path:
                browser.click("#begin")
                browser.click("#review")
                browser.wait(lambda: browser.script("return document.getElementById('picture').naturalWidth") == 128)
            browser.shoot(f"study-phone{path.replace('/', '-')}")
            assert browser.script("return document.documentElement.scrollWidth") <= 390
            assert not browser.violations()
        assert not browser.complaints()

"""What Chromium shows of a picture and of its enlargement is the same colour, in whichever words the file told it.

The network repeats pixels, so the input, shown twice as large with plain pixels, is what the result has to look like.
"""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import skimage.color
from numpy.typing import NDArray
from PIL import Image

from harness.server import running_server
from tests.support.browser import Browser
from tests.support.nearest import SCALE, write_models
from tests.support.told_colour import HEIGHT, WAYS, WIDTH

Pixels = NDArray[np.uint8]

SHOWN = ("png", "jpeg", "webp", "avif")
BOUND = 1.0


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    models = write_models(tmp_path_factory.mktemp("models"), "fast-x2", "bicubic-x2", "balanced-x4")
    with running_server(models=str(models)) as server, server.client() as client:
        yield client


def test_browser_shows_the_same_before_and_after(asked: httpx.Client, browser: Browser, tmp_path: Path) -> None:
    files = {(way, "before"): data for way, data in WAYS.items()}
    for way, data in WAYS.items():
        for fmt in SHOWN:
            quality = {} if fmt == "png" else {"quality": 100}
            finest = {"subsampling": "4:4:4"} if fmt in ("jpeg", "avif") else {"lossless": True}
            parameters = {"scale": SCALE, "model": "nearest", "format": fmt, **quality, **finest}
            response = asked.post("/upscale", content=data, params=parameters)
            assert response.status_code == 200, (way, fmt, response.text)
            files[way, fmt] = response.content
    seen = screenshots(browser, files, tmp_path)
    table = {way: {fmt: round(difference(seen[way, "before"], seen[way, fmt]), 2) for fmt in SHOWN} for way in WAYS}
    for way, row in table.items():
        print(f"{way:40}", "  ".join(f"{fmt} {value:4.2f}" for fmt, value in row.items()))
    wrong = {way: row for way, row in table.items() if max(row.values()) >= BOUND}
    assert not wrong, json.dumps(wrong, indent=1)


@pytest.mark.parametrize("metadata", ["keep", "strip"])
@pytest.mark.parametrize("way", [*WAYS][1::6])
def test_tiff_which_no_browser_shows_has_the_profile_that_png_has(asked: httpx.Client, way: str, metadata: str) -> None:
    profiles = []
    for fmt in ("png", "tiff"):
        parameters = {"scale": SCALE, "model": "nearest", "format": fmt, "metadata": metadata}
        result = Image.open(io.BytesIO(asked.post("/upscale", content=WAYS[way], params=parameters).content))
        profiles.append(result.info.get("icc_profile"))
    assert profiles[0] == profiles[1]


@pytest.mark.parametrize("metadata", ["keep", "strip"])
@pytest.mark.parametrize("fmt", [*SHOWN, "tiff"])
@pytest.mark.parametrize("way", ["jpeg DCF R03", "webp DCF R03"])
def test_a_camera_set_to_adobe_rgb_is_told_in_the_same_words(
    asked: httpx.Client, way: str, fmt: str, metadata: str
) -> None:
    """Exif's ColorSpace and DCF's index, by which no browser goes; a profile would change what it shows."""
    parameters = {"scale": SCALE, "model": "nearest", "format": fmt, "metadata": metadata}
    result = Image.open(io.BytesIO(asked.post("/upscale", content=WAYS[way], params=parameters).content))
    exif = result.getexif()
    assert exif.get_ifd(0x8769)[0xA001] == 65535
    assert exif.get_ifd(0xA005)[1] == "R03"
    assert "icc_profile" not in result.info


def difference(before: Pixels, after: Pixels) -> float:
    """Mean ΔE2000 of two screenshots, uint8 ``[h, w, 3]`` in sRGB."""
    first, second = (skimage.color.rgb2lab(each / 255) for each in (before, after))
    return float(skimage.color.deltaE_ciede2000(first, second).mean())


def screenshots(browser: Browser, files: dict[tuple[str, str], bytes], folder: Path) -> dict[tuple[str, str], Pixels]:
    """Each file as Chromium shows it, at the size of the result; on one page, a row a way."""
    width, height, shown = WIDTH * SCALE, HEIGHT * SCALE, ("before", *SHOWN)
    keys = [(way, each) for way in WAYS for each in shown]
    for index, key in enumerate(keys):
        (folder / str(index)).write_bytes(files[key])
    image = f"width:{width}px;height:{height}px;display:block;image-rendering:pixelated"
    body = f"margin:0;display:grid;grid-template-columns:repeat({len(shown)},{width}px)"
    page = folder / "page.html"
    images = "".join(f"<img src={index}>" for index in range(len(keys)))
    page.write_text(f"<!doctype html><style>img{{{image}}}body{{{body}}}</style>{images}")
    browser.open(page.as_uri(), width * len(shown), 900)
    broken = browser.run(
        "const all = [...document.images];"
        "await Promise.all(all.map((image) => image.decode().catch(() => 0)));"
        "return all.flatMap((image, at) => (image.naturalWidth ? [] : [at]))"
    )
    assert broken == [], [keys[index] for index in broken]
    seen = {}
    for row, way in enumerate(WAYS):  # a screenshot each: of the whole page it would be too high
        clip = {"x": 0, "y": row * height, "width": width * len(shown), "height": height, "scale": 1}
        shot = browser.chrome.execute_cdp_cmd(
            "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip}
        )
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB"))
        seen |= {(way, each): pixels[:, at * width : (at + 1) * width] for at, each in enumerate(shown)}
    return seen

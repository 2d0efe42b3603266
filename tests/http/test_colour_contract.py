"""docs/colour.md, cell by cell, through a real server: what goes in comes out, only larger.

The network repeats pixels, so every sample of the result is known. Lossy formats stand in the table with bounds.
"""

import io
import struct
import zlib
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import skimage.color
import skimage.data
import tifffile
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from harness.server import Server, running_server
from tests.support.nearest import SCALE, write_models
from tests.support.profiles import (
    ADOBE,
    P3,
    PROPHOTO,
    SRGB_CURVE,
    gray_profile,
    rgb_profile,
    srgb_decoded,
    table_profile,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
COLOUR_TYPES = {"L": 0, "LA": 4, "RGB": 2, "RGBA": 6}
ENHANCED = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = write_models(tmp_path_factory.mktemp("models"), "fast-x2", "bicubic-x2", "balanced-x4")
    with running_server(models=str(models)) as running:
        yield running


@pytest.fixture(scope="module")
def asked(contract: Server) -> Iterator[httpx.Client]:
    with contract.client() as client:
        yield client


def enlarged(client: httpx.Client, image: bytes, **options: object) -> httpx.Response:
    response = client.post("/upscale", content=image, params={"scale": SCALE, "model": "nearest", **options})
    assert response.status_code == 200, response.text
    return response


def opened(response: httpx.Response) -> Image.Image:
    image = Image.open(io.BytesIO(response.content))
    image.load()
    assert response.headers["content-type"] == f"image/{image.format.lower()}"
    return image


def saved(image: Image.Image, fmt: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def chunk(name: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def png16(pixels: np.ndarray, mode: str, *between: bytes) -> bytes:
    """16-bit samples ``[h, w, C]``, which Pillow cannot write, as a PNG."""
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, COLOUR_TYPES[mode], 0, 0, 0)
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = chunk(b"IHDR", header), *between, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def read_png16(data: bytes, channels: int) -> np.ndarray:
    """The samples of one of our 16-bit PNGs, uint16 ``[h, w, C]``: chunks, inflate, filter "up", by hand."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, pixels = 8, b""
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name == b"IHDR":
            width, height, bits = struct.unpack_from(">IIB", data, at + 8)
        if name == b"IDAT":
            pixels += data[at + 8 : at + 8 + length]
        at += 12 + length
    assert bits == 16
    rows = np.frombuffer(zlib.decompress(pixels), np.uint8).reshape(height, 1 + width * channels * 2)
    assert (rows[:, 0] == 2).all()
    return np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8).view(">u2").reshape(height, width, channels)


def tiff16(pixels: np.ndarray, mode: str, **options: object) -> bytes:
    file = io.BytesIO()
    extra = ["unassalpha"] if mode.endswith("A") else None
    photometric = "rgb" if mode.startswith("RGB") else "minisblack"
    tifffile.imwrite(
        file, pixels if pixels.shape[2] > 1 else pixels[:, :, 0], photometric=photometric, extrasamples=extra,
        planarconfig="contig", metadata=None, **options,
    )  # fmt: skip
    return file.getvalue()


def pattern(mode: str, depth: int, height: int = 13, width: int = 9) -> np.ndarray:
    """Noise over the whole range, ``[h, w, C]``; no hole, whose colour would be nobody's to keep."""
    peak = 2**depth - 1
    pixels = np.random.default_rng(len(mode) + depth).integers(0, peak, (height, width, CHANNELS[mode]), endpoint=True)
    if mode.endswith("A"):
        pixels[:, :, -1] = np.where(pixels[:, :, -1] < peak // 8, peak // 8, pixels[:, :, -1])
    pixels[0, 0, :], pixels[0, 1, : max(1, CHANNELS[mode] - (mode.endswith("A")))] = peak, 0
    return pixels.astype(np.uint8 if depth == 8 else np.uint16)


def twice(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Upright, as seen, of pixels stored in an orientation of Exif."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    down = orientation in (3, 4, 7, 8)
    across = orientation in (2, 3, 6, 7)
    return pixels[:: -1 if down else 1, :: -1 if across else 1]


def orientation_block(orientation: int) -> bytes:
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 274, 3, 1, orientation, 0, 0)


PROFILES = {
    "none": None,
    "sRGB": SRGB,
    "P3": rgb_profile(P3, *SRGB_CURVE),
    "ProPhoto": rgb_profile(PROPHOTO, 1.8),
    "tables": table_profile(P3, 1.8),
}
FAR = ("linear", "ProPhoto", "tables")
GRAY_PROFILES = {"none": None, "gamma 2.2": gray_profile(2.2), "linear": gray_profile(1.0)}
MATRIX = [
    (mode, depth, orientation, name)
    for mode in CHANNELS
    for depth in (8, 16)
    for orientation in range(1, 9)
    for name in (GRAY_PROFILES if mode in ("L", "LA") else PROFILES)
    if name in ("none", "linear", "ProPhoto") or orientation in (1, 6)
]


@pytest.mark.parametrize("container", ["png", "tiff"])
@pytest.mark.parametrize(("mode", "depth", "orientation", "name"), MATRIX)
def test_samples_come_out_as_they_went_in(
    asked: httpx.Client, container: str, mode: str, depth: int, orientation: int, name: str
) -> None:
    pixels, profile = pattern(mode, depth), (GRAY_PROFILES | PROFILES)[name]
    if container == "tiff":
        tags = [(34675, 7, len(profile), profile, True)] if profile else []
        image = tiff16(pixels, mode, extratags=[*tags, (274, 3, 1, orientation, True)])
    else:
        iccp = [chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))] if profile else []
        exif = chunk(b"eXIf", orientation_block(orientation))
        image = png16(pixels, mode, *iccp, exif) if depth == 16 else png8(pixels, mode, *iccp, exif)
    response = enlarged(asked, image)
    result = samples_of(response, mode, depth)
    expected = twice(turned(pixels, orientation))
    assert result.shape == expected.shape
    # A curve far from sRGB's goes there and back in 16 bits: exact in 8, and within its own steps in 16.
    bound = 0 if depth == 8 or name not in FAR else 8
    assert np.abs(result.astype(int) - expected).max() <= bound
    if container == "tiff":
        with tifffile.TiffFile(io.BytesIO(response.content)) as file:
            tags = {tag.code: tag.value for tag in file.pages[0].tags}
        assert (tags.get(34675), tags.get(274, 1)) == (profile, 1)
    else:
        read = opened(response)
        assert (read.info.get("icc_profile"), read.getexif().get(274, 1)) == (profile, 1)


def png8(pixels: np.ndarray, mode: str, *between: bytes) -> bytes:
    data = saved(Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[:, :, 0], mode), "PNG")
    return data[:33] + b"".join(between) + data[33:]


def samples_of(response: httpx.Response, mode: str, depth: int) -> np.ndarray:
    """``[h, w, C]``, read by something other than what wrote it; of the mode and the depth that are expected."""
    if response.headers["content-type"] == "image/tiff":
        with tifffile.TiffFile(io.BytesIO(response.content)) as file:
            pixels = file.pages[0].asarray()
        assert pixels.dtype == f"uint{depth}"
        return np.atleast_3d(pixels)
    if depth == 16:
        return read_png16(response.content, CHANNELS[mode])
    assert opened(response).mode == mode
    return np.atleast_3d(np.asarray(opened(response)))


ZIP, TILES = {"compression": "zlib"}, {"tile": (16, 16)}
PREDICTED = {**ZIP, "predictor": True}
LAYOUTS = (ZIP, PREDICTED, TILES, {**TILES, **PREDICTED}, {"byteorder": ">"}, {"rowsperstrip": 5})


@pytest.mark.parametrize("options", [*LAYOUTS, {"byteorder": ">", **PREDICTED}], ids=str)
@pytest.mark.parametrize("mode", CHANNELS)
def test_deep_tiffs_of_every_layout(asked: httpx.Client, mode: str, options: dict[str, object]) -> None:
    pixels = pattern(mode, 16, 35, 21)
    result = samples_of(enlarged(asked, tiff16(pixels, mode, **options)), mode, 16)
    np.testing.assert_array_equal(result, twice(pixels))


# -- other modes -------------------------------------------------------------------------------------------------


def test_one_bit_is_gray(asked: httpx.Client) -> None:
    bits = pattern("L", 8)[:, :, 0] > 127
    result = opened(enlarged(asked, saved(Image.fromarray(bits), "PNG")))
    assert result.mode == "L"
    np.testing.assert_array_equal(np.asarray(result), twice(bits * np.uint8(255)))


@pytest.mark.parametrize("fmt", ["PNG", "GIF"])
def test_a_palette_with_transparency(asked: httpx.Client, fmt: str) -> None:
    indices = np.array([[0, 1, 2, 3]] * 4, np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 90, 80, 70])
    result = opened(enlarged(asked, saved(image, fmt, transparency=2)))
    assert (result.mode, result.format) == ("RGBA", "PNG")
    expected = twice(np.asarray(image.convert("RGBA")))
    seen = twice(indices) != 2
    np.testing.assert_array_equal(np.asarray(result)[seen][:, :3], expected[seen][:, :3])
    np.testing.assert_array_equal(np.asarray(result)[:, :, 3], np.where(seen, 255, 0))


def test_ink_becomes_srgb_by_its_formula_where_it_has_no_profile(asked: httpx.Client) -> None:
    image = Image.new("CMYK", (16, 16), (200, 30, 0, 10))
    result = opened(enlarged(asked, saved(image, "TIFF")))
    assert result.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(result), twice(np.asarray(image.convert("RGB"))))
    assert "icc_profile" not in result.info


def test_lab_becomes_srgb(asked: httpx.Client) -> None:
    image = Image.merge("LAB", [Image.new("L", (4, 4), n) for n in (136, 208, 195)])  # L 53, a 80, b 67
    result = np.asarray(opened(enlarged(asked, saved(image, "TIFF"))))
    assert result[0, 0, 0] > 240
    assert result[0, 0, 1:].max() < 40


@pytest.mark.parametrize(("mode", "expected"), [("RGB", "RGB"), ("RGBA", "RGBA"), ("L", "L"), ("LA", "RGBA")])
@pytest.mark.parametrize("fmt", ["webp", "avif"])
def test_formats_encoded_whole_keep_their_channels(asked: httpx.Client, fmt: str, mode: str, expected: str) -> None:
    image = Image.fromarray(np.full((8, 8, 3), (200, 120, 40), np.uint8)).convert(mode)
    if mode.endswith("A"):
        image.putalpha(180)  # both codecs leave out alpha that is opaque all over
    result = opened(enlarged(asked, saved(image, "PNG"), format=fmt, quality=100))
    if fmt == "webp":
        expected = {"L": "RGB"}.get(mode, expected)  # it has no gray
    assert result.mode == expected
    assert np.abs(np.asarray(result.convert(mode)).astype(int) - np.asarray(image)[0, 0]).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_by_its_own_properties(asked: httpx.Client, orientation: int) -> None:
    pixels = np.kron(pattern("RGB", 8, 3, 2), np.ones((8, 8, 1), np.uint8))  # flat blocks survive the codec
    exif = Image.Exif()
    exif[274] = orientation
    image = saved(Image.fromarray(pixels), "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    result = opened(enlarged(asked, image, format="png"))
    expected = twice(turned(pixels, orientation))
    assert result.size == expected.shape[1::-1]
    assert np.abs(np.asarray(result).astype(int) - expected).mean() < 4


def test_webp_can_be_lossless_and_jpeg_cannot(asked: httpx.Client) -> None:
    pixels = pattern("RGB", 8)
    result = opened(enlarged(asked, saved(Image.fromarray(pixels), "PNG"), format="webp", lossless=True))
    np.testing.assert_array_equal(np.asarray(result), twice(pixels))
    refused = post(asked, saved(Image.fromarray(pixels), "PNG"), format="jpeg", lossless=True)
    assert (refused.status_code, refused.json()["code"]) == (422, "unfit_format")


def post(client: httpx.Client, image: bytes, **options: object) -> httpx.Response:
    headers = options.pop("headers", {})
    return client.post(
        "/upscale", content=image, params={"scale": SCALE, "model": "nearest", **options}, headers=headers
    )


@pytest.mark.parametrize("fmt", ["jpeg", "avif"])
def test_subsampling_is_as_asked(asked: httpx.Client, fmt: str) -> None:
    image = saved(Image.fromarray(pattern("RGB", 8, 40, 40)), "PNG")
    sizes = [len(enlarged(asked, image, format=fmt, subsampling=each).content) for each in ("4:2:0", "4:4:4")]
    assert sizes[1] > 1.1 * sizes[0], sizes


# -- depth -------------------------------------------------------------------------------------------------------


def test_16_bits_are_refused_by_what_holds_8_and_taken_when_asked_for_8(asked: httpx.Client) -> None:
    pixels = pattern("RGB", 16)
    for fmt in ("jpeg", "webp", "avif"):
        refused = post(asked, png16(pixels, "RGB"), format=fmt)
        assert (refused.status_code, refused.json()["code"]) == (422, "unfit_format")
        assert (refused.json()["limit"], refused.json()["actual"]) == (8, 16)
        assert opened(post(asked, png16(pixels, "RGB"), format=fmt, depth=8)).format == fmt.upper()
    result = np.asarray(opened(enlarged(asked, png16(pixels, "RGB"), depth=8)))
    np.testing.assert_array_equal(result, np.rint(twice(pixels) / 257))


def test_accept_takes_the_first_that_can_hold_it(asked: httpx.Client) -> None:
    deep = png16(pattern("RGB", 16), "RGB")
    told = {"headers": {"accept": "image/webp, image/tiff;q=0.5"}}
    assert post(asked, deep, **told).headers["content-type"] == "image/tiff"
    assert post(asked, deep, headers={"accept": "image/avif"}).headers["content-type"] == "image/png"


def test_8_bits_may_become_16(asked: httpx.Client) -> None:
    pixels = pattern("RGB", 8)
    result = read_png16(enlarged(asked, saved(Image.fromarray(pixels), "PNG"), depth=16).content, 3)
    np.testing.assert_array_equal(result, twice(pixels).astype(np.uint16) * 257)


def test_a_16_bit_gradient_stays_one(asked: httpx.Client) -> None:
    down, across = np.mgrid[0:200, 0:200]
    pixels = np.stack([(across * 199 + down * 127 + shift) for shift in (0, 61, 122)], axis=2).astype(np.uint16)
    result = read_png16(enlarged(asked, png16(pixels, "RGB"), model="fast").content, 3)
    distinct = len(np.unique(result))
    assert distinct > 10_000, distinct
    assert result.min() < 1000  # none clipped: neither end is piled up
    assert (result == 65535).mean() == 0
    assert (result == 0).mean() < 0.001
    reduced = result.reshape(200, 2, 200, 2, 3).astype(float).mean(axis=(1, 3))
    error = np.abs(reduced - pixels).mean()
    assert error < 64, error


# -- profiles ----------------------------------------------------------------------------------------------------


def lab_of(pixels: np.ndarray, primaries: tuple[tuple[float, ...], ...], power: float | None) -> np.ndarray:
    encoded = pixels / 255
    light = srgb_decoded(encoded) if power is None else encoded**power
    return skimage.color.xyz2lab(light @ np.array(primaries).T, illuminant="D50")


@pytest.mark.parametrize(
    ("primaries", "shape"), [(P3, SRGB_CURVE), (ADOBE, (2.2,)), (PROPHOTO, (1.8,))], ids=["P3", "Adobe", "ProPhoto"]
)
@pytest.mark.parametrize("kind", ["photograph", "vivid"])
def test_colours_stay_what_they_were(
    asked: httpx.Client, kind: str, primaries: tuple[tuple[float, ...], ...], shape: tuple[float, ...]
) -> None:
    """A JPEG in a wide space, enlarged and reduced again; the vivid one is full of what sRGB does not have."""
    picture = Image.fromarray(skimage.data.astronaut()[:160, 60:220])
    if kind == "vivid":
        picture = Image.fromarray((np.asarray(picture).astype(float) ** 2 / 255).astype(np.uint8))
    profile = rgb_profile(primaries, *shape)
    image = saved(picture, "JPEG", quality=97, subsampling=0, icc_profile=profile)
    result = opened(enlarged(asked, image, model="fast", format="png"))
    assert result.info["icc_profile"] == profile
    reduced = np.asarray(result.resize(picture.size, Image.Resampling.BOX)).astype(float)
    power = None if len(shape) > 1 else shape[0]
    before = lab_of(np.asarray(Image.open(io.BytesIO(image))).astype(float), primaries, power)
    difference = skimage.color.deltaE_ciede2000(before, lab_of(reduced, primaries, power)).mean()
    print(f"{kind}: mean deltaE2000 {difference:.3f}")
    assert difference < 1, difference


# -- transparency ------------------------------------------------------------------------------------------------


def cut_out(side: int, softness: float) -> tuple[np.ndarray, np.ndarray]:
    """A photograph, 0 to 1, and the alpha of a star cut out of it with an edge of so many pixels."""
    colour = skimage.data.astronaut()[:side, 100 : 100 + side] / 255
    y, x = np.mgrid[:side, :side] - side / 2
    radius = side * (0.3 + 0.08 * np.sign(np.sin(np.arctan2(y, x) * 7)))
    return colour, np.clip((radius - np.hypot(x, y)) / softness + 0.5, 0, 1)[:, :, np.newaxis]


def reduced(planes: np.ndarray, scale: int) -> np.ndarray:
    size = planes.shape[1] // scale, planes.shape[0] // scale
    channels = [Image.fromarray(planes[:, :, n].astype(np.float32)) for n in range(planes.shape[2])]
    return np.stack([np.asarray(each.resize(size, Image.Resampling.BICUBIC)) for each in channels], axis=2).clip(0, 1)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(((one - other) ** 2).mean()))


@pytest.mark.parametrize("ground", ["black", "white", "checkerboard"])
@pytest.mark.parametrize("softness", [1.0, 4.0])
@pytest.mark.parametrize(("model", "scale"), [("fast", 2), ("balanced", 4)], ids=["fast x2", "the default x4"])
def test_a_cut_out_has_no_fringe(asked: httpx.Client, model: str, scale: int, softness: float, ground: str) -> None:
    side = 160
    colour, alpha = cut_out(side, softness)
    small = reduced(np.concatenate([colour * alpha, alpha], axis=2), scale)
    straight = small[:, :, :3] / np.maximum(small[:, :, 3:], 1e-6)
    rgba = np.rint(np.concatenate([straight.clip(0, 1), small[:, :, 3:]], axis=2) * 255).astype(np.uint8)
    rgba[rgba[:, :, 3] == 0] = 0  # black under the holes, as most programs write it
    answer = enlarged(asked, saved(Image.fromarray(rgba), "PNG"), model=model, scale=scale)
    result = np.asarray(opened(answer)) / 255
    premultiplied = [Image.fromarray(small[:, :, n].astype(np.float32)) for n in range(4)]
    plain = np.stack([np.asarray(each.resize((side, side), Image.Resampling.BICUBIC)) for each in premultiplied], 2)
    y, x = np.mgrid[:side, :side]
    behind = {"black": 0.0, "white": 1.0, "checkerboard": ((x // 8 + y // 8) % 2)[:, :, np.newaxis]}[ground]
    expected = colour * alpha + behind * (1 - alpha)
    own = psnr(result[:, :, :3] * result[:, :, 3:] + behind * (1 - result[:, :, 3:]), expected)
    other = psnr((plain[:, :, :3] + behind * (1 - plain[:, :, 3:])).clip(0, 1), expected)
    print(f"{model} x{scale}, {ground}, edge {softness}: {own:.2f} dB, premultiplied bicubic {other:.2f} dB")
    assert own >= other + 1


@pytest.mark.parametrize("behind", [0, 255])
def test_no_border_pixel_leaves_the_range_of_its_neighbours(asked: httpx.Client, behind: int) -> None:
    _, alpha = cut_out(80, 3.0)
    rgba = np.zeros((80, 80, 4), np.uint8)
    rgba[:, :, 3:] = np.rint(alpha * 255)
    rgba[rgba[:, :, 3] > 0, :3] = (200, 90, 30)
    result = np.asarray(opened(enlarged(asked, saved(Image.fromarray(rgba), "PNG"), model="fast"))).astype(float)

    def laid(pixels: np.ndarray) -> np.ndarray:
        share = pixels[:, :, 3:] / 255
        return pixels[:, :, :3] * share + behind * (1 - share)

    around = np.pad(laid(rgba.astype(float)), ((1, 1), (1, 1), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3), axis=(0, 1))
    low, high = twice(windows.min(axis=(3, 4))), twice(windows.max(axis=(3, 4)))
    above, below = (laid(result) - high).max(), (low - laid(result)).max()
    assert max(above, below) <= 2, (above, below)
    opacity = np.pad(rgba[:, :, 3], 1, mode="edge")
    opaque = np.lib.stride_tricks.sliding_window_view(opacity, (3, 3)).min(axis=(2, 3)) == 255
    assert (result[twice(opaque)][:, 3] == 255).all(), "what was opaque stays opaque"


# -- metadata ----------------------------------------------------------------------------------------------------

PACKET = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmp:Rating="5" tiff:Orientation="6" hdrgm:Version="1.0"
 exif:GPSLatitude="52,30.5N"><exif:GPSLongitude>13,24.5E</exif:GPSLongitude>
<dc:creator><rdf:Seq><rdf:li>A. Nother</rdf:li></rdf:Seq></dc:creator></rdf:Description></rdf:RDF></x:xmpmeta>"""


def camera_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[271] = "Maker"
    exif.get_ifd(34665)[33434] = 0.5  # exposure time
    exif.get_ifd(34853)[1], exif.get_ifd(34853)[2] = "N", (52.0, 30.0, 30.0)
    return exif


@pytest.mark.parametrize("metadata", ["keep", "strip"])
@pytest.mark.parametrize("out", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("into", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
def test_metadata_travels_as_asked_and_never_says_where(
    asked: httpx.Client, into: str, out: str, metadata: str
) -> None:
    kept = metadata == "keep"
    extra: dict[str, object] = {"xmp": PACKET}
    if into == "PNG":
        note = PngInfo()
        note.add_itxt("XML:com.adobe.xmp", PACKET.decode())
        extra = {"pnginfo": note}
    exif = camera_exif()
    if into == "TIFF":
        exif[700], extra = PACKET, {}
    image = saved(Image.new("RGB", (8, 8), (90, 120, 30)), into, exif=exif.tobytes(), dpi=(300, 300), **extra)
    response = enlarged(asked, image, format=out.lower(), metadata=metadata)
    assert response.headers["enlarger-metadata"] == f"{metadata}; position removed"
    with Image.open(io.BytesIO(response.content)) as result:
        exif, packet = result.getexif(), xmp_of(result)
        told = result.info.get("dpi")
    assert ENHANCED.encode() in packet
    assert b"GPS" not in packet
    assert b"Orientation" not in packet
    assert b"hdrgm:Version" not in packet
    assert (b"A. Nother" in packet, b"Rating" in packet) == (kept, kept)
    assert (exif.get(271) == "Maker") == kept
    assert (exif.get_ifd(34665).get(33434) == 0.5) == kept
    assert not exif.get_ifd(34853)
    if out in ("PNG", "JPEG", "TIFF") and into in ("PNG", "JPEG", "TIFF"):
        assert (told is not None and abs(told[0] - 300) < 0.1) == kept


def xmp_of(image: Image.Image) -> bytes:
    if image.format == "TIFF":
        found = image.tag_v2[700]
        return found if isinstance(found, bytes) else bytes(found)
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    return found if isinstance(found, bytes) else str(found).encode()


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"not xml",
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>',
        b"<a>" * 5000 + b"</a>" * 5000,
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        PACKET[:-20],
        PACKET.replace(b"A. Nother", b"A" * 200_000),
    ],
    ids=["empty", "text", "entities", "deep", "encoding", "cut", "large"],
)
def test_a_hostile_packet_is_as_good_as_none(asked: httpx.Client, packet: bytes) -> None:
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + packet
    plain = saved(Image.new("RGB", (4, 4)), "PNG")
    with Image.open(io.BytesIO(enlarged(asked, plain[:33] + chunk(b"iTXt", text) + plain[33:]).content)) as result:
        assert ENHANCED.encode() in xmp_of(result)
        assert b"Nother" not in xmp_of(result)


def test_a_picture_that_was_generated_goes_on_saying_so(asked: httpx.Client) -> None:
    source = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    packet = PACKET.replace(
        b'xmp:Rating="5"',
        b'xmlns:I="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" I:DigitalSourceType="%s"' % source.encode(),
    )
    image = saved(Image.new("RGB", (4, 4)), "JPEG", xmp=packet)
    with Image.open(io.BytesIO(enlarged(asked, image).content)) as result:
        assert source.encode() in xmp_of(result)
        assert ENHANCED.encode() not in xmp_of(result)


# -- limits told in advance --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fmt", "size", "limit"),
    [("avif", (8, 8200), 16_384), ("avif", (4200, 1001), 2**24), ("webp", (8, 8200), 16_383)],
)
def test_what_is_encoded_whole_is_refused_before_it_is_computed(
    asked: httpx.Client, fmt: str, size: tuple[int, int], limit: int
) -> None:
    image = saved(Image.new("L", size), "PNG")
    refused = post(asked, image, format=fmt)
    assert (refused.status_code, refused.json()["code"], refused.json()["limit"]) == (422, "output_too_large", limit)
    if min(size) < 10:  # the other one would take a loaded machine too long
        assert post(asked, image, headers={"accept": f"image/{fmt}"}).headers["content-type"] == "image/png"


@pytest.mark.parametrize("metadata", ["keep", "strip"])
def test_a_gain_map_that_is_dropped_is_told(asked: httpx.Client, metadata: str) -> None:
    plain = saved(Image.new("RGB", (8, 8), (90, 120, 30)), "JPEG")
    told = b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4)
    ultra = plain[:2] + b"\xff\xe2" + struct.pack(">H", len(told) + 2) + told + plain[2:] + plain
    response = enlarged(asked, ultra, metadata=metadata, format="jpeg")
    assert response.headers["enlarger-metadata"] == f"{metadata}; position removed; gain map dropped"
    assert told not in response.content
    assert enlarged(asked, plain, metadata=metadata).headers["enlarger-metadata"] == f"{metadata}; position removed"


def test_heic_is_read_and_told(asked: httpx.Client) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")  # the extra ``heif``, which the tests' own brings
    file = io.BytesIO()
    image = Image.new("RGB", (40, 30), (90, 120, 30))
    pillow_heif.from_pillow(image).save(file, quality=95)
    result = opened(enlarged(asked, file.getvalue()))
    assert (result.format, result.size, result.mode) == ("PNG", (80, 60), "RGB")
    assert np.abs(np.asarray(result).astype(int) - (90, 120, 30)).max() <= 3
    assert "heic" in asked.get("/models").json()["input"]["formats"]

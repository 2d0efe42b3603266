"""Files of a few bytes that say they are much: headers that multiply, expand, or contradict what a codec will decode.

Each kind is tried with files made here, at its limit and one beyond. None needs pixels to be decoded.
"""

import asyncio
import io
import math
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image, ImageCms

from app.errors import CorruptImageError, TooComplexError, TooManyPixelsError
from app.http.access_log import AccessLog
from app.http.problems import add_error_handlers
from app.http.service import Service
from app.http.upscale import router
from app.images.decoder import DecodeLimits, decode, inspect
from app.images.formats import Container, read_container
from app.images.formats.av1 import read_av1, read_sequence
from app.images.formats.ifd import read_exif
from app.images.formats.isobmff import MAX_PARTS
from app.images.formats.xmltree import MAX_DEPTH, MAX_NODES, parse_xml
from app.images.formats.xmp import ENHANCED, cleaned_xmp, enlarged_xmp
from app.images.icc import open_profile
from app.images.tone import far_curve
from app.inference.scheduler import Scheduler
from app.inference.zoo import load_zoo
from app.settings import Settings
from app.telemetry.in_flight import InFlightTracker
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import Propagator
from app.upscale import upscaler as upscaler_module
from app.upscale.upscaler import Upscaler
from harness import MODELS
from harness.files import chunk, exif_block, gif, gif_frame, ihdr, png, saved, smooth
from harness.hostile import (
    DEFLATED,
    DOCTYPES,
    POINTING,
    RDF,
    anmf,
    chained_profile,
    jpeg_with,
    packet,
    riff,
    segment,
    tiff_of_many,
    vp8,
    vp8l,
    vp8x,
    with_packet,
)
from harness.hostile_avif import (
    AV1C,
    CONTRADICTORY,
    FULL,
    MULTIPLIED,
    SMALL,
    TOO_LARGE,
    Av1,
    Entry,
    alpha_of,
    avif,
    box,
    grid,
    ispe,
    picture,
)

LIMITS = DecodeLimits()
HEADER_BYTES = 4 << 20  # that reading a header may take, whatever it says


@contextmanager
def little_memory(most: int = HEADER_BYTES) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak:,} bytes for a header"


# -- no byte on the event loop -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "avif", "bmp", "tiff", "gif"])
@pytest.mark.parametrize("path", ["/estimate", "/upscale"])
def test_no_header_is_read_on_the_event_loop(monkeypatch: pytest.MonkeyPatch, fmt: str, path: str) -> None:
    """However small the file is: a pixel of each format."""
    beside: list[bool] = []

    def watched(data: bytes, limits: DecodeLimits) -> Container:
        beside.append(asyncio._get_running_loop() is None)
        read_container(data, limits)
        raise CorruptImageError("seen")

    monkeypatch.setattr(upscaler_module, "read_container", watched)
    scheduler = Scheduler(
        run_batch=lambda spec, windows, strengths: windows, seconds_per_pixel=lambda spec: 1.0, max_seconds=1
    )
    app = FastAPI()
    app.include_router(router)
    add_error_handlers(app)
    app.add_middleware(AccessLog, metrics=Metrics(), tracer=Propagator(), in_flight=InFlightTracker())
    app.state.service = Service(Settings(), Upscaler(load_zoo(MODELS), scheduler, {}), ready=True)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.post(path, content=saved(Image.new("L", (1, 1)), fmt))

    response = asyncio.run(ask())
    scheduler.close()
    assert response.json()["detail"] == "seen", response.text
    assert beside == [True]


# -- XML that multiplies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "utf-16-le", "iso-8859-1"])
@pytest.mark.parametrize("doctype", DOCTYPES)
def test_a_document_type_is_refused_in_every_encoding(doctype: str, encoding: str) -> None:
    told = "utf-16" if encoding.startswith("utf-16") else encoding
    text = f"<?xml version='1.0' encoding='{told}'?>" + packet("<dc:title>&#65;</dc:title>", "{}")
    for mark in ("", "\ufeff") if encoding in ("utf-16-be", "utf-16-le") else ("",):
        plain = (mark + text.replace("{}", "")).encode(encoding)
        assert parse_xml(plain) is not None, "it is none anyway"
        with little_memory():
            assert parse_xml((mark + text.replace("{}", DOCTYPES[doctype])).encode(encoding)) is None
            assert cleaned_xmp((mark + text.replace("{}", DOCTYPES[doctype])).encode(encoding)) is None


@pytest.mark.parametrize("container", ["png", "png deflated", "jpeg", "webp", "tiff", "avif"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_picture_is_served_without_a_packet_that_multiplies(container: str, encoding: str) -> None:
    hostile = packet("<dc:title>&f;</dc:title>", DOCTYPES["entities"]).encode(encoding)
    with little_memory():
        read = read_container(with_packet(container, hostile), LIMITS)
    assert read.xmp is None
    assert decode(with_packet(container, hostile), LIMITS).width == 9
    kept = read_container(with_packet(container, packet("<dc:title>kept</dc:title>").encode()), LIMITS).xmp
    assert kept is not None
    assert b"kept" in kept


@pytest.mark.parametrize(
    "piece", ["<a/>", '<dc:title xmlns:a{}="b"/>', "<b>t</b>", '<dc:title a{}="1"/>', "<dc:title/>&#65;"]
)
def test_nodes_are_bounded_in_all(piece: str) -> None:
    pieces = [piece.replace("{}", str(index)) for index in range(MAX_NODES)]
    with little_memory(16 << 20):
        assert parse_xml(packet("".join(pieces)).encode()) is None, "one beyond"
    few = "".join(pieces[: MAX_NODES // 4])
    assert parse_xml(packet(few).encode()) is not None


def test_attributes_of_one_element_count_as_well() -> None:
    for count, fits in ((MAX_NODES - 1, True), (MAX_NODES, False)):
        attributes = " ".join(f"a{index}=''" for index in range(count))
        assert (parse_xml(f"<a {attributes}/>".encode()) is not None) == fits


def test_depth_is_bounded() -> None:
    def nested(depth: int) -> bytes:
        return b"<a>" * depth + b"</a>" * depth

    assert parse_xml(nested(MAX_DEPTH)) is not None
    for depth in (MAX_DEPTH + 1, 1000, 30_000):
        assert parse_xml(nested(depth)) is None


def test_thousands_of_siblings_leave_and_the_rest_stays() -> None:
    siblings = "<a/>" * 2000 + "<dc:title>kept</dc:title>" + "<a/>" * 2000
    cleaned = cleaned_xmp(packet(siblings).encode())
    assert cleaned is not None
    assert b"kept" in cleaned
    assert b"<a" not in cleaned


def test_what_is_private_leaves_at_any_depth() -> None:
    exif = 'xmlns:exif="http://ns.adobe.com/exif/1.0/"'
    longitude = "<exif:GPSLongitude>13</exif:GPSLongitude>"
    inner = f'<dc:subject {exif}><rdf:Bag exif:GPSLatitude="52"><rdf:li>kept{longitude}</rdf:li>'
    text = packet(inner + "</rdf:Bag></dc:subject>").replace(
        "<rdf:RDF", f'<rdf:Description xmlns:rdf="{RDF}" {exif} exif:GPSAltitude="3"/><rdf:RDF'
    )
    cleaned = cleaned_xmp(text.encode())
    assert cleaned is not None
    assert b"kept" in cleaned
    assert b"GPS" not in cleaned


def test_a_packet_survives_being_cleaned_twice_and_marked() -> None:
    text = packet('<dc:title a="&lt;&quot;&amp;">&lt;b&gt; &amp;</dc:title>', attributes='xml:lang="de"')
    once = cleaned_xmp(text.encode())
    assert once is not None
    assert cleaned_xmp(once) == once
    root = parse_xml(enlarged_xmp(once))
    assert root is not None
    assert ENHANCED in root.to_xml()
    assert "&lt;b&gt; &amp;" in root.to_xml()
    sources = "<e:DigitalSourceType xmlns:e='http://iptc.org/std/Iptc4xmpExt/2008-02-29/'>x</e:DigitalSourceType>"
    marked = enlarged_xmp(cleaned_xmp(packet(sources * 500).encode()))
    assert marked.count(b":DigitalSourceType") == 2, "one element: begun and ended"


# -- AVIF: boxes and streams that contradict each other ----------------------------------------------------------


def test_a_file_of_headers_is_read() -> None:
    header = inspect(avif(picture(Av1(800, 600))), LIMITS)
    assert (header.width, header.height, header.has_alpha) == (800, 600, False)
    for reduced in (True, False):
        header = inspect(avif(picture(Av1(800, 600, reduced=reduced)), alpha_of(picture(Av1(800, 600)))), LIMITS)
        assert (header.width, header.height, header.has_alpha) == (800, 600, True)
    header = inspect(avif(grid(2, 3, (700, 350), 2), *[picture(Av1(256, 256))] * 6), LIMITS)
    assert (header.width, header.height) == (700, 350)


@pytest.mark.parametrize("call", [inspect, decode])
@pytest.mark.parametrize("name", TOO_LARGE)
def test_the_size_of_every_stream_of_an_avif_counts(name: str, call: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.core, "new", None)  # no pixels
    with little_memory(), pytest.raises(TooManyPixelsError):
        (inspect if call is inspect else decode)(TOO_LARGE[name], LIMITS)


@pytest.mark.parametrize("name", CONTRADICTORY)
def test_an_avif_that_contradicts_itself_is_corrupt(name: str) -> None:
    with pytest.raises(CorruptImageError):
        inspect(CONTRADICTORY[name], LIMITS)


DEEP, GRAIN, GRAY, NOTHING = (1, 1), (1, 1), (1, 1), (0, 1)
SAMPLES = [  # profile, colour, and the bytes of a pixel
    (0, (NOTHING, NOTHING, NOTHING, NOTHING, (0, 2), NOTHING, NOTHING), 1.5),
    (0, (DEEP, NOTHING, NOTHING, NOTHING, (0, 2), NOTHING, GRAIN), 6),
    (0, (DEEP, GRAY, NOTHING, NOTHING, GRAIN), 4),
    (1, (DEEP, NOTHING, NOTHING, NOTHING, NOTHING), 6),
    (1, (DEEP, NOTHING, NOTHING, NOTHING, GRAIN), 12),
    (1, (NOTHING, (1, 1), (1, 8), (13, 8), (0, 8), NOTHING, GRAIN), 6),  # sRGB's own matrix: no range is told
    (2, (NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING), 2),
    (2, (DEEP, (1, 1), NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, GRAIN), 12),
    (2, (DEEP, (1, 1), NOTHING, NOTHING, NOTHING, (1, 1), NOTHING, NOTHING, GRAIN), 8),
    (2, (DEEP, (1, 1), NOTHING, NOTHING, NOTHING, (1, 1), (1, 1), (0, 2), NOTHING, NOTHING), 3),
]


@pytest.mark.parametrize("reduced", [True, False])
@pytest.mark.parametrize(("profile", "colour", "pixel_bytes"), SAMPLES)
def test_bytes_of_a_decoded_pixel(
    profile: int, colour: tuple[tuple[int, int], ...], pixel_bytes: float, reduced: bool
) -> None:
    stream = Av1(64, 64, reduced=reduced, profile=profile, colour=colour).stream()
    assert read_av1(stream, lambda _: None).pixel_bytes == pixel_bytes


@pytest.mark.parametrize(("sample", "share"), [(0, 1), (3, 1), (4, 16 / 24)])
def test_deep_samples_with_alpha_and_grain_count_for_more(sample: int, share: float) -> None:
    """libavif's planes, with grain laid on a copy, and what is made of them: 24 bytes a pixel instead of 16."""
    profile, colour, _ = SAMPLES[sample]
    stream = Av1(64, 60, profile=profile, colour=colour)
    alpha = Av1(64, 60, colour=(DEEP, GRAY, NOTHING, NOTHING, GRAIN if share < 1 else NOTHING))
    data = avif(picture(stream), alpha_of(picture(alpha)))
    most = math.ceil(64 * 60 / share)
    assert inspect(data, DecodeLimits(max_pixels=most)).has_alpha
    with pytest.raises(TooManyPixelsError):
        inspect(data, DecodeLimits(max_pixels=most - 2))


def test_real_sequence_headers_are_read() -> None:
    """As libaom writes them, of stills and of animations; sides that need one bit more than others."""
    for size in ((1, 1), (2, 3), (255, 256), (257, 64), (1025, 17)):
        for frames in ([], [smooth(size)]):
            data = saved(smooth(size), "avif", save_all=bool(frames), append_images=frames, speed=10)
            at = data.index(b"\x0a", data.rindex(b"mdat"))
            sequence = read_sequence(data[at + 2 : at + 2 + data[at + 1]])
            assert (sequence.width, sequence.height, sequence.reduced) == (*size, not frames)


def test_what_pillow_is_given_of_an_avif_is_the_same_picture() -> None:
    """And nothing else: neither tracks nor metadata."""
    for mode in ("RGB", "RGBA", "L"):
        image = smooth((70, 50)).convert(mode)
        if mode == "RGBA":
            image.putalpha(smooth((70, 50)).getchannel(0))
        for options in ({}, {"save_all": True, "append_images": [image.rotate(180)]}, {"alpha_premultiplied": True}):
            data = saved(image, "avif", xmp=packet().encode(), exif=exif_block(1), **options)
            stream = b"".join(read_container(data, LIMITS).stream)
            with Image.open(io.BytesIO(data)) as whole, Image.open(io.BytesIO(stream)) as rebuilt:
                np.testing.assert_array_equal(np.asarray(rebuilt), np.asarray(whole))
                assert (rebuilt.mode, rebuilt.size, rebuilt.n_frames) == (whole.mode, whole.size, 1)
                assert "xmp" not in rebuilt.info
                assert "exif" not in rebuilt.info


def real_stream(image: Image.Image) -> bytes:
    """The AV1 stream of a picture without alpha, the last box of its AVIF."""
    data = saved(image, "avif", quality=90, subsampling="4:4:4")
    return data[data.rindex(b"mdat") + 4 :]


@pytest.mark.parametrize("alpha", ["none", "whole", "in tiles"])
def test_a_grid_of_tiles_is_put_together(alpha: str) -> None:
    """Also where tiles share their bytes, and where each tile has an alpha of its own."""
    shades = ((250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 10, 10))
    properties = (ispe(64, 64), AV1C.replace(b"\x81\0\x0c", b"\x81\x20\0"), box(b"pixi", FULL, b"\3\x08\x08\x08"))
    tiles = [Entry(b"av01", real_stream(Image.new("RGB", (64, 64), shade)), properties) for shade in shades]
    mask = Entry(b"av01", real_stream(Image.new("L", (64, 64), 99)), properties)
    entries = [grid(2, 2, (120, 100), 2), *tiles]
    if alpha == "whole":
        whole = alpha_of(grid(2, 2, (120, 100), 7))
        entries += [whole._replace(references=(*whole.references, (b"dimg", (7, 8, 9, 10)))), *[mask] * 4]
    if alpha == "in tiles":
        entries += [alpha_of(mask, number) for number in (2, 3, 4, 5)]
    source = decode(avif(*entries), LIMITS)
    assert (source.width, source.height, source.has_alpha) == (120, 100, alpha != "none")
    corners = [source.rows(y, y + 1)[0, x] for y in (5, 95) for x in (5, 115)]
    np.testing.assert_allclose(corners, shades, atol=12)
    if alpha != "none":
        assert abs(int(source.alpha_rows(50, 51)[0, 60, 0]) - 99) < 4


@pytest.mark.parametrize("name", MULTIPLIED)
def test_what_an_avif_counts_is_bounded_in_all(name: str) -> None:
    with little_memory(), pytest.raises(TooComplexError):
        inspect(MULTIPLIED[name], LIMITS)


def test_an_avif_at_its_bounds_is_read() -> None:
    few = box(b"free") * (MAX_PARTS - 60)
    assert inspect(avif(picture(SMALL), within=few), LIMITS).width == 8
    tiles = [picture(SMALL)] * 256
    alphas = [alpha_of(picture(SMALL), number) for number in range(2, 258)]
    assert inspect(avif(grid(16, 16, (128, 128), 2), *tiles, *alphas), LIMITS).has_alpha
    with pytest.raises(CorruptImageError):
        inspect(avif(grid(2, 129, (8 * 129, 16), 2), *tiles, *tiles[:2]), LIMITS)


def test_pieces_that_overlap_are_not_copied_again_and_again() -> None:
    body = Av1(8, 8).stream()
    places = struct.pack(">HHH", 1, 0, 2000) + struct.pack(">II", 0, 4_000_000) * 2000
    data = avif(picture(SMALL), replaced={b"iloc": box(b"iloc", FULL, b"\x44\0", struct.pack(">H", 1), places)}) + box(
        b"free", bytes(4_000_000), body
    )
    with little_memory(), pytest.raises(CorruptImageError):
        inspect(data, LIMITS)


# -- PNG text, which nobody reads --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        chunk(b"zTXt", b"comment\0\0" + DEFLATED),
        chunk(b"zTXt", b"comment\0\0" + DEFLATED[:-9] + b"damaged!!") * 200,
        chunk(b"iTXt", b"comment\0\1\0en\0key\0" + DEFLATED) * 50,
        chunk(b"iTXt", b"XML:com.adobe.xmp2\0\1\0\0\0" + DEFLATED),
        chunk(b"tEXt", b"plain\0" + bytes(100_000)) * 20,
    ],
    ids=["zTXt", "damaged zTXt", "iTXt", "nearly XMP", "tEXt"],
)
def test_text_is_not_inflated(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    data = png(ihdr(1, 1), bytes(4), content)
    with monkeypatch.context() as patch:
        patch.setattr(zlib, "decompressobj", None)
        with little_memory(200_000 + 2 * len(content)):
            assert inspect(data, LIMITS).width == 1
    assert decode(data, LIMITS).width == 1


@pytest.mark.parametrize(
    "content", [DEFLATED, DEFLATED[:-9] + b"damaged!!", zlib.compress(packet(" " * 200_000).encode())]
)
def test_a_packet_inflates_no_further_than_it_is_kept(content: bytes) -> None:
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + content)
    data = png(ihdr(1, 1), bytes(4), text * 100)
    with little_memory(1 << 20):
        assert read_container(data, LIMITS).xmp is None


@pytest.mark.parametrize("content", [b"", b"name", b"name\0", b"name\0\0", b"n" * 200 + b"\0\0" + DEFLATED])
def test_a_profile_that_is_none_is_dropped(content: bytes) -> None:
    assert read_container(png(ihdr(1, 1), bytes(4), chunk(b"iCCP", content)), LIMITS).icc_profile is None


@pytest.mark.parametrize("entries", [0, 257, 5_000_000])
def test_a_png_palette_has_256_colours_at_most(entries: int) -> None:
    data = png(ihdr(1, 1, 8, 3), bytes(2), chunk(b"PLTE", bytes(3 * entries)))
    with little_memory(), pytest.raises(CorruptImageError):
        inspect(data, LIMITS)
    assert inspect(png(ihdr(1, 1, 8, 3), bytes(2), chunk(b"PLTE", bytes(3 * 256))), LIMITS).gray


# -- TIFF and Exif: twelve bytes that point at millions ----------------------------------------------------------


@pytest.mark.parametrize("kind", [1, 3, 4])
def test_of_millions_of_values_one_is_read(kind: int) -> None:
    """All the tags of which one value counts, at once."""
    data = tiff_of_many(*POINTING, kind=kind)
    with little_memory():
        header = inspect(data, LIMITS)
    assert (header.width, header.height) == (1, 1)


@pytest.mark.parametrize("tag", [258, 320, 338, 339, 347, 529, 530, 532])
def test_a_list_of_millions_is_too_complex(tag: int) -> None:
    data = tiff_of_many(tag)
    with little_memory(), pytest.raises(TooComplexError):
        inspect(data, LIMITS)


@pytest.mark.parametrize("tags", [(273,), (273, 279), (322, 323, 324)])
def test_of_more_strips_or_tiles_than_the_picture_has_the_first_are_read(tags: tuple[int, ...]) -> None:
    """As libtiff does it."""
    data = tiff_of_many(*tags)
    with little_memory():
        assert inspect(data, LIMITS).width == 1


def test_byte_counts_in_millions_are_not_all_read() -> None:
    data = tiff_of_many(279)
    with little_memory(12 << 20):
        assert inspect(data, LIMITS).width == 1


@pytest.mark.parametrize("tag", [270, 305, 315, 33432, 33434, 34675, 700, 33723])
def test_metadata_in_millions_is_left_out(tag: int) -> None:
    data = tiff_of_many(tag, kind=1)
    with little_memory():
        if tag == 34675:
            with pytest.raises(TooComplexError):
                inspect(data, LIMITS)
        else:
            container = read_container(data, LIMITS)
            assert (container.exif, container.xmp) == (None, None)


@pytest.mark.parametrize("fields", [8, 9, 500, 1000])
def test_exif_is_bounded_in_all(fields: int) -> None:
    """Each field has 8,192 bytes, the most that is kept of one; all are the same bytes."""
    start = 10 + 12 * fields
    table = b"".join(struct.pack("<HHII", 40_000 + n, 1, 8192, start) for n in range(fields))
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", fields) + table + bytes(8192)
    with little_memory(1 << 20):
        kept = read_exif(block).block
    assert (kept is None) == (fields > 7)
    both = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 34665, 4, 1, 26, 0) + struct.pack("<H", fields) + table
    with little_memory(1 << 20):
        assert read_exif(both.ljust(start + 8300, b"\0")).block is None


# -- ICC: a chain of steps that stand at one place -----------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 100, 100_000])
def test_no_chain_of_a_profile_is_computed(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gives LittleCMS a profile takes the chains from it before; of the rest it makes what it can."""
    opened: list[bytes] = []
    real = ImageCms.ImageCmsProfile

    def watched(file: io.BytesIO) -> ImageCms.ImageCmsProfile:
        opened.append(file.getvalue())
        return real(file)

    monkeypatch.setattr(ImageCms, "ImageCmsProfile", watched)
    assert far_curve(chained_profile(steps)) is None
    image = saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "jpeg", icc_profile=chained_profile(steps, b"CMYK"))
    red, green, blue = decode(image, LIMITS).rows(0, 1)[0, 0].tolist()
    assert red < 10
    assert min(green, blue) > 245, "the plain formula"
    given = [data for data in opened if b"mpet" in data]
    assert len(given) == 2
    assert not [data for data in given if b"D2B" in data or b"B2D" in data]


def test_a_profile_of_too_many_tags_is_as_good_as_none() -> None:
    many = {f"t{number:03}": b"text\0\0\0\0" for number in range(98)}
    assert far_curve(chained_profile(1, b"RGB ", **many)) is None
    for damaged in (b"", bytes(130), chained_profile(1)[:150], b"\xff" * 400):
        with pytest.raises(OSError, match="profile"):
            open_profile(damaged)


# -- the same kinds in the other formats -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("between", "fits"), [(b"\xff" * (1 << 20), True), (b"\0" * (3 << 20), False), (b"\xff\0" * (2 << 20), False)]
)
def test_rubbish_between_jpeg_segments_is_bounded(between: bytes, fits: bool) -> None:
    data = jpeg_with(segment(0xEC, b""), between)
    if fits:
        assert inspect(data, LIMITS).width == 16
    else:
        with pytest.raises(TooComplexError):
            inspect(data, LIMITS)


def test_jpeg_metadata_in_many_parts_is_not_put_together() -> None:
    part = bytes(65_000)
    many = jpeg_with(*[segment(0xE1, b"Exif\0\0" + part)] * 400)
    with little_memory():
        assert read_container(many, LIMITS).exif is None
    parts = [segment(0xE2, b"ICC_PROFILE\0" + bytes((n, 255)) + part) for n in range(1, 256)]
    data = jpeg_with(*parts)
    with little_memory(), pytest.raises(TooComplexError):
        inspect(data, LIMITS)


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"VP8X", vp8x(8, 8)), (b"VP8L", vp8l(16_000, 16_000))],
        [(b"VP8X", vp8x(8, 8)), (b"VP8 ", vp8(16_000, 16_000))],
        [(b"VP8X", vp8x(8, 8)), (b"VP8 ", vp8(7, 8))],
        [(b"VP8X", vp8x(8, 8, 2)), (b"ANMF", anmf(0, 0, 9000, 9000, (b"VP8L", vp8l(9000, 9000))))],
        [(b"VP8X", vp8x(8, 8, 2)), (b"ANMF", anmf(0, 0, 8, 8, (b"VP8 ", vp8(9000, 9000))))],
        [(b"VP8X", vp8x(8, 8, 2)), (b"ANMF", anmf(4, 0, 8, 8, (b"VP8L", vp8l(8, 8))))],
        [(b"VP8X", vp8x(8, 8))],
        [(b"VP8X", vp8x(8, 8, 2)), (b"ANMF", anmf(0, 0, 8, 8))],
    ],
    ids=["VP8L", "VP8", "narrower", "frame", "in a frame", "beside", "none", "none in a frame"],
)
def test_a_webp_whose_picture_has_another_size(chunks: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(CorruptImageError):
        inspect(riff(*chunks), LIMITS)
    agreeing = riff((b"VP8X", vp8x(8, 8, 2)), (b"ANMF", anmf(2, 4, 6, 4, (b"VP8L", vp8l(6, 4)))))
    assert inspect(agreeing, LIMITS).width == 8


@pytest.mark.parametrize("colours", [257, 65_536, 0xFFFF_FFFF])
def test_a_bmp_palette_is_read_as_far_as_an_index_reaches(colours: int) -> None:
    header = struct.pack("<IiiHHIIiiII", 40, 1, 1, 1, 8, 0, 4, 0, 0, colours, 0)
    data = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 1024) + header + bytes(16_000_000)
    with little_memory(100_000):
        assert inspect(data, LIMITS).gray


def test_of_a_gif_nothing_is_copied() -> None:
    data = gif(1, 1, gif_frame(), before=b"!\xfe" + (b"\xff" + bytes(255)) * 1000 + b"\0") + bytes(8_000_000)
    with little_memory(100_000):
        assert inspect(data, LIMITS).width == 1

"""Bytes to an image in memory: upright, 8 or 16 bits, gray or RGB, alpha and metadata separate.

    bytes ─ formats (header, limits) ─▶ container ─ Pillow ─▶ pixels ─ colour ─▶ SourceImage

The format is detected from the content; names and declared types are ignored. Accepted are PNG, JPEG, WebP, AVIF, BMP,
TIFF and GIF, and HEIC if the extra ``heif`` is installed.

==============================================  ======================================================================
input                                           result
==============================================  ======================================================================
anything else (SVG, PDF, EPS, PSD, …), HDR (PQ, ``UnsupportedFormatError``, which names it
HLG), JPEG of 12 bits, camera raw, rare TIFF
codecs and kinds of samples
no bytes                                        ``EmptyImageError``
truncated, damaged, contradictory               ``CorruptImageError``; bytes missing after the last pixel are tolerated,
                                                and so is a JPEG's missing end: see ``formats/jpeg_end.py``
damaged metadata; PNG chunks other than pixels  ignored
and palette with a wrong checksum, size, place
more than ``max_pixels`` or ``max_side``        ``TooManyPixelsError``, from the header; TIFF tiles and a GIF frame that
                                                enlarges its canvas count in full, deep AVIF and HEIC for more
JPEG of over 100 scans (over 10 Mpx fewer, down  ``TooComplexError``
to 20), profiles over 4 MiB, also inflated, endless directories, chunks or
boxes, large run-length BMP
APNG, animated GIF and WebP, TIFF pages, MPO    the first image (the default image of an APNG); the rest is not read
orientation in Exif or TIFF                     applied; ignored in XMP and PNG text, as in browsers
1, 2, 4, 8 bits gray; gray palettes             gray
16 bits gray, RGB, with or without alpha        16 bits (a TIFF in separate planes or of 16-bit ink: the upper 8)
gray TIFF of 12 or 32 bits or float             16 bits: 0 … the type's highest value, floats 0 … 1; clipped outside,
                                                NaN black
TIFF of 32 bits and float, RGB, with alpha      the same
TIFF of WebP images                             each WebP as if it were the only one
AVIF and HEIC of 10 or 12 bits                  8 bits, as Pillow and libheif give them (16 of gray HEIC)
1-bit, palette, RGB555, YCbCr                   8 bits, exactly as Pillow expands them
CMYK, YCCK (Adobe's inverted), LAB              sRGB: by the embedded profile if it applies, relative colorimetric with
                                                black point compensation, else by formula; the profile is dropped
profile of gray and RGB                         kept if it is valid and made for such pixels, else dropped; over gray
                                                an RGB profile becomes a gray one, or the image becomes RGB
cICP, gAMA, cHRM (PNG), nclx (AVIF, HEIC), AV1  the equivalent profile, by browsers' rules
sequence header, HEVC parameter set
IPTC-IIM (JPEG, TIFF)                           XMP, without the location
XMP                                             kept as far as ``formats/xmp.py`` knows it to be harmless and still true
text; gain maps (HDR)                           dropped without being read
alpha, tRNS, a transparent palette entry        a separate alpha; holes are filled with their visible neighbours' colour
premultiplied alpha (TIFF)                      divided out
Exif                                            kept without position, maker notes, thumbnail and orientation
resolution                                      kept as dots per inch
==============================================  ======================================================================
"""

import zlib
from dataclasses import replace
from functools import partial, reduce

from PIL import Image

from app.errors import CorruptImageError, EnlargerError, TooComplexError, UnsupportedFormatError
from app.images.colour import INKS, bands, bleed, fitting_profile, separate, turn_upright
from app.images.depth import DEEP, Planes, bleed_planes, bytewise_planes, gray_plane, is_deep, png_planes
from app.images.formats import INPUTS, Container, DecodeLimits, ImageHeader, read_container, sniff
from app.images.formats.base import joined
from app.images.formats.jpeg import segments_of
from app.images.formats.jpeg_end import ended_both_ways, is_ended, lacks_scans
from app.images.raster import Raster
from app.images.source import SourceImage

__all__ = ["DecodeLimits", "ImageHeader", "SourceImage", "decode", "inspect"]


def inspect(data: bytes, limits: DecodeLimits) -> ImageHeader:
    """The header, with every limit checked and no pixel decoded."""
    return read_container(data, limits).header


def decode(data: bytes, limits: DecodeLimits) -> SourceImage:
    """Decodes the (first) image of a file. Raises only the errors of the table above."""
    return decode_container(read_container(data, limits))


def decode_container(container: Container) -> SourceImage:
    """The pixels of a file whose header has been read. Keeps no reference to the file."""
    header = container.header
    INPUTS[header.format].check(container)
    colour, alpha, ink = _separated(container)
    colour = tuple(turn_upright(plane, header.orientation) for plane in colour)
    if alpha is not None:
        alpha = turn_upright(alpha, header.orientation)
        if colour[0].mode == DEEP:
            bleed_planes(colour, alpha)
        else:
            bleed(colour[0], alpha)
    source = SourceImage(
        width=colour[0].width,
        height=colour[0].height,
        gray=header.gray,
        format=header.format,
        icc_profile=None if ink else fitting_profile(container.icc_profile, "L" if header.gray else "RGB"),
        exif=container.exif,
        dpi=container.dpi,
        xmp=container.xmp,
        alpha=None if alpha is None else Raster((alpha,)),
        _colour=Raster(colour),
    )
    planes = colour if alpha is None else (*colour, alpha)
    sizes = {(plane.height, plane.width) for plane in planes}
    if sizes != {(header.height, header.width)}:
        raise CorruptImageError("The image has a different size than its header says")
    if (source.depth, source.has_alpha, ink) != (header.depth, header.has_alpha, container.ink):
        raise CorruptImageError("The image's samples are of a different kind than its header says")
    return source


def _separated(container: Container) -> tuple[Planes, Image.Image | None, bool]:
    """Colour and alpha as stored, not yet upright, and whether ink was converted to light."""
    header = container.header
    one_channel = container.gray_samples and (container.transparent is not None or not header.has_alpha)
    if header.format == "png" and header.bits == 16 and not one_channel:
        return *png_planes(partial(_load, container), container), False
    image = _load_by_kind(container)
    if container.bytewise:
        return *bytewise_planes(image, container), False
    if is_deep(image):
        return *gray_plane(image, container), False
    ink = image.mode in INKS
    colour, alpha = separate(image, container)
    return (colour,), alpha, ink


def _load_by_kind(container: Container) -> Image.Image:
    if container.blocks:
        return _load_blocks(container)
    if container.header.format == "jpeg" and not is_ended(container.stream[-1]):
        return _load_unended(container)
    return _load(container)


def _load_blocks(container: Container) -> Image.Image:
    """An image made of WebP tiles, each checked like a WebP file."""
    image = Image.new("RGBA" if container.header.has_alpha else "RGB", container.stored_size)
    for block in container.blocks:
        data, width, height = bytes(block.data), block.width, block.height
        if sniff(data).name != "webp":
            raise CorruptImageError("A strip or tile of the TIFF is not the WebP that its header says")
        piece = _load(read_container(data, DecodeLimits(width * height, max(width, height))))
        if piece.size != (width, height):
            raise CorruptImageError("A strip or tile of the TIFF has a different size than its header says")
        image.paste(piece.convert(image.mode), (block.left, block.top))
    return image


def _load_unended(container: Container) -> Image.Image:
    """A JPEG that lacks only its end marker; ``CorruptImageError`` for one that lacks pixels: see ``jpeg_end``."""
    images = (_load(replace(container, stream=stream)) for stream in ended_both_ways(container.stream))
    if lacks_scans(segments_of(container)) or checksum(next(images)) != checksum(image := next(images)):
        raise CorruptImageError("The JPEG ends before its last pixel")
    return image


def checksum(image: Image.Image) -> int:
    """The checksum of its pixels, computed band by band."""
    return reduce(lambda crc, box: zlib.crc32(image.crop(box).tobytes(), crc), bands(image.size), 0)


def _load(container: Container, raw_mode: str | None = None) -> Image.Image:
    """Lets Pillow decode the pixels. Closing the stream frees the compressed bytes, to which some plugins cling.

    ``raw_mode``: how to unpack the samples, for as many bytes per pixel as there are (Pillow, "Raw modes").
    """
    kind, (width, height) = INPUTS[container.header.format], container.stored_size
    if container.bytewise:
        width = container.bytewise.row_bytes
    try:
        with joined(container.stream) as stream:
            image = kind.plugin(stream)
            if image.size != (width, height):
                raise CorruptImageError("The image has a different size than its header says")
            if raw_mode:
                image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
            image.load()
            return image.copy() if kind.copied else image
    except EnlargerError:
        raise
    except MemoryError as error:  # the size is within limits, so the file has misled the codec
        raise TooComplexError("Decoding the image needs more memory than there is") from error
    except SyntaxError as error:  # a TIFF written by ``formats``: Pillow has no mode for its samples
        if container.variety:
            raise UnsupportedFormatError(f"A TIFF with {container.variety} is not supported") from error
        raise CorruptImageError("The image is damaged, or of a variety that is not supported") from error
    except Exception as error:
        # The only broad except on this path. Hostile files make codecs raise nearly anything (OSError, SyntaxError,
        # ValueError, struct.error, EOFError, IndexError, KeyError, OverflowError, zlib.error), and each means this.
        raise CorruptImageError("The image is damaged, or of a variety that is not supported") from error

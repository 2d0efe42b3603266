"""From the 8-bit pixels of a codec to the input of a network: gray or RGB, alpha separate, holes filled with colour."""

from collections.abc import Iterator
from functools import reduce

from PIL import Image, ImageChops, ImageCms

from app.images.formats import Container
from app.images.icc import open_profile, plausible_profile, space_of

BAND_PIXELS = 1 << 20
"""Conversions that Pillow cannot do itself are done band by band, so temporaries take a few MB whatever the image."""

_SPACES = {"L": b"GRAY", "RGB": b"RGB ", "CMYK": b"CMYK", "LAB": b"Lab "}
"""Pillow's mode -> the "data colour space" of an ICC profile for it (ICC.1 7.2.6)."""

INKS = ("CMYK", "LAB")
"""Modes that are converted to sRGB, so that their profile no longer applies."""

# Weights for averaging colour: alpha, but at least 64: below that Pillow's 8-bit premultiplied colour is coarse.
_WEIGHT = [0, *(max(alpha, 64) for alpha in range(1, 256))]
_VISIBLE = [0] + [255] * 255
_HOLE = [255] + [0] * 255

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Exif orientation -> the transposition that makes the image upright (Exif 3.0, 4.6.4). Pillow rotates
counter-clockwise."""


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def separate(image: Image.Image, container: Container) -> tuple[Image.Image, Image.Image | None]:
    """Colour, of mode L, RGB or RGBA (whose A is to be ignored: kept to save a copy), and alpha, of mode L, or None."""
    image.info.pop("transparency", None)  # Pillow's reading of it; the container's is authoritative
    mode, wanted = image.mode, "L" if container.gray_samples else "RGB"
    if mode in INKS:
        return _to_srgb(image, container.icc_profile), None
    if mode == "RGBA" and wanted == "RGB":
        return image, image.getchannel("A")
    if mode == "La":  # premultiplied
        image = image.convert("LA")
    if image.mode in ("LA", "RGBA"):  # RGBA: Pillow's only mode for a gray AVIF or WebP with alpha
        return image.getchannel(0), image.getchannel("A")
    if mode == "PA":
        return image.convert("RGB").convert(wanted), image.getchannel("A")
    colour = image if mode == wanted else image.convert(wanted)
    if container.palette_alpha is not None:
        return colour, _palette_alpha(image, container.palette_alpha)
    if container.transparent is not None:
        return colour, _keyed_alpha(colour, container)
    return colour, None


def fitting_profile(profile: bytes | None, mode: str) -> bytes | None:
    """``profile`` if it is valid and made for pixels of ``mode``, else None."""
    profile = plausible_profile(profile)
    return profile if profile is not None and space_of(profile) == _SPACES.get(mode) else None


def bleed(colour: Image.Image, alpha: Image.Image) -> None:
    """Gives the pixels of alpha 0 the colour of their visible neighbours, in place.

    Under a hole a file may hold any colour, often black. Networks and resampling look into holes and would bleed that
    colour into the edge as a fringe. The fill comes from a pyramid of averages, each half the size ("pull-push",
    Gortler et al., The Lumigraph, 1996, 3.4), which costs one more third of the image.
    """
    lowest, highest = alpha.getextrema()
    if lowest != 0 or highest == 0:
        return
    mode = "L" if colour.mode == "L" else "RGB"
    half = ((colour.width + 1) // 2, (colour.height + 1) // 2)
    small, small_alpha = Image.new(mode, half), Image.new("L", half)
    for box in bands(colour.size):
        piece = colour.crop(box).convert(mode)
        piece.putalpha(alpha.crop(box).point(_WEIGHT))
        piece = piece.reduce(2)  # averages premultiplied colour, so invisible pixels do not count
        small.paste(piece.convert(mode), (0, box[1] // 2))
        small_alpha.paste(piece.getchannel("A").point(_VISIBLE), (0, box[1] // 2))
    bleed(small, small_alpha)
    for left, top, right, bottom in bands(colour.size):
        fill = small.crop((0, top // 2, half[0], (bottom + 1) // 2))
        fill = fill.resize((fill.width * 2, fill.height * 2), Image.Resampling.NEAREST)
        fill = fill.crop((0, 0, right, bottom - top))
        colour.paste(fill, (left, top), alpha.crop((left, top, right, bottom)).point(_HOLE))


def bands(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Boxes from top to bottom; all but the last have an even height."""
    width, height = size
    rows = max(BAND_PIXELS // width & ~1, 2)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def _palette_alpha(indices: Image.Image, alpha: bytes) -> Image.Image:
    return indices.point([*alpha[:256], *[255] * (256 - len(alpha))], "L")


def _keyed_alpha(colour: Image.Image, container: Container) -> Image.Image:
    """0 where every channel equals the colour key, else 255."""
    bits = container.header.bits
    masks = []
    for channel, sample in zip(colour.split(), container.transparent or (), strict=True):
        level = sample * 255 // (2**bits - 1)  # exact: 255 divides by 1, 3 and 15
        masks.append(channel.point([0 if value == level else 255 for value in range(256)]))
    return reduce(ImageChops.lighter, masks)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """CMYK or LAB as RGB: by the file's own profile, else by Pillow's formula."""
    fitting = fitting_profile(profile, image.mode)
    if fitting is not None:
        try:
            converted = ImageCms.profileToProfile(
                image,
                open_profile(fitting),
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        except (ImageCms.PyCMSError, OSError):  # OSError: the profile cannot be opened
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")

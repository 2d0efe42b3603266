"""QR codes as training pairs: codes drawn at known pixels per module, turned, lit, blurred, noised, compressed.

A code of the pool has a number; its contents, version and mask follow from that number alone, and every third number is
kept for validation. All else of a pair follows from the seed and the step. A mirrored code is no QR code, so pairs are
never flipped unless a recipe asks for it.
"""

import io
import math
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import segno
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Rng = np.random.Generator

CODES = "codes"  # the degradation of networks that are trained on them
LEVELS = "lmqh"
QUIET_ZONE = 4  # modules of it that ISO/IEC 18004 asks for; drawn codes have 1 to 5
SUPERSAMPLING = 2  # HR is drawn so much larger and then averaged, so that edges are as a camera sees them
VALIDATION = 3  # every third code


@dataclass(frozen=True)
class CodeRecipe:
    """``[data.codes]``: how pairs are drawn. Blur is the deviation or half the length in LR pixels, noise a deviation
    in levels of 255, angles are degrees; each is drawn evenly from 0 (or from -most) to the value.

    ``pixels_per_module`` are LR pixels. ``small_share``: codes of version 1 to 4. ``upright``: the share that is not
    turned. ``jpeg``: the least quality; ``jpeg_share``, ``logo_share``, ``colour_share``: how many pairs have it.
    """

    codes: int = 10_000
    versions: int = 10
    small_share: float = 0.75
    pixels_per_module: tuple[float, float] = (1.0, 4.0)
    rotation: float = 40.0
    upright: float = 0.3
    shear: float = 0.2
    blur: float = 1.3
    noise: float = 10.0
    light: float = 0.4
    jpeg: int = 40
    jpeg_share: float = 0.3
    logo_share: float = 0.1
    colour_share: float = 0.3
    flip: bool = False

    def __post_init__(self) -> None:
        low, high = self.pixels_per_module
        if not 0 < low <= high:
            raise ValueError(f"[data.codes] pixels_per_module = {self.pixels_per_module} is no range")
        if not 1 <= self.versions <= 40:
            raise ValueError(f"[data.codes] versions = {self.versions}; QR codes have versions 1 to 40")
        if self.codes < VALIDATION:
            raise ValueError(f"[data.codes] codes = {self.codes}: too few to keep every third for validation")
        if not 1 <= self.jpeg <= 95:
            raise ValueError(f"[data.codes] jpeg = {self.jpeg} is not a quality from 1 to 95")


@dataclass(frozen=True)
class Code:
    """A QR code: what it says and its modules, uint8 ``[side, side]``, 1 is dark, without a quiet zone."""

    content: str
    version: int
    modules: Pixels


@dataclass(frozen=True)
class View:
    """How a code is seen. ``pixels_per_module``, ``blur`` and ``centre`` are in LR pixels, ``angle`` in degrees.

    ``blur_kind``: "gauss", "defocus" (a disc) or "motion". ``dark`` and ``paper`` are RGB in 0 to 255. ``centre`` is
    where the code's middle lies. ``light``: the slope (down, across) of the illumination over the picture.
    """

    pixels_per_module: float
    centre: tuple[float, float]
    angle: float = 0.0
    shear: float = 0.0
    blur_kind: str = "gauss"
    blur: float = 0.0
    blur_angle: float = 0.0
    noise: float = 0.0
    jpeg: int | None = None
    dark: tuple[float, float, float] = (0.0, 0.0, 0.0)
    paper: tuple[float, float, float] = (255.0, 255.0, 255.0)
    surround: tuple[float, float, float] = (255.0, 255.0, 255.0)
    light: tuple[float, float] = (0.0, 0.0)
    quiet: int = QUIET_ZONE
    logo: float = 0.0
    flip: bool = False


# -- codes -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=20_000)
def pool_code(number: int, versions: int, small_share: float) -> Code:
    """The code of that number: any content, version up to ``versions``, every error level and mask."""
    rng = np.random.default_rng((0x9C0DE, number))
    small = rng.random() < small_share or versions <= 4
    version = int(rng.integers(1, min(4, versions) + 1) if small else rng.integers(5, versions + 1))
    return make_code(rng, version, LEVELS[int(rng.integers(4))])


def make_code(rng: Rng, version: int, level: str) -> Code:
    """A code of that version and level ("l", "m", "q", "h") with random contents that fill 30 to 100 % of it."""
    alphabet = CONTENTS[int(rng.integers(len(CONTENTS)))]
    length = round(capacity(version, level, alphabet) * rng.uniform(0.3, 1.0))
    prefix = "https://" if alphabet is URL and length > 16 else ""
    content = prefix + "".join(rng.choice(list(alphabet), max(1, length - len(prefix))))
    code = segno.make(content, version=version, error=level, mask=int(rng.integers(8)), micro=False, boost_error=False)
    return Code(content, version, np.array([list(row) for row in code.matrix], np.uint8))


URL = string.ascii_lowercase + string.digits + "-./?=_"
CONTENTS = (string.digits, string.digits + string.ascii_uppercase + " $%*+-./:", URL)  # numeric, alphanumeric, bytes


@lru_cache(maxsize=256)
def capacity(version: int, level: str, alphabet: str) -> int:
    """The longest text of that alphabet for which segno makes such a code."""
    sample = {CONTENTS[0]: "7", CONTENTS[1]: "Q", URL: "q"}[alphabet]
    low, high = 1, 7_089  # characters; the most of any version
    while low < high:
        middle = (low + high + 1) // 2
        try:
            segno.make(sample * middle, version=version, error=level, mask=0, micro=False, boost_error=False)
        except segno.DataOverflowError:
            high = middle - 1
        else:
            low = middle
    return low


# -- pairs -------------------------------------------------------------------------------------------------------


def render_pair(code: Code, view: View, lr_size: tuple[int, int], scale: int, rng: Rng) -> tuple[Pixels, Pixels]:
    """LR uint8 ``[h, w, 3]`` and HR uint8 ``[h * scale, w * scale, 3]`` of a code. ``rng`` is for the noise alone."""
    height, width = (side * scale for side in lr_size)
    cover = cover_of(code, view, (height, width), scale)  # [H, W, 2]: how much is dark; how much is the code's paper
    dark, paper, surround = (np.array(c, np.float32) for c in (view.dark, view.paper, view.surround))
    hr = surround + (paper - surround) * cover[..., 1:] + (dark - paper) * cover[..., :1]
    hr *= illumination(view, height, width)[..., None]
    lr = reduce_area(blur(hr, view, scale), scale)
    if view.noise:
        lr = lr + rng.standard_normal(lr.shape, np.float32) * view.noise
    lr_pixels = compress(to_bytes(lr), view.jpeg) if view.jpeg else to_bytes(lr)
    return lr_pixels, to_bytes(hr)


def cover_of(code: Code, view: View, size: tuple[int, int], scale: int) -> Floats:
    """float32 ``[H, W, 2]`` in [0, 1]: the share of each HR pixel that is dark, and that is code or quiet zone."""
    side, quiet = len(code.modules), view.quiet
    sheet = np.zeros((side + 2 * quiet, side + 2 * quiet, 2), np.float32)
    sheet[..., 1] = 1
    sheet[quiet : quiet + side, quiet : quiet + side, 0] = code.modules
    if view.logo:
        half = side * view.logo / 2
        inner = slice(round(quiet + side / 2 - half), round(quiet + side / 2 + half))
        sheet[inner, inner, 0] = 0.6
    if view.flip:
        sheet = sheet[:, ::-1]
    factor = scale * SUPERSAMPLING
    matrix = module_to_pixel(view, len(sheet), factor)
    height, width = (length * SUPERSAMPLING for length in size)
    drawn = cv2.warpAffine(np.ascontiguousarray(sheet), matrix, (width, height), flags=cv2.INTER_NEAREST)
    return reduce_area(drawn, SUPERSAMPLING)


def module_to_pixel(view: View, sheet_side: int, factor: int) -> NDArray[np.float64]:
    """The affine map ``[2, 3]`` from module centres (x, y) of the sheet to pixel centres ``factor`` times LR."""
    turn, size = math.radians(view.angle), view.pixels_per_module * factor
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    linear = size * rotation @ np.array([[1.0, view.shear], [0.0, 1.0]])
    middle = (sheet_side - 1) / 2
    target = np.array([view.centre[1], view.centre[0]]) * factor - 0.5
    return np.column_stack([linear, target - linear @ [middle, middle]])


def illumination(view: View, height: int, width: int) -> Floats:
    """float32 ``[H, W]`` about 1: a slope from edge to edge, never over 1.3."""
    down, across = view.light
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * np.float32(down)
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None] * np.float32(across)
    return np.clip(1 + y + x, 0.2, 1.3)


def blur(hr: Floats, view: View, scale: int) -> Floats:
    """HR as a camera out of focus or in motion sees it; ``view.blur`` is in LR pixels."""
    if view.blur * scale < 0.3:
        return hr
    return BLURS[view.blur_kind](hr, view.blur * scale, view.blur_angle)


def gauss(hr: Floats, deviation: float, angle: float) -> Floats:
    return cv2.GaussianBlur(hr, (0, 0), deviation, borderType=cv2.BORDER_REPLICATE)


def defocus(hr: Floats, deviation: float, angle: float) -> Floats:
    """A disc with the Gaussian's deviation: its radius is twice that."""
    radius = 2 * deviation
    reach = math.ceil(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(y, x), 0, 1).astype(np.float32)
    return cv2.filter2D(hr, -1, disc / disc.sum(), borderType=cv2.BORDER_REPLICATE)


def motion(hr: Floats, deviation: float, angle: float) -> Floats:
    """A line with that deviation along it: ``sqrt(12)`` times as long."""
    length = math.sqrt(12) * deviation
    reach = math.ceil(length / 2)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    line = np.clip(length / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    return cv2.filter2D(hr, -1, line / line.sum(), borderType=cv2.BORDER_REPLICATE)


BLURS: dict[str, Callable[[Floats, float, float], Floats]] = {"gauss": gauss, "defocus": defocus, "motion": motion}


def reduce_area(image: Floats, factor: int) -> Floats:
    """The mean of each ``factor`` x ``factor`` square, which is what a sensor's pixel sees."""
    size = image.shape[1] // factor, image.shape[0] // factor
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def to_bytes(image: Floats) -> Pixels:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def compress(image: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def draw_view(rng: Rng, recipe: CodeRecipe, code: Code, crop: int) -> View:
    """A random view for a training patch of ``crop`` LR pixels, somewhere on the code."""
    low, high = recipe.pixels_per_module
    size = low * (high / low) ** (rng.random() ** 1.5)  # small modules are the hard ones, so there are more of them
    half = max(0.0, (len(code.modules) / 2 + 1) * size - crop / 2)  # so far may the middle lie from the patch's own
    dark, paper, surround = draw_colours(rng, recipe)
    upright = rng.random() < recipe.upright
    quarter = 90.0 * int(rng.integers(4))
    return View(
        pixels_per_module=float(size),
        centre=(crop / 2 + float(rng.uniform(-half, half)) + rng.random(), crop / 2 + float(rng.uniform(-half, half))),
        angle=quarter + (0.0 if upright else float(rng.uniform(-recipe.rotation, recipe.rotation))),
        shear=0.0 if upright else float(rng.uniform(-recipe.shear, recipe.shear)),
        blur_kind=tuple(BLURS)[int(rng.choice(3, p=(0.5, 0.3, 0.2)))],
        blur=float(rng.uniform(0, recipe.blur) * min(1.0, size / 2)),  # finer modules bear less of it
        blur_angle=float(rng.uniform(0, math.pi)),
        noise=float(recipe.noise * rng.random() ** 2),
        jpeg=int(rng.integers(recipe.jpeg, 96)) if rng.random() < recipe.jpeg_share else None,
        dark=dark,
        paper=paper,
        surround=surround,
        light=(float(rng.uniform(-recipe.light, recipe.light)), float(rng.uniform(-recipe.light, recipe.light))),
        quiet=int(rng.integers(1, QUIET_ZONE + 2)),
        logo=float(rng.uniform(0.1, 0.3)) if rng.random() < recipe.logo_share else 0.0,
        flip=recipe.flip and bool(rng.integers(2)),
    )


Colour = tuple[float, float, float]


def draw_colours(rng: Rng, recipe: CodeRecipe) -> tuple[Colour, Colour, Colour]:
    """Of the dark modules, of the paper, of what lies around the code; inks are much darker than the paper."""
    gray_dark, gray_paper = rng.uniform(0, 70), rng.uniform(150, 255)
    tint = 60.0 if rng.random() < recipe.colour_share else 0.0
    dark, paper = (gray + rng.uniform(-tint, tint, 3) for gray in (gray_dark, gray_paper))
    surround = paper if rng.random() < 0.6 else rng.uniform(0, 255, 3)
    low, middle, high = (tuple(float(v) for v in np.clip(colour, 0, 255)) for colour in (dark, paper, surround))
    return low, middle, high  # type: ignore[return-value]


def is_validation(number: int) -> bool:
    return number % VALIDATION == VALIDATION - 1


def code_batches(
    recipe: CodeRecipe, scale: int, crop: int, batch: int, seed: int, first_step: int, last_step: int
) -> Iterator[tuple[Pixels, Pixels]]:
    """One batch a step: LR uint8 ``[N, crop, crop, 3]`` and HR ``[N, crop * scale, crop * scale, 3]``."""
    numbers = [number for number in range(recipe.codes) if not is_validation(number)]
    for step in range(first_step, last_step):
        rng = np.random.default_rng((seed, step))
        pairs = [random_pair(recipe, numbers[int(rng.integers(len(numbers)))], scale, crop, rng) for _ in range(batch)]
        yield np.stack([lr for lr, _ in pairs]), np.stack([hr for _, hr in pairs])


def random_pair(recipe: CodeRecipe, number: int, scale: int, crop: int, rng: Rng) -> tuple[Pixels, Pixels]:
    code = pool_code(number, recipe.versions, recipe.small_share)
    return render_pair(code, draw_view(rng, recipe, code, crop), (crop, crop), scale, rng)


class CodePairs:
    """Pairs of the codes that training never sees; the same ones every time. It stands where ``PairSet`` does."""

    def __init__(self, recipe: CodeRecipe, scale: int, crop: int) -> None:
        self.recipe, self.scale, self.crop = recipe, scale, crop
        self.numbers = [number for number in range(recipe.codes) if is_validation(number)]

    def __len__(self) -> int:
        return len(self.numbers)

    def pair(self, index: int) -> tuple[Pixels, Pixels]:
        rng = np.random.default_rng((0x7E57, index))
        return random_pair(self.recipe, self.numbers[index], self.scale, self.crop, rng)


# -- whole codes, for the measure --------------------------------------------------------------------------------


def whole_view(rng: Rng, code: Code, pixels_per_module: float, blur: float, noise: float, **more: object) -> View:
    """A code seen whole on white, turned by up to 10 degrees, at any sub-pixel position."""
    height, width = whole_size(code, pixels_per_module)
    centre = height / 2 + rng.uniform(-0.5, 0.5), width / 2 + rng.uniform(-0.5, 0.5)
    angle = float(rng.uniform(-10, 10))
    gray = {"dark": (20.0,) * 3, "paper": (235.0,) * 3, "surround": (235.0,) * 3}
    return View(pixels_per_module, centre, angle, blur=blur, noise=noise, **{**gray, **more})  # type: ignore[arg-type]


def whole_size(code: Code, pixels_per_module: float) -> tuple[int, int]:
    """LR pixels that hold the code and its quiet zone when turned by 10 degrees."""
    side = math.ceil((len(code.modules) * 1.16 + 2 * QUIET_ZONE) * pixels_per_module)
    return side, side

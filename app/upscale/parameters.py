"""What can be asked for when an image is enlarged: validated, whoever asks; and the size of the result."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from app.errors import EnlargerError, InvalidParameterError, OutputFormatError
from app.images.encoders import FORMATS, Options, Subsampling

Size = tuple[int, int]  # height, width

DEFAULTS = Options()
DEFAULT_SCALE = 4.0
MAX_SCALE = 8
ALIASES = {"jpg": "jpeg", "tif": "tiff"}

DEPTHS: dict[str, Literal[8, 16]] = {"8": 8, "16": 16}

FormatName = Annotated[
    Literal["png", "jpeg", "webp", "avif", "tiff"],
    BeforeValidator(lambda name: ALIASES.get(name.lower(), name.lower()) if isinstance(name, str) else name),
]


@dataclass(frozen=True)
class Output:
    """How the result is to be written. ``background`` (RGB) fills what JPEG cannot leave transparent; ``depth``: bits
    per sample, or None for the source's."""

    format: str = "png"
    options: Options = DEFAULTS
    background: tuple[int, int, int] = (255, 255, 255)
    metadata: bool = True
    depth: Literal[8, 16] | None = None


class UpscaleParameters(BaseModel):
    """What is asked for, with the names of ``POST /upscale``; an unknown name is an error, so no typo is ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, description="A name from `GET /models`; the default if left out.")
    scale: float | None = Field(None, ge=1, le=MAX_SCALE, description="How many times larger; 4 if left out.")
    width: int | None = Field(None, ge=1, description="In place of `scale`: the most pixels across.")
    height: int | None = Field(None, ge=1, description="In place of `scale`: the most pixels down.")
    format: FormatName | None = Field(
        None, description="Default: what `Accept` asks for, else the input's own, else PNG."
    )
    quality: int | None = Field(None, ge=1, le=100, description="For JPEG, WebP and AVIF; 90 if left out.")
    subsampling: Subsampling = Field("4:2:0", description="Colour of JPEG and AVIF at half or at full resolution.")
    lossless: bool = Field(False, description="For WebP; PNG and TIFF always are, JPEG and AVIF never.")
    depth: Literal["8", "16"] | None = Field(None, description="Bits a sample; the input's own if left out.")
    background: str = Field("ffffff", pattern="^#?[0-9a-fA-F]{6}$", description="Behind transparency, for JPEG.")
    metadata: Literal["keep", "strip"] = Field(
        "keep", description="EXIF, XMP, resolution; GPS always goes, the profile stays."
    )

    decode: bool = Field(False, description="Tell in headers which QR and bar codes are read before and after.")

    @model_validator(mode="before")
    @classmethod
    def blanks_are_absent(cls, values: Any) -> Any:
        return given(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def scale_or_size(self) -> Self:
        if self.scale is not None and (self.width or self.height):
            raise ValueError("give either scale, or width and height, not both")
        return self

    def result_size(self, height: int, width: int) -> Size:
        """(height, width) of the result for a picture of that size; it is never distorted, so it fits into the box."""
        if self.width is None and self.height is None:
            factor = self.scale or DEFAULT_SCALE
        else:
            boxes = [(self.width, width), (self.height, height)]
            factor = min(asked / own for asked, own in boxes if asked is not None)
        if not 1 <= factor <= MAX_SCALE:
            raise InvalidParameterError(
                f"That is {factor:.3g} times the picture's size; from 1 to {MAX_SCALE} times is possible.",
                limit=MAX_SCALE,
                actual=round(factor, 3),
            )
        return max(1, round(height * factor)), max(1, round(width * factor))

    def output(self, format: str) -> Output:
        """How the result is to be written, in that format."""
        options = Options(self.quality, self.subsampling, self.lossless)
        depth = DEPTHS[self.depth] if self.depth else None
        return Output(format, options, self.background_rgb, self.metadata == "keep", depth)

    @property
    def factor_name(self) -> str:
        """For a file's name: "x4", or the box that was asked for."""
        if self.width or self.height:
            return f"{self.width or ''}x{self.height or ''}"
        return f"x{self.scale or DEFAULT_SCALE:g}"

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        red, green, blue = bytes.fromhex(self.background.removeprefix("#"))
        return red, green, blue


def given(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """What has a value, the last source's where several have one. Blank is absent: a plain HTML form sends its empty
    fields, too."""
    return {
        name: value
        for values in sources
        for name, value in values.items()
        if not isinstance(value, str) or value.strip()
    }


def unknown_parameter(name: str, known: Iterable[str]) -> InvalidParameterError:
    """The error for a name that nothing reads, with the known one closest to it."""
    known = list(known)
    if not known:
        return InvalidParameterError(f"There is no parameter {name[:40]!r}; there are none here.")
    close = get_close_matches(name[:40].lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? There are" if close else "there are"
    return InvalidParameterError(f"There is no parameter {name[:40]!r}; {hint}: {', '.join(known)}.")


def parse_parameters(values: Mapping[str, str]) -> UpscaleParameters:
    """Validates, or raises an error that names the parameter and what is allowed."""
    try:
        return UpscaleParameters.model_validate(values)
    except ValidationError as error:
        raise parameter_error(error.errors()[0]) from error


def parameter_error(first: Mapping[str, Any]) -> EnlargerError:
    """The error to answer with, from Pydantic's account of one; query and form are answered alike."""
    name = str(first["loc"][-1]) if first["loc"] else "scale"  # only the rule about it and the size names no field
    if name == "format":
        return OutputFormatError(f"There is no format {first['input'][:40]!r}; there are: {', '.join(FORMATS)}.")
    if first["type"] == "extra_forbidden":
        return unknown_parameter(name, UpscaleParameters.model_fields)
    bounds = first.get("ctx", {})
    return InvalidParameterError(f"{name}: {first['msg']}.", limit=bounds.get("ge", bounds.get("le")))

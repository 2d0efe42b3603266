"""The parameters of an enlargement, validated for every caller, and the size of the result."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from app.errors import EnlargerError, InvalidParameterError, OutputFormatError
from app.images.encoders import BY_SUFFIX, FORMATS, Options, Subsampling
from app.images.pixels import Size

DEFAULTS = Options()
Parameters = TypeVar("Parameters", bound=BaseModel)
DEFAULT_SCALE = 4.0
MAX_SCALE = 8

DEPTHS: dict[str, Literal[8, 16]] = {"8": 8, "16": 16}


def known_format(name: str) -> str:
    """The format of that name or suffix, in upper or lower case: ``JPG`` is ``jpeg``."""
    name = BY_SUFFIX.get(f".{name.lower()}", name.lower())
    if name not in FORMATS:
        raise ValueError("no such format")
    return name


FormatName = Annotated[str, AfterValidator(known_format), WithJsonSchema({"type": "string", "enum": list(FORMATS)})]


@dataclass(frozen=True)
class Output:
    """How the result is written. ``background`` (RGB) fills transparency in JPEG; ``depth``: bits per sample, or
    None for the source's."""

    format: str = "png"
    options: Options = DEFAULTS
    background: tuple[int, int, int] = (255, 255, 255)
    metadata: bool = True
    depth: Literal[8, 16] | None = None


class UpscaleParameters(BaseModel):
    """The parameters of ``POST /upscale``. Unknown names are errors, so typos are not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        None, description="`auto`, or a name from `GET /models`; if left out, its `default`, usually `auto`."
    )
    strength: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="For networks that have one: 0, faithful, to 1, fully cleaned and sharpened. If left out: what "
        "`auto` finds fitting, or 1.",
    )
    scale: float | None = Field(None, ge=1, le=MAX_SCALE, description="How many times larger; 4 if left out.")
    width: int | None = Field(None, ge=1, description="Instead of `scale`: the maximum width in pixels.")
    height: int | None = Field(None, ge=1, description="Instead of `scale`: the maximum height in pixels.")
    format: FormatName | None = Field(
        None, description="Default: what `Accept` asks for, else the input's own, else PNG."
    )
    quality: int | None = Field(None, ge=1, le=100, description="For JPEG, WebP and AVIF; 90 if left out.")
    subsampling: Subsampling = Field("4:2:0", description="Chroma of JPEG and AVIF at half or at full resolution.")
    lossless: bool = Field(False, description="For WebP; PNG and TIFF always are, JPEG and AVIF never.")
    depth: Literal["8", "16"] | None = Field(None, description="Bits per sample; the input's own if left out.")
    background: str = Field("ffffff", pattern="^#?[0-9a-fA-F]{6}$", description="Behind transparency, for JPEG.")
    metadata: Literal["keep", "strip"] = Field(
        "keep", description="EXIF, XMP, resolution; GPS is always removed, the profile always kept."
    )

    decode: bool = Field(False, description="Report in headers which QR and bar codes are readable before and after.")

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
        """(height, width) of the result for an image of that size. It fits into the box and is never distorted."""
        if self.width is None and self.height is None:
            factor = self.scale or DEFAULT_SCALE
        else:
            boxes = [(self.width, width), (self.height, height)]
            factor = min(asked / own for asked, own in boxes if asked is not None)
        if not 1 <= factor <= MAX_SCALE:
            raise InvalidParameterError(
                f"That is {factor:.3g} times the size of the image; 1 to {MAX_SCALE} times is possible.",
                limit=MAX_SCALE,
                actual=round(factor, 3),
            )
        return max(1, round(height * factor)), max(1, round(width * factor))

    def output(self, format: str) -> Output:
        """How the result is written in that format."""
        options = Options(self.quality, self.subsampling, self.lossless)
        depth = DEPTHS[self.depth] if self.depth else None
        return Output(format, options, self.background_rgb, self.metadata == "keep", depth)

    @property
    def factor_name(self) -> str:
        """For the file name: "x4", or the requested box."""
        if self.width or self.height:
            return f"{self.width or ''}x{self.height or ''}"
        return f"x{self.scale or DEFAULT_SCALE:g}"

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        red, green, blue = bytes.fromhex(self.background.removeprefix("#"))
        return red, green, blue


def given(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that have a value; later sources win. Blank means absent: a plain HTML form sends its empty
    fields, too."""
    return {
        name: value
        for values in sources
        for name, value in values.items()
        if not isinstance(value, str) or value.strip()
    }


def unknown_parameter(name: str, known: Iterable[str]) -> InvalidParameterError:
    """The error for an unknown name, with the closest known one."""
    known = list(known)
    if not known:
        return InvalidParameterError(f"Unknown parameter {name[:40]!r}; this route has none.")
    close = get_close_matches(name[:40].lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? Known" if close else "known"
    return InvalidParameterError(f"Unknown parameter {name[:40]!r}; {hint}: {', '.join(known)}.")


def parse_parameters(values: Mapping[str, str]) -> UpscaleParameters:
    return parsed(UpscaleParameters, values)


def parsed(kind: type[Parameters], values: Mapping[str, str]) -> Parameters:
    """Validates, or raises an error that names the parameter and the allowed values."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise parameter_error(kind, error.errors()[0]) from error


def parameter_error(kind: type[BaseModel], first: Mapping[str, Any]) -> EnlargerError:
    """Turns an error of Pydantic's into ours; query and form are answered alike."""
    name = str(first["loc"][-1]) if first["loc"] else "scale"  # only the rule "scale or size" names no field
    if name == "format":
        return OutputFormatError(f"Unknown format {str(first['input'])[:40]!r}; known: {', '.join(FORMATS)}.")
    if first["type"] == "extra_forbidden":
        return unknown_parameter(name, kind.model_fields)
    bounds = first.get("ctx", {})
    return InvalidParameterError(f"{name}: {first['msg']}.", limit=bounds.get("ge", bounds.get("le")))

"""What enlarging one image will take, decided once, from its header: size, networks, tiles, memory, and the file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from app.errors import EnlargerError, UnfitFormatError
from app.images.colour import fitting_profile
from app.images.encoders import FORMATS, Encoder, Picture, create_encoder
from app.images.formats import Container, ImageHeader, enlarged_xmp
from app.images.pixels import Size
from app.images.tone import ToneCurve, far_curve
from app.inference.engine import Network
from app.inference.job import Load
from app.inference.zoo import ModelSpec
from app.upscale.parameters import Output
from app.upscale.passes import Pass, load_of, plan_passes
from app.upscale.tiler import TileBudget


@dataclass(frozen=True)
class Plan:
    """Everything about one enlargement but its pixels. Whatever can be refused was refused when it was made.

    ``picture`` is the result as its encoder is to know it. ``curve``: the profile's tone curve, where a network would
    mind it.
    """

    header: ImageHeader
    passes: tuple[Pass, ...]
    output: Output
    picture: Picture
    curve: ToneCurve | None

    @property
    def size(self) -> Size:
        """Of the result: height, width."""
        return self.picture.height, self.picture.width

    @property
    def specs(self) -> tuple[ModelSpec, ...]:
        """The networks that run, in turn."""
        return tuple(each.spec for each in self.passes)

    @property
    def sample_type(self) -> str:
        """Of what the networks are shown and asked for: "uint8" or "uint16"."""
        return "uint16" if max(self.header.depth, self.picture.depth) > 8 or self.curve else "uint8"

    @property
    def load(self) -> Load:
        """LR pixels that each network will be shown; alpha goes through them as an image of its own."""
        return load_of(self.passes, self.header.has_alpha)

    @property
    def tiles(self) -> int:
        return sum(each.plan.tiles for each in self.passes)

    @property
    def overlap(self) -> float:
        """LR pixels computed beside the image's own, as a share of those, of all passes together.

        That is where tiles overlap, and the mirror image beyond its ends: for a few pixels many times those.
        """
        pixels = sum(each.plan.height * each.plan.width for each in self.passes)
        return round(sum(each.plan.computed_pixels for each in self.passes) / pixels - 1, 3)

    @property
    def media_type(self) -> str:
        return FORMATS[self.output.format].media_type

    def encoder(self) -> Encoder:
        """A new encoder for the result."""
        return create_encoder(self.output.format, self.picture, self.output.options)


def make_plan(
    image: Container,
    specs: Sequence[ModelSpec],
    outputs: Iterable[Output],
    budget: TileBudget,
    size: Size | None = None,
    networks: Mapping[str, Network] | None = None,
) -> Plan:
    """The plan for an image, written by the first of ``outputs`` that can hold it; the error of the last if none can.

    ``size`` is the result's; without one it is what the networks give. ``networks``: how each runs here, by its title.
    """
    header = image.header
    profile = None if image.ink else fitting_profile(image.icc_profile, "L" if header.gray else "RGB")
    passes = plan_passes((header.height, header.width), specs, fitting(budget, specs, networks or {}))
    refusal: EnlargerError | None = None
    for output in outputs:
        picture = picture_of(image, profile, output, size or passes[-1].size)
        try:
            create_encoder(output.format, picture, output.options)
        except EnlargerError as error:
            refusal = error
            continue
        check_depth(picture, specs, networks or {})
        return Plan(header, passes, output, picture, far_curve(profile))
    assert refusal is not None, "no output was given"
    raise refusal


def fitting(budget: TileBudget, specs: Sequence[ModelSpec], networks: Mapping[str, Network]) -> TileBudget:
    """The budget of a tile where all of the networks run in bf16: what is computed in twice the pace, and held in half
    the bytes, may be twice as much. `best` then overlaps by 14 in place of 21 %."""
    here = [networks.get(spec.title) for spec in specs]
    return replace(budget, macs=2 * budget.macs) if all(each and each.precision == "bf16" for each in here) else budget


def picture_of(image: Container, profile: bytes | None, output: Output, size: Size) -> Picture:
    """The result as its encoder is to know it."""
    header, kept = image.header, output.metadata
    return Picture(
        width=size[1],
        height=size[0],
        channels=(1 if header.gray else 3) + (header.has_alpha and FORMATS[output.format].alpha),
        depth=output.depth or header.depth,
        icc_profile=profile,  # what says how the numbers are meant is kept even without metadata
        exif=image.exif if kept else image.exif_colour,
        dpi=image.dpi if kept else None,
        xmp=enlarged_xmp(image.xmp if kept else None),
    )


def check_depth(picture: Picture, specs: Sequence[ModelSpec], networks: Mapping[str, Network]) -> None:
    """Raises ``UnfitFormatError`` where 16 bits are to come out of a network that runs in 8 (``int8``)."""
    for spec in specs:
        network = networks.get(spec.title)
        if network and picture.depth > network.max_depth:
            detail = f"{spec.title} runs in int8 here, which holds 8 bits per sample; ask for depth=8 or another model."
            raise UnfitFormatError(detail, limit=network.max_depth, actual=picture.depth)

"""Plans one enlargement, once, from the header: size, networks, tiles, memory and output file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.errors import EnlargerError, UnfitFormatError
from app.images.colour import fitting_profile
from app.images.encoders import FORMATS, Encoder, Picture, create_encoder
from app.images.formats import Container, ImageHeader, enlarged_xmp
from app.images.pixels import Size
from app.images.tone import ToneCurve, far_curve
from app.inference.engine import Network
from app.inference.job import Load
from app.inference.zoo import DEFAULT_STRENGTH, ModelSpec
from app.upscale.auto import Choice
from app.upscale.parameters import Output
from app.upscale.passes import Pass, load_of, plan_passes
from app.upscale.tiler import TileBudget


@dataclass(frozen=True)
class Plan:
    """Everything about one enlargement but its pixels. Whatever can be refused was refused when the plan was made.

    ``picture``: the result as its encoder sees it. ``curve``: the profile's tone curve, if it would affect a
    network. ``strength``: 0 to 1, for networks that have one. ``choice``: what ``auto`` took, if it was asked.
    ``rivals``: if it has still to look at the pixels, the plan for each kind of image; this one is the dearest of them.
    ``fits_strength``: it chooses the strength, too.
    """

    header: ImageHeader
    passes: tuple[Pass, ...]
    output: Output
    picture: Picture
    curve: ToneCurve | None
    strength: float = DEFAULT_STRENGTH
    choice: Choice | None = None
    rivals: Mapping[str, "Plan"] = field(default_factory=dict)
    fits_strength: bool = False

    @property
    def size(self) -> Size:
        """(height, width) of the result."""
        return self.picture.height, self.picture.width

    @property
    def specs(self) -> tuple[ModelSpec, ...]:
        """The networks that run, in sequence."""
        return tuple(each.spec for each in self.passes)

    @property
    def has_strength(self) -> bool:
        """Whether a network runs that has a strength."""
        return any(spec.strength for spec in self.specs)

    @property
    def sample_type(self) -> str:
        """The dtype of the networks' input and output: "uint8" or "uint16"."""
        return "uint16" if max(self.header.depth, self.picture.depth) > 8 or self.curve else "uint8"

    @property
    def load(self) -> Load:
        """LR pixels that each network will be shown; alpha counts as an image of its own."""
        return load_of(self.passes, self.header.has_alpha)

    @property
    def tiles(self) -> int:
        return sum(each.plan.tiles for each in self.passes)

    @property
    def overlap(self) -> float:
        """LR pixels computed in excess of the image's own, as a share of those, over all passes.

        They lie where tiles overlap, and in the mirror image beyond the borders; for an image of a few pixels the
        share is large.
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
    strength: float = DEFAULT_STRENGTH,
) -> Plan:
    """The plan for an image, written by the first of ``outputs`` that can hold it; raises the last one's error if
    none can.

    ``size`` is the result's; by default what the networks give. ``networks``: how each runs here, by its title.
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
        return Plan(header, passes, output, picture, far_curve(profile), strength)
    assert refusal is not None, "no output was given"
    raise refusal


def fitting(budget: TileBudget, specs: Sequence[ModelSpec], networks: Mapping[str, Network]) -> TileBudget:
    """The tile budget if all of the networks run in bf16: at twice the speed and half the bytes, tiles may be twice
    as large. `best` then overlaps by 14 instead of 21 %."""
    here = [networks.get(spec.title) for spec in specs]
    return replace(budget, macs=2 * budget.macs) if all(each and each.precision == "bf16" for each in here) else budget


def picture_of(image: Container, profile: bytes | None, output: Output, size: Size) -> Picture:
    """The result as its encoder sees it."""
    header, kept = image.header, output.metadata
    return Picture(
        width=size[1],
        height=size[0],
        channels=(1 if header.gray else 3) + (header.has_alpha and FORMATS[output.format].alpha),
        depth=output.depth or header.depth,
        icc_profile=profile,  # it defines what the numbers mean, so metadata=strip keeps it
        exif=image.exif if kept else image.exif_colour,
        dpi=image.dpi if kept else None,
        xmp=enlarged_xmp(image.xmp if kept else None),
    )


def check_depth(picture: Picture, specs: Sequence[ModelSpec], networks: Mapping[str, Network]) -> None:
    """Raises ``UnfitFormatError`` if a 16-bit result would come from a network that runs in 8 bits (``int8``)."""
    for spec in specs:
        network = networks.get(spec.title)
        if network and picture.depth > network.max_depth:
            detail = f"{spec.title} runs in int8 here, which holds 8 bits per sample; ask for depth=8 or another model."
            raise UnfitFormatError(detail, limit=network.max_depth, actual=picture.depth)

"""``POST /generate``: pictures drawn from noise by a generator of the zoo, as one PNG grid."""

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import parse_qsl

from anyio import CapacityLimiter, fail_after
from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import BodyTooLargeError, InvalidParameterError, SlowBodyError
from app.http.openapi import only
from app.images.encoders import FORMATS, Picture, create_encoder
from app.inference.engine import PictureGenerator
from app.inference.generator import Pixels, grid, latent_vectors
from app.inference.scheduler import Scheduler
from app.inference.zoo import Zoo
from app.threads import run_beside
from app.upscale.parameters import given, unknown_parameter

MAX_FORM_BYTES, FORM_SECONDS = 4096, 10
MAX_SEED = 2**53 - 1  # what JSON and JavaScript hold exactly
FORM = "application/x-www-form-urlencoded"


class GenerateParameters(BaseModel):
    """Parameters of ``POST /generate``, in the query or the form; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field("digits", description="The name of a generator from `GET /models`.")
    count: int = Field(25, ge=1, le=400, description="How many pictures.")
    seed: int | None = Field(
        None,
        ge=0,
        le=MAX_SEED,
        description="Of NumPy's PCG64, which draws the latent vectors: the same seed gives the same pictures, and with "
        "a larger `count` the same ones and more. Left out: any; the response tells it.",
    )
    columns: int | None = Field(None, ge=1, le=400, description="Of the grid; a square one if left out.")

    @model_validator(mode="before")
    @classmethod
    def blanks_are_absent(cls, values: Any) -> Any:
        return given(values) if isinstance(values, Mapping) else values


@dataclass
class Drawing:
    """What the route needs. One request draws at a time: 400 digits take a tenth of a second, so nobody waits long,
    and pictures that are being enlarged keep their threads."""

    zoo: Zoo
    scheduler: Scheduler
    generators: Mapping[str, PictureGenerator]
    limiter: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))


def add_drawing(app: FastAPI, drawing: Drawing) -> None:
    app.state.drawing = drawing
    app.add_api_route(
        "/generate",
        post_generate,
        methods=["POST"],
        summary="Draw pictures from noise",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **only(401, 404, 408, 413, 422, 429, 503)},
    )


async def post_generate(request: Request, query: Annotated[GenerateParameters, Query()]) -> Response:
    """Draws pictures with a generator and gives them as one PNG grid; the same seed gives the same picture.

    Parameters may stand in the query or in a form (`application/x-www-form-urlencoded`).
    """
    drawing: Drawing = request.app.state.drawing
    drawing.scheduler.check_room()  # drawing beside a full queue would slow down what was promised
    parameters = parse(given(request.query_params, await receive_form(request)))
    spec = drawing.zoo.generator(parameters.model)
    generator = drawing.generators[spec.name]
    seed = secrets.randbelow(MAX_SEED + 1) if parameters.seed is None else parameters.seed
    columns = min(parameters.columns or math.ceil(math.sqrt(parameters.count)), parameters.count)

    def draw() -> tuple[Pixels, bytes]:
        sheet = grid(generator.run(latent_vectors(seed, parameters.count, spec.latent)), columns)
        return sheet, png(sheet)

    sheet, data = await run_beside(draw, limiter=drawing.limiter)
    headers = {
        "Enlarger-Model": spec.title,
        "Enlarger-Model-Sha256": spec.files["fp32"].sha256,
        "Enlarger-Provider": generator.provider,
        "Enlarger-Seed": str(seed),
        "Enlarger-Output-Size": f"{sheet.shape[1]}x{sheet.shape[0]}",
        "Cache-Control": "no-store",
    }
    return Response(data, headers=headers, media_type=FORMATS["png"].media_type)


async def receive_form(request: Request) -> dict[str, str]:
    """The fields of a small form; other bodies are no form, so only an empty one of those is taken."""
    body = bytearray()
    try:
        with fail_after(FORM_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_FORM_BYTES:
                    raise BodyTooLargeError("This form is larger than any.", limit=MAX_FORM_BYTES)
    except TimeoutError as error:
        raise SlowBodyError("The form did not arrive in time.", limit=FORM_SECONDS) from error
    if not body:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise InvalidParameterError(f"Parameters stand in the query or in a body of type {FORM}.")
    return dict(parse_qsl(body.decode("latin-1"), keep_blank_values=True))


def parse(values: Mapping[str, str]) -> GenerateParameters:
    """Validates, or raises an error that names the parameter and what is allowed."""
    try:
        return GenerateParameters.model_validate(values)
    except ValidationError as error:
        raise wrong_parameter(error.errors()[0]) from error


def wrong_parameter(first: Mapping[str, Any]) -> InvalidParameterError:
    name = str(first["loc"][-1])
    if first["type"] == "extra_forbidden":
        return unknown_parameter(name, GenerateParameters.model_fields)
    bounds = first.get("ctx", {})
    return InvalidParameterError(f"{name}: {first['msg']}.", limit=bounds.get("ge", bounds.get("le")))


def png(sheet: Pixels) -> bytes:
    """uint8 ``[H, W, c]`` as the bytes of a PNG."""
    height, width, channels = sheet.shape
    encoder = create_encoder("png", Picture(width=width, height=height, channels=channels))
    return b"".join([bytes(encoder.begin()), bytes(encoder.write(sheet)), bytes(encoder.finish())])

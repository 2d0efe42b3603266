"""``POST /generate``: images generated from noise, as one PNG grid."""

import math
import secrets
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.http.openapi import only
from app.http.router import Router
from app.http.service import service_of
from app.http.upload import receive_form
from app.images.encoders import FORMATS, Picture, create_encoder
from app.images.pixels import Pixels
from app.inference.generator import grid, latent_vectors
from app.threads import run_in_thread
from app.upscale.parameters import given, parsed

MAX_FORM_BYTES, FORM_SECONDS = 4096, 10.0
MAX_SEED = 2**53 - 1  # the largest integer that JSON and JavaScript hold exactly


class GenerateParameters(BaseModel):
    """Parameters of ``POST /generate``, in the query or the form; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field("digits", description="The name of a generator from `GET /models`.")
    count: int = Field(25, ge=1, le=400, description="How many images.")
    seed: int | None = Field(
        None,
        ge=0,
        le=MAX_SEED,
        description="Of NumPy's PCG64, which draws the latent vectors: the same seed gives the same images, and a "
        "larger `count` adds to them. If left out it is random; the response tells it.",
    )
    columns: int | None = Field(None, ge=1, le=400, description="Of the grid; a square one if left out.")

    @model_validator(mode="before")
    @classmethod
    def blanks_are_absent(cls, values: Any) -> Any:
        return given(values) if isinstance(values, Mapping) else values


router = Router()


@router.post(
    "/generate",
    summary="Generate images from noise",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **only(401, 404, 408, 413, 422, 429, 503)},
)
async def post_generate(request: Request, query: Annotated[GenerateParameters, Query()]) -> Response:
    """Generates images and returns them as one PNG grid; the same seed gives the same grid.

    Parameters may be in the query or in a form (`application/x-www-form-urlencoded`).
    """
    service = service_of(request)
    upscaler = service.upscaler
    upscaler.scheduler.check_room()  # generating beside a full queue would delay accepted requests
    fields = await receive_form(request, MAX_FORM_BYTES, FORM_SECONDS)
    parameters = parsed(GenerateParameters, given(request.query_params, fields))
    spec = upscaler.zoo.generator(parameters.model)
    generator = service.generators[spec.name]
    seed = secrets.randbelow(MAX_SEED + 1) if parameters.seed is None else parameters.seed
    columns = min(parameters.columns or math.ceil(math.sqrt(parameters.count)), parameters.count)

    def draw() -> tuple[Pixels, bytes]:
        sheet = grid(generator.run(latent_vectors(seed, parameters.count, spec.latent)), columns)
        return sheet, png(sheet)

    sheet, data = await run_in_thread(draw, limiter=service.drawing)
    headers = {
        "Enlarger-Model": spec.title,
        "Enlarger-Model-Sha256": spec.files["fp32"].sha256,
        "Enlarger-Provider": generator.provider,
        "Enlarger-Seed": str(seed),
        "Enlarger-Output-Size": f"{sheet.shape[1]}x{sheet.shape[0]}",
        "Cache-Control": "no-store",
    }
    return Response(data, headers=headers, media_type=FORMATS["png"].media_type)


def png(sheet: Pixels) -> bytes:
    """uint8 ``[H, W, c]`` as the bytes of a PNG."""
    height, width, channels = sheet.shape
    encoder = create_encoder("png", Picture(width=width, height=height, channels=channels))
    return b"".join([bytes(encoder.begin()), bytes(encoder.write(sheet)), bytes(encoder.finish())])

"""``POST /upscale`` and ``POST /estimate``."""

import math
from functools import partial
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import Response

from app.http.limits import lease_of
from app.http.negotiation import candidates, content_disposition
from app.http.openapi import BODY, ERRORS, ESTIMATE, PICTURE
from app.http.preconditions import check_http_version
from app.http.prefer import parse_prefer
from app.http.router import Router
from app.http.service import service_of
from app.http.streaming import PictureResponse
from app.http.upload import Upload, receive_upload
from app.images.barcodes import check_readable, codes_of, header_value, read_when_whole
from app.images.formats import Container
from app.telemetry.record import record_of
from app.threads import run_in_prompt_thread, run_in_thread
from app.upscale.memory import held_bytes
from app.upscale.parameters import UpscaleParameters, given, parse_parameters
from app.upscale.pipeline import Work
from app.upscale.plan import Plan
from app.upscale.upscaler import Upscaler

router = Router()


@router.post(
    "/upscale",
    summary="Enlarge an image",
    response_class=Response,
    responses={200: PICTURE, **ERRORS},
    openapi_extra=BODY,
)
async def post_upscale(request: Request, query: Annotated[UpscaleParameters, Query()]) -> Response:
    """Takes an image as the multipart file `image` or as the raw body, and streams the enlarged one back.

    Parameters may be in the query or in the form. The position (GPS in EXIF and XMP) is always removed;
    `metadata=strip` removes the other metadata too. The result's XMP says that it was enlarged.

    Where the service keeps jobs, `Prefer: respond-async` is answered 202 with a job, and `respond-async, wait=10` only
    if the image is not finished in 10 seconds (RFC 7240).
    """
    check_http_version(request)
    service, record = service_of(request), record_of(request.scope)
    upscaler, preference = service.upscaler, parse_prefer(request.headers.getlist("prefer"))
    deferred = service.defer is not None and preference.respond_async
    if not deferred:
        upscaler.scheduler.check_room()  # refuse before the body is read
    with record.clock.stage("receive"):
        upload, parameters = await receive(request)
    image, plan = await opened(request, upload.image, parameters)
    if service.defer and deferred:
        del image
        return await service.defer(request, upload, parameters, plan, preference)
    # Admit before decoding: a refused request costs nothing, and an admitted one counts from now on.
    lease = lease_of(request.scope)
    job = lease.own(partial(upscaler.admit, plan, service.settings.request_deadline_seconds, record.clock))

    def decode(data: bytes) -> Work:
        service.in_flight.begin(record, data)
        return upscaler.decode(image, plan, job)

    lease.grow(held_bytes(plan, parameters.decode))
    with record.clock.stage("decode"):
        work = await run_in_thread(decode, upload.image, limiter=service.decoders)
    plan = work.plan
    codes = await run_in_thread(codes_of, work.source, limiter=service.decoders) if parameters.decode else None
    record.model = plan.specs[0].name
    record.input_pixels = plan.header.height * plan.header.width
    record.output_pixels = math.prod(plan.size)
    headers, pieces = picture_headers(upscaler, plan, parameters, upload.filename), upscaler.run(work, job)
    if codes is not None:

        def tell(found: tuple[str, ...]) -> None:  # called before the first piece, with which the headers are sent
            response.headers["Enlarger-Codes-After"] = header_value(found)

        headers["Enlarger-Codes-Before"] = header_value(codes)
        pieces = read_when_whole(pieces, tell)
    response = PictureResponse(
        pieces=pieces,
        job=job,
        limiter=service.limiter,
        seconds=service.settings.advanced.send_seconds,
        media_type=plan.media_type,
        headers=headers,
    )
    return response


@router.post(
    "/estimate",
    summary="What enlarging an image would take",
    responses={200: ESTIMATE, **ERRORS},
    openapi_extra=BODY,
)
async def post_estimate(request: Request, query: Annotated[UpscaleParameters, Query()]) -> dict[str, Any]:
    """Takes the same request as `POST /upscale` and returns the time and the size, without computing. The image is
    decoded only if `auto` has to look at it."""
    service, record = service_of(request), record_of(request.scope)
    upscaler = service.upscaler
    upload, parameters = await receive(request)
    image, plan = await opened(request, upload.image, parameters)

    def look(data: bytes) -> Plan:
        service.in_flight.begin(record, data)
        return upscaler.look(image, plan)

    if plan.rivals:
        with record.clock.stage("decode"):
            plan = await run_in_thread(look, upload.image, limiter=service.decoders)
    height, width = plan.size
    return {
        "seconds": round(upscaler.seconds(plan), 3),
        "queue_seconds": round(upscaler.scheduler.backlog(), 3),
        "models": [spec.title for spec in plan.specs],
        "choice": plan.choice.as_json() if plan.choice else None,
        "strength": plan.strength if plan.has_strength else None,
        "width": width,
        "height": height,
        "tiles": plan.tiles,
        "overlap": plan.overlap,
    }


async def opened(request: Request, data: bytes, parameters: UpscaleParameters) -> tuple[Container, Plan]:
    """Reads the image's header and plans everything from it, but never on the event loop: the cost of an untrusted
    header is unknown, however short it is."""
    upscaler, accept = service_of(request).upscaler, request.headers.get("accept", "*/*")

    def read_and_plan(data: bytes) -> tuple[Container, Plan]:
        image = upscaler.open(data)
        plan = upscaler.plan(image, parameters, candidates(accept, image.header.format))
        if parameters.decode:
            check_readable(*plan.size)
        return image, plan

    return await run_in_prompt_thread(read_and_plan, data)


async def receive(request: Request) -> tuple[Upload, UpscaleParameters]:
    """The image and the parameters of the query and the form; the form takes precedence."""
    settings = service_of(request).settings
    upload = await receive_upload(request, settings.max_body_bytes, settings.advanced.body_seconds)
    return upload, parse_parameters(given(request.query_params, upload.fields))


def picture_headers(
    upscaler: Upscaler, plan: Plan, parameters: UpscaleParameters, filename: str | None
) -> dict[str, str]:
    networks = [upscaler.networks[spec.title].at(plan.sample_type) for spec in plan.specs]
    return {
        "Enlarger-Model": ", ".join(spec.title for spec in plan.specs),
        **({"Enlarger-Choice": plan.choice.header} if plan.choice else {}),
        "Enlarger-Model-Sha256": ", ".join(each.file.sha256 for each in networks),
        **({"Enlarger-Strength": f"{plan.strength:g}"} if plan.has_strength else {}),
        "Enlarger-Provider": ", ".join(dict.fromkeys(each.provider for each in networks)),
        "Enlarger-Precision": ", ".join(each.precision for each in networks),
        "Enlarger-Output-Size": f"{plan.picture.width}x{plan.picture.height}",
        "Enlarger-Metadata": "; ".join(
            [parameters.metadata, "position removed", *["gain map dropped"] * plan.header.gain_map]
        ),
        "Enlarger-Tiles": str(plan.tiles),
        "Enlarger-Overlap": str(plan.overlap),
        "Enlarger-Estimated-Seconds": f"{upscaler.seconds(plan):.2f}",
        "Content-Disposition": content_disposition(filename, parameters.factor_name, plan.output.format),
        "Cache-Control": "no-store",
        "Vary": "Accept",
    }

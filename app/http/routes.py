"""HTTP: the routes."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from app.http.catalogue import describe, describe_model
from app.http.limits import holding_of
from app.http.negotiation import choose_output, content_disposition
from app.http.openapi import BODY, ERRORS, ESTIMATE, MENU, MODEL, NOT_READY, PICTURE, only
from app.http.parameters import UpscaleParameters, parse_parameters
from app.http.prefer import parse_prefer
from app.http.service import Service, service_of
from app.http.streaming import PictureResponse
from app.http.upload import Upload, receive_upload
from app.images.barcodes import check_readable, header_value, read_codes, read_when_whole
from app.images.channels import at_depth
from app.images.decoder import ImageHeader, SourceImage, decode, inspect
from app.telemetry.record import record_of
from app.threads import run_ahead, run_beside
from app.upscale.memory import held_bytes
from app.upscale.passes import Pass, load_of, plan_passes
from app.upscale.pipeline import Work, check_depth, prepare, upscale
from app.upscale.tiler import TileBudget

router = APIRouter()

Handler = TypeVar("Handler", bound=Callable[..., Any])


def get(path: str, **options: Any) -> Callable[[Handler], Handler]:
    """A route for GET, and for HEAD, which is answered with the same headers and no body (RFC 9110, 9.3.2)."""

    def add(handler: Handler) -> Handler:
        router.add_api_route(path, handler, methods=["GET"], **options)
        router.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
        return handler

    return add


@router.post(
    "/upscale",
    summary="Enlarge a picture",
    response_class=Response,
    responses={200: PICTURE, **ERRORS},
    openapi_extra=BODY,
)
async def post_upscale(request: Request, query: Annotated[UpscaleParameters, Query()]) -> Response:
    """Takes a picture as the multipart file `image` or as the raw body, and streams the enlarged one back.

    Parameters may stand in the query or in the form. Where pictures were taken (GPS in EXIF and XMP) is always removed;
    `metadata=strip` removes the rest as well. The result says in its XMP that it was enlarged.

    Where the service keeps jobs, `Prefer: respond-async` is answered 202 with a job, and `respond-async, wait=10` only
    if the picture is not finished in 10 seconds (RFC 7240).
    """
    service = service_of(request)
    record = record_of(request.scope)
    preference = parse_prefer(request.headers.getlist("prefer"))
    if not (service.defer and preference.respond_async):
        service.scheduler.check_room()  # refused before the body is read
    with record.clock.stage("receive"):
        upload, parameters = await receive(request)
    if service.defer and preference.respond_async:
        return await service.defer(request, upload, parameters, preference)
    accept = request.headers.get("accept", "*/*")
    header = await header_of(service, upload.image)
    job = service.scheduler.open(
        load_of(planned(service, parameters, header.height, header.width), header.has_alpha),
        time.monotonic() + service.settings.request_deadline_seconds,
        record.clock,
    )  # before anything is decoded: what is refused costs nothing, and what is admitted counts from now on

    def decode_and_plan(image: bytes) -> Work:
        service.ledger.begin(record, image)
        source = decode(image, service.limits)
        size = parameters.result_size(source.height, source.width)
        output = choose_output(parameters, accept, source, size)
        specs = service.zoo.passes(parameters.model, size[0] / source.height, size[1] / source.width)
        if parameters.decode:
            check_readable(*size)
        work = prepare(
            source,
            specs,
            output,
            TileBudget(pixels=service.settings.tile_pixels, band_bytes=service.settings.band_bytes),
            size,
        )
        check_depth(work, service.precisions)
        return work

    with ExitStack() as stack:
        stack.enter_context(job)
        with record.clock.stage("decode"):
            work = await run_beside(decode_and_plan, upload.image, limiter=service.decoders)
        holding_of(request.scope).widen(held_bytes(work, parameters.decode))
        codes = await run_beside(codes_of, work.source, limiter=service.decoders) if parameters.decode else None
        stack.pop_all()  # the response closes the job
    record.model = work.passes[0].spec.name
    record.input_pixels = work.source.height * work.source.width
    record.output_pixels = work.picture.height * work.picture.width
    headers, pieces = picture_headers(service, work, parameters, upload.filename), upscale(work, job)
    if codes is not None:

        def tell(found: tuple[str, ...]) -> None:  # before the first piece, with which the headers are sent
            response.headers["Enlarger-Codes-After"] = header_value(found)

        headers["Enlarger-Codes-Before"] = header_value(codes)
        pieces = read_when_whole(pieces, tell)
    response = PictureResponse(
        pieces=pieces,
        job=job,
        limiter=service.limiter,
        seconds=service.settings.send_seconds,
        media_type=work.encoder.media_type,
        headers=headers,
    )
    return response


def codes_of(source: SourceImage) -> tuple[str, ...]:
    return read_codes(at_depth(source.rows(0, source.height), 8))


@router.post(
    "/estimate",
    summary="What enlarging a picture would take",
    responses={200: ESTIMATE, **ERRORS},
    openapi_extra=BODY,
)
async def post_estimate(request: Request, query: Annotated[UpscaleParameters, Query()]) -> dict[str, Any]:
    """Takes what `POST /upscale` takes and tells the time and the size, without decoding or computing anything."""
    service = service_of(request)
    upload, parameters = await receive(request)
    header = await header_of(service, upload.image)
    height, width = parameters.result_size(header.height, header.width)
    passes = planned(service, parameters, header.height, header.width)
    return {
        "seconds": round(seconds_of(service, passes, header.has_alpha), 3),
        "queue_seconds": round(service.scheduler.backlog(), 3),
        "models": [each.spec.title for each in passes],
        "width": width,
        "height": height,
        "tiles": sum(each.plan.tiles for each in passes),
        "overlap": overlap_of(passes),
    }


def planned(service: Service, parameters: UpscaleParameters, height: int, width: int) -> tuple[Pass, ...]:
    """The networks' work on a picture of that size, LR pixels."""
    size = parameters.result_size(height, width)
    specs = service.zoo.passes(parameters.model, size[0] / height, size[1] / width)
    return plan_passes(
        (height, width), specs, TileBudget(pixels=service.settings.tile_pixels, band_bytes=service.settings.band_bytes)
    )


async def header_of(service: Service, image: bytes) -> ImageHeader:
    """What the header says. Never read on the event loop: of a stranger's bytes, however few, none knows the cost."""
    return await run_ahead(inspect, image, service.limits)


async def receive(request: Request) -> tuple[Upload, UpscaleParameters]:
    """The image and the parameters of the query and the form, the form's counting where both have one."""
    settings = service_of(request).settings
    upload = await receive_upload(request, settings.max_body_bytes, settings.body_seconds)
    return upload, parse_parameters({**request.query_params, **upload.fields})


def picture_headers(
    service: Service, work: Work, parameters: UpscaleParameters, filename: str | None
) -> dict[str, str]:
    specs = [each.spec for each in work.passes]
    loaded = [service.loaded[spec.title] for spec in specs]
    return {
        "Enlarger-Model": ", ".join(spec.title for spec in specs),
        "Enlarger-Model-Sha256": ", ".join(each.file.sha256 for each in loaded),
        "Enlarger-Provider": loaded[0].provider,
        "Enlarger-Precision": ", ".join(each.precision for each in loaded),
        "Enlarger-Output-Size": f"{work.picture.width}x{work.picture.height}",
        "Enlarger-Metadata": f"{parameters.metadata}; position removed",
        "Enlarger-Tiles": str(sum(each.plan.tiles for each in work.passes)),
        "Enlarger-Overlap": str(overlap_of(work.passes)),
        "Enlarger-Estimated-Seconds": f"{seconds_of(service, work.passes, work.source.has_alpha):.2f}",
        "Content-Disposition": content_disposition(filename, parameters.factor_name, work.output.format),
        "Cache-Control": "no-store",
        "Vary": "Accept",
    }


def seconds_of(service: Service, passes: Sequence[Pass], has_alpha: bool) -> float:
    """The networks' time on an idle engine, at most: alpha is a second picture, of which plain parts are skipped."""
    return (1 + has_alpha) * sum(service.scheduler.estimate(each.spec, each.plan.computed_pixels) for each in passes)


def overlap_of(passes: Sequence[Pass]) -> float:
    """The share of LR pixels that is computed more than once, of all passes."""
    pixels = sum(each.plan.height * each.plan.width for each in passes)
    return round(sum(each.plan.computed_pixels for each in passes) / pixels - 1, 3)


@get("/models", summary="Networks, scales, formats and limits: all that can be asked for", responses={200: MENU})
async def get_models(request: Request) -> dict[str, Any]:
    return describe(service_of(request))


@get("/models/{name}", summary="One network", responses={200: MODEL, **only(404)})
async def get_model(request: Request, name: str) -> dict[str, Any]:
    return describe_model(service_of(request), name)


@get("/healthz", summary="The process lives")
async def get_healthz() -> dict[str, str]:
    return {"status": "alive"}


@get("/readyz", summary="Every network is proven, and new work is taken", responses={503: NOT_READY})
async def get_readyz(request: Request) -> JSONResponse:
    service = service_of(request)
    status = "draining" if service.draining else "ready" if service.ready else "starting"
    providers = sorted({loaded.provider for loaded in service.loaded.values()})
    body = {"status": status, "providers": providers, "models": sorted(service.loaded)}
    return JSONResponse(body, 200 if status == "ready" else 503)

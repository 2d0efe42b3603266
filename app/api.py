"""HTTP: routes, what a request asks for, errors to problem documents (RFC 9457)."""

import logging
import math
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.body import Upload, receive_upload
from app.codes import check_readable, header_value, read_codes, read_when_whole
from app.decoder import DecodeLimits, SourceImage, decode, inspect
from app.errors import EnlargerError, OverloadedError
from app.generator import describe_generator
from app.parameters import MEDIA_TYPES, UpscaleParameters, parameter_error, parse_parameters, result_format
from app.scheduler import Scheduler
from app.settings import Settings
from app.streaming import PictureResponse
from app.upscaler import Pass, Work, open_job, plan_passes, prepare, upscale
from app.zoo import ModelFile, ModelSpec, Zoo

log = logging.getLogger("enlarger.api")
router = APIRouter()

PAGE = Path(__file__).parent / "page" / "index.html"
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Loaded:
    """What the engine really runs for a network."""

    precision: str
    file: ModelFile
    provider: str


@dataclass
class Service:
    """What the routes need, made by ``main.py``. ``ready`` is false until everything is proven and while draining."""

    settings: Settings
    zoo: Zoo
    scheduler: Scheduler
    loaded: dict[str, Loaded]  # by the network's title
    ready: bool = False
    draining: bool = False
    # One thread a request that is decoding or encoding just now; requests that wait for a reader hold none.
    limiter: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(64))

    @property
    def limits(self) -> DecodeLimits:
        return DecodeLimits(self.settings.max_pixels, self.settings.max_side)


def service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


# -- routes ------------------------------------------------------------------------------------------------------


BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "string", "format": "binary"}},
                    "additionalProperties": {"type": "string", "description": "any parameter of the query"},
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.post(
    "/upscale",
    summary="Enlarge a picture",
    response_class=Response,
    responses={200: {"content": {media_type: {} for media_type in MEDIA_TYPES}}},
    openapi_extra=BODY,
)
async def post_upscale(request: Request, query: Annotated[UpscaleParameters, Query()]) -> Response:
    """Takes a picture as the multipart file `image` or as the raw body, and streams the enlarged one back.

    Parameters may stand in the query or in the form.
    """
    service = service_of(request)
    service.scheduler.check_room()  # refused before the body is read
    upload, parameters = await receive(request)
    accept = request.headers.get("accept", "*/*")

    def decode_and_plan(image: bytes) -> Work:
        source = decode(image, service.limits)
        output = parameters.output(parameters.format or result_format(accept, source.format))
        size = parameters.result_size(source.height, source.width)
        specs = service.zoo.passes(parameters.model, size[0] / source.height, size[1] / source.width)
        if parameters.decode:
            check_readable(*size)
        return prepare(source, specs, output, service.settings.budget, size)

    work = await to_thread.run_sync(decode_and_plan, upload.image, limiter=service.limiter)
    codes = await to_thread.run_sync(codes_of, work.source, limiter=service.limiter) if parameters.decode else None
    job = open_job(work, service.scheduler, service.settings.request_deadline_seconds)
    headers, pieces = picture_headers(service, work), upscale(work, job)
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
    return read_codes(source.rows(0, source.height))


@router.post("/estimate", summary="What enlarging a picture would take", openapi_extra=BODY)
async def post_estimate(request: Request, query: Annotated[UpscaleParameters, Query()]) -> dict[str, Any]:
    """Takes what `POST /upscale` takes and tells the time and the size, without decoding or computing anything."""
    service = service_of(request)
    upload, parameters = await receive(request)
    header = inspect(upload.image, service.limits)
    height, width = parameters.result_size(header.height, header.width)
    specs = service.zoo.passes(parameters.model, height / header.height, width / header.width)
    passes = plan_passes((header.height, header.width), specs, service.settings.budget)
    return {
        "seconds": round(seconds_of(service, passes), 3),
        "queue_seconds": round(service.scheduler.backlog(), 3),
        "models": [each.spec.title for each in passes],
        "width": width,
        "height": height,
        "tiles": sum(each.plan.tiles for each in passes),
        "overlap": overlap_of(passes),
    }


async def receive(request: Request) -> tuple[Upload, UpscaleParameters]:
    """The image and the parameters of the query and the form, the form's counting where both have one."""
    settings = service_of(request).settings
    upload = await receive_upload(request, settings.max_body_bytes, settings.body_seconds)
    return upload, parse_parameters({**request.query_params, **upload.fields})


def picture_headers(service: Service, work: Work) -> dict[str, str]:
    specs = [each.spec for each in work.passes]
    loaded = [service.loaded[spec.title] for spec in specs]
    return {
        "Enlarger-Model": ", ".join(spec.title for spec in specs),
        "Enlarger-Model-Sha256": ", ".join(each.file.sha256 for each in loaded),
        "Enlarger-Provider": loaded[0].provider,
        "Enlarger-Precision": ", ".join(each.precision for each in loaded),
        "Enlarger-Output-Size": f"{work.picture.width}x{work.picture.height}",
        "Enlarger-Tiles": str(sum(each.plan.tiles for each in work.passes)),
        "Enlarger-Overlap": str(overlap_of(work.passes)),
        "Enlarger-Estimated-Seconds": f"{seconds_of(service, work.passes):.2f}",
        "Cache-Control": "no-store",
    }


def seconds_of(service: Service, passes: Sequence[Pass]) -> float:
    """The networks' time on an idle engine."""
    return sum(service.scheduler.estimate(each.spec, each.plan.computed_pixels) for each in passes)


def overlap_of(passes: Sequence[Pass]) -> float:
    """The share of LR pixels that is computed more than once, of all passes."""
    pixels = sum(each.plan.height * each.plan.width for each in passes)
    return round(sum(each.plan.computed_pixels for each in passes) / pixels - 1, 3)


@router.get("/models", summary="The networks that are loaded")
async def get_models(request: Request) -> dict[str, Any]:
    service = service_of(request)
    return {
        "default": service.zoo.default,
        "models": [describe_model(service, service.zoo.default, name) for name in service.zoo.names],
        "generators": [describe_generator(spec) for spec in service.zoo.generators],
    }


@router.get("/models/{name}", summary="One network")
async def get_model(request: Request, name: str) -> dict[str, Any]:
    service = service_of(request)
    for spec in service.zoo.generators:
        if spec.name == name:
            return describe_generator(spec)
    service.zoo.scales(name)  # raises for an unknown name
    return describe_model(service, service.zoo.default, name)


def describe_model(service: Service, default: str, name: str) -> dict[str, Any]:
    specs = [spec for spec in service.zoo if spec.name == name]
    return {
        "name": name,
        "default": name == default,
        "summary": specs[0].summary,
        "licence": specs[0].licence,
        "scales": [describe_scale(service, spec) for spec in sorted(specs, key=lambda spec: spec.scale)],
    }


def describe_scale(service: Service, spec: ModelSpec) -> dict[str, Any]:
    return {
        "scale": spec.scale,
        "architecture": spec.architecture,
        "provider": service.loaded[spec.title].provider,
        "precision": service.loaded[spec.title].precision,
        "parameters": spec.parameters,
        "macs_per_pixel": spec.macs,
        "seconds_per_megapixel": round(service.scheduler.estimate(spec, 1_000_000), 3),
        "context": spec.context,
        "files": {
            precision: {"sha256": file.sha256, "bytes": file.bytes, "metrics": file.metrics}
            for precision, file in spec.files.items()
        },
    }


@router.get("/healthz", summary="The process lives")
async def get_healthz() -> dict[str, str]:
    return {"status": "alive"}


@router.get("/readyz", summary="Every network is loaded and proven, and new work is taken")
async def get_readyz(request: Request) -> JSONResponse:
    service = service_of(request)
    status = "draining" if service.draining else "ready" if service.ready else "starting"
    providers = sorted({loaded.provider for loaded in service.loaded.values()})
    body = {"status": status, "providers": providers, "models": sorted(service.loaded)}
    return JSONResponse(body, 200 if status == "ready" else 503)


@router.get("/", include_in_schema=False)
async def get_page() -> HTMLResponse:
    return HTMLResponse(PAGE.read_text(encoding="utf-8"))


# -- errors ------------------------------------------------------------------------------------------------------


def problem(
    request: Request,
    status: int,
    code: str,
    title: str,
    detail: str,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    """An RFC 9457 document; members that do not apply are left out."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    body["request_id"] = request.scope.get("state", {}).get("request_id", "")
    body.update({name: value for name, value in more.items() if value is not None})
    return JSONResponse(body, status, headers, media_type=PROBLEM)


async def on_enlarger_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, EnlargerError)
    headers = {}
    if isinstance(error, OverloadedError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.status in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is not read
    return problem(
        request,
        error.status,
        error.code,
        error.title,
        error.detail,
        headers,
        limit=error.limit,
        actual=error.actual,
        retryable=error.retryable,
    )


async def on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return await on_enlarger_error(request, parameter_error(error.errors()[0]))


async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers) if error.headers else None
    code = status.phrase.lower().replace(" ", "_")
    return problem(request, status.value, code, status.phrase, f"{status.phrase}: {request.url.path}", headers)


async def on_bug(request: Request, error: Exception) -> JSONResponse:
    """An error nobody expected: told to the log in full, to the client only by its id."""
    # Starlette answers this outside of every middleware, RequestIds included.
    headers = {"X-Request-Id": request.scope.get("state", {}).get("request_id", "")}
    detail = "Something went wrong here; the log has it."
    return problem(request, 500, "internal_error", "Internal error", detail, headers)


def add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(EnlargerError, on_enlarger_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(Exception, on_bug)


# -- around every request ----------------------------------------------------------------------------------------


class RequestIds:
    """Gives every request an id, its own ``X-Request-Id`` if that is sane, and logs one line when it is answered.

    Pure ASGI: Starlette's ``BaseHTTPMiddleware`` would hide disconnects from the routes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_from(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = 500  # what a bug before the answer is answered with, out of sight of here

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            log.info("%s %s %d %.3f s id=%s", scope["method"], scope["path"], status, seconds, request_id)


def request_id_from(headers: Iterable[tuple[bytes, bytes]]) -> str:
    told = next((value for name, value in headers if name == b"x-request-id"), b"").decode("latin-1")
    sane = 0 < len(told) <= 64 and all(c.isascii() and (c.isalnum() or c in "-_.") for c in told)
    return told if sane else uuid.uuid4().hex

"""What a ``POST /jobs`` brings: a picture or where it lies, what is to be done with it, and who is to be told."""

import json
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import InvalidParameterError, MissingImageError
from app.http.service import service_of
from app.http.upload import bounded_body, receive_upload
from app.upscale.parameters import UpscaleParameters, given, parse_parameters

BESIDE = ("sink", "webhook")  # what an upload may bring beside the parameters
MAX_JSON_BYTES = 64 * 1024


class JobParameters(UpscaleParameters):
    """Parameters of ``POST /jobs`` with a picture."""

    sink: str | None = Field(
        None, max_length=4096, description="Where the result goes, in place of `/jobs/{id}/result`."
    )
    webhook: str | None = Field(None, max_length=4096, description="Told when the job is finished.")


@dataclass(frozen=True)
class JobRequest:
    """``image`` or ``source``, never both."""

    parameters: UpscaleParameters
    image: bytes | None = None
    filename: str | None = None
    source: str | None = None
    sink: str | None = None
    webhook: str | None = None


class JobDocument(BaseModel):
    """The JSON body of a job whose picture lies elsewhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(min_length=1, max_length=4096)
    sink: str | None = Field(None, max_length=4096)
    webhook: str | None = Field(None, max_length=4096)
    parameters: dict[str, Any] = Field(default_factory=dict)


async def receive_job(request: Request) -> JobRequest:
    settings = service_of(request).settings
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    pace = settings.advanced.body_seconds
    if content_type == "application/json":
        return parse_document(b"".join([c async for c in bounded_body(request, MAX_JSON_BYTES, pace)]))
    upload = await receive_upload(request, settings.max_body_bytes, pace)
    told = dict(given(request.query_params, upload.fields))
    beside = {name: told.pop(name) for name in BESIDE if name in told}
    return JobRequest(parse_parameters(told), upload.image, upload.filename, **beside)


def parse_document(body: bytes) -> JobRequest:
    try:
        document = JobDocument.model_validate(json.loads(body))
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "missing":
            raise MissingImageError("A job as JSON has a `source`.") from error
        raise InvalidParameterError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from error
    except ValueError as error:
        raise InvalidParameterError("The body is no JSON.") from error
    parameters = parse_parameters({name: text(value) for name, value in document.parameters.items()})
    return JobRequest(parameters, source=document.source, sink=document.sink, webhook=document.webhook)


def text(value: Any) -> str:
    """A parameter as a query would have it."""
    return str(value).lower() if isinstance(value, bool) else str(value)

"""Uploads: parses a request's body into the image's bytes and the form's fields, bounded in size and time."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import parse_qsl

import anyio
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from app.errors import (
    BadMultipartError,
    BodyTooLargeError,
    CancelledError,
    EmptyImageError,
    InvalidParameterError,
    MissingImageError,
    SlowBodyError,
    TooManyImagesError,
)
from app.http.preconditions import encoding_error, is_identity

FIELD = "image"
FORM = "application/x-www-form-urlencoded"
PACE_BYTES = 2**20  # each further piece of this size extends the deadline by the same time
MAX_FIELD_BYTES = 4096
HOW_TO_SEND = f"Send it as the multipart file {FIELD!r}, or as the raw body with an image/* content type."


@dataclass(frozen=True)
class Upload:
    """The bytes of one image, its file name if it has one, and the other form fields."""

    image: bytes
    filename: str | None
    fields: dict[str, str]


class InMemoryParser(MultiPartParser):
    """Starlette's parser without temporary files: the body is bounded anyway. ``complete``: the last boundary has
    arrived."""

    spool_max_size = 2**31
    complete = False

    def on_end(self) -> None:
        self.complete = True

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        part = self._current_part
        check_part_encoding(part.item_headers)
        if part.field_name == FIELD and part.file is None:  # as a text field it would be reported as too long
            raise MissingImageError(f"The part {FIELD!r} has no file name. {HOW_TO_SEND}")


def check_part_encoding(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raises ``UnsupportedEncodingError`` for a part with a content coding or transfer encoding (RFC 7578, 4.7)."""
    for name, value in headers:
        coding = value.decode("latin-1").strip()
        plain = name == b"content-transfer-encoding" and coding.lower() in ("7bit", "8bit", "binary")
        if name in (b"content-encoding", b"content-transfer-encoding") and not (plain or is_identity(coding)):
            raise encoding_error("part", coding)


async def receive_upload(request: Request, max_bytes: int, seconds: float) -> Upload:
    """Reads the whole body; raises one of the errors imported above if anything is wrong with it."""
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > max_bytes:
        raise BodyTooLargeError("The body is too large.", limit=max_bytes, actual=int(told))
    content_type = media_type(request)
    body = bounded_body(request, max_bytes, seconds)
    if content_type == "multipart/form-data":
        upload = await parse_multipart(request, body)
    elif content_type.startswith("image/") or content_type in ("", "application/octet-stream"):
        image = BytesIO()  # whose bytes are had without another copy
        async for chunk in body:
            image.write(chunk)
        upload = Upload(image.getvalue(), None, {})
    else:
        raise MissingImageError(f"A body of type {content_type[:60]!r} cannot hold an image. {HOW_TO_SEND}")
    if not upload.image:
        raise EmptyImageError("The image has no bytes.")
    return upload


async def bounded_body(request: Request, max_bytes: int, seconds: float) -> AsyncGenerator[bytes, None]:
    """The body's chunks; raises if it grows too large, arrives too slowly or is aborted."""
    received = 0
    deadline = anyio.current_time() + seconds
    chunks = request.stream()
    while True:
        try:
            with anyio.fail_after(deadline - anyio.current_time()):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise SlowBodyError("The body arrived too slowly.", limit=seconds) from error
        except ClientDisconnect as error:
            raise CancelledError("The client disconnected while sending.") from error
        if received // PACE_BYTES != (received + len(chunk)) // PACE_BYTES:
            deadline = anyio.current_time() + seconds
        received += len(chunk)
        if received > max_bytes:
            raise BodyTooLargeError("The body is too large.", limit=max_bytes, actual=received)
        yield chunk


async def parse_multipart(request: Request, body: AsyncGenerator[bytes, None]) -> Upload:
    """Exactly one file, named ``image``, and any other fields; of several fields of one name the last counts."""
    parser = InMemoryParser(request.headers, body, max_files=100, max_fields=100, max_part_size=MAX_FIELD_BYTES)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BadMultipartError(error.message) from error
    files = [(name, part) for name, part in form.multi_items() if isinstance(part, UploadFile)]
    try:
        if not parser.complete:
            raise BadMultipartError("The body ends before its last boundary.")
        if len(files) > 1:
            raise TooManyImagesError("Send one image per request.", limit=1, actual=len(files))
        if not files or files[0][0] != FIELD:
            raise MissingImageError(f"There is no image in the request. {HOW_TO_SEND}")
        image = await read_in_pieces(files[0][1])
    finally:
        await form.close()
    fields = {name: part for name, part in form.multi_items() if isinstance(part, str)}
    return Upload(image, files[0][1].filename, fields)


async def read_in_pieces(file: UploadFile) -> bytes:
    """Copying all of it at once would keep everybody waiting."""
    image = BytesIO()
    while piece := await file.read(PACE_BYTES):
        image.write(piece)
        await anyio.sleep(0)
    return image.getvalue()


async def receive_form(request: Request, max_bytes: int, seconds: float) -> dict[str, str]:
    """The fields of a small form; a body of any other type must be empty."""
    body = b"".join([chunk async for chunk in bounded_body(request, max_bytes, seconds)])
    if body and media_type(request) != FORM:
        raise InvalidParameterError(f"Parameters belong in the query or in a body of type {FORM}.")
    return dict(parse_qsl(body.decode("latin-1"), keep_blank_values=True))


def media_type(request: Request) -> str:
    """The media type of the body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()

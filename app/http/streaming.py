"""Streams the image as fast as the client reads it, and computes it no faster."""

import asyncio
import logging
from collections.abc import Iterator, Mapping

import anyio
from anyio import CapacityLimiter
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.errors import CancelledError, EnlargerError
from app.inference.job import Job
from app.telemetry.record import record_of
from app.threads import run_in_thread

log = logging.getLogger("enlarger.streaming")

CHUNK_BYTES = 256 * 2**10  # per write; the unit in which a client's pace is measured
STALL_SECONDS = 5.0
"""If a client takes no chunk for this long, the megabytes computed ahead for it are released: recomputing them takes
a fraction of the time that it needs to read the next piece."""


class PictureResponse(Response):
    """An image, computed as the client reads it.

    An error before the first piece is raised and answered as a problem document. An error after it aborts the
    connection: the chunked body is left without its end, so that no client takes a truncated image for a complete
    one. A client that disconnects, or needs more than ``seconds`` for a chunk, cancels the job within one tile.
    """

    def __init__(
        self,
        pieces: Iterator[bytes],
        job: Job,
        limiter: CapacityLimiter,
        seconds: float,
        media_type: str,
        headers: Mapping[str, str],
    ) -> None:
        self.status_code, self.media_type, self.background = 200, media_type, None
        self.init_headers(headers)
        self._pieces, self._job = pieces, job
        self._limiter, self._seconds = limiter, seconds
        self._piece: bytes | None = None  # the next piece to be sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused: EnlargerError | None = None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(watch, receive, self._job)
                try:
                    self._piece = await self._next_piece()
                except EnlargerError as error:
                    refused = error
                else:
                    await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                    await self._send_all(send, scope)
                group.cancel_scope.cancel()
        finally:
            self._job.close()
        if refused:  # raised outside the task group, which would wrap it in a group
            raise refused

    async def _next_piece(self) -> bytes | None:
        return await run_in_thread(next, self._pieces, None, limiter=self._limiter)

    async def _send_all(self, send: Send, scope: Scope) -> None:
        """Returns without the final empty chunk if anything fails, which makes the server abort the connection."""
        record = record_of(scope)
        record.outcome = "broken"  # until it turns out otherwise
        try:
            while self._piece is not None:
                with self._job.clock.stage("send"):
                    await self._send_piece(send)
                self._piece = await self._next_piece()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            record.outcome = "cancelled" if self._job.cancelled else "answered"
        except CancelledError:
            record.outcome = "cancelled"
            log.info("the client disconnected")
        except TimeoutError:
            record.outcome = "too_slow"
            log.info("aborted: the client took longer for a chunk than %g s", self._seconds)
            if cut := scope["state"].get("cut"):  # set by Protocol
                cut()
        except EnlargerError as error:
            log.error("transfer aborted: %s: %s", error.code, error.detail)

    async def _send_piece(self, send: Send) -> None:
        piece, self._piece = self._piece or b"", None  # released before the next one is computed
        for start in range(0, len(piece), CHUNK_BYTES):
            stalled = asyncio.get_running_loop().call_later(STALL_SECONDS, self._job.let_go)
            try:
                with anyio.fail_after(self._seconds):
                    chunk = piece[start : start + CHUNK_BYTES]
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            finally:
                stalled.cancel()
            if self._job.cancelled:
                raise CancelledError("The client disconnected.")


async def watch(receive: Receive, job: Job) -> None:
    """Cancels the job when the client disconnects; the computing thread then stops at its next wait.

    A function and not a method, because the traceback of its own cancellation keeps its arguments alive until the next
    garbage collection, and those would include the image and everything computed for it.
    """
    while (await receive())["type"] != "http.disconnect":
        pass
    job.cancel()

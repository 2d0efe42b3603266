"""A client of the service's jobs: hands pictures in, follows them, fetches results, goes on where it broke off."""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from app.errors import EnlargerError, UnreachableError

TRIES = 8  # of a request that fails in a way that may pass
SECONDS = 60.0
BUSY = (409, 429, 502, 503, 504)
FINISHED = ("succeeded", "failed", "canceled")


class RemoteError(EnlargerError):
    """The service has refused; ``detail`` is its own."""

    code, title = "refused", "The service has refused"


class Remote:
    """``key``: an API key, if the service wants one."""

    def __init__(self, url: str, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=SECONDS)

    def close(self) -> None:
        self._client.close()

    def submit(self, image: bytes, filename: str, parameters: Mapping[str, str]) -> dict[str, Any] | None:
        """The job, the same one where it was handed in before, unless that has failed; None where the service keeps no
        jobs."""
        asked = repr((filename, sorted(parameters.items()))).encode()
        digest = hashlib.sha256(asked + hashlib.sha256(image).digest()).hexdigest()
        request = {"files": {"image": (filename, image)}, "data": dict(parameters)}
        answer = self._ask("POST", "/jobs", headers={"Idempotency-Key": digest}, **request)
        if answer is not None and job_in(answer)["status"] in ("failed", "canceled"):  # some time ago
            self._ask("DELETE", job_in(answer)["urls"]["cancel"])
            answer = self._ask("POST", "/jobs", headers={"Idempotency-Key": digest}, **request)
        return None if answer is None else job_in(answer)

    def submit_url(self, source: str, sink: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        """A job whose picture lies where the service finds it itself."""
        body = {"source": source, "sink": sink, "parameters": dict(parameters)}
        answer = self._ask("POST", "/jobs", json=body)
        if answer is None:
            raise RemoteError("This service keeps no jobs.")
        return job_in(answer)

    def look(self, job: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        """The job as it is now, and the seconds after which to look again."""
        answer = self._ask("GET", job["urls"]["get"])
        if answer is None:
            raise RemoteError("The service does not know the job any more.")
        return job_in(answer), min(5.0, float(answer.headers.get("Retry-After", 1)))

    def follow(self, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The job at each look, until it is finished."""
        while job["status"] not in FINISHED:
            yield job
            job, seconds = self.look(job)
            if job["status"] not in FINISHED:
                time.sleep(seconds)
        yield job

    def fetch(self, job: Mapping[str, Any], target: Path) -> None:
        """The result into a file that is there whole or not at all; a part that came before is not fetched again."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{job['id']}.part")
        for _ in range(TRIES):
            try:
                if self._fetch_rest(job["urls"]["result"], part):
                    os.replace(part, target)
                    return
            except httpx.TransportError:
                time.sleep(1)
        raise UnreachableError("The result could not be fetched.")

    def _fetch_rest(self, url: str, part: Path) -> bool:
        """Whether it is whole now."""
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._client.stream("GET", url, headers=headers) as answer:
            if answer.status_code == 416:
                return True
            if answer.is_error:
                answer.read()
                raise RemoteError(detail_of(answer))
            with open(part, "ab" if answer.status_code == 206 else "wb") as file:
                for piece in answer.iter_raw():
                    file.write(piece)
        return True

    def stream(self, image: bytes, filename: str, parameters: Mapping[str, str], target: Path) -> None:
        """The streamed way, of a service that keeps no jobs."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        files, data = {"image": (filename, image)}, dict(parameters)
        try:
            with self._client.stream("POST", "/upscale", files=files, data=data) as answer:
                if answer.is_error:
                    answer.read()
                    raise RemoteError(detail_of(answer))
                with open(part, "wb") as file:
                    for piece in answer.iter_bytes():
                        file.write(piece)
            os.replace(part, target)
        except httpx.TransportError as error:
            raise UnreachableError("The transfer broke off.") from error
        finally:
            part.unlink(missing_ok=True)

    def _ask(self, method: str, path: str, **request: Any) -> httpx.Response | None:
        """The answer; None for 404. A busy service is asked again when it says, one that is away some seconds later."""
        for attempt in range(TRIES):
            try:
                answer = self._client.request(method, path, **request)
            except httpx.TransportError:
                time.sleep(min(10.0, 2.0**attempt / 4))
                continue
            if answer.status_code == 404:
                return None
            if answer.status_code in BUSY:
                time.sleep(min(30.0, float(answer.headers.get("Retry-After", 2.0**attempt / 4))))
                continue
            if answer.is_error:
                raise RemoteError(detail_of(answer))
            return answer
        raise UnreachableError(f"{self._client.base_url} cannot be reached.")


def job_in(answer: httpx.Response) -> dict[str, Any]:
    job: dict[str, Any] = answer.json()
    return job


def detail_of(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"The service answered {answer.status_code}."

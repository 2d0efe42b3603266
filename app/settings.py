"""The environment, read once: frozen and validated settings."""

import base64
import json
import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, IPvAnyNetwork, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.threads import usable_cores

MODELS = Path(__file__).resolve().parent.parent / "models"

PROCESS_BYTES = 360_000_000  # with the shipped networks and their activations on a CPU
OPENVINO_BYTES = 240_000_000  # more, where it is loaded: its code, what it has compiled, and its activations
DECODE_BYTES = 16  # a LR pixel, at most, while it is decoded: see formats/base.py
SLOT_BANDS = 4  # of most requests: one stitched, up to two encoded (noise), and room for
SLOT_BYTES = 24 * 2**20  # the windows ahead of them (passes.py); what takes more takes several slots (memory.py)

ProviderName = Literal["auto", "cpu", "cuda", "tensorrt", "openvino"]
PrecisionName = Literal["auto", "fp32", "bf16", "int8", "fp16"]
LogFormat = Literal["text", "json"]


PREFIX = "ENLARGER_"
_INJECTED = ("ENLARGER_SERVICE_", "ENLARGER_PORT_")
"""Variables that Kubernetes puts into every pod of a namespace with a Service called ``enlarger``."""


class Settings(BaseSettings):
    """Every setting is an environment variable ``ENLARGER_<NAME>``; a wrong value or name stops the start."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65_535)
    models: Path = MODELS

    provider: ProviderName = "auto"
    """``auto``: CUDA where it works, else CPU: by OpenVINO where it is installed and faster for a network, else by ONNX
    Runtime. A named one must work, or the service does not start; ``tensorrt`` only where it is named, because it
    builds its engines for minutes."""
    precision: PrecisionName = "auto"
    """Which of a network's files is run. ``int8``: over twice as fast on a CPU, some hundredths of a dB worse, 8 bits
    deep; a network without such a file keeps ``fp32``. ``auto``: ``fp32`` on a CPU, or ``bf16`` by OpenVINO where the
    processor computes that; ``fp16`` on a GPU."""
    gpu_memory_bytes: int = Field(0, ge=0)
    """The most that each network may hold on the GPU; 0: no limit."""
    threads: int = Field(0, ge=0)
    """Compute threads, and pictures decoded at a time; 0: as many as this process may use."""

    max_body_bytes: int = Field(64 * 2**20, ge=1)
    max_requests: int = Field(64, ge=1)
    """Requests that bring or fetch a picture at a time; a further one is refused with 429. Those of which one takes
    more than ``slot_bytes`` count for several."""
    max_upload_bytes: int = Field(256 * 2**20, ge=1)
    """Of the bodies held at a time, all requests together; what would be more is refused with 429."""
    max_pixels: int = Field(50_000_000, ge=1, le=89_000_000)
    """LR pixels of one picture, told from its header before anything is decoded."""
    max_side: int = Field(32_768, ge=1)

    tile_pixels: int = Field(114_688, ge=4096)
    """LR pixels of the largest tile."""
    tile_bytes: int = Field(1792 * 2**20, ge=2**20)
    """Memory that one tile of an imported network may take; with less, a dear one computes more pixels twice."""
    band_bytes: int = Field(24 * 2**20, ge=2**20)
    """Bytes of the result's rows in one band: bounds a request's memory and the time to its first byte."""

    max_queue_seconds: float = Field(60, gt=0)
    """Requests are refused with 429 while the accepted work is estimated to take longer than this."""
    request_deadline_seconds: float = Field(300, gt=0)
    body_seconds: float = Field(30, gt=0)
    """A body must arrive at this pace: the whole of a small one, or each further 1 MiB."""
    send_seconds: float = Field(60, gt=0)
    """A client must take each 256 KiB of the result within this time, or it is cut off."""
    drain_seconds: float = Field(30, gt=0)
    """How long requests in flight may go on after SIGTERM and the drain delay."""
    drain_delay_seconds: float = Field(0, ge=0)
    """How long after SIGTERM the port stays open, ``/readyz`` says 503 and new work is refused with 503, so that a
    balancer learns of it before connections are refused."""

    log_format: LogFormat = "text"
    tracing: bool = False
    """Spans by OpenTelemetry's OTLP exporter, set by its own ``OTEL_*`` variables; needs the extra ``otel``."""

    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Any of them lets in, to everything but health, documents and the pages' files; without keys everyone may come."""

    study: Path | None = None
    """A folder of pictures; with it there is a blind comparison of the models at ``/study``."""
    study_scale: int = Field(4, ge=2, le=4)
    study_original: bool = True
    """The study's pictures are reduced by its scale, enlarged again and compared with themselves. Off: enlarged as they
    are, with no original to compare with."""
    study_invitation: SecretStr | None = None
    """What a participant's link carries (``/study?invitation=...``); with it, or with keys, nobody else takes part."""
    study_database: Path | None = None
    """Where the ratings are kept; without it ``study.sqlite3`` in the study's folder."""

    jobs: str | None = None
    """A folder, or the URL of a PostgreSQL database that replicas share; with it there is ``/jobs``."""
    jobs_store: str | None = None
    """Where the jobs' pictures lie: a folder, or ``s3://bucket/prefix`` and its like; by default in that folder."""
    jobs_retention_seconds: float = Field(24 * 3600, gt=0)
    """How long a finished job and its picture are kept."""
    jobs_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Hosts that jobs may read from, write to and tell: names, ``*.example.org`` or ``*``; without any, none."""
    jobs_networks: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = ()
    """Private networks in which those hosts may lie, like ``10.1.0.0/16``; without any, public addresses alone."""
    jobs_buckets: Annotated[tuple[str, ...], NoDecode] = ()
    """Buckets, or folders in them, that jobs may read from and write to, like ``s3://photos/in``."""
    jobs_webhook_secret: SecretStr | None = None
    """``whsec_`` and a key in base64, with which webhooks are signed; without it there are none."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()

    @model_validator(mode="after")
    def _no_unknown_names(self) -> Self:
        if unknown := list(misspelt(os.environ, type(self).model_fields)):
            raise ValueError(" ".join(unknown))
        return self

    @field_validator("api_keys", "cors_origins", "jobs_hosts", "jobs_networks", "jobs_buckets", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        """A list as JSON, or its members with commas between."""
        if not isinstance(value, str):
            return value
        return json.loads(value) if value.lstrip().startswith("[") else value.split(",")

    @field_validator("api_keys")
    @classmethod
    def _no_blank_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        """A blank key would let in whoever sends none."""
        if any(not key.get_secret_value().strip() for key in keys):
            raise ValueError("a key is blank; leave the setting out if everyone may come")
        return keys

    @field_validator("study_invitation")
    @classmethod
    def _no_blank_invitation(cls, invitation: SecretStr | None) -> SecretStr | None:
        if invitation is not None and not invitation.get_secret_value().strip():
            raise ValueError("it is blank; leave the setting out if everyone may take part")
        return invitation

    @model_validator(mode="after")
    def jobs_can_be_kept(self) -> Self:
        if self.jobs and "://" in self.jobs and not self.jobs.startswith(("postgresql://", "postgres://")):
            raise ValueError("jobs is a folder or a postgresql:// URL")
        if self.jobs_webhook_secret and not is_webhook_secret(self.jobs_webhook_secret.get_secret_value()):
            raise ValueError("jobs_webhook_secret is whsec_ and at least 24 bytes in base64")
        return self

    @property
    def compute_threads(self) -> int:
        """Also how many pictures are decoded at a time."""
        return self.threads or usable_cores()

    @property
    def most_bytes(self) -> int:
        """What the process' memory stays below on a CPU, whatever is sent to it: the process, the bodies, the pictures
        being decoded, and what each request in the service holds."""
        decoding = self.compute_threads * (DECODE_BYTES * self.max_pixels + self.max_body_bytes)
        process = PROCESS_BYTES + OPENVINO_BYTES * self.loads_openvino
        return process + self.max_upload_bytes + decoding + self.max_requests * self.slot_bytes

    @property
    def loads_openvino(self) -> bool:
        """Whether it is asked for, or there for ``auto`` to try."""
        return self.provider in ("auto", "openvino") and find_spec("openvino") is not None

    @property
    def slot_bytes(self) -> int:
        """What a request holds of the service's memory, or a multiple of it."""
        return SLOT_BANDS * self.band_bytes + SLOT_BYTES


def is_webhook_secret(secret: str) -> bool:
    """As Standard Webhooks has them."""
    try:
        return secret.startswith("whsec_") and len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) >= 24
    except ValueError:
        return False


def misspelt(environment: Iterable[str], fields: Iterable[str]) -> Iterator[str]:
    """For each variable that looks like a setting and is none, a sentence that says so."""
    known = [PREFIX + field.upper() for field in fields]
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known and not name.startswith(_INJECTED):
            near = get_close_matches(name.upper(), known, n=1, cutoff=0.8)
            yield f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else ".")

"""The environment, read once: validated, frozen settings. ``docs/settings.md`` lists them."""

import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    model_validator,
)
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from app.threads import usable_cores

MODELS = Path(__file__).resolve().parent.parent / "models"

PROCESS_BYTES = 360_000_000  # with the shipped networks and their activations on a CPU
OPENVINO_BYTES = 240_000_000  # more if it is loaded: its code, compiled networks and activations
DECODE_BYTES = 17  # per LR pixel, at most, during decoding: see formats/base.py
SLOT_BANDS = 4  # of a typical request: one stitched, up to two encoded (noise), and room for
SLOT_BYTES = 24 * 2**20  # the windows ahead (passes.py); requests that need more take several slots (memory.py)

PREFIX = "ENLARGER_"
UNNAMED = ("advanced", "folder", "location")
"""Parts of a setting's path that its variable leaves out: ``study.folder`` is ``ENLARGER_STUDY``."""
_INJECTED = ("ENLARGER_SERVICE_", "ENLARGER_PORT_")
"""Variables that Kubernetes puts into every pod of a namespace with a Service called ``enlarger``."""

CLIENT_KEY = "ENLARGER_REMOTE_KEY"
"""The key that ``enlarger --remote`` sends to a service; not a setting of the service."""

ProviderName = Literal["auto", "cpu", "cuda", "tensorrt", "openvino"]
PrecisionName = Literal["auto", "fp32", "bf16", "int8", "fp16"]
LogFormat = Literal["text", "json"]


def split(value: Any) -> Any:
    """A list as JSON, or its members separated by commas."""
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.lstrip().startswith("[") else value.split(",")


def not_blank(secret: SecretStr) -> SecretStr:
    """A blank one would admit whoever sends none."""
    if not secret.get_secret_value().strip():
        raise ValueError("it is blank; to admit everyone, leave the setting out")
    return secret


def signing_key(secret: SecretStr) -> SecretStr:
    """In the form of Standard Webhooks."""
    text = secret.get_secret_value()
    try:
        if text.startswith("whsec_") and len(base64.b64decode(text.removeprefix("whsec_"), validate=True)) >= 24:
            return secret
    except ValueError:
        pass
    raise ValueError("it must be whsec_ and at least 24 bytes in base64")


def folder_or_database(location: str) -> str:
    if "://" in location and not location.startswith(("postgresql://", "postgres://")):
        raise ValueError("it must be a folder or a postgresql:// URL")
    return location


Strings = Annotated[tuple[str, ...], BeforeValidator(split)]
Secret = Annotated[SecretStr, AfterValidator(not_blank)]


class Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StudySettings(Group):
    """The blind comparison at ``/study``."""

    folder: Path | None = None
    """A folder of images; without it there is no study."""
    scale: int = Field(4, ge=2, le=4)
    original: bool = True
    """Reduce the study's images by its scale, enlarge them again and compare them with the original. If false, they
    are enlarged as they are, with no original to compare with."""
    invitation: Secret | None = None
    """The token in a participant's link (``/study?invitation=...``); with it, or with API keys, nobody else can take
    part."""
    database: Path | None = None
    """The file of the ratings; default: ``study.sqlite3`` in the folder."""


class JobsSettings(Group):
    """Work that outlives a connection, at ``/jobs``."""

    location: Annotated[str, AfterValidator(folder_or_database)] | None = None
    """A folder, or the URL of a PostgreSQL database that replicas share; without it there are no jobs."""
    store: str | None = None
    """Where the jobs' images lie: a folder, or ``s3://bucket/prefix`` and the like; default: in that folder."""
    retention_seconds: float = Field(24 * 3600, gt=0)
    """How long a finished job and its image are kept."""
    hosts: Strings = ()
    """Hosts that jobs may read from, write to and notify: names, ``*.example.org`` or ``*``; default: none."""
    networks: Annotated[tuple[IPvAnyNetwork, ...], BeforeValidator(split)] = ()
    """Private networks in which those hosts may lie, such as ``10.1.0.0/16``; default: public addresses only."""
    buckets: Strings = ()
    """Buckets, or prefixes in them, that jobs may read from and write to, such as ``s3://photos/in``."""
    webhook_secret: Annotated[SecretStr, AfterValidator(signing_key)] | None = None
    """``whsec_`` and a base64 key that signs webhooks; without it there are none."""


class AdvancedSettings(Group):
    """Settings that few deployments change."""

    gpu_memory_bytes: int = Field(0, ge=0)
    """The most that each network may hold on the GPU; 0: no limit."""
    max_side: int = Field(32_768, ge=1)
    """The longest side of an input image, in pixels."""
    tile_pixels: int = Field(114_688, ge=4096)
    """LR pixels of the largest tile."""
    tile_bytes: int = Field(1792 * 2**20, ge=2**20)
    """Memory that one tile of an imported network may take; with less, an expensive network computes more pixels
    twice."""
    band_bytes: int = Field(24 * 2**20, ge=2**20)
    """Bytes of the result's rows in one band: bounds a request's memory and the time to its first byte."""
    body_seconds: float = Field(30, gt=0)
    """Time for the headers, for the body, and again for each further MiB of it."""
    send_seconds: float = Field(60, gt=0)
    """A client must take each 256 KiB of the result within this time, or it is disconnected."""


class Settings(BaseSettings):
    """Every setting is an environment variable (``variable`` names it); a wrong value or name stops the start."""

    model_config = SettingsConfigDict(frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65_535)
    models: Path = MODELS
    default_model: str = "auto"

    provider: ProviderName = "auto"
    """``auto``: CUDA if it works, else the CPU, with OpenVINO for the networks that it runs faster, else ONNX
    Runtime. A named provider must work, or the service does not start; ``tensorrt`` must be named, because it builds
    its engines for minutes."""
    precision: PrecisionName = "auto"
    """Which of a network's files is run. ``int8``: over twice as fast on a CPU, some hundredths of a dB worse, 8
    bits deep; a network without such a file keeps ``fp32``. ``auto``: ``fp32`` on a CPU, ``bf16`` with OpenVINO if
    the processor computes it, ``fp16`` on a GPU."""
    threads: int = Field(0, ge=0)
    """Compute threads, and images decoded at a time; 0: as many as this process may use."""

    api_keys: Annotated[tuple[Secret, ...], BeforeValidator(split)] = ()
    """Any of these keys gives access to everything; without one only health, documentation and the pages' files are
    served. If no keys are set, everyone has access."""
    cors_origins: Strings = ()

    max_requests: int = Field(64, ge=1)
    """Maximum number of concurrent image requests; further ones get 429. One that takes more than ``slot_bytes``
    counts as several."""
    max_body_bytes: int = Field(64 * 2**20, ge=1)
    max_upload_bytes: int = Field(256 * 2**20, ge=1)
    """Maximum bytes of all bodies together; further uploads get 429."""
    max_pixels: int = Field(50_000_000, ge=1, le=89_000_000)
    """LR pixels of one image, checked in its header before anything is decoded."""
    max_queue_seconds: float = Field(60, gt=0)
    """While the accepted work is estimated to take longer than this, requests get 429."""
    request_deadline_seconds: float = Field(300, gt=0)
    drain_seconds: float = Field(30, gt=0)
    """How long requests in flight may continue after SIGTERM and the drain delay."""
    drain_delay_seconds: float = Field(0, ge=0)
    """How long after SIGTERM the port stays open while ``/readyz`` and new work get 503, so that a balancer notices
    before connections are refused."""

    log_format: LogFormat = "text"
    tracing: bool = False
    """Spans sent by OpenTelemetry's OTLP exporter, configured by its own ``OTEL_*`` variables; needs the extra
    ``otel``."""

    study: StudySettings = StudySettings()
    jobs: JobsSettings = JobsSettings()
    advanced: AdvancedSettings = AdvancedSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, InitSettingsSource(settings_cls, nested(os.environ))

    @model_validator(mode="after")
    def _no_unknown_names(self) -> Self:
        if unknown := list(misspelt(os.environ)):
            raise ValueError(" ".join(unknown))
        return self

    @property
    def compute_threads(self) -> int:
        """Also how many images are decoded at a time."""
        return self.threads or usable_cores()

    @property
    def most_bytes(self) -> int:
        """The bound on the process' memory on a CPU, whatever is sent to it: the process itself, the bodies, the
        images being decoded, and what each request holds."""
        decoding = self.compute_threads * (DECODE_BYTES * self.max_pixels + self.max_body_bytes)
        process = PROCESS_BYTES + OPENVINO_BYTES * self.loads_openvino
        return process + self.max_upload_bytes + decoding + self.max_requests * self.slot_bytes

    @property
    def loads_openvino(self) -> bool:
        """Whether it is asked for, or installed for ``auto`` to try."""
        return self.provider in ("auto", "openvino") and find_spec("openvino") is not None

    @property
    def slot_bytes(self) -> int:
        """The memory of the service that a request holds; larger requests hold a multiple of it."""
        return SLOT_BANDS * self.advanced.band_bytes + SLOT_BYTES


def variable(*path: str) -> str:
    """The environment variable of a setting: ``study.scale`` is ``ENLARGER_STUDY_SCALE``."""
    return PREFIX + "_".join(part for part in path if part not in UNNAMED).upper()


def variables() -> dict[str, tuple[str, ...]]:
    """Every environment variable that is a setting, and the path of that setting."""
    paths: list[tuple[str, ...]] = []
    for name, field in Settings.model_fields.items():
        group = field.default
        paths += [(name, each) for each in type(group).model_fields] if isinstance(group, Group) else [(name,)]
    return {variable(*path): path for path in paths}


def nested(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings among environment variables, as ``Settings`` has them."""
    values: dict[str, Any] = {}
    known = variables()
    for name, value in environment.items():
        if path := known.get(name.upper()):
            (values.setdefault(path[0], {}) if path[1:] else values)[path[-1]] = value
    return values


def misspelt(environment: Iterable[str]) -> Iterator[str]:
    """For each variable that looks like a setting and is none, a sentence that says so."""
    known = [CLIENT_KEY, *variables()]
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known and not name.startswith(_INJECTED):
            near = get_close_matches(name.upper(), known, n=1, cutoff=0.8)
            yield f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ".")

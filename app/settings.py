"""The environment, read once: frozen and validated settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.threads import usable_cores

MODELS = Path(__file__).resolve().parent.parent / "models"

PROCESS_BYTES = 360_000_000  # with the shipped networks and their activations on a CPU
DECODE_BYTES = 16  # a LR pixel, at most, while it is decoded: see formats/base.py
SLOT_BANDS = 4  # of most requests: one stitched, up to two encoded (noise), and room for
SLOT_BYTES = 24 * 2**20  # the windows ahead of them (passes.py); what takes more takes several slots (memory.py)

ProviderName = Literal["auto", "cpu", "cuda", "tensorrt"]
PrecisionName = Literal["auto", "fp32", "int8", "fp16"]
LogFormat = Literal["text", "json"]


class Settings(BaseSettings):
    """Every setting is an environment variable ``ENLARGER_<NAME>``; a wrong value stops the start."""

    model_config = SettingsConfigDict(env_prefix="ENLARGER_", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65_535)
    models: Path = MODELS

    provider: ProviderName = "auto"
    """``auto``: CUDA where it works, else CPU. A named one must work, or the service does not start; ``tensorrt`` only
    where it is named, because it builds its engines for minutes."""
    precision: PrecisionName = "auto"
    """Which of a network's files is run. ``int8``: over twice as fast on a CPU, some hundredths of a dB worse, 8 bits
    deep; a network without such a file keeps ``fp32``. ``auto``: ``fp32`` on a CPU, ``fp16`` on a GPU."""
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

    api_keys: tuple[SecretStr, ...] = ()
    """Any of them lets in; without keys everyone may come."""

    study: Path | None = None
    """A folder of pictures; with it there is a blind comparison of the models at ``/study``."""
    study_scale: int = Field(4, ge=2, le=4)
    study_original: bool = True
    """The study's pictures are reduced by its scale, enlarged again and compared with themselves. Off: enlarged as they
    are, with no original to compare with."""
    study_database: Path | None = None
    """Where the ratings are kept; without it ``study.sqlite3`` in the study's folder."""

    cors_origins: tuple[str, ...] = ()

    @property
    def compute_threads(self) -> int:
        """Also how many pictures are decoded at a time."""
        return self.threads or usable_cores()

    @property
    def most_bytes(self) -> int:
        """What the process' memory stays below on a CPU, whatever is sent to it: the process, the bodies, the pictures
        being decoded, and what each request in the service holds."""
        decoding = self.compute_threads * (DECODE_BYTES * self.max_pixels + self.max_body_bytes)
        return PROCESS_BYTES + self.max_upload_bytes + decoding + self.max_requests * self.slot_bytes

    @property
    def slot_bytes(self) -> int:
        """What a request holds of the service's memory, or a multiple of it."""
        return SLOT_BANDS * self.band_bytes + SLOT_BYTES

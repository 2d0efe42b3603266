"""Everything that can go wrong, as one tree: each error knows its HTTP status, its code and its public message.

The decoder, the scheduler and the rest raise these. ``http/problems.py`` alone turns them into RFC 9457 problem
documents, and ``cli`` alone into a line on standard error. ``detail`` is always safe to show to a stranger.
"""

from typing import ClassVar


class EnlargerError(Exception):
    """An expected failure with a public explanation.

    ``limit`` and ``actual``: the figure that was exceeded and the one that was found, if there is such a figure.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, limit: int | float | None = None, actual: int | float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.limit = limit
        self.actual = actual


# -- the request itself ------------------------------------------------------------------------------------------


class BadMultipartError(EnlargerError):
    status, code, title = 400, "bad_multipart", "Malformed multipart body"


class MissingImageError(EnlargerError):
    status, code, title = 400, "missing_image", "No image in the request"


class TooManyImagesError(EnlargerError):
    status, code, title = 400, "too_many_images", "More than one image in the request"


class EmptyImageError(EnlargerError):
    status, code, title = 400, "empty_image", "The image has no bytes"


class SlowBodyError(EnlargerError):
    status, code, title, retryable = 408, "body_too_slow", "The body did not arrive in time", True


class BodyTooLargeError(EnlargerError):
    status, code, title = 413, "body_too_large", "Body too large"


class UnsupportedEncodingError(EnlargerError):
    status, code, title = 415, "unsupported_encoding", "The body has a content coding"


class HttpVersionError(EnlargerError):
    status, code, title = 426, "http_1_1_required", "HTTP/1.1 required"


class InvalidParameterError(EnlargerError):
    status, code, title = 422, "invalid_parameter", "Parameter out of range"


class UnauthorizedError(EnlargerError):
    status, code, title = 401, "unauthorized", "An API key is required"


class UnknownModelError(EnlargerError):
    status, code, title = 404, "unknown_model", "No such model"


class UnknownScaleError(EnlargerError):
    status, code, title = 422, "unknown_scale", "The model has no such scale"


class OutputFormatError(EnlargerError):
    status, code, title = 422, "unknown_format", "No such output format"


class CodesUnavailableError(EnlargerError):
    status, code, title = 501, "decode_unavailable", "No bar code reader is installed"


# -- the image -------------------------------------------------------------------------------------------------


class UnsupportedFormatError(EnlargerError):
    status, code, title = 415, "unsupported_format", "Not a supported image format"


class CorruptImageError(EnlargerError):
    status, code, title = 422, "corrupt_image", "The image cannot be decoded"


class TooManyPixelsError(EnlargerError):
    status, code, title = 422, "too_many_pixels", "Too many pixels"


class CrashedBeforeError(EnlargerError):
    status, code, title = 422, "crashed_before", "The service has crashed on this image"


class TooComplexError(EnlargerError):
    status, code, title = 422, "too_complex", "The image is too complex to decode"


class UnfitFormatError(EnlargerError):
    status, code, title = 422, "unfit_format", "The output format cannot hold this"


class OutputTooLargeError(EnlargerError):
    status, code, title = 422, "output_too_large", "The result does not fit the output format"


class TooMuchWorkError(EnlargerError):
    """Decided by the header alone: on this machine, with this network, it would take longer than a request may."""

    status, code, title = 422, "too_much_work", "The image would take too long"


class TooMuchMemoryError(EnlargerError):
    """The memory that this service has for images would not suffice to compute and send this one."""

    status, code, title = 422, "too_much_memory", "The image would take too much memory"


# -- the study ---------------------------------------------------------------------------------------------------


class UnknownTrialError(EnlargerError):
    status, code, title = 404, "unknown_trial", "No such trial"


class StudyFullError(EnlargerError):
    status, code, title = 409, "study_full", "The study accepts no more ratings"


# -- jobs --------------------------------------------------------------------------------------------------------


class UnknownJobError(EnlargerError):
    status, code, title = 404, "unknown_job", "No such job"


class ExpiredJobError(EnlargerError):
    status, code, title = 410, "job_expired", "The job has expired"


class UnfinishedJobError(EnlargerError):
    status, code, title, retryable = 409, "job_not_finished", "The job has no result yet", True


class CanceledJobError(EnlargerError):
    status, code, title = 409, "job_canceled", "The job was canceled"


class ResultElsewhereError(EnlargerError):
    status, code, title = 404, "result_elsewhere", "The result was sent to the job's sink"


class FailedJobError(EnlargerError):
    status, code, title = 422, "job_failed", "The job failed"


class RepeatedRequestError(EnlargerError):
    """A request with the same ``Idempotency-Key`` is being answered at the moment."""

    status, code, title, retryable = 409, "request_in_progress", "The same request is in progress", True


class ReusedKeyError(EnlargerError):
    status, code, title = 422, "idempotency_key_reused", "The Idempotency-Key belongs to another request"


class ForbiddenUrlError(EnlargerError):
    status, code, title = 422, "forbidden_url", "The service may not reach this URL"


class SourceError(EnlargerError):
    status, code, title = 422, "source_unavailable", "The source or the sink did not answer as it should"


class UnreachableError(SourceError):
    """Possibly temporary: whoever works on the job retries it."""

    retryable = True


class RangeError(EnlargerError):
    status, code, title = 416, "range_not_satisfiable", "The result has no such range"


class StoreError(EnlargerError):
    status, code, title, retryable = 503, "store_unavailable", "The object store cannot be reached", True


class JobsUnavailableError(EnlargerError):
    status, code, title, retryable = 503, "jobs_unavailable", "The jobs' database cannot be reached", True


# -- the service -------------------------------------------------------------------------------------------------


class OverloadedError(EnlargerError):
    """The queue is full; ``retry_after`` is the measured number of seconds until there is room."""

    status, code, title, retryable = 429, "overloaded", "Too much work is queued", True

    def __init__(self, detail: str, *, retry_after: float, limit: float | None = None, actual: float | None = None):
        super().__init__(detail, limit=limit, actual=actual)
        self.retry_after = retry_after


class ShuttingDownError(EnlargerError):
    status, code, title, retryable = 503, "shutting_down", "The service is shutting down", True


class DeadlineError(EnlargerError):
    status, code, title, retryable = 504, "deadline_exceeded", "The work was not finished in time", True


class ComputeError(EnlargerError):
    status, code, title, retryable = 503, "compute_failed", "The network failed on this image", True


class OutOfMemoryError(EnlargerError):
    status, code, title, retryable = 503, "out_of_memory", "The engine is out of memory", True


class CancelledError(EnlargerError):
    """The client has disconnected. Nobody sees this error; it only unwinds the request."""

    status, code, title = 499, "cancelled", "Client closed the request"


# -- start-up ----------------------------------------------------------------------------------------------------


class StartupError(EnlargerError):
    """The service must not become ready: a model file, a provider or a setting is not what it should be."""

    code, title = "startup_failed", "The service cannot start"


class ModelFileError(StartupError):
    code, title = "bad_model_file", "A model file is missing, modified or has the wrong interface"


class SelfTestError(StartupError):
    code, title = "not_proven", "A network failed its self-test"


class ProviderError(StartupError):
    code, title = "provider_missing", "The requested execution provider is not available"

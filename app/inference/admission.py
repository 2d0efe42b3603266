"""Whether one more request can be finished in time; who cannot be served gets told when to come back."""

from app.errors import OverloadedError, TooMuchWorkError


def check_backlog(backlog: float, most: float) -> None:
    """Raises ``OverloadedError`` while the accepted work is estimated to take more than ``most`` seconds."""
    if backlog > most:
        detail = "More work is queued than can be done soon."
        raise OverloadedError(detail, retry_after=backlog - most, limit=most, actual=round(backlog, 1))


def check_deadline(own: float, backlog: float, allowed: float) -> None:
    """Raises ``TooMuchWorkError`` if a request of ``own`` seconds can never be done in the ``allowed`` seconds, and
    ``OverloadedError`` if it cannot be behind that backlog."""
    limit = round(allowed, 1)
    if own > allowed:
        raise TooMuchWorkError("The image is too much work for one request.", limit=limit, actual=round(own, 1))
    if (done_in := backlog + own) > allowed:
        detail = "The image would not be finished in time."
        raise OverloadedError(detail, retry_after=done_in - allowed, limit=limit, actual=round(done_in, 1))

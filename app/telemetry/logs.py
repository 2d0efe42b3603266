"""Logging to standard error: one line per event, as text for people or as JSON for machines, with the request's ids."""

import json
import logging
import time
from typing import Any

from app.telemetry.record import current_record

OWN = set(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
}  # attributes of every LogRecord; the rest is "extra"


def configure_logging(format: str) -> None:
    """``format`` is "text" or "json"; it also applies to uvicorn's loggers."""
    handler = logging.StreamHandler()
    handler.addFilter(add_ids)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def add_ids(event: logging.LogRecord) -> bool:
    """A filter that keeps every event; filters run in the thread and the context of the event."""
    if record := current_record.get():
        event.request_id = record.request_id
        event.trace_id, event.span_id = record.trace.trace_id, record.trace.span_id
    return True


class TextFormatter(logging.Formatter):
    """One line per event, whatever untrusted text it contains; a traceback follows it, indented."""

    def format(self, event: logging.LogRecord) -> str:
        head = f"{self.formatTime(event)} {event.levelname} {event.name}: "
        trace = self.formatException(event.exc_info).split("\n") if event.exc_info else []
        return "\n    ".join(map(printable, (head + event.getMessage(), *trace)))


def printable(text: str) -> str:
    """Escapes, as Python would, whatever a terminal or a line reader might not treat as text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (RFC 3339, UTC), level, logger, message, the ``extra`` fields, a traceback."""

    def format(self, event: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(event.created)) + f".{int(event.msecs):03d}Z",
            "level": event.levelname.lower(),
            "logger": event.name,
            "message": event.getMessage(),
        }
        line |= {name: value for name, value in vars(event).items() if name not in OWN and name != "color_message"}
        if event.exc_info:
            line["exception"] = self.formatException(event.exc_info)
        return json.dumps(line, default=str)

"""The Enlarger service: bytes of a picture in, bytes of a larger picture out, streamed."""

__version__ = "0.1.0"

"""The ``enlarger`` command. Each subcommand is a module that is imported on use, so that Ctrl-C works during
imports, too."""

import signal
import sys
from threading import current_thread, main_thread

COMMANDS = ("serve", "models")


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0; 1 if an image failed, 2 if nothing could be started, 128 + the signal's number if stopped."""
    arguments = sys.argv[1:] if arguments is None else arguments
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or current_thread() is not main_thread():
        return run(arguments)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback
    try:
        return run(arguments)
    finally:
        signal.signal(signal.SIGINT, before)


def run(arguments: list[str]) -> int:
    from pydantic import ValidationError

    from app.errors import EnlargerError
    from app.settings import variable

    try:
        match arguments:
            case ["serve", *options]:
                from app.cli import serve

                return serve.run(options)
            case ["models", *options]:
                from app.cli import models

                return models.run(options)
            case _:
                from app.cli import files

                return files.run(arguments)
    except EnlargerError as error:
        print(f"enlarger: {error.detail}", file=sys.stderr)
    except ValidationError as error:
        for wrong in error.errors():
            path = [part for part in wrong["loc"] if isinstance(part, str)]
            name = f"{variable(*path)}: " if path else ""
            print(f"enlarger: {name}{wrong['msg'].removeprefix('Value error, ')}", file=sys.stderr)
    return 2

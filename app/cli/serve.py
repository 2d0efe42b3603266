"""``enlarger serve``: the HTTP service, by itself or under a supervisor."""

import argparse
import json
import os
import sys
from typing import NoReturn

from app.settings import Settings


def run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="enlarger serve", description="Start the HTTP service.")
    parser.add_argument("--host", help="address to listen on (ENLARGER_HOST; default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (ENLARGER_PORT; default 8000; 0: any free one)")
    parser.add_argument("--supervise", action="store_true", help="restart the service if it crashes")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    listen = {"host": options.host, "port": options.port}
    settings = Settings(**{name: value for name, value in listen.items() if value is not None})
    if options.supervise:
        become_supervisor(settings)
    from app.main import Worker, serve

    serve(settings, Worker(**json.loads(options.worker)) if options.worker else None)
    return 0


def become_supervisor(settings: Settings) -> NoReturn:
    """Replaces this process by the supervisor, which needs none of the libraries that were imported here."""
    supervisor = ["-m", "app.supervisor", settings.host, str(settings.port)]
    worker = [sys.executable, "-m", "app.cli", "serve", "--host", settings.host, "--port", str(settings.port)]
    os.execv(sys.executable, [sys.executable, *supervisor, *worker])

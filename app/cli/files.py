"""``enlarger FILE...``: enlarges images and folders on this machine; with buckets or a service see ``buckets.py``."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from app import __version__
from app.cli import COMMANDS
from app.cli.batch import Batch, BatchOptions
from app.errors import EnlargerError
from app.images.encoders import FORMATS
from app.inference.zoo import Zoo, load_zoo
from app.main import create_engine, create_upscaler
from app.settings import Settings
from app.upscale.auto import AUTO, candidates
from app.upscale.parameters import UpscaleParameters, parse_parameters
from app.upscale.upscaler import Upscaler

SIGNAL_SECONDS = 0.2  # the longest delay until a signal is handled


def run(arguments: list[str]) -> int:
    if any(each.split("=")[0] in ("--remote", "--cluster") or "://" in each for each in arguments):
        return run_buckets(arguments)
    options = files_parser().parse_args(arguments)
    batch_options = BatchOptions(
        named=[Path(name) for name in options.files],
        output=Path(options.output) if options.output else None,
        parameters=parameters_from(options),
        is_folder=bool(options.output) and options.output.endswith(os.sep),
        skip_existing=options.skip_existing,
        keep_times=options.keep_times,
    )
    settings = Settings()
    zoo = load_zoo(settings.models)
    model = batch_options.parameters.model or settings.default_model
    names = names_of(model, zoo)
    specs = [zoo.find(model, scale) for scale in zoo.scales(model)] if model != AUTO else []
    if not any(spec.strength for spec in specs):
        zoo.strength(specs, batch_options.parameters.strength)  # one that none of them has fails before the first image
    settings = settings.model_copy(update={"default_model": names[0] if len(names) == 1 else AUTO})
    return run_until_stopped(
        Batch(batch_options), lambda: create_upscaler(settings, create_engine(settings, None, *names))
    )


def names_of(model: str, zoo: Zoo) -> tuple[str, ...]:
    """The networks to load for a model, which may be ``auto``; an unknown one fails before the first image."""
    if model == AUTO:
        return tuple(dict.fromkeys((zoo.default, *candidates(zoo).values())))
    zoo.scales(model)
    return (model,)


def run_buckets(arguments: list[str]) -> int:
    """Imports the module here, because its libraries need not be installed for the rest."""
    try:
        from app.cli import buckets
    except ModuleNotFoundError as error:
        raise EnlargerError(f"Buckets, --cluster and --remote need {error.name}: pip install enlarger[jobs]") from error
    parser = files_parser()
    buckets.add_options(parser)
    options = parser.parse_args(arguments)
    return buckets.run(options, parameters_from(options))


def run_until_stopped(batch: Batch, make: Callable[[], Upscaler]) -> int:
    """The exit status. SIGINT, SIGTERM and SIGHUP stop the batch cleanly; a second one ends the process at once.

    The batch has a thread of its own, because an exception from a signal handler could strike while a lock is being
    acquired.
    """
    received: list[int] = []

    def stop(number: int, frame: object) -> None:
        received.append(number)
        for each in heeded:
            signal.signal(each, signal.SIG_DFL)
        batch.stop()

    kinds = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {each: signal.getsignal(each) for each in kinds}
    heeded = [each for each, handler in before.items() if handler != signal.SIG_IGN]  # respects nohup
    with ThreadPoolExecutor(1) as pool:
        for each in heeded:
            signal.signal(each, stop)
        running = pool.submit(batch.run, make)
        while not wait([running], SIGNAL_SECONDS).done:
            if received and batch.is_blocked:  # in a call that it cannot interrupt
                break
        for each in heeded:
            signal.signal(each, before[each])
        if not received:
            return running.result()
        print("enlarger: stopped; run it again with --skip-existing to continue", file=sys.stderr, flush=True)
        if not running.done():
            os._exit(128 + received[0])
    return 128 + received[0]  # the shells' convention


def files_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="enlarger",
        description="Enlarge images: enlarger photo.jpg -o big.png --scale 4",
        epilog="Exit status: 0 if every image was enlarged or skipped, 1 if one failed or a folder "
        "has none, 2 if nothing could be started, 128 plus the signal's number if it was stopped. "
        f"Other commands: {', '.join(COMMANDS)} (enlarger COMMAND --help). Buckets (s3://in -o s3://out), "
        "--cluster and --remote: enlarger --remote --help.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="images, folders of images, - for standard input")
    parser.add_argument(
        "-o",
        "--output",
        help="file, folder, or - for standard output (default: next to each input, as NAME-enlarged.EXT)",
    )
    parser.add_argument("--skip-existing", action="store_true", help="skip images that already have a result")
    parser.add_argument("--keep-times", action="store_true", help="copy the time stamps of each source to its result")
    parser.add_argument("--model", help="a name from `enlarger models` (default: auto, which looks at each image)")
    parser.add_argument(
        "--strength",
        type=float,
        help="for models that have one: 0 (faithful) to 1 (fully cleaned and sharpened, the default; auto fits it)",
    )
    parser.add_argument("--scale", type=float, help="how many times larger, 1 to 8 (default: 4)")
    parser.add_argument("--width", type=int, help="instead of --scale: maximum width in pixels")
    parser.add_argument("--height", type=int, help="instead of --scale: maximum height in pixels")
    parser.add_argument(
        "--format",
        choices=sorted(FORMATS),
        help="default: from the output's name, else the input's format if it can hold the result, else PNG",
    )
    parser.add_argument("--quality", type=int, help="1 to 100, for JPEG, WebP and AVIF")
    parser.add_argument("--subsampling", choices=("4:2:0", "4:4:4"), help="chroma subsampling, for JPEG and AVIF")
    parser.add_argument("--lossless", action="store_true", help="for WebP")
    parser.add_argument("--depth", choices=("8", "16"), help="bits per sample (default: the input's)")
    parser.add_argument("--background", default="ffffff", help="rrggbb behind transparency, for JPEG (default: ffffff)")
    parser.add_argument("--strip", action="store_true", help="remove EXIF, XMP and resolution (GPS is always removed)")
    parser.add_argument("--version", action="version", version=f"enlarger {__version__}")
    return parser


def parameters_from(options: argparse.Namespace) -> UpscaleParameters:
    """The same parameters, with the same checks, as in a request."""
    names = (
        "model",
        "strength",
        "scale",
        "width",
        "height",
        "format",
        "quality",
        "background",
        "subsampling",
        "lossless",
        "depth",
    )
    values = {name: value for name in names if (value := getattr(options, name)) is not None}
    return parse_parameters(values | {"metadata": "strip" if options.strip else "keep"})

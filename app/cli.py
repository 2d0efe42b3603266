"""The ``enlarger`` command: files and folders without a server, and ``serve`` and ``models``."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError
from tqdm import tqdm

from app import __version__
from app.errors import EnlargerError
from app.images.encoders import BY_SUFFIX, FORMATS
from app.images.formats import SUFFIXES
from app.inference.zoo import load_zoo
from app.main import Worker, create_engine, create_upscaler, serve
from app.settings import Settings
from app.upscale.parameters import UpscaleParameters, parse_parameters
from app.upscale.upscaler import Upscaler

COMMANDS = ("serve", "models")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 where a picture failed, 2 where nothing could be begun."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["serve"]:
            return run_serve(arguments[1:])
        if arguments[:1] == ["models"]:
            return run_models(arguments[1:])
        if any(each.split("=")[0] in ("--remote", "--cluster") or "://" in each for each in arguments):
            return run_buckets(arguments)
        return run_files(arguments)
    except EnlargerError as error:
        print(f"enlarger: {error.detail}", file=sys.stderr)
    except ValidationError as error:
        for wrong in error.errors():
            name = "".join(f"setting {part}: " for part in wrong["loc"][:1])
            print(f"enlarger: {name}{wrong['msg'].removeprefix('Value error, ')}", file=sys.stderr)
    return 2


def run_buckets(arguments: list[str]) -> int:
    """Loaded here and not before: its libraries need not be installed for the rest."""
    try:
        from app import bucket_command
    except ModuleNotFoundError as error:
        raise EnlargerError(f"Buckets, --cluster and --remote need {error.name}: pip install enlarger[jobs]") from error
    parser = files_parser(str)
    bucket_command.add_options(parser)
    options = parser.parse_args(arguments)
    return bucket_command.run(options, parameters_from(options), plan_files)


def run_serve(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="enlarger serve", description="Start the HTTP service.")
    parser.add_argument("--host", help="address to listen on (ENLARGER_HOST; default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (ENLARGER_PORT; default 8000; 0: any free one)")
    parser.add_argument("--supervise", action="store_true", help="replace the service if it crashes")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = vars(parser.parse_args(arguments))
    supervise, worker = options.pop("supervise"), options.pop("worker")
    given = {name: value for name, value in options.items() if value is not None}
    settings = Settings(**given)
    if supervise:
        supervised(settings)
    serve(settings, Worker(**json.loads(worker)) if worker else None)
    return 0


def supervised(settings: Settings) -> NoReturn:
    """Becomes the supervisor, who needs no networks and none of the libraries that were imported here."""
    supervisor = ["-m", "app.supervisor", settings.host, str(settings.port)]
    worker = [sys.executable, "-m", "app.cli", "serve", "--host", settings.host, "--port", str(settings.port)]
    os.execv(sys.executable, [sys.executable, *supervisor, *worker])


def run_models(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="enlarger models", description="List the networks.").parse_args(arguments)
    zoo = load_zoo(Settings().models)
    print(f"{'model':<14}{'scale':>6}{'parameters':>12}{'kMAC/px':>9}{'Set5 dB':>9}{'Set14 dB':>10}")
    for spec in zoo:
        metrics = next(iter(spec.files.values())).metrics
        figures = [metrics.get(name, {}).get("psnr_y") for name in ("Set5", "Set14")]
        set5, set14 = ("-" if figure is None else f"{figure:.2f}" for figure in figures)
        name = spec.name + (" *" if spec.name == zoo.default else "")
        print(f"{name:<14}{spec.scale:>6}{spec.parameters:>12,}{spec.macs / 1000:>9.1f}{set5:>9}{set14:>10}")
    print("* the default")
    return 0


# -- pictures ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """One file to read and the file to write."""

    source: Path
    target: Path
    format: str


def run_files(arguments: list[str]) -> int:
    options = files_parser().parse_args(arguments)
    settings = Settings()
    tasks = list(plan_files(options.files, options.output, options.format))
    parameters = parameters_from(options)
    engine = create_engine(settings)
    engine.zoo.scales(parameters.model or engine.zoo.default)  # an unknown name fails before the first picture
    failed = 0
    with create_upscaler(settings, engine) as upscaler:
        for task in tasks:
            try:
                enlarge_file(task, parameters, upscaler)
            except (EnlargerError, OSError) as error:
                failed += 1
                detail = error.detail if isinstance(error, EnlargerError) else error.strerror
                print(f"enlarger: {task.source}: {detail}", file=sys.stderr)
    return 1 if failed else 0


def files_parser(place: Callable[[str], object] = Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="enlarger",
        description="Enlarge pictures: enlarger photo.jpg -o big.png --scale 4",
        epilog=f"Other commands: {', '.join(COMMANDS)} (enlarger COMMAND --help). Buckets (s3://in -o s3://out), "
        "--cluster and --remote: enlarger --remote --help.",
    )
    parser.add_argument("files", nargs="+", type=place, metavar="FILE", help="pictures, or folders of pictures")
    parser.add_argument(
        "-o", "--output", type=place, help="file, or folder for several (default: beside, NAME-enlarged.EXT)"
    )
    parser.add_argument("--model", help="a name from `enlarger models` (default: the one marked there)")
    parser.add_argument("--scale", type=float, help="how many times larger, 1 to 8 (default: 4)")
    parser.add_argument("--width", type=int, help="in place of --scale: the most pixels across")
    parser.add_argument("--height", type=int, help="in place of --scale: the most pixels down")
    parser.add_argument("--format", choices=sorted(FORMATS), help="default: by the output's name, else the input's own")
    parser.add_argument("--quality", type=int, help="1 to 100, for JPEG, WebP and AVIF")
    parser.add_argument("--subsampling", choices=("4:2:0", "4:4:4"), help="of the colour of JPEG and AVIF")
    parser.add_argument("--lossless", action="store_true", help="for WebP")
    parser.add_argument("--depth", choices=("8", "16"), help="bits a sample (default: the input's own)")
    parser.add_argument("--background", default="ffffff", help="behind transparency, for JPEG (default: ffffff)")
    parser.add_argument(
        "--strip", action="store_true", help="leave out EXIF, XMP and resolution (GPS is always left out)"
    )
    parser.add_argument("--version", action="version", version=f"enlarger {__version__}")
    return parser


def parameters_from(options: argparse.Namespace) -> UpscaleParameters:
    """The same parameters, with the same checks, as a request's."""
    names = ("model", "scale", "width", "height", "format", "quality", "background", "subsampling", "lossless", "depth")
    values = {name: value for name in names if (value := getattr(options, name)) is not None}
    return parse_parameters(values | {"metadata": "strip" if options.strip else "keep"})


def plan_files(files: list[Path], output: Path | None, format_name: str | None) -> Iterator[Task]:
    """Pairs every input with its output; folders are walked and mirrored. No input and no other output is lost."""
    several = len(files) > 1 or files[0].is_dir()
    if several and output and output.suffix and not output.is_dir():
        raise EnlargerError(f"{output} is a file name, but there are several pictures; name a folder.")
    found = list(expand(files))
    taken = {source.resolve() for source, _ in found}
    for source, relative in found:
        own = format_name or BY_SUFFIX.get(source.suffix.lower(), "png")
        if output and not several and not output.is_dir():
            target = output
            own = format_name or BY_SUFFIX.get(output.suffix.lower(), own)
        else:
            folder = output / relative.parent if output else source.parent
            name = source.stem if output else f"{source.stem}-enlarged"
            target = folder / f"{name}{FORMATS[own].extension}"
        if target.resolve() in taken:
            raise EnlargerError(f"{source} would overwrite {target}; give its output another name.")
        taken.add(target.resolve())
        yield Task(source, target, own)


def expand(files: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Every picture with its path relative to the folder it was found in."""
    for path in files:
        if path.is_dir():
            for found in sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES):
                yield found, found.relative_to(path)
        else:
            yield path, Path(path.name)


def enlarge_file(task: Task, parameters: UpscaleParameters, upscaler: Upscaler) -> None:
    """Writes to a temporary name and renames at the end: a picture is there whole or not at all."""
    image = upscaler.open(task.source.read_bytes())
    plan = upscaler.plan(image, parameters, [task.format])
    work = upscaler.decode(image, plan)
    task.target.parent.mkdir(parents=True, exist_ok=True)
    part = task.target.with_name(f".{task.target.name}.part")
    try:
        with open(part, "wb") as file:
            count = len(plan.passes[-1].plan.rows) + 1
            for piece in tqdm(upscaler.run(work), task.source.name, total=count, unit="band"):
                file.write(piece)
        os.replace(part, task.target)
    finally:
        part.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())

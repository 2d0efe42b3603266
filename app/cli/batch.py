"""Many images, one after another. A failure does not stop the others, and everything that is skipped is reported."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from app.cli.find import STREAM, Omission, Source, find
from app.cli.name import Names
from app.cli.write import check_replaceable, is_stream, is_there, writing
from app.errors import EnlargerError
from app.images.encoders import FORMATS
from app.images.formats import sniff
from app.inference.job import Job
from app.upscale.auto import Choice
from app.upscale.parameters import UpscaleParameters
from app.upscale.upscaler import DEFAULT_FORMAT, Upscaler

DONE, FAILED = 0, 1  # exit statuses


@dataclass(frozen=True)
class BatchOptions:
    """What is to be done. ``output``: the value of ``-o``; ``is_folder``: it ended in a slash."""

    named: Sequence[Path]
    output: Path | None
    parameters: UpscaleParameters
    is_folder: bool = False
    skip_existing: bool = False
    keep_times: bool = False


class SkippedError(Exception):
    """Raised with the reason if an image need not be enlarged."""


class StoppedError(Exception):
    """Raised if the batch was stopped."""


class Batch:
    """The images to be enlarged. Raises ``EnlargerError`` if nothing can be started.

    It runs in one thread and may be stopped by another one.
    """

    def __init__(self, options: BatchOptions) -> None:
        self.options = options
        self.counts: Counter[str] = Counter(done=0, skipped=0, failed=0)
        self.is_blocked = False  # it may block forever, and holds nothing that needs cleaning up
        self._stopping = False
        self._job: Job | None = None
        found = list(find(options.named, options.output))
        self.sources = [each for each in found if isinstance(each, Source)]
        self._names = Names(options.named, self.sources, options.output, options.is_folder)
        named_format = None if options.parameters.format else self._names.format()
        self._parameters = options.parameters.model_copy(update={"format": named_format}) if named_format else None
        to_stream = self._names.file == STREAM or (options.output is None and any(s.is_stream for s in self.sources))
        if to_stream and sys.stdout.isatty():
            raise EnlargerError("Standard output is a terminal; name a file with -o.")
        self._omissions = [each for each in found if isinstance(each, Omission)]

    def run(self, make: Callable[[], AbstractContextManager[Upscaler]]) -> int:
        """Enlarges one image after another and returns the exit status; ``make`` loads the networks if any are
        needed."""
        try:
            for each in self._omissions:
                self._tell("failed" if each.failed else "skipped", each.path, each.reason)
            if self.sources:
                with make() as upscaler:
                    for number, source in enumerate(self.sources, 1):
                        self._try(source, number, upscaler)
        except StoppedError:
            pass
        finally:
            print(f"enlarger: {', '.join(f'{n} {what}' for what, n in self.counts.items())}", file=sys.stderr)
        return FAILED if self.counts["failed"] else DONE

    def stop(self) -> None:
        """Ends the run soon and leaves nothing unfinished behind; from any thread."""
        self._stopping = True
        if job := self._job:
            job.cancel()

    def _check(self) -> None:
        if self._stopping:
            raise StoppedError

    @contextmanager
    def _waiting(self, for_others: bool) -> Iterator[None]:
        self.is_blocked = for_others
        try:
            yield
        finally:
            self.is_blocked = False

    def _try(self, source: Source, number: int, upscaler: Upscaler) -> None:
        try:
            target, choice = self._enlarge(source, number, upscaler)
            by = f" by {choice.model} ({choice.reason})" if choice else ""
            self._tell("done", source.path, ("standard output" if target == STREAM else shown(target)) + by)
        except SkippedError as skip:
            self._tell("skipped", source.path, str(skip))
        except EnlargerError as error:
            self._check()  # it may have been cancelled
            self._tell("failed", source.path, error.detail)
        except OSError as error:
            self._tell("failed", source.path, error.strerror or str(error))

    def _enlarge(self, source: Source, number: int, upscaler: Upscaler) -> tuple[Path, Choice | None]:
        self._check()
        with self._waiting(source.is_stream):
            data = source.read()
        image = upscaler.open(data)
        plan = upscaler.plan(image, self._parameters or self.options.parameters)
        target = self._names.target(source, plan.output.format)
        if self.options.skip_existing and is_there(target):
            raise SkippedError(f"{shown(target)} already exists")
        if not self._names.file:
            check_replaceable(target)
        work = upscaler.decode(image, plan)
        del image, data
        total = len(work.plan.passes[-1].plan.rows) + 1
        title = f"{shown(source.path)} ({number} of {len(self.sources)})"
        times_of = source if self.options.keep_times else None
        with (
            upscaler.admit(work.plan) as self._job,
            self._waiting(is_stream(target)),
            writing(target, times_of) as file,
            # Only on terminals (disable=None); removed when it is complete.
            tqdm(upscaler.run(work, self._job), title, total=total, unit="band", disable=None, leave=False) as bar,
        ):
            for piece in bar:
                self._check()
                file.write(piece)
            self._check()
        return target, work.plan.choice

    def _tell(self, what: str, path: Path, reason: str) -> None:
        self.counts[what] += 1
        tell(what, path, reason)


@dataclass(frozen=True)
class Task:
    """A file to read and the file to write."""

    source: Path
    target: Path


def plan_files(
    named: Sequence[Path], output: Path | None, format_name: str | None, skip_existing: bool = False
) -> Iterator[Task]:
    """The same files and names for images that another service enlarges; whatever is skipped is reported."""
    found = list(find(named, output))
    sources = [each for each in found if isinstance(each, Source)]
    if output == STREAM or any(source.is_stream for source in sources):
        raise EnlargerError("--remote takes files, not standard input, standard output or pipes.")
    names = Names(named, sources, output, is_folder=False)
    format_name = format_name or names.format()
    for each in found:
        if isinstance(each, Omission):
            tell("failed" if each.failed else "skipped", each.path, each.reason)
    for source in sources:
        try:
            own = sniff(source.read()).name
        except (EnlargerError, OSError):
            own = DEFAULT_FORMAT  # the service, or reading it again, will report what is wrong
        target = names.target(source, format_name or (own if own in FORMATS else DEFAULT_FORMAT))
        if skip_existing and is_there(target):
            tell("skipped", source.path, f"{shown(target)} already exists")
        else:
            yield Task(source.path, target)


def tell(what: str, path: Path, reason: str) -> None:
    verdict = "" if what == "failed" else f"{what}: "
    print(f"enlarger: {shown(path)}: {verdict}{reason}", file=sys.stderr)


def shown(path: Path) -> str:
    """A path as one line, whatever its name contains."""
    name = "standard input" if path == STREAM else str(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogateescape").decode() for c in name)

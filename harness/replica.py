"""A replica without networks: takes jobs from a database, works on each for a while, notes in a file that it did."""

import json
import os
import sys
import time
from pathlib import Path

from app.jobs.book import Book
from app.jobs.records import Job, JobSpec, Result
from app.jobs.replica import Replica
from app.jobs.running import Running


def main(url: str, notes: Path, seconds: float) -> None:
    def perform(running: Running, spec: JobSpec) -> Result:
        note(notes, {"job": running.id, "event": "begin", "by": replica.executor})
        started = time.monotonic()
        running.follow(lambda: (min(1.0, (time.monotonic() - started) / seconds), 1.0), lambda: None)
        running.sleep(seconds)
        if spec.filename == "crash":
            os._exit(9)
        note(notes, {"job": running.id, "event": "end", "by": replica.executor})
        return Result(None, 1, running.id, "image/png", "x.png", {})

    def deliver(job: Job, attempt: int) -> None:
        note(notes, {"job": job.id, "event": f"told {job.status}", "by": replica.executor})

    book = Book(url)
    replica = Replica(book, perform, deliver, silence=4.0)
    replica.start()
    print(f"ready {replica.executor}", flush=True)
    sys.stdin.read()  # until the pipe is closed
    replica.close()
    book.close()
    print("closed", flush=True)


def note(notes: Path, what: dict[str, str]) -> None:
    with open(notes, "a") as file:
        file.write(json.dumps(what) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))

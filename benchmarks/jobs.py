"""Jobs under measure: replicas that die, requests beside a full queue, two halves of a machine, 100,000 rows.

python -m benchmarks.jobs chaos | interactive | halves | rows | engine | models
"""

import argparse
import io
import os
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import psycopg
import skimage.data
import sqlalchemy as sa
from PIL import Image

from app.inference.zoo import load_zoo
from app.jobs.book import Book
from app.jobs.records import UPLOAD, JobSpec, new_id
from app.jobs.store import Store
from harness import MODELS
from harness.pictures import encode
from harness.postgres import Postgres, running_postgres
from harness.server import quick_server, running_server

QUICK = {"model": "bicubic", "scale": "2", "format": "png"}
PNG = {"content-type": "image/png"}


def noise(height: int, width: int) -> bytes:
    return encode(np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8))


class Bench:
    """A database, a folder that all replicas reach, and jobs put into both as the service does."""

    def __init__(self, postgres: Postgres, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self.url = url or postgres.url()
        self.settings = {"jobs": str(folder) if url else self.url, "jobs_store": str(folder / "store")}
        self.store, self.book = Store.open(str(folder / "store")), Book(self.url)

    def submit(self, data: bytes | None, parameters: dict[str, str], seconds: float) -> str:
        """Without ``data`` a row alone."""
        job_id = new_id()
        if data is not None:
            self.store.put(f"sources/{job_id}", data)
        self.book.enqueue(job_id, "me", JobSpec(UPLOAD, parameters, seconds=seconds))
        return job_id

    def bytes(self) -> int:
        """Of the database."""
        if not self.book.tables.embedded:
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute("CHECKPOINT")
                return asked(connection, "SELECT pg_database_size(current_database())")
        with self.book.tables._engine.connect() as connection:
            connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))
        return (self.folder / "jobs.sqlite3").stat().st_size

    def left(self) -> int:
        return self.book.tables.backlog().jobs

    def wait(self) -> float:
        """Seconds until nothing is left."""
        started = time.perf_counter()
        while self.left():
            time.sleep(0.1)
        return time.perf_counter() - started


def chaos(postgres: Postgres, folder: Path, count: int = 1000, every: float = 10.0) -> None:
    """Three replicas; one of them is killed every ten seconds and another one started; the database crashes once."""
    bench = Bench(postgres, folder)
    pictures = {n: noise(40 + n % 40, 64) for n in range(40)}
    kills = 0
    with ExitStack() as stack:
        replicas = [stack.enter_context(quick_server(**bench.settings)) for _ in range(3)]
        with ThreadPoolExecutor(4) as pool:
            ids = list(pool.map(lambda n: bench.submit(pictures[n % 40], QUICK, 0.05), range(count)))
        started = last = time.perf_counter()
        restarted = False
        while bench.left():
            time.sleep(0.2)
            now = time.perf_counter()
            if now - last > every:
                last = now
                victim = random.randrange(3)
                replicas[victim].process.kill()
                kills += 1
                replicas[victim] = stack.enter_context(quick_server(**bench.settings))
            if not restarted and now - started > 1.5 * every:
                restarted = True
                postgres.stop("immediate")
                postgres.start()
        seconds = time.perf_counter() - started
    jobs = {job.id: job for at in range(0, count, 500) for job in bench.book.find(*ids[at : at + 500])}
    whole = 0
    for number, job_id in enumerate(ids):
        result = jobs[job_id].result
        if not result or not result.key:
            print(f"chaos: {jobs[job_id]}")
            continue
        with Image.open(io.BytesIO(bench.store.get(result.key))) as image:
            image.load()
            whole += image.size == (128, 2 * (40 + number % 40))
    states = {state: sum(job.status == state for job in jobs.values()) for state in {j.status for j in jobs.values()}}
    print(
        f"chaos: {count} jobs, {kills} kills, database restarted: {restarted};"
        f" {states}; whole: {whole}; {seconds:.0f} s"
    )


def interactive(postgres: Postgres, folder: Path) -> None:
    """The median time of a request alone, and beside jobs of a slow network without end; one run, in turn."""
    bench = Bench(postgres, folder)
    with quick_server(**bench.settings) as server, server.client() as client:
        for side, times in ((256, 15), (512, 11), (1024, 7)):
            data = noise(side, side)

            def ask(data: bytes = data) -> float:
                started = time.perf_counter()
                answer = client.post("/upscale", params={"model": "fast", "scale": "4"}, content=data, headers=PNG)
                assert answer.status_code == 200, answer.text
                return time.perf_counter() - started

            for _ in range(5):  # what is compiled for this size is compiled
                ask()
            before = [ask() for _ in range(times)]
            ids = [bench.submit(noise(700, 700), {"model": "fast", "scale": "4"}, 60) for _ in range(60)]
            time.sleep(4)
            beside = []
            for _ in range(times):
                beside.append(ask())
                time.sleep(0.4)
            running = bench.left()
            for job_id in ids:
                bench.book.cancel(job_id)
            time.sleep(2)
            alone = statistics.median([*before, *(ask() for _ in range(times))])
            ratio = statistics.median(beside) / alone
            worst = max(beside) / alone
            print(
                f"interactive {side}: alone {alone:.3f} s, beside {statistics.median(beside):.3f} s,"
                f" {ratio:.2f} times (worst {worst:.2f}); jobs left meanwhile: {running}"
            )


def halves(postgres: Postgres, folder: Path, count: int = 80) -> None:
    """Jobs a second of one replica with all cores, and of two with half of them each; in turn, three times."""
    rates: dict[str, list[float]] = {"one": [], "two": []}
    data = noise(400, 400)
    for turn in range(3):
        for name, replicas in (("one", [{0, 1}]), ("two", [{0}, {1}])):
            bench = Bench(postgres, folder / f"{name}-{turn}")
            with ExitStack() as stack:
                for cores in replicas:
                    os.sched_setaffinity(0, cores)  # which the replica inherits
                    stack.enter_context(quick_server(**bench.settings))
                os.sched_setaffinity(0, {0, 1})
                for some in (16, count):  # the first of them warm it up
                    for _ in range(some):
                        bench.submit(data, {"model": "fast", "scale": "4"}, 0.2)
                    rate = some / bench.wait()
            rates[name].append(rate)
            print(f"halves: {name}: {rate:.2f} jobs/s", flush=True)
    ratio = statistics.median(rates["two"]) / statistics.median(rates["one"])
    print(f"halves: two of a half each make {ratio:.2f} of one with all")


def timed(name: str, call: Callable[[], object], times: int = 30) -> None:
    call()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    print(f"{name}: median {statistics.median(seconds) * 1e3:.1f} ms, worst of {times} {max(seconds) * 1e3:.1f} ms")


def rows(postgres: Postgres, folder: Path, count: int = 100_000) -> None:
    """Every call of the routes, with so many jobs in the database; PostgreSQL, then SQLite."""
    data = noise(16, 16)
    for kind in ("postgresql", "sqlite"):
        if kind == "sqlite":
            settings = {"jobs": str(folder / "embedded")}
            (folder / "embedded").mkdir()
            book = Book(f"sqlite:///{folder}/embedded/jobs.sqlite3")
        else:
            bench = Bench(postgres, folder)
            settings, book = bench.settings, bench.book
        middle = fill(book, count)
        with quick_server(**settings) as server, server.client() as client:

            def post(client: httpx.Client = client) -> httpx.Response:
                return client.post("/jobs", params=QUICK, content=data, headers=PNG)

            answer = post()
            me = answer.json()
            print(f"{kind}, {count} rows")
            timed("  POST /jobs", post)
            timed("  GET /jobs/{id}", partial(client.get, me["urls"]["get"]))
            timed("  GET /jobs", lambda: client.get("/jobs"))
            with httpx.Client(base_url=server.url, cookies={"enlarger-owner": "x" * 43}) as stranger:
                timed("  GET /jobs, of one who has none", lambda: stranger.get("/jobs"))
            timed("  backlog", book.tables.backlog)
            timed("  page 1000 of an owner", partial(book.of_owner, "owner", 50, middle))
            timed("  cancel", lambda: client.delete(post().json()["urls"]["cancel"]), 10)


def fill(book: Book, count: int) -> str:
    """Finished jobs of one owner, as the engine keeps them; the one in their middle."""
    job_id = book.enqueue(new_id(), "owner", JobSpec(UPLOAD, QUICK, filename="photo.png"))
    schema = "" if book.tables.embedded else "dbos."
    insert = sa.text(
        f"INSERT INTO {schema}workflow_status (workflow_uuid, status, name, created_at, updated_at, completed_at,"
        " queue_name, priority, application_version, application_name, authenticated_user, attributes, executor_id,"
        " serialization) VALUES (:id, 'SUCCESS', 'enlarge', :at, :at, :at, 'small', 0, '1', 'enlarger', 'owner',"
        " '{\"seconds\": 1}', 'x', 'portable_json')"
    )
    now = int(time.time() * 1000)
    values = [{"id": f"{job_id[:-6]}{n:06x}", "at": now - n} for n in range(count)]
    with book.tables._engine.begin() as connection:
        connection.execute(insert, values)
        connection.execute(
            sa.text(
                f"INSERT INTO {schema}workflow_input (workflow_uuid, inputs, retention_timestamp) SELECT workflow_uuid,"
                f" (SELECT inputs FROM {schema}workflow_input), created_at FROM {schema}workflow_status"
                " WHERE status = 'SUCCESS'"
            )
        )
    book.delete([job_id])
    return str(values[count // 2]["id"])


def engine(postgres: Postgres, folder: Path, count: int = 400) -> None:
    """What a job costs the database, PostgreSQL and SQLite: accepted by one and by many at once, done, kept, idle."""
    (folder / "embedded").mkdir()
    shared = Bench(postgres, folder)
    embedded = Bench(postgres, folder / "embedded", f"sqlite:///{folder}/embedded/jobs.sqlite3")
    for name, bench in (("postgresql", shared), ("sqlite", embedded)):
        for threads in (1, 8):
            started = time.perf_counter()
            with ThreadPoolExecutor(threads) as pool:
                ids = list(pool.map(lambda _, bench=bench: bench.submit(None, QUICK, 0.01), range(count)))
            rate = count / (time.perf_counter() - started)
            print(f"engine: {name}: {rate:.0f} jobs/s accepted by {threads} threads", flush=True)
            bench.book.delete(ids)
        data, before = noise(16, 16), bench.bytes()
        for _ in range(count):
            bench.submit(data, QUICK, 0.01)
        with quick_server(**bench.settings):
            seconds = bench.wait()
        print(f"engine: {name}: {count / seconds:.1f} jobs/s of 16 x 16 pixels from queue to result")
        print(f"engine: {name}: {(bench.bytes() - before) / count / 1000:.1f} kB of database a job", flush=True)
    with psycopg.connect(shared.url, autocommit=True) as connection, quick_server(**shared.settings):
        before, log = commits(connection), wal(connection)
        idle = (commits(connection, 10.0) - before) / 10
        for _ in range(count):
            shared.submit(data, QUICK, 0.01)
        seconds = shared.wait()
        used = (commits(connection) - before - 10 * idle - seconds * idle) / count
        print(f"engine: {used:.1f} commits and {(wal(connection) - log) / count / 1000:.1f} kB of log a job")
        print(f"engine: an idle replica makes {idle:.1f} commits a second")


def commits(connection: psycopg.Connection[tuple[object, ...]], wait: float = 1.0) -> int:
    time.sleep(wait)  # the server writes its counts down once a second
    return asked(connection, "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")


def wal(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    """Bytes of the write-ahead log so far."""
    return asked(connection, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")


def asked(connection: psycopg.Connection[tuple[object, ...]], question: str) -> int:
    row = connection.execute(question).fetchone()  # type: ignore[call-overload]
    assert row
    return int(str(row[0]))


def models(postgres: Postgres, folder: Path, seconds: float = 8.0) -> None:
    """What one core makes of jobs, by model: photographs of 512 x 512 as JPEG, x4 to JPEG; decoded, encoded, kept."""
    buffer = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(buffer, "JPEG", quality=90)
    for name in sorted({spec.name for spec in load_zoo(MODELS) if spec.scale == 4 and spec.macs}):
        bench, parameters = Bench(postgres, folder / name), {"model": name, "scale": "4", "format": "jpeg"}
        os.sched_setaffinity(0, {0})  # which the replica inherits
        with running_server(networks=(name,), **bench.settings):
            os.sched_setaffinity(0, {0, 1})
            bench.submit(buffer.getvalue(), parameters, 10)
            once = bench.wait()
            count = max(2, min(30, round(seconds / once)))
            for _ in range(count):
                bench.submit(buffer.getvalue(), parameters, 10)
            took = bench.wait()
        print(f"models: {name}: {count / took:.3f} jobs/s, {0.512**2 * count / took:.3f} LR Mpx/s a core", flush=True)


MEASURES = {
    "chaos": chaos,
    "interactive": interactive,
    "halves": halves,
    "rows": rows,
    "engine": engine,
    "models": models,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=MEASURES)
    chosen = parser.parse_args().measure
    with running_postgres() as database, TemporaryDirectory() as place:
        MEASURES[chosen](database, Path(place))

"""A real PostgreSQL of the test's own: Debian's server, as an unprivileged user, on a free port, in its own folder."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import psycopg

from app.jobs.book import Book

CONFIGURATION = """
port = {port}
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
fsync = {fsync}
"""


def binaries() -> Path | None:
    """Debian keeps them outside of PATH, by version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


class Postgres:
    """A cluster with one database after another, each with the jobs' tables and no job; ``url()`` makes the next.

    ``durable``: its disk outlives a crash of the machine too, and not that of its processes alone.
    """

    def __init__(self, folder: Path, durable: bool = True) -> None:
        self._folder, self._data = folder, folder / "data"
        self._user = pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else None  # it refuses to run as root
        self._count = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        folder.chmod(0o755)
        self._data.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(folder, self._user, -1)
            os.chown(self._data, self._user, -1)
        self._run("initdb", "-A", "trust", "-U", "enlarger", "-E", "UTF8", "--no-locale", "--no-sync")
        with open(self._data / "postgresql.conf", "a") as configuration:
            configuration.write(CONFIGURATION.format(port=self.port, fsync="on" if durable else "off"))
        self.start()

    def start(self) -> None:
        self._run("pg_ctl", "-w", "-l", str(self._folder / "log"), "start")

    def stop(self, mode: str = "immediate") -> None:
        """``immediate`` is a crash: the next start recovers from the log."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def url(self) -> str:
        """Of a new database, a copy of the first one, whose tables it takes seconds to make."""
        if not self._count:
            Book(self._create()).close()
        return self._create(template="jobs1")

    def _create(self, template: str = "template1") -> str:
        self._count += 1
        with psycopg.connect(f"postgresql://enlarger@127.0.0.1:{self.port}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE jobs{self._count} TEMPLATE {template}")
        return f"postgresql://enlarger@127.0.0.1:{self.port}/jobs{self._count}"

    def _run(self, program: str, *arguments: str) -> None:
        folder = binaries()
        assert folder
        command = [str(folder / program), "-D", str(self._data), *arguments]
        subprocess.run(command, check=True, user=self._user, cwd="/", stdout=subprocess.DEVNULL)


@contextmanager
def running_postgres(durable: bool = True) -> Iterator[Postgres]:
    folder = Path(mkdtemp(prefix="enlarger-postgres-"))
    try:
        postgres = Postgres(folder, durable)
        try:
            yield postgres
        finally:
            postgres.stop()
    finally:
        shutil.rmtree(folder)

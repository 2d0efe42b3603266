"""Two tables beside the engine's own, of who lives and which requests were seen; what is asked of its rows in SQL."""

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

SILENCE_SECONDS = 12.0  # a replica not heard of for longer is dead: its jobs go on elsewhere
FORGET_SECONDS = 3600.0

TABLES = (
    "CREATE TABLE IF NOT EXISTS enlarger_replicas (executor TEXT PRIMARY KEY, seen DOUBLE PRECISION NOT NULL)",
    "CREATE TABLE IF NOT EXISTS enlarger_requests (owner TEXT, key TEXT, digest TEXT NOT NULL, job TEXT NOT NULL,"
    " accepted BOOLEAN NOT NULL, seen DOUBLE PRECISION NOT NULL, PRIMARY KEY (owner, key))",
    "CREATE INDEX IF NOT EXISTS enlarger_requested ON enlarger_requests (job)",
)
LOCK = "SELECT pg_advisory_xact_lock(20260721)"  # one at a time makes tables
OWNED = "CREATE INDEX IF NOT EXISTS enlarger_owned ON {status} (authenticated_user, workflow_uuid)"


@dataclass(frozen=True)
class Seen:
    """What is known of a request with an ``Idempotency-Key``: the digest of its payload and the job it made."""

    digest: str
    job: str
    accepted: bool
    age: float


@dataclass(frozen=True)
class Backlog:
    """What all replicas together have to do: jobs, their estimated seconds, when the oldest and the newest was made."""

    jobs: int = 0
    seconds: float = 0.0
    oldest: float = 0.0
    newest: float = 0.0
    replicas: int = 1

    def seconds_until(self, created: float) -> float:
        """About how long a job that was made then waits for its turn, if those before it are as any other."""
        span = self.newest - self.oldest
        share = min(1.0, max(0.0, (created - self.oldest) / span)) if span > 0 else 0.0
        return share * self.seconds / self.replicas


class Tables:
    """On the engine's database, SQLite or PostgreSQL; all times are the database's, so that clocks need not agree.

    Nothing here waits for the disk: what a crash of the database's machine may take back is told or done again. The
    engine's own commits wait, and take to the disk what was committed before them.
    """

    def __init__(self, url: str) -> None:
        self.embedded = url.startswith("sqlite")
        driver = url if self.embedded else url.replace("postgresql://", "postgresql+psycopg://", 1)
        self._engine = sa.create_engine(driver, pool_size=3, max_overflow=5, pool_pre_ping=not self.embedded)
        self._status = "workflow_status" if self.embedded else "dbos.workflow_status"
        self._now = (
            "(julianday('now') - 2440587.5) * 86400.0" if self.embedded else "extract(epoch FROM clock_timestamp())"
        )
        seconds = "json_extract(attributes, '$.seconds')" if self.embedded else "(attributes->>'seconds')::float8"
        self._seconds = f"COALESCE(SUM(COALESCE({seconds}, 1)), 0)"
        event.listen(self._engine, "connect", prepare_sqlite if self.embedded else prepare_postgres)

    def prepare(self) -> None:
        """Makes the tables; many may try at once."""
        with self._engine.begin() as connection:
            if not self.embedded:
                connection.execute(sa.text(LOCK))
            for table in TABLES:
                connection.execute(sa.text(table))

    def alone(self) -> None:
        """With an embedded database there is one replica: whoever was there before lives no more."""
        self._do("DELETE FROM enlarger_replicas")

    def index(self) -> None:
        """The engine's rows by owner, which it has no index for."""
        with self._engine.begin() as connection:
            if not self.embedded:
                connection.execute(sa.text(LOCK))
            connection.execute(sa.text(OWNED.format(status=self._status)))

    def close(self) -> None:
        self._engine.dispose()

    # -- who lives -------------------------------------------------------------------------------------------------

    def beat(self, executor: str) -> None:
        self._do(
            f"INSERT INTO enlarger_replicas (executor, seen) VALUES (:executor, {self._now})"
            " ON CONFLICT (executor) DO UPDATE SET seen = excluded.seen",
            executor=executor,
        )

    def leave(self, executor: str) -> None:
        self._do("DELETE FROM enlarger_replicas WHERE executor = :executor", executor=executor)

    def dead(self, silence: float) -> list[str]:
        """Replicas that hold jobs and have not been heard of."""
        self._do(f"DELETE FROM enlarger_replicas WHERE seen < {self._now} - :forget", forget=FORGET_SECONDS)
        rows = self._ask(
            f"SELECT DISTINCT executor_id FROM {self._status} WHERE status = 'PENDING' AND executor_id NOT IN"
            f" (SELECT executor FROM enlarger_replicas WHERE seen > {self._now} - :fresh)",
            fresh=silence,
        )
        return [row[0] for row in rows if row[0]]

    def release(self, executor: str, crashed: bool) -> int:
        """Puts the jobs that a replica holds back into their queues, and takes away the token with which it could have
        written their outcome; how many. After a crash those that had begun are suspected of it. One statement, so two
        that try it at once do not disturb what runs again."""
        began = "json_extract(attributes, '$.began')" if self.embedded else "attributes->>'began'"
        rest = "json_remove(attributes, '$.began')" if self.embedded else "attributes - 'began'"
        attempts = f"recovery_attempts - CASE WHEN {began} IS NULL THEN 1 ELSE 0 END"
        return self._do(
            f"UPDATE {self._status} SET status = 'ENQUEUED', owner_xid = NULL, started_at_epoch_ms = NULL,"
            f" recovery_attempts = {attempts if crashed else 'recovery_attempts - 1'}, attributes = {rest}"
            " WHERE status = 'PENDING' AND executor_id = :executor",
            executor=executor,
        )

    def starts(self, job: str) -> int:
        """How often a job was claimed, this time and those that ended in a crash once it had begun."""
        rows = self._ask(f"SELECT recovery_attempts FROM {self._status} WHERE workflow_uuid = :job", job=job)
        return int(rows[0][0]) if rows else 0

    def begin(self, job: str, executor: str) -> bool:
        """Notes that a job's turn has come; false if it is not this replica's any more."""
        value = f"json_set(attributes, '$.began', {self._now})"
        if not self.embedded:
            value = f"attributes || jsonb_build_object('began', {self._now})"
        mine = self._do(
            f"UPDATE {self._status} SET attributes = {value}"
            " WHERE workflow_uuid = :job AND status = 'PENDING' AND executor_id = :executor",
            job=job,
            executor=executor,
        )
        return mine > 0

    def tell(self, job: str, executor: str, told: dict[str, float]) -> None:
        """Notes beside a job how far it is, as long as this replica works on it."""
        merged = "json_patch(attributes, :told)" if self.embedded else "attributes || CAST(:told AS jsonb)"
        self._do(
            f"UPDATE {self._status} SET attributes = {merged}"
            " WHERE workflow_uuid = :job AND status = 'PENDING' AND executor_id = :executor",
            told=json.dumps(told),
            job=job,
            executor=executor,
        )

    def replicas(self) -> int:
        """How many live; at least one."""
        rows = self._ask(
            f"SELECT COUNT(*) FROM enlarger_replicas WHERE seen > {self._now} - :fresh", fresh=SILENCE_SECONDS
        )
        return max(1, int(rows[0][0]))

    # -- the engine's rows -----------------------------------------------------------------------------------------

    def backlog(self) -> Backlog:
        """Of the jobs that are not finished."""
        rows = self._ask(
            f"SELECT COUNT(*), {self._seconds}, MIN(created_at), MAX(created_at) FROM {self._status}"
            " WHERE status IN ('ENQUEUED', 'PENDING') AND name = 'enlarge'"
        )
        count, seconds, oldest, newest = rows[0]
        return Backlog(int(count), float(seconds), (oldest or 0) / 1000, (newest or 0) / 1000, self.replicas())

    def owned(self, owner: str, count: int, before: str) -> list[str]:
        """The newest jobs of an owner that are older than one: ids are in the order of age, and no two are equal."""
        rows = self._ask(
            f"SELECT workflow_uuid FROM {self._status} WHERE authenticated_user = :owner AND name = 'enlarge'"
            " AND workflow_uuid < :before ORDER BY workflow_uuid DESC LIMIT :count",
            owner=owner,
            before=before,
            count=count,
        )
        return [str(row[0]) for row in rows]

    # -- requests that were seen -----------------------------------------------------------------------------------

    def see(self, owner: str, key: str, digest: str, job: str) -> Seen | None:
        """Notes a request; what is known of it instead, if it was seen before."""
        new = self._do(
            "INSERT INTO enlarger_requests (owner, key, digest, job, accepted, seen)"
            f" VALUES (:owner, :key, :digest, :job, FALSE, {self._now}) ON CONFLICT DO NOTHING",
            owner=owner,
            key=key,
            digest=digest,
            job=job,
        )
        if new:
            return None
        rows = self._ask(
            f"SELECT digest, job, accepted, {self._now} - seen FROM enlarger_requests"
            " WHERE owner = :owner AND key = :key",
            owner=owner,
            key=key,
        )
        return Seen(rows[0][0], rows[0][1], bool(rows[0][2]), float(rows[0][3])) if rows else None

    def accept(self, owner: str, key: str) -> None:
        self._do(
            "UPDATE enlarger_requests SET accepted = TRUE WHERE owner = :owner AND key = :key", owner=owner, key=key
        )

    def drop(self, owner: str, key: str, seconds: float) -> None:
        """Of a request that failed: the same may come again at once, and goes on with the same job."""
        self._do(
            f"UPDATE enlarger_requests SET seen = {self._now} - :seconds"
            " WHERE owner = :owner AND key = :key AND NOT accepted",
            owner=owner,
            key=key,
            seconds=seconds,
        )

    def forget_request(self, job: str) -> None:
        """The same request then makes another job."""
        self._do("DELETE FROM enlarger_requests WHERE job = :job", job=job)

    def forget_old(self, seconds: float) -> None:
        self._do(f"DELETE FROM enlarger_requests WHERE seen < {self._now} - :seconds", seconds=seconds)

    # -- SQL -------------------------------------------------------------------------------------------------------

    def _do(self, sql: str, **values: object) -> int:
        with self._engine.begin() as connection:
            return connection.execute(sa.text(sql), values).rowcount

    def _ask(self, sql: str, **values: object) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(sa.text(sql), values).all())


def prepare_sqlite(connection: object, _: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[attr-defined]  # readers wait for nobody
    connection.execute("PRAGMA busy_timeout=30000")  # type: ignore[attr-defined]
    connection.execute("PRAGMA synchronous=NORMAL")  # type: ignore[attr-defined]


def prepare_postgres(connection: object, _: object) -> None:
    connection.execute("SET synchronous_commit = off")  # type: ignore[attr-defined]
    connection.commit()  # type: ignore[attr-defined]

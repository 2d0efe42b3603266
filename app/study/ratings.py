"""The study's ratings in a small SQLite file, and mean opinion scores with confidence intervals."""

import math
import secrets
import sqlite3
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.errors import StartupError, StudyFullError

MAX_RATINGS = 1_000_000  # nobody has to log in, so the file must be bounded
BUSY_SECONDS = 10.0  # how long a write waits for another process

SCHEMA = """
CREATE TABLE IF NOT EXISTS secret (value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS ratings (
    participant TEXT NOT NULL,
    scale INTEGER NOT NULL,
    picture TEXT NOT NULL,
    version TEXT NOT NULL,
    score INTEGER NOT NULL CHECK (score BETWEEN 1 AND 5),
    rated TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (participant, scale, picture, version)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Rating:
    """One participant's rating, 1 (bad) to 5 (excellent), of one version of an image."""

    participant: str
    picture: str
    version: str
    score: int


@dataclass(frozen=True)
class MeanOpinionScore:
    """A mean opinion score, 1 to 5, and half the width of its 95 % confidence interval (None for a single observer)."""

    mean: float
    half_width: float | None
    observers: int
    ratings: int


class RatingStore:
    """The ratings of a study at one scale. Thread-safe: each call has its own connection.

    ``secret`` is created with the file, so whatever is derived from it survives restarts and cannot be guessed.
    """

    def __init__(self, path: Path, scale: int) -> None:
        self._path, self._scale = path, scale
        try:
            with self._connection() as connection:
                connection.execute("PRAGMA journal_mode = WAL")  # readers and a writer do not wait for one another
                connection.executescript(SCHEMA)
                connection.execute("BEGIN IMMEDIATE")
                row = connection.execute("SELECT value FROM secret").fetchone()
                if row is None:
                    row = (secrets.token_bytes(32),)
                    connection.execute("INSERT INTO secret VALUES (?)", row)
        except sqlite3.Error as error:
            raise StartupError(f"The study's database {path}: {error}.") from error
        self.secret: bytes = row[0]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end, rolled back on an error."""
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS)
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def rate(self, rating: Rating) -> None:
        """Stores the rating; a second one by the same participant for the same version replaces the first."""
        with self._connection() as connection:
            (count,) = connection.execute("SELECT count(*) FROM ratings").fetchone()
            if count >= MAX_RATINGS:
                raise StudyFullError("The study accepts no more ratings.", limit=MAX_RATINGS)
            connection.execute(
                "INSERT INTO ratings (participant, scale, picture, version, score) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET score = excluded.score, rated = CURRENT_TIMESTAMP",
                (rating.participant, self._scale, rating.picture, rating.version, rating.score),
            )

    def ratings(self, participant: str | None = None) -> list[Rating]:
        """All ratings at this scale, or one participant's."""
        query = "SELECT participant, picture, version, score FROM ratings WHERE scale = ?"
        with self._connection() as connection:
            if participant is None:
                return [Rating(*row) for row in connection.execute(query, (self._scale,))]
            rows = connection.execute(f"{query} AND participant = ?", (self._scale, participant))
            return [Rating(*row) for row in rows]


def mean_opinion_score(ratings: Sequence[Rating]) -> MeanOpinionScore:
    """The mean over observers, each by the mean of their own ratings, and its interval by Student's t.

    ITU-R BT.500-13 (annex 2) takes the observers as the sample, mean ± 1.96 · S / √N. With few of them the normal
    distribution's 1.96 is too small, so t with N - 1 degrees of freedom replaces it. One observer's ratings of
    several images are not independent, so they do not count as several observers.
    """
    own: dict[str, list[int]] = defaultdict(list)
    for rating in ratings:
        own[rating.participant].append(rating.score)
    means = [statistics.fmean(scores) for scores in own.values()]
    half_width = None
    if len(means) > 1:
        half_width = t_quantile(len(means) - 1) * statistics.stdev(means) / math.sqrt(len(means))
    return MeanOpinionScore(statistics.fmean(means), half_width, len(means), len(ratings))


def t_quantile(freedom: int) -> float:
    """The 0.975 quantile of Student's t; accurate to 0.0005 above four degrees of freedom.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5, from the normal quantile 1.959964.
    """
    if freedom <= 4:
        return (12.706205, 4.302653, 3.182446, 2.776445)[freedom - 1]
    x = 1.959964
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))

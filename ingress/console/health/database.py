"""Sentences about PostgreSQL, and about the archive of old rows."""

from __future__ import annotations

from collections.abc import Iterator

from ingress.console.health.losses import rows_sentence
from ingress.console.health.wording import span
from ingress.console.views import Database, Sentence

__all__ = ["database_sentences"]

_ARCHIVE_FAILS = 2 * 3600.0  # seconds
"""The age at which an unfinished archive file has been retried, and has failed again."""


def database_sentences(database: Database) -> Iterator[Sentence]:
    """Yield sentences about an outage of PostgreSQL, its lost rows, and an unfinished archive."""
    if database.up and database.error:
        yield Sentence(
            level="alarm",
            text=f"PostgreSQL answers and takes no rows: {database.error}. Messages are accepted "
            "all the same and wait in the log; nothing is persisted.",
            next=f"{database.remedy or ''} Workers go on by themselves.".lstrip(),
        )
    if not database.up:
        error = (database.error or "").removeprefix("PostgreSQL: ")
        yield Sentence(
            level="alarm",
            text=f"PostgreSQL can't be used: {error}. Messages are accepted all the same and wait "
            "in the log; nothing is persisted.",
            next="Start PostgreSQL again, or correct DATABASE_URL; workers go on by themselves. "
            "WorkersPaused in RUNBOOKS.md has more.",
        )
    yield from map(rows_sentence, database.row_losses)
    if database.archive_waits > _ARCHIVE_FAILS:
        yield Sentence(
            level="warning",
            text="A file of old rows was begun, and has not been finished for "
            f"{span(database.archive_waits)}: nothing is lost, but the table grows.",
            next="Run `crossfade rows archive`, which says what ROWS_ARCHIVE_URL lacks.",
        )

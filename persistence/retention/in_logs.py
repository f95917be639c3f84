"""A subject's records in the logs: those that would become rows, and how long the others stay."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from persistence.dead_letters.rows import Row
from persistence.retention.burial import Doomed
from persistence.retention.letters import doomed_of, event_of, scrubbed_row
from persistence.retention.subject import Subject
from transport.contract import DLQ_GROUP, WORKER_GROUP, Record, Topic, Transport
from transport.errors import DecodeError
from transport.message.dead_letters import dead_letter_of
from transport.message.envelope import Message
from transport.message.partitioner import partition_for
from transport.progress import progress_everywhere

__all__ = ["LogPage", "Stretch", "read", "stretches"]

_PAGE = 1000
_GROUPS = {Topic.MESSAGES: WORKER_GROUP, Topic.DEAD_LETTERS: DLQ_GROUP}


class Stretch(msgspec.Struct, frozen=True):
    """A partition of a log, up to the last record that it had when the erasure began."""

    log: Transport
    topic: Topic
    partition: int
    end: str

    @property
    def name(self) -> str:
        """The key, in the job's cursor, of the offset up to which the stretch was read."""
        return f"{self.log.name}/{self.topic.value}/{self.partition}"


class LogPage(msgspec.Struct):
    """Records of the subject in one page of a stretch, and the page's last offset."""

    after: str | None
    records: int
    latest: float
    """Seconds since the epoch; 0 where there is none."""
    doomed: list[Doomed]
    letters: list[Row]
    """From the dead-letter log: empty rows for letters that are not indexed yet."""


async def stretches(logs: Sequence[Transport], subject: Subject) -> list[Stretch]:
    """Return the stretches of each log to read. A conversation's messages are in one partition.

    Raises:
        TransportUnavailable: a log can't be asked now.
    """
    found = []
    for log in logs:
        for topic, group in _GROUPS.items():
            for progress in await progress_everywhere(log, topic, group=group):
                elsewhere = (
                    subject.kind == "conversation"
                    and topic is Topic.MESSAGES
                    and progress.partition != partition_for(subject.value, log.partitions)
                )
                if progress.end is not None and not elsewhere:
                    found.append(Stretch(log, topic, progress.partition, progress.end))
    return found


async def read(
    stretch: Stretch, subject: Subject, after: str | None, *, by: str, why: str
) -> LogPage:
    """Read on after ``after``. At the end of the stretch, the page has no ``after``.

    Raises:
        TransportUnavailable: the log can't be read now.
    """
    log, key = stretch.log, stretch.log.sort_key
    records = await log.read(stretch.topic, stretch.partition, after=after, limit=_PAGE)
    page = LogPage(records[-1].offset if records else None, 0, 0.0, [], [])
    if page.after is not None and key(page.after) >= key(stretch.end):
        page.after = None
    for record in records:
        source = record if stretch.topic is Topic.MESSAGES else _original(record)
        event = event_of(source.body)
        spelt = source.key.encode("utf-8", "surrogateescape")
        if not (subject.names(event) if event else subject.wrote(spelt, source.body)):
            continue
        page.records += 1
        page.latest = max(page.latest, record.appended_at)
        if isinstance(event, Message) and (one := doomed_of(event)):
            page.doomed.append(one)
        if stretch.topic is Topic.DEAD_LETTERS:
            page.letters.append(scrubbed_row(log.name, record, by=by, why=why))
    return page


def _original(record: Record) -> Record:
    try:
        return dead_letter_of(record).record
    except DecodeError:
        return record

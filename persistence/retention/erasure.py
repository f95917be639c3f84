"""Erase a sender's messages, or a conversation: rows, receipts, dead letters, payloads.

It is a job of ``persistence.jobs``: after a crash, the same command goes on. The job and its record
have the digest of the subject's id, so the id itself is nowhere once the job is done.

The order matters. Messages that wait in a log are marked first, so they don't become rows where
rows were already searched. A message is marked before its letter is scrubbed, so a letter that is
redriven at that moment does not become a row either. Payloads go before rows, because a row names
its payload.

Logs keep their records until their retention. A record that is read again meets the tombstone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from persistence.database.pool import Connection, Pool, using
from persistence.dead_letters.rows import insert_rows
from persistence.errors import Outage
from persistence.fleet.leader_lock import elected
from persistence.jobs.job import JobProgress, NewJob
from persistence.jobs.runner import JobRun, JobRunner
from persistence.jobs.table import JobStopped
from persistence.payloads.errors import PayloadMissing, PayloadOutage
from persistence.payloads.store import PayloadStore
from persistence.retention import in_logs, letters, rows
from persistence.retention.archiver import ARCHIVING
from persistence.retention.burial import Doomed, delete_rows, mark_erased, must_be_marked
from persistence.retention.in_archives import ErasedFromArchives
from persistence.retention.mentions import forget_mentions
from persistence.retention.subject import Subject
from persistence.tables.states import JobKind, JobState
from transport.contract import Transport

__all__ = ["Erasure", "ErasureOrder", "ErasurePreview", "ErasureReport", "RemainingRecords"]

_STAGES = ("logs", "letters", "rows", "archives", "mentions")
_DOOMED = "doomed"


class ErasureOrder(msgspec.Struct, frozen=True):
    """The order of an erasure, as its job has it: the subject, by the digest of its id."""

    kind: Literal["sender", "conversation"]
    digest: str


class RemainingRecords(msgspec.Struct, frozen=True):
    """Records of the subject that a log keeps. ``latest`` is in seconds since the epoch."""

    log: str
    topic: str
    records: int
    latest: float


class ErasureReport(msgspec.Struct, frozen=True):
    """The counts of all runs of a job, and the records that the logs still have."""

    job: str
    state: JobState | None
    rows: int
    receipts: int
    letters: int
    payloads: int
    archived: int
    """Messages that were removed from files of the archive."""
    unread: int
    """Files of the archive that the store lacks or can't return. Nothing was erased in them."""
    unlisted: int
    """Files in the store that PostgreSQL does not know. Nothing was erased in them."""
    remains: Sequence[RemainingRecords]


class ErasurePreview(msgspec.Struct, frozen=True):
    """The rows and letters that would be erased, and the records in the logs."""

    rows: int
    letters: int
    remains: Sequence[RemainingRecords]


class Erasure:
    """One erasure.

    Args:
        pool: of the database.
        subject: whose messages go.
        logs: every log that may hold records of them.
        store: the payload store, if there is one.
        archive: where old rows went, if they did.
    """

    def __init__(
        self,
        pool: Pool,
        subject: Subject,
        logs: Sequence[Transport],
        store: PayloadStore | None,
        archive: PayloadStore | None = None,
    ) -> None:
        self._pool = pool
        self._subject = subject
        self._logs = logs
        self._store = store
        self._archived = ErasedFromArchives(pool, archive, subject)
        self._why = f"erased: {subject.label}"

    async def run(self, *, by: str) -> ErasureReport:
        """Erase, going on where an earlier run for the same subject ended.

        Raises:
            JobRunning: another process erases the same subject.
            JobStopped: the job was cancelled; erased data stays erased.
            PayloadOutage: the payload store can't do it now, or there is none and a message needs
                it. Run it again.
            ArchiveDamaged: a file of the archive has other bytes than were written. It was left
                unchanged.
        """
        order = ErasureOrder(self._subject.kind, self._subject.digest)
        runner = JobRunner(self._pool)
        try:
            job = NewJob(
                kind=JobKind.ERASURE,
                request=order,
                by=by,
                alone={"kind": order.kind, "digest": order.digest},
            )
            run = await runner.start(job, self._step)
            await runner.wait(run.id)
        finally:
            await runner.close()
        if run.state == JobState.CANCELLED:
            raise JobStopped
        counts = run.progress.counts
        return ErasureReport(
            job=str(run.id),
            state=run.state,
            rows=counts.get("rows", 0),
            receipts=counts.get("receipts", 0),
            letters=counts.get("letters", 0),
            payloads=counts.get("payloads", 0),
            archived=counts.get("archived", 0),
            unread=counts.get("unread", 0),
            unlisted=counts.get("unlisted", 0),
            remains=_remains(counts),
        )

    async def preview(self, *, within: float) -> ErasurePreview:
        """Count, and change nothing. ``within`` is for how many seconds rows may be counted.

        Raises:
            Outage, TransportUnavailable: a server can't answer now.
        """
        counts: dict[str, int] = {}
        for stretch in await in_logs.stretches(self._logs, self._subject):
            after: str | None = None
            while True:
                page = await in_logs.read(stretch, self._subject, after, by="", why="")
                _add(counts, stretch, page)
                if page.after is None:
                    break
                after = page.after
        async with using(self._pool) as connection:
            count = await rows.count_rows(connection, self._subject, within=within)
            last, after_letter, found = await letters.last_letter(connection), 0, 0
            while after_letter < last:
                found += len(await letters.letters_of(connection, self._subject, after_letter))
                after_letter += letters.PAGE
        return ErasurePreview(count, found, _remains(counts))

    async def _step(self, run: JobRun) -> bool:
        stage = run.cursor.get("stage", _STAGES[0])
        work = {
            "logs": self._logs_step,
            "letters": self._letters_step,
            "rows": self._rows_step,
            "archives": self._archives_step,
            "mentions": self._mentions_step,
        }[stage]
        return await work(run)

    async def _logs_step(self, run: JobRun) -> bool:
        """Mark what one page of a log has."""
        for stretch in await in_logs.stretches(self._logs, self._subject):
            name = stretch.name
            if run.cursor.get(f"{name} read"):
                continue
            end = run.cursor.get(f"{name} end", stretch.end)
            stretch = msgspec.structs.replace(stretch, end=end)  # noqa: PLW2901 - to its first end
            after = run.cursor.get(name)
            page = await in_logs.read(stretch, self._subject, after, by=run.by, why=self._why)
            counts = dict(run.progress.counts)
            _add(counts, stretch, page)
            await self._mark(page.doomed)
            counts["payloads"] = counts.get("payloads", 0) + await self._payloads(page.doomed)
            cursor = {f"{name} end": end}
            cursor |= {name: page.after} if page.after else {f"{name} read": "yes"}
            async with using(self._pool) as connection, connection.transaction():
                await run.lock(connection)
                await insert_rows(connection, page.letters)
                deleted = await delete_rows(connection, [row.id for row in page.doomed])
                _count(counts, rows=deleted.rows, receipts=deleted.receipts)
                await self._note(run, counts, cursor, connection)
            return True
        return await self._next_stage(run)

    async def _letters_step(self, run: JobRun) -> bool:
        """Scrub the letters of one page."""
        after = int(run.cursor.get("letter", "0"))
        async with using(self._pool) as connection:
            last = await letters.last_letter(connection)
            found = await letters.letters_of(connection, self._subject, after)
        if after >= last:
            return await self._next_stage(run)
        doomed = [letter.doomed for letter in found if letter.doomed]
        await self._mark(doomed)
        counts = dict(run.progress.counts)
        payloads = await self._payloads(doomed)
        async with using(self._pool) as connection, connection.transaction():
            await run.lock(connection)
            ids = [letter.id for letter in found]
            scrubbed = await self._scrub(run, connection, doomed, ids)
            _count(counts, letters=scrubbed, payloads=payloads)
            # Also the failed attempts on messages that never became rows.
            deleted = await delete_rows(connection, [message.id for message in doomed])
            _count(counts, rows=deleted.rows, receipts=deleted.receipts)
            await self._note(run, counts, {"letter": str(after + letters.PAGE)}, connection)
        return True

    async def _rows_step(self, run: JobRun) -> bool:
        """Delete one page of rows."""
        block = int(run.cursor.get("block", "0"))
        async with using(self._pool) as connection:
            page = await rows.rows_of(connection, self._subject, block)
        await self._mark(page.doomed)
        counts = dict(run.progress.counts)
        payloads = await self._payloads(page.doomed)
        async with using(self._pool) as connection, connection.transaction():
            await run.lock(connection)
            deleted = await delete_rows(connection, [row.id for row in page.doomed])
            scrubbed = await self._scrub(run, connection, page.doomed)
            _count(counts, rows=deleted.rows, receipts=deleted.receipts, payloads=payloads)
            _count(counts, letters=scrubbed)
            await self._note(run, counts, {"block": str(page.block or 0)}, connection)
        return await self._next_stage(run) if page.block is None else True

    async def _archives_step(self, run: JobRun) -> bool:
        """Take the subject's messages out of one file."""
        async with elected(self._pool, ARCHIVING) as lock:
            if lock is None:
                raise Outage("another process archives rows just now; waiting for it")
            last = int(run.cursor.get("archive", "0"))
            archive = await self._archived.next(last)
            if archive is None:
                counts = dict(run.progress.counts)
                counts["unlisted"] = await self._archived.unlisted()
                run.progress = msgspec.structs.replace(run.progress, counts=counts)
                return await self._next_stage(run)
            counts = dict(run.progress.counts)
            begun = run.cursor.get("file begun") == str(archive.id)
            doomed: Sequence[Doomed] = ()
            try:
                doomed = await self._archived.find(archive)
                await self._mark(doomed)
                payloads = await self._payloads(doomed)
                if doomed and not begun:
                    # Before the file is written anew: it alone tells whose messages they are.
                    _count(counts, archived=len(doomed), payloads=payloads)
                    async with using(self._pool) as connection, connection.transaction():
                        await run.lock(connection)
                        _count(counts, letters=await self._scrub(run, connection, doomed))
                        begins = {"file begun": str(archive.id)}
                        await self._note(run, counts, begins, connection)
                    begun = True
                if begun:
                    await self._archived.take_out(archive, doomed, lock)
            except PayloadMissing:
                _count(counts, unread=1)  # the others are looked into all the same
        async with using(self._pool) as connection, connection.transaction():
            await run.lock(connection)
            await must_be_marked(connection, [row.id for row in doomed])
            await self._note(run, counts, {"archive": str(archive.id)}, connection)
        return True

    async def _mentions_step(self, run: JobRun) -> bool:
        await forget_mentions(self._pool, self._subject)
        return await self._next_stage(run)

    async def _next_stage(self, run: JobRun) -> bool:
        at = _STAGES.index(run.cursor.get("stage", _STAGES[0])) + 1
        if at == len(_STAGES):
            return False
        await run.note(run.progress, cursor={"stage": _STAGES[at]})
        return True

    async def _mark(self, doomed: Sequence[Doomed]) -> None:
        if doomed:
            await mark_erased(self._pool, doomed)

    async def _scrub(
        self, run: JobRun, at: Connection, doomed: Sequence[Doomed], ids: Sequence[int] = ()
    ) -> int:
        return await letters.scrub(at, doomed, ids=ids, by=run.by, why=self._why)

    async def _payloads(self, doomed: Sequence[Doomed]) -> int:
        """Delete the content of messages from the payload store; return how many objects."""
        ids = {str(row.id) for row in doomed if row.payload_key}
        if not ids:
            return 0
        if self._store is None:
            raise PayloadOutage(
                "a message has its content in a payload store: set PAYLOAD_STORE, as the service "
                "has it, and run this again"
            )
        deleted = 0
        for identifier in sorted(ids):
            # Also the content of another body with the same key, and objects that a sweep set
            # aside.
            async for page in self._store.objects(identifier):
                await self._store.delete([found.key for found in page])
                deleted += len(page)
        async for page in self._store.objects(_DOOMED):
            aside = [found.key for found in page if ids.intersection(found.key.split("/"))]
            if aside:
                await self._store.delete(aside)
                deleted += len(aside)
        return deleted

    async def _note(
        self, run: JobRun, counts: dict[str, int], cursor: dict[str, str], at: Connection
    ) -> None:
        done = sum(counts.get(name, 0) for name in ("rows", "letters", "archived"))
        progress = JobProgress(done, done, 0, counts)
        await run.note(progress, cursor=cursor, connection=at)
        run.progress = progress


def _count(counts: dict[str, int], **more: int) -> None:
    for name, number in more.items():
        counts[name] = counts.get(name, 0) + number


def _add(counts: dict[str, int], stretch: in_logs.Stretch, page: in_logs.LogPage) -> None:
    """Count the records of a page under their log, and note the latest of them."""
    place = f"{stretch.log.name}/{stretch.topic.value}"
    if page.records:
        _count(counts, **{f"{place} records": page.records})
        latest = f"{place} latest"
        counts[latest] = max(counts.get(latest, 0), int(page.latest) + 1)


def _remains(counts: Mapping[str, int]) -> list[RemainingRecords]:
    found = []
    for name, number in counts.items():
        if name.endswith(" records"):
            log, _, topic = name.removesuffix(" records").rpartition("/")
            latest = counts[f"{log}/{topic} latest"]
            found.append(RemainingRecords(log, topic, number, float(latest)))
    return found

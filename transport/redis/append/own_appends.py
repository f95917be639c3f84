"""The latest appends of this process, kept in memory for its own readers.

Ids are dense within a generation. So a reader that is at the record right before the first new one
gets the new ones from memory, and any other reader gets them from the server.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from transport.contract import READ_BYTES, Envelope, Record, Topic

__all__ = ["OwnAppends", "Run"]

_RECORD_BYTES = 2048
"""The approximate bytes of a record and its event in memory, without the body."""
# Some 4,000 small records, as many as one process appends in half a second. Records that are kept
# longer wait for a database that is down; the log is the place for that.
_MOST_BYTES = 8 << 20
_READER_SECONDS = 5.0
"""The seconds for which a partition's appends are kept after its last read: its reader may work."""


class Run(msgspec.Struct, frozen=True, gc=False):
    """Adjacent records of one partition, appended at one time."""

    envelopes: list[Envelope]
    offsets: list[str]
    appended_at: float

    @property
    def before(self) -> str:
        """The id right before the first record."""
        generation, _, n = self.offsets[0].partition("-")
        return f"{generation}-{int(n) - 1}"

    @property
    def is_dense(self) -> bool:
        """Whether the records, and the one before them, are of one generation.

        The first record of a generation follows a record that only the log knows.
        """
        generation, _, n = self.offsets[0].partition("-")
        return n != "0" and self.last == f"{generation}-{int(n) + len(self.offsets) - 1}"

    @property
    def last(self) -> str:
        """The id of the last record."""
        return self.offsets[-1]

    @property
    def size(self) -> int:
        """The approximate bytes of this run in memory."""
        return sum([_RECORD_BYTES + 2 * len(envelope.body) for envelope in self.envelopes])

    def records(self) -> list[Record]:
        """Return the records as a read would."""
        return [
            Record(
                Topic.MESSAGES,
                envelope.partition,
                offset,
                envelope.key,
                envelope.body,
                {name: value.encode() for name, value in envelope.headers.items()},
                self.appended_at,
                envelope.event,
                envelope.fingerprint,
            )
            for envelope, offset in zip(self.envelopes, self.offsets, strict=True)
        ]


class OwnAppends:
    """Keeps the appends to the partitions that this process reads, within a limit of memory.

    Args:
        made: Returns how many connections were ever made. A new one may lead to a server that lacks
            records, so nothing from before it is handed over.
    """

    def __init__(self, made: Callable[[], int]) -> None:
        self.on_kept: Callable[[int, Run], None] = lambda *_: None
        """Called with the partition and the run when records were kept."""
        self._made = made
        self._made_before = 0  # the connections that were made when the runs were kept
        self._begun = 0
        self._under_way: dict[int, None] = {}  # the numbers of the appends that have no answer yet
        self._ended: asyncio.Future[None] | None = None
        self._read_until: dict[int, float] = {}
        # By partition and the record before the run, the oldest first; with their sizes.
        self._runs: OrderedDict[tuple[int, str], tuple[Run, int]] = OrderedDict()
        self._bytes = 0

    @property
    def has_readers(self) -> bool:
        """Whether this process has read any partition."""
        return bool(self._read_until)

    def want(self, partition: int, seconds: float) -> None:
        """Keep the appends to a partition: its reader waits for so many seconds at most."""
        until = asyncio.get_running_loop().time() + seconds + _READER_SECONDS
        self._read_until[partition] = max(self._read_until.get(partition, 0.0), until)

    def begin(self) -> int:
        """Note that an append begins, and return its number."""
        self._begun += 1
        self._under_way[self._begun] = None
        return self._begun

    def end(self, number: int) -> None:
        """Note that the answer to an append is here, and that its records were kept."""
        del self._under_way[number]
        if self._ended is not None:
            self._ended.set_result(None)
            self._ended = None

    async def answered(self, seconds: float) -> None:
        """Return once the appends under way now are answered, or after ``seconds``.

        The log may show their records before that.
        """
        begun, loop = self._begun, asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._under_way and next(iter(self._under_way)) <= begun:
            left = deadline - loop.time()
            if left <= 0:
                return
            if self._ended is None:
                self._ended = loop.create_future()
            await asyncio.wait([self._ended], timeout=left)

    def appended(self, partition: int, run: Run) -> None:
        """Keep the records of an append, if the partition has a reader.

        They are as durable as those of an acknowledged message.
        """
        if self._read_until.get(partition, 0.0) < asyncio.get_running_loop().time():
            return
        self._forget_old_server()
        self._keep(partition, run)
        while self._bytes > _MOST_BYTES:
            _, (_, size) = self._runs.popitem(last=False)
            self._bytes -= size
        self.on_kept(partition, run)

    def take(self, partition: int, after: str | None, limit: int) -> list[Record]:
        """Return up to ``limit`` kept records right after ``after``, and keep them no longer."""
        found: list[Record] = []
        if not self._runs or after is None:
            return found
        self._forget_old_server()
        room = READ_BYTES
        while (
            room > 0 and len(found) < limit and (kept := self._runs.pop((partition, after), None))
        ):
            run, size = kept
            self._bytes -= size
            room -= size
            left = limit - len(found)
            if left < len(run.offsets):
                envelopes, offsets, at = run.envelopes, run.offsets, run.appended_at
                self._keep(partition, Run(envelopes[left:], offsets[left:], at))
                run = Run(envelopes[:left], offsets[:left], at)
            found += run.records()
            after = run.last
        if found:
            self.want(partition, 0.0)  # a reader that is never behind may never wait
        return found

    def _keep(self, partition: int, run: Run) -> None:
        size = run.size
        self._runs[partition, run.before] = run, size
        self._bytes += size

    def _forget_old_server(self) -> None:
        if self._made_before != self._made():
            self._made_before = self._made()
            self._runs.clear()
            self._bytes = 0

"""A backfill begins where an earlier one knew both logs to be equal, and misses nothing by it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migration_guide.backfill.comparing import RunningComparison
from migration_guide.backfill.equal import KnownEqual
from migration_guide.parity.check import check
from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.result import ParityResult
from tests.parity.still_log import EPOCH, StillLog
from transport.errors import TransportUnavailable
from transport.message.envelope import HEADER_MIRROR_PARTITION
from transport.message.partitioner import partition_for


async def nothing_settled() -> dict[int, str]:
    """PostgreSQL knows no position in the source."""
    return {}


class Send(NamedTuple):
    """Messages. ``late``: after so many further steps their copies are there, ``None``: never.

    ``skew``: the seconds by which the target's clock is ahead.
    """

    conversation: str
    late: int | None
    skew: float
    number: int = 1


class Look(NamedTuple):
    """A backfill that leaves the latest messages to the shadow, and may end before it appends."""

    young: int
    appends: bool


class Story:
    """Two logs while steps are taken, and the place that the latest backfill noted."""

    def __init__(self, counts: tuple[int, int], in_memory: int = 10_000) -> None:
        self.logs = StillLog("redis", counts[0]), StillLog("kafka", counts[1])
        self.known: str | None = None
        self.read = 0
        self.sent: list[tuple[float, str, str, float]] = []
        self.copied: set[int] = set()
        self._due: list[tuple[int, int]] = []
        self._steps = 0
        self._in_memory = in_memory

    def send(self, step: Send) -> None:
        """Append originals; their copies come in their time."""
        for _ in range(step.number):
            self._send(step)

    def _send(self, step: Send) -> None:
        number, at = len(self.sent), float(self._steps)
        homes = self._homes(step.conversation)
        of = self.logs[0].put(
            number, at, conversation=step.conversation, partition=homes[0], accepted=at
        )
        self.sent.append((at, step.conversation, of, step.skew))
        if step.late is not None:
            self._due.append((self._steps + step.late, number))

    def pass_time(self) -> None:
        """Append the copies that are due."""
        for due, number in sorted(self._due):
            if due <= self._steps:
                self.copy(number, "async")
        self._due = [(due, number) for due, number in self._due if due > self._steps]
        self._steps += 1

    def copy(self, number: int, mode: str) -> None:
        """Append the copy of a message."""
        at, conversation, of, skew = self.sent[number]
        self.copied.add(number)
        homes = self._homes(conversation)
        headers = {HEADER_MIRROR_PARTITION: str(homes[0])} if homes[0] != homes[1] else {}
        self.logs[1].put(
            number,
            self._steps + skew,
            conversation=conversation,
            partition=homes[1],
            of=of,
            mode=mode,
            accepted=at,
            headers=headers,
        )

    async def look(self, young: int = 0, *, appends: bool = True) -> int:
        """Run a backfill; return how many records it appended."""
        last = self.sent[-1 - young][0] if len(self.sent) > young else -1.0
        settle = time.time() - (EPOCH + last + 0.5)
        comparing = await RunningComparison.begin(
            *self.logs,  # type: ignore[arg-type] - the part of a transport that it uses
            since=None,
            limits=ParityLimits(settle=settle, in_memory=self._in_memory),
            everything=False,
            settled=nothing_settled,
            earlier=self.earlier,
        )
        appended = 0
        with closing(comparing):
            while True:
                assert await comparing.read_on(self._examined)
                missing = [
                    lack for p in range(self.logs[0].partitions) for lack in comparing.missing(p)
                ]
                if not appends or not missing:
                    break
                for lack in missing:
                    names = [(s[2], self._homes(s[1])[0]) for s in self.sent]
                    name = f"redis:{lack.facts.offset}", lack.comparison.cell.primary
                    number = names.index(name)
                    assert number not in self.copied
                    self.copy(number, "backfill")
                    lack.let_go()
                appended += len(missing)
            self.known = comparing.settled().note()
        return appended

    async def earlier(self, logs: str) -> KnownEqual | None:
        known = KnownEqual.noted(self.known) if self.known else None
        return known if known and known.logs == logs else None

    def _examined(self, records: int) -> None:
        self.read += records

    def _homes(self, conversation: str) -> tuple[int, int]:
        one, other = (partition_for(conversation, log.partitions) for log in self.logs)
        return one, other


sends = st.builds(
    Send,
    st.sampled_from("abcde"),
    st.sampled_from((0, 0, 0, 1, 3, None)),
    st.sampled_from((0.0, 0.2, -0.4)),
    st.sampled_from((1, 1, 1, 1, 130)),
)
looks = st.builds(Look, st.sampled_from((0, 2, 5)), st.booleans())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(sends, sends, sends, looks), max_size=40),
    st.sampled_from(((1, 1), (2, 3), (4, 2))),
    st.sampled_from((1, 10_000)),
)
async def test_nothing_is_missed_or_doubled_wherever_the_drops_lie(
    steps: list[Send | Look], counts: tuple[int, int], in_memory: int
) -> None:
    """Drops before, at and after the place, late copies, and clocks that go apart."""
    story = Story(counts, in_memory)
    for step in steps:
        if isinstance(step, Send):
            story.send(step)
        else:
            await story.look(step.young, appends=step.appends)
        story.pass_time()
    await story.look()
    await story.look()
    report = await check(*story.logs, limits=ParityLimits(settle=60.0))  # type: ignore[arg-type]
    assert not report.totals.of(ParityResult.MISSING_IN_SHADOW, ParityResult.TRIMMED)
    assert await story.look() == 0


async def test_a_place_amid_copies_that_were_read_before_their_originals() -> None:
    """The target's clock is behind, and the place lies between a copy and its original."""
    story = Story((1, 1))
    story.send(Send("a", 0, -0.4, 130))
    story.pass_time()
    story.send(Send("a", None, 0.0))
    assert await story.look(appends=False) == 0
    assert await story.look() == 1


async def told(
    count: int = 4000, counts: tuple[int, int] = (1, 1), *, dropped: tuple[int, ...] = ()
) -> Story:
    story = Story(counts)
    for number in range(count):
        story.send(Send(f"c{number % 50}", None if number in dropped else 0, 0.01))
        story.pass_time()
    return story


@pytest.mark.parametrize("counts", [(1, 1), (2, 3)])
async def test_what_is_known_to_be_equal_is_not_read_again(counts: tuple[int, int]) -> None:
    story = await told(counts=counts)
    await story.look()
    assert story.read == 8000
    story.read = 0
    for number in range(4000, 4100):
        story.send(Send(f"c{number % 50}", None if number == 4050 else 0, 0.01))
        story.pass_time()
    assert await story.look() == 1
    # What came since, the copy, and of each partition of the target the record at the place.
    assert 200 <= story.read <= 200 + counts[1]


async def test_rounds_read_on_where_the_one_before_ended() -> None:
    story = await told(dropped=(10, 3000))
    assert await story.look() == 2
    assert story.read == 4000 + 3998 + 2


@pytest.mark.parametrize("counts", [(2, 4), (4, 6), (1, 1)])
async def test_what_the_target_remembers_is_missing_once(counts: tuple[int, int]) -> None:
    """Its append adds no record that a later round would find, in whichever cell it is."""
    story = await told(400, counts, dropped=tuple(range(200, 220)))

    async def nothing_known(_: str) -> None:
        return None

    comparing = await RunningComparison.begin(
        *story.logs,  # type: ignore[arg-type]
        since=None,
        limits=ParityLimits(settle=0.0),
        everything=False,
        settled=nothing_settled,
        earlier=nothing_known,
    )
    with closing(comparing):
        assert await comparing.read_on(lambda _: None)
        partitions = range(counts[0])
        found = [lack for p in partitions for lack in comparing.missing(p)]
        assert len(found) == 20
        for lack in found:
            lack.let_go()
        assert await comparing.read_on(lambda _: None)
        assert not [lack for p in partitions for lack in comparing.missing(p)]


@pytest.mark.parametrize("counts", [(4, 6), (6, 4), (2, 1)])
async def test_each_partition_is_read_once_for_all_its_cells(counts: tuple[int, int]) -> None:
    story = await told(counts=counts)
    await story.look()
    assert story.read == 8000


@pytest.mark.parametrize("side", [0, 1], ids=["source", "target"])
async def test_a_log_that_lost_records_is_compared_from_its_beginning(side: int) -> None:
    story = await told()
    await story.look()
    story.copied.clear()
    story.logs[1].drop(0, 5)  # nobody looked there any more
    assert await story.look() == 0
    story.logs[side].lost += 1
    assert await story.look() == 1


@pytest.mark.parametrize("side", [0, 1], ids=["source", "target"])
async def test_a_log_that_was_set_back_is_compared_from_its_beginning(side: int) -> None:
    """Nobody counted the loss: a restored backup. The record at the place is another one now."""
    story = await told()
    await story.look()
    story.copied.clear()
    story.logs[1].drop(0, 5)
    log = story.logs[side]
    last = int(log.records[0][-1].offset)
    log.drop(0, *range(last - 10, last + 1))
    if side == 0:
        story.sent = story.sent[:-11]
    assert await story.look() == (1 if side == 0 else 12)


async def test_a_loss_while_it_is_read_makes_it_begin_anew() -> None:
    story = await told(100)
    comparing = await RunningComparison.begin(
        *story.logs,  # type: ignore[arg-type]
        since=None,
        limits=ParityLimits(settle=0.0),
        everything=False,
        settled=nothing_settled,
        earlier=story.earlier,
    )
    with closing(comparing):
        assert await comparing.read_on(lambda _: None)
        story.logs[1].lost += 1
        assert not await comparing.read_on(lambda _: None)


class Failing(StillLog):
    """Every other page of it can't be read."""

    fails = False

    async def read(self, topic: Any, partition: int, **options: Any) -> Any:
        self.fails = not self.fails
        if self.fails:
            raise TransportUnavailable("away")
        return await super().read(topic, partition, **options)


async def until_it_can(act: Callable[[], Awaitable[bool]]) -> bool:
    while True:
        try:
            return await act()
        except (TransportUnavailable, ExceptionGroup):
            pass


async def test_an_outage_reads_nothing_twice() -> None:
    story = await told(9000, (2, 3), dropped=(8000,))
    comparing = await RunningComparison.begin(
        *story.logs,  # type: ignore[arg-type]
        since=None,
        limits=ParityLimits(settle=0.0),
        everything=False,
        settled=nothing_settled,
        earlier=story.earlier,
    )
    for log in story.logs:
        log.__class__ = Failing
    read = [log.reads for log in story.logs]
    with closing(comparing):
        assert await until_it_can(lambda: comparing.read_on(lambda _: None))
        missing = [lack for p in range(2) for lack in comparing.missing(p)]
    assert len(missing) == 1
    # Pages of 4,500 records and of 3,000, and the ends; and the beginning, of what is missing.
    pages = [log.reads - before for log, before in zip(story.logs, read, strict=True)]
    assert pages[0] <= 2 * (3 + 1) + 2
    assert pages[1] <= 3 * (2 + 1) + 3

"""Random histories with known anomalies: each class is counted exactly, in constant memory."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Any

import psutil
from hypothesis import given, settings
from hypothesis import strategies as st

from migration_guide.parity.cells import cells
from migration_guide.parity.check import check
from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.result import ParityResult
from tests.parity.still_log import StillLog
from transport.message.envelope import HEADER_MIRROR_PARTITION
from transport.message.partitioner import partition_for

# Between the steps in which times are drawn: at the very bound rounding would decide.
TOLERANCE = 0.055
KINDS = ("equal",) * 6 + ("lost", "orphan", "doubled", "altered", "doubled-original")


@dataclass
class Sent:
    number: int
    conversation: str
    home: int
    accepted: float
    appended: float
    copied: float
    mode: str
    kind: str


@st.composite
def histories(draw: st.DrawFn) -> list[Sent]:
    sent, at = list[Sent](), 0.0
    for number in range(draw(st.integers(2, 40))):
        at += draw(st.sampled_from((0.01, 0.2, 1.0)))
        sent.append(
            Sent(
                number,
                draw(st.sampled_from("abc")),
                draw(st.integers(0, 1)),
                at - draw(st.sampled_from((0.0, 0.02, 0.5))),
                at,
                at + draw(st.sampled_from((0.003, 0.3, 4.0))),
                draw(st.sampled_from(("sync", "sync", "async", "backfill"))),
                draw(st.sampled_from(KINDS)),
            )
        )
    return sent


def appends_of(sent: list[Sent]) -> list[tuple[float, int, Sent, str]]:
    """Return the appends in the order of time: of each message, its original first."""
    appends = []
    for order, message in enumerate(sent):
        appends.append((message.appended, 2 * order, message, "original"))
        if message.kind == "doubled-original":  # tried again at once; the first has the copy
            appends.append((message.appended + 0.001, 2 * order, message, "original again"))
        if message.kind != "lost":
            appends.append((message.copied, 2 * order + 1, message, "copy"))
        if message.kind == "doubled":
            appends.append((message.copied + 7.0, 2 * order + 1, message, "copy again"))
    return sorted(appends, key=lambda append: append[:2])


def first_of_each(counts: tuple[int, int]) -> list[Sent]:
    """Make a message for each cell, which both logs have before the others: both had begun."""
    left, found = set(cells(*counts)), list[Sent]()
    for number in itertools.count(100):
        conversation = f"z{number}"
        homes = tuple(partition_for(conversation, count) for count in counts)
        if homes in left:
            left.remove(homes)
            found.append(Sent(number, conversation, 0, -2.0, -2.0, -1.9, "sync", "equal"))
        if not left:
            return found
    raise AssertionError


def written(
    sent: list[Sent], counts: tuple[int, int]
) -> tuple[StillLog, StillLog, list[tuple[Sent, list[int]]]]:
    """Write the history; return the logs, and of each message its two offsets where it has two."""
    logs = StillLog("redis", counts[0]), StillLog("kafka", counts[1])
    names: dict[int, str] = {}
    places: dict[int, list[int]] = {message.number: [0, 0] for message in sent}
    for at, _, message, what in appends_of(sent):
        extra: dict[str, Any] = {"accepted": message.accepted, "conversation": message.conversation}
        side, homes = message.home, [partition_for(message.conversation, count) for count in counts]
        if what.startswith("copy"):
            side = 1 - message.home
            extra |= {"of": names[message.number], "mode": message.mode}
            extra |= {"content": "altered"} if message.kind == "altered" else {}
            if homes[0] != homes[1]:
                extra["headers"] = {HEADER_MIRROR_PARTITION: str(homes[message.home])}
        name = logs[side].put(message.number, at, partition=homes[side], **extra)
        if not what.endswith("again"):
            places[message.number][side] = int(name.partition(":")[2])
        if what == "original":
            names[message.number] = name
    for message in sent:
        if message.kind == "orphan":
            home = partition_for(message.conversation, counts[message.home])
            logs[message.home].drop(home, places[message.number][message.home])
    both = [(s, places[s.number]) for s in sent if s.kind not in ("lost", "orphan")]
    return *logs, both


def expected(sent: list[Sent], both: list[tuple[Sent, list[int]]]) -> Counter[ParityResult]:
    """Compute the expected results the slow way, by comparing every two messages."""
    found: Counter[ParityResult] = Counter()
    for message in sent:
        if message.kind == "lost":
            found[
                (ParityResult.MISSING_IN_SHADOW, ParityResult.MISSING_IN_PRIMARY)[message.home]
            ] += 1
        elif message.kind == "orphan":
            found[
                (ParityResult.MISSING_IN_PRIMARY, ParityResult.MISSING_IN_SHADOW)[message.home]
            ] += 1
        else:
            altered = message.kind == "altered"
            found[ParityResult.DIFFERENT_BYTES if altered else ParityResult.MATCHED] += 1
            found[ParityResult.DUPLICATE] += message.kind.startswith("doubled")
    for a, at_a in both:
        for b, at_b in both:
            if a.conversation == b.conversation and at_a[0] < at_b[0] and at_a[1] > at_b[1]:
                found[exchanged(a, b)] += 1
    return +found


def exchanged(a: Sent, b: Sent) -> ParityResult:
    """``a`` is before ``b`` in the first log, and after it in the second."""
    verdicts = []
    for late, early, side in ((a, b, 1), (b, a, 0)):
        # The record of `late` in the log where it stands late: a copy?
        if late.home == side or late.mode == "sync":
            continue
        if early.accepted + TOLERANCE < late.appended:
            continue
        verdicts.append(late.mode)
    if "async" in verdicts:
        return ParityResult.ORDER_DIFFERS
    return ParityResult.ORDER_BACKFILLED if verdicts else ParityResult.ORDER_OVERLAPPED


@settings(max_examples=200, deadline=None)
@given(
    histories(),
    st.sampled_from((1, 3, 10_000)),
    st.sampled_from(((1, 1), (1, 2), (3, 2), (4, 2), (4, 6))),
)
async def test_every_class_is_counted_exactly(
    sent: list[Sent], in_memory: int, counts: tuple[int, int]
) -> None:
    """Also when nearly everything that waits goes to the file, and whatever the counts are."""
    sent = first_of_each(counts) + sent
    redis, kafka, both = written(sent, counts)
    limits = ParityLimits(settle=3600.0, tolerance=TOLERANCE, in_memory=in_memory)
    report = await check(redis, kafka, limits=limits)
    found = Counter({r: n for r, n in report.totals.counts.items() if n})
    assert found == expected(sent, both)


class Endless(StillLog):
    """A log whose records are made as they are read: only the checker's memory counts."""

    def __init__(self, name: str, length: int, lacks: int = 0) -> None:
        super().__init__(name)
        self.length = length
        self.lacks = lacks

    async def read(self, topic, partition, *, after=None, limit=1000, wait=0.0):
        start = 0 if after is None else int(after) + 1
        self.records, self.offsets = [[]], [[]]
        for offset in range(start, min(start + limit, self.length)):
            if self.lacks and offset % self.lacks == 0 and offset:
                continue
            if self.name == "redis":
                self.put(offset, offset * 0.001, conversation=f"c{offset % 97}", offset=offset)
            else:
                self.put(
                    offset,
                    offset * 0.001 + 0.002,
                    conversation=f"c{offset % 97}",
                    offset=offset,
                    of=f"redis:{offset}",
                    mode="sync",
                    accepted=offset * 0.001,
                )
        return self.records[0]


async def test_memory_does_not_grow_with_the_volume() -> None:
    """120,000 records, and of every fifth no copy: six times more than may wait in memory."""
    length, seen, process = 60_000, [], psutil.Process()
    report = await check(
        Endless("redis", length),
        Endless("kafka", length, 5),
        limits=ParityLimits(settle=1.0, in_memory=2000),
        progress=lambda read: seen.append((read, process.memory_info().rss)),
    )
    missing = (length - 1) // 5
    assert report.totals.counts[ParityResult.MISSING_IN_SHADOW] == missing
    assert report.totals.counts[ParityResult.MATCHED] == length - missing
    warm, middle, last = (seen[place][1] for place in (len(seen) // 8, len(seen) * 9 // 16, -1))
    # What leaks grows in both halves; the memory of a new thread comes once.
    assert min(middle - warm, last - middle) < 2 * 1024 * 1024

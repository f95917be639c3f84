"""The appends that a process keeps for its own readers: what they get, and what is kept."""

from __future__ import annotations

import asyncio

import pytest

from transport.contract import Envelope
from transport.redis.append.own_appends import OwnAppends, Run

LONG = 30.0
MUCH = "x" * 1_000_000  # five of them are more than is kept
P = 1


def run_of(*offsets: str, body: str = "hello") -> Run:
    """Return a run of records at these offsets."""
    envelopes = [Envelope(f"m{at}", P, "conv", f"{body}{at}".encode(), {}) for at in offsets]
    return Run(envelopes, list(offsets), 1.0)


class _Server:
    """Counts the connections that were made to it."""

    def __init__(self) -> None:
        self.made = 1


@pytest.fixture
def server() -> _Server:
    return _Server()


@pytest.fixture
async def appends(server: _Server) -> OwnAppends:
    """Those of a process that reads the partition."""
    appends = OwnAppends(lambda: server.made)
    appends.want(P, LONG)
    return appends


def taken(appends: OwnAppends, after: str | None, limit: int = 100) -> list[str]:
    return [record.offset for record in appends.take(P, after, limit)]


async def test_a_reader_gets_what_follows_its_record_and_nothing_after_a_gap(
    appends: OwnAppends,
) -> None:
    for run in (run_of("7-1"), run_of("7-2", "7-3"), run_of("8-1")):
        appends.appended(P, run)
    assert taken(appends, None) == taken(appends, "7-3") == []
    assert taken(appends, "7-0") == ["7-1", "7-2", "7-3"]
    assert taken(appends, "7-0") == [], "they are kept no longer"
    assert taken(appends, "8-0") == ["8-1"]


def test_only_records_of_one_generation_are_adjacent() -> None:
    runs = (run_of("7-1"), run_of("7-1", "7-2"), run_of("7-0"), run_of("7-1", "8-0"))
    assert [run.is_dense for run in runs] == [True, True, False, False]


async def test_what_is_beyond_the_limit_comes_next(appends: OwnAppends) -> None:
    appends.appended(P, run_of("7-1", "7-2", "7-3"))
    appends.appended(P, run_of("7-4", "7-5"))
    assert [taken(appends, after, 2) for after in ("7-0", "7-2", "7-4")] == [
        ["7-1", "7-2"],
        ["7-3", "7-4"],
        ["7-5"],
    ]


async def test_the_oldest_are_dropped_where_they_are_too_many(appends: OwnAppends) -> None:
    for n in range(10):
        appends.appended(P, run_of(f"7-{n + 1}", body=MUCH))
    assert taken(appends, "7-0") == []
    got = [taken(appends, f"7-{n}", 1) for n in range(1, 10)]
    assert got[-1] == ["7-10"]
    assert 1 <= sum(map(len, got)) <= 4


async def test_a_partition_that_is_not_read_keeps_nothing(appends: OwnAppends) -> None:
    rung: list[int] = []
    appends.on_kept = lambda partition, run: rung.append(partition)
    appends.appended(P + 1, run_of("7-1"))
    assert not appends.take(P + 1, "7-0", 10)
    appends.appended(P, run_of("7-1"))
    assert rung == [P]


async def test_nothing_is_kept_over_a_change_of_connections(
    appends: OwnAppends, server: _Server
) -> None:
    """A new one may lead to a server that lacks the records."""
    appends.appended(P, run_of("7-1"))
    server.made += 1
    assert taken(appends, "7-0") == []
    appends.appended(P, run_of("7-2"))
    assert taken(appends, "7-1") == ["7-2"]


async def test_only_appends_that_have_begun_are_waited_for(appends: OwnAppends) -> None:
    await appends.answered(LONG)
    first, second = appends.begin(), appends.begin()
    waiting = asyncio.create_task(appends.answered(LONG))
    await asyncio.sleep(0)
    third = appends.begin()
    appends.end(second)
    await asyncio.sleep(0)
    assert not waiting.done()
    appends.end(first)
    await waiting
    await appends.answered(0.001)  # the third one stays without an answer
    appends.end(third)

"""What waits in the log ahead of a message that is persisted directly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pytest

from ingress.accept.backlog import Backlog
from persistence.database.pool import Pool
from tests.parity.still_log import StillLog
from tests.support.positions import settle_through
from transport.contract import Progress, Topic


class _Waiting(StillLog):
    """A log of one partition."""

    shown = -1
    """The position that it shows."""
    lost = 0
    is_lag_known = True
    reason: str | None = None
    """Field of ``Progress`` that says why what waits can't be read."""

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        last = self.offsets[0][-1]
        lag = last - self.shown if self.is_lag_known else None
        told = Progress(0, lag, 1.0, None, str(last), lost=self.lost)
        return [msgspec.structs.replace(told, **{self.reason: True}) if self.reason else told]

    async def publish_positions(
        self, topic: Topic, positions: Mapping[int, str], *, group: str
    ) -> None:
        self.shown = int(positions[0])


async def test_what_stands_where_lost_records_stood_is_read_too(database_pool: Pool) -> None:
    """Kafka lost its tail and grew again beyond what was read: nothing may overtake the new."""
    log = _Waiting("kafka")
    backlog = Backlog(log, database_pool, limit=100)
    for number in range(5):
        log.put(number, number, conversation=f"old-{number}")
    asked = [(0, f"{kind}-{number}") for kind in ("old", "new") for number in range(6)]
    assert await backlog.behind(asked) == {f"old-{number}" for number in range(5)}
    log.drop(0, 2, 3, 4)
    log.lost = 3
    for number in range(6):
        log.put(number, 10 + number, conversation=f"new-{number}")
    waiting = {"old-0", "old-1", *(f"new-{number}" for number in range(6))}
    assert await backlog.behind(asked) == waiting
    assert await backlog.behind(asked) == waiting, "and is not read again each time"


@pytest.fixture
def log() -> _Waiting:
    """Seven messages, each of a conversation of its own."""
    log = _Waiting("kafka")
    for number in range(7):
        log.put(number, number, conversation=f"c{number}")
    return log


async def test_what_is_settled_is_no_longer_ahead(log: _Waiting, database_pool: Pool) -> None:
    backlog = Backlog(log, database_pool, limit=100)
    asked = [(0, f"c{number}") for number in range(12)]
    for floor in (0, 3, 5):
        await settle_through(database_pool, log, {0: str(floor)})
        ahead = {f"c{number}" for number in range(floor + 1, 7)}
        assert await backlog.behind(asked) == ahead
    for number in range(7, 11):
        log.put(number, number, conversation=f"c{number}")
    await settle_through(database_pool, log, {0: str(9)})  # beyond all that was read
    assert await backlog.behind(asked) == {"c10"}
    await settle_through(database_pool, log, {0: str(10)})
    assert await backlog.behind(asked) == set()
    log.put(11, 11, conversation="c11")
    assert await backlog.behind(asked) == {"c11"}


@pytest.mark.parametrize("is_lag_known", [True, False])
async def test_more_than_is_looked_through_may_be_of_any_conversation(
    log: _Waiting, database_pool: Pool, is_lag_known: bool
) -> None:
    log.is_lag_known = is_lag_known
    last = 1000 if not is_lag_known else 6  # so many are read before they are counted
    for number in range(7, last + 1):
        log.put(number, number, conversation="c")
    backlog = Backlog(log, database_pool, limit=3)
    assert await backlog.behind([(0, "none of them")]) == {"none of them"}
    await settle_through(database_pool, log, {0: str(last - 1)})
    assert await backlog.behind([(0, "none of them"), (0, "c"), (0, "c6")]) == {
        "c6" if is_lag_known else "c"
    }


@pytest.mark.parametrize("reason", ["held", "unavailable"])
async def test_what_can_not_be_read_may_be_of_any_conversation(
    log: _Waiting, database_pool: Pool, reason: str
) -> None:
    log.reason = reason
    backlog = Backlog(log, database_pool, limit=100)
    assert await backlog.behind([(0, "none of them")]) == {"none of them"}


async def test_what_postgresql_lost_is_ahead_again(log: _Waiting, database_pool: Pool) -> None:
    """A message that is persisted directly must not overtake records that have no row any more."""
    backlog = Backlog(log, database_pool, limit=100)
    asked = [(0, f"c{number}") for number in range(7)]
    await settle_through(database_pool, log, {0: "5"})
    assert await backlog.behind(asked) == {"c6"}
    await settle_through(database_pool, log, {0: "2"})
    assert await backlog.behind(asked) == {"c3", "c4", "c5", "c6"}
    await database_pool.execute("DELETE FROM log_positions")
    assert await backlog.behind(asked) == {f"c{number}" for number in range(7)}

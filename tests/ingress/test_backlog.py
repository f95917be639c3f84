"""What waits in the log ahead of a message that is persisted directly."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from ingress.accept.backlog import Backlog
from tests.parity.still_log import StillLog
from transport.contract import Progress, Topic


class _Waiting(StillLog):
    """A log of one partition; its workers stand behind ``floor``."""

    floor = -1
    lost = 0
    is_lag_known = True
    reason: str | None = None
    """Field of ``Progress`` that says why what waits can't be read."""

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        last = self.offsets[0][-1]
        floor = str(self.floor) if self.floor >= 0 else None
        lag = last - self.floor
        told = Progress(0, lag, None, 1.0, floor, str(last), None, lost=self.lost)
        if not self.is_lag_known:
            told = msgspec.structs.replace(told, lag=None)
        return [msgspec.structs.replace(told, **{self.reason: True}) if self.reason else told]


async def test_what_stands_where_lost_records_stood_is_read_too() -> None:
    """Kafka lost its tail and grew again beyond what was read: nothing may overtake the new."""
    log = _Waiting("kafka")
    backlog = Backlog(log, limit=100)
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


async def test_what_is_acknowledged_is_no_longer_ahead(log: _Waiting) -> None:
    backlog = Backlog(log, limit=100)
    asked = [(0, f"c{number}") for number in range(12)]
    for floor in (0, 3, 5):
        log.floor = floor
        ahead = {f"c{number}" for number in range(floor + 1, 7)}
        assert await backlog.behind(asked) == ahead
    for number in range(7, 11):
        log.put(number, number, conversation=f"c{number}")
    log.floor = 9  # beyond all that was read
    assert await backlog.behind(asked) == {"c10"}
    log.floor = 10
    assert await backlog.behind(asked) == set()
    log.put(11, 11, conversation="c11")
    assert await backlog.behind(asked) == {"c11"}


@pytest.mark.parametrize("is_lag_known", [True, False])
async def test_more_than_is_looked_through_may_be_of_any_conversation(
    log: _Waiting, is_lag_known: bool
) -> None:
    log.is_lag_known = is_lag_known
    last = 1000 if not is_lag_known else 6  # so many are read before they are counted
    for number in range(7, last + 1):
        log.put(number, number, conversation="c")
    backlog = Backlog(log, limit=3)
    assert await backlog.behind([(0, "none of them")]) == {"none of them"}
    log.floor = last - 1
    assert await backlog.behind([(0, "none of them"), (0, "c"), (0, "c6")]) == {
        "c6" if is_lag_known else "c"
    }


@pytest.mark.parametrize("reason", ["held", "unavailable"])
async def test_what_can_not_be_read_may_be_of_any_conversation(log: _Waiting, reason: str) -> None:
    log.reason = reason
    assert await Backlog(log, limit=100).behind([(0, "none of them")]) == {"none of them"}

"""What waits in the log ahead of a message that is persisted directly."""

from __future__ import annotations

from collections.abc import Sequence

from ingress.accept.backlog import Backlog
from tests.parity.still_log import StillLog
from transport.contract import Progress, Topic


class _Waiting(StillLog):
    """A log of one partition; its workers stand behind ``floor``."""

    floor = -1
    lost = 0

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        last = self.offsets[0][-1]
        floor = str(self.floor) if self.floor >= 0 else None
        lag = last - self.floor
        return [Progress(0, lag, None, 1.0, floor, str(last), None, lost=self.lost)]


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

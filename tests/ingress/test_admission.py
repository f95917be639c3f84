"""How many messages are let in while rows are late: by the log's own counters."""

from __future__ import annotations

import pytest

from ingress.accept.admission import Admission
from ingress.schema.problems import Problem
from transport.contract import Progress
from transport.errors import TransportUnavailable

_MOST = 10.0


class _CountedLog:
    """Progress as a log would tell it of partitions that are all as late as ``late``."""

    def __init__(self) -> None:
        self.appended = self.acknowledged = 0
        self.late = [0.0] * 16
        self.is_away = False

    async def progress(self, _topic, *, group) -> list[Progress]:
        del group
        if self.is_away:
            raise TransportUnavailable("told to")
        rest = [0] * 15
        return [
            Progress(number, lag, late, None, None, appended=appended)
            for number, (late, lag, appended) in enumerate(
                zip(
                    self.late,
                    [self.appended - self.acknowledged, *rest],
                    [self.appended, *rest],
                    strict=True,
                )
            )
        ]


class _Stand:
    """One process, second by second."""

    def __init__(self) -> None:
        self.log = _CountedLog()
        self.now = 100.0
        self.admission = Admission(self.log, _MOST, clock=lambda: self.now)
        self.retry_after = 0

    async def second(
        self, offered: int, *, persisted: int, others: int = 0, queued: float = 1.0
    ) -> int:
        """Offer messages evenly for a second; return how many came in.

        ``queued`` is the share of them that goes to the log.
        """
        accepted = 0
        for _ in range(offered):
            self.now += 1 / offered
            try:
                self.admission.take()
            except Problem as problem:
                self.retry_after = int(problem.headers["Retry-After"])
            else:
                accepted += 1
        self.log.appended += int(accepted * queued) + others
        self.log.acknowledged += persisted
        await self.admission.look()
        return accepted


async def _overloaded(*, others: int = 0, persisted: int = 1000) -> _Stand:
    stand = _Stand()
    stand.log.late = [_MOST + 1] * 16
    stand.log.appended = 4 * int(_MOST) * persisted
    for _ in range(5):
        await stand.second(2000, persisted=persisted, others=others)
    return stand


async def test_as_many_come_in_as_are_persisted():
    stand = await _overloaded()
    stand.log.late = [_MOST] * 16
    for _ in range(5):
        accepted = await stand.second(2000, persisted=1000)
    assert accepted == pytest.approx(1000, rel=0.15)


async def test_fewer_come_in_while_rows_get_later_and_more_once_they_are_in_time():
    stand = await _overloaded()
    stand.log.late = [2 * _MOST] * 16
    await stand.second(2000, persisted=1000)
    assert await stand.second(2000, persisted=1000) < 900
    stand.log.late = [_MOST / 2 - 1] * 16
    await stand.second(2000, persisted=1000)
    assert await stand.second(2000, persisted=1000) == 2000


async def test_a_process_lets_in_its_share_of_what_all_let_in():
    stand = await _overloaded(others=2000)  # another one takes as many
    stand.log.late = [_MOST] * 16
    for _ in range(6):
        accepted = await stand.second(2000, persisted=1000, others=500)
    assert accepted == pytest.approx(500, rel=0.2)


async def test_others_who_are_not_refused_take_half_of_what_came_in_and_no_more():
    stand = await _overloaded()
    stand.log.late = [_MOST] * 16
    for _ in range(20):
        accepted = await stand.second(2000, persisted=1000, others=5000)
    assert accepted == pytest.approx(500, rel=0.2)


async def test_one_hot_partition_refuses_nothing():
    stand = _Stand()
    stand.log.late = [600.0, *[0.0] * 15]
    for _ in range(6):
        assert await stand.second(500, persisted=100) == 500


async def test_nothing_is_refused_while_nothing_is_persisted_nor_while_workers_catch_up():
    stand = _Stand()
    stand.log.late = [600.0] * 16
    for _ in range(6):
        assert await stand.second(500, persisted=0) == 500
    for persisted in (100, 1500, 1500):
        assert await stand.second(500, persisted=persisted) == 500


@pytest.mark.parametrize("away", ["database", "log"])
async def test_an_outage_ends_an_overload(away: str):
    """The log takes everything that it can, as long as nothing is persisted."""
    stand = await _overloaded()
    assert await stand.second(2000, persisted=1000) < 2000
    stand.log.is_away = away == "log"
    for _ in range(4):
        await stand.second(2000, persisted=0)
    assert await stand.second(2000, persisted=0) == 2000
    stand.log.is_away = False
    assert await stand.second(2000, persisted=1000) == 2000, "what was before it says nothing"


async def test_less_and_less_is_not_accepted_because_refusing_takes_processor_time():
    stand = await _overloaded()
    stand.log.late = [_MOST] * 16
    for _ in range(5):
        accepted = await stand.second(2000, persisted=100)
    assert accepted >= 400


async def test_a_debt_is_paid_within_a_minute():
    stand = await _overloaded()
    stand.now += 1
    stand.admission.take()
    stand.admission.count(1_000_000)
    stand.now += 1
    with pytest.raises(Problem):
        stand.admission.take()
    stand.now += 60
    stand.admission.take()


async def test_retry_after_is_when_the_log_is_short_enough_again():
    stand = await _overloaded()
    stand.log.appended = stand.log.acknowledged + 30_000  # 30 s of work, and 10 s may wait
    stand.admission = Admission(stand.log, _MOST, clock=lambda: stand.now)
    for _ in range(6):
        await stand.second(2000, persisted=1000)
    waiting = stand.log.appended - stand.log.acknowledged
    assert stand.retry_after == pytest.approx(waiting / 1000 - _MOST, abs=2)


async def test_no_limit_lets_everything_in():
    stand = _Stand()
    stand.admission = Admission(stand.log, 0, clock=lambda: stand.now)
    stand.admission.start()
    stand.log.late = [600.0] * 16
    assert await stand.second(500, persisted=10) == 500
    await stand.admission.close()


async def test_a_batch_is_paid_for_by_those_after_it():
    stand = await _overloaded()
    stand.log.late = [_MOST] * 16
    accepted = 0
    for _ in range(20):
        stand.now += 1
        try:
            stand.admission.take()
        except Problem:
            continue
        stand.admission.count(4_999)
        accepted += 5_000
    assert accepted <= 25_000


async def test_what_a_canary_persists_directly_is_not_limited_to_what_is_queued():
    stand = _Stand()
    stand.log.late = [_MOST + 1] * 16
    stand.log.appended = 100_000
    for _ in range(12):
        accepted = await stand.second(1000, persisted=80, queued=0.1)
    assert accepted >= 600


async def test_a_clock_that_is_ahead_of_the_logs_refuses_nothing():
    stand = _Stand()
    stand.log.late = [_MOST + 25] * 16
    for persisted in (900, 1100, 950, 1000, 990, 980, 970):
        assert await stand.second(1000, persisted=persisted) == 1000

"""Bisecting: exactly the culprits are set apart, the rest is written, in order (promise 6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.errors import Rejected, TooSlow
from persistence.store.batch import Written
from persistence.worker.batch.bisect import isolate
from tests.persistence.samples import message, placed


def batch_of(size: int):
    return [placed(message(f"c{i}", content=str(i))) for i in range(size)]


class Table:
    """Refuses a batch with a bad record whole, and keeps the order of what it took."""

    def __init__(self, bad: set[int], *, slow_above: int = 10_000) -> None:
        self.bad = bad
        self.slow_above = slow_above
        self.rows: list[int] = []
        self.alone: dict[int, int] = {}

    async def write(self, batch) -> Written:
        numbers = [int(p.event.content) for p in batch]
        if len(numbers) > self.slow_above:
            raise TooSlow("…")
        if len(numbers) == 1:
            self.alone[numbers[0]] = self.alone.get(numbers[0], 0) + 1
        if self.bad & set(numbers):
            raise Rejected("…")
        self.rows += numbers
        return Written(list(range(len(numbers))), [], [])


@given(size=st.integers(1, 60), data=st.data())
async def test_any_mixture_of_good_and_bad(size, data):
    bad = data.draw(st.sets(st.integers(0, size - 1)))
    table = Table(bad)
    settled = await isolate(batch_of(size), table.write, attempts=3)
    good = [i for i in range(size) if i not in bad]
    assert table.rows == settled.persisted == good
    assert [refused.index for refused in settled.refused] == sorted(bad)
    assert all(refused.attempts == 3 for refused in settled.refused)
    assert all(table.alone[i] == 3 for i in bad)


async def test_a_batch_that_is_too_slow_is_halved_until_it_is_not():
    table = Table(set(), slow_above=7)
    settled = await isolate(batch_of(50), table.write, attempts=1)
    assert table.rows == settled.persisted == list(range(50))
    with pytest.raises(TooSlow):
        await isolate(batch_of(2), Table(set(), slow_above=0).write, attempts=1)


async def test_a_record_that_is_taken_at_the_second_attempt_is_not_a_dead_letter():
    refusals = [Rejected("once")]

    async def write(batch) -> Written:
        if refusals:
            raise refusals.pop()
        return Written([0], [], [])

    settled = await isolate(batch_of(1), write, attempts=3)
    assert (settled.persisted, settled.refused) == ([0], [])

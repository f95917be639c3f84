"""What waits is found whether it is still in memory or went to the file."""

from __future__ import annotations

import msgspec

from migration_guide.parity.facts import facts_of
from migration_guide.parity.waiting import UnpairedRecords
from tests.persistence.samples import message, record
from transport.numeric_offsets import offset_sort_key


def test_that_something_is_ripe_is_told_as_it_is_read() -> None:
    waiting = UnpairedRecords(4)
    for number in range(8):
        one = msgspec.structs.replace(
            record(message(f"c{number}")), offset=str(number), appended_at=float(number)
        )
        facts = facts_of(one, 0, other="kafka", sort_key=offset_sort_key, other_key=offset_sort_key)
        assert waiting.add(facts)
    assert waiting.held < 8  # the first of them went to the file
    assert [waiting.has_ripe(0, until) for until in (0.0, 0.5, 100.0)] == [False, True, True]
    assert not waiting.has_ripe(1, 100.0)
    waiting.close()

"""What waits is found whether it is still in memory or went to the file."""

from __future__ import annotations

import msgspec

from migration_guide.parity.facts import facts_of
from migration_guide.parity.waiting import UnpairedRecords
from tests.persistence.samples import message, record
from transport.numeric_offsets import offset_sort_key


def test_what_is_ripe_is_returned_wherever_it_waits() -> None:
    waiting = UnpairedRecords(4)
    for number in range(8):
        one = msgspec.structs.replace(
            record(message(f"c{number}")), offset=str(number), appended_at=float(number)
        )
        facts = facts_of(one, 0, other="kafka", sort_key=offset_sort_key, other_key=offset_sort_key)
        assert waiting.add(facts)
    assert waiting.held < 8  # the first of them went to the file
    assert waiting.ripe(0, 0.0) == []
    assert waiting.ripe(1, 100.0) == []
    for until, expected in ((0.5, ["0"]), (100.0, [str(number) for number in range(1, 8)])):
        found = list[str]()
        while ripe := waiting.ripe(0, until):
            found += [facts.offset for facts in ripe]
            for facts in ripe:
                waiting.take(facts)
        assert found == expected
    waiting.close()

"""How far a group is, for who compares it with PostgreSQL: by what a log tells of its partition."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from otel.metrics import Metrics
from persistence.worker.recovery.positions import Positions, is_behind
from tests.parity.still_log import StillLog
from transport.contract import Progress, Topic
from transport.errors import TransportUnavailable

TOLD = Progress(0, 3, 0, 1.0, None, "9", appended=5)


class _Telling(StillLog):
    """Tells what it is given, and counts how often it was asked."""

    told: Progress = TOLD
    asked = 0

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        self.asked += 1
        return [self.told]


@pytest.fixture
def log() -> _Telling:
    return _Telling("kafka")


@pytest.fixture
def positions(log: _Telling) -> Positions:
    return Positions(log, Metrics())  # type: ignore[arg-type] # the part that is used


@pytest.mark.parametrize(
    ("told", "offset"),
    [
        ({"floor": "7"}, "7"),
        ({"floor": "7", "acknowledged": "5"}, "5"),
        ({"floor": "7", "acknowledged": ""}, ""),
        ({"lag": 5}, ""),
        ({}, None),
        ({"lag": None}, None),
        ({"appended": None}, None),
    ],
    ids=[
        "its last", "offsets without a record", "none of them", "nothing yet",
        "gone from the log", "lag unknown", "count unknown",
    ],
)  # fmt: skip
async def test_the_last_record_that_is_acknowledged(
    log: _Telling, positions: Positions, told: dict[str, object], offset: str | None
) -> None:
    log.told = msgspec.structs.replace(TOLD, **told)
    assert (await positions.floor(0)).offset == offset


async def test_of_a_partition_that_no_server_has_nothing_is_known(
    log: _Telling, positions: Positions
) -> None:
    log.told = msgspec.structs.replace(TOLD, unavailable=True)
    with pytest.raises(TransportUnavailable):
        await positions.floor(0)
    assert (await positions.floor(1)).offset is None


async def test_it_is_never_as_of_before_the_call(log: _Telling, positions: Positions) -> None:
    for offset in ("1", "2"):
        log.told = msgspec.structs.replace(TOLD, floor=offset)
        assert (await positions.floor(0)).offset == offset
    assert log.asked == 2


@pytest.mark.parametrize(
    ("through", "acknowledged", "behind"),
    [("5", "9", True), ("9", "9", False), ("10", "9", False), ("", "9", True), ("", "", False),
     ("5", None, False), ("5", "", False)],
)  # fmt: skip
def test_postgresql_is_behind(
    log: _Telling, through: str, acknowledged: str | None, behind: bool
) -> None:
    assert is_behind(log, through, acknowledged) == behind  # type: ignore[arg-type]

"""What a log that is not consumed is to its standby, for every choice of logs."""

from __future__ import annotations

import pytest

from compose.process.logs.transports import role_of
from persistence.standby.takeover_rules import LogRole, TakeoverReason
from tests.support.phases import CHOICES
from transport.contract import Record
from transport.settings import TransportSettings

ORIGINAL = Record("messages", 0, "0", "key", b"", {}, 0.0)  # type: ignore[arg-type]


def _settings(transport, shadow, mode, consume_from) -> TransportSettings:
    return TransportSettings(
        transport=transport,
        transport_shadow=shadow,
        transport_shadow_mode=mode or "async",
        consume_from=consume_from,
    )


def test_the_places_in_the_phases() -> None:
    places = [
        role_of("kafka" if choice.consume_from == "redis" else "redis", _settings(*choice))
        for choice in CHOICES[1:5]
    ]
    assert places == [LogRole.OTHER, LogRole.OTHER, LogRole.MIRRORED, LogRole.OTHER]


@pytest.mark.parametrize("shadow", [None, "memory"])
def test_a_primary_that_is_copied_nowhere_read_is_not_left_unread(shadow: str | None) -> None:
    """TRANSPORT was changed by hand and CONSUME_FROM was not."""
    role = role_of("kafka", _settings("kafka", shadow, "sync", "redis"))
    assert role.why(ORIGINAL) is TakeoverReason.UNSHADOWED


def test_a_primary_whose_copies_may_lack_some_is_only_waited_for() -> None:
    role = role_of("redis", _settings("redis", "kafka", "async", "kafka"))
    assert role.why(ORIGINAL) is None

"""What a client logs of a node that is gone."""

from __future__ import annotations

import logging
from pathlib import Path

import aiokafka
import pytest

from transport.kafka.client_log import OncePerOutage, SaidByUs


def _tells(filter_: OncePerOutage, node: int, error: str = "refused") -> bool:
    return filter_.filter(
        logging.makeLogRecord(
            {"msg": "Unable connect to node with id %s: %s", "args": (node, error)}
        )
    )


def test_an_outage_is_told_once_for_each_node_and_the_next_one_again() -> None:
    now = 0.0
    told = OncePerOutage(lambda: now)
    assert [_tells(told, node) for node in (1, 1, 2, 2, 1)] == [True, False, True, False, False]
    for _ in range(100):  # however long it goes on
        now += 5.0
        assert not _tells(told, 1)
    now += 61.0
    assert _tells(told, 1)


def test_other_messages_are_told() -> None:
    told = OncePerOutage()
    record = logging.makeLogRecord(
        {"msg": "Topic %s not found in cluster metadata", "args": ("a",)}
    )
    assert [told.filter(record) for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("message", [*OncePerOutage.MESSAGES, *SaidByUs.MESSAGES])
def test_the_client_has_these_messages(message: str) -> None:
    """A release of it that says them in other words would fill the log again."""
    sources = Path(aiokafka.__file__).parent.rglob("*.py")
    assert any(message in source.read_text("utf-8") for source in sources)

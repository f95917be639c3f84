"""What an operator reads of an outage of Kafka: that it began, that it is over, and little else."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from ssl import SSLCertVerificationError

import aiokafka
import pytest
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    NodeNotReadyError,
    SaslAuthenticationFailed,
)

from compose.local.kafka import KafkaServer
from tests.support.eventually import eventually
from transport.conformance.reader import ConformanceReader
from transport.kafka import KafkaTransport
from transport.kafka.client.client_log import LoggedElsewhere, OncePerOutage
from transport.kafka.client.node_outages import NodeOutages

_LOST, _BACK = "A Kafka node can't be reached", "A Kafka node can be reached again"
_UNSPOKEN = "A Kafka node can't be spoken to over TLS; will retry"


def _tells(filter_: OncePerOutage, message: str, *args: object) -> bool:
    return filter_.filter(logging.makeLogRecord({"msg": message, "args": args}))


def test_a_line_is_told_once_in_an_outage_and_in_the_next_one_again() -> None:
    now = 0.0
    told = OncePerOutage(lambda: now)
    message = "Group Coordinator Request failed: %s"
    assert _tells(told, message, NodeNotReadyError("node id 1"))
    for _ in range(100):  # however long it goes on
        now += 5.0
        assert not _tells(told, message, NodeNotReadyError("node id 2"))
    assert _tells(told, message, GroupCoordinatorNotAvailableError()), "another reason is news"
    now += 61.0
    assert _tells(told, message, NodeNotReadyError("node id 1"))


def test_another_topic_is_another_line_and_another_offset_is_not() -> None:
    told = OncePerOutage()
    message = "Topic %s not found in cluster metadata"
    assert [_tells(told, message, topic) for topic in ("a", "b", "a")] == [True, True, False]
    message = "OffsetCommit failed for group %s on partition %s with offset %s"
    assert [_tells(told, message, "g", 1, offset) for offset in (5, 6)] == [True, False]


@pytest.mark.parametrize("message", LoggedElsewhere.MESSAGES)
def test_the_client_has_these_messages(message: str) -> None:
    """A release of it that says them in other words would fill the log again."""
    sources = Path(aiokafka.__file__).parent.rglob("*.py")
    assert any(message in source.read_text("utf-8") for source in sources)


def test_every_logger_of_the_client_is_quietened() -> None:
    named = [name for name in logging.root.manager.loggerDict if name.startswith("aiokafka.")]
    for name in ("aiokafka", *named):
        kinds = {type(each) for each in logging.getLogger(name).filters}
        assert {OncePerOutage, LoggedElsewhere} <= kinds, name


def test_a_node_is_told_with_its_address_when_it_goes_and_when_it_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    outages = NodeOutages(lambda: now)
    with caplog.at_level(logging.INFO, "transport.kafka"):
        outages.connected("a:1")
        for node in ("a:1", "b:1", "a:1"):
            outages.failed(node, ConnectionRefusedError("refused"))
        now += 20.0
        for _ in range(2):
            outages.connected("a:1")
        outages.failed("c:1", SaslAuthenticationFailed("no"))
        expired = SSLCertVerificationError(1, "certificate has expired")
        expired.verify_code = 10
        outages.failed("d:1", expired)
        for error in (expired, ConnectionRefusedError("refused"), ConnectionResetError("reset")):
            outages.failed("d:1", error)
        assert "has expired" not in (outages.reason("d:1") or "")
        outages.failed("d:1", expired)
        assert "has expired" in (outages.reason("d:1") or "")
        outages.connected("d:1")
        assert outages.reason("d:1") is None
    said = [(record.message.partition(":")[0], vars(record)["node"]) for record in caplog.records]
    assert said == [
        (_LOST, "a:1"),
        (_LOST, "b:1"),
        (_BACK, "a:1"),
        ("A Kafka node refuses our connections; will retry", "c:1"),
        (_UNSPOKEN, "d:1"),
        (_LOST, "d:1"),
        (_UNSPOKEN, "d:1"),
        (_BACK, "d:1"),
    ]
    assert vars(caplog.records[2])["seconds"] == 20.0
    assert "KAFKA_SASL_PASSWORD" in vars(caplog.records[3])["error"]
    assert "has expired: renew it on the server" in vars(caplog.records[4])["error"]


async def test_an_outage_is_a_few_lines_with_a_begin_and_an_end(
    kafka_server: KafkaServer, kafka_transport: KafkaTransport, caplog: pytest.LogCaptureFixture
) -> None:
    def count(*events: str) -> list[int]:
        return [sum(r.message.startswith(event) for r in caplog.records) for event in events]

    async with ConformanceReader(kafka_transport).reading():
        with caplog.at_level(logging.INFO, "transport.kafka"):
            await kafka_server.kill()
            # The restart takes seconds, in which a client asked for its brokers ten times each.
            await eventually(lambda: count(_LOST) == [1])
            await kafka_server.start()
            await eventually(lambda: 0 not in count(_BACK))
    assert count(_LOST) == count(_BACK)
    lines = Counter((r.name, r.msg) for r in caplog.records if r.levelno >= logging.WARNING)
    assert max(lines.values()) <= 3, "one for each reason"
    assert lines.total() < 25, lines.most_common()

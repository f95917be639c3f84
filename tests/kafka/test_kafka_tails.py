"""Whether a log lost its tail, asked while something else happens to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from tests.support.kafka_internals import ids_of, reader_of, tails_of
from transport.conformance.member import messages
from transport.kafka import KafkaTransport
from transport.kafka.loss.mark import Anchor
from transport.kafka.loss.tails import KnownTail
from transport.settings import TransportSettings


async def test_a_record_that_is_removed_as_old_while_it_is_looked_for_is_no_loss(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    """The log had it when its beginning was asked for, and no longer when it was read."""
    at = TopicPartition(kafka_settings.kafka_topic, 0)
    await kafka_transport.publish(messages(["0", "1", "2"], partition=0, of=kafka_transport))
    reader = reader_of(kafka_transport)
    at_each = reader.at_each
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_settings.kafka_bootstrap_servers)
    await admin.start()
    removed: list[int] = []

    async def after_retention(*args: Any) -> Mapping[TopicPartition, Any]:
        if not removed:
            await admin.delete_records({at: RecordsToDelete(before_offset=2)})
            removed.append(2)
        return await at_each(*args)

    reader.at_each = after_retention  # type: ignore[method-assign]
    leaders = (await ids_of(kafka_transport).describe(at.topic)).leaders
    tails = tails_of(kafka_transport)
    old = Anchor(1, 1, "a record that was there", 0)
    assert await tails.tail_losses({at: KnownTail((old,))}, leaders) == {}
    assert removed
    held = Anchor(2, 1, "a record that was there", 0)
    assert at in await tails.tail_losses({at: KnownTail((held,))}, leaders), (
        "this one went otherwise"
    )
    await admin.close()

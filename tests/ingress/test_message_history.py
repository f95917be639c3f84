"""A message's story names every place that is known, also of what was persisted from a copy."""

from __future__ import annotations

from ingress.console.timeline import Timelines
from ingress.messages import Messages
from persistence.database.pool import Pool
from persistence.store.batch import PositionedEvent
from persistence.store.writer import Writer
from tests.persistence.samples import PARTITIONS, message
from tests.support.mirrors import mirror, seal
from transport.contract import Topic, Transport
from transport.memory import MemoryTransport
from transport.settings import TransportSettings


async def test_what_was_persisted_from_a_copy_shows_where_its_original_stands(
    log: Transport, database_pool: Pool
) -> None:
    settings = TransportSettings(transport="memory", stream_partitions=PARTITIONS)
    async with MemoryTransport.from_settings(settings) as shadow:
        sent = message()
        partition = seal(sent).partition
        (offset,) = await mirror(log, shadow, sent)
        (copy,) = await shadow.read(Topic.MESSAGES, partition)
        row = PositionedEvent(sent, shadow.name, partition, copy.offset, None)
        assert (await Writer(database_pool).write([row], None)).persisted == [0]
        messages = Messages(transport=log, pool=database_pool, scan=1000, timeout_seconds=5)
        told = await Timelines(
            messages=messages,
            pool=database_pool,
            logs={log.name: log, shadow.name: shadow},
            trace_url=None,
            timeout_seconds=5,
        ).of(sent.message_id)
    assert told is not None
    appended = {(s.log, s.partition, s.offset) for s in told.steps if s.kind == "appended"}
    assert appended == {
        (log.name, seal(sent, log.partitions).partition, offset),
        (shadow.name, partition, copy.offset),
    }
    assert all(step.at for step in told.steps if step.kind == "appended")

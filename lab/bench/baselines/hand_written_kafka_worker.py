"""A well-written minimal worker that moves messages from Kafka to PostgreSQL.

It polls up to 500 records, decodes them, inserts them with one ``unnest`` statement per partition,
and commits, with aiokafka and asyncpg. It has no fencing, no handling of outages or poison records,
no receipts and no metrics. It ends when the topic is drained.
"""

from __future__ import annotations

import os

import asyncpg
import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from lab.bench.baselines.rows import INSERT, columns

_BATCH = 500
_FETCH_BYTES = 1024 * 1024


async def main() -> None:
    """Move all messages."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    insert = await connection.prepare(INSERT)
    topic = os.environ["KAFKA_TOPIC"]
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        group_id="hand-written",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    async with consumer:
        partitions = int(os.environ.get("STREAM_PARTITIONS", "16"))
        ends = await consumer.end_offsets([TopicPartition(topic, p) for p in range(partitions)])
        left = sum(ends.values())
        while left:
            polled = await consumer.getmany(timeout_ms=1000, max_records=_BATCH)
            for source, records in polled.items():
                made = columns((source.partition, str(r.offset), r.value) for r in records)
                await insert.fetch(*made, "kafka")
                await consumer.commit({source: records[-1].offset + 1})
                left -= len(records)
    await connection.close()


if __name__ == "__main__":
    uvloop.run(main())

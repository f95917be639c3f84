"""A worker written by hand, and well, that moves messages from Kafka to PostgreSQL.

Poll a thousand records, decode, one ``unnest`` insert a partition, commit; over aiokafka and
asyncpg. It knows no fencing, no outage, no poison, no receipts, no metrics. It ends when nothing is
left.
"""

from __future__ import annotations

import os

import asyncpg
import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from benchmarks.baselines.rows import INSERT, columns

_BATCH = 500
_FETCH_BYTES = 1024 * 1024


async def main() -> None:
    """Move everything."""
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

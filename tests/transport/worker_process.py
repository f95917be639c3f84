"""A member of the group in a process of its own, to be killed and suspended by tests.

It reports its actions as lines of JSON on stdout. With ``--step`` it waits for a line on stdin
before each acknowledgement and each read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from transport.contract import WORKER_GROUP, Claim, Topic
from transport.errors import PartitionLost
from transport.message.envelope import Message, decode
from transport.redis import RedisTransport
from transport.settings import TransportSettings


def _tell(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def _told(step: bool) -> None:
    if step:
        await asyncio.to_thread(sys.stdin.readline)


async def _serve(claim: Claim, step: bool) -> None:
    _tell(claimed=claim.partition, epoch=claim.epoch)
    try:
        async with claim:
            while True:
                records = await claim.next(max_records=5, max_wait=1.0)
                if not records:
                    continue
                for record in records:
                    event = decode(record)
                    assert isinstance(event, Message)
                    _tell(got=event.content, partition=claim.partition, offset=record.offset)
                await _told(step)
                await claim.ack(records[-1].offset)
                _tell(acked=records[-1].offset, partition=claim.partition)
                await _told(step)
    except PartitionLost:
        _tell(lost=claim.partition, epoch=claim.epoch)


async def _main(name: str, settings: TransportSettings, step: bool) -> None:
    async with (
        RedisTransport.from_settings(settings) as transport,
        transport.consume(Topic.MESSAGES, group=WORKER_GROUP, member=name) as consumer,
        asyncio.TaskGroup() as tasks,
    ):
        async for claim in consumer.claims():
            tasks.create_task(_serve(claim, step))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("settings")
    parser.add_argument("--step", action="store_true")
    given = parser.parse_args()
    asyncio.run(_main(given.name, TransportSettings(**json.loads(given.settings)), given.step))

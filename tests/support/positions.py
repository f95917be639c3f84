"""Moves PostgreSQL's positions in a log, as workers do when they have persisted its records."""

from __future__ import annotations

from collections.abc import Mapping

from persistence.database.pool import Pool
from transport.contract import WORKER_GROUP, Topic, Transport

__all__ = ["settle", "settle_through"]


async def settle(pool: Pool, log: Transport) -> None:
    """Move the position of each partition to its end."""
    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    await settle_through(pool, log, {part.partition: part.end for part in progress if part.end})


async def settle_through(pool: Pool, log: Transport, positions: Mapping[int, str]) -> None:
    """Move the positions of some partitions, and show them in the log."""
    identity = await log.identity()
    for partition, through in positions.items():
        await pool.execute(
            "DELETE FROM log_positions WHERE transport = $1 AND partition = $2", log.name, partition
        )
        await pool.execute(
            "INSERT INTO log_positions (transport, partition, epoch, through, log)"
            " VALUES ($1, $2, 1, $3, $4)",
            log.name,
            partition,
            through,
            identity,
        )
    await log.publish_positions(Topic.MESSAGES, positions, group=WORKER_GROUP)

"""Connections that the broker ends before aiokafka has noticed."""

from __future__ import annotations

from pathlib import Path

from aiokafka.conn import create_conn

from tests.support.eventually import eventually
from tests.support.kafka import run_kafka


async def test_a_connection_that_the_broker_ends_is_closed_at_once(tmp_path: Path) -> None:
    """Aiokafka may drop it as it is, and its socket would stay open until it is collected."""
    async with run_kafka(tmp_path) as server:
        connection = await create_conn(server.host, server.port)
        # What would close it has not run yet: its task is woken one turn after the end is seen.
        connection._read_task.cancel()  # noqa: SLF001
        writer = connection._writer  # noqa: SLF001
        await server.kill()
        await eventually(lambda: not connection.connected())
        await eventually(writer.is_closing)
        await writer.wait_closed()

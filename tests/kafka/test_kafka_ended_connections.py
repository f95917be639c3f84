"""Connections that the broker has ended, and that aiokafka drops before it has noticed."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

from aiokafka.conn import create_conn

from tests.support.eventually import eventually
from tests.support.kafka import run_kafka


async def test_one_that_is_dropped_at_its_end_is_closed(tmp_path: Path) -> None:
    """Its socket would stay open, and be told as unclosed in whatever runs when it is collected."""
    async with run_kafka(tmp_path) as server:
        connection = await create_conn(server.host, server.port)
        # What would close it has not run yet: its task is woken one turn after the end is seen.
        connection._read_task.cancel()  # noqa: SLF001
        writer = connection._writer  # noqa: SLF001
        await server.kill()
        gone = weakref.ref(connection)
        await eventually(lambda: not gone().connected())
        assert not writer.is_closing()
        del connection
        gc.collect()
        assert gone() is None
        assert writer.is_closing()
        await writer.wait_closed()

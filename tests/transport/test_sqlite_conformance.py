"""The SQLite log passes the same conformance suite as the other logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.conformance import *  # noqa: F403
from crossfade.conformance import Backend
from crossfade.transport import (
    ConfigurationError,
    Consumer,
    Envelope,
    LogName,
    TransportSettings,
)
from tests.sqlite_log import SqliteTransport
from tests.sqlite_log.group import SqliteConsumer


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    settings = TransportSettings(stream_partitions=4, stream_lease_ms=500)

    def create() -> SqliteTransport:
        return SqliteTransport(tmp_path / "log", settings, LogName("sqlite"))

    async def append_raw(partition: int, body: bytes) -> None:
        async with create() as log:
            await log.publish([Envelope("raw", partition, "key", body, {})])

    async def silence(consumer: Consumer) -> None:
        assert isinstance(consumer, SqliteConsumer)
        consumer.silence()

    return Backend(
        create=create,
        features=SqliteTransport.features,
        append_raw=append_raw,
        silence=silence,
    )


async def test_a_log_of_another_count_is_refused(backend: Backend, tmp_path: Path) -> None:
    async with backend.create():
        pass
    settings = TransportSettings(stream_partitions=8)
    with pytest.raises(ConfigurationError, match="has 4 partitions"):
        async with SqliteTransport(tmp_path / "log", settings, LogName("sqlite")):
            pass

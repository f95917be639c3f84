"""The SQLite log passes the same conformance suite as the other logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.conformance import *  # noqa: F403
from crossfade.conformance import Backend
from crossfade.transport import ConfigurationError, Envelope, LogName, TransportSettings
from tests.sqlite_log import SqliteTransport


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    monkeypatch.setenv("SQLITE_LOG", str(tmp_path / "log"))
    settings = TransportSettings(stream_partitions=4)
    five = TransportSettings(stream_partitions=5)

    def create() -> SqliteTransport:
        return SqliteTransport(tmp_path / "log", settings, LogName("sqlite"))

    def create_other() -> SqliteTransport:
        return SqliteTransport.from_settings(five, LogName("sqlite", partitions=5))

    async def append_raw(partition: int, body: bytes) -> None:
        async with create() as log:
            await log.publish([Envelope("raw", partition, "key", body, {})])

    return Backend(
        create=create,
        features=SqliteTransport.features,
        append_raw=append_raw,
        create_other=create_other,
    )


async def test_a_log_of_another_count_is_refused(backend: Backend, tmp_path: Path) -> None:
    async with backend.create():
        pass
    settings = TransportSettings(stream_partitions=8)
    with pytest.raises(ConfigurationError, match="has 4 partitions"):
        async with SqliteTransport(tmp_path / "log", settings, LogName("sqlite")):
            pass


def test_its_own_settings_may_be_in_the_file_that_has_crossfades(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SQLITE_LOG", raising=False)
    name = LogName("sqlite", partitions=32)
    with pytest.raises(ConfigurationError, match="set SQLITE_LOG"):
        SqliteTransport.from_settings(TransportSettings(), name)
    (tmp_path / ".env").write_text("TRANSPORT=sqlite@32\nSQLITE_LOG=here\n")
    assert SqliteTransport.from_settings(TransportSettings(), name).location.address == "here@32"

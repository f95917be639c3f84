"""No version 2 record is written while a process is known that can't read it."""

from __future__ import annotations

import re

import pytest

from compose.process.health import payload_probe
from compose.process.payload_gate import PayloadGate
from ingress.accept.uploads import Uploads
from otel.metrics import Metrics
from persistence.database.pool import connect
from persistence.settings import PersistenceSettings
from tests.payloads.stores import opened
from transport.errors import ConfigurationError

_OLD = """
INSERT INTO processes (member, role, host, pid, version, api_url, metrics_url, transport,
    consume_from, started_at, envelope)
VALUES ('old-1', 'worker', 'h', 1, '0.0.9', '', '', 'redis', 'redis', now(), $1)
"""


@pytest.fixture
def uploads() -> Uploads:
    store = opened("memory://gate")
    return Uploads(store, None, held_bytes=1, metrics=Metrics())  # type: ignore[arg-type]


@pytest.mark.parametrize("envelope", [None, 1])
async def test_a_process_that_is_too_old_stops_the_start(database_pool, uploads, envelope):
    await database_pool.execute(_OLD, envelope)
    told = re.escape("old-1 (0.0.9)")
    with pytest.raises(ConfigurationError, match=told):
        await PayloadGate(database_pool, uploads).begin()


async def test_one_that_comes_later_holds_uploads_back(database_pool, uploads):
    gate = PayloadGate(database_pool, uploads)
    await gate.begin()
    assert uploads.withheld is None
    await database_pool.execute(_OLD, None)
    await gate.look()
    assert "old-1" in (uploads.withheld or "")
    await database_pool.execute("UPDATE processes SET envelope = 2")
    await gate.look()
    assert uploads.withheld is None


async def test_until_postgresql_has_told_nothing_is_uploaded(database_pool, uploads):
    nowhere = "postgresql://127.0.0.1:1/nothing"
    unreachable = await connect(PersistenceSettings(database_url=nowhere))
    gate = PayloadGate(unreachable, uploads)
    await gate.begin()
    assert "not told" in (uploads.withheld or "")
    later = PayloadGate(database_pool, uploads)
    await later.look()
    assert uploads.withheld is None
    await gate.look()  # an outage afterwards changes nothing
    assert uploads.withheld is None
    unreachable.terminate()


async def test_readiness_names_the_store(tmp_path):
    store = opened(f"file://{tmp_path}/payloads")
    probe = payload_probe(store, timeout_seconds=5)
    await store.put("a/1", b"x")
    assert (await probe()).status == "up"
    (tmp_path / "payloads" / ".crossfade-payloads").unlink()
    state = await probe()
    assert (state.status, state.required) == ("degraded", False)
    assert "mounted" in state.detail

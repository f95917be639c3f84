"""No payload is written that a process can't read, or missing for one that lacks its store."""

from __future__ import annotations

import os

import pytest
from structlog.testing import capture_logs

from compose.process.health import payload_probe
from compose.process.payload_gate import PayloadGate
from ingress.accept.uploads import Uploads
from otel.metrics import Metrics
from persistence.database.pool import Pool, connect
from persistence.fleet.heartbeat import machine
from persistence.payloads.errors import PayloadMissing, PayloadOutage
from persistence.payloads.store import PayloadStore
from persistence.settings import PersistenceSettings
from tests.payloads.stores import opened
from transport.errors import ConfigurationError

_PATIENCE = 30.0  # seconds, on a machine that is busy
OLD, NEW = "memory://old", "memory://new"
_PROCESS = """
INSERT INTO processes (member, role, host, machine, pid, version, api_url, metrics_url, transport,
    consume_from, started_at, envelope, payload_stores)
VALUES ($1, $2, 'h', $3, $4, '0.0.9', '', '', 'redis', 'redis', now(), $5, $6)
"""


async def runs(
    pool: Pool,
    stores: list[str] | None,
    *,
    member: str = "other-1",
    role: str = "serve",
    envelope: int | None = 2,
    pid: int | None = None,
) -> None:
    """Say that another process runs; with ``pid`` one of this machine."""
    here = machine() if pid else None
    await pool.execute(_PROCESS, member, role, here, pid or 1, envelope, stores)


def gate(
    pool: Pool, store: PayloadStore | None = None, *, role: str = "serve"
) -> tuple[PayloadGate, Uploads]:
    store = store or opened(OLD)
    uploads = Uploads(store, None, None, held_bytes=1, metrics=Metrics())  # type: ignore[arg-type]
    writes = uploads if role == "serve" else None
    return PayloadGate(pool, store, writes, member="me", within=_PATIENCE), uploads


@pytest.mark.parametrize("envelope", [None, 1])
async def test_a_process_that_is_too_old_stops_the_start(database_pool, envelope):
    await runs(database_pool, None, envelope=envelope)
    with pytest.raises(ConfigurationError, match=r"other-1 \(0\.0\.9\)"):
        await gate(database_pool)[0].begin()


async def test_one_that_comes_later_holds_uploads_back(database_pool):
    looking, uploads = gate(database_pool)
    await looking.begin()
    assert uploads.withheld is None
    await runs(database_pool, None, envelope=1)
    await looking.look()
    assert uploads.withheld
    assert "other-1" in (looking.refusal or "")
    await database_pool.execute("UPDATE processes SET envelope = 2")
    await looking.look()
    assert (uploads.withheld, looking.refusal) == (None, None)


async def test_until_postgresql_has_told_nothing_is_uploaded_or_missing(database_pool):
    nowhere = "postgresql://127.0.0.1:1/nothing"
    unreachable = await connect(PersistenceSettings(database_url=nowhere))
    store = opened(OLD)
    uploads = Uploads(store, None, None, held_bytes=1, metrics=Metrics())  # type: ignore[arg-type]
    looking = PayloadGate(unreachable, store, uploads, member="me")
    await looking.begin()
    assert "not told" in (looking.refusal or "")
    assert uploads.withheld
    with pytest.raises(PayloadOutage, match="not told"):
        await store.head("a/1")
    await PayloadGate(database_pool, store, uploads, member="me", within=_PATIENCE).look()
    await looking.look()  # an outage afterwards changes nothing
    assert uploads.withheld is None
    with pytest.raises(PayloadMissing):
        await store.head("a/1")
    unreachable.terminate()


@pytest.mark.parametrize("role", ["serve", "worker"])
async def test_no_store_is_written_that_another_process_does_not_read(database_pool, role):
    await runs(database_pool, [OLD], role=role)
    for fallback in ({}, {"payload_fallback_store": OLD}):
        with pytest.raises(ConfigurationError) as told:
            await gate(database_pool, opened(NEW, **fallback))[0].begin()
        for part in ("other-1", OLD, f"PAYLOAD_FALLBACK_STORE={NEW}", "migrate forget"):
            assert part in str(told.value)


async def test_a_process_that_lacks_a_store_does_not_start_and_takes_nothing_for_missing(
    database_pool,
):
    await runs(database_pool, [NEW, OLD])
    store = opened(OLD)
    for role in ("serve", "worker"):
        looking, _ = gate(database_pool, store, role=role)
        with pytest.raises(ConfigurationError, match=f"other-1 writes to {NEW}.*FALLBACK_STORE"):
            await looking.begin()
        with pytest.raises(PayloadOutage, match="other-1"):
            await store.head("a/1")
    await database_pool.execute("UPDATE processes SET payload_stores = $1", [OLD, NEW])
    await looking.look()
    with pytest.raises(PayloadMissing):
        await store.head("a/1")


async def test_each_step_of_the_way_is_let_through_beside_its_neighbours(database_pool):
    steps = [[OLD], [OLD, NEW], [NEW, OLD], [NEW]]
    for at, ours in enumerate(steps):
        for theirs in steps[max(at - 1, 0) : at + 2]:
            for role in ("serve", "worker"):
                await database_pool.execute("DELETE FROM processes")
                await runs(database_pool, theirs, role=role)
                fallback = {"payload_fallback_store": ours[1]} if len(ours) > 1 else {}
                looking, _ = gate(database_pool, opened(ours[0], **fallback), role=role)
                await looking.begin()
                assert looking.refusal is None


async def test_one_that_reads_no_store_waits_and_stops_nobody(database_pool):
    await runs(database_pool, [], role="worker")
    await gate(database_pool)[0].begin()


async def test_of_a_version_that_does_not_say_nothing_is_known(database_pool):
    await runs(database_pool, None)
    looking, _ = gate(database_pool)
    with capture_logs() as logs:
        await looking.begin()  # the same store as ever: an upgrade has to pass
    assert ["other-1"] in [line.get("members") for line in logs if "not known" in line["event"]]
    with pytest.raises(ConfigurationError, match=r"not known.*other-1 \(0\.0\.9\)"):
        await gate(database_pool, opened(OLD, payload_fallback_store=NEW))[0].begin()


async def test_the_dead_of_this_machine_do_not_count_and_this_process_neither(database_pool):
    await runs(database_pool, [NEW], member="dead", pid=2**22 + 1)
    await runs(database_pool, [NEW], member="me")
    await gate(database_pool)[0].begin()
    await runs(database_pool, [NEW], member="alive", pid=os.getpid())
    with pytest.raises(ConfigurationError, match="alive"):
        await gate(database_pool)[0].begin()


async def test_readiness_names_the_store(tmp_path):
    store = opened(f"file://{tmp_path}/payloads")
    probe = payload_probe(store, timeout_seconds=5)
    await store.put("a/1", b"x")
    assert (await probe()).status == "up"
    (tmp_path / "payloads" / ".crossfade-payloads").unlink()
    state = await probe()
    assert (state.status, state.required) == ("degraded", False)
    assert "mounted" in state.detail

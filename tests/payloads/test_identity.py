"""Which store is ours: an empty folder or another bucket is never taken for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from compose.process.payload_identity import PayloadIdentity
from persistence.database.pool import connect
from persistence.fleet.payload_identity import confirm
from persistence.payloads.errors import PayloadMissing, PayloadOutage
from persistence.payloads.store import PayloadStore
from persistence.payloads.upload import PayloadUpload
from persistence.settings import PersistenceSettings
from tests.payloads.stores import opened


async def refused(store: PayloadStore) -> None:
    """See that nothing is written, and nothing is missing."""
    for call in (
        store.probe,
        lambda: store.put("a/2", b"y"),
        lambda: store.get("a/1", 1),
        lambda: store.head("a/1"),
        lambda: PayloadUpload(store, "b").write(b"z"),
    ):
        with pytest.raises(PayloadOutage, match="is its disk mounted"):
            await call()


async def test_a_fresh_folder_is_ready(database_pool, tmp_path: Path) -> None:
    store = opened(f"file://{tmp_path}/new/payloads")
    await store.probe()
    await confirm(database_pool, store)
    assert [page async for page in store.objects() if page] == []
    with pytest.raises(PayloadMissing):
        await store.get("a/1", 1)


async def test_a_folder_whose_disk_is_away_is_an_outage_until_it_is_back(
    database_pool, tmp_path: Path
) -> None:
    root = tmp_path / "payloads"
    store = opened(f"file://{root}")
    await confirm(database_pool, store)
    await store.put("a/1", b"x")
    root.rename(tmp_path / "away")
    root.mkdir()
    await refused(store)
    assert list(root.iterdir()) == []
    # A process that starts now finds a new store: it marks it, and is told that it is another.
    later = opened(f"file://{root}")
    with pytest.raises(PayloadOutage, match="is its disk mounted"):
        await confirm(database_pool, later)
    await refused(later)
    (root / ".crossfade-payloads").unlink()
    root.rmdir()
    (tmp_path / "away").rename(root)
    for payloads in (store, later):
        await confirm(database_pool, payloads)
        assert await payloads.get("a/1", 1) == b"x"


async def test_another_bucket_is_not_used(database_pool) -> None:
    await confirm(database_pool, opened("memory://right"))
    store = opened("memory://wrong")
    identity = PayloadIdentity(database_pool, store)
    await identity.begin()
    await refused(store)
    await database_pool.execute("DELETE FROM log_identities")
    await identity.look()
    await store.put("a/1", b"x")


async def test_until_postgresql_has_told_nothing_is_used(database_pool) -> None:
    store = opened("memory://unknown")
    unreachable = await connect(PersistenceSettings(database_url="postgresql://127.0.0.1:1/no"))
    await PayloadIdentity(unreachable, store).begin()
    with pytest.raises(PayloadOutage, match="not told"):
        await store.put("a/1", b"x")
    with pytest.raises(PayloadOutage, match="not told"):
        await store.get("a/1", 1)
    await PayloadIdentity(database_pool, store).look()
    await store.put("a/1", b"x")
    unreachable.terminate()


async def test_processes_that_start_at_once_agree(database_pool) -> None:
    stores = [opened("memory://at-once") for _ in range(4)]
    await asyncio.gather(*(confirm(database_pool, store) for store in stores))
    assert len({store.identity for store in stores}) == 1


async def test_a_bucket_is_marked_too(database_pool, s3_settings: dict[str, str], on_s3) -> None:
    store = on_s3(s3_settings)
    await confirm(database_pool, store)
    with pytest.raises(PayloadMissing):
        await store.get("a/1", 1)
    with pytest.raises(PayloadOutage, match="is its disk mounted"):
        await confirm(database_pool, on_s3(s3_settings, prefix="elsewhere"))

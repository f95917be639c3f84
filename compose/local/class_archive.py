"""A class-data archive for Kafka, which makes the JVM's later starts cheaper (JEP 350).

Without it, each start reads, verifies and links thousands of classes from jars, which takes two
fifths of its CPU time. An archive fits one Java and one set of jars; each combination has its own.
A JVM that can't use its archive starts without it.
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
    """Return the JVM options that use the archive; empty if there is no archive."""
    archive = _archive(java, jars)
    with suppress(OSError):
        if archive.stat().st_size:
            return [f"-XX:SharedArchiveFile={archive}"]
    return []


@contextmanager
def making(java: Java, jars: Path) -> Iterator[list[str] | None]:
    """Yield the options for a JVM that writes the archive when it exits normally.

    Yields ``None`` if the archive exists, another process makes it, or the folder can't be written.
    If the JVM did not write the archive, an empty file prevents further attempts.
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

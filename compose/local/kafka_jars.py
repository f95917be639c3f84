"""Apache Kafka's own jars, fetched once by Maven, and a Java that can run them.

Only ``mvn`` and any JDK from 17 on are needed. The jars stay in the user's cache folder
(``$XDG_CACHE_HOME/crossfade``, else ``~/.cache/crossfade``) and later starts use no network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from compose.local.maven import fetched_jars
from compose.local.server import ServerError

__all__ = [
    "JAVA_AT_LEAST",
    "KAFKA_VERSION",
    "Java",
    "are_fetched",
    "cache_dir",
    "find_java",
    "kafka_jars",
]

KAFKA_VERSION = os.environ.get("CROSSFADE_KAFKA_VERSION") or "4.3.1"
"""Tests of the supported range of versions set another one (`make kafka-versions`)."""
JAVA_AT_LEAST = 17

# Kafka leaves the choice of a logging back end to its operator. slf4j-simple is one small jar that
# writes to standard error; its version must fit the slf4j-api that kafka_2.13 depends on.
_DEPENDENCIES = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.slf4j", "slf4j-simple", "1.7.36"),
)
_JAVA_PLACES = ("/usr/lib/jvm", "/Library/Java/JavaVirtualMachines")


class Java(NamedTuple):
    """A Java runtime that is new enough."""

    path: Path
    version: int

    def tool(self, name: str) -> Path:
        """Return another program of the same installation, for example ``keytool``."""
        return self.path.resolve().with_name(name)


def cache_dir() -> Path:
    """Return the user's folder for downloads, which are fetched once."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "crossfade"


def find_java() -> Java:
    """Return the Java to use: of ``JAVA_HOME``, the PATH, or the usual folders of a system.

    Raises:
        ServerError: there is no Java, or none that is new enough; the text says what to do.
    """
    seen: list[str] = []
    for path in _java_candidates():
        version = _java_version(path)
        if version is not None and version >= JAVA_AT_LEAST:
            return Java(path, version)
        why = f"it is Java {version}" if version else "it does not run"
        seen.append(f"\n  {path} passed over: {why}")
    raise ServerError(
        f"no Java >= {JAVA_AT_LEAST} on this machine: install a JDK and put 'java' on the PATH, or "
        f"set JAVA_HOME{''.join(seen)}"
    )


def _java_candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if at := shutil.which("java"):
        yield Path(at)
    for place in _JAVA_PLACES:
        yield from sorted(Path(place).glob("*/bin/java"))
        yield from sorted(Path(place).glob("*/Contents/Home/bin/java"))


@cache
def _java_version(path: Path) -> int | None:
    try:
        said = subprocess.run(
            [path, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(\d+)', said.stderr + said.stdout)
    return int(match[1]) if match else None


def are_fetched() -> bool:
    """Return whether Kafka's jars are in the cache."""
    return _folder().joinpath("jars").is_dir()


def _folder() -> Path:
    return cache_dir() / f"kafka-{KAFKA_VERSION}"


def kafka_jars() -> Path:
    """Return the folder with Kafka's jars; fetch them if they are not in the cache.

    Raises:
        ServerError: the jars are not in the cache, and Maven is missing or fails.
    """
    return fetched_jars(_folder(), f"Kafka {KAFKA_VERSION}", _DEPENDENCIES)

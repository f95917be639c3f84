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
"""Another one is for tests of the range of versions that we claim (`make kafka-versions`)."""
JAVA_AT_LEAST = 17

# Kafka leaves the logging back end to its operator. This one is a single small jar that writes
# to standard error; its version must be of the line that kafka_2.13 names for slf4j-api.
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
    """Return the folder of downloads that are fetched once per user."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "crossfade"


def find_java() -> Java:
    """Return the Java to use: ``JAVA_HOME``'s, the PATH's, or one where systems install them.

    Raises:
        ServerError: there is none, or only ones that are too old; the text says what to do.
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
    """Return the folder with Kafka's jars, fetching them first where that has not been done.

    Raises:
        ServerError: they are not in the cache and Maven is missing or fails.
    """
    return fetched_jars(_folder(), f"Kafka {KAFKA_VERSION}", _DEPENDENCIES)

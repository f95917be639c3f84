"""The Java client programs, compiled, with the libraries that they use."""

from __future__ import annotations

import subprocess
from pathlib import Path

from compose.local.kafka_jars import cache_dir, find_java
from compose.local.maven import fetched_jars
from compose.local.server import ServerError
from tests.support.requirements import absent

__all__ = ["JavaPrograms"]

_LIBRARIES = (
    ("org.apache.httpcomponents.client5", "httpclient5", "5.6.5"),
    ("com.squareup.okhttp3", "okhttp-jvm", "5.5.1"),
    ("com.google.code.gson", "gson", "2.15.0"),
    ("org.slf4j", "slf4j-nop", "2.0.17"),
)
_SOURCES = Path(__file__).with_name("programs")
# A JVM that lives for a second: small, and quick to start.
_SMALL = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx256m")


class JavaPrograms:
    """Compiled into ``folder`` once; ``command`` runs one of them."""

    def __init__(self, folder: Path) -> None:
        names = "-".join(f"{artifact}-{version}" for _, artifact, version in _LIBRARIES)
        try:
            self._java = find_java()
            jars = fetched_jars(cache_dir() / f"clients-{names}", "Java's HTTP clients", _LIBRARIES)
        except ServerError as error:
            absent(str(error))
        compiler = self._java.tool("javac")
        if not compiler.exists():
            absent(f"no javac beside {self._java.path}: install a JDK, not only a JRE")
        self._path = f"{folder}:{jars}/*"
        sources = [str(source) for source in sorted(_SOURCES.glob("*.java"))]
        quick = ["-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC"]
        command = [
            *(str(compiler), *quick, "-nowarn", "-proc:none"),
            *("-cp", f"{jars}/*", "-d", str(folder)),
        ]
        result = subprocess.run(
            [*command, *sources], capture_output=True, text=True, check=False, timeout=240
        )
        assert result.returncode == 0, result.stderr

    def command(self, name: str, *arguments: str) -> list[str]:
        """Return the command that runs the program ``name``."""
        return [str(self._java.path), *_SMALL, "-cp", self._path, name, *arguments]

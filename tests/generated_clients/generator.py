"""OpenAPI Generator, of exact versions, from Maven."""

from __future__ import annotations

import subprocess
from pathlib import Path

from compose.local.kafka_jars import cache_dir, find_java
from compose.local.maven import fetched_jars
from compose.local.server import ServerError
from tests.support.requirements import absent

__all__ = ["CURRENT", "OLD", "generate", "run"]

CURRENT = "7.25.0"
OLD = "7.10.0"
"""Its Python generator knows no type `null`; many build files still name such a version."""

_ONLY_CODE = "apiTests=false,modelTests=false,apiDocs=false,modelDocs=false"
_SECONDS = 240


def generate(document: Path, folder: Path, *arguments: str, version: str = CURRENT) -> None:
    """Generate a client into ``folder``; ``arguments`` name the language and its options."""
    name = f"openapi-generator-cli-{version}"
    wanted = [("org.openapitools", "openapi-generator-cli", version)]
    try:
        java = find_java()
        jars = fetched_jars(cache_dir() / name, "OpenAPI Generator", wanted)
    except ServerError as error:
        absent(str(error))
    command = [
        # A process of seconds: quick to start.
        str(java.path), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto",
        "-jar", str(jars / f"{name}.jar"), "generate", "-i", str(document), "-o", str(folder),
        "--global-property", _ONLY_CODE, *arguments,
    ]  # fmt: skip
    run(command, folder.parent)


def run(command: list[str], folder: Path, *, seconds: float = _SECONDS) -> str:
    """Run a command that has to succeed and return what it printed."""
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=seconds
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-8000:]
    return result.stdout

"""Hold the OpenAPI documents against Spectral and Redocly, as a program without arguments.

Both are programs for Node, fetched once by npm into the cache. Without Node, npm or a way to fetch
them nothing is checked, and one line says so: the exit status is 0.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from compose.local.kafka_jars import cache_dir
from tests.support.api_documents import documents
from tests.support.npm import NotFetchedError, fetched_packages

HERE = Path(__file__).parent
_PACKAGES = ("@stoplight/spectral-cli@6.16.3", "@redocly/cli@2.77.0")
_NODE = (20, 19)
_SECONDS = 120
_QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "NO_COLOR": "1"}


def main() -> int:
    """Check every document there is; return the exit status."""
    try:
        _check_node()
        folder = fetched_packages(cache_dir(), "linters", _PACKAGES)
    except NotFetchedError as error:
        print(f"NOT CHECKED: the OpenAPI documents by Spectral and Redocly: {error}")  # noqa: T201
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        files = _written(Path(scratch))
        spectral = [
            str(folder / "spectral"), "lint", "--quiet", "--fail-severity=hint",
            f"--ruleset={HERE / 'spectral.yaml'}", *files,
        ]  # fmt: skip
        redocly = [str(folder / "redocly"), "lint", f"--config={HERE / 'redocly.yaml'}", *files]
        with ThreadPoolExecutor(2) as both:
            results = list(both.map(_run, (spectral, redocly)))
    for status, said in results:
        if status:
            print(said)  # noqa: T201
    return max(status for status, _ in results)


def _check_node() -> None:
    node = shutil.which("node")
    if node is None:
        raise NotFetchedError("no node on the PATH")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if found < _NODE:
        raise NotFetchedError(f"node is {version.strip()}, and they need 20.19 or newer")


def _written(folder: Path) -> list[str]:
    """Write every document into ``folder`` and return the files."""
    files: list[str] = []
    for keys in (False, True):
        made = documents(keys=keys)
        for name in ("public", "console"):
            file = folder / f"{name}-{'keyed' if keys else 'open'}.json"
            file.write_text(json.dumps(getattr(made, name), indent=1))
            files.append(str(file))
    return files


def _run(command: Sequence[str]) -> tuple[int, str]:
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
        env={**os.environ, **_QUIET},
    )
    return result.returncode, result.stdout + result.stderr


if __name__ == "__main__":
    sys.exit(main())

"""Lint and format the pages' JavaScript with Biome: ``python -m tests.console.javascript [--fix]``.

npm fetches it once into the cache. Without npm or a way to fetch it nothing is checked, and one
line says so: the exit status is 0.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from compose.local.kafka_jars import cache_dir
from tests.support.npm import NotFetchedError, fetched_packages

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("@biomejs/biome@2.6.8",)


def main(arguments: list[str]) -> int:
    """Check the scripts that ``biome.json`` names; return the exit status."""
    try:
        biome = fetched_packages(cache_dir(), "biome", _PACKAGES) / "biome"
    except NotFetchedError as error:
        print(f"NOT CHECKED: the JavaScript by Biome: {error}")  # noqa: T201
        return 0
    write = ["--write"] if "--fix" in arguments else []
    command = [biome, "check", "--error-on-warnings", *write]
    return subprocess.run(command, cwd=_ROOT, capture_output=False, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

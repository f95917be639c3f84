"""The other Pythons of this machine that the project takes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["others"]

_ROOT = Path(__file__).parents[2]
_CLASSIFIER = re.compile(r"Programming Language :: Python :: 3\.(\d+)$")


def others() -> dict[str, Path]:
    """Return the interpreter of each other version in ``pyproject.toml`` that is here, by version.

    They are looked for on the PATH, and among those of pyenv.
    """
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    minors = [int(it[1]) for it in map(_CLASSIFIER.search, project["classifiers"]) if it]
    found = {}
    for minor in minors:
        runs = (path for path in _candidates(minor) if _is(path, minor))
        if minor != sys.version_info.minor and (path := next(runs, None)):
            found[f"3.{minor}"] = path
    return found


def _candidates(minor: int) -> Iterator[Path]:
    if on_path := shutil.which(f"python3.{minor}"):
        yield Path(on_path)
    yield from Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}")


def _is(path: Path, minor: int) -> bool:
    """Return whether it runs: pyenv has a command for each version, whether chosen or not."""
    asked = f"import sys; sys.exit(sys.version_info.minor != {minor})"
    ran = subprocess.run([path, "-I", "-c", asked], capture_output=True, check=False)
    return ran.returncode == 0


if __name__ == "__main__":
    sys.stdout.writelines(f"{path}\n" for path in others().values())

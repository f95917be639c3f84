"""A clock for one server that a test can set ahead and back while the server runs (libfaketime).

::

    clock = SteppedClock(folder)
    server = ValkeyServer(folder / "data", binary=clock.binary(binary))
    ...
    clock.step(-3600)  # from now on it is an hour behind; durations go on as before
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from compose.local.binaries import Binary
from tests.support.requirements import absent

__all__ = ["SteppedClock"]

_PLACES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/local/lib/faketime/libfaketime.so.1")


class SteppedClock:
    """The wall clock of the programs made with ``binary``. The test is skipped without it."""

    def __init__(self, folder: Path) -> None:
        root = Path("/")
        found = [path for place in _PLACES for path in root.glob(place.lstrip("/"))]
        self._library = (
            found[0] if found else absent("no libfaketime: `apt-get install libfaketime`")
        )
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file = folder / "clock"
        self.step(0)

    def step(self, seconds: int) -> None:
        """Set the clock this many seconds ahead of the machine's; behind if negative."""
        self._file.write_text(f"{seconds:+d}s\n")

    def environment(self) -> dict[str, str]:
        """Return the variables with which a process uses this clock."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def binary(self, real: Binary) -> Binary:
        """Return a binary that runs ``real`` with this clock.

        The test is skipped if ``real`` hangs with it. One that is linked with the system's jemalloc
        does, as Debian's Redis and Valkey are: each of the two libraries begins with the other.
        """
        script = self._folder / f"{real.product}-on-stepped-clock"
        settings = self.environment().items()
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings)
        script.write_text(f'#!/bin/sh\n{exports}exec {shlex.quote(str(real.path))} "$@"\n')
        script.chmod(0o755)
        try:
            subprocess.run([script, "--version"], capture_output=True, check=True, timeout=10)
        except subprocess.TimeoutExpired:
            absent(f"{real.path} hangs with libfaketime: put another one first on the PATH")
        return real._replace(path=script)

"""Have subprocesses find this transport as they find one that pip installed: by its entry point."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["installed"]

_ROOT = Path(__file__).parents[2]
_ENTRY = "[crossfade.transports]\nsqlite = tests.sqlite_log:SqliteTransport.from_settings\n"


def installed(folder: Path) -> dict[str, str]:
    """Write what pip would have written into ``folder``; return the variables to start with."""
    described = folder / "sqlite_log-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: sqlite-log\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(_ENTRY)
    return {
        "PYTHONPATH": os.pathsep.join((str(folder), str(_ROOT))),
        "SQLITE_LOG": str(folder / "log"),
    }

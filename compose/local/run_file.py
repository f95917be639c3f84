"""The run file: lets commands in another terminal find a running ``crossfade up``.

``run.json`` in the data folder has the settings of that process, by variable name. Only its owner
can read it. It is valid while the process lives.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["DEFAULT_FOLDER", "is_starting", "remove", "running_settings", "write"]

DEFAULT_FOLDER = Path(".crossfade")
_NAME = "run.json"
_STAT_STARTED = 19  # index in the fields of /proc/PID/stat after the command's closing parenthesis


def write(folder: Path, settings: Mapping[str, str]) -> None:
    """Write the run file atomically. The caller holds the lock of ``folder``.

    Empty ``settings`` mean that the process is starting, and can't be reached yet.
    """
    path = folder / _NAME
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        content = {"pid": os.getpid(), "born": _born(os.getpid()), "settings": dict(settings)}
        json.dump(content, file)
    draft.replace(path)


def remove(folder: Path) -> None:
    """Remove the run file."""
    (folder / _NAME).unlink(missing_ok=True)


def running_settings(folder: Path = DEFAULT_FOLDER) -> dict[str, str]:
    """Return the settings of the ``crossfade up`` that runs in ``folder``; empty if none does.

    Raises:
        PermissionError: the run file is another user's.
    """
    return _running(folder) or {}


def is_starting(folder: Path = DEFAULT_FOLDER) -> bool:
    """Return whether a ``crossfade up`` in ``folder`` has begun to start its servers."""
    return _running(folder) == {}


def _running(folder: Path) -> dict[str, str] | None:
    try:
        content = json.loads((folder / _NAME).read_text())
        # The lock is not tried instead: that could stop a process that starts at this moment.
        os.kill(content["pid"], 0)
        if content.get("born") != _born(content["pid"]):
            return None  # the process was killed, and another one has its id
        return {str(name): str(value) for name, value in content["settings"].items()}
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _born(pid: int) -> str | None:
    """Return a process's start time in clock ticks (proc(5)); ``None`` without /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[_STAT_STARTED]

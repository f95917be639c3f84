"""Where a running ``crossfade up`` says how it can be reached, for commands in another terminal.

``run.json`` in its folder, readable by its owner alone, holds the settings that another terminal
does not see, by variable name. It counts while that process is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["DEFAULT_FOLDER", "remove", "running_settings", "write"]

DEFAULT_FOLDER = Path(".crossfade")
_NAME = "run.json"


def write(folder: Path, settings: Mapping[str, str]) -> None:
    """Write it, whole or not at all. The caller holds ``folder``."""
    path = folder / _NAME
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"pid": os.getpid(), "settings": dict(settings)}, file)
    draft.replace(path)


def remove(folder: Path) -> None:
    """Take it away."""
    (folder / _NAME).unlink(missing_ok=True)


def running_settings(folder: Path = DEFAULT_FOLDER) -> dict[str, str]:
    """Return the settings of the ``crossfade up`` that runs in ``folder``; empty if none does."""
    try:
        told = json.loads((folder / _NAME).read_text())
        # Not the folder's lock: trying it would be in the way of one that starts just now.
        os.kill(told["pid"], 0)
        return {str(name): str(value) for name, value in told["settings"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}

"""Runs ``crossfade doctor`` as a command of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.forked_commands import ForkedCommands

__all__ = ["examined"]


async def examined(
    folder: Path, *arguments: str, settings: dict[str, str]
) -> tuple[int, dict[str, Any]]:
    """Return the exit status, and each observation by what it is of, as ``log redis, rights``."""
    ran = await ForkedCommands(folder).run("doctor", "--json", *arguments, settings=settings)
    assert b"Traceback" not in ran.errors
    return ran.status, {f"{each['of']}, {each['what']}": each for each in json.loads(ran.output)}

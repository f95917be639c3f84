"""Runs ``crossfade doctor`` as a command of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.forked_commands import ForkedCommands

__all__ = ["Doctor", "examined"]


async def examined(
    folder: Path, *arguments: str, settings: dict[str, str]
) -> tuple[int, dict[str, Any]]:
    """Return the exit status, and each observation by what it is of, as ``log redis, rights``."""
    ran = await ForkedCommands(folder).run("doctor", "--json", *arguments, settings=settings)
    assert b"Traceback" not in ran.errors
    return ran.status, {f"{each['of']}, {each['what']}": each for each in json.loads(ran.output)}


class Doctor:
    """Runs the command with settings that lead to one Redis and one database."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._folder = folder
        self.settings = {"STREAM_PARTITIONS": "2", **settings}

    async def examine(self, *arguments: str, **changes: str) -> tuple[int, dict[str, Any]]:
        """See ``examined``."""
        return await examined(self._folder, *arguments, settings=self.settings | changes)

    async def table(self) -> str:
        """Return what it prints for people."""
        ran = await ForkedCommands(self._folder).run("doctor", settings=self.settings)
        return ran.output.decode()

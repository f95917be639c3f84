"""``crossfade serve`` and ``crossfade worker`` for tests that start many of them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from lab.harness.service import RehearsedService
from tests.support.fork_server import ForkedProcess, fork_crossfade

__all__ = ["ForkedService"]


class ForkedService(RehearsedService):
    """A service process that the fork server starts; it ends with the process that started it."""

    _guard: ForkedProcess | None

    async def stop(self) -> None:
        self.up = False
        if (guard := self._guard) is not None:  # a start that fails stops it at the same time
            await asyncio.to_thread(guard.stop, self._grace)
            guard.close()
        self._guard = self.pid = None

    def _command(self) -> list[str]:
        return [self._service]

    def _spawn(self) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log, Path(os.devnull).open("rb") as nothing:
            self._log_began = log.tell()
            self._guard = fork_crossfade(
                self._command(),
                environment={**os.environ, **self.environment},
                folder=self._folder or Path.cwd(),
                files=(nothing.fileno(), log.fileno(), log.fileno()),
            )
        self.pid = self._guard.pid

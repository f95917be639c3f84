"""One process or server of the rehearsal; its states go to the timeline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, runtime_checkable

from compose.local.server import ServerError
from lab.rehearsal.timeline import RehearsalTimeline

__all__ = ["CUT", "WAYS", "Part"]

WAYS = ("kill", "suspend", "restart")
"""The ways to hurt a part: SIGKILL, SIGSTOP, or an orderly stop; each lasts until it is healed."""

CUT = "cut"
"""A further way for servers that support it: end all client connections once."""


class _Runs(Protocol):
    name: str
    pid: int | None

    @property
    def running(self) -> bool: ...

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def kill(self) -> None: ...
    async def suspend(self) -> None: ...
    async def resume(self) -> None: ...


@runtime_checkable
class _Cuts(Protocol):
    async def cut_connections(self) -> None: ...


class Part:
    """One process or server of the rehearsal.

    Args:
        runs: The process or server.
        kind: ``ingress``, ``worker`` or the server's product: ``redis``, ``kafka``, ``postgres``.
        timeline: Gets its states.
        name: Its name in the timeline; by default that of ``runs``.
    """

    def __init__(
        self, runs: _Runs, kind: str, timeline: RehearsalTimeline, name: str | None = None
    ) -> None:
        self.kind = kind
        self.name = name or runs.name
        self._runs = runs
        self._timeline = timeline
        self._hand = asyncio.Lock()
        self.was_found_down = False
        """Whether it had ended by itself before a fault or a restart."""

    @property
    def pid(self) -> int | None:
        """Its process id; ``None`` while it is down."""
        return self._runs.pid if self._runs.running else None

    @property
    def ended_alone(self) -> bool:
        """Whether it ended by itself: it is down, and was neither stopped nor hurt."""
        return self.pid is None and self._timeline.state_of(self.name) == "up"

    @property
    def ways(self) -> tuple[str, ...]:
        """All ways to hurt it."""
        return (*WAYS, CUT) if isinstance(self._runs, _Cuts) else WAYS

    async def start(self, phase: int | None = None) -> None:
        """Start it; return once it answers."""
        await self._begin()
        self._timeline.mark(self.name, "up", phase)

    async def stop(self) -> None:
        """Stop it in good order."""
        self.was_found_down |= self.ended_alone
        self._timeline.mark(self.name, "down")
        await self._runs.stop()

    async def raise_up(self, phase: int | None) -> None:
        """Start it if it was stopped or killed, and not started completely since then."""
        if self._timeline.state_of(self.name) != "down":
            return
        await self._runs.stop()  # a stop that was cancelled may still be under way
        await self.start(phase)

    async def _begin(self) -> None:
        """Start it; try a second time if it does not come up, since the machine may be slow."""
        try:
            await self._runs.start()
        except ServerError:
            await self._runs.start()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Lock the part, so that a restart and a fault do not overlap."""
        async with self._hand:
            yield

    @asynccontextmanager
    async def hurt(self, way: str, phase: int | None) -> AsyncIterator[None]:
        """Hurt it (see ``ways``); heal it when the block ends, even by an exception."""
        # Note this now: healing starts the part, and hides that it had ended by itself.
        self.was_found_down |= self.ended_alone
        if way == CUT:
            assert isinstance(self._runs, _Cuts)
            await self._runs.cut_connections()
            yield
            return
        suspended = way == "suspend"
        self._timeline.mark(self.name, "suspended" if suspended else "down")
        harm = {"kill": self._runs.kill, "suspend": self._runs.suspend, "restart": self._runs.stop}
        try:
            await harm[way]()
            yield
        finally:
            if suspended:
                await self._runs.resume()
                self._timeline.mark(self.name, "up", phase)
            else:
                await self.raise_up(phase)

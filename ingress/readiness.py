"""Readiness of this process, dependency by dependency."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from ingress.schema.structs import ApiStruct
from persistence.database.pool import Pool, using
from persistence.errors import Outage
from transport.contract import Transport
from transport.deadline import answer
from transport.errors import PartlyUnavailable, TransportError

__all__ = ["ComponentState", "Probe", "ReadinessChecks", "ReadinessReport", "WorkerProbe"]

Status = Literal["up", "degraded", "down"]


class ComponentState(ApiStruct, frozen=True):
    """One dependency. ``detail`` says what an operator should know."""

    name: str
    status: Status
    required: bool
    """Without it the process can't do its work."""
    detail: str


class ReadinessReport(ApiStruct, frozen=True):
    """Whether this process can do its work now."""

    status: Literal["ready", "degraded", "unavailable"]
    """``unavailable`` if a required component is down, ``degraded`` if another is."""
    components: list[ComponentState]


WorkerProbe = Callable[[], ComponentState]
"""Reports the state of this process's workers; made by the code that starts them."""
Probe = Callable[[], Awaitable[ComponentState]]
"""Asks one more dependency, in its own time limit; made by the code that added it."""


class ReadinessChecks:
    """Asks the dependencies, all at the same time.

    Args:
        transport: The log that messages are appended to.
        pool: For PostgreSQL.
        database_required: Whether the process is unavailable without PostgreSQL.
        timeout_seconds: The longest wait for each.
        worker: Tells how this process's workers are, if it has any.
        probes: Further dependencies.
        unwritten: Tells why this process's rows are not taken, while they are not.
        tried: Is told at each report why the log takes no writes, ``None`` where it does.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        pool: Pool,
        database_required: bool,
        timeout_seconds: float,
        worker: WorkerProbe | None = None,
        probes: Sequence[Probe] = (),
        unwritten: Callable[[], str | None] = lambda: None,
        tried: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self._tried = tried
        self._probes = probes
        self._unwritten = unwritten
        self._transport = transport
        self._pool = pool
        self._database_required = database_required
        self._timeout = timeout_seconds
        self._worker = worker
        self._draining = False

    def drain(self) -> None:
        """From now on say not ready, so that no new traffic is sent while this process stops."""
        self._draining = True

    async def report(self) -> ReadinessReport:
        """Return the state of each component and of the whole."""
        checks = (self._log(), *(probe() for probe in self._probes), self._database())
        components = list(await asyncio.gather(*checks))
        if self._worker is not None:
            components.append(self._worker())
        if self._draining:
            components.append(ComponentState("process", "down", True, "It is shutting down."))
        if any(component.required and component.status == "down" for component in components):
            return ReadinessReport("unavailable", components)
        if any(component.status != "up" for component in components):
            return ReadinessReport("degraded", components)
        return ReadinessReport("ready", components)

    async def _log(self) -> ComponentState:
        name = f"log ({self._transport.name})"
        try:
            await answer(self._transport.ping(), within=self._timeout)
        except (TransportError, TimeoutError) as error:
            detail = _text(error, self._timeout)
            self._tried(detail.removesuffix("."))
            partly = isinstance(error, PartlyUnavailable)
            return ComponentState(name, "degraded" if partly else "down", True, detail)
        self._tried(None)
        return ComponentState(name, "up", True, "It takes appends.")

    async def _database(self) -> ComponentState:
        try:
            async with (
                asyncio.timeout(self._timeout),
                using(self._pool, within=self._timeout) as connection,
            ):
                await connection.fetchval("SELECT 1")
        except (Outage, TimeoutError) as error:
            detail = _text(error, self._timeout)
            if not self._database_required:
                detail += " Messages are accepted all the same, and persisted when it is back."
            return ComponentState("database", "down", self._database_required, detail)
        if why := self._unwritten():  # its disk is full: it goes on answering
            detail = f"It answers, and takes no rows: {why}."
            return ComponentState("database", "degraded", self._database_required, detail)
        return ComponentState("database", "up", self._database_required, "It answers.")


def _text(error: Exception, timeout_seconds: float) -> str:
    return f"{error}." if str(error) else f"No answer within {timeout_seconds:g} s."

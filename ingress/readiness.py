"""The readiness of this process (``/readyz``), dependency by dependency."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Literal

from ingress.schema.structs import ApiStruct
from persistence.database.pool import Pool, using
from persistence.errors import Outage
from persistence.store.standstill import standstill
from transport.contract import Transport
from transport.deadline import answer
from transport.errors import PartlyUnavailable, TransportError, Unreadable, Unwritable

__all__ = ["ComponentState", "Probe", "ReadinessChecks", "ReadinessReport", "WorkerProbe"]

Status = Literal["up", "degraded", "down"]
Need = Literal["database", "reads"]
_WORKERS_GO_ON = PartlyUnavailable | Unwritable


class ComponentState(ApiStruct, frozen=True):
    """The state of one dependency. ``detail`` explains it to an operator."""

    name: str
    status: Status
    required: bool
    """Whether the process can't do its work without it."""
    detail: str


class ReadinessReport(ApiStruct, frozen=True):
    """Whether this process can do its work now."""

    status: Literal["ready", "degraded", "unavailable"]
    """``unavailable`` if a required component is down, ``degraded`` if another is."""
    components: list[ComponentState]


WorkerProbe = Callable[[], ComponentState]
"""Returns the state of this process's workers."""
Probe = Callable[[], Awaitable[ComponentState]]
"""Checks one more dependency, within a time limit of its own."""


class ReadinessChecks:
    """Checks all dependencies at the same time.

    Args:
        transport: The log that messages are appended to.
        pool: Connections to PostgreSQL.
        needs: Without these the process is unavailable: PostgreSQL ("database"), or reading the
            log ("reads"), by a process that appends nothing. No process works without a log that
            it reaches.
        timeout_seconds: The longest wait for the log, and for PostgreSQL.
        worker: Returns the state of this process's workers, if it has any.
        probes: Checks of further dependencies.
        unwritten: Returns why PostgreSQL takes no rows from this process, or ``None``.
        tried: Called at each report with the reason why the log takes no writes, or with ``None``.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        pool: Pool,
        needs: Collection[Need] = (),
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
        self._database_required = "database" in needs
        self._reads_required = "reads" in needs
        self._timeout = timeout_seconds
        self._worker = worker
        self._draining = False

    def drain(self) -> None:
        """Report "not ready" from now on, so that load balancers send no new traffic."""
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
        except Unreadable as error:
            self._tried(None)
            status: Status = "down" if self._reads_required else "degraded"
            return ComponentState(name, status, True, _text(error, self._timeout))
        except (TransportError, TimeoutError) as error:
            detail = _text(error, self._timeout)
            self._tried(detail.removesuffix("."))
            # Workers go on where nothing can be appended.
            needs_appends = not self._reads_required
            works = isinstance(error, PartlyUnavailable if needs_appends else _WORKERS_GO_ON)
            return ComponentState(name, "degraded" if works else "down", True, detail)
        self._tried(None)
        return ComponentState(name, "up", True, "It takes appends.")

    async def _database(self) -> ComponentState:
        try:
            async with (
                asyncio.timeout(self._timeout),
                using(self._pool, within=self._timeout) as connection,
            ):
                found = await standstill(connection)
        except (Outage, TimeoutError) as error:
            detail = _text(error, self._timeout)
            if not self._database_required:
                detail += " Messages are accepted all the same, and persisted when it is back."
            return ComponentState("database", "down", self._database_required, detail)
        # With a full disk, PostgreSQL goes on answering.
        if why := found.why if found else self._unwritten():
            detail = f"It answers, and takes no rows: {why}."
            if found:
                detail += f" {found.remedy}"
            return ComponentState("database", "degraded", self._database_required, detail)
        return ComponentState("database", "up", self._database_required, "It answers.")


def _text(error: Exception, timeout_seconds: float) -> str:
    return f"{error}." if str(error) else f"No answer within {timeout_seconds:g} s."

"""``crossfade status``: each partition with its lag and owner, and the alarms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.live import Live

from compose.commands.options.common import Json, Wide
from compose.commands.status import followers, shadow
from compose.grid import Grid
from compose.output import client_settings, must_still_run, out, run
from compose.process.logs.read_only import watching
from compose.process.metrics import process_metrics
from compose.settings import Settings
from compose.terminal import styled
from ingress.console.health.stores import Check, payloads_check, reads_check
from ingress.console.health.wording import alarms_in
from ingress.console.views import Sentence, Status
from persistence.database.pool import Pool, connect_reads
from persistence.database.read_pool import ReadPool
from persistence.payloads.opening import folder_at, open_at
from transport.contract import DLQ_GROUP, WORKER_GROUP, Progress, Topic, Transport
from transport.errors import ConfigurationError, TransportUnavailable, one_line
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["show"]

_REFRESH = 1.0
_TONES = {"ok": "green", "notice": "blue", "warning": "yellow", "alarm": "bold red"}


def show(
    *,
    as_json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on showing it, until Ctrl-C; with --json, lines.")
    ] = False,
    _wide: Wide = False,
) -> None:
    """Show each partition's lag, age and owner, and alarms.

    Below these are the shadow, the followers, and the console's sentences on the service's health.
    A value that can't be determined is "unknown". Exit status 1 if one of the sentences is an
    alarm; else 0.
    """
    settings = client_settings()
    if watch:
        run(lambda: _watch(settings, as_json=as_json))
    elif run(lambda: _show(settings, as_json=as_json)):
        raise typer.Exit(1)


async def _show(settings: Settings, *, as_json: bool) -> bool:
    """Show the status once; return whether it has an alarm."""
    async with _looking(settings) as look:
        if as_json:
            out.json(await look.data())
            return look.has_alarm
        try:
            lines = await look.lines()
        except TransportUnavailable:
            out.print(await look.sentences())  # they have the effects and the remedies
            raise
        for line in lines:
            out.print(line)
        return look.has_alarm


async def _watch(settings: Settings, *, as_json: bool) -> None:
    async with _looking(settings) as look:
        if as_json or not out.is_terminal:
            while True:
                if as_json:
                    out.json(await look.data_or_outage(), indent=None)
                else:
                    out.print(Group(*await look.picture(), ""))
                await asyncio.sleep(_REFRESH)
                must_still_run()
        with Live(console=out, auto_refresh=False) as live:
            while True:
                live.update(out.fitted(Group(*await look.picture())), refresh=True)
                await asyncio.sleep(_REFRESH)
                must_still_run()


@asynccontextmanager
async def _looking(settings: Settings) -> AsyncIterator[_StatusReader]:
    async with watching(settings) as look, AsyncExitStack() as stack:
        transport = look.consumed  # its connection may have failed: it was tried for a moment only
        with suppress(TransportUnavailable, ConfigurationError):
            own = create(settings.transport.consumed, settings.transport)
            transport = await stack.enter_async_context(own)
        # It takes half a second to import, and other commands don't need it.
        from ingress.console.sampler import Sampler  # noqa: PLC0415

        checks = [check async for check in _checks(settings, look.pool, stack)]
        sampler = Sampler(look.logs, look.pool, seen_by="crossfade status", checks=checks)
        yield _StatusReader(settings.transport, transport, look.pool, sampler.status)


async def _checks(settings: Settings, pool: Pool, stack: AsyncExitStack) -> AsyncIterator[Check]:
    """Yield the checks of the payload store and of the read server, if there are any."""
    address = settings.payloads.payload_store
    folder = folder_at(address) if address else None
    if address and (folder is None or folder.is_dir()):  # opening would make the folder
        store = open_at(address, settings.payloads, process_metrics(), mark=False)
        yield payloads_check(store)
    if (reads := await connect_reads(settings.persistence)) is not None:
        stack.callback(reads.terminate)
        yield reads_check(ReadPool(reads, pool))


class _StatusReader:
    """Reads everything that the command shows; may be called again on the same connections."""

    def __init__(
        self,
        settings: TransportSettings,
        transport: Transport,
        pool: Pool,
        status: Callable[[], Awaitable[Status]],
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._pool = pool
        self._status = status
        self.has_alarm = False
        """Whether the health had an alarm when it was last read."""

    async def data(self) -> dict[str, Any]:
        """Return the status for ``--json``."""
        messages, dead = await self._progress()
        status = await self._read()
        owners, waiting = self._owners(status), status.dead_letters
        return {
            "transport": self._transport.name,
            "partitions": [
                {name: getattr(part, name) for name in Progress.__struct_fields__}
                | {"owner": owners.get(part.partition)}
                for part in messages
            ],
            "dead_letters_unread": _total(dead),
            "dead_letters_pending": waiting.pending if waiting else None,
            "shadow": await shadow.ask(self._settings, self._pool),
            "followers": await followers.ask(self._pool),
            "health": msgspec.to_builtins(status.health),
        }

    async def lines(self) -> list[RenderableType]:
        """Return the status for people: the partitions, the other logs, and health as sentences."""
        return [*await self._logs(), "", await self.sentences()]

    async def picture(self) -> list[RenderableType]:
        """Return the status for ``--watch``, with health first: the terminal may be low.

        While the log does not answer, its error replaces the partitions.
        """
        sentences = await self.sentences()
        try:
            return [sentences, "", *await self._logs()]
        except TransportUnavailable as error:
            return [sentences, "", styled(("waiting: ", "yellow"), one_line(error))]

    async def sentences(self) -> Grid:
        """Return the console's sentences on the health of everything."""
        return _health((await self._read()).health)

    async def _logs(self) -> list[RenderableType]:
        messages, dead = await self._progress()
        status = await self._read()
        nobody = "nobody" if status.database.up else "unknown"
        owners = {part: owner or nobody for part, owner in self._owners(status).items()}
        parts: list[RenderableType] = [_partitions(self._transport.name, messages, dead, owners)]
        if reports := await shadow.ask(self._settings, self._pool):
            parts += shadow.lines(reports)
        if found := await followers.ask(self._pool):
            parts += followers.lines(found)
        return parts

    async def data_or_outage(self) -> dict[str, Any]:
        """Return the status for ``--json``; while the log does not answer, its error and health."""
        try:
            return await self.data()
        except TransportUnavailable as error:
            health = msgspec.to_builtins((await self._read()).health)
            return {"transport": self._transport.name, "error": str(error), "health": health}

    async def _read(self) -> Status:
        status = await self._status()
        self.has_alarm = bool(alarms_in(status.health))
        return status

    def _owners(self, status: Status) -> dict[int, str | None]:
        name = self._transport.name
        parts = [part for log in status.logs if log.name == name for part in log.partitions]
        return {part.partition: part.owner for part in parts}

    async def _progress(self) -> tuple[Sequence[Progress], Sequence[Progress]]:
        return (
            await self._transport.progress(Topic.MESSAGES, group=WORKER_GROUP),
            await self._transport.progress(Topic.DEAD_LETTERS, group=DLQ_GROUP),
        )


def _health(sentences: Sequence[Sentence]) -> Grid:
    table = Grid(show_header=False)
    table.add_column()
    table.add_column(prose=True)
    for sentence in sentences:
        table.add_row(styled((sentence.level, _TONES[sentence.level])), sentence.text)
        if sentence.next:
            table.add_row("", styled((sentence.next, "dim")))
    return table


def _partitions(
    name: str,
    messages: Sequence[Progress],
    dead: Sequence[Progress],
    owners: Mapping[int, str],
) -> Grid:
    table = Grid()
    table.title = f"{name}: {len(messages)} partitions, group {WORKER_GROUP}"
    parts: list[str | tuple[str, str]] = [f"lag {_known(_total(messages))} in all"]
    if _total(dead) != 0:  # letters already read from the log are pending, and part of health
        parts.append(f", {_known(_total(dead))} dead letters unread in the log, not yet listed")
    if held := sum(part.held for part in messages):
        parts.append(f", {held} of them behind a transaction of another producer")
    table.caption = styled(*parts)
    for heading in ("partition", "lag", "oldest"):
        table.add_column(heading, right=True)
    table.add_column("owner")
    for part in messages:
        age = "unknown" if part.oldest_age is None else f"{part.oldest_age:.1f} s"
        owner = owners.get(part.partition, "unknown")
        table.add_row(str(part.partition), _known(part.lag), age, owner)
    return table


def _total(progress: Sequence[Progress]) -> int | None:
    """Return the sum of the lags; ``None`` if one is unknown."""
    lags = [part.lag for part in progress]
    return None if None in lags else sum(lag for lag in lags if lag is not None)


def _known(value: int | None) -> str:
    return "unknown" if value is None else str(value)

"""``crossfade status``: every partition of the log, and who reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.live import Live

from compose import shadow_status, standby_status
from compose.console import client_settings, must_still_run, out, run
from compose.settings import Settings
from compose.terminal import Grid, styled
from compose.watching import watching
from ingress.console.views import Sentence
from transport.contract import DLQ_GROUP, WORKER_GROUP, Progress, Topic, Transport
from transport.existing import must_exist
from transport.registry import create

__all__ = ["show"]

_REFRESH = 1.0
_TONES = {"ok": "green", "notice": "blue", "warning": "yellow", "alarm": "bold red"}


def show(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    watch: Annotated[bool, typer.Option(help="Go on showing it, until Ctrl-C.")] = False,
) -> None:
    """Show each partition's lag, pending records, oldest age and owner. Unknown says unknown."""
    settings = client_settings()
    run(lambda: _show(settings, as_json=as_json, watch=watch))


async def _show(settings: Settings, *, as_json: bool, watch: bool) -> None:
    await must_exist(settings.transport.consumed, settings.transport)
    async with create(settings.transport.consumed, settings.transport) as transport:
        if as_json:
            shadow = await shadow_status.ask(settings)
            standbys = await standby_status.ask(settings)
            health = [one.model_dump(by_alias=True) for one in await _health(settings)]
            parts = {"shadow": shadow, "standbys": standbys, "health": health}
            told = {**await _as_data(transport), **parts}
            out.json(told)
        elif not watch:
            out.print(await _as_table(transport))
            if shadow := await shadow_status.ask(settings):
                for line in shadow_status.lines(shadow):
                    out.print(line)
            if standbys := await standby_status.ask(settings):
                for line in standby_status.lines(standbys):
                    out.print(line)
            out.print()
            for one in await _health(settings):
                out.print(styled((f"{one.level:8}", _TONES[one.level]), f" {one.text}"))
                if one.next:
                    out.print(styled("         ", (one.next, "dim")))
        else:
            with Live(await _as_table(transport), console=out, auto_refresh=False) as live:
                while True:
                    await asyncio.sleep(_REFRESH)
                    must_still_run()
                    live.update(await _as_table(transport), refresh=True)


async def _health(settings: Settings) -> list[Sentence]:
    """Return what the console says is so. What needs a second look is told by the console only."""
    from ingress.console.sampler import Sampler  # noqa: PLC0415 - half a second that --watch saves

    async with watching(settings) as look:
        sampler = Sampler(look.logs, look.pool, seen_by="crossfade status")
        return (await sampler.status()).health


async def _as_data(transport: Transport) -> dict[str, Any]:
    return {
        "transport": transport.name,
        "partitions": [
            {name: getattr(one, name) for name in Progress.__struct_fields__}
            for one in await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        ],
        "dead_letters_unread": _total(
            await transport.progress(Topic.DEAD_LETTERS, group=DLQ_GROUP)
        ),
    }


async def _as_table(transport: Transport) -> Grid:
    messages = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
    dead = await transport.progress(Topic.DEAD_LETTERS, group=DLQ_GROUP)
    lost = sum(one.lost for one in messages)
    table = Grid()
    table.title = f"{transport.name}: {len(messages)} partitions, group {WORKER_GROUP}"
    parts: list[str | tuple[str, str]] = [
        f"lag {_known(_total(messages))} in all, {_known(_total(dead))} dead letters unread"
    ]
    if lost:
        parts.append((f", {lost} records left the log unread", "bold red"))
    if held := sum(one.held for one in messages):
        parts.append(f", {held} of them behind a transaction of another producer")
    table.caption = styled(*parts)
    for heading in ("partition", "lag", "pending", "oldest"):
        table.add_column(heading, justify="right")
    table.add_column("owner")
    for one in messages:
        age = "unknown" if one.oldest_age is None else f"{one.oldest_age:.1f} s"
        table.add_row(
            str(one.partition), _known(one.lag), _known(one.pending), age, one.owner or "nobody"
        )
    return table


def _total(progress: Sequence[Progress]) -> int | None:
    """Return the sum of the lags; unknown if one is."""
    lags = [one.lag for one in progress]
    return None if None in lags else sum(lag for lag in lags if lag is not None)


def _known(value: int | None) -> str:
    return "unknown" if value is None else str(value)

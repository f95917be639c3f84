"""``crossfade dev``: commands for application developers, and for trying a service."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live

from compose.output import err, fail, out, run
from compose.service_address import ServiceAddress, connected, explain, service
from compose.terminal import styled
from crossfade import AsyncClient, CrossfadeError, Retry
from lab.sending.load import SENDER, LoadPlan, ProducerLoad
from lab.sending.row_check import RowCheck, check_rows

__all__ = ["app"]

_EVERY = 0.5
_WIDTH = 10
_SHOWN_FAULTS = 10
_FAILED, _UNKNOWN = 1, 3

app = typer.Typer(no_args_is_help=True, help="Try a service with test messages.")


@app.callback()
def _dev() -> None:
    pass


@app.command()
def produce(
    *,
    rate: Annotated[
        float, typer.Option(min=0.01, max=100_000, metavar="N", help="Messages a second.")
    ] = 10.0,
    conversations: Annotated[
        int, typer.Option(min=1, max=10_000, metavar="N", help="Number of conversations.")
    ] = 10,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of messages in all.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=0.1, metavar="SECONDS", help="Length of the run.")
    ] = None,
    size: Annotated[
        int, typer.Option(min=16, max=65_536, metavar="CHARACTERS", help="Length of a message.")
    ] = 100,
    repeats: Annotated[
        float,
        typer.Option(
            min=0, max=100, metavar="PERCENT", help="Share of messages that are sent a second time."
        ),
    ] = 0.0,
    deadline: Annotated[
        float,
        typer.Option(min=0.1, metavar="SECONDS", help="Time for which each message is tried."),
    ] = 30.0,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Read the rows back at the end.")
    ] = True,
    url: Annotated[
        str | None,
        typer.Option(help="The API; by default CROSSFADE_URL, else the service on this machine."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Send test messages, and check that each became one row.

    It runs until Ctrl-C, or until the end of --count or --duration. Each message has a key, with
    which it is retried. The messages of a conversation are sent one after the other, so that their
    order is promised. Exit status 1: messages failed, or a row is missing, doubled or out of order;
    3: the rows could not be read.
    """
    plan = LoadPlan(rate, conversations, count, duration, size, repeats / 100)
    to = service(url)

    async def main() -> tuple[ProducerLoad, RowCheck | None]:
        load = ProducerLoad(plan)
        async with connected(to, Retry(deadline=deadline), asked=load.count_request) as client:
            with _ended_by_ctrl_c(load):
                async with _shown(load, to):
                    await load.run(client)
            return load, await _checked(client, load) if check else None

    try:
        load, checked = run(main)
    except CrossfadeError as error:
        fail(*explain(error, to))
    if as_json:
        out.json(_summary(load, checked))
    else:
        _tell(load, checked)
    if load.counts.failed or (checked is not None and checked.faults):
        raise typer.Exit(_FAILED)
    if checked is not None and checked.not_checked:
        raise typer.Exit(_UNKNOWN)


@contextmanager
def _ended_by_ctrl_c(load: ProducerLoad) -> Iterator[None]:
    """Make the first Ctrl-C end the sending; a second one ends the command."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        load.stop()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _checked(client: AsyncClient, load: ProducerLoad) -> RowCheck:
    err.print(styled(("reading the rows back ...", "dim")))
    return await check_rows(client, load.conversations, 30.0)


@asynccontextmanager
async def _shown(load: ProducerLoad, to: ServiceAddress) -> AsyncIterator[None]:
    """Show the progress in a terminal, as a table that is refreshed twice a second."""
    err.print(
        f"Sending to {to.url} as {SENDER}, {load.conversations[0].name} and so on. Ctrl-C ends it."
    )
    if not err.is_terminal:
        yield
        return
    with Live(console=err, auto_refresh=False) as live:

        async def draw() -> None:
            seen, since = 0, time.monotonic()
            while True:
                await asyncio.sleep(_EVERY)
                now, accepted = time.monotonic(), load.counts.accepted
                live.update(_picture(load, (accepted - seen) / (now - since)), refresh=True)
                seen, since = accepted, now

        drawing = asyncio.create_task(draw())
        try:
            yield
        finally:
            drawing.cancel()
            with suppress(asyncio.CancelledError):
                await drawing
            live.update(_picture(load, load.counts.accepted / load.seconds), refresh=True)


def _picture(load: ProducerLoad, rate: float) -> RenderableType:
    counts = load.counts
    lines = [
        *_columns(
            sent=f"{counts.sent:,}",
            accepted=f"{counts.accepted:,}",
            repeated=f"{counts.repeated:,}",
            retried=f"{counts.retried:,}",
            failed=f"{counts.failed:,}",
        ),
        *_columns(
            rate=f"{rate:,.1f}/s",
            behind=f"{load.behind:,}",
            p50=_milliseconds(counts.latencies.quantile(0.5)),
            p99=_milliseconds(counts.latencies.quantile(0.99)),
            elapsed=f"{load.seconds:,.0f} s",
        ),
    ]
    if counts.last_error:
        lines.append(styled(("last error: ", "red"), counts.last_error))
    return Group(*lines)


def _columns(**cells: str) -> list[RenderableType]:
    """Return a line of headings and a line of figures, in columns of fixed width."""
    return [
        styled(("  ".join(f"{name:>{_WIDTH}}" for name in cells), "dim")),
        styled("  ".join(f"{value:>{_WIDTH}}" for value in cells.values())),
    ]


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.1f} ms"


def _tell(load: ProducerLoad, checked: RowCheck | None) -> None:
    """Print the summary of the load."""
    counts = load.counts
    if not err.is_terminal:
        err.print(_picture(load, counts.accepted / max(load.seconds, 0.001)))
    if checked is None:
        out.print(f"{counts.accepted:,} accepted; their rows were not read.")
        return
    for fault in checked.faults[:_SHOWN_FAULTS]:
        err.print(styled(("wrong: ", "red"), fault))
    if len(checked.faults) > _SHOWN_FAULTS:
        err.print(f"and {len(checked.faults) - _SHOWN_FAULTS:,} more")
    if checked.not_checked:
        err.print(styled(("not checked: ", "yellow"), checked.not_checked))
    extra = f" and {checked.unacknowledged:,} without one" if checked.unacknowledged else ""
    rows = checked.rows - checked.unacknowledged
    verdict = ": one row each, in order" if checked.good else ""
    out.print(f"{counts.accepted:,} acknowledged{extra}, {rows:,} rows{verdict}")


def _summary(load: ProducerLoad, checked: RowCheck | None) -> dict[str, Any]:
    counts = load.counts
    return {
        "sent": counts.sent,
        "accepted": counts.accepted,
        "repeated": counts.repeated,
        "retried": counts.retried,
        "failed": counts.failed,
        "lastError": counts.last_error or None,
        "seconds": round(load.seconds, 3),
        "ratePerSecond": round(counts.accepted / max(load.seconds, 0.001), 1),
        "latencySeconds": {
            "p50": counts.latencies.quantile(0.5),
            "p99": counts.latencies.quantile(0.99),
        },
        "conversations": [conversation.name for conversation in load.conversations],
        "check": None
        if checked is None
        else {
            "good": checked.good,
            "rows": checked.rows,
            "unacknowledgedRows": checked.unacknowledged,
            "faults": checked.faults,
            "notChecked": checked.not_checked or None,
        },
    }

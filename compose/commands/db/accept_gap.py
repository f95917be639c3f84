"""``crossfade db accept-gap``: accepts the loss of rows that the log can't restore."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar

import msgspec
import typer

from compose.commands.options.common import DryRun, Json, Yes
from compose.commands.options.operator_action import Why, caller
from compose.output import client_settings, fail, out, run
from compose.terminal import confirm
from persistence.database.pool import Pool, connect
from persistence.worker.recovery.gaps import Gap, accept, gaps
from transport.contract import Transport
from transport.existing import must_exist
from transport.registry import create

__all__ = ["accept_gap"]

_T = TypeVar("_T")


def accept_gap(
    log: Annotated[str, typer.Argument(metavar="LOG", help="The log's name: redis, kafka.eu.")],
    partitions: Annotated[
        list[int] | None,
        typer.Argument(metavar="[PARTITION]...", help="The partitions that wait."),
    ] = None,
    *,
    all_waiting: Annotated[
        bool, typer.Option("--all-waiting", help="Every partition of the log that waits.")
    ] = False,
    why: Why,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Accept that rows are lost, so that their partition goes on.

    A partition waits if PostgreSQL lost rows (a lagging standby was promoted, a backup was
    restored) and the log no longer has all of their records. After this command it goes on at the
    first record that the log still has: the remaining records become rows in order, then newer
    ones. If a named partition does not wait, the command refuses and changes nothing.
    """
    if bool(partitions) == all_waiting:
        fail("name the partitions that wait, or give --all-waiting")
    asked = None if all_waiting else sorted(set(partitions or ()))
    found = run(lambda: _with(log, lambda opened, pool: _waiting(opened, pool, asked)))
    if found and not dry_run and not yes:
        named = ", ".join(str(gap.partition) for gap in found)
        confirm(
            f"Go on with partition {named} of {log} without the rows that are lost? "
            "(Not if a server or a backup with the rows can still be had.)"
        )
    if found and not dry_run:
        run(lambda: _with(log, lambda opened, pool: _accept(opened, pool, found, why)))
    _tell(log, found, accepted=not dry_run, as_json=as_json)


async def _with(name: str, work: Callable[[Transport, Pool], Awaitable[_T]]) -> _T:
    settings = client_settings()
    made = create(name, settings.transport)
    if not made.features.shared:
        fail(f"{name} is a log within one process, which no other can look into")
    await must_exist(name, settings.transport)
    pool = await connect(settings.persistence)
    try:
        async with made as opened:
            return await work(opened, pool)
    finally:
        await pool.close()


async def _waiting(log: Transport, pool: Pool, asked: Sequence[int] | None) -> list[Gap]:
    found = await gaps(log, pool, range(log.partitions) if asked is None else asked)
    have = {gap.partition for gap in found}
    for partition in asked or ():
        if partition not in have and partition >= log.partitions:
            fail(
                f"{log.name} has no partition {partition}: it has {log.partitions}, counted from 0"
            )
        if partition not in have:
            fail(
                f"partition {partition} of {log.name} does not wait: the log holds all that may "
                "have no row, or nothing is known of its position"
            )
    return found


async def _accept(log: Transport, pool: Pool, found: Sequence[Gap], why: str) -> None:
    for gap in found:
        if not await accept(log, pool, gap, who=caller(), why=why):
            fail(f"partition {gap.partition} of {log.name} does not wait any more; look again")


def _tell(log: str, found: Sequence[Gap], *, accepted: bool, as_json: bool) -> None:
    if as_json:
        gaps_found = [msgspec.to_builtins(gap) for gap in found]
        out.json({"log": log, "accepted": accepted, "partitions": gaps_found})
        return
    done = "accepted" if accepted else "would accept"
    for gap in found:
        out.print(
            f"{done}: partition {gap.partition} of {log} lacks rows after "
            f"{gap.through or 'the beginning'}, and goes on after "
            f"{gap.resumes_after or 'the place of its workers'}"
        )
    if not found:
        out.print(f"no partition of {log} waits")

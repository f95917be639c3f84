"""``crossfade db accept-gap``: go on without rows that PostgreSQL lost and the log lost too."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.commands.dlq_selection import caller
from compose.commands.migrate_take import Why
from compose.commands.options import DryRun, Json, Yes
from compose.output import client_settings, fail, out, run
from compose.terminal import confirm
from persistence.database.pool import connect, using
from persistence.operator_actions import record_done
from persistence.store.positions import forget_position
from persistence.store.writer import Writer

__all__ = ["accept_gap"]


def accept_gap(
    log: Annotated[str, typer.Argument(metavar="LOG", help="The log's name: redis, kafka.eu.")],
    partition: Annotated[int, typer.Argument(help="The partition that waits.")],
    *,
    why: Why,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Accept that rows are lost, so that their partition goes on.

    A partition waits where PostgreSQL lost rows (a standby that was behind was promoted, a backup
    was restored) and the log no longer holds all of their records. What it holds becomes rows
    first, in order; then what came since. See what is missing with crossfade audit, before.
    """
    if not dry_run and not yes:
        confirm(
            f"Go on with partition {partition} of {log} without the rows that are lost? "
            "(Not if a server or a backup with the rows can still be had.)"
        )

    async def main() -> str | None:
        pool = await connect(client_settings().persistence)
        try:
            through = await Writer(pool).position(log, partition)
            if through is None or dry_run:
                return through
            async with using(pool) as connection, connection.transaction():
                await record_done(
                    connection,
                    who=caller(),
                    action="accept gap",
                    target=f"{log}/{partition}",
                    why=why,
                    result=f"PostgreSQL was at {through or 'the beginning'}",
                )
                await forget_position(connection, log, partition)
            return through
        finally:
            await pool.close()

    through = run(main)
    if through is None:
        fail(f"no position is known of partition {partition} of {log}: nothing waits there")
    if as_json:
        out.json({"log": log, "partition": partition, "through": through, "accepted": not dry_run})
        return
    done = "would accept" if dry_run else "accepted"
    out.print(f"{done}: rows after {through or 'the beginning'} that {log} no longer holds")

"""``crossfade migrate forget-log``: forgets the identity of the log with a name."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.commands.migrate.session import explained, session
from compose.commands.options.common import DryRun, Json, Yes
from compose.commands.options.operator_action import Why, caller
from compose.output import fail, out
from compose.terminal import confirm
from persistence.database.pool import using
from persistence.fleet.log_identities import forget_log as forget_identity
from persistence.fleet.log_identities import known_identities
from persistence.operator_actions import record_done

__all__ = ["forget_log"]


def forget_log(
    name: Annotated[str, typer.Argument(metavar="LOG", help="The log's name: redis, kafka.eu.")],
    *,
    why: Why,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Forget which log a name means.

    The processes that use the name note within seconds which log it means now. There are three
    cases for it: the log was emptied or made anew; the first process that named it had a wrong
    address; the log is used under another name now. Do not use it for another server: the data
    under the name, such as the positions of rows, belongs to the old log. Give the new server a
    label.
    """
    identity = explained(lambda: _known(name))
    if identity is None:
        fail(f"no process ever met a log called {name}")
    if dry_run:
        if as_json:
            out.json({"wouldForget": name})
        else:
            out.print(f"would forget {name} ({identity})")
        return
    if not yes:
        confirm(
            f"Forget which log {name} means? (It was emptied or made anew, was first named with a "
            "wrong address, or has another name now. Another server needs a label.)"
        )

    async def main() -> None:
        async with session(say=False) as (_, pool):
            await forget_identity(pool, name)
            async with using(pool) as connection:
                await record_done(
                    connection,
                    who=caller(),
                    action="forget log",
                    target=name,
                    why=why,
                    result=f"it was {identity}",
                )

    explained(main)
    if as_json:
        out.json({"forgotten": name})
        return
    out.print("forgotten")


async def _known(name: str) -> str | None:
    async with session() as (_, pool):
        return (await known_identities(pool)).get(name)

"""Give up a log whose servers and disks are gone, so it can be neither read nor removed.

An operator does this last, when all processes run on the remaining log (docs/redis.md). A log that
still answers is not lost: ``retirement`` proves that nothing in it is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from migration_guide.errors import IncompleteCopy, MigrationError, NotRetired
from migration_guide.resting import rests_on, survivor
from migration_guide.retirement import Obstacle, opened, users_of
from migration_guide.steps import MigrationStanding, Steps
from persistence.chain.table import read as read_chain
from persistence.database.pool import Pool, using
from persistence.fleet.used_logs import was_used
from persistence.shadow_gaps import open_gaps
from transport.errors import ConfigurationError, TransportError
from transport.registry import create, known_name
from transport.settings import TransportSettings

__all__ = ["LogLoss", "judge_loss", "retire_lost"]

_ANSWERS_SECONDS = 10.0

_ACCEPT = (
    "if its disk survived, bring it back, and run a worker on it; if nothing of it does, accept "
    "that these are lost: --accept-loss"
)


class LogLoss(msgspec.Struct, frozen=True):
    """A log to give up. This is possible if there is no obstacle.

    Args:
        look: the migration's state.
        used: whether anything is kept under the log's name; otherwise the name stays free.
        asked: whether the settings lead to a server that could be asked for the log.
        missing: descriptions of the messages that may be lost with it.
        obstacles: the reasons against it. Possible loss is one, unless it is accepted.
    """

    look: MigrationStanding
    used: bool
    asked: bool
    missing: list[str]
    obstacles: list[Obstacle]


async def judge_loss(
    steps: Steps, pool: Pool, name: str, settings: TransportSettings, *, accept_loss: bool = False
) -> LogLoss:
    """Check everything that prevents giving the log up.

    Raises:
        NotStarted: there is no migration yet.
        ConfigurationError: the name is no name of a log.
        Outage: PostgreSQL can't answer now.
    """
    known_name(name, variable="LOG")
    look = await steps.look()
    used = await was_used(pool, name)
    obstacles = users_of(look.processes, name)
    missing: list[str] = []
    if name in look.state.pair.names:
        try:
            left = survivor(look.state, name, accept_loss=True)
        except MigrationError as error:
            remedy = (
                "bring the log back, or an empty one: 'crossfade migrate forget-log LOG --why ...'"
            )
            obstacles.append(Obstacle("migration", str(error), remedy))
        else:
            missing = [text async for text in _missing(pool, look, name, left)]
    elif look.state.queued is not None:
        obstacles.append(Obstacle("migration", "a step is queued", "wait for it, or cancel it"))
    elif not used:
        remedy = "see that the name is right; only a log that was used can be lost"
        obstacles.append(Obstacle("name", f"no log called {name} was ever used", remedy))
    if not accept_loss:
        obstacles += [Obstacle("messages", text, _ACCEPT) for text in missing]
    asked = True
    try:
        create(name, settings)
    except ConfigurationError:
        asked = False
    else:
        obstacles += await _answers(name, settings, look.known.get(name))
    return LogLoss(look, used, asked, missing, obstacles)


async def retire_lost(
    steps: Steps,
    pool: Pool,
    name: str,
    settings: TransportSettings,
    *,
    who: str,
    why: str,
    accept_loss: bool = False,
) -> str | None:
    """Record that the log is gone for good.

    Returns:
        The log that is written and read; ``None`` if the migration did not name the lost one.

    Raises:
        MigrationError: something is in the way, or the migration was changed meanwhile.
    """
    loss = await judge_loss(steps, pool, name, settings, accept_loss=accept_loss)
    if loss.obstacles:
        raise NotRetired("; ".join(obstacle.reason for obstacle in loss.obstacles))
    if loss.missing:
        why = f"{why} (accepted: {'; '.join(loss.missing)})"
    state = loss.look.state
    after = await steps.machine.retire_lost(
        state.epoch, name, used=loss.used, who=who, why=why, accept_loss=accept_loss
    )
    return rests_on(after) if name in state.pair.names else None


async def _answers(name: str, settings: TransportSettings, known: str | None) -> list[Obstacle]:
    """Return the obstacle that the log answers, if it does; another log of its name is not it."""
    try:
        async with asyncio.timeout(_ANSWERS_SECONDS), opened(name, settings) as log:
            if log is None or known not in (None, await log.identity()):
                return []
            found = "it answers, so it is not lost"
    except ConfigurationError as error:
        found = f"its server answers, so it may not be lost: {error}"
    except (TransportError, TimeoutError):
        return []
    remedy = (
        f"'crossfade migrate retire {name} --why ...' without --lost proves that nothing needs it"
    )
    return [Obstacle("answers", found, remedy)]


async def _missing(pool: Pool, look: MigrationStanding, lost: str, left: str) -> AsyncIterator[str]:
    """Yield what the remaining log may lack of the lost log's acknowledged messages."""
    try:
        survivor(look.state, lost)
    except IncompleteCopy as error:
        async with using(pool) as connection:
            gaps = sum((await open_gaps(connection, left)).values())
        yield (
            f"{error}: the newest, and {gaps} that were noted as not copied (shadow_gaps), where "
            "PostgreSQL has no row of them"
        )
    async with using(pool) as connection:
        below = sorted((await read_chain(connection)).waits_for(lost))
    if below:
        yield (
            f"PostgreSQL may not have all that {lost} had before every process wrote to {left} "
            f"too (partitions {', '.join(map(str, below))}: the gate 'watermark')"
        )

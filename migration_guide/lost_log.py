"""Give up a log whose servers and disks are gone: nothing of it can be read or removed any more.

It is what an operator does last, when all processes run on the log that is left (docs/redis.md).
"""

from __future__ import annotations

from migration_guide.errors import MigrationError, NotRetired
from migration_guide.resting import must_not_wait, rests_on, survivor
from migration_guide.retirement import Obstacle, users_of
from migration_guide.steps import MigrationStanding, Steps

__all__ = ["judge_loss", "retire_lost"]


async def judge_loss(steps: Steps, name: str) -> tuple[MigrationStanding, list[Obstacle]]:
    """Return where the migration stands, and what keeps the log from being given up.

    Raises:
        NotStarted: there is no migration yet.
        Outage: PostgreSQL can't tell.
    """
    look = await steps.look()
    obstacles = users_of(look.processes, name)
    try:
        if name in look.state.pair.names:
            survivor(look.state, name)
        must_not_wait(look.state)
    except MigrationError as error:
        remedy = "bring the log back, or an empty one: 'crossfade migrate forget-log LOG --why ...'"
        obstacles.append(Obstacle("migration", str(error), remedy))
    return look, obstacles


async def retire_lost(steps: Steps, name: str, *, who: str, why: str) -> str:
    """Record that the log is gone for good; return the log that is written and read.

    Raises:
        MigrationError: something is in the way, or the migration was changed meanwhile.
    """
    look, obstacles = await judge_loss(steps, name)
    if obstacles:
        raise NotRetired("; ".join(obstacle.reason for obstacle in obstacles))
    after = await steps.machine.retire_lost(look.state.epoch, name, who=who, why=why)
    return rests_on(after)

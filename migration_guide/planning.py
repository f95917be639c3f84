"""Plan the next migration: the log that it leads to, and what stands in the way of planning it.

A plan changes no process. It gives the phases their meaning: phase 0 of the new plan is the log
that is written and read now.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from migration_guide.errors import NotPlanned
from migration_guide.gates.processes import judge, named
from migration_guide.machine import must_rest, rests_on
from migration_guide.steps import MigrationStanding, Steps
from persistence.fleet.log_choice import LogPair
from persistence.fleet.migration_state import MigrationState
from persistence.fleet.processes import Process
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["MigrationPlan", "plan", "planned"]


class MigrationPlan(msgspec.Struct, frozen=True, rename="camel"):
    """A migration that can be planned.

    Args:
        pair: the logs that it leads from and to.
        partitions: how many partitions each of them has.
        epoch: the state that it was judged on.
    """

    pair: LogPair
    partitions: dict[str, int]
    epoch: int


def planned(look: MigrationStanding, new: str, settings: TransportSettings) -> MigrationPlan:
    """Return the plan to migrate to ``new``, if it can be made now.

    Args:
        look: the migration's state and the processes.
        new: the name of the log to migrate to.
        settings: with which logs are made.

    Raises:
        ConfigurationError: ``new`` is no name of a log that can be made.
        MigrationError: the migration does not rest, or a process stands in the way.
    """
    must_rest(look.state)
    old = rests_on(look.state)
    logs = {name: create(name, settings) for name in (old, new)}
    if new == old:
        raise NotPlanned(f"{old} is the log that is written and read now: name another one")
    _must_know_plans(look.processes, look.state)
    return MigrationPlan(
        pair=LogPair(old, new),
        partitions={name: log.partitions for name, log in logs.items()},
        epoch=look.state.epoch,
    )


async def plan(steps: Steps, chosen: MigrationPlan, *, who: str, why: str) -> MigrationState:
    """Record a plan; return the new state.

    Raises:
        MigrationError: the state was changed after the plan was judged.
    """
    assert chosen.pair.new is not None
    return await steps.machine.plan(chosen.epoch, chosen.pair.new, who=who, why=why)


def _must_know_plans(processes: Sequence[Process], state: MigrationState) -> None:
    """Refuse beside a process that would take the new phases for those of another migration."""
    verdict = judge(processes, {state.phase})
    if verdict.verdict != "green":
        raise NotPlanned(verdict.reason)
    if old := [process for process in processes if not process.knows_plans]:
        raise NotPlanned(
            f"of a version that knows the migration from redis to kafka only: {named(old)}; "
            "restart them with this version first"
        )

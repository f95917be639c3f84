"""Plan the next migration: choose its new log, and check what prevents the plan.

A plan changes no process. It gives the phases their meaning: phase 0 of the new plan is the log
that is written and read now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from migration_guide.errors import NotPlanned
from migration_guide.gates.processes import judge, named
from migration_guide.resting import must_rest, rests_on
from migration_guide.steps import MigrationStanding, Steps
from persistence.fleet.log_choice import LogPair
from persistence.fleet.migration_state import MigrationState
from persistence.fleet.processes import Process
from persistence.store.locks import inserters
from transport.contract import Transport
from transport.deadline import answer
from transport.errors import TransportUnavailable, one_line
from transport.existing import Existing, must_be_shared
from transport.log_name import LogName
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["MigrationPlan", "plan", "planned"]

_WITHIN_SECONDS = 10.0


class MigrationPlan(msgspec.Struct, frozen=True, rename="camel"):
    """A migration that can be planned.

    Args:
        pair: the logs that it leads from and to.
        partitions: how many partitions each of them has.
        epoch: the state that it was judged on.
        inserters: how many statements can insert rows at once from the new log without waiting for
            each other: at most as many as it has partitions.
        unreached: why the new log could not be asked which one it is; ``None`` if it was. The gate
            ``identity`` of the step to phase 2 asks again.
    """

    pair: LogPair
    partitions: dict[str, int]
    epoch: int
    inserters: int
    unreached: str | None = None


async def planned(look: MigrationStanding, new: str, settings: TransportSettings) -> MigrationPlan:
    """Return the plan to migrate to ``new``, if it can be made now.

    Args:
        look: the migration's state, the processes, and the log that each name means.
        new: the name of the log to migrate to.
        settings: the settings to make logs with.

    Raises:
        ConfigurationError: ``new`` is no name of a log that can be made, or one within a process.
        MigrationError: the migration does not rest, a process stands in the way, or the name means
            another log than the existing one.
    """
    must_rest(look.state)
    old = rests_on(look.state)
    logs = {name: create(name, settings) for name in (old, new)}
    must_be_shared(logs[new])
    if new == old:
        raise NotPlanned(f"{old} is the log that is written and read now: name another one")
    if story := look.retired.get(new):
        raise NotPlanned(
            f"{new} was retired {story}. Rows have positions under that name, so it is not used "
            "again: give the new log another label or number of partitions"
        )
    _must_know_plans(look.processes, look.state)
    _must_know_label(look.processes, new)
    unreached = await _must_mean_it(logs[new], look.known)
    return MigrationPlan(
        pair=LogPair(old, new),
        partitions={name: log.partitions for name, log in logs.items()},
        epoch=look.state.epoch,
        inserters=inserters(logs[new].partitions),
        unreached=unreached,
    )


async def plan(steps: Steps, chosen: MigrationPlan, *, who: str, why: str) -> MigrationState:
    """Record a plan; return the new state.

    Raises:
        MigrationError: the state was changed after the plan was judged.
    """
    assert chosen.pair.new is not None
    return await steps.machine.plan(chosen.epoch, chosen.pair.new, who=who, why=why)


def _must_know_plans(processes: Sequence[Process], state: MigrationState) -> None:
    """Refuse if a process would take the new phases for those of another migration."""
    verdict = judge(processes, {state.phase})
    if verdict.verdict != "green":
        raise NotPlanned(verdict.reason)
    if old := [process for process in processes if not process.knows_plans]:
        raise NotPlanned(
            f"of a version that knows the migration from redis to kafka only: {named(old)}; "
            "restart them with this version first"
        )


def _must_know_label(processes: Sequence[Process], new: str) -> None:
    """Refuse if a process has no settings for the log, so it could not connect to it."""
    label = LogName.parse(new).label
    if label is None:
        return
    if strangers := [
        process
        for process in processes
        if label not in {LogName.parse(name).label for name in process.logs or {}}
    ]:
        raise NotPlanned(
            f"{new} has settings of its own, which are unknown to {named(strangers)}: restart them "
            f"with OTHER_LOGS={new} and its settings first"
        )


async def _must_mean_it(log: Transport, known: Mapping[str, str]) -> str | None:
    """Refuse a name that means another log, or a log that has another name.

    Returns:
        The reason why the log could not be asked, if it could not.
    """
    if not isinstance(log, Existing):
        return None
    try:
        identity = await answer(_identity(log), within=_WITHIN_SECONDS)
    except (TransportUnavailable, TimeoutError) as error:
        return one_line(error, empty=f"no answer within {_WITHIN_SECONDS:.0f} s")
    if log.name in known and known[log.name] != identity:
        found = "another log" if identity else "no log"
        raise NotPlanned(
            f"{log.name} is the name of a log that was used before, and {log.where} holds "
            f"{found}: give another server a name of its own (a label), or, if the log was "
            "emptied or made anew, say so with 'crossfade migrate forget-log "
            f"{log.name} --why ...'"
        )
    if same := [name for name, other in known.items() if other == identity and name != log.name]:
        raise NotPlanned(
            f"{log.name} is the same log as {same[0]}: compare their addresses, or, if "
            f"{same[0]} is no longer used under this name, remove it with 'crossfade migrate "
            f"forget-log {same[0]} --why ...'"
        )
    return None


async def _identity(log: Transport) -> str | None:
    """Return the log's identity; ``None`` if the log does not exist. It is not created here."""
    assert isinstance(log, Existing)
    if not await log.exists():
        return None
    async with log:
        return await log.identity()

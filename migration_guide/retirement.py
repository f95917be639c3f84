"""Retire a log that a migration left behind: prove that nothing of it is needed, then remove it.

The proof has a cheap part (who uses the log, how far its groups are) and a part that reads the
whole log and compares it with PostgreSQL. Before anything is removed the cheap part is taken again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec

from migration_guide.errors import MigrationError, NotRetired
from migration_guide.gates.processes import named
from migration_guide.machine import must_rest, rests_on
from migration_guide.steps import MigrationStanding, Steps
from persistence.audit.scan import scan
from persistence.database.pool import Pool
from persistence.dead_letters.kept import count_letters
from persistence.fleet.log_identities import known_identities
from persistence.fleet.processes import Process
from transport.contract import WORKER_GROUP, Holding, Topic, Transport
from transport.errors import ConfigurationError
from transport.existing import Existing
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["Obstacle", "Retirement", "judge_retirement", "opened", "retire"]


class Obstacle(msgspec.Struct, frozen=True):
    """A reason not to remove a log, and what takes it away."""

    name: str
    reason: str
    remedy: str


class Retirement(msgspec.Struct, frozen=True, rename="camel"):
    """What was found of a log that is to be removed. Nothing stands in the way if no obstacle does.

    ``records`` were compared with PostgreSQL, and ``letters`` looked for there. ``pending_letters``
    are rows that can still be redriven or discarded. ``planned``: a step of the migration leads to
    the log. ``holdings`` is what a removal takes.
    """

    log: str
    epoch: int
    exists: bool
    planned: bool
    records: int
    letters: int
    pending_letters: int
    holdings: Sequence[Holding]
    obstacles: Sequence[Obstacle]


@asynccontextmanager
async def opened(name: str, settings: TransportSettings) -> AsyncIterator[Transport | None]:
    """Lend the log called ``name``; ``None`` where its server holds no such log.

    Raises:
        ConfigurationError: it is no log that can be made here, or one within a process.
        TransportUnavailable: it can't be reached.
    """
    made = create(name, settings)
    if not made.features.shared:
        raise ConfigurationError(
            f"{name} is a log within one process, and ends with it: name one that outlives it"
        )
    if isinstance(made, Existing) and not await made.exists():
        yield None
        return
    async with made as log:
        yield log


async def judge_retirement(
    steps: Steps,
    pool: Pool,
    name: str,
    log: Transport | None,
    *,
    discard_letters: bool = False,
    compared: Callable[[int], object] = lambda _: None,
) -> Retirement:
    """Look at all that may need the log.

    Args:
        steps: the migration.
        pool: of the database with the rows.
        name: the log's name.
        log: the log, open; ``None`` where there is none.
        discard_letters: letters that only this log has are no obstacle.
        compared: called with how many records or letters more were compared.

    Raises:
        NotStarted: there is no migration yet.
        Outage, TransportError: a server can't tell.
    """
    look = await steps.look()
    planned = name in look.state.pair.names
    obstacles = await _users(look, pool, name, log)
    if log is None:
        return Retirement(name, look.state.epoch, False, planned, 0, 0, 0, [], obstacles)
    obstacles += await _unread(log)
    found = await scan(pool, log, compared=compared)
    if found.findings:
        obstacles.append(
            Obstacle(
                "unsettled",
                f"{len(found.findings)} of its records are acknowledged, and neither row nor dead "
                "letter, or their row differs",
                f"'crossfade audit --transport {name}' lists them, and --repair mends them",
            )
        )
    letters = await count_letters(pool, log, compared=compared)
    if letters.only and not discard_letters:
        obstacles.append(
            Obstacle(
                "letters",
                f"the bytes of {letters.only} of its {letters.all} dead letters are in no row, so "
                "they could not be redriven any more",
                f"run a worker on it, which makes rows of them (TRANSPORT={name} crossfade "
                "worker), or lose them: --discard-letters",
            )
        )
    return Retirement(
        log=name,
        epoch=look.state.epoch,
        exists=True,
        planned=planned,
        records=sum(one.records for one in found.ranges),
        letters=letters.all,
        pending_letters=letters.pending,
        holdings=await log.remove(dry_run=True),
        obstacles=obstacles,
    )


async def retire(
    steps: Steps,
    pool: Pool,
    proof: Retirement,
    log: Transport | None,
    *,
    who: str,
    why: str,
) -> Sequence[Holding]:
    """Record that the log is retired, and remove it; return what was removed.

    Where the removal fails, it is recorded already, and can be taken again.

    Raises:
        MigrationError: the migration was changed after the proof, or somebody uses the log now.
        TransportError: the log may be removed in part.
    """
    if not proof.obstacles:
        look = await steps.look()
        again = await _users(look, pool, proof.log, log)
        again += await _unread(log) if log else []
        proof = msgspec.structs.replace(proof, obstacles=again)
    if proof.obstacles:
        raise NotRetired("; ".join(obstacle.reason for obstacle in proof.obstacles))
    await steps.machine.retire(proof.epoch, proof.log, who=who, why=why)
    return await log.remove() if log else []


async def _users(
    look: MigrationStanding, pool: Pool, name: str, log: Transport | None
) -> list[Obstacle]:
    """Return what says that the log is in use, or is not the one that its name means."""
    found = [*_processes(look.processes, name), *_migration(look, name)]
    if log is not None:
        used = {rests_on(look.state)}.union(*(_logs_of(process) for process in look.processes))
        found += _identity(name, await log.identity(), used, await known_identities(pool))
    return found


def _identity(
    name: str, identity: str, used: set[str], known: Mapping[str, str]
) -> Iterator[Obstacle]:
    """Yield what says that the log is not only the one that its name means."""
    if known.get(name, identity) != identity:
        reason = f"this is another log than the one that {name} was"
        remedy = "see that the settings of this command lead to the server of the log"
        yield Obstacle("identity", reason, remedy)
    for other in sorted(used - {name}):
        if known.get(other) == identity:
            remedy = f"name it by the name that it is used by: {other}"
            yield Obstacle("identity", f"it is {other}, which is in use", remedy)
        elif other not in known:
            remedy = "restart its processes with this version, and see that they reach the log"
            yield Obstacle("identity", f"no process has said yet which log {other} is", remedy)


def _processes(processes: Sequence[Process], name: str) -> list[Obstacle]:
    users = [process for process in processes if name in _logs_of(process)]
    if missing := [process for process in users if not process.live]:
        remedy = f"if it is gone for good: 'crossfade migrate forget {missing[0].member}'"
    else:
        remedy = "restart them with settings that do not name it"
    reason = f"processes have it in their settings: {named(users)}"
    return [Obstacle("processes", reason, remedy)] if users else []


def _logs_of(process: Process) -> set[str]:
    logs = (process.transport, process.transport_shadow, process.consume_from)
    return {name for name in logs if name is not None}


def _migration(look: MigrationStanding, name: str) -> list[Obstacle]:
    if name not in look.state.pair.names:
        return []
    try:
        must_rest(look.state)
    except MigrationError as error:
        return [Obstacle("migration", str(error), "finish the migration, or take it back")]
    if rests_on(look.state) == name:
        remedy = "migrate to another log first: 'crossfade migrate plan --to LOG'"
        return [Obstacle("migration", "it is the log that is written and read", remedy)]
    return []


async def _unread(log: Transport) -> list[Obstacle]:
    """Return the obstacles of groups that have records to read, or read the log now."""
    found = []
    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    drain = f"run a worker on it until it is empty: TRANSPORT={log.name} crossfade worker"
    if unclear := [one.partition for one in progress if one.lag is None]:
        reason = f"how far {WORKER_GROUP} is in partitions {unclear} is unknown"
        found.append(Obstacle("unknown", reason, "see that every server of the log runs"))
    if unread := sum(one.lag or 0 for one in progress):
        reason = f"{unread} of its records are not acknowledged by {WORKER_GROUP}"
        found.append(Obstacle("unread", reason, drain))
    for standing in await log.groups():
        if standing.members:
            reason = f"group {standing.group} has {standing.members} members in it"
            remedy = (
                "wait: a process leaves a log that no settings name once it was empty for 60 s"
                if standing.ours
                else "end that program first"
            )
            found.append(Obstacle("members", reason, remedy))
        elif not standing.ours and standing.lag != 0:
            count = "an unknown number of" if standing.lag is None else standing.lag
            reason = f"group {standing.group} of another program has {count} records to read"
            remedy = "let that program read them, or delete its group"
            found.append(Obstacle("other groups", reason, remedy))
    return found

"""Retire a log that a migration left behind: prove that nothing of it is needed, then remove it.

The proof has a cheap part (users of the log, positions in it) and a part that reads the
whole log and compares it with PostgreSQL. The cheap part is repeated twice: before the retirement
is recorded, and between the record and the removal. A process with old settings that starts after
the record reads it, and accepts no message. If it started before, the last check sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec

from migration_guide.errors import MigrationError, NotRetired
from migration_guide.gates.processes import named
from migration_guide.resting import must_not_wait, must_rest, rests_on
from migration_guide.steps import MigrationStanding, Steps
from persistence.audit.scan import scan
from persistence.database.pool import Pool
from persistence.dead_letters.kept import count_letters
from persistence.fleet.heartbeat import PRESENCE_SECONDS
from persistence.fleet.log_identities import known_identities
from persistence.fleet.processes import Process
from persistence.fleet.retired_logs import retired_logs
from persistence.fleet.used_logs import was_used
from persistence.ownership.settled import unsettled
from transport.contract import WORKER_GROUP, Holding, Topic, Transport
from transport.existing import Existing, must_be_shared
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["Obstacle", "Retirement", "judge_retirement", "opened", "retire", "users_of"]


class Obstacle(msgspec.Struct, frozen=True):
    """A reason not to remove a log, and its remedy."""

    name: str
    reason: str
    remedy: str


class Retirement(msgspec.Struct, frozen=True, rename="camel"):
    """A log to remove. This is possible if there is no obstacle.

    ``records`` were compared with PostgreSQL, and ``letters`` looked for there. ``pending_letters``
    are rows that can still be redriven or discarded. ``in_migration``: a step of the migration
    leads to the log. ``used``: the log exists, or something is kept under its name; otherwise the
    name stays free. ``holdings``: the parts of the log that a removal deletes.
    """

    log: str
    epoch: int
    exists: bool
    in_migration: bool
    used: bool
    records: int
    letters: int
    pending_letters: int
    holdings: Sequence[Holding]
    obstacles: Sequence[Obstacle]


@asynccontextmanager
async def opened(name: str, settings: TransportSettings) -> AsyncIterator[Transport | None]:
    """Lend the log called ``name``; ``None`` if its server holds no such log.

    Raises:
        ConfigurationError: no such log can be made here, or only one within a process.
        TransportUnavailable: it can't be reached.
    """
    made = create(name, settings)
    must_be_shared(made)
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
    """Check everything that may need the log.

    Args:
        steps: the migration.
        pool: the database with the rows.
        name: the log's name.
        log: the log, open; ``None`` if there is none.
        discard_letters: whether letters that only this log has are no obstacle.
        compared: called with the number of further records or letters that were compared.

    Raises:
        NotStarted: there is no migration yet.
        Outage, TransportError: a server can't answer.
    """
    look = await steps.look()
    in_migration = name in look.state.pair.names
    obstacles = await _users(look, pool, name, log)
    if log is None:
        used = await was_used(pool, name)
        return Retirement(name, look.state.epoch, False, in_migration, used, 0, 0, 0, [], obstacles)
    obstacles += await _unread(pool, log)
    found = await scan(pool, log, compared=compared)
    if found.findings:
        obstacles.append(
            Obstacle(
                "unsettled",
                f"{len(found.findings)} of its records were passed, and are neither row nor dead "
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
        in_migration=in_migration,
        used=True,
        records=sum(compared.records for compared in found.ranges),
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
    wait: float = PRESENCE_SECONDS,
) -> Sequence[Holding]:
    """Record that the log is retired, and remove it; return its removed parts.

    If the removal fails, the record stays, and the call can be repeated.

    Args:
        steps: the migration.
        pool: of the database with the rows.
        proof: shows that nothing needs the log.
        log: the log, open; ``None`` if there is none.
        who: the operator.
        why: the operator's reason.
        wait: seconds from the record to the last look.

    Raises:
        MigrationError: the migration was changed after the proof, or somebody uses the log now.
        TransportError: the log may be removed in part.
    """
    obstacles = proof.obstacles or await _cheap_look(steps, pool, proof.log, log)
    if obstacles:
        raise NotRetired(_reasons(obstacles))
    used = proof.used or log is not None
    await steps.machine.retire(proof.epoch, proof.log, used=used, who=who, why=why)
    if log is None:
        return []
    await asyncio.sleep(wait)
    if obstacles := await _cheap_look(steps, pool, proof.log, log):
        raise NotRetired(
            f"{_reasons(obstacles)}. It is recorded as retired and nothing was removed: processes "
            "that accept messages into it end by themselves; run this command again then"
        )
    if proof.log not in await retired_logs(pool, [proof.log]):
        raise NotRetired(
            "PostgreSQL lost the record of it in a failover or a restore, so processes may write "
            "the log. Nothing was removed: run this command again"
        )
    return await log.remove()


async def _cheap_look(steps: Steps, pool: Pool, name: str, log: Transport | None) -> list[Obstacle]:
    found = await _users(await steps.look(), pool, name, log)
    return found + (await _unread(pool, log) if log else [])


def _reasons(obstacles: Sequence[Obstacle]) -> str:
    return "; ".join(obstacle.reason for obstacle in obstacles)


async def _users(
    look: MigrationStanding, pool: Pool, name: str, log: Transport | None
) -> list[Obstacle]:
    """Return the obstacles that come from users of the log, or from another log of its name."""
    found = [*users_of(look.processes, name), *_migration(look, name)]
    found += _readers(look.processes, name)
    if log is not None:
        used = {rests_on(look.state)}.union(*(_logs_of(process) for process in look.processes))
        found += _identity(name, await log.identity(), used, await known_identities(pool))
    return found


def _identity(
    name: str, identity: str, used: set[str], known: Mapping[str, str]
) -> Iterator[Obstacle]:
    """Yield obstacles if the log is not the only one that its name means."""
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


def users_of(processes: Sequence[Process], name: str) -> list[Obstacle]:
    """Return the obstacle that processes have the log in their settings, if any do."""
    users = [process for process in processes if name in _logs_of(process)]
    if missing := [process for process in users if not process.live]:
        remedy = f"if it is gone for good: 'crossfade migrate forget {missing[0].member} --why ...'"
    else:
        remedy = "restart them with settings that do not name it"
    reason = f"processes have it in their settings: {named(users)}"
    return [Obstacle("processes", reason, remedy)] if users else []


def _readers(processes: Sequence[Process], name: str) -> Iterator[Obstacle]:
    """Yield the obstacle that processes read the log though no settings name it, if any do."""
    readers = [
        process
        for process in processes
        if process.live and process.owned.get(name) and name not in _logs_of(process)
    ]
    if readers:
        reason = f"processes read what is left in it: {named(readers)}"
        yield Obstacle("readers", reason, "wait: they leave it once it was empty for 60 s")


def _logs_of(process: Process) -> set[str]:
    logs = (process.transport, process.transport_shadow, process.consume_from)
    return {name for name in logs if name is not None}


def _migration(look: MigrationStanding, name: str) -> list[Obstacle]:
    planned = name in look.state.pair.names
    try:
        (must_rest if planned else must_not_wait)(look.state)
    except MigrationError as error:
        return [Obstacle("migration", str(error), "finish the migration, or take it back")]
    if planned and rests_on(look.state) == name:
        remedy = "migrate to another log first: 'crossfade migrate plan --to LOG --why ...'"
        return [Obstacle("migration", "it is the log that is written and read", remedy)]
    return []


async def _unread(pool: Pool, log: Transport) -> list[Obstacle]:
    """Return the obstacles of records that are not settled, and of groups of other programs."""
    found = []
    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    if unclear := [part.partition for part in progress if part.unavailable or part.held]:
        reason = f"partitions {unclear} can't be read to their ends"
        found.append(Obstacle("unknown", reason, "see that every server of the log runs"))
    ends = {part.partition: part.end for part in progress if not part.unavailable}
    if unread := await unsettled(pool, log, ends):
        reason = f"partitions {sorted(unread)} have records that may be neither row nor dead letter"
        drain = f"run a worker on it until it is empty: TRANSPORT={log.name} crossfade worker"
        found.append(Obstacle("unread", reason, drain))
    for standing in await log.groups():
        if standing.members:
            reason = f"group {standing.group} has {standing.members} members in it"
            found.append(Obstacle("members", reason, "end that program first"))
        elif not standing.ours and standing.lag != 0:
            count = "an unknown number of" if standing.lag is None else standing.lag
            reason = f"group {standing.group} of another program has {count} records to read"
            remedy = "let that program read them, or delete its group"
            found.append(Obstacle("other groups", reason, remedy))
    return found

"""Take a step: look, judge, begin, complete. The terminal and the console call this.

It never restarts a process: operators do, and the heartbeats of the processes show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from migration_guide.errors import NotAStep, NotStarted
from migration_guide.gates import ACCEPTABLE, OVERRIDABLE, judge
from migration_guide.gates.processes import judge as judge_processes
from migration_guide.gates.result import GateResult, Scene
from migration_guide.machine import Machine
from migration_guide.meant_log import must_be_meant
from migration_guide.mirrored import MIRRORED
from migration_guide.phases import PhaseStep, phases, step
from persistence.chain.ends import end_of
from persistence.chain.links import Chain, Marks
from persistence.chain.table import read as read_chain
from persistence.database.pool import Pool, using
from persistence.fleet.log_choice import choices
from persistence.fleet.log_identities import known_identities
from persistence.fleet.migration_state import MigrationState
from persistence.fleet.migration_state import state as read_state
from persistence.fleet.processes import Process
from persistence.fleet.processes import processes as read_processes
from persistence.fleet.retired_logs import retired_logs
from transport.errors import TransportError
from transport.existing import must_exist
from transport.registry import create
from transport.settings import TransportSettings

__all__ = [
    "Checked",
    "MigrationStanding",
    "Steps",
    "passed",
    "refused",
    "turns_back",
    "waiting_helps",
    "way_on",
]

_OF_PROCESSES = ("processes", "identity")
"""Gates of every step that look at the processes."""


class MigrationStanding(msgspec.Struct, frozen=True):
    """The migration's state, with the other data on which steps are judged.

    Args:
        state: the migration's state.
        processes: the running processes.
        known: the identity of the log that each name means.
        retired: who retired a log, when and why, by name.
    """

    state: MigrationState
    processes: list[Process]
    known: dict[str, str]
    retired: dict[str, str]

    @property
    def reached(self) -> GateResult:
        """Whether every process is on the target."""
        return judge_processes(self.processes, {self.state.target})

    @property
    def settled(self) -> MigrationState:
        """The state after recording a step as complete, if every process has taken it."""
        if not self.state.under_way or self.reached.verdict != "green":
            return self.state
        return msgspec.structs.replace(self.state, phase=self.state.target)


class Checked(msgspec.Struct, frozen=True):
    """The gates' answers for a step, and the standing on which they were judged."""

    step: PhaseStep
    look: MigrationStanding
    results: list[GateResult]


class Steps:
    """The migration of one installation. Methods raise ``Outage`` when PostgreSQL can't answer."""

    def __init__(self, pool: Pool, settings: TransportSettings) -> None:
        self.machine = Machine(pool)
        self._pool = pool
        self._settings = settings

    async def look(self) -> MigrationStanding:
        """Return the state and the processes.

        Raises:
            NotStarted: no process has ever run.
        """
        retired = await retired_logs(self._pool)  # first: an older schema is told as what it is
        state = await read_state(self._pool)
        if state is None:
            raise NotStarted
        return MigrationStanding(
            state,
            await read_processes(self._pool),
            await known_identities(self._pool),
            retired,
        )

    def next_step(self, state: MigrationState, *, forward: bool) -> PhaseStep:
        """Return the step that ``advance`` or ``rollback`` means now.

        While a step is under way, the opposite direction leads back to its origin.

        Raises:
            NotAStep: there is none in this direction, or one is under way.
        """
        if state.under_way:
            if (state.target > state.phase) == forward:
                raise NotAStep(
                    f"the step to phase {state.target} is under way: it is complete when every "
                    "process is restarted with its settings; 'crossfade migrate status' shows "
                    f"them, and the processes that lack them. {turns_back(forward=forward)} turns "
                    "it back"
                )
            return step(state.target, state.phase)
        if state.pair.new is None:
            raise NotAStep(
                f"{state.pair.old} is written and read, and no migration is planned since "
                f"{state.changed_by}'s change ({state.why}): name the log that one leads to with "
                "'crossfade migrate plan --to LOG --why ...'"
            )
        to = state.phase + (1 if forward else -1)
        if not 0 <= to < len(phases(state.pair)):
            where = "last" if forward else "first"
            raise NotAStep(f"phase {phases(state.pair)[state.phase].label} is the {where} one")
        return step(state.phase, to)

    async def check(self, taken: PhaseStep, *, window: float) -> Checked:
        """Read the state once, and judge every gate of ``taken`` on it.

        The gates that look at the processes are judged once more at the end, on what the processes
        report then: others take a minute, and a process may have started meanwhile.
        """
        look = await self.look()
        scene = Scene(
            pool=self._pool,
            settings=self._settings,
            state=look.settled,
            processes=look.processes,
            origin=taken.origin,
            to=taken.to,
            window=window,
        )
        async with scene:
            results = {result.name: result for result in await judge(scene, taken.gates)}
            scene.processes = await read_processes(self._pool)
            results |= {result.name: result for result in await judge(scene, _OF_PROCESSES)}
        return Checked(taken, look, list(results.values()))

    async def begin(
        self,
        checked: Checked,
        *,
        who: str,
        why: str,
        overrides: Mapping[str, str],
        queued: bool = False,
    ) -> MigrationState:
        """Begin the step that was checked, if nothing has changed since.

        Raises:
            MigrationError: something has, or the step can't be taken from here.
        """
        return await self.machine.begin(
            checked.look.state.epoch,
            checked.step.to,
            who=who,
            why=why,
            gates=checked.results,
            overrides=overrides,
            queued=queued,
        )

    async def complete(self, look: MigrationStanding, *, who: str) -> MigrationState | None:
        """Record that the step is complete, if it is; return the new state.

        Where every process writes both logs, record that both are whole, if that is possible now.

        Raises:
            TransportError: the logs can't be asked where they end, which has to be recorded, or
                these settings lead to other logs than those of the processes.
        """
        state = look.state
        if look.reached.verdict != "green":
            return None
        if not state.under_way:
            return await self._mark(state, who=who)
        return await self.machine.complete(state.epoch, who=who, chain=await self._marked(state))

    async def _mark(self, state: MigrationState, *, who: str) -> MigrationState | None:
        if state.queued is not None:
            return None
        try:
            chain = await self._marked(state)
        except TransportError:
            return None  # the gate says that it is missing; a step back may pass without it
        return await self.machine.mark(state.epoch, chain, who=who) if chain else None

    async def _marked(self, state: MigrationState) -> Chain | None:
        """Return the chain with both logs whole; ``None`` if they are, or must not be yet.

        Every process writes to both by now. So each message that one of them may lack is before
        the present ends of the logs that were read so far.
        """
        if state.target not in MIRRORED:
            return None
        async with using(self._pool) as connection:
            chain = await read_chain(connection)
        if chain.both_whole:
            return None
        choice = choices(state.pair)[state.target]
        assert choice.shadow is not None
        unmarked = {link.log for link in chain.links if link.marks is None}
        ends = {name: await self._end(name) for name in unmarked | {choice.transport}}
        return chain.marked(ends, choice.transport, choice.shadow)

    async def _end(self, name: str) -> Marks:
        await must_exist(name, self._settings)
        async with create(name, self._settings) as log:
            await must_be_meant(log, self._pool)
            return await end_of(log)


def turns_back(*, forward: bool) -> str:
    """Return the command, quoted, that turns back a step in this direction."""
    return f"'crossfade migrate {'rollback' if forward else 'advance'} --why ...'"


def refused(
    results: Sequence[GateResult], *, accepted: Mapping[str, str], overridden: Mapping[str, str]
) -> list[GateResult]:
    """Return the results that prevent the step.

    Args:
        results: The gates' answers.
        accepted: An operator's reasons to accept ``unknown`` results, by gate.
        overridden: Reasons to overrule any verdict, by gate.
    """
    return [
        result
        for result in results
        if not (
            result.verdict == "green"
            or (
                result.verdict == "unknown"
                and result.name in accepted
                and result.name in ACCEPTABLE
            )
            or (result.name in overridden and result.name in OVERRIDABLE)
        )
    ]


def passed(
    results: Sequence[GateResult], *, accepted: Mapping[str, str], overridden: Mapping[str, str]
) -> dict[str, str]:
    """Return the reason given for each gate that is not green. None may be ``refused``."""
    return {
        result.name: accepted[result.name]
        if result.verdict == "unknown" and result.name in accepted
        else overridden[result.name]
        for result in results
        if result.verdict != "green"
    }


def waiting_helps(in_the_way: Sequence[GateResult]) -> bool:
    """Return whether all gates ``in_the_way`` can turn green without an operator's action."""
    return all(result.remedy is None for result in in_the_way)


def way_on(in_the_way: Sequence[GateResult], *, prefix: str = "") -> list[str]:
    """Return the options with which an operator can pass the gates ``in_the_way``.

    Empty if one of them can't be passed: then the others are of no use. ``prefix`` is put before
    each gate's name.
    """
    options = []
    for result in in_the_way:
        if result.verdict == "unknown" and result.name in ACCEPTABLE:
            options.append(f"--accept-unknown {prefix}{result.name}='the reason'")
        elif result.verdict == "red" and result.name in OVERRIDABLE:
            options.append(f"--overrule {prefix}{result.name}='the reason'")
        else:
            return []
    return options

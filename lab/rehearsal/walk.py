"""The walk from phase to phase by rolling restarts, under load and, if asked for, with faults."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from lab.harness.load_process import LoadProcess
from lab.rehearsal.faults import Faults
from lab.rehearsal.gates import RehearsalGate
from lab.rehearsal.options import Options
from lab.rehearsal.samples import Observer
from lab.rehearsal.stage import Stage
from lab.rehearsal.timeline import GateMark, RehearsalTimeline
from persistence.fleet.log_choice import choices

__all__ = ["Walk"]

_SHORTEST = 2.0  # seconds in a phase

Say = Callable[[str], None]


class Walk:
    """Takes a rehearsal through ``options.phases``.

    Args:
        options: The options of the rehearsal.
        stage: Its servers and processes.
        observer: Samples the logs that are in use.
        timeline: Gets the phases and the gates.
        gate: Decides when the next phase may begin.
        say: Called with a line for people at every step.
    """

    def __init__(
        self,
        *,
        options: Options,
        stage: Stage,
        observer: Observer,
        timeline: RehearsalTimeline,
        gate: RehearsalGate,
        say: Say,
    ) -> None:
        self._options = options
        self._stage = stage
        self._observer = observer
        self._timeline = timeline
        self._gate = gate
        self._say = say
        self._dice = random.Random(options.seed)
        self._faults = Faults(stage, timeline, random.Random(options.seed + 1), options.pair)

    async def run(self, load: LoadProcess) -> None:
        """Walk through all phases.

        Raises:
            GateRedError: a gate stayed red.
            StuckError: the load did not go on.
        """
        first, *others = self._options.phases
        self._timeline.enter(first).rolled = self._timeline.now
        await self._stay(load)
        for phase in others:
            await self._ask(phase)
            await self._roll(load, phase)
            await self._stay(load)

    async def _ask(self, phase: int) -> None:
        came_from = self._timeline.phase
        self._say(f"asking for phase {phase}")
        mark = GateMark(frm=came_from, to=phase, begun=self._timeline.now)
        self._timeline.gates.append(mark)
        await self._gate.pass_to(phase, mark)
        mark.passed = self._timeline.now

    async def _roll(self, load: LoadProcess, phase: int) -> None:
        """Restart the processes one by one, in random order: adjacent phases may run together."""
        band = self._timeline.enter(phase, back=phase < self._timeline.phase)
        order = list(self._stage.processes)
        self._dice.shuffle(order)

        async def one_by_one() -> None:
            for part in order:
                self._say(f"restarting {part.name} to phase {phase}")
                await self._stage.restart(part, phase)

        if self._options.faults_per_phase is None:
            await self._hurting(load, one_by_one())
        else:
            await one_by_one()
        pair = self._options.pair
        for log in pair.names:
            choice = choices(pair)[phase]
            if log in (choice.transport, choice.shadow):
                await self._observer.watch(log, self._stage.transport_settings())
        await self._gate.reached(phase)
        band.rolled = self._timeline.now

    async def _stay(self, load: LoadProcess) -> None:
        self._say(f"phase {self._timeline.phase}")
        await self._hurting(load, asyncio.sleep(self._rest()))
        await load.goes_on(1, within=180.0)

    def _rest(self) -> float:
        """Return how long to stay in this phase, in seconds."""
        options = self._options
        if options.minutes is None:
            return options.seconds_per_phase
        share = len(self._timeline.bands) / len(options.phases)
        return max(_SHORTEST, options.minutes * 60 * share - self._timeline.now)

    async def _hurting(self, load: LoadProcess, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` and inject faults meanwhile; return when the last fault is healed."""
        try:
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(work)
                if self._options.faults:
                    most = self._options.faults_per_phase
                    tasks.create_task(self._faults.run(load, most=most, until=task.done))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

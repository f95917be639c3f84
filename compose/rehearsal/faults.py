"""Faults, one after another, from a shuffled deck: each is healed before the next is dealt."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator

from compose.harness.load_process import LoadProcess
from compose.harness.waiting import StuckError
from compose.rehearsal.part import WAYS, Part
from compose.rehearsal.stage import Stage, place_of
from compose.rehearsal.timeline import FaultMark, RehearsalTimeline
from persistence.fleet.log_choice import LogPair, choices

__all__ = ["Faults"]

_GOES_ON = 20  # messages acknowledged after a fault, before the next
# The load has to go on, however slowly: a machine that is busy with other things takes ten times as
# long as it would alone.
_GOES_ON_WITHIN = 180.0
_LONGEST = 3.5  # seconds; longer than a lease, so that some faults outlast it and some don't
_REST = (0.2, 1.5)
_ALWAYS_IN_USE = ("postgres", "s3")


class Faults:
    """Injects faults into the processes and servers that the current phase uses."""

    def __init__(
        self, stage: Stage, timeline: RehearsalTimeline, dice: random.Random, pair: LogPair
    ) -> None:
        self._stage = stage
        self._timeline = timeline
        self._dice = dice
        self._pair = pair

    async def run(self, load: LoadProcess, *, most: int | None, until: Callable[[], bool]) -> None:
        """Deal faults until ``until`` says so or ``most`` were dealt; the last one is healed.

        Raises:
            StuckError: the load did not go on after one.
        """
        for dealt, (kind, way) in enumerate(self._deck(), 1):
            if until():
                return
            await self.inject(load, kind, way)
            if dealt == most:
                return
            await asyncio.sleep(self._dice.uniform(*_REST))

    async def inject(self, load: LoadProcess, kind: str, way: str) -> None:
        """Inject a fault into a part of a kind; wait until messages are acknowledged again."""
        part = self._dice.choice([part for part in self._stage.parts if part.kind == kind])
        lasts = self._dice.uniform(0.0, _LONGEST)
        async with part.held():
            mark = FaultMark(
                victim=part.name,
                way=way,
                phase=self._timeline.phase,
                rolling=self._timeline.rolling,
                begun=self._timeline.now,
            )
            self._timeline.faults.append(mark)
            async with part.hurt(way, self._stage.phase_of(part)):
                await asyncio.sleep(lasts)
            mark.healed = self._timeline.now
        await self._goes_on(load, part, mark)

    async def _goes_on(self, load: LoadProcess, part: Part, mark: FaultMark) -> None:
        try:
            await load.goes_on(_GOES_ON, within=_GOES_ON_WITHIN)
        except StuckError:
            raise StuckError(
                f"{_GOES_ON_WITHIN:.0f} s after the {mark.way} of {part.name} in phase "
                f"{mark.phase} was healed, fewer than {_GOES_ON} messages were acknowledged"
            ) from None
        mark.went_on = self._timeline.now

    def _deck(self) -> Iterator[tuple[str, str]]:
        """Yield victims and ways: every victim in use once, in any way, then all of them in all."""
        kinds = self._in_use()
        while True:
            pairs = [(kind, self._dice.choice(WAYS)) for kind in kinds]
            others = [(kind, way) for kind in kinds for way in WAYS if (kind, way) not in pairs]
            for cards in (pairs, others):
                self._dice.shuffle(cards)
                yield from cards

    def _in_use(self) -> list[str]:
        phase = self._timeline.phase
        choice = choices(self._pair)[phase]
        logs = dict.fromkeys(place_of(name) for name in (choice.transport, choice.shadow) if name)
        processes = dict.fromkeys(part.kind for part in self._stage.processes)
        others = (part.kind for part in self._stage.servers if part.kind in _ALWAYS_IN_USE)
        return [*processes, *others, *logs]

"""Faults, injected one after another from a shuffled deck: each is healed before the next."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Protocol

from lab.harness.waiting import StuckError
from lab.rehearsal.part import WAYS, Part
from lab.rehearsal.stage import Stage, place_of
from lab.rehearsal.timeline import FaultMark, RehearsalTimeline
from persistence.fleet.log_choice import LogPair, choices
from persistence.fleet.processes import LIVE_SECONDS

__all__ = ["FaultedLoad", "Faults"]

_GOES_ON = 20  # messages that must be acknowledged between two faults
# The load must go on, even slowly: on a busy machine everything takes ten times as long.
_GOES_ON_WITHIN = 180.0
_LONGEST = 3.5  # seconds
# Other processes take a process's partitions after LIVE_SECONDS; some faults last longer.
_TAKEN_OVER = LIVE_SECONDS + 2
_TAKEN_OVER_SHARE = 0.25
_REST = (0.2, 1.5)
_ALWAYS_IN_USE = ("postgres", "s3")


class FaultedLoad(Protocol):
    """The load that has to go on after each fault."""

    async def goes_on(self, messages: int, within: float) -> None:
        """Wait until this many more messages are acknowledged; raise ``StuckError`` if not."""


class Faults:
    """Injects faults into the processes and servers that the current phase uses.

    Args:
        stage: The processes and servers.
        timeline: Gets a mark for each fault.
        dice: Chooses victims, ways and durations.
        pair: The logs of the migration.
        rest: Shortest and longest time between two faults, in seconds.
        victims: Returns the parts of a kind that a way of fault may hit; by default all of the
            kind.
        ways: Returns the ways in which a kind of part can be hurt.
    """

    def __init__(
        self,
        stage: Stage,
        timeline: RehearsalTimeline,
        dice: random.Random,
        pair: LogPair,
        *,
        rest: tuple[float, float] = _REST,
        victims: Callable[[str, str], list[Part]] | None = None,
        ways: Callable[[str], tuple[str, ...]] = lambda _: WAYS,
    ) -> None:
        self._rest = rest
        self._victims = victims or self._all_of
        self._ways = ways
        self._stage = stage
        self._timeline = timeline
        self._dice = dice
        self._pair = pair

    async def run(self, load: FaultedLoad, *, most: int | None, until: Callable[[], bool]) -> None:
        """Inject faults until ``until`` returns true or ``most`` were injected; heal each.

        Raises:
            StuckError: the load did not go on after a fault.
        """
        for dealt, (kind, way) in enumerate(self._deck(), 1):
            if until():
                return
            await self.inject(load, kind, way)
            if dealt == most:
                return
            await asyncio.sleep(self._dice.uniform(*self._rest))

    async def inject(self, load: FaultedLoad, kind: str, way: str) -> None:
        """Inject one fault into a part of ``kind``; wait until messages are acknowledged again."""
        part = self._dice.choice(self._victims(kind, way))
        lasts = self._dice.uniform(0.0, self._longest(part))
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

    def _longest(self, part: Part) -> float:
        is_long = part in self._stage.processes and self._dice.random() < _TAKEN_OVER_SHARE
        return _TAKEN_OVER if is_long else _LONGEST

    async def _goes_on(self, load: FaultedLoad, part: Part, mark: FaultMark) -> None:
        try:
            await load.goes_on(_GOES_ON, within=_GOES_ON_WITHIN)
        except StuckError:
            raise StuckError(
                f"{_GOES_ON_WITHIN:.0f} s after the {mark.way} of {part.name} in phase "
                f"{mark.phase} was healed, fewer than {_GOES_ON} messages were acknowledged"
            ) from None
        mark.went_on = self._timeline.now

    def _all_of(self, kind: str, way: str) -> list[Part]:  # noqa: ARG002 - every way
        return [part for part in self._stage.parts if part.kind == kind]

    def _deck(self) -> Iterator[tuple[str, str]]:
        """Yield (kind, way) pairs: first each kind in use with one way, then all other pairs."""
        kinds = self._in_use()
        while True:
            every = [(kind, way) for kind in kinds for way in self._ways(kind)]
            pairs = [(kind, self._dice.choice(self._ways(kind))) for kind in kinds]
            others = [card for card in every if card not in pairs]
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

"""The migration for the console: the actions of ``crossfade migrate``, over HTTP.

Judging gates compares logs, which takes time. A second request within some seconds, or while the
first is under way, gets the same answer. A decision names the epoch on which it was judged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from ingress.console.migration import (
    Direction,
    EventView,
    GateView,
    MigrationView,
    ParityView,
    PhaseView,
    SampleView,
    StandView,
    StepRequest,
    StepView,
)
from ingress.routes.messages import trace_link
from ingress.schema.problems import STATE, Problem
from migration_guide.errors import MigrationError, NotAStep, NotStarted
from migration_guide.gates import ACCEPTABLE, OVERRIDABLE
from migration_guide.gates.result import GateResult
from migration_guide.parity.result import COMPARED, DIFFERENCES
from migration_guide.phases import phases
from migration_guide.steps import Checked, Steps, passed, refused
from persistence import parity_reports
from persistence.database.pool import Pool
from persistence.fleet.log_choice import FIRST_PAIR, LogPair
from persistence.fleet.migration_state import MigrationEvent, MigrationState, history
from transport.clock import now
from transport.settings import TransportSettings

__all__ = ["MigrationService"]

_KEPT_SECONDS = 8.0
_OVERTAKEN = "Somebody changed the migration meanwhile: look again."
_WINDOW_SECONDS = 300.0
_PARITY_BACK = timedelta(hours=1)
_SAMPLES = 20


class MigrationService:
    """Reads and changes the migration, for the console. A ``MigrationActions``."""

    def __init__(self, pool: Pool, settings: TransportSettings, *, trace_url: str | None) -> None:
        self._pool = pool
        self._steps = Steps(pool, settings)
        self._trace_url = trace_url
        self._turn = asyncio.Lock()
        self._kept: dict[Direction, tuple[float, StepView, Checked | None]] = {}

    async def view(self) -> MigrationView:
        """Return the state, the history and the latest comparison, without the gates."""
        try:
            look = await self._steps.look()
        except NotStarted:
            return MigrationView(
                phases=_phases(FIRST_PAIR), stand=None, reached=False, reached_why=None, events=[],
                parity=None,
            )  # fmt: skip
        events = await history(self._pool)
        reached = look.reached
        return MigrationView(
            phases=_phases(look.state.pair),
            stand=StandView.of(look.state),
            reached=reached.verdict == "green",
            reached_why=reached.reason,
            events=[_event(event) for event in events],
            parity=await self._parity(look.state.pair),
        )

    async def judged(self, direction: Direction) -> StepView:
        """Return the next step in a direction, with gates judged seconds ago at most."""
        return (await self._judge(direction))[0]

    async def begin(self, request: StepRequest, *, who: str) -> StandView:
        """Begin a step whose gates are green, or are passed with a reason each.

        Raises:
            Problem: a gate prevents it, another step was taken first, or the step is unknown.
        """
        shown, checked = await self._judge(request.direction, fresh=True)
        if checked is None:
            raise Problem(STATE, f"{shown.refusal}.")
        if shown.epoch != request.epoch:
            raise Problem(STATE, _OVERTAKEN)
        accepted, overruled = request.accept_unknown, request.overrule
        _must_be_gates({*accepted, *overruled}, checked.results)
        if in_the_way := refused(checked.results, accepted=accepted, overridden=overruled):
            text = "; ".join(
                _stands_in_the_way(result, accepted, overruled) for result in in_the_way
            )
            raise Problem(STATE, f"Gates stand in the way. {text}.")
        reasons = passed(checked.results, accepted=accepted, overridden=overruled)
        with _explained():
            state = await self._steps.begin(checked, who=who, why=request.why, overrides=reasons)
        self._kept.clear()
        return StandView.of(state)

    async def complete(self, *, who: str) -> bool:
        """Record that every process is on the target, if that is so; return whether it was."""
        with _explained():
            done = await self._steps.complete(await self._steps.look(), who=who)
        if done is not None:
            self._kept.clear()
        return done is not None

    async def cancel(self, *, who: str, why: str, epoch: int | None = None) -> StandView:
        """Remove the queued step.

        Raises:
            Problem: none is queued, or the state has changed since ``epoch``.
        """
        with _explained():
            seen = (await self._steps.look()).state
            if epoch not in {None, seen.epoch}:
                raise Problem(STATE, _OVERTAKEN)
            state = await self._steps.machine.cancel(seen.epoch, who=who, why=why)
        return StandView.of(state)

    async def _judge(
        self, direction: Direction, *, fresh: bool = False
    ) -> tuple[StepView, Checked | None]:
        begun = time.monotonic()
        async with self._turn:
            kept = self._kept.get(direction)
            if kept and (kept[0] > begun or (not fresh and kept[0] > begun - _KEPT_SECONDS)):
                return kept[1], kept[2]
            with _explained():
                state = (await self._steps.look()).state
                checked: Checked | None = None
                try:
                    step = self._steps.next_step(state, forward=direction == "forward")
                except NotAStep as error:
                    shown = _no_step(direction, state, str(error))
                else:
                    checked = await self._steps.check(step, window=_WINDOW_SECONDS)
                    shown = _step(direction, checked)
            self._kept[direction] = (time.monotonic(), shown, checked)
            return shown, checked

    async def _parity(self, pair: LogPair) -> ParityView | None:
        since = datetime.now(UTC) - _PARITY_BACK
        if pair.new is None:
            return None
        found = [
            (primary, shadow, totals)
            for primary, shadow in ((pair.old, pair.new), (pair.new, pair.old))
            if (totals := await parity_reports.totals(self._pool, primary, shadow, since))
        ]
        if not found:
            return None
        primary, shadow, totals = max(found, key=lambda comparison: comparison[2].until)
        return ParityView(
            primary=primary,
            shadow=shadow,
            since=totals.since,
            until=totals.until,
            counts=totals.counts,
            compared=sum(totals.counts.get(result.value, 0) for result in COMPARED),
            differing=sum(totals.counts.get(result.value, 0) for result in DIFFERENCES),
            lag=totals.lag,
            samples=[self._sample(sample) for sample in reversed(totals.samples[-_SAMPLES:])],
        )

    def _sample(self, sample: dict[str, Any]) -> SampleView:
        return SampleView(
            result=sample["result"],
            partition=sample["partition"],
            message_id=sample["messageId"],
            primary_offset=sample["primaryOffset"],
            shadow_offset=sample["shadowOffset"],
            correlation_id=sample["correlationId"],
            trace_url=trace_link(self._trace_url, sample.get("traceId")),
            detail=sample["detail"],
        )


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except MigrationError as error:
        raise Problem(STATE, f"{error}.") from error


def _must_be_gates(named: Collection[str], results: Sequence[GateResult]) -> None:
    gates = [result.name for result in results]
    if strange := sorted(set(named) - set(gates)):
        raise Problem(
            STATE, f"This step has no gate {strange[0][:32]!r}: its gates are {', '.join(gates)}."
        )


def _stands_in_the_way(
    result: GateResult, accepted: Collection[str], overruled: Collection[str]
) -> str:
    text = f"{result.name} is {result.verdict}: {result.reason}"
    if result.verdict == "red" and result.name in accepted and result.name not in overruled:
        return f"{text} (accepted as unknown only)"
    if result.name in accepted or result.name in overruled:
        return f"{text} (nobody can pass it)"
    return text


def _phases(pair: LogPair) -> list[PhaseView]:
    return [
        PhaseView(
            number=phase.number,
            name=phase.name,
            what=phase.what,
            why=phase.why,
            settings=phase.choice.environment(),
        )
        for phase in phases(pair)
    ]


def _no_step(direction: Direction, state: MigrationState, refusal: str) -> StepView:
    return StepView(
        direction=direction, origin=None, to=None, refusal=refusal, note=None, epoch=state.epoch,
        ready=False, gates=[], judged_at=now(),
    )  # fmt: skip


def _step(direction: Direction, checked: Checked) -> StepView:
    return StepView(
        direction=direction,
        origin=checked.step.origin,
        to=checked.step.to,
        refusal=None,
        note=checked.step.note or None,
        epoch=checked.look.state.epoch,
        ready=all(result.verdict == "green" for result in checked.results),
        gates=[
            GateView(
                name=result.name,
                verdict=result.verdict,
                reason=result.reason,
                evidence=result.evidence,
                overridable=result.name in OVERRIDABLE
                or (result.verdict == "unknown" and result.name in ACCEPTABLE),
            )
            for result in checked.results
        ],
        judged_at=now(),
    )


def _event(event: MigrationEvent) -> EventView:
    return EventView(
        at=event.at,
        kind=event.kind,
        from_phase=event.from_phase,
        to_phase=event.to_phase,
        who=event.who,
        why=event.why,
        red=[str(gate["name"]) for gate in event.gates or [] if gate.get("verdict") != "green"],
        passed={str(gate): str(why) for gate, why in (event.overrides or {}).items()},
    )

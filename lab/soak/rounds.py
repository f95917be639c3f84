"""The load in rounds: each round is judged, archived and forgotten while the next one runs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from lab.harness.anomaly import Anomaly, What
from lab.harness.checker import check
from lab.harness.final import gather
from lab.harness.history import ClientAttempt, Outcome, RequestKind
from lab.harness.load import LoadOptions, Mix, acknowledges
from lab.harness.load_process import LoadProcess
from lab.harness.waiting import StuckError
from lab.rehearsal.stage import Stage
from lab.rehearsal.timeline import RehearsalTimeline
from lab.soak.drained import drained
from lab.soak.options import SoakOptions
from lab.soak.posts import PostMeter, RoundHistory
from lab.soak.reading import read_patiently
from lab.soak.record import SoakRound
from transport.contract import Transport

__all__ = ["LoadInRounds", "RunningRound"]

_MIX = Mix(repeat=0.05, old=0.03, other_body=0.01, race=0.005, receipt=0.1)


class RunningRound:
    """A round from its first message until it is judged."""

    def __init__(self, number: int, begun: float, history: RoundHistory, plan: LoadOptions) -> None:
        self.number = number
        self.begun = begun
        self.began_at = datetime.now(UTC)
        self.ended = begun
        self.history = history
        self.conversations = sorted({conversation for conversation, _ in plan.writers()})
        self.plan = plan


class LoadInRounds:
    """Runs the load round by round, without a pause between two rounds.

    Args:
        stage: The processes and servers; its ingresses get the load.
        log: The log that the service uses.
        options: The options of the soak.
        timeline: The clock of the soak.
        meter: Gets every attempt.
    """

    def __init__(
        self,
        stage: Stage,
        log: Transport,
        options: SoakOptions,
        timeline: RehearsalTimeline,
        meter: PostMeter,
    ) -> None:
        self.acknowledged = 0
        self.answered = 0
        self.unanswered = 0
        self.running: RunningRound | None = None
        self._stage = stage
        self._log = log
        self._options = options
        self._timeline = timeline
        self._meter = meter
        self._load: LoadProcess | None = None
        self.begun = 0
        """Number of rounds that have begun."""

    @property
    def pid(self) -> int | None:
        """The id of the running load's process; ``None`` if none runs."""
        return self._load.pid if self._load is not None else None

    async def goes_on(self, messages: int, within: float) -> None:
        """Wait until this many more messages are acknowledged.

        Raises:
            StuckError: none was acknowledged for ``within`` seconds.
            LoadEndedError: a load's process has ended.
        """
        await acknowledges(self._count, messages, within)

    def _count(self) -> int:
        if self._load is not None:
            self._load.must_run()
        return self.acknowledged

    async def next(self) -> RunningRound | None:
        """Begin a round, then end the one before; return the ended round, or ``None``."""
        before, load = self.running, self._load
        self.begun += 1
        options = self._options
        writers = options.conversations + 3 * options.crowded
        plan = LoadOptions(
            run=f"s{self._timeline.started_at:%H%M%S}-{self.begun}",
            seed=options.seed + self.begun,
            conversations=options.conversations,
            crowded=options.crowded,
            pause=writers / options.rate,
            catch_up=True,
            patience=0.98,
            mix=_MIX,
            large=options.large,
        )
        history = RoundHistory(self._told)
        begun = RunningRound(self.begun, self._timeline.now, history, plan)
        # Set before the round's first message: rows from its begin on must not be archived yet.
        self.running = begun
        self._load = await LoadProcess(history, self._stage.ingresses, plan).__aenter__()
        if before is not None and load is not None:
            await load.__aexit__(None, None, None)
            before.ended = self._timeline.now
        return before

    async def end(self) -> RunningRound | None:
        """End the running round and return it; ``None`` if none runs."""
        last, load = self.running, self._load
        self.running = self._load = None
        if last is not None and load is not None:
            await load.__aexit__(None, None, None)
            last.ended = self._timeline.now
        return last

    def _told(self, attempt: ClientAttempt) -> None:
        self._meter.add(attempt)
        self.answered += attempt.answered
        self.unanswered += not attempt.answered
        self.acknowledged += attempt.outcome is Outcome.OK and attempt.due is not None

    async def judge(self, ended: RunningRound) -> SoakRound:
        """Wait until all records of a round are persisted; compare its history with the rows.

        Raises:
            StuckError: PostgreSQL could not be read for 300 seconds.
        """
        anomalies = list[Anomaly]()
        try:
            await drained(self._log)
        except StuckError as error:
            anomalies.append(Anomaly(What.STUCK, f"round {ended.number}", str(error)))
        final = await read_patiently(
            lambda: gather(
                self._stage.database_url,
                self._stage.reader_url,
                conversations=ended.conversations,
            ),
            "the rows could not be read",
        )
        anomalies += await asyncio.to_thread(check, ended.history, final)
        messages = {a.key for a in ended.history.acknowledged(RequestKind.MESSAGE)}
        judged = SoakRound(
            number=ended.number,
            begun=ended.begun,
            ended=ended.ended,
            judged=self._timeline.now,
            messages=len(messages),
            posts=len(ended.history.attempts),
            answered=sum(attempt.answered for attempt in ended.history.attempts),
            rows=len(final.rows),
            receipts=len(final.receipts),
        )
        judged.add(anomalies)
        return judged

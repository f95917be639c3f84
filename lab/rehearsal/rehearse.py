"""A whole rehearsal: start the servers, walk through the phases, drain, check, report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from compose.local.server import ServerError
from compose.process.signals import Interrupted, unless_set
from lab.harness.anomaly import Anomaly, What
from lab.harness.checker import check
from lab.harness.final import Final, gather
from lab.harness.history import ClientHistory
from lab.harness.load import LoadOptions, Mix
from lab.harness.load_process import LoadEndedError, LoadProcess
from lab.harness.reader import PageReader
from lab.harness.service import RehearsedService
from lab.harness.waiting import StuckError
from lab.rehearsal.deaths import DeathWatch
from lab.rehearsal.gates import GateRedError, Gates, RehearsalGate
from lab.rehearsal.history_file import write_history
from lab.rehearsal.log_checker import check_logs
from lab.rehearsal.logs import Log, read_log
from lab.rehearsal.options import Options
from lab.rehearsal.pace import chosen_rate, writers_for
from lab.rehearsal.parity_watch import ParityWatch
from lab.rehearsal.report import RehearsalReport, hear, make_report, take_replay
from lab.rehearsal.samples import Observer
from lab.rehearsal.second_judge import JudgeError, Opinion, SecondJudge
from lab.rehearsal.stage import Stage
from lab.rehearsal.timeline import RehearsalTimeline
from lab.rehearsal.walk import Walk
from lab.specification.guarded import Ending
from lab.specification.history_lines import HistoryError
from lab.specification.replay import Replayed, failed, replay
from lab.specification.tlc import CheckerError, CheckerMissingError
from persistence.fleet.log_choice import choices
from transport.errors import TransportError

__all__ = ["Rehearsal"]

_FOLLOWED = 4  # conversations of each kind whose pages are read
_LOOK_SECONDS = 0.25
_DRAINED_WITHIN = 300.0
_DRAINED_SOON = 30.0  # after an interruption, when a person waits for the end
_TRY_SECONDS = 2.0
_PATIENT_TRY_SECONDS = (
    15.0  # longer than the service's own limits, so that every try gets an answer
)
_MIX = Mix(repeat=0.05, old=0.03, other_body=0.01, race=0.01, receipt=0.1)


class Rehearsal:
    """One rehearsal, with the data and logs of its servers in ``folder``.

    Call ``run``, then ``replay`` with its report: the replay takes longest, and the report can be
    saved before it. ``timeline``, ``history`` and ``load`` can be read meanwhile.

    Args:
        folder: The folder for data and logs.
        options: The options of the rehearsal.
        say: Called with a line for people at every step.
        service: The class of the service's processes.
        stop: Interrupts the rehearsal when set; the history so far is checked.
    """

    def __init__(
        self,
        folder: Path,
        options: Options,
        say: Callable[[str], None],
        *,
        service: type[RehearsedService] = RehearsedService,
        stop: asyncio.Event | None = None,
    ) -> None:
        self.options = options
        self._stop = stop or asyncio.Event()
        self.timeline = RehearsalTimeline()
        self.history_file = folder / "history.jsonl"
        self.history = ClientHistory()
        self.stage = Stage(folder, options, self.timeline, service)
        self.observer = Observer(self.timeline, ParityWatch(self.stage.database_url))
        self.load: LoadProcess | None = None
        self._pages: PageReader | None = None
        self._say = say

    async def run(self) -> RehearsalReport:
        """Walk through the phases, check the outcome and return the report.

        All processes and servers have ended when this returns or raises.

        Raises:
            Interrupted: ``stop`` was set before the walk, so there is nothing to check.
        """
        self._say("starting the servers")
        async with AsyncExitStack() as stack:
            await unless_set(self._stop, stack.enter_async_context(self.stage.running()))
            await stack.enter_async_context(self.observer.observing())
            self.timeline.begin()
            settings = self.stage.transport_settings()
            await self.observer.watch(self.options.pair.old, settings)
            stopped = await self._walk()
            if stopped is not None:
                await self._raise_up()
            self.timeline.close()
            return await self._judge(stopped)

    async def replay(self, report: RehearsalReport) -> None:
        """Replay some conversations against the specification; add the outcome to the report."""
        if self._stop.is_set():
            take_replay(report, "the rehearsal was interrupted")
            return
        self._say("replaying against the specification")
        ending = Ending()
        work = asyncio.create_task(asyncio.to_thread(self._replayed, report, ending))
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            ending.begin()
        take_replay(report, await work)

    def gate(self) -> RehearsalGate:
        """Return the gates between two phases."""
        return Gates(
            self.stage.database_url,
            self.stage.transport_settings(),
            patience=self.options.gate_seconds,
            window=self.options.parity_seconds,
            pair=self.options.pair,
        )

    async def _raise_up(self) -> None:
        """Start the parts that are down at the end of the walk: the checks read from them."""
        for part in reversed(self.stage.parts):  # processes need the servers
            try:
                await part.raise_up(self.stage.phase_of(part))
            except ServerError as error:
                self._say(f"{part.name} does not start any more: {error}")

    async def _walk(self) -> str | None:
        """Walk through the phases; return why the walk ended early, or ``None``."""
        run = f"r{self.timeline.started_at:%H%M%S}"
        try:
            plan = await unless_set(self._stop, self._plan(run))
        except StuckError as error:
            self.timeline.enter(self.options.phases[0])
            return f"no rate could be chosen: {error}"
        walk = Walk(
            options=self.options,
            stage=self.stage,
            observer=self.observer,
            timeline=self.timeline,
            gate=self.gate(),
            say=self._say,
        )
        self.load = load = LoadProcess(self.history, self.stage.ingresses, plan)
        self._pages = PageReader(self.stage.ingresses, _followed(plan), rest=_LOOK_SECONDS)
        try:
            async with load, self._pages:
                return await self._walked(walk, load)
        except LoadEndedError as error:
            return f"{error}; rows of requests that it had under way count as phantoms"

    async def _walked(self, walk: Walk, load: LoadProcess) -> str | None:
        try:
            await unless_set(self._stop, walk.run(load))
        except Interrupted:
            return f"interrupted in phase {self.timeline.phase}"
        except (GateRedError, StuckError, ServerError) as error:
            # The load ends in order: requests under way belong to the history.
            return str(error)
        return None

    async def _plan(self, run: str) -> LoadOptions:
        """Return the options of the load; choose a rate if the options have none."""
        options = self.options
        proxy = self.stage.proxy.url if self.stage.proxy else None
        rate, conversations = options.rate, options.conversations
        if rate is None:
            self._say("trying out how much this machine sustains")
            rate = await chosen_rate(self.history, self.stage.ingresses, run, _MIX, proxy=proxy)
            self._say(f"{rate:g} messages a second are half of it (--rate takes another)")
        if conversations is None:
            conversations = writers_for(rate)
        self.options = msgspec.structs.replace(options, rate=rate, conversations=conversations)
        return LoadOptions(
            run=run,
            seed=options.seed,
            conversations=conversations,
            crowded=options.crowded,
            pause=(conversations + 3 * options.crowded) / rate,
            catch_up=True,
            patience=0.95,
            timeout=_TRY_SECONDS if options.faults else _PATIENT_TRY_SECONDS,
            proxy=proxy,
            mix=_MIX,
            large=options.large,
        )

    async def _judge(self, stopped: str | None) -> RehearsalReport:
        self._say("waiting until everything is acknowledged")
        anomalies = await self._drained()
        self._say("reading both logs and the rows")
        await self.observer.look()
        final = await gather(self.stage.database_url, self.stage.reader_url)
        final.pages = await self._read_pages(anomalies)
        anomalies += DeathWatch(self.stage.parts).look()
        logs: dict[str, Log] = {}
        for name, log in self.observer.logs.items():
            try:
                logs[name] = await read_log(log)
            except TransportError as error:
                anomalies.append(Anomaly(What.STUCK, name, f"can't be read: {error}"))
        self._say("checking")
        # In threads, so that a second signal is handled meanwhile.
        anomalies += await asyncio.to_thread(check, self.history, final)
        if len(logs) != len(self.observer.logs):
            logs = {}  # an unreadable log is one anomaly; checking the other alone would add many
        else:
            anomalies += await asyncio.to_thread(
                check_logs, self.history, logs, final.rows, self.options.pair
            )
        opinion = await asyncio.to_thread(self._second_opinion, final, logs)
        report = make_report(
            options=self.options,
            timeline=self.timeline,
            history=self.history,
            final=final,
            logs=logs,
            lags=self.observer.samples,
            anomalies=anomalies,
            stopped=stopped,
        )
        hear(report, anomalies, opinion)
        return report

    async def _read_pages(self, anomalies: list[Anomaly]) -> Mapping[str, Sequence[str]]:
        """Return what a reader of pages saw; nothing where rows are still to come."""
        if self._pages is None or anomalies:
            return {}
        try:
            return await self._pages.catch_up()
        except ConnectionError as error:
            anomalies.append(Anomaly(What.STUCK, "pages", str(error)))
            return {}

    def _second_opinion(self, final: Final, logs: Mapping[str, Log]) -> Opinion | str:
        """Write the history's file and run the second checker; return why if it can't run."""
        try:
            write_history(
                self.history_file, self.history, final, logs, self.options.pair, self.timeline
            )
            return SecondJudge(self.history_file.parent).judge(self.history_file)[0]
        except (JudgeError, OSError) as error:
            return str(error)

    def _replayed(self, report: RehearsalReport, ending: Ending) -> Replayed | str:
        """Replay some conversations; return the reason if that can't be done."""
        if not report.totals.records:
            return "a log could not be read"
        if not self.options.replayed_conversations or not self.options.replay_seconds:
            return "none was asked for"
        try:
            return replay(
                self.history_file,
                conversations=self.options.replayed_conversations,
                most=self.options.replayed_messages,
                seconds=self.options.replay_seconds,
                ending=ending,
            )
        except (CheckerMissingError, HistoryError) as error:
            return str(error)
        except CheckerError as error:
            return failed(str(error))

    async def _drained(self) -> list[Anomaly]:
        consumed = choices(self.options.pair)[self.timeline.phase].consume_from
        within = _DRAINED_SOON if self._stop.is_set() else _DRAINED_WITHIN
        try:
            await self.observer.drained(consumed, within)
        except StuckError as error:
            return [Anomaly(What.STUCK, consumed, str(error))]
        return []


def _followed(plan: LoadOptions) -> list[str]:
    """Return some conversations with one writer, and some with several."""
    names = list(dict.fromkeys(conversation for conversation, _ in plan.writers()))
    return [*names[:_FOLLOWED], *names[plan.conversations :][:_FOLLOWED]]

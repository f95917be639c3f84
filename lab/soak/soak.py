"""Runs a soak: load in rounds, faults, samples and checks, all written to the record."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from compose.local.server import ServerError
from compose.process.logs.reconnecting import ReconnectingTransport
from lab.harness.anomaly import Anomaly
from lab.harness.load_process import LoadEndedError
from lab.harness.service import RehearsedService
from lab.harness.waiting import StuckError
from lab.rehearsal.deaths import DeathWatch
from lab.rehearsal.faults import Faults
from lab.rehearsal.options import Options
from lab.rehearsal.stage import Stage
from lab.rehearsal.timeline import RehearsalTimeline
from lab.soak.broker_settings import SMALL
from lab.soak.options import SoakOptions
from lab.soak.posts import PostMeter
from lab.soak.record import SoakBegan, SoakEnded, SoakFault, SoakRecorder, SoakRound, SoakSample
from lab.soak.rounds import LoadInRounds, RunningRound
from lab.soak.row_retention import RowRetention
from lab.soak.samples import Looker
from lab.soak.targets import spared, victims, ways
from persistence.fleet.log_choice import LogPair
from transport.registry import create

__all__ = ["Soak"]

# Old data must expire within minutes, so that sizes can stay flat during a soak.
_SETTINGS = {
    "STREAM_RETENTION_SECONDS": "60",
    "STREAM_RETENTION_RECORDS": "2000",
    "IDEMPOTENCY_TTL_SECONDS": "60",
    "KAFKA_RETENTION_MS": "300000",
    "KAFKA_TIMEOUT_MS": "1500",
}


class Soak:
    """One soak, with the data and logs of its servers in ``folder``.

    Args:
        folder: The folder for data and logs.
        options: The options of the soak.
        recorder: Writes the record.
        say: Called with a line for people at every step.
        service: The class of the service's processes.
    """

    def __init__(
        self,
        folder: Path,
        options: SoakOptions,
        recorder: SoakRecorder,
        say: Callable[[str], None],
        *,
        service: type[RehearsedService] = RehearsedService,
    ) -> None:
        self.options = options
        self.timeline = RehearsalTimeline()
        self.faults = 0
        self.judged = 0
        self.broken = 0
        """Number of violations found so far."""
        self._rows = 0  # judged rows
        self._recorder = recorder
        self._say = say
        self._pair = LogPair(options.log, None)
        stage = Options(
            pair=self._pair,
            ingresses=options.ingresses,
            workers=options.workers,
            large=options.large,
            rate=options.rate,
            faults=True,
        )
        self.stage = Stage(
            folder, stage, self.timeline, service, settings=_SETTINGS, configuration=SMALL
        )
        self.load: LoadInRounds | None = None
        self._meter = PostMeter()
        self._deaths = DeathWatch(self.stage.parts)
        self._anomalies: list[Anomaly] = []

    async def run(self) -> None:
        """Run the soak; all processes and servers have ended when this returns or raises."""
        self._say("starting the servers")
        async with self.stage.running():
            self.timeline.begin()
            self.timeline.enter(0).rolled = 0.0
            self._recorder.add(
                SoakBegan(
                    started_at=self.timeline.started_at.isoformat(timespec="seconds"),
                    options=self.options,
                    spared=spared(self.stage.parts),
                )
            )
            why: str | None = "an error ended it"
            try:
                why = await self._loaded()
            except asyncio.CancelledError:
                why = "interrupted"
                raise
            finally:
                self._write_faults(all_of=True)
                begun = self.load.begun if self.load is not None else 0
                self._recorder.add(SoakEnded(at=self.timeline.now, why=why, rounds=begun))

    async def _loaded(self) -> str | None:
        """Run load, faults and samples; return why the soak ended early, or ``None``."""
        settings = self.stage.transport_settings()
        log = ReconnectingTransport(create(self.options.log, settings))
        async with log, RowRetention.of(self.stage, self.options.seed) as retention:
            await log.connect()
            load = LoadInRounds(self.stage, log, self.options, self.timeline, self._meter)
            self.load = load
            looker = Looker(self.stage, log, self._meter, lambda: load.pid)
            try:
                async with _beside(self._sampled(looker), self._hurt(load)):
                    await self._rounds(load, retention)
            except (LoadEndedError, StuckError, ServerError) as error:
                return str(error)
            finally:
                await load.end()
        return None

    async def _rounds(self, load: LoadInRounds, retention: RowRetention) -> None:
        """Run round after round, and judge each while the next one runs."""
        ends = self.options.seconds
        judging: asyncio.Task[None] | None = None
        try:
            while self.timeline.now < ends:
                if judging is not None:
                    await judging
                ended = await load.next()
                self._say(f"round {load.running.number}" if load.running else "")
                if ended is not None:
                    judging = asyncio.create_task(self._judge(load, retention, ended))
                left = ends - self.timeline.now
                # No short round at the end: a remainder extends the last round.
                span = self.options.round_seconds
                await self._resting(left if left < 1.5 * span else span, judging)
            if judging is not None:
                await judging
        except BaseException:
            if judging is not None:
                judging.cancel()
                await asyncio.gather(judging, return_exceptions=True)
            raise
        self._say("waiting until everything is persisted")
        if last := await load.end():
            await self._judge(load, retention, last)

    async def _resting(self, seconds: float, judging: asyncio.Task[None] | None) -> None:
        """Wait ``seconds``; raise an error of ``judging`` at once."""
        until = time.monotonic() + max(0.0, seconds)
        if judging is not None:
            await asyncio.wait({judging}, timeout=max(0.0, seconds))
            if judging.done():
                judging.result()
        await asyncio.sleep(max(0.0, until - time.monotonic()))

    async def _judge(
        self, load: LoadInRounds, retention: RowRetention, ended: RunningRound
    ) -> None:
        line = await load.judge(ended)
        retention.remember(ended)
        # Archive only rows from before the running round, whose rows are not judged yet.
        before = load.running.began_at if load.running is not None else datetime.now(UTC)
        line.archived, found = await retention.archive(before)
        self._rows += line.rows
        if load.running is None:  # this was the last round
            found += await retention.vanished(self._rows)
        self._anomalies += self._deaths.look()
        line.add([*found, *self._anomalies])
        self._anomalies.clear()
        self._write(line)

    def _write(self, line: SoakRound) -> None:
        self.judged += 1
        self.broken += sum(line.verdict.values())
        self._recorder.add(line)
        self._write_faults()
        self._forget()

    def _write_faults(self, *, all_of: bool = False) -> None:
        """Write the faults that are over to the record, and drop them from the timeline."""
        marks = self.timeline.faults
        over = len(marks) if all_of else sum(mark.went_on is not None for mark in marks)
        for mark in marks[:over]:
            self._recorder.add(
                SoakFault(
                    victim=mark.victim,
                    way=mark.way,
                    begun=mark.begun,
                    healed=mark.healed,
                    went_on=mark.went_on,
                )
            )
        del marks[:over]
        self.faults += over

    def _forget(self) -> None:
        """Drop all but the present state of each process and server from the timeline."""
        for spans in self.timeline.tracks.values():
            del spans[:-1]

    async def _sampled(self, looker: Looker) -> None:
        while True:
            began = self.timeline.now
            values = await looker.look()
            self._recorder.add(SoakSample(at=began, values=values))
            self._anomalies += self._deaths.look()
            await asyncio.sleep(max(0.1, self.options.sample_seconds - self.timeline.now + began))

    async def _hurt(self, load: LoadInRounds) -> None:
        mean = self.options.fault_seconds
        if not mean:
            return
        faults = Faults(
            self.stage,
            self.timeline,
            random.Random(self.options.seed + 1),
            self._pair,
            rest=(mean / 2, mean * 3 / 2),
            victims=partial(victims, self.stage.parts),
            ways=partial(ways, self.stage.parts),
        )
        await load.goes_on(1, within=180.0)
        await faults.run(load, most=None, until=lambda: False)


@asynccontextmanager
async def _beside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run endless coroutines until the block ends; an error of one of them ends the block."""
    block = asyncio.current_task()
    assert block is not None
    failed: list[BaseException] = []

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            failed.append(error)
            block.cancel()

    tasks = [asyncio.create_task(work) for work in works]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    except asyncio.CancelledError:
        if not failed:
            raise
        block.uncancel()
        raise failed[0] from None
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)

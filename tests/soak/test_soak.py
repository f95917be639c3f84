"""The real thing, short: rounds that are judged and archived, samples of everything, faults."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import asyncpg
import msgspec
import pytest

from lab.soak.measures import MEASURES
from lab.soak.options import SoakOptions
from lab.soak.reading import AWAY
from lab.soak.record import SoakRecord, SoakRecorder, SoakSample, read_record
from lab.soak.report import make_report
from lab.soak.soak import Soak
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService
from tests.support.kafka import require_kafka

SHORT = SoakOptions(
    minutes=0.25,
    rate=40.0,
    conversations=8,
    crowded=2,
    ingresses=2,
    workers=0,
    fault_seconds=2.0,
    round_seconds=3.0,
    sample_seconds=0.5,
    judged_seconds=5.0,
    large=0.05,
    seed=4,
)


async def soaked(folder: Path, options: SoakOptions) -> SoakRecord:
    with SoakRecorder(folder / "soak.jsonl") as recorder:
        soak = Soak(folder / "data", options, recorder, lambda _: None, service=ForkedService)
        await soak.run()
    return read_record(folder / "soak.jsonl")


def kinds(samples: list[SoakSample]) -> set[str]:
    return {name.partition("/")[0] for sample in samples for name in sample.values}


@pytest.mark.timeout(300)
async def test_rounds_are_judged_archived_and_forgotten(tmp_path: Path) -> None:
    record = await soaked(tmp_path, SHORT)
    report = make_report(record)
    assert report.sound, f"{report.sentence} {report.findings[:5]}"
    assert report.why is None
    assert [round_.number for round_ in record.rounds] == list(range(1, len(record.rounds) + 1))
    # How many there are, and of how many messages, is up to the machine.
    assert len(record.rounds) >= 2
    assert all(round_.rows >= round_.messages > 0 for round_ in record.rounds)
    assert report.archived > 0, "old rows stay"
    # Redis tells the bytes of its log; nothing was large enough to be a table that is looked at.
    assert kinds(record.samples) >= set(MEASURES) - {"table", "index", "kept"}
    assert report.flatness, "it was long enough to be judged, by its own option"
    assert report.judged >= SHORT.judged_seconds
    assert report.faults
    assert not {"kill", "restart"} & set(report.faults.get("ingress-1", {})), "it was spared"


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("log", ["redis", "kafka"])
async def test_three_minutes_on_each_log(tmp_path: Path, log: str) -> None:
    if log == "kafka":
        await require_kafka()
    options = SoakOptions(
        minutes=3, log=log, rate=60, fault_seconds=6, round_seconds=20, sample_seconds=1,
        judged_seconds=60, large=0.1, seed=5,
    )  # fmt: skip
    report = make_report(await soaked(tmp_path, options))
    assert report.sound, f"{report.sentence} {report.findings[:5]}"
    assert report.flatness
    assert report.judged >= options.judged_seconds


@pytest.mark.chaos
async def test_a_row_that_is_deleted_is_a_lost_message(tmp_path: Path) -> None:
    with SoakRecorder(tmp_path / "soak.jsonl") as recorder:
        options = msgspec.structs.replace(SHORT, minutes=0.5)
        soak = Soak(tmp_path / "data", options, recorder, lambda _: None, service=ForkedService)
        running = asyncio.create_task(soak.run())
        await eventually(lambda: soak.load is not None and soak.load.acknowledged > 20)
        deleted = await eventually(lambda: _deleted(soak.stage.database_url))
        await running
    lost = {finding.where for finding in make_report(read_record(tmp_path / "soak.jsonl")).findings}
    assert deleted["idempotency_key"] in lost
    # If it had a receipt, that is gone with it.
    assert lost <= {deleted["idempotency_key"], f"{deleted['id']}/delivered/reader"}


async def _deleted(url: str) -> asyncpg.Record | None:
    """Delete a row that is in no file and never will be; ``None`` while PostgreSQL is hurt."""
    try:
        return await _delete(url)
    except AWAY:
        return None


async def _delete(url: str) -> asyncpg.Record | None:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchrow(
            "DELETE FROM messages WHERE id = (SELECT id FROM messages ORDER BY seq DESC LIMIT 1)"
            " RETURNING id, idempotency_key"
        )
    finally:
        await connection.close()


@pytest.mark.chaos
async def test_one_that_is_interrupted_has_its_report(tmp_path: Path) -> None:
    crossfade = await Crossfade.start(
        "soak", "--minutes", "30", "--round-minutes", "0.05", "--rate", "30", "--report", "report",
        cwd=tmp_path,
    )  # fmt: skip
    await crossfade.says("round 3")
    assert await crossfade.interrupt() == 130
    report = make_report(read_record(tmp_path / "report" / "soak.jsonl"))
    assert report.why == "interrupted"
    assert report.rounds >= 1
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.chaos
async def test_one_whose_load_is_killed_says_so(tmp_path: Path) -> None:
    with SoakRecorder(tmp_path / "soak.jsonl") as recorder:
        soak = Soak(tmp_path / "data", SHORT, recorder, lambda _: None, service=ForkedService)
        running = asyncio.create_task(soak.run())
        await eventually(lambda: soak.load is not None and soak.load.acknowledged > 20)
        assert soak.load is not None
        assert soak.load.pid is not None
        os.kill(soak.load.pid, signal.SIGKILL)
        await running
    report = make_report(read_record(tmp_path / "soak.jsonl"))
    assert report.why == "the load's process was ended by SIGKILL"
    assert report.passed is False


@pytest.mark.chaos
async def test_an_error_of_its_own_is_no_interruption(tmp_path: Path) -> None:
    def say(text: str) -> None:
        if text == "round 1":
            raise ValueError(text)

    with (
        SoakRecorder(tmp_path / "soak.jsonl") as recorder,
        pytest.raises(ValueError, match="round 1"),
    ):
        await Soak(tmp_path / "data", SHORT, recorder, say, service=ForkedService).run()
    assert make_report(read_record(tmp_path / "soak.jsonl")).why == "an error ended it"

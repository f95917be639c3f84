"""Parity: the two logs hold the same, as far as they could be compared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from migration_guide.gates import parity as parity_gate
from migration_guide.parity import order
from migration_guide.parity.check import ParityCheck, PartitionReport
from migration_guide.parity.group import GroupComparison
from migration_guide.parity.result import ParityCounts
from migration_guide.parity.result import ParityResult as Found
from persistence.timestamps import rfc3339
from tests.migration.gate_inputs import ask
from tests.persistence.samples import message
from tests.support.mirrors import append, copy_of, mirror, seal
from transport.features.forwarding import Forwarding


async def test_parity(scene, both, logs, eventually):
    """Unknown for nothing, green for copies, red for one that is missing."""
    soon = both.model_copy(update={"transport_shadow_settle_ms": 300})
    before = rfc3339(datetime.now(UTC) - timedelta(minutes=10))
    nothing = await ask(await scene(2, 3, reached_at=before, settings=soon), "parity")
    assert (nothing.verdict, "100 % of nothing" in nothing.reason) == ("unknown", True)

    async def judged(verdict: str, count: str) -> int | None:
        result = await ask(await scene(2, 3, reached_at=before, settings=soon), "parity")
        return result.verdict == verdict and result.evidence["counts"].get(count)

    sent = [message(f"m{i}", f"c{i}") for i in range(6)]
    await mirror(logs["redis"], logs["kafka"], *sent)
    assert await eventually(lambda: judged("green", "matched")) == 6
    lost = message("lost")
    await mirror(logs["redis"], logs["kafka"], lost, message("kept"), dropped=(lost,))
    assert await eventually(lambda: judged("red", "missing_in_shadow")) == 1


@pytest.mark.parametrize(("mode", "verdict"), [("sync", "green"), ("async", "red")])
async def test_parity_knows_that_every_process_mirrored_since_the_phase_was_reached(
    scene, both, logs, monkeypatch, eventually, mode, verdict
):
    """So what a long outage of the shadow exchanged had overlapped; async copies still show it."""
    soon = both.model_copy(update={"transport_shadow_settle_ms": 300})
    monkeypatch.setattr(order, "SAME_REQUEST", 0.0)  # any outage is a long one
    before = rfc3339(datetime.now(UTC) - timedelta(minutes=10))
    sent = [message("first", "c"), message("second", "c")]
    offsets = await append(logs["redis"], *sent)
    copies = [copy_of(seal(m), "redis", at, mode) for m, at in zip(sent, offsets, strict=True)]
    await append(logs["kafka"], *reversed(copies))

    async def judged() -> dict | None:
        result = await ask(await scene(2, 3, reached_at=before, settings=soon), "parity")
        ready = result.evidence["counts"].get("matched") == 2
        return ready and (result.verdict, result.evidence["counts"])

    found, counted = await eventually(judged)
    assert found == verdict, counted


async def test_parity_says_how_much_it_compared_in_its_time(
    scene, both, logs, monkeypatch, eventually
):
    """And a difference that it found until then makes it red."""
    before = rfc3339(datetime.now(UTC) - timedelta(minutes=10))
    soon = both.model_copy(update={"transport_shadow_settle_ms": 1})
    sent = [message(f"m{i}", f"c{i}") for i in range(60)]
    await mirror(logs["redis"], logs["kafka"], *sent)
    asked = await scene(2, 3, reached_at=before, settings=soon)
    every, slow = {seal(event).partition for event in sent}, seal(sent[0]).partition
    monkeypatch.setattr(parity_gate, "_WITHIN_SECONDS", 0.0)
    result = await parity_gate.gate(asked)
    assert (result.verdict, result.evidence["unfinished"]) == ("unknown", sorted(every))
    monkeypatch.undo()
    drain = GroupComparison.drain

    async def in_time(self, **options):
        if any(cell.primary == slow for cell in self.comparisons):
            raise TimeoutError  # as the limit does
        return await drain(self, **options)

    monkeypatch.setattr(GroupComparison, "drain", in_time)
    result = await parity_gate.gate(asked)
    assert (result.verdict, result.evidence["unfinished"]) == ("unknown", [slow])
    there = sum(seal(event).partition != slow for event in sent)
    assert f"{there} messages were compared in 45 s and are alike" in result.reason
    other = next(event for event in sent if seal(event).partition != slow)
    await append(logs["redis"], message("never copied", other.conversation_id))

    async def is_red() -> bool:  # once the message is older than a copy may take
        return (await parity_gate.gate(asked)).verdict == "red"

    await eventually(is_red)


@pytest.mark.parametrize("which", ["redis", "kafka"])
async def test_parity_of_a_log_whose_clock_is_ahead_is_unknown(scene, both, logs, which):
    """What lies in the window by its times may be of an hour ago: green would prove nothing."""
    before = rfc3339(datetime.now(UTC) - timedelta(minutes=10))
    soon = both.model_copy(update={"transport_shadow_settle_ms": 300})
    await mirror(logs["redis"], logs["kafka"], *[message(f"m{i}", f"c{i}") for i in range(3)])
    asked = await scene(2, 3, reached_at=before, settings=soon)

    class Ahead(Forwarding):
        async def read(self, *args, **options):
            records = await super().read(*args, **options)
            return [msgspec.structs.replace(r, appended_at=r.appended_at + 3600) for r in records]

        async def offset_before_time(self, topic, partition, time):
            return await super().offset_before_time(topic, partition, time - 3600)

    asked.logs[which] = Ahead(logs[which])
    result = await parity_gate.gate(asked)
    assert (result.verdict, f"{which} are 3600 s in the future" in result.reason) == (
        "unknown",
        True,
    ), result


async def test_parity_of_a_phase_that_was_reached_just_now_is_unknown(scene):
    result = await ask(await scene(2, 3, reached_at=rfc3339(datetime.now(UTC))), "parity")
    assert (result.verdict, "a moment ago" in result.reason) == ("unknown", True)


async def test_parity_of_the_tenth_that_could_be_compared_is_unknown(scene, logs, monkeypatch):
    class Mostly:
        """A comparison that could compare one of ten."""

        async def __call__(self, *_args, **_options):
            return ParityCheck("redis", "kafka", None, "", [PartitionReport(0, totals, 0, 0)], [])

    totals = ParityCounts()
    totals.add(Found.MATCHED, 1)
    totals.add(Found.TRIMMED, 9)
    monkeypatch.setattr(parity_gate, "check", Mostly())
    before = rfc3339(datetime.now(UTC) - timedelta(minutes=10))
    result = await ask(await scene(2, 3, reached_at=before), "parity")
    assert (result.verdict, "only 10%" in result.reason) == ("unknown", True)

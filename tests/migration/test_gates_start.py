"""The start of a new reader: no later than the first message without a row."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from migration_guide.gates import start as start_gate
from tests.migration.gate_inputs import ask, persist
from tests.persistence.samples import message
from tests.support.mirrors import append, copy_of, mirror, seal
from tests.support.positions import settle
from transport.kafka import KafkaTransport


async def test_start_is_green_when_what_is_unpersisted_is_ahead(scene, logs, database_pool):
    """Rows or not: what is a row needs nothing, and the rest is where the new reader will come."""
    sent = [message(f"m{i}", f"c{i % 5}") for i in range(40)]
    await mirror(logs["redis"], logs["kafka"], *sent)
    await persist(database_pool, *sent[:15])
    result = await ask(await scene(2, 3), "start")
    assert result.verdict == "green"
    assert sum(part["unpersisted"] for part in result.evidence.values()) == 25


async def test_start_is_red_for_a_message_that_the_new_log_lacks(scene, logs, monkeypatch):
    monkeypatch.setattr(start_gate, "_AGAIN_SECONDS", (0.05,))
    lost = message("lost")
    await mirror(logs["redis"], logs["kafka"], message("a"), lost, message("b"), dropped=(lost,))
    result = await ask(await scene(2, 3), "start")
    assert (result.verdict, lost.message_id in result.reason) == ("red", True)


@pytest.mark.parametrize("count", [8, 6, 2])
@pytest.mark.parametrize("step", [(2, 3), (3, 2)], ids=["onward", "back"])
async def test_start_looks_in_each_messages_home_where_the_counts_differ(
    scene, logs, both, monkeypatch, count, step
):
    """From originals to their copies, and from copies to the originals that they name."""
    monkeypatch.setattr(start_gate, "_AGAIN_SECONDS", (0.05,))
    settings = both.model_copy(
        update={"stream_partitions": count, "kafka_topic": f"{both.kafka_topic}.{count}"}
    )
    sent = [message(f"m{i}", f"c{i}") for i in range(40)]
    async with KafkaTransport(settings) as kafka:
        opened = {"redis": logs["redis"], "kafka": kafka}
        await mirror(opened["redis"], kafka, *sent)
        asked = await scene(*step, opened=opened)
        result = await ask(asked, "start")
        assert result.verdict == "green"
        assert sum(part["unpersisted"] for part in result.evidence.values()) == 40
        assert (await ask(asked, "homes")).verdict == "green"
        alone = message("alone", "c7")
        await append(opened[("redis", "kafka")[step[0] == 3]], alone)
        result = await ask(asked, "start")
        assert (result.verdict, alone.message_id in result.reason) == ("red", True)


async def test_start_is_red_when_the_new_reader_has_passed_it(
    scene, logs, monkeypatch, database_pool
):
    """The position in the log that is to be read passed a message that is no row."""
    monkeypatch.setattr(start_gate, "_AGAIN_SECONDS", (0.05,))
    passed = message("passed")
    await mirror(logs["redis"], logs["kafka"], passed)
    await settle(database_pool, logs["kafka"])
    result = await ask(await scene(2, 3), "start")
    assert (result.verdict, passed.message_id in result.reason) == ("red", True)
    # And the way back likewise.
    back = await ask(await scene(3, 2), "start")
    assert back.verdict == "green", "kafka has nothing unread, so redis may be read"


async def test_start_leaves_a_loss_of_long_ago_to_the_operator(scene, logs, both, database_pool):
    """Its count stays for ever: red, and there would be no way back to that log."""
    kept, gone = message("kept"), message("gone")
    await mirror(logs["redis"], logs["kafka"], kept)
    await persist(database_pool, kept)
    await settle(database_pool, logs["redis"])
    assert (await ask(await scene(3, 2), "start")).verdict == "green"
    (offset,) = await append(logs["redis"], gone)
    async with Redis(host=both.redis_host, port=both.redis_port, db=both.redis_stream_db) as client:
        assert await client.xdel(f"msg:stream:{seal(gone).partition}", offset) == 1
    result = await ask(await scene(3, 2), "start")
    assert (result.verdict, "redis once lost 1 records" in result.reason) == ("unknown", True)
    result = await ask(await scene(2, 3), "start")
    assert result.verdict == "unknown", "nor is a log trusted that is to be read no longer"
    await mirror(logs["redis"], logs["kafka"], gone, dropped=())
    await settle(database_pool, logs["redis"])
    result = await ask(await scene(3, 2), "start")
    assert result.verdict == "red", "what nobody persisted counts for more than what was lost once"


async def test_start_waits_for_a_copy_that_is_on_its_way(scene, logs, monkeypatch):
    late = message("late")
    (offset,) = await append(logs["redis"], late)
    asked = await scene(2, 3)
    pauses = []

    class Arriving:
        async def sleep(self, seconds: float) -> None:
            pauses.append(seconds)
            await append(logs["kafka"], copy_of(seal(late), "redis", offset))

    monkeypatch.setattr(start_gate, "asyncio", Arriving())
    assert (await ask(asked, "start")).verdict == "green"
    assert len(pauses) == 1


async def test_start_refuses_more_than_it_can_look_at(scene, logs, monkeypatch):
    monkeypatch.setattr(start_gate, "MOST", 10)
    await mirror(logs["redis"], logs["kafka"], *(message(f"m{i}") for i in range(11)))
    result = await ask(await scene(2, 3), "start")
    assert (result.verdict, "catch up first" in result.reason) == ("red", True)


async def test_start_proves_nothing_behind_a_transaction_that_is_open(
    scene, logs, both, eventually
):
    """Messages accepted meanwhile are in the log, not readable yet, and no rows."""
    accepted = message("accepted")
    await mirror(logs["redis"], logs["kafka"], message("first"))
    producer = AIOKafkaProducer(
        bootstrap_servers=both.kafka_bootstrap_servers, transactional_id=both.kafka_topic
    )
    async with producer:
        await producer.begin_transaction()
        partition = seal(accepted).partition
        await producer.send_and_wait(both.kafka_topic, b"{}", partition=partition)
        await append(logs["kafka"], accepted)
        result = await ask(await scene(3, 2), "start")
        assert (result.verdict, "transaction" in result.reason) == ("unknown", True)
        await producer.abort_transaction()

    async def red() -> bool:
        return (await ask(await scene(3, 2), "start")).verdict == "red"  # redis has it not

    # Kafka answers an abort before its marker is written; until then the transaction is open.
    await eventually(red)

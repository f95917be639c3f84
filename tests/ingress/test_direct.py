"""Direct mode and the canary: persisted before the answer, and still in order (promise 3)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
import structlog

from ingress.accept.backlog import Backlog
from ingress.accept.canary import bucket, queued
from persistence.database.pool import connect
from persistence.migrate import upgrade
from persistence.settings import PersistenceSettings
from tests.ingress.conftest import Service, message, working
from tests.support.eventually import eventually
from transport.errors import TransportUnavailable
from transport.message.identity import partition_of
from transport.message.partitioner import partition_for

DIRECT = next(f"conv_{n}" for n in range(1000) if bucket(f"conv_{n}") >= 10)
# A disk that takes seconds for an fsync is a 503, which is right and not what is tested here.
PATIENT = {"ingress_max_wait_ms": 60_000, "ingress_direct_timeout_ms": 60_000}
QUEUED = next(f"conv_{n}" for n in range(1000) if bucket(f"conv_{n}") < 10)


def test_the_canary_is_stable_even_and_only_grows() -> None:
    names = [f"conversation-{n}" for n in range(20_000)]
    assert bucket("conversation-1") == 26
    for percent in (0, 1, 10, 50, 99, 100):
        share = sum(queued(name, percent) for name in names) / len(names) * 100
        assert abs(share - percent) < 1
    for name in names[:1000]:
        assert [queued(name, p) for p in range(101)] == sorted(queued(name, p) for p in range(101))
    # A slice of every partition, not some partitions whole.
    chosen = [partition_for(name, 16) for name in names if queued(name, 10)]
    counts = [chosen.count(partition) for partition in range(16)]
    assert min(counts) > 0.5 * max(counts)


async def test_direct_mode_persists_before_the_answer(start) -> None:
    service = await start(ingress_mode="direct")
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answer = await service.post(message(), traceparent=parent, X_Correlation_ID="c")
    assert answer.status_code == 202
    ack = answer.json()
    assert (ack["state"], ack["idempotentHit"], ack["correlationId"]) == ("persisted", False, "c")
    (row,) = await service.rows()
    assert str(row["id"]) == ack["messageId"]
    assert (row["transport"], row["trace_id"]) == ("direct", parent[3:35])
    assert row["partition"] == partition_of(ack["messageId"], 16)
    assert await service.records() == 0
    repeat = await service.post(message())
    assert (repeat.status_code, repeat.json()) == (200, ack | {"idempotentHit": True})
    conflict = await service.post(message(content="other"))
    assert (conflict.status_code, conflict.json()["type"]) == (
        422, "/problems/idempotency-conflict",
    )  # fmt: skip
    view = (await service.client.get(f"/api/messages/{ack['messageId']}")).json()
    assert (view["state"], view["positions"]) == ("persisted", [])


async def test_repeats_that_race_in_direct_mode_are_one_row(start) -> None:
    """Also between two processes, where no memory is shared."""
    one, other = await start(ingress_mode="direct"), await start(ingress_mode="direct")
    same = [service.post(message(n)) for n in range(20) for service in (one, other)]
    answers = [answer.json() for answer in await asyncio.gather(*same)]
    assert len(await one.rows()) == 20
    for first, second in zip(answers[::2], answers[1::2], strict=True):
        assert first["acceptedAt"] == second["acceptedAt"]
        assert [first["idempotentHit"], second["idempotentHit"]].count(False) == 1


async def test_bodies_that_race_in_direct_mode_keep_the_first(start) -> None:
    one, other = await start(ingress_mode="direct"), await start(ingress_mode="direct")
    answers = await asyncio.gather(
        *(one.post(message(n)) for n in range(20)),
        *(other.post(message(n, content="other")) for n in range(20)),
    )
    statuses = [{answers[n].status_code, answers[n + 20].status_code} for n in range(20)]
    assert statuses == [{202, 422}] * 20
    for row in await one.rows():
        number = int(row["client_message_id"][-3:])
        kept = answers[number if row["content"] != "other" else number + 20]
        assert kept.status_code == 202


async def test_a_batch_is_persisted_directly_in_order(start) -> None:
    service = await start(ingress_mode="direct")
    bodies = [message(n, conversationId=f"conv_{n % 3}") for n in range(60)]
    answer = await service.client.post("/api/messages:batch", json=bodies)
    assert {result["state"] for result in answer.json()} == {"persisted"}
    assert [row["content"] for row in await service.rows()] == [body["content"] for body in bodies]


async def test_a_message_that_postgresql_refuses_sinks_no_other(start) -> None:
    service = await start(ingress_mode="direct")
    async with service.pool.acquire() as connection:
        await connection.execute("""
            ALTER TABLE messages ADD CONSTRAINT no_poison CHECK (content <> 'poison') NOT VALID
        """)
    try:
        bodies = [message(n, content="poison" if n == 3 else f"{n}") for n in range(6)]
        answer = await service.client.post("/api/messages:batch", json=bodies)
    finally:
        async with service.pool.acquire() as connection:
            await connection.execute("ALTER TABLE messages DROP CONSTRAINT no_poison")
    assert [result["status"] for result in answer.json()] == [202, 202, 202, 422, 202, 202]
    assert "poison" not in answer.json()[3]["detail"].replace("no_poison", "")
    assert [row["content"] for row in await service.rows()] == ["0", "1", "2", "4", "5"]


async def test_the_canary_splits_by_conversation(start) -> None:
    service = await start(ingress_queue_percent=10)
    queue = await service.post(message(1, conversationId=QUEUED))
    direct = await service.post(message(2, conversationId=DIRECT))
    assert (queue.json()["state"], direct.json()["state"]) == ("pending", "persisted")
    assert (await service.records(), len(await service.rows())) == (1, 1)


async def test_a_direct_message_queues_behind_what_waits_in_the_log(start) -> None:
    before = await start()
    direct = await start(ingress_mode="direct")
    await before.post(message(0))
    held = await direct.post(message(1))
    assert (held.status_code, held.json()["state"]) == (202, "pending")
    # Another conversation, of the same partition, has no reason to wait.
    partition = partition_for("test_conv_001", 16)
    neighbour = next(f"n{k}" for k in range(999) if partition_for(f"n{k}", 16) == partition)
    free = await direct.post(message(2, conversationId=neighbour))
    assert free.json()["state"] == "persisted"
    async with working(before):

        async def all_there() -> bool:
            return len(await before.rows()) == 3

        await eventually(all_there)

        async def direct_again() -> bool:
            answer = await direct.post(message(3))
            return answer.json()["state"] == "persisted"

        await eventually(direct_again)
    rows = [row for row in await before.rows() if row["conversation_id"] == "test_conv_001"]
    assert [row["content"] for row in rows] == [message(n)["content"] for n in (0, 1, 3)]


@pytest.mark.parametrize("limit", [3, 1000])
async def test_a_long_backlog_is_followed_or_taken_for_everyones(start, limit: int) -> None:
    before = await start()
    partition = partition_for("busy", 16)
    neighbour = next(f"n{k}" for k in range(999) if partition_for(f"n{k}", 16) == partition)
    for number in range(10):
        await before.post(message(number, conversationId="busy"))
    backlog = Backlog(before.transport, before.pool, limit=limit)
    behind = await backlog.behind([(partition, "busy"), (partition, neighbour)])
    assert behind == ({"busy", neighbour} if limit == 3 else {"busy"})
    await before.post(message(99, conversationId=neighbour))
    assert neighbour in await backlog.behind([(partition, neighbour)])
    async with working(before):

        async def nothing_left() -> bool:
            return not await backlog.behind([(partition, "busy"), (partition, neighbour)])

        await eventually(nothing_left)


@asynccontextmanager
async def _sending(services: list[Service], conversations: list[str]):
    """One message after another in each conversation, to whichever ingress is there now.

    Yields what was sent, the states that were answered, and the wait for more of each.
    """
    sent: dict[str, list[str]] = {name: [] for name in conversations}
    stop = asyncio.Event()
    states: set[tuple[str, str]] = set()

    async def run(name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            body = message(number, conversationId=name, content=f"{name} {number}")
            service = services[number % len(services)]
            answer = await service.post(body)
            assert answer.status_code == 202, answer.text
            states.add((name, answer.json()["state"]))
            sent[name].append(body["content"])

    tasks = [asyncio.create_task(run(name)) for name in conversations]

    async def sends(more: int) -> None:
        goal = {name: len(sent[name]) + more for name in conversations}

        def reached() -> bool:
            if any(task.done() for task in tasks):
                raise RuntimeError("a sender has ended")  # refused: its failure is raised below
            return all(len(sent[name]) >= goal[name] for name in conversations)

        await eventually(reached)

    try:
        yield sent, states, sends
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def test_order_is_kept_when_the_percentage_changes_under_traffic(start) -> None:
    """Old and new processes side by side, and a worker that falls behind and catches up."""
    conversations = [f"conv_{n}" for n in range(12)]
    queue = await start(**PATIENT)
    services = [queue]
    async with _sending(services, conversations) as (sent, states, sends):
        await sends(10)  # a backlog: no worker consumes yet
        services.append(await start(**PATIENT, ingress_queue_percent=10))
        await sends(10)
        async with working(queue):
            await sends(20)
            services.append(await start(**PATIENT, ingress_mode="direct"))
            services.remove(queue)
            await sends(20)
        await sends(10)  # consumers off again, direct and 10 percent go on
        services[:] = [queue]
        await sends(5)
        services.append(await start(**PATIENT, ingress_queue_percent=50))
        async with working(queue):
            await sends(20)
    total = sum(map(len, sent.values()))
    async with working(queue):

        async def all_there() -> bool:
            return len(await queue.rows()) == total

        await eventually(all_there)
    rows = await queue.rows()
    for name in conversations:
        assert [row["content"] for row in rows if row["conversation_id"] == name] == sent[name]
    assert {row["transport"] for row in rows} == {"redis", "direct"}
    assert {state for _, state in states} == {"pending", "persisted"}


async def test_receipts_are_persisted_directly_once_their_message_has_its_row(start) -> None:
    service = await start(ingress_mode="direct")
    identifier = (await service.post(message())).json()["messageId"]
    url = f"/api/messages/{identifier}/receipts"
    body = {"userId": "u", "state": "read"}
    answers = await asyncio.gather(*(service.client.post(url, json=body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [202]
    (item,) = (await service.client.get(url)).json()["items"]
    assert {answer.json()["at"] for answer in answers} == {item["at"]}
    assert await service.records() == 0


async def test_a_receipt_of_a_queued_message_goes_through_the_log(start) -> None:
    queue, direct = await start(), await start(ingress_mode="direct")
    identifier = (await queue.post(message())).json()["messageId"]
    url = f"/api/messages/{identifier}/receipts"
    answer = await direct.client.post(url, json={"userId": "u", "state": "read"})
    assert answer.status_code == 202
    assert await queue.records() == 2


async def test_where_the_log_can_not_tell_a_direct_message_is_refused(start, gated) -> None:
    service = await start(transport=gated, ingress_mode="direct")

    async def unavailable(*_: object, **__: object) -> None:
        raise TransportUnavailable("down")

    gated.progress = unavailable
    with structlog.testing.capture_logs() as lines:
        answers = [await service.post(message(number)) for number in range(3)]
    for answer in answers:
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/log-unavailable")
    assert await service.rows() == []
    assert [line["event"].partition(":")[0] for line in lines] == ["Backlog unknown"]


@pytest.mark.parametrize("how", ["stopped", "suspended"])
async def test_direct_mode_without_postgresql_is_503_and_not_ready(
    new_postgres, start, how: str
) -> None:
    server = await new_postgres()
    url = await server.create_database("breakable")
    await upgrade(url)
    pool = await connect(PersistenceSettings(database_url=url))
    service = await start(
        pool=pool,
        ingress_mode="direct",
        ingress_direct_timeout_ms=300,
        ingress_lookup_timeout_ms=100,
    )
    assert (await service.post(message(1))).status_code == 202
    await (server.stop() if how == "stopped" else server.suspend())
    with structlog.testing.capture_logs() as lines:
        answers = [await service.post(message(number)) for number in (2, 3)]
    for answer in answers:
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/outcome-unknown")
    assert sum(line["event"].startswith("Direct insert failed") for line in lines) == 1
    assert int(answer.headers["retry-after"]) >= 1
    assert (await service.client.get("/readyz")).status_code == 503
    await (server.start() if how == "stopped" else server.resume())

    async def accepted() -> bool:
        return (await service.post(message(2))).status_code in {200, 202}

    await eventually(accepted)
    assert len(await service.rows()) == 2
    pool.terminate()

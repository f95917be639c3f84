"""Dead letters over HTTP: listed, read, redriven, discarded (promise 7)."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, get_args
from uuid import uuid4

import httpx
import pytest

from ingress.routes.dead_letter_models import DeadLetterQuery
from persistence.tables.states import JobState, LetterState
from tests.ingress.conftest import Service, message, working
from tests.support.eventually import eventually
from transport.contract import WORKER_GROUP, DeadLetter, Reason, Topic
from transport.message.identity import partition_of

URL = "/api/dead-letters"


@pytest.fixture
async def dead(service: Service, index_dead_letters):
    """Five messages that became dead letters, and are gone from what workers will read."""
    acks = [(await service.post(message(n, conversationId=f"conv_{n}"))).json() for n in range(5)]
    letters = []
    for number, ack in enumerate(acks):
        (record,) = [
            record
            for record in await service.transport.read(
                Topic.MESSAGES, partition_of(ack["messageId"], 16)
            )
            if record.headers["messageId"].decode() == ack["messageId"]
        ]
        reason = Reason.REJECTED if number % 2 else Reason.UNDECODABLE
        letters.append(DeadLetter(record, reason, f"fault {number}", 3, ack["acceptedAt"]))
    await service.transport.dead_letter(letters)
    await index_dead_letters(service)
    await _pass_all_records(service)
    return acks


async def _pass_all_records(service: Service) -> None:
    """Move PostgreSQL's positions to the end of the log, as after a worker's batches."""
    identity = await service.transport.identity()
    progress = await service.transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
    await service.pool.executemany(
        "INSERT INTO log_positions (transport, partition, epoch, through, log)"
        " VALUES ($1, $2, 0, $3, $4)",
        [
            (service.transport.name, part.partition, part.end, identity)
            for part in progress
            if part.end is not None
        ],
    )


async def _list(service: Service, **query: str) -> dict:
    answer = await service.client.get(URL, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_they_are_listed_newest_first_in_pages(service: Service, dead: list[dict]) -> None:
    seen, after = [], None
    while True:
        page = await _list(service, limit="2", **({"after": after} if after else {}))
        seen += [item["messageId"] for item in page["items"]]
        after = page["next"]
        if not page["hasMore"]:
            break
    assert seen == [ack["messageId"] for ack in reversed(dead)]


async def test_they_are_found_by_what_they_are(service: Service, dead: list[dict]) -> None:
    assert len((await _list(service, reason="rejected"))["items"]) == 2
    assert len((await _list(service, conversationId="conv_3"))["items"]) == 1
    assert len((await _list(service, messageId=dead[1]["messageId"]))["items"]) == 1
    assert len((await _list(service, failedBefore="2020-01-01T00:00:00Z"))["items"]) == 0
    assert len((await _list(service, failedAfter="2020-01-01T00:00:00Z"))["items"]) == 5
    assert len((await _list(service, state="redriven"))["items"]) == 0
    assert len((await _list(service, state="any"))["items"]) == 5


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"reason": "bad luck"}, "reason"),
        ({"messageId": "x"}, "messageId"),
        ({"failedAfter": "2020-01-01T00:00:00"}, "failedAfter"),
        ({"after": "x"}, "after"),
        ({"nope": "x"}, "nope"),
        ({"conversationId": "a\0"}, "conversationId"),
    ],
)
async def test_a_faulty_query_is_422(service: Service, query: dict, field: str) -> None:
    answer = await service.client.get(URL, params=query)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


async def test_one_is_read_with_its_bytes(service: Service, dead: list[dict]) -> None:
    (item,) = (await _list(service, messageId=dead[1]["messageId"]))["items"]
    letter = (await service.client.get(f"{URL}/{item['id']}")).json()
    assert letter | item == letter
    assert (letter["reason"], letter["error"], letter["attempts"]) == ("rejected", "fault 1", 3)
    assert base64.b64decode(letter["bodyBase64"]).decode() == letter["body"]
    assert json.loads(letter["body"])["content"] == message(1)["content"]
    assert {"name": "messageId", "value": dead[1]["messageId"]} in letter["headers"]
    assert letter["key"] == "conv_1"
    assert (await service.client.get(f"{URL}/999999")).status_code == 404
    assert (await service.client.get(f"{URL}/0")).status_code == 422
    assert (await service.client.get(f"{URL}/{2**63}")).status_code == 422
    assert (await service.client.get(f"{URL}/{'9' * 5000}")).status_code == 422


async def test_a_dry_run_only_counts(service: Service, dead: list[dict]) -> None:
    answer = await service.client.post(f"{URL}/redrive", json={"filter": {}, "dryRun": True})
    assert answer.status_code == 200
    assert answer.json() == {
        "letters": 5,
        "byReason": {"rejected": 2, "undecodable": 3},
        "redrivenTooOften": 0,
    }
    assert len((await _list(service))["items"]) == 5


async def test_a_redrive_persists_them_once_and_can_be_watched(
    service: Service, dead: list[dict]
) -> None:
    answer = await service.client.post(
        f"{URL}/redrive", json={"filter": {"reason": "rejected"}, "ratePerSecond": 1000}
    )
    assert answer.status_code == 202
    watch = answer.headers["location"]
    assert watch.endswith(answer.json()["redriveId"])

    async def done() -> dict | None:
        progress = (await service.client.get(watch)).json()
        return progress if progress["state"] == "done" else None

    progress = await eventually(done)
    assert (progress["total"], progress["redriven"], progress["failed"]) == (2, 2, 0)
    assert progress["startedBy"] == "api"
    assert (await service.client.get(f"{URL}/redrives")).json()["items"] == [progress]

    async def both() -> bool:
        return len(await service.rows()) == 2

    async with working(service):
        await eventually(both)
    # The worker has ended: it inserts no other row.
    assert {str(row["id"]) for row in await service.rows()} == {
        dead[1]["messageId"], dead[3]["messageId"],
    }  # fmt: skip
    assert len((await _list(service))["items"]) == 3
    assert len((await _list(service, state="redriven"))["items"]) == 2
    cancel = await service.client.post(f"{watch}/cancel")
    assert (cancel.status_code, cancel.json()["type"]) == (409, "/problems/conflicting-state")


async def test_a_slow_redrive_can_be_cancelled(service: Service, dead: list[dict]) -> None:
    answer = await service.client.post(f"{URL}/redrive", json={"filter": {}, "ratePerSecond": 1})
    watch = answer.headers["location"]
    cancelled = await service.client.post(f"{watch}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert len((await _list(service))["items"]) >= 3
    missing = f"{URL}/redrives/00000000-0000-0000-0000-000000000000"
    assert (await service.client.get(missing)).status_code == 404
    assert (await service.client.post(f"{missing}/cancel")).status_code == 404
    assert (await service.client.post(f"{missing}/resume")).status_code == 404


async def test_a_redrive_request_that_is_sent_again_with_its_id_begins_nothing(
    service: Service, dead: list[dict]
) -> None:
    chosen = str(uuid4())
    body = {"filter": {}, "ratePerSecond": 1, "redriveId": chosen}

    async def ask(**changes: Any) -> httpx.Response:
        return await service.client.post(f"{URL}/redrive", json={**body, **changes})

    both = await asyncio.gather(ask(), ask())
    assert [(answer.status_code, answer.json()["redriveId"]) for answer in both] == [
        (202, chosen), (202, chosen),
    ]  # fmt: skip
    (listed,) = (await service.client.get(f"{URL}/redrives")).json()["items"]
    assert listed["id"] == chosen
    other = await ask(filter={"reason": "rejected"})
    assert (other.status_code, other.json()["type"]) == (409, "/problems/conflicting-state")
    assert chosen in other.json()["detail"]
    # A job of another kind has the id.
    await service.pool.execute("UPDATE jobs SET kind = 'backfill', state = 'cancelled'")
    assert (await ask()).status_code == 409


@pytest.mark.parametrize("state", [*JobState, "of a later version"])
async def test_redrives_of_every_state_are_shown_and_steered(
    service: Service, dead: list[dict], state: str
) -> None:
    begun = await service.client.post(f"{URL}/redrive", json={"filter": {}, "ratePerSecond": 1})
    watch = begun.headers["location"]
    assert (await service.client.post(f"{watch}/cancel")).status_code == 200
    await service.pool.execute("UPDATE jobs SET state = $1", state)
    (listed,) = (await service.client.get(f"{URL}/redrives")).json()["items"]
    assert listed["state"] == state
    unfinished = state in {"interrupted", "failed"}
    assert listed["resumable"] is unfinished
    assert (await service.client.get(watch)).json() == listed
    if unfinished:

        async def resumed() -> bool:  # once the cancelled run of this process has ended
            answer = await service.client.post(f"{watch}/resume")
            return (answer.status_code, answer.json().get("state")) == (202, "running")

        await eventually(resumed)
        assert (await service.client.post(f"{watch}/cancel")).json()["state"] == "cancelled"


@pytest.mark.parametrize("state", [*LetterState, "of a later version"])
async def test_dead_letters_of_every_state_are_shown(
    service: Service, dead: list[dict], state: str
) -> None:
    identifier = (await _list(service))["items"][0]["id"]
    await service.pool.execute("UPDATE dead_letters SET state = $1", state)
    assert {item["state"] for item in (await _list(service, state="any"))["items"]} == {state}
    shown = await service.client.get(f"{URL}/{identifier}")
    assert (shown.status_code, shown.json()["state"]) == (200, state)


def test_every_state_of_a_dead_letter_can_be_asked_for() -> None:
    asked = get_args(DeadLetterQuery.model_fields["state"].annotation)
    assert set(asked) == {*LetterState, "any"}


async def test_discarding_keeps_who_and_why(service: Service, dead: list[dict]) -> None:
    ids = [item["id"] for item in (await _list(service))["items"]][:2]
    answer = await service.client.post(f"{URL}/discard", json={"ids": ids, "why": "test data"})
    assert answer.json()["discarded"] == 2
    assert len((await _list(service))["items"]) == 3
    for item in (await _list(service, state="discarded"))["items"]:
        assert item["id"] in ids
        assert (item["resolvedBy"], item["resolvedWhy"]) == ("api", "test data")
    again = await service.client.post(f"{URL}/discard", json={"ids": ids, "why": "again"})
    assert again.json()["discarded"] == 0


async def test_what_comes_after_a_dry_run_is_not_discarded(
    service: Service, dead: list[dict]
) -> None:
    items = (await _list(service))["items"]
    body = {"filter": {}, "why": "test data"}
    dry = (await service.client.post(f"{URL}/discard", json=body | {"dryRun": True})).json()
    assert dry == {"discarded": 5, "upTo": items[0]["id"]}
    earlier = body | {"upTo": items[1]["id"]}  # as if the newest one had come after a dry run
    dry = await service.client.post(f"{URL}/discard", json=earlier | {"dryRun": True})
    assert dry.json() == {"discarded": 4, "upTo": items[1]["id"]}
    for discarded in (4, 0):
        answer = await service.client.post(f"{URL}/discard", json=earlier)
        assert answer.json() == {"discarded": discarded, "upTo": items[1]["id"]}
    assert [one["id"] for one in (await _list(service))["items"]] == [items[0]["id"]]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ids": [1], "filter": {}},
        {"ids": []},
        {"ids": ["1"]},
        {"ids": [0]},
        {"ids": list(range(1, 1002))},
        {"filter": {"nope": 1}},
        {"filter": {}, "ratePerSecond": -1},
        {"filter": {}, "dryRun": "yes"},
        {"filter": {"failedAfter": "2020-01-01T00:00:00"}},
    ],
)
async def test_a_faulty_redrive_is_422_and_touches_nothing(service: Service, body: dict) -> None:
    assert (await service.client.post(f"{URL}/redrive", json=body)).status_code == 422
    if "ratePerSecond" not in body and "dryRun" not in body:
        discard = await service.client.post(f"{URL}/discard", json=body | {"why": "x"})
        assert discard.status_code == 422
    assert (await service.client.get(f"{URL}/redrives")).json() == {"items": []}


@pytest.mark.parametrize(
    ("at", "found"), [("0001-01-01T00:00:00+14:00", 5), ("9999-12-31T23:59:59-12:00", 0)]
)
async def test_a_time_outside_the_years_of_utc_bounds_as_any_other(dead, service, at, found):
    for name, expected in (("failedAfter", found), ("failedBefore", 5 - found)):
        answer = await service.client.get(URL, params={name: at})
        assert (answer.status_code, len(answer.json()["items"])) == (200, expected)

"""A key with a prefix acts for its own senders and conversations, and learns of no others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ingress.web.key_entries import ApiKey, Scope, entry_of, parse_entries
from tests.ingress.conftest import Service, Start, message, working
from tests.support.eventually import eventually
from transport.contract import DeadLetter, Reason, Topic
from transport.errors import ConfigurationError
from transport.message.identity import partition_of

DIGEST = "0" * 64


def _digest(name: str) -> str:
    return sha256(f"cf_{name}".encode()).hexdigest()


ENTRIES = [
    f"all:produce+read+admin:{_digest('all')}",
    f"ours:produce+read:{_digest('ours')}:conversation=ours%3A",
    f"alice:produce+read:{_digest('alice')}:sender=alice%3A",
    f"both:produce+read:{_digest('both')}:sender=alice%3A:conversation=ours%3A",
]
OURS, THEIRS = "ours:1", "theirs:1"
ALICE, BOB = "alice:1", "bob:1"


def as_(name: str) -> dict[str, str]:
    return {"X-API-Key": f"cf_{name}"}


@pytest.fixture
async def service(start: Start) -> Service:
    return await start(api_keys=",".join(ENTRIES))


async def _post(service: Service, name: str, **changes: Any) -> Any:
    return await service.client.post("/api/messages", json=message(**changes), headers=as_(name))


@pytest.mark.parametrize("door", ["protocol", "asgi"])
@pytest.mark.parametrize(
    ("name", "sender", "conversation", "may"),
    [
        ("all", BOB, THEIRS, True),
        ("ours", BOB, OURS, True),
        ("ours", BOB, THEIRS, False),
        ("ours", BOB, "OURS:1", False),
        ("ours", BOB, "ours", False),
        ("alice", ALICE, THEIRS, True),
        ("alice", BOB, OURS, False),
        ("alice", "alice", OURS, False),
        ("both", ALICE, OURS, True),
        ("both", ALICE, THEIRS, False),
        ("both", BOB, OURS, False),
    ],
)
async def test_a_message_is_held_against_the_prefixes(
    service: Service, door: str, name: str, sender: str, conversation: str, may: bool
) -> None:
    del door
    for _ in range(2):  # the second comes with a head that is known
        answer = await _post(service, name, senderId=sender, conversationId=conversation)
        assert answer.status_code in ({200, 202} if may else {403}), answer.text
    if not may:
        assert answer.json()["type"] == "/problems/forbidden"
        assert f"The key {name!r} is for" in answer.json()["detail"]
    assert await service.records() == int(may)


@pytest.mark.parametrize("lines", [False, True])
async def test_items_of_a_batch_are_held_against_the_prefixes_one_by_one(
    service: Service, lines: bool
) -> None:
    parties = [(ALICE, OURS), (BOB, OURS), (ALICE, THEIRS), (ALICE, "ours:2")]
    batch = [message(n, senderId=s, conversationId=c) for n, (s, c) in enumerate(parties)]
    answer = await service.client.post(
        "/api/messages:batch", json=[*batch, {"nope": 1}], headers=as_("both")
    )
    assert [result["status"] for result in answer.json()] == [202, 403, 403, 202, 422]
    assert await service.records() == 2


PARTIES = [(ALICE, OURS), (BOB, OURS), (ALICE, THEIRS), (BOB, THEIRS)]
MAY_READ = {
    "all": set(PARTIES),
    "ours": {(ALICE, OURS), (BOB, OURS)},
    "alice": {(ALICE, OURS), (ALICE, THEIRS)},
    "both": {(ALICE, OURS)},
}
MISSING = "00000000-0000-8000-8000-000000000001"


async def _one_of_each(service: Service, state: str) -> dict[tuple[str, str], str]:
    """Post a message for each of ``PARTIES``; return their ids."""
    ids = {}
    for sender, conversation in PARTIES:
        answer = await _post(service, "all", senderId=sender, conversationId=conversation)
        ids[sender, conversation] = answer.json()["messageId"]
    if state == "persisted":
        async with working(service):

            async def all_there() -> bool:
                return len(await service.rows()) == len(PARTIES)

            await eventually(all_there)
    return ids


@pytest.mark.parametrize("state", ["pending", "persisted"])
async def test_what_a_key_may_not_read_is_not_there(service: Service, state: str) -> None:
    """Not a word tells it from a message that is nowhere."""

    async def said(path: str, name: str, identifier: str) -> tuple[int, str]:
        answer = await service.client.get(path.format(identifier), headers=as_(name))
        return answer.status_code, answer.json().get("detail", "").replace(identifier, "it")

    paths = ["/api/messages/{}", "/api/messages/{}/receipts", "/api/console/messages/{}"]
    for parties, identifier in (await _one_of_each(service, state)).items():
        for name, seen in MAY_READ.items():
            for path in paths:
                expected = (200, "") if parties in seen else await said(path, name, MISSING)
                assert await said(path, name, identifier) == expected, (name, parties)
            found = await service.client.get(
                "/api/console/search", params={"q": identifier}, headers=as_(name)
            )
            assert len(found.json()["items"]) == (parties in seen), (name, parties)
            assert not found.json()["more"]


@pytest.mark.parametrize("name", MAY_READ)
async def test_a_page_holds_what_the_key_may_read(service: Service, name: str) -> None:
    await _one_of_each(service, "persisted")
    for conversation in (OURS, THEIRS):
        path = f"/api/conversations/{conversation}/messages"
        page = await service.client.get(path, headers=as_(name))
        expected = {message for message in MAY_READ[name] if message[1] == conversation}
        if not expected:  # by its name, so that this tells nothing
            assert page.status_code == 403
            continue
        read = {(item["senderId"], item["conversationId"]) for item in page.json()["items"]}
        assert read == expected


@pytest.mark.parametrize("state", ["pending", "persisted", "dead", "erased"])
async def test_a_receipt_is_for_a_message_that_the_key_may_read_or_that_its_user_received(
    service: Service, index_dead_letters: Callable[[Service], Awaitable[None]], state: str
) -> None:
    """Any other message is answered like one that is nowhere, in every state."""
    ids = {}
    for sender, conversation in PARTIES:
        for user in (ALICE, "carol:1"):
            parties = {"senderId": sender, "conversationId": conversation, "recipientIds": [user]}
            posted = await _post(service, "all", **parties, clientMessageId=user)
            ids[sender, conversation, user] = posted.json()["messageId"]
    await _bring_to(service, state, list(ids.values()), index_dead_letters)
    found = {"pending": 202, "persisted": 202, "dead": 409, "erased": 410}[state]

    async def answer(name: str, identifier: str, user: str) -> tuple[int, str]:
        given = await service.client.post(
            f"/api/messages/{identifier}/receipts",
            json={"userId": user, "state": "read"},
            headers=as_(name),
        )
        return given.status_code, given.json().get("detail", "").replace(identifier, "it")

    for (sender, conversation, user), identifier in ids.items():
        covered = {"ours": conversation == OURS, "alice": ALICE in {sender, user}}
        covered["both"] = all(covered.values())
        expected = found
        for name in (*covered, "all"):
            # A tombstone names neither a sender nor a conversation.
            may = name == "all" or (covered[name] and state != "erased")
            status, detail = await answer(name, identifier, ALICE)
            case = (name, sender, conversation, user)
            if may:
                assert status == expected, (case, detail)
                expected = 200 if found == 202 else found  # the next one is a repeat
            else:
                assert (status, detail) == await answer(name, MISSING, ALICE), case
                assert status == 404
    assert (await answer("both", next(iter(ids.values())), BOB))[0] == 403  # not the key's user


async def _bring_to(
    service: Service,
    state: str,
    ids: list[str],
    index_dead_letters: Callable[[Service], Awaitable[None]],
) -> None:
    """Bring messages that wait in the log to ``state``."""
    if state == "dead":
        partitions = {partition_of(identifier, service.transport.partitions) for identifier in ids}
        letters = [
            DeadLetter(record, Reason.REJECTED, "a fault", 3, "2026-01-01T00:00:00Z")
            for partition in partitions
            for record in await service.transport.read(Topic.MESSAGES, partition)
        ]
        await service.transport.dead_letter(letters)
        await index_dead_letters(service)
    if state in {"persisted", "erased"}:
        async with working(service):

            async def all_there() -> bool:
                return len(await service.rows()) == len(ids)

            await eventually(all_there)
    if state == "erased":
        await service.pool.execute(
            "INSERT INTO tombstones (id, accepted_at, erased_at) "
            "SELECT id, accepted_at, now() FROM messages"
        )
        await service.pool.execute("DELETE FROM messages")


async def test_what_is_about_all_messages_needs_a_key_without_a_prefix(service: Service) -> None:
    paths = [
        "/api/dead-letters",
        "/api/dead-letters/1",
        "/api/dead-letters/redrives",
        "/api/jobs",
        "/api/console/status",
        "/api/console/events?limit=1",
        "/api/console/dead-letters",
        "/api/console/actions",
        "/api/console/migration",
    ]
    for path in paths:
        for name in ("ours", "alice", "both"):
            answer = await service.client.get(path, headers=as_(name))
            assert answer.status_code == 403, path
            assert "limited to a prefix" in answer.json()["detail"]
        assert (await service.client.get(path, headers=as_("all"))).status_code in {200, 404}
    login = await service.client.post("/api/console/session", json={"key": "cf_ours"})
    assert login.status_code == 403
    assert "set-cookie" not in login.headers


@pytest.mark.parametrize(
    ("sender", "conversation"),
    [
        ("", ""),
        ("alice:", ""),
        ("", "ours/"),
        ("a,b#c:d e%=\n", "\u00e4\U0001f600+@~/-._"),
    ],
)
def test_an_entry_is_read_as_it_was_made(sender: str, conversation: str) -> None:
    key = ApiKey("n", frozenset({Scope.READ, Scope.PRODUCE}), sender, conversation)
    assert parse_entries(f"# one\n{entry_of(key, DIGEST)},", "X") == {DIGEST: key}


def test_an_entry_without_a_prefix_is_what_it_was() -> None:
    entry = f"n:produce+read:{DIGEST}"
    assert entry_of(parse_entries(entry, "X")[DIGEST], DIGEST) == entry


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        (":sender=", "percent-encode"),
        (":sender", "percent-encode"),
        (":sender=a:sender=b", "percent-encode"),
        (":user=a", "percent-encode"),
        (":sender=a%3", "percent-encode"),
        (":sender=%ff", "percent-encode"),
        (":sender=a:", "percent-encode"),
        (":", "percent-encode"),
        (":sender=\u00e4", "percent-encode"),
        (f":sender={'a' * 257}", "256 characters"),
        (":sender=a b", "name:scope"),
    ],
)
def test_a_faulty_prefix_stops_the_start_and_says_how_it_is_written(rest: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"API_KEYS: entry 2 .*{words}"):
        parse_entries(f"x:read:{'1' * 64}\nn:read:{DIGEST}{rest}", "API_KEYS")


def test_admin_has_no_prefix_and_a_key_has_one_entry() -> None:
    with pytest.raises(ConfigurationError, match="entry 1 has a prefix and the scope admin"):
        parse_entries(f"n:read+admin:{DIGEST}:sender=a", "API_KEYS")
    with pytest.raises(ConfigurationError, match="entry 2 has the SHA-256 of an entry before it"):
        parse_entries(f"n:read:{DIGEST}:sender=a\nn:read:{DIGEST}", "API_KEYS")


async def test_a_stream_ends_when_its_key_is_taken_away(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"viewer:read:{_digest('viewer')}\nother:read:{_digest('other')}\n")
    service = await start(api_keys_file=path)
    said: list[str] = []
    async with (
        asyncio.timeout(30),
        service.client.stream("GET", "/api/console/events", headers=as_("viewer")) as stream,
    ):
        async for line in stream.aiter_lines():
            said.append(line)
            if line.startswith("event: status") and len(said) < 6:
                path.write_text(f"other:read:{_digest('other')}\n")
    assert said[-3] == "event: end"
    assert '"status":401' in said[-2]
    assert said.count("event: end") == 1
    again = await service.client.get("/api/console/events", headers=as_("viewer"))
    assert again.status_code == 401

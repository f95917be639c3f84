"""Messages are followed as they are appended: filtered, bounded, and only where a key may."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from ingress.console import tail as module
from tests.ingress.conftest import Service, Start, message, working
from tests.support.eventually import eventually
from transport.errors import TransportUnavailable

News = Callable[[], Any]


@asynccontextmanager
async def _following(
    service: Service, *, key: str = "", **query: object
) -> AsyncIterator[AsyncIterator[tuple[str, dict[str, Any]]]]:
    """Follow, once the first event has come: from then on nothing is missed."""
    async with service.client.stream(
        "GET", "/api/console/tail/events", params=query, headers={"X-API-Key": key} if key else {}
    ) as answer:
        assert answer.status_code == 200, (await answer.aread()).decode()
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = _events(answer.aiter_lines())
        assert (await anext(events))[0] == "news"
        yield events


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    name = ""
    async for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


async def _lines(events: AsyncIterator[tuple[str, Any]], count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        _, news = await anext(events)
        assert news["error"] is None
        found += news["lines"]
    return found


async def test_what_is_appended_is_told_and_then_what_became_of_it(service: Service) -> None:
    await service.post(message(1))  # before any follower came
    async with _following(service) as events:
        posted = (await service.post(message(2, content="x" * 400))).json()
        (line,) = await _lines(events, 1)
        assert line["messageId"] == posted["messageId"]
        assert line["content"] == "x" * 300 + "…"
        assert line["place"] == f"redis {line['partition']}:{line['offset']}"
        async with working(service):
            fates: list[Any] = []
            while not fates:
                fates = (await anext(events))[1]["fates"]
        assert [(fate["messageId"], fate["state"]) for fate in fates] == [
            (posted["messageId"], "persisted")
        ]


async def test_only_what_is_wanted_is_told(service: Service) -> None:
    wanted = {"conversation": "room", "sender": "ann", "text": "STRAßE"}
    async with _following(service, **wanted) as events:
        for number, changes in enumerate(
            (
                {"conversationId": "room", "senderId": "ann", "content": "no"},
                {"conversationId": "room", "senderId": "bob", "content": "Strasse"},
                {"conversationId": "hall", "senderId": "ann", "content": "Strasse"},
                {"conversationId": "room", "senderId": "ann", "content": "In der Strasse"},
            )
        ):
            await service.post(message(number, **changes))
        assert [line["content"] for line in await _lines(events, 1)] == ["In der Strasse"]


async def test_what_is_no_message_is_told_where_nothing_is_asked_for(
    service: Service, redis: Redis
) -> None:
    async with _following(service) as events, _following(service, sender="ann") as narrowed:
        await redis.xadd("msg:stream:3", {"body": "junk"})
        (line,) = await _lines(events, 1)
        assert (line["messageId"], line["partition"]) == (None, 3)
        assert "not a version 1 or 2 envelope" in line["error"]
        await service.post(message(1, senderId="ann"))
        assert [line["senderId"] for line in await _lines(narrowed, 1)] == ["ann"]


async def test_what_comes_too_fast_is_passed_over_and_counted(service: Service) -> None:
    async with _following(service) as events:
        batch = [message(n, conversationId="one") for n in range(900)]
        posted = await service.client.post("/api/messages:batch", json=batch)
        assert {result["status"] for result in posted.json()} == {202}
        lines, skipped = 0, 0
        while lines + skipped < 900:
            _, news = await anext(events)
            lines += len(news["lines"])
            skipped += news["skipped"]
        assert lines + skipped == 900
        assert 0 < lines <= module.MOST_HELD
        last = (await service.post(message(1000, conversationId="one"))).json()
        assert [line["messageId"] for line in await _lines(events, 1)] == [last["messageId"]]


async def test_so_many_may_follow_at_once(service: Service, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MOST_FOLLOWERS", 1)
    async with _following(service):
        refused = await service.client.get("/api/console/tail/events")
        assert refused.status_code == 503
        assert refused.headers["retry-after"]

    async def let_in() -> bool:
        answer = await service.client.get("/api/console/tail/events", params={"limit": 1})
        return answer.status_code == 200

    await eventually(let_in)


async def test_nothing_is_read_when_nobody_follows(service: Service) -> None:
    async with _following(service):
        pass
    (tail,) = [follower for follower in service.app.followed if isinstance(follower, module.Tail)]
    await eventually(lambda: not tail.is_running)


async def test_a_key_with_a_prefix_follows_its_own_and_no_longer_than_it_is_one(
    start: Start, tmp_path: Path
) -> None:
    digest = {name: sha256(f"cf_{name}".encode()).hexdigest() for name in ("all", "ann")}
    entries = [f"all:produce:{digest['all']}", f"ann:read:{digest['ann']}:sender=ann"]
    keys = tmp_path / "keys"
    keys.write_text("\n".join(entries))
    service = await start(api_keys_file=str(keys))
    for sender, status in (("bob", 403), ("ann", 200)):
        answer = await service.client.get(
            "/api/console/tail/events",
            params={"sender": sender, "limit": 1},
            headers={"X-API-Key": "cf_ann"},
        )
        assert answer.status_code == status
    async with _following(service, key="cf_ann") as events:
        for number, sender in enumerate(("bob", "ann:1")):
            await service.client.post(
                "/api/messages",
                json=message(number, senderId=sender),
                headers={"X-API-Key": "cf_all"},
            )
        assert [line["senderId"] for line in await _lines(events, 1)] == ["ann:1"]
        keys.write_text(entries[0])
        name, problem = "news", {}
        while name == "news":
            name, problem = await anext(events)
        assert (name, problem["status"]) == ("end", 401)


async def test_a_log_that_does_not_answer_is_told_and_followed_again(
    service: Service, monkeypatch: Any
) -> None:
    async with _following(service) as events:
        progress = service.transport.progress

        async def gone(*_: Any, **__: Any) -> Any:
            raise TransportUnavailable("gone for a while")

        monkeypatch.setattr(service.transport, "progress", gone)
        error = None
        while error is None:
            error = (await anext(events))[1]["error"]
        assert error == "gone for a while"
        await service.post(message(1))
        monkeypatch.setattr(service.transport, "progress", progress)
        while True:
            _, news = await anext(events)
            if news["lines"]:
                break
        assert news["error"] is None

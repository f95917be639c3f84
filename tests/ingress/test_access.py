"""Who may call which route: the table in ``docs/access.md``, and the answers over HTTP.

Nothing here names what the code declares. The page states what a key may do, and the service is
called with keys of every kind.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from migration_guide.machine import Machine
from persistence import parity_reports
from persistence.fleet.log_choice import FIRST_PAIR, choices
from persistence.parity_reports import ParityReport
from tests.ingress.conftest import Service, Start, message, working
from tests.support.eventually import eventually
from transport.contract import DeadLetter, Reason, Topic
from transport.message.identity import partition_of

_PAGE = Path(__file__).parents[2] / "docs" / "access.md"
_KEYS = {
    "produce": "produce",
    "read": "read",
    "admin": "admin",
    "produce+admin": "produce+admin",
    "read+admin": "read+admin",
    "sender": "produce+read",
    "conversation": "produce+read",
}
_PREFIXES = {"sender": ":sender=shop-", "conversation": ":conversation=room-7/"}
_OWN = {"senderId": "shop-1", "conversationId": "room-7/1", "recipientIds": ["shop-2"]}
_FOREIGN = {
    "senderId": "hidden-sender", "conversationId": "hidden-room", "recipientIds": ["hidden-user"],
}  # fmt: skip
_REFUSED = {401, 403, 404}


def _entries() -> str:
    return ",".join(
        f"{name.replace('+', '-')}:{scopes}:{sha256(f'cf_{name}'.encode()).hexdigest()}"
        f"{_PREFIXES.get(name, '')}"
        for name, scopes in _KEYS.items()
    )


def _headers(name: str | None) -> dict[str, str]:
    return {"X-API-Key": f"cf_{name}"} if name else {}


@dataclass
class _Seeded:
    """A service with messages in every state, each text of which occurs nowhere else."""

    service: Service
    own: str
    """The id of a row that both limited keys may read."""
    foreign: dict[str, str] = field(default_factory=dict)
    """Ids of messages that no limited key may read, by state."""
    letter: int = 0
    job: str = ""

    def texts(self, *, own: bool) -> set[str]:
        """Return ids and texts of the messages that no key may read that is not for them."""
        found = {*self.foreign.values(), "hidden-sender", "hidden-room", "hidden-user"}
        found |= {f"hidden-{what}-{state}" for what in ("content", "client") for state in _STATES}
        return found | ({self.own, "own-content", "shop-1", "room-7/1"} if own else set())


_STATES = ("persisted", "pending", "dead")


@pytest.fixture
async def seeded(start: Start, index_dead_letters: Callable[[Service], Awaitable[None]]) -> _Seeded:
    service = await start(api_keys=_entries())
    poster = _headers("produce")

    async def post(**body: Any) -> str:
        answer = await service.client.post("/api/messages", json=message(**body), headers=poster)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["messageId"])

    def hidden(state: str) -> dict[str, Any]:
        texts = {"content": f"hidden-content-{state}", "clientMessageId": f"hidden-client-{state}"}
        return {**_FOREIGN, **texts}

    made = _Seeded(service, await post(**_OWN, content="own-content", clientMessageId="one"))
    made.foreign["persisted"] = await post(**hidden("persisted"))
    async with working(service):

        async def stored() -> bool:
            return len(await service.rows()) == 2

        await eventually(stored)
    made.foreign["dead"] = await post(**hidden("dead"))
    partition = partition_of(made.foreign["dead"], service.transport.partitions)
    record = (await service.transport.read(Topic.MESSAGES, partition))[-1]
    fault = f"no place for {made.foreign['dead']}: hidden-content-dead in hidden-room"
    failed_at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    await service.transport.dead_letter([DeadLetter(record, Reason.REJECTED, fault, 3, failed_at)])
    await index_dead_letters(service)
    made.letter = await service.pool.fetchval("SELECT id FROM dead_letters")
    made.foreign["pending"] = await post(**hidden("pending"))
    await _act_as_an_operator(made)
    await _find_a_difference(made)
    return made


async def _act_as_an_operator(made: _Seeded) -> None:
    """Begin a redrive of nothing that names a conversation, and send a message by hand."""
    client, both = made.service.client, _headers("produce+admin")
    chosen = {"conversationId": "hidden-room", "reason": "undecodable"}
    answer = await client.post("/api/dead-letters/redrive", json={"filter": chosen}, headers=both)
    made.job = answer.json()["redriveId"]
    body = message(**_FOREIGN, content="hidden-content-pending", clientMessageId="by-hand")
    sent = await client.post(
        "/api/console/messages", json={**body, "why": "to try it"}, headers=both
    )
    made.foreign["by hand"] = sent.json()["messageId"]


async def _find_a_difference(made: _Seeded) -> None:
    """Record a comparison of two logs that found a message in one of them only."""
    pool, moment = made.service.pool, datetime.now(UTC).isoformat()
    await Machine(pool).adopt(choices(FIRST_PAIR)[0], "test")
    identifier = made.foreign["persisted"]
    sample = {
        "result": "missing_in_shadow", "partition": 0, "messageId": identifier,
        "primaryOffset": "1-0", "shadowOffset": None, "correlationId": identifier,
        "traceId": None, "detail": f"{identifier} is not there",
    }  # fmt: skip
    async with pool.acquire() as connection:
        await parity_reports.write(
            connection,
            ParityReport(
                id=str(uuid4()), kind="running", primary="redis", shadow="kafka", since=moment,
                until=moment, counts={"missing_in_shadow": 1}, lag=[0], samples=[sample],
                verdict="differs", compared=1, coverage=1.0, made_by="test",
            ),
        )  # fmt: skip


_Route = tuple[str, str]


def _routes(service: Service) -> list[_Route]:
    """Return method and path of every route, as the application has them."""
    found = [("POST", path) for path in service.app.hot]
    for context in iter_route_contexts(service.app.api.routes):
        assert context.methods, f"{context.path}: no route, so it has no key to check"
        found += [(method, context.path_format or "") for method in context.methods]
    return sorted(found)


_QUERIES: dict[str, list[dict[str, Any]]] = {
    "/api/console/events": [{"limit": 1}],
    "/api/console/tail/events": [{"limit": 1}],
    "/api/dead-letters": [{"state": "any"}, {"text": "no place"}],
}
_BODIES: dict[str, list[Any]] = {
    "/api/messages": [message(**_OWN, clientMessageId="two")],
    "/api/messages:batch": [[message(**_OWN, clientMessageId="two")]],
    "/api/messages/{messageId}/receipts": [{"userId": "shop-2", "state": "read"}],
    "/api/dead-letters/redrive": [{"filter": {}, "dryRun": True}],
    "/api/dead-letters/discard": [{"filter": {}, "dryRun": True, "why": "x"}],
    "/api/console/session": [{"key": "cf_admin"}],
    "/api/console/messages": [{**message(**_OWN, clientMessageId="three"), "why": "x"}],
    "/api/console/migration/steps": [{"direction": "back", "epoch": 1, "why": "x"}],
    "/api/console/migration/cancel": [{"why": "x"}],
}


@dataclass
class _Request:
    method: str
    path: str
    query: dict[str, Any]
    body: Any

    async def send(self, client: httpx.AsyncClient, key: str | None) -> httpx.Response:
        client.cookies.clear()  # of the session that a request before began
        content = {} if self.body is None else {"json": self.body}
        return await client.request(
            self.method, self.path, params=self.query, headers=_headers(key), **content
        )

    @property
    def named(self) -> str:
        """What the client names itself."""
        return f"{self.path} {self.query} {json.dumps(self.body)}"


def _requests(route: _Route, made: _Seeded, *, foreign: bool) -> Iterator[_Request]:
    """Yield requests for a route, about the own message or about the others."""
    method, path = route
    ids = list(made.foreign.values()) if foreign else [made.own]
    partitions = {partition_of(identifier, made.service.transport.partitions) for identifier in ids}
    values: dict[str, list[Any]] = {
        "messageId": ids,
        "conversationId": ["hidden-room" if foreign else "room-7%2F1"],
        "deadLetterId": [made.letter],
        "redriveId": [made.job],
        "log": ["redis"],
        "partition": sorted(partitions),
        "name": ["forbidden" if path.startswith("/problems") else "app.js"],
    }
    names = [name for name in values if f"{{{name}}}" in path]
    queries: list[dict[str, Any]] = _QUERIES.get(path, [{}]) if method == "GET" else [{}]
    if path == "/api/console/search":
        queries = [{"q": q} for q in (*ids, "hidden-room" if foreign else "room-7/1")]
    if foreign and path.endswith("/records"):
        queries = [{}, {"topic": "dead_letters"}]
    bodies = _BODIES.get(path, [None]) if method == "POST" else [None]
    for chosen, query, body in product(product(*(values[name] for name in names)), queries, bodies):
        yield _Request(method, path.format(**dict(zip(names, chosen, strict=True))), query, body)


class _Row(NamedTuple):
    """One row of the page: a route, the scopes that it needs, and which keys it answers."""

    route: _Route
    scope: str
    answers: dict[str | None, bool]

    def allows(self, name: str | None) -> bool:
        """Return whether the page states that the route answers this key."""
        if name in self.answers:
            return self.answers[name]
        if name in _PREFIXES:
            return self.answers["prefix"]
        assert name is not None
        scopes = set(name.split("+"))
        together = " and " in self.scope and set(self.scope.split(" and ")) <= scopes
        return together or any(self.answers[scope] for scope in scopes)


def _table() -> list[_Row]:
    columns = (None, "produce", "read", "admin", "prefix")
    rows = []
    for line in _PAGE.read_text("utf-8").splitlines():
        if line.startswith(("| GET", "| POST", "| DELETE")):
            method, path, scope, *answers = (cell.strip(" `") for cell in line.split("|")[1:-1])
            assert set(answers) <= {"yes", "no"}
            given = [answer == "yes" for answer in answers]
            rows.append(_Row((method, path), scope, dict(zip(columns, given, strict=True))))
    return rows


async def test_the_table_has_every_route(start: Start) -> None:
    """If not: ``make pages``, and read what the new row states."""
    service = await start(api_keys=_entries())
    assert [row.route for row in sorted(_table())] == _routes(service)


async def test_each_route_answers_the_keys_that_the_table_states(seeded: _Seeded) -> None:
    client = seeded.service.client
    wrong = []
    for row in _table():
        for name in (None, *_KEYS):
            expected = row.allows(name)
            for request in _requests(row.route, seeded, foreign=False):
                if name not in {"read", "read+admin"} and "text" in request.query:
                    continue  # a search in errors, which may quote messages
                status = (await request.send(client, name)).status_code
                refusal = 401 if name is None else 403
                if (status not in _REFUSED) != expected or (not expected and status != refusal):
                    wrong.append((*row.route, name, status))
                if request.method == "GET":
                    as_head = dataclasses.replace(request, method="HEAD")
                    if (await as_head.send(client, name)).status_code != status:
                        wrong.append(("HEAD", row.route[1], name, status))
    assert not wrong, wrong


async def test_other_ids_are_not_found_with_a_prefix(seeded: _Seeded) -> None:
    for row in _table():
        if row.answers["prefix"] and "{messageId}" in row.route[1]:
            for name in _PREFIXES:
                for request in _requests(row.route, seeded, foreign=True):
                    # The receipt's user has the prefix, and is no recipient.
                    answer = await request.send(seeded.service.client, name)
                    assert answer.status_code == 404, (row.route, name)


@pytest.mark.parametrize("name", [None, *_KEYS])
async def test_nothing_else_is_served(start: Start, name: str | None) -> None:
    client = (await start(api_keys=_entries())).client
    for path in (
        "/api", "/api/feeds", "/api/console", "/api/console/nothing", "/console/nothing.js",
        "/console/../api/dead-letters/1/x", "/docs/nothing", "/metrics", "/api/messages/x/y",
    ):  # fmt: skip
        answer = await client.get(path, headers=_headers(name))
        assert answer.status_code == 404, path


@pytest.mark.parametrize("name", ["produce", "admin", "produce+admin", "sender", "conversation"])
async def test_no_answer_shows_a_message_that_the_key_may_not_read(
    seeded: _Seeded, name: str
) -> None:
    """Contents, ids and listings, in every answer of every route."""
    shown = await _showing(seeded, name)
    assert not shown, ", ".join(sorted(shown))


async def test_a_key_that_may_read_is_shown_the_messages(seeded: _Seeded) -> None:
    """Or the test before this one would find nothing in any answer."""
    shown = await _showing(seeded, "read+admin")
    assert shown >= {
        "GET /api/messages/{messageId}", "GET /api/messages/{messageId}/content",
        "GET /api/conversations/{conversationId}/messages", "GET /api/dead-letters",
        "GET /api/dead-letters/{deadLetterId}", "GET /api/jobs", "GET /api/console/actions",
        "GET /api/console/dead-letters", "GET /api/console/messages",
        "GET /api/console/messages/{messageId}", "GET /api/console/migration",
        "GET /api/console/logs/{log}/partitions/{partition}/records", "GET /api/console/search",
    }  # fmt: skip


async def _showing(seeded: _Seeded, name: str) -> set[str]:
    """Return the routes that show this key a message that it did not name itself."""
    shown = set()
    forbidden = seeded.texts(own=name not in _PREFIXES)
    for route in _routes(seeded.service):
        for foreign in (True, False):
            for request in _requests(route, seeded, foreign=foreign):
                answer = await request.send(seeded.service.client, name)
                text, named = f"{answer.headers} {answer.text}", request.named
                if route == ("POST", "/api/console/messages"):
                    continue  # it acknowledges the client's own message
                if any(one in text and one not in named for one in forbidden):
                    shown.add(" ".join(route))
    return shown


async def test_admin_alone_sees_of_a_dead_letter_what_a_redrive_takes(seeded: _Seeded) -> None:
    client = seeded.service.client
    (whole,), (some,) = [
        (await client.get("/api/dead-letters", headers=_headers(name))).json()["items"]
        for name in ("read+admin", "admin")
    ]
    hidden = {name for name in whole if whole[name] != some[name]}
    assert hidden == {"messageId", "conversationId", "error", "cause"}
    assert (some["reason"], some["offset"]) == ("rejected", whole["offset"])
    search = await client.get(
        "/api/dead-letters", params={"text": "hidden"}, headers=_headers("admin")
    )
    assert search.status_code == 403
    answer = await client.post(
        "/api/dead-letters/redrive", json={"ids": [some["id"]]}, headers=_headers("admin")
    )
    assert answer.status_code == 202

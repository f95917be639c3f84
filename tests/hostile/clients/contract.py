"""What every HTTP client must get from the service: one table of requests and their answers.

A client is a small program in ``programs/``. It reads the requests as JSON from standard input and
prints the answers as JSON, so a new client is one new program and one row in a test's table.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from persistence.database.pool import Pool
from tests.support.eventually import eventually
from transport.message.identity import idempotency_key, message_id

__all__ = ["ALONE", "AT_ONCE", "IN_TURN", "Answer", "Contract", "Request", "talk"]

JSON = {"Content-Type": "application/json"}
IN_TURN = 20
"""Messages sent one after the other, to see whether the connection is used again."""
AT_ONCE = 40
"""Messages sent at the same time."""
ALONE = 1024 * 1024
"""The largest body of one message: the default of INGRESS_MAX_BODY_BYTES."""
_BATCH = 16 * 1024 * 1024
_UNICODE = "Привіт, 世界! \U0001f44b e\u0301 \u202e"
_PATIENCE = 90.0  # seconds, for all that one program does: a JVM on a busy machine

Check = Callable[["Answer"], None]


@dataclass
class Answer:
    """What a client was answered, or ``error``: what it raised instead."""

    name: str
    status: int = 0
    type: str | None = None
    body: str = ""
    error: str | None = None

    def json(self) -> Any:
        """Return the body, which must be JSON."""
        assert self.type is not None, self
        assert self.type.partition(";")[0] in {"application/json", "application/problem+json"}, self
        return json.loads(self.body)


@dataclass
class Request:
    """One request, and what its answer must be."""

    name: str
    method: str
    path: str
    check: Check
    body: str | None = None
    pad: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    expect: bool = False
    relayed: bool = False

    def given(self, url: str) -> dict[str, Any]:
        """Return it as a client program reads it."""
        return {
            "name": self.name,
            "method": self.method,
            "url": url + self.path,
            "headers": self.headers,
            "body": self.body,
            "pad": self.pad,
            "chunked": self.chunked,
            "expect": self.expect,
        }


class Contract:
    """The requests of one client, whose messages have ``sender`` as their sender."""

    def __init__(self, sender: str, *, without: Sequence[str] = ()) -> None:
        self.sender = sender
        self.conversation = f"with-{sender}"
        self.contents: dict[str, str] = {}
        """The rows that must be there in the end: content by client message id."""
        self.waves = [
            kept
            for wave in self._all()
            if (kept := [request for request in wave if request.name not in without])
        ]
        for name in without:
            self.contents.pop(name, None)

    def _all(self) -> Iterator[list[Request]]:
        yield [self._message("first", "one", 202)]
        yield [self._message("first", "one", 200, name="repeat", hit=True)]
        yield [self._message("first", "two", 422, name="conflict")]
        yield [self._get("first", "one")]
        yield [self._message("unicode", _UNICODE, 202)]
        yield [self._get("unicode", _UNICODE)]
        yield [self._batch("batch", pad=0), self._batch("large-batch", pad=_BATCH - 2048)]
        yield [self._batch("too-large-batch", pad=_BATCH, status=413)]
        yield [self._message("largest", "x", 202, fill=ALONE)]
        yield [self._message("too-large", "x", 413, fill=ALONE + 1)]
        yield [self._message("far-too-large", "x", 413, fill=6 * ALONE)]
        yield [self._message("after-too-large", "here still", 202)]
        yield [self._message("chunked", "in pieces", 202, chunked=True)]
        yield [self._message("chunked-too-large", "x", 413, fill=3 * ALONE, chunked=True)]
        yield [self._message("expect", "may I?", 202, expect=True)]
        yield [self._message("expect-too-large", "x", 413, fill=3 * ALONE, expect=True)]
        yield [Request("empty", "POST", "/api/messages", _problem(400), "", headers=JSON)]
        yield [Request("head", "HEAD", "/healthz", _bodiless(200))]
        yield [Request("options", "OPTIONS", "/api/messages", _bodiless(204))]
        for number in range(IN_TURN):
            yield [self._message(f"turn-{number}", f"turn {number}", 202, relayed=True)]
        yield [self._message(f"once-{number}", "x" * number, 202) for number in range(AT_ONCE)]

    def _message(
        self,
        key: str,
        content: str,
        status: int,
        *,
        name: str | None = None,
        hit: bool = False,
        fill: int = 0,
        **how: bool,
    ) -> Request:
        """``fill``: how many bytes the body has, spaces at its end included."""
        body = json.dumps(self._body(key, content))
        pad = max(0, fill - len(body.encode()))
        check = self._accepted(key, status, hit=hit) if status < 400 else _problem(status)
        if status == 202:
            self.contents[key] = content
        path = "/api/messages"
        return Request(name or key, "POST", path, check, body, pad, headers=JSON, **how)

    def _batch(self, name: str, *, pad: int, status: int = 207) -> Request:
        keys = [f"{name}-{number}" for number in range(3)]
        body = json.dumps([self._body(key, name) for key in keys])

        def accepted(answer: Answer) -> None:
            assert answer.status == status, answer
            results = answer.json()
            assert [result["messageId"] for result in results] == [self._id(key) for key in keys]

        if status == 207:
            self.contents.update(dict.fromkeys(keys, name))
        check = accepted if status == 207 else _problem(status)
        return Request(name, "POST", "/api/messages:batch", check, body, pad, headers=JSON)

    def _get(self, key: str, content: str) -> Request:
        def found(answer: Answer) -> None:
            assert answer.status == 200, answer
            assert answer.json()["content"] == content
            assert answer.json()["messageId"] == self._id(key)

        return Request(f"get-{key}", "GET", f"/api/messages/{self._id(key)}", found)

    def _accepted(self, key: str, status: int, *, hit: bool) -> Check:
        def check(answer: Answer) -> None:
            assert answer.status == status, answer
            assert answer.type == "application/json"
            assert answer.json()["messageId"] == self._id(key)
            assert answer.json()["idempotentHit"] is hit

        return check

    def _body(self, key: str, content: str) -> dict[str, Any]:
        return {
            "conversationId": self.conversation,
            "senderId": self.sender,
            "clientMessageId": key,
            "content": content,
            "contentType": "text",
        }

    def _id(self, key: str) -> str:
        whole = idempotency_key(self.sender, self.conversation, key)
        return message_id(whole, self.conversation)

    def check(self, answers: Sequence[Answer]) -> None:
        """Fail unless each request has its one answer, the right one."""
        given = {answer.name: answer for answer in answers}
        requests = list(itertools.chain.from_iterable(self.waves))
        assert sorted(a.name for a in answers) == sorted(r.name for r in requests)
        wrong = []
        for request in requests:
            answer = given[request.name]
            try:
                assert answer.error is None, answer
                request.check(answer)
            except (AssertionError, KeyError, ValueError) as error:
                wrong.append(f"{request.name}: {error!r}"[:600])
        assert not wrong, "\n".join(wrong)

    async def check_rows(self, pool: Pool) -> None:
        """Fail unless each accepted message becomes exactly one row, with its content."""

        async def all_there() -> bool:
            rows = await pool.fetch(
                "SELECT idempotency_key, content FROM messages WHERE sender_id = $1", self.sender
            )
            found = sorted((row["idempotency_key"], row["content"]) for row in rows)
            assert found == self._rows(), f"{len(found)} rows"
            return True

        await eventually(all_there)

    def _rows(self) -> list[tuple[str, str]]:
        return sorted(
            (idempotency_key(self.sender, self.conversation, key), content)
            for key, content in self.contents.items()
        )


async def talk(
    command: Sequence[str], contract: Contract, *, url: str, relay: str | None = None
) -> list[Answer]:
    """Run a client program against ``url``; ``relay`` is another way to the same service."""
    lines = [
        json.dumps([request.given(relay or url if request.relayed else url) for request in wave])
        for wave in contract.waves
    ]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        given = "".join(f"{line}\n" for line in lines).encode()
        out, err = await asyncio.wait_for(process.communicate(given), _PATIENCE)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 0, err.decode()
    return [Answer(**json.loads(line)) for line in out.decode().splitlines()]


def _problem(status: int) -> Check:
    def check(answer: Answer) -> None:
        assert answer.status == status, answer
        assert answer.type == "application/problem+json", answer
        assert answer.json()["status"] == status
        assert answer.json()["title"]

    return check


def _bodiless(status: int) -> Check:
    def check(answer: Answer) -> None:
        assert answer.status == status, answer
        assert answer.body == ""

    return check

"""curl, with the options that change how it talks."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from typing import NamedTuple

import pytest

from tests.hostile.clients.conftest import Served
from tests.support.eventually import eventually
from tests.support.requirements import program

_JSON = ("-H", "Content-Type: application/json")
_numbers = itertools.count(1)


class Result(NamedTuple):
    """How a run of curl ended: exit status (22 and so on), standard output and error."""

    code: int
    out: str
    err: str

    @property
    def status(self) -> int:
        """The HTTP status, which stands in the last line."""
        return int(self.out.rsplit("\n", 1)[1])

    @property
    def answer(self) -> dict:
        return json.loads(self.out.rsplit("\n", 1)[0])


async def _curl(*arguments: str, given: bytes = b"") -> Result:
    """Run it, as a script would: quietly, and it must end within 20 s."""
    process = await asyncio.create_subprocess_exec(
        program("curl", package="curl"), "-sS", "-w", "\n%{http_code}", "-m", "20", *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(given)
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())


def _body(key: str) -> str:
    return json.dumps(
        {
            "conversationId": "curl",
            "senderId": "curl",
            "clientMessageId": key,
            "content": "from curl",
            "contentType": "text",
        }
    )


async def _one_row(served: Served, key: str) -> None:
    async def there() -> bool:
        rows = await served.pool.fetch(
            "SELECT content FROM messages WHERE idempotency_key = $1", f"curl:curl:{key}"
        )
        return [row["content"] for row in rows] == ["from curl"]

    await eventually(there)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--http1.0"],
        ["--http1.1"],
        ["--http2"],  # asks for an upgrade, and goes on without one
        ["--compressed"],
        ["--tr-encoding"],
        ["-H", "Transfer-Encoding: chunked"],
        ["-H", "Expect: 100-continue", "--expect100-timeout", "60"],
        ["-H", "Connection: close"],
        ["--no-keepalive", "--tcp-nodelay"],
    ],
    ids=lambda options: " ".join(options) or "plain",
)
async def test_a_message_is_accepted_and_a_repeat_recognized(
    served: Served, options: list[str]
) -> None:
    key = f"options-{next(_numbers)}"
    command = [*options, *_JSON, "--data-binary", _body(key), f"{served.url}/api/messages"]
    first, repeat = await _curl(*command), await _curl(*command)
    assert (first.code, first.status) == (0, 202), first
    assert (repeat.code, repeat.status) == (0, 200), repeat
    assert repeat.answer["messageId"] == first.answer["messageId"]
    await _one_row(served, key)


async def test_an_upload_from_standard_input_is_accepted(served: Served) -> None:
    key = "upload"
    sent = ["-X", "POST", "-T", "-", *_JSON, f"{served.url}/api/messages"]
    result = await _curl(*sent, given=_body(key).encode())
    assert (result.code, result.status) == (0, 202), result
    await _one_row(served, key)


async def test_several_messages_go_over_one_connection(served: Served) -> None:
    keys = [f"next-{number}" for number in range(5)]
    each = [[*_JSON, "-d", _body(key), f"{served.url}/api/messages"] for key in keys]
    command = ["-v", *each[0]]
    for arguments in each[1:]:
        command += ["--next", "-sS", "-v", "-w", "\n%{http_code}", *arguments]
    result = await _curl(*command)
    assert result.code == 0, result
    assert result.err.count("< HTTP/1.1 202") == 5
    assert result.err.count("Connected to") == 1
    assert result.err.count("Re-using existing connection") == 4
    for key in keys:
        await _one_row(served, key)


async def test_http_2_by_prior_knowledge_is_refused_at_once(served: Served) -> None:
    """Only HTTP/1.1 is spoken here; a proxy in front may speak HTTP/2 (docs/proxies.md)."""
    result = await _curl("-v", "--http2-prior-knowledge", f"{served.url}/healthz")
    assert result.code != 0
    assert "GOAWAY, error=13," in result.err  # HTTP_1_1_REQUIRED


async def test_a_compressed_body_is_taken(served: Served) -> None:
    key = f"gzip-{next(_numbers)}"
    sent = [*_JSON, "-H", "Content-Encoding: gzip", "--data-binary", "@-"]
    body = gzip.compress(_body(key).encode())
    result = await _curl(*sent, f"{served.url}/api/messages", given=body)
    assert (result.code, result.status) == (0, 202), result
    await _one_row(served, key)

"""What is drawn of parity comes from a connection that dies many times in a rehearsal."""

from __future__ import annotations

import asyncpg
import pytest

from lab.rehearsal.parity_watch import Parity, ParityWatch


class _Connection:
    """Answers what is left, one after the other; raises what is an error."""

    def __init__(self, *answers: str | Exception | None) -> None:
        self.answers = list(answers)
        self.terminated = False

    async def fetchval(self, _: str) -> str | None:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def terminate(self) -> None:
        self.terminated = True


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        asyncpg.InterfaceError("closed"),
        asyncpg.CannotConnectNowError("starting up"),
        asyncpg.InternalClientError("another operation is in progress"),  # seen after a SIGSTOP
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_kills_its_connection_it_looks_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    counts = '{"matched": 7, "missing_in_shadow": 2, "not_yet_comparable": 3}'
    broken, whole = _Connection(error), _Connection(None, counts)
    connections = [broken, whole]

    async def connect(_: str) -> _Connection:
        return connections.pop(0)

    monkeypatch.setattr(asyncpg, "connect", connect)
    watch = ParityWatch("postgresql:///nowhere")
    assert await watch.look() is None
    assert broken.terminated
    assert await watch.look() is None, "nobody compares"
    assert await watch.look() == Parity(differing=2, waiting=3)

"""Errors of the client come through a pool of processes, and can be copied."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crossfade import (
    BatchLimits,
    CrossfadeError,
    DeadLetteredError,
    InvalidRequestError,
    Message,
    NewMessage,
    NotSentError,
    ProblemError,
    Retry,
    UnauthenticatedError,
    UnexpectedAnswerError,
    UnreachableError,
    WaitTimeoutError,
)

from .conftest import API_KEY, Make, Site

_PROGRAM = """
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from crossfade import Client, InvalidRequestError, NewMessage

def send(url, sender):
    with Client(url) as client:
        return client.send(NewMessage(sys.argv[2], sender, "by a pool")).state

if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=get_context(sys.argv[3])) as pool:
        try:
            pool.submit(send, sys.argv[1], "").result()
        except InvalidRequestError as error:
            print(error.field, error.attempts)
        print(pool.submit(send, sys.argv[1], "alice").result())
"""


@pytest.mark.parametrize("way", ["spawn", "forkserver"])
async def test_an_error_comes_back_from_a_process_of_a_pool(
    way: str, site: Site, conversation: str, tmp_path: Path
) -> None:
    path = tmp_path / "program.py"
    path.write_text(_PROGRAM, "utf-8")
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *(str(path), site.url, conversation, way),
        env={"CROSSFADE_API_KEY": API_KEY, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        said, errors = await program.communicate()
    assert program.returncode == 0, errors.decode()
    assert said.decode().splitlines() == ["senderId 1", "pending"]
    assert await site.rows(conversation, 1) == ["by a pool"]


@pytest.mark.parametrize(
    "again",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
async def test_an_error_is_the_same_when_it_is_made_again(
    again: Callable[[CrossfadeError], CrossfadeError], make: Make, site: Site
) -> None:
    raised = [
        await _error((await make()).send(NewMessage("", "alice", "x"))),
        await _error((await make()).wait("00000000-0000-8000-8000-000000000001", timeout=0.1)),
        await _error((await make("http://127.0.0.1:1", retry=Retry(attempts=1))).message("x")),
        UnexpectedAnswerError("text/html: '<h1>Log in</h1>'", 200),
        DeadLetteredError(Message("m", "dead_lettered")),
    ]
    kinds = [type(error) for error in raised]
    assert kinds[:3] == [InvalidRequestError, WaitTimeoutError, UnreachableError]
    for error in raised:
        made = again(error)
        assert type(made) is type(error)
        assert (str(made), made.args, vars(made)) == (str(error), error.args, vars(error))
        assert made.remedy
    client = await make(api_key="cf_unknown", batch_limits=BatchLimits(items=1))
    results = await client.send_batch([NewMessage("c", "alice", "x") for _ in range(2)])
    left_out = again(results[1].error)
    assert isinstance(left_out, NotSentError)
    assert isinstance(left_out.__cause__, UnauthenticatedError)
    assert isinstance(left_out.__cause__, ProblemError)
    assert left_out.__cause__.status == 401


async def _error(call: object) -> CrossfadeError:
    with pytest.raises(CrossfadeError) as raised:
        await call  # type: ignore[misc]
    return raised.value

"""A process that is forked after its client was used shares no connection with its parent."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from .conftest import API_KEY, Site

_IN_THREADS = """
from crossfade import Client as Made
from httpx import Client as Http

def run(send, *message): return send(*message)
"""
_IN_COROUTINES = """
import asyncio
from crossfade import AsyncClient as Made
from httpx import AsyncClient as Http

loops = {}

def run(send, *message):
    loop = loops.setdefault(os.getpid(), asyncio.new_event_loop())
    return loop.run_until_complete(send(*message))
"""
# The child's request is held back while the parent sends another.
_PROGRAM = """
from crossfade import NewMessage, Retry

options = {"retry": Retry(attempts=1), "timeout": 20}
client = Made(sys.argv[1], **options)
given = Made(sys.argv[1], http=Http(), **options)

def send(by, content):
    ack = run(by.send, NewMessage(sys.argv[2], "forks", content, client_message_id=content))
    print(content, ack.message_id, flush=True)

send(client, "before")
send(given, "given")
child = os.fork()
send(client, "of the child" if child == 0 else sys.stdin.readline().strip())
if child == 0:
    try:
        send(given, "never")
    except RuntimeError as error:
        print(error, flush=True)
else:
    os.waitpid(child, 0)
    send(given, "after")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("way", [_IN_THREADS, _IN_COROUTINES], ids=["sync", "async"])
async def test_parent_and_child_have_connections_of_their_own(
    way: str, site: Site, conversation: str
) -> None:
    site.front.hold(b"of the child")
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", f"import os, sys\n{way}{_PROGRAM}", site.url, conversation),
        env={"CROSSFADE_API_KEY": API_KEY, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        await site.front.held.wait()
        assert program.stdin is not None
        program.stdin.write(b"of the parent\n")
        assert program.stdout is not None
        said = [await program.stdout.readline() for _ in range(3)]
        site.front.release()
        rest, errors = await program.communicate()
    assert program.returncode == 0, errors.decode()
    lines = [*(line.decode().strip() for line in said), *rest.decode().splitlines()]
    names = [line.rsplit(" ", 1)[0] for line in lines]
    assert names[:4] == ["before", "given", "of the parent", "of the child"]
    assert "make a new one after the fork" in lines[4]
    assert names[5:] == ["after"]
    contents = await site.rows(conversation, 5)
    assert sorted(contents) == sorted([*names[:4], "after"])
    assert len({line.rsplit(" ", 1)[1] for line in lines if line != lines[4]}) == 5


_UNUSED = """
import os
import httpx
from crossfade_client.connection import LIMITS, HttpClient

made, given = HttpClient(httpx.Client, LIMITS, None), httpx.Client()
mine = HttpClient(httpx.Client, LIMITS, given)
before = made.latest
child = os.fork()
print(made.here() is before, mine.here() is given, flush=True)
if child:
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
async def test_a_child_takes_no_httpx_client_that_its_parent_made() -> None:
    """One that was not used, too: gevent's workers replace the locks of Python after the fork."""
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", _UNUSED),
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await program.communicate()
    assert program.returncode == 0
    assert sorted(said.decode().splitlines()) == ["False True", "True True"]

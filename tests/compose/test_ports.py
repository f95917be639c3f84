"""Ports that are promised before they are bound, to several processes at once."""

from __future__ import annotations

import asyncio
import sys

import pytest

from compose.local import ports
from compose.process.listening_socket import bind
from transport.errors import ConfigurationError

# Nothing else of ours chooses these; what was promised stays promised to this process.
FEW, OTHERS = range(19_000, 19_040), range(19_040, 19_080)
CHILD = f"""
from compose.local import ports
print(*(ports.free_port({FEW!r}) for _ in range(20)), flush=True)
input()
"""


async def test_no_two_processes_are_promised_one_port_while_both_live() -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    theirs = {int(word) for word in (await child.stdout.readline()).split()}
    assert len(theirs) == 20
    ours: set[int] = set()
    while (port := ports.free_port(FEW)) in FEW:
        assert port not in theirs
        ours.add(port)
        if len(ours) > len(FEW) - 25:  # random draws: not to the last one
            break
    await child.communicate(b"\n")
    again = {port for port in (ports.free_port(FEW) for _ in range(200)) if port in FEW}
    assert again & theirs, "what a process was promised is free when it has ended"
    assert not again & ours


async def test_the_same_process_is_not_promised_a_port_twice() -> None:
    found = [ports.free_port(OTHERS) for _ in range(30)]
    assert len(set(found)) == 30


def test_an_ipv6_address_is_written_without_brackets() -> None:
    with pytest.raises(ConfigurationError, match="write it without brackets"):
        bind("[::1]", 0)

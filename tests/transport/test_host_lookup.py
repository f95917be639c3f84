"""Look-ups of host names with a name server that is silent or slow, in a network of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.own_etc import printed_with

_RESOLVER = "nameserver 127.0.0.53\noptions timeout:3 attempts:2\n"
_BEGIN = """
import asyncio, fcntl, socket, struct, threading
from compose.loop import new_event_loop
from transport.addresses import connected_socket

UP, FLAGS, NOERROR = 0x1, 0x8914, b"\\x81\\x80"
controls = socket.socket()
fcntl.ioctl(controls, FLAGS, struct.pack("16sh", b"lo", UP))
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.53", 53))
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]

def answer(question, client):
    names, number = question[12:].split(b"\\0", 1)
    record = b"\\xc0\\x0c" + struct.pack("!HHIH4s", 1, 1, 0, 4, socket.inet_aton("127.0.0.1"))
    is_a = number[:2] == b"\\0\\1"
    head = question[:2] + NOERROR + struct.pack("!HHHH", 1, is_a, 0, 0)
    server.sendto(head + names + b"\\0" + number[:4] + is_a * record, client)

def run(tried, *, loop):
    with asyncio.Runner(loop_factory=loop) as runner:
        print(runner.run(tried()))
"""
_SILENT = """
async def tried():
    silent = [asyncio.create_task(connected_socket(f"{n}.silent", port)) for n in range(40)]
    await asyncio.sleep(0.2)
    for one in silent:  # uvloop and asyncio go on with their look-ups
        one.cancel()
    async with asyncio.timeout(3):
        (await connected_socket("known.test", port)).close()
    return "connected"
"""
_UNANSWERED = """
async def tried():
    try:
        await asyncio.wait_for(connected_socket("unanswered.test", port), 5)
    except OSError as error:
        return repr(error.strerror)
"""
_SLOW = """
def serve():
    while True:
        late = threading.Timer(2.0, answer, server.recvfrom(512))
        late.daemon = True
        late.start()

async def tried():
    threading.Thread(target=serve, daemon=True).start()
    for _ in range(5):
        try:
            async with asyncio.timeout(1.5):
                (await connected_socket("slow.test", port)).close()
        except TimeoutError:
            continue
        return "connected"
    return "never"
"""


async def _printed(folder: Path, script: str, loop: str) -> str:
    etc = {"hosts": "127.0.0.1 localhost known.test\n", "resolv.conf": _RESOLVER}
    whole = f"{_BEGIN}{script}\nrun(tried, loop={loop})"
    return (await printed_with(etc, whole, folder=folder, own_network=True)).decode().strip()


_LOOPS = pytest.mark.parametrize("loop", ["new_event_loop", "asyncio.new_event_loop"])


@_LOOPS
async def test_names_without_an_answer_delay_no_other_name(loop: str, tmp_path: Path) -> None:
    """A second log's name that no server answers for must not cost the first its connections."""
    assert await _printed(tmp_path, _SILENT, loop) == "connected"


@_LOOPS
async def test_an_answer_after_the_time_limit_is_used_by_a_later_attempt(
    loop: str, tmp_path: Path
) -> None:
    """Where the first name server of three is down, each look-up takes five seconds."""
    assert await _printed(tmp_path, _SLOW, loop) == "connected"


async def test_an_error_says_that_no_name_server_answered(tmp_path: Path) -> None:
    """Time limits of connections end later, and say that the server takes none."""
    printed = await _printed(tmp_path, _UNANSWERED, "new_event_loop")
    assert "no name server answered for 'unanswered.test'" in printed

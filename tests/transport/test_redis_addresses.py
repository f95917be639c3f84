"""A name with several addresses, of which one does not answer."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from compose.local.ports import free_port
from compose.local.valkey import ValkeyServer
from tests.support.requirements import absent, program

_ASK = """
import socket, sys
import uvloop
from transport.redis.client.connections import RedisConnections
from transport.settings import TransportSettings

async def main(port):
    found = [it[4][0] for it in socket.getaddrinfo("two.test", port, type=socket.SOCK_STREAM)]
    assert found == ["127.0.0.1", "127.0.0.2"], found
    connections = RedisConnections(TransportSettings(redis_host="two.test", redis_port=port))
    for _ in range(2):
        print(await connections.call("PING"))
    await connections.close()

uvloop.run(main(int(sys.argv[1])))
"""


@contextmanager
def _silent(port: int) -> Iterator[None]:
    """Have a port of 127.0.0.1 drop what wants to connect, as a machine that is gone does."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", port))
        listening.listen(0)
        for _ in range(3):  # as many as wait to be accepted, and more
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield


async def test_an_address_that_hangs_does_not_hide_the_other(
    own_redis: ValkeyServer, tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n127.0.0.1 two.test\n127.0.0.2 two.test\n")
    port = free_port()
    unshare = program("unshare", package="util-linux")
    script = 'mount --bind "$1" /etc/hosts && exec "$2" -c "$3" "$4"'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to_them = await asyncio.open_connection(own_redis.host, own_redis.port)
        await asyncio.gather(_pass(reader, to_them), _pass(theirs, writer))

    with _silent(port):
        async with await asyncio.start_server(serve, "127.0.0.2", port):
            asked = await asyncio.create_subprocess_exec(
                *(unshare, "--mount", "--map-root-user", "sh", "-c", script, "sh", str(hosts)),
                *(sys.executable, _ASK, str(port)),
                cwd=Path(__file__).parents[2],
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await asyncio.wait_for(asked.communicate(), 60)
    if b"unshare:" in output or b"mount:" in output:
        absent(f"mounts of our own: {output.decode()}")
    assert output == b"b'PONG'\nb'PONG'\n"


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()

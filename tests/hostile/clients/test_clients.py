"""Clients of many languages, as they come: each sends the same requests and gets its answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.hostile.clients.conftest import GoClient, Served
from tests.hostile.clients.contract import IN_TURN, Contract, talk
from tests.hostile.clients.java_programs import JavaPrograms
from tests.support.fault_proxy import FaultProxy
from tests.support.requirements import program

PROGRAMS = Path(__file__).with_name("programs")


class Client(NamedTuple):
    """A client program.

    ``connections``: the most that it may use for requests one after the other. ``without``:
    requests that the client itself refuses to send.
    """

    name: str
    connections: int = 1
    without: tuple[str, ...] = ()


PYTHON = [
    Client("with_requests"),
    Client("with_httpx"),
    Client("with_httpx_async"),
    Client("with_aiohttp"),
    Client("with_urllib", connections=IN_TURN),
]
NODE = [
    # Its pool may open another connection while the first is just being handed back to it.
    Client("fetch", connections=3, without=("expect", "expect-too-large")),
    Client("node_http"),
]

JAVA = [
    # Java 17 waits for ever when the answer to Expect is not 100 (JDK-8286171, mended in 20), and
    # HttpURLConnection gives its status, but not its body.
    Client("JdkHttpClient", without=("expect-too-large",)),
    Client("UrlConnection", without=("expect-too-large",)),
    Client("ApacheClient"),
    Client("OkHttp"),
]


async def _holds(served: Served, client: Client, command: list[str]) -> None:
    """Run the program and check its answers, its connections and its rows."""
    contract = Contract(client.name, without=client.without)
    async with FaultProxy("127.0.0.1", served.port) as relay:
        answers = await talk(
            command, contract, url=served.url, relay=f"http://127.0.0.1:{relay.port}"
        )
        connections = relay.connections
    contract.check(answers)
    assert 1 <= connections <= client.connections
    await contract.check_rows(served.pool)


@pytest.mark.parametrize("client", PYTHON, ids=lambda client: client.name)
async def test_a_python_client_gets_its_answers(served: Served, client: Client) -> None:
    await _holds(served, client, [sys.executable, str(PROGRAMS / f"{client.name}.py")])


@pytest.mark.parametrize("client", NODE, ids=lambda client: client.name)
async def test_a_node_client_gets_its_answers(served: Served, client: Client) -> None:
    node = program("node", package="nodejs")
    await _holds(served, client, [node, str(PROGRAMS / f"{client.name}.mjs")])


async def test_go_gets_its_answers(served: Served, go_client: GoClient) -> None:
    await _holds(served, Client("go"), go_client.command())


@pytest.mark.parametrize("client", JAVA, ids=lambda client: client.name)
async def test_a_java_client_gets_its_answers(
    served: Served, java: JavaPrograms, client: Client
) -> None:
    await _holds(served, client, java.command(client.name))

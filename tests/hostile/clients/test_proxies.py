"""The same clients through nginx and HAProxy, in every way that those talk to what is behind them.

``documented`` is the page's configuration; the others are what nginx does when told nothing else.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.hostile.clients.conftest import GoClient, Served
from tests.hostile.clients.contract import Contract, talk
from tests.hostile.clients.java_programs import JavaPrograms
from tests.hostile.clients.proxies import Proxy, documented
from tests.support.fault_proxy import FaultProxy
from tests.support.requirements import program

PROGRAMS = Path(__file__).with_name("programs")
_PLAIN_NGINX = """\
server {
    listen 8080;
    client_max_body_size 17m;
    location / { proxy_pass http://127.0.0.1:3000; }
}
"""
CONFIGURATIONS = {
    "nginx-documented": lambda: documented("nginx"),
    "nginx-plain": lambda: _PLAIN_NGINX,  # HTTP/1.0, a connection for each request
    "nginx-unbuffered": lambda: documented("nginx").replace(
        "server {", "server { proxy_request_buffering off;", 1
    ),
    "nginx-h2c": lambda: documented("nginx").replace("listen 8080;", "listen 8080 http2;"),
    "haproxy-documented": lambda: documented("haproxy"),
}
# Without buffering, nginx answers with our refusal before it has read the body, says nothing of
# closing, and closes: the next request of the client finds its connection gone.
_REFUSED = (
    "too-large-batch",
    "too-large",
    "far-too-large",
    "chunked-too-large",
    "expect-too-large",
)
# Over HTTP/2, nginx never sends the 100 for which OkHttp waits.
_EXPECTING = ("expect", "expect-too-large")
RunProxy = Callable[..., Awaitable[Proxy]]


@pytest_asyncio.fixture(scope="module")
async def run_proxy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunProxy]:
    """Return the running proxy of a configuration; each is started once."""
    running: dict[str, Proxy] = {}
    async with AsyncExitStack() as stack:

        async def run(name: str, *upstreams: int) -> Proxy:
            key = f"{name}-{upstreams}"
            if key not in running:
                kind = name.partition("-")[0]
                proxy = Proxy(
                    kind, tmp_path_factory.mktemp(name), CONFIGURATIONS[name](), *upstreams
                )
                running[key] = await stack.enter_async_context(proxy)
            return running[key]

        yield run


async def _holds(
    served: Served, name: str, proxy: Proxy, command: list[str], without: Sequence[str] = ()
) -> None:
    contract = Contract(name, without=without)
    contract.check(await talk(command, contract, url=proxy.url))
    await contract.check_rows(served.pool)


HTTP_1 = [name for name in CONFIGURATIONS if "h2c" not in name]
HTTP_2 = ["nginx-h2c", "haproxy-documented"]


@pytest.mark.parametrize("name", HTTP_1)
@pytest.mark.parametrize("client", ["with_requests", "node_http", "go", "java"])
async def test_a_client_gets_its_answers_through_a_proxy(
    served: Served,
    run_proxy: RunProxy,
    request: pytest.FixtureRequest,
    name: str,
    client: str,
) -> None:
    proxy = await run_proxy(name, served.port)
    if client == "go":
        command = request.getfixturevalue("go_client").command()
    elif client == "java":
        command = request.getfixturevalue("java").command("ApacheClient")
    elif client.startswith("with_"):
        command = [sys.executable, str(PROGRAMS / f"{client}.py")]
    else:
        command = [program("node", package="nodejs"), str(PROGRAMS / f"{client}.mjs")]
    without = _REFUSED if name == "nginx-unbuffered" else ()
    await _holds(served, f"{client}-{name}", proxy, command, without)


@pytest.mark.parametrize("name", HTTP_1)
async def test_a_compressed_body_goes_through_a_proxy(
    served: Served, run_proxy: RunProxy, name: str
) -> None:
    proxy = await run_proxy(name, served.port)
    content = "compressed " * 5_000
    one = {
        "conversationId": f"gzip-{name}",
        "senderId": "gzip",
        "clientMessageId": "one",
        "content": content,
    }
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with httpx.AsyncClient() as client:
        for body, path, status in (
            (one, "messages", 202),
            ([one], "messages:batch", 207),
        ):
            answer = await client.post(
                f"{proxy.url}/api/{path}",
                content=gzip.compress(json.dumps(body).encode()),
                headers=headers,
            )
            assert answer.status_code == status, answer.text


@pytest.mark.parametrize("name", ["nginx-documented", "haproxy-documented"])
async def test_readiness_is_for_the_inside(served: Served, run_proxy: RunProxy, name: str) -> None:
    """It names servers with their addresses, and needs no key."""
    proxy = await run_proxy(name, served.port)
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{served.port}/readyz")).status_code == 200
        assert (await client.get(f"{proxy.url}/healthz")).status_code == 200
        for path in ("/readyz", "/readyz?a=b", "/%72eadyz"):
            answer = await client.get(proxy.url + path)
            assert answer.status_code == 403, answer.text


@pytest.mark.parametrize("name", HTTP_2)
async def test_go_gets_its_answers_over_http_2(
    served: Served, run_proxy: RunProxy, go_client: GoClient, name: str
) -> None:
    proxy = await run_proxy(name, served.port)
    await _holds(served, f"go-h2c-{name}", proxy, go_client.command("-h2c"))


@pytest.mark.parametrize("name", HTTP_2)
async def test_okhttp_gets_its_answers_over_http_2(
    served: Served, run_proxy: RunProxy, java: JavaPrograms, name: str
) -> None:
    proxy = await run_proxy(name, served.port)
    without = _EXPECTING if name.startswith("nginx") else ()
    await _holds(served, f"okhttp-h2c-{name}", proxy, java.command("OkHttp", "h2c"), without)


@pytest.mark.parametrize("name", ["nginx-documented", "haproxy-documented"])
async def test_a_proxy_uses_its_connections_again(
    served: Served, run_proxy: RunProxy, name: str
) -> None:
    async with FaultProxy("127.0.0.1", served.port) as relay:
        proxy = await run_proxy(name, relay.port)
        async with httpx.AsyncClient(base_url=proxy.url) as client:
            before = relay.connections
            for _ in range(30):
                assert (await client.get("/healthz")).status_code == 200
            # On a busy machine one may be idle for so long meanwhile that its end closes it.
            assert relay.connections - before <= 5


async def test_a_host_that_only_the_proxy_knows_is_refused_with_the_remedy(
    served: Served, tmp_path: Path
) -> None:
    """Nginx sends the name of its upstream where it is told nothing else."""
    without = documented("nginx").replace("proxy_set_header Host $http_host;", "")
    async with (
        Proxy("nginx", tmp_path, without, served.port) as nginx,
        httpx.AsyncClient(base_url=nginx.url) as client,
    ):
        answer = await client.get("/api/messages/00000000-0000-8000-8000-000000000000")
    assert answer.status_code == 421
    assert "INGRESS_ALLOWED_HOSTS" in answer.json()["detail"]

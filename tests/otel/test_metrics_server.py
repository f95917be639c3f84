"""What a scraper gets."""

from __future__ import annotations

import asyncio
import resource
import socket
import time

import httpx
import pytest

from compose.local.ports import free_port
from otel.metrics import Metrics
from otel.metrics_server import serve
from otel.runtime import LoopDelay, observe_process
from persistence.metrics import PersistenceMetrics
from tests.support.eventually import eventually
from transport.errors import ConfigurationError

_OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


async def _get(url: str, headers: dict[str, str] | None = None) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(url, headers=headers)


async def test_text_by_default_and_openmetrics_with_exemplars_when_asked(metrics: Metrics):
    metrics.of(PersistenceMetrics).processing.observe(
        0.01, trace_id="4bf92f3577b34da6a3ce929d0e0e4736"
    )
    with serve(metrics, "127.0.0.1", free_port()) as server:
        plain = await _get(server.url)
        rich = await _get(server.url, _OPENMETRICS)
    assert plain.headers["content-type"].startswith("text/plain")
    assert 'stream_dead_letter_total{reason="rejected"} 0.0' in plain.text
    assert "_created" not in plain.text
    assert rich.headers["content-type"].startswith("application/openmetrics-text")
    assert '# {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"}' in rich.text


async def test_a_version_that_is_none_gets_the_usual_text(metrics: Metrics):
    with serve(metrics, "127.0.0.1", free_port()) as server:
        answer = await _get(server.url, {"Accept": "application/openmetrics-text; version=new"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")


async def test_a_taken_port_moves_on_to_the_next_free_one(metrics: Metrics):
    with (
        serve(metrics, "127.0.0.1", free_port()) as first,
        serve(metrics, "127.0.0.1", first.port) as second,
    ):
        assert second.port > first.port
        assert (await _get(second.url)).status_code == 200
    with serve(metrics, "127.0.0.1", first.port) as again:  # close() frees the port
        assert again.port == first.port


@pytest.mark.parametrize("host", ["nowhere.invalid", "[::1]", "192.0.2.1"])
def test_an_address_that_is_not_ours_is_told_in_one_line(metrics: Metrics, host: str):
    with pytest.raises(ConfigurationError) as refused:
        serve(metrics, host, 9090)
    assert f"METRICS_HOST={host}" in str(refused.value)
    assert "give an address of this machine" in str(refused.value)


def test_without_descriptors_it_waits_and_does_not_spin(metrics: Metrics):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serve(metrics, "127.0.0.1", free_port()) as server, socket.socket() as client:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
            client.connect(("127.0.0.1", server.port))
            began = time.process_time()
            time.sleep(1)
            assert time.process_time() - began < 0.4
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.0 200 OK")


async def test_the_process_and_the_delay_of_its_loop_are_observed(metrics: Metrics):
    observe_process(metrics)
    stop = asyncio.Event()
    running = asyncio.create_task(LoopDelay(metrics).run(stop))
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251 - a stall is what is to be seen

    def delay() -> float:
        return metrics.registry.get_sample_value("process_event_loop_delay_seconds") or 0.0

    await eventually(lambda: delay() > 0.15)
    stop.set()
    await running
    assert metrics.registry.get_sample_value("process_resident_memory_bytes")


def test_what_python_keeps_is_counted(metrics: Metrics):
    observe_process(metrics)

    def count() -> float:
        return metrics.registry.get_sample_value("python_allocated_blocks") or 0.0

    before = count()
    kept = [str(number) for number in range(50_000)]
    assert 45_000 < count() - before < 60_000
    kept.clear()
    assert abs(count() - before) < 5_000

"""Of thousands of requests that come together, few begin in a turn, and none waits for long."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from ingress.accept.run_queue import RunQueue
from tests.ingress.conftest import message
from tests.support.eventually import eventually

_TOGETHER = 300


class _Request:
    def __init__(self, number: int, seen: list[tuple[str, int]]) -> None:
        self.since = 0.0
        self._number, self._seen = number, seen

    def run(self) -> None:
        self._seen.append(("run", self._number))

    def shed(self, waited: float) -> None:
        self._seen.append(("shed", self._number))


async def test_what_is_under_way_has_a_turn_between_those_that_begin():
    queue, seen = RunQueue(per_turn=10), list[tuple[str, int]]()
    for number in range(95):
        queue.enter(_Request(number, seen))
    begun = []
    while len(seen) < 95:
        begun.append(len(seen))
        await asyncio.sleep(0)
    assert begun == list(range(10, 100, 10))
    assert seen == [("run", number) for number in range(95)]  # in their order: it is a short wait


async def test_in_a_long_line_the_newest_begins_first_and_the_oldest_is_refused():
    now = 0.0
    queue, seen = RunQueue(per_turn=2, clock=lambda: now), list[tuple[str, int]]()
    for number in range(4):  # two begin, two wait
        queue.enter(_Request(number, seen))
    now = 0.2
    for number in range(4, 7):
        queue.enter(_Request(number, seen))
    await asyncio.sleep(0)
    assert seen == [("run", number) for number in (0, 1, 6, 5)]
    now = 0.6
    await asyncio.sleep(0)
    assert seen[4:] == [("shed", 2), ("shed", 3), ("run", 4)]
    await asyncio.sleep(0)
    assert not len(queue)


@pytest.mark.parametrize("longest", [60.0, 0.0])
async def test_a_request_whose_turn_does_not_come_is_answered_503(start, longest: float) -> None:
    service = await start()
    run_queue = service.app.accept.run_queue
    run_queue.per_turn, run_queue.longest = 1, longest
    statuses, retry = Counter[int](), set[bytes]()

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        waiting.append(writer)
        await ready.wait()
        writer.write(_request(number))
        head = await reader.readuntil(b"\r\n\r\n")
        statuses[int(head.split()[1])] += 1
        retry.update(line for line in head.lower().split(b"\r\n") if b"retry-after" in line)
        writer.close()

    waiting, ready = list[asyncio.StreamWriter](), asyncio.Event()
    clients = [asyncio.create_task(client(number)) for number in range(_TOGETHER)]
    await eventually(lambda: len(waiting) == _TOGETHER)
    ready.set()
    await asyncio.gather(*clients)
    shed = service.metrics.registry.get_sample_value("ingress_shed_total")
    if longest:
        assert (statuses, shed) == ({202: _TOGETHER}, 0)
    else:
        assert set(statuses) == {202, 503}
        assert (shed, retry) == (statuses[503], {b"retry-after: 1"})
    assert await service.records() == statuses[202]


def _request(number: int) -> bytes:

    body = json.dumps(message(number)).encode()
    return (
        b"POST /api/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )

"""What a request allocates is freed when it is answered, not when the collector comes by."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from ingress.accept.submission import Submission, Waiter
from otel.tracing.requests import MessageTrace, RequestTrace
from tests.ingress.conftest import Start, message
from tests.support.spans import Tracing
from transport.contract import Transport

_OURS = (Submission, Waiter, RequestTrace, MessageTrace)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _left() -> Counter[str]:
    return Counter(type(item).__name__ for item in gc.get_objects() if type(item) in _OURS)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("sampled", [False, True])
async def test_an_answered_request_leaves_nothing_to_the_collector(
    log: Transport, launch: Start, eventually, sampled: bool
) -> None:
    tracing = Tracing("redis")
    service = await launch(transport=log, **({"tracing": tracing.on} if sampled else {}))
    for number in range(20):
        assert (await service.post(message(number))).status_code == 202
    assert (await service.post(message(1))).status_code == 200
    assert (await service.post(message(1, content="another"))).status_code == 422
    batch = [message(number) for number in range(30)]
    assert (await service.client.post("/api/messages:batch", json=batch)).status_code == 207
    if sampled:
        await eventually(lambda: tracing.named("POST /api/messages:batch"))
    await eventually(lambda: not _left())

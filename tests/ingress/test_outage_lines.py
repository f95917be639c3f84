"""A server that takes some writes and refuses others is one outage in our log, with one end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from ingress.accept.commit import TickCommitter
from ingress.accept.intake import Intake
from ingress.accept.repeats import Repeats
from ingress.accept.submission import Submission
from ingress.accept.uploads import Uploads
from ingress.schema.requests import RequestLimits
from ingress.settings import IngressSettings
from ingress.web.headers import RequestContext
from otel.metrics import Metrics
from otel.tracing.requests import Trace
from persistence.payloads.store import PayloadStore
from tests.ingress.conftest import Service, message
from tests.ingress.gated_log import GatedLog
from tests.ingress.large_content import large
from tests.payloads.stores import folder_of
from transport.errors import TransportUnavailable
from transport.outage_watch import OutageWatch


def _submissions(*numbers: int, of: Callable[[int], dict[str, Any]] = message) -> list[Any]:
    intake = Intake(RequestLimits.of(IngressSettings()))
    context = RequestContext(None, Trace(None, None))
    bodies = [msgspec.json.encode(of(number)) for number in numbers]
    return [intake.message(body, context, None) for body in bodies]


async def test_appends_that_fail_and_succeed_in_turn_are_two_lines(
    gated: GatedLog, start: Callable[..., Any]
) -> None:
    service: Service = await start(transport=gated)
    now = 0.0
    committer = TickCommitter(
        transport=gated,
        row_lookup=service.app.accept.row_lookup,
        recent=service.app.accept.recent,
        direct=None,
        metrics=Metrics(),
        outages=OutageWatch(lambda: now),
    )
    decided: list[Submission] = []

    async def commit(*numbers: int) -> None:
        await committer.commit(_submissions(*numbers), lambda one, _: decided.append(one))

    with structlog.testing.capture_logs() as lines:
        for turn in range(10):
            gated.fail_with = TransportUnavailable("the broker is away")
            await commit(3 * turn, 3 * turn + 1)
            gated.fail_with = None
            await commit(3 * turn + 2)
            now += 1.0
        now += 10.0
        for number in (40, 41):
            await commit(number)
    assert len(decided) == 32
    begin, end = lines
    assert begin["event"].startswith("Append failed")
    assert (begin["messages"], begin["error"]) == (2, "the broker is away")
    assert end["event"].startswith("Append recovered")
    assert (end["messages"], end["seconds"]) == (20, 9.0)


async def test_uploads_that_fail_and_succeed_in_turn_are_two_lines(
    start: Callable[..., Any], store: PayloadStore
) -> None:
    service: Service = await start(payloads=store)
    accept, metrics, now = service.app.accept, Metrics(), 0.0
    uploads = Uploads(
        store,
        accept.commits,
        Repeats(accept.row_lookup, accept.recent, service.transport, metrics=metrics),
        held_bytes=1 << 20,
        metrics=metrics,
        outages=OutageWatch(lambda: now),
    )
    folder = folder_of(store)
    away = folder.with_name("unmounted")

    async def taken(*numbers: int) -> int:
        return len(await uploads.upload(_submissions(*numbers, of=large)))

    assert await taken(100) == 1
    with structlog.testing.capture_logs() as lines:
        for turn in range(10):
            folder.rename(away)
            assert await taken(3 * turn, 3 * turn + 1) == 0
            away.rename(folder)
            assert await taken(3 * turn + 2) == 1
            now += 1.0
        now += 10.0
        assert await taken(40, 41) == 2
    begin, end = lines
    assert begin["event"].startswith("Upload failed")
    assert "mounted" in begin["error"]
    assert begin["message_id"]
    assert end["event"].startswith("Upload succeeded")
    assert (end["uploads"], end["seconds"]) == (20, 9.0)

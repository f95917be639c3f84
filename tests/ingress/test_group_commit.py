"""Requests share appends, and none can hurt another."""

from __future__ import annotations

import asyncio

import httpx
import msgspec
import pytest

from ingress.accept.intake import Intake
from ingress.accept.submission import Submission
from ingress.metrics import IngressMetrics
from ingress.schema.requests import RequestLimits
from ingress.settings import IngressSettings
from ingress.web.headers import RequestContext
from otel.tracing.requests import Trace
from tests.ingress.conftest import Service, message
from tests.ingress.gated_log import GatedLog
from tests.support.eventually import eventually
from tests.support.metric_values import value_of
from transport.errors import AppendUnknown, TransportError, TransportUnavailable


def _soon(service: Service, *bodies: dict) -> list[asyncio.Task[httpx.Response]]:
    return [asyncio.create_task(service.post(body)) for body in bodies]


def _submission(number: int) -> Submission:
    body = msgspec.json.encode(message(number))
    intake = Intake(RequestLimits.of(IngressSettings()))
    return intake.message(body, RequestContext(None, Trace(None, None)), None)


async def _held(service: Service, count: int) -> None:
    """Wait until ``count`` messages are handed in and not answered."""
    commits = service.app.accept.commits
    await eventually(lambda: commits.held == count)


async def test_requests_that_wait_share_one_append(gated: GatedLog, start) -> None:
    service = await start(transport=gated, ingress_appends_in_flight=1)
    gated.gate.clear()
    first = _soon(service, message(0))
    await eventually(lambda: gated.waiting == 1)
    others = _soon(service, *(message(number) for number in range(1, 30)))
    await _held(service, 30)
    gated.gate.set()
    answers = await asyncio.gather(*first, *others)
    assert {answer.status_code for answer in answers} == {202}
    assert [len(envelopes) for envelopes in gated.published] == [1, 29]


async def test_no_more_appends_are_in_flight_than_are_allowed(gated: GatedLog, start) -> None:
    service = await start(transport=gated, ingress_appends_in_flight=2)
    gated.gate.clear()
    tasks = []
    for number in range(2):
        tasks += _soon(service, message(number))
        await eventually(lambda under_way=number + 1: gated.waiting == under_way)
    tasks += _soon(service, *(message(number) for number in range(2, 5)))
    await _held(service, 5)
    gated.gate.set()
    await asyncio.gather(*tasks)
    # The two were let go at once, so either may end first, even after the third.
    assert sorted(len(envelopes) for envelopes in gated.published) == [1, 1, 3]


async def test_the_metric_says_how_many_wait_for_their_append(gated: GatedLog, start) -> None:
    """Also while no append ends, and once nothing waits any more."""
    service = await start(transport=gated, ingress_appends_in_flight=2)
    commits, metrics = service.app.accept.commits, service.metrics.of(IngressMetrics)
    commits.pace.worthwhile, commits.pace.patience = 8, 0.05
    gated.gate.clear()
    tasks = []
    for number in range(2):
        tasks += _soon(service, message(number))
        await eventually(lambda under_way=number + 1: gated.waiting == under_way)
    tasks += _soon(service, *(message(number) for number in range(2, 5)))
    await _held(service, 5)
    assert value_of(metrics.queue) == 3
    gated.gate.set()
    await asyncio.gather(*tasks)
    assert value_of(metrics.queue) == 0


async def test_a_second_append_waits_for_company(gated: GatedLog, start) -> None:
    service = await start(transport=gated, ingress_appends_in_flight=4)
    commits = service.app.accept.commits
    commits.pace.worthwhile, commits.pace.patience = 8, 60
    gated.gate.clear()
    tasks = _soon(service, message(0))
    await eventually(lambda: gated.waiting == 1)
    tasks += _soon(service, *(message(number) for number in range(1, 8)))
    await _held(service, 8)
    assert gated.waiting == 1
    tasks += _soon(service, message(8))
    await eventually(lambda: gated.waiting == 2)
    gated.gate.set()
    await asyncio.gather(*tasks)
    assert sorted(len(envelopes) for envelopes in gated.published) == [1, 8]


async def test_a_second_append_waits_for_company_no_longer_than_its_patience(
    gated: GatedLog, start
) -> None:
    service = await start(transport=gated, ingress_appends_in_flight=4)
    commits = service.app.accept.commits
    commits.pace.worthwhile, commits.pace.patience = 8, 0.001
    gated.gate.clear()
    tasks = _soon(service, message(0))
    await eventually(lambda: gated.waiting == 1)
    tasks += _soon(service, message(1))
    await eventually(lambda: gated.waiting == 2)
    gated.gate.set()
    await asyncio.gather(*tasks)
    assert sorted(len(envelopes) for envelopes in gated.published) == [1, 1]


@pytest.mark.parametrize(("slots", "appends"), [(2, [20, 20]), (1, [40])])
async def test_many_that_wait_are_halved_if_both_halves_can_be_under_way(
    gated: GatedLog, start, slots: int, appends: list[int]
) -> None:
    service = await start(transport=gated, ingress_appends_in_flight=slots)
    commits = service.app.accept.commits
    commits.pace.worthwhile = 8
    gated.gate.clear()
    answered: list[None] = []
    one_turn = [_submission(number) for number in range(40)]
    for submission in one_turn:
        commits.hand_in((submission,), lambda: answered.append(None))
    await eventually(lambda: gated.waiting == len(appends))
    gated.gate.set()
    await eventually(lambda: len(answered) == 40)
    assert [len(envelopes) for envelopes in gated.published] == appends


async def test_a_request_is_never_halved(gated: GatedLog, start) -> None:
    service = await start(transport=gated, ingress_appends_in_flight=2)
    service.app.accept.commits.pace.worthwhile = 8
    await service.app.accept.commits.submit([_submission(number) for number in range(40)])
    assert [len(envelopes) for envelopes in gated.published] == [40]


@pytest.mark.parametrize("while_in_flight", [True, False])
async def test_a_repeat_on_the_way_gets_the_same_answer(
    gated: GatedLog, start, while_in_flight: bool
) -> None:
    """Both while the first one's append is under way, and in the very same tick."""
    service = await start(transport=gated, ingress_appends_in_flight=1)
    gated.gate.clear()
    if not while_in_flight:
        blocker = _soon(service, message(99, conversationId="other"))
        await eventually(lambda: gated.waiting == 1)
    tasks = _soon(service, message())
    await (eventually(lambda: gated.waiting == 1) if while_in_flight else _held(service, 2))
    tasks += _soon(service, message(), message())
    await _held(service, 3 if while_in_flight else 4)
    gated.gate.set()
    if not while_in_flight:
        await asyncio.gather(*blocker)
    answers = await asyncio.gather(*tasks)
    assert [answer.status_code for answer in answers] == [202, 200, 200]
    first = answers[0].json()
    for answer in answers[1:]:
        assert answer.json() == first | {"idempotentHit": True}
    ids = [envelope.message_id for envelopes in gated.published for envelope in envelopes]
    assert ids.count(first["messageId"]) == 1


async def test_another_body_on_the_way_is_refused(gated: GatedLog, start) -> None:
    service = await start(transport=gated)
    gated.gate.clear()
    tasks = _soon(service, message())
    await eventually(lambda: gated.waiting == 1)
    tasks += _soon(service, message(content="other"))
    await _held(service, 2)
    gated.gate.set()
    first, other = await asyncio.gather(*tasks)
    assert first.status_code == 202
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-conflict")
    assert sum(len(envelopes) for envelopes in gated.published) == 1


async def test_a_follower_is_judged_by_what_stands_not_by_whom_it_followed(
    gated: GatedLog, start
) -> None:
    """The one in front is a conflict itself; the repeat of the true first body is none."""
    first = (await (await start()).post(message())).json()
    service = await start(transport=gated)  # which did not accept the first, so it asks the log
    gated.gate.clear()
    tasks = _soon(service, message(content="other"))
    await eventually(lambda: gated.waiting == 1)
    tasks += _soon(service, message())
    await _held(service, 2)
    gated.gate.set()
    conflict, repeat = await asyncio.gather(*tasks)
    assert conflict.status_code == 422
    assert (repeat.status_code, repeat.json()) == (200, first | {"idempotentHit": True})


@pytest.mark.parametrize("door", ["asgi"])  # the other has no task a request
async def test_a_cancelled_request_loses_nobody(gated: GatedLog, start) -> None:
    """Its own message is appended too: it was handed in, and the client may have to retry."""
    service = await start(transport=gated, ingress_appends_in_flight=1)
    gated.gate.clear()
    tasks = _soon(service, *(message(number) for number in range(3)))
    await _held(service, 3)
    for task in asyncio.all_tasks():
        # The request itself, not the client's end of it.
        if "run_asgi" in repr(task) and not task.done():
            task.cancel()
            break
    gated.gate.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    answered = [outcome.status_code for outcome in done if isinstance(outcome, httpx.Response)]
    assert answered.count(202) == 2
    await eventually(lambda: sum(len(sent) for sent in gated.published) == 3)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (TransportUnavailable("down"), "log-unavailable", "takes no messages now"),
        (AppendUnknown("no reply"), "outcome-unknown", "Retry with the same key"),
        (TransportError("too large for the topic"), "log-unavailable", "refuses the message"),
    ],
)
async def test_a_log_that_fails_is_503_with_retry_after(
    gated: GatedLog, start, error: Exception, kind: str, words: str
) -> None:
    service = await start(transport=gated)
    gated.fail_with = error
    answer = await service.post(message())
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    problem = answer.json()
    assert problem["type"] == f"/problems/{kind}"
    assert words in problem["detail"]
    remedy = (await service.client.get(problem["type"])).json()["remedy"]
    assert "Retry" in remedy
    gated.fail_with = None
    assert (await service.post(message())).status_code == 202


async def test_a_lost_reply_is_unknown_and_the_retry_finds_it(gated: GatedLog, start) -> None:
    service = await start(transport=gated)
    gated.lost_reply = AppendUnknown("the connection was reset")
    assert (await service.post(message())).json()["type"] == "/problems/outcome-unknown"
    gated.lost_reply = None
    retry = await service.post(message())
    assert (retry.status_code, retry.json()["idempotentHit"]) == (200, True)
    assert await service.records() == 1


async def test_whoever_follows_one_that_fails_fails_with_it(gated: GatedLog, start) -> None:
    service = await start(transport=gated)
    gated.gate.clear()
    gated.fail_with = TransportUnavailable("down")
    tasks = _soon(service, message())
    await eventually(lambda: gated.waiting == 1)
    tasks += _soon(service, message(content="other"))
    await _held(service, 2)
    gated.gate.set()
    assert [answer.status_code for answer in await asyncio.gather(*tasks)] == [503, 503]


async def test_a_bug_in_the_commit_answers_500_and_stops_nothing(
    gated: GatedLog, start, caplog
) -> None:
    service = await start(transport=gated)
    gated.fail_with = ZeroDivisionError("a bug")
    answer = await service.post(message())
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal")
    gated.fail_with = None
    assert (await service.post(message())).status_code == 202


async def test_stopping_answers_what_was_handed_in(gated: GatedLog, start) -> None:
    service = await start(transport=gated, ingress_appends_in_flight=1)
    commits = service.app.accept.commits
    gated.gate.clear()
    tasks = _soon(service, message(1), message(2))
    await _held(service, 2)
    closing = asyncio.create_task(commits.close())
    await asyncio.sleep(0)
    refused = await service.post(message(3))
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/log-unavailable")
    assert not closing.done()
    gated.gate.set()
    await closing
    assert [answer.status_code for answer in await asyncio.gather(*tasks)] == [202, 202]


async def test_each_verdict_is_timed_and_each_that_is_our_fault_counted(
    gated: GatedLog, start
) -> None:
    service = await start(transport=gated)

    def value(name: str, **labels: str) -> float | None:
        return service.metrics.registry.get_sample_value(name, labels)

    assert value("ingress_failed_total", problem="log-unavailable") == 0
    assert (await service.post(message(1))).status_code == 202
    assert value("ingress_ack_duration_seconds_count") == 1
    gated.fail_with = TransportUnavailable("down")
    assert (await service.post(message(2))).status_code == 503
    assert (await service.post(message(3))).status_code == 503
    assert value("ingress_failed_total", problem="log-unavailable") == 2
    assert value("ingress_ack_duration_seconds_count") == 3

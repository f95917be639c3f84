"""When the client tries again, told by its core, which does no I/O."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from typing import Any

import httpx
import pytest

from crossfade import (
    Ack,
    CrossfadeError,
    NewMessage,
    NotSentError,
    OutcomeUnknownError,
    Retry,
    UnavailableError,
    UnexpectedAnswerError,
)
from crossfade_client.answers import content_of
from crossfade_client.batches import BatchLimits, sent
from crossfade_client.exchange import Call, Failure, Outcome, Pause, Send, tried
from crossfade_client.operations import Operations
from crossfade_client.reply import Reply
from crossfade_client.retry import RETRIED, retry_after

CALL = Call("POST", "/x", body=b"{}")
PATIENT = Retry(deadline=None)
_LOST = Failure(httpx.ReadError("lost"), sent=True)


def _problem(status: int, name: str = "x", **headers: str) -> Reply:
    body = {"type": f"/problems/{name}", "title": "T", "status": status, "detail": "D"}
    return Reply(status, headers, json.dumps(body).encode())


def _drive(operation: Any, outcomes: list[Outcome]) -> tuple[Any, list[Send], list[float]]:
    """Carry out an operation with prepared outcomes; return its result, requests and pauses."""
    sends: list[Send] = []
    pauses: list[float] = []
    outcome: Outcome = None
    try:
        while True:
            action = operation.send(outcome)
            if isinstance(action, Pause):
                pauses.append(action.seconds)
                outcome = None
            else:
                sends.append(action)
                outcome = outcomes.pop(0)
    except StopIteration as done:
        return done.value, sends, pauses
    except CrossfadeError as error:
        return error, sends, pauses


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 415, 422, 431, 501])
def test_what_can_not_succeed_is_not_tried_again(status: int) -> None:
    assert status not in RETRIED
    error, sends, _ = _drive(tried(CALL, PATIENT, 1.0), [_problem(status)])
    assert (error.status, len(sends)) == (status, 1)


def test_a_date_past_all_clocks_is_not_waited_for() -> None:
    assert retry_after({"retry-after": f"Thu, 01 Jan 2026 00:00:00 +{'9' * 18}"}) is None


@pytest.mark.parametrize("status", sorted(RETRIED))
def test_what_may_pass_is_tried_again(status: int) -> None:
    reply, sends, _ = _drive(tried(CALL, PATIENT, 1.0), [_problem(status), Reply(202, {}, b"{}")])
    assert (reply.status, len(sends)) == (202, 2)
    assert sends[0].call is sends[1].call


@pytest.mark.parametrize("errors", [{"content": ["too dull"]}, ["too dull"], 7, None])
def test_anothers_problem_document_is_an_error_answer(errors: object) -> None:
    """ASP.NET's has its errors by field, for example, and a gateway may answer with one."""
    body = {"type": "about:blank", "title": "Busy", "status": 503, "errors": errors}
    gateways = Reply(503, {}, json.dumps(body).encode())
    done, sends, _ = _drive(tried(CALL, PATIENT, 1.0), [gateways, Reply(202, {}, b"{}")])
    assert (len(sends), done.status, done.maybe_accepted) == (2, 202, True)


@pytest.mark.parametrize("status", [520, 521, 522, 523, 524])
def test_cloudflares_statuses_are_those_of_a_service_that_is_away(status: int) -> None:
    page = Reply(status, {"content-type": "text/html"}, b"<h1>Web server is down</h1>")
    done, sends, _ = _drive(tried(CALL, PATIENT, 1.0), [page, Reply(202, {}, b"{}")])
    assert (len(sends), done.status, done.maybe_accepted) == (2, 202, True)
    error, _, _ = _drive(tried(CALL, Retry(attempts=1), 1.0), [page])
    assert isinstance(error, UnavailableError)


def test_a_failure_that_lasts_is_not_tried_again() -> None:
    failure = Failure(httpx.ConnectError("bad certificate"), sent=False, lasting=True)
    error, sends, _ = _drive(tried(CALL, PATIENT, 1.0), [failure])
    assert len(sends) == 1
    assert not error.maybe_accepted


def test_retry_after_is_waited_for_and_the_jitter_comes_on_top() -> None:
    busy = [_problem(503, **{"retry-after": "7"}) for _ in range(50)]
    _, _, pauses = _drive(tried(CALL, PATIENT, 1.0), [*busy, Reply(200, {}, b"{}")])
    assert all(7.0 <= pause <= 12.0 for pause in pauses)
    assert len(set(pauses)) > 40


def test_pauses_are_drawn_from_a_range_that_doubles_to_its_bound() -> None:
    retry = Retry(first_pause=0.1, longest_pause=1.0)
    for failures, most in ((1, 0.1), (2, 0.2), (3, 0.4), (5, 1.0), (5_000, 1.0)):
        drawn = [retry.pause(failures, None) for _ in range(200)]
        assert 0.7 * most < max(drawn) <= most
        assert min(drawn) < 0.3 * most


def test_a_retry_after_past_the_deadline_is_an_error_at_once() -> None:
    retry = Retry(deadline=5.0)
    error, sends, pauses = _drive(tried(CALL, retry, 1.0), [_problem(503, **{"retry-after": "6"})])
    assert isinstance(error, UnavailableError)
    assert (error.retry_after, len(sends), pauses) == (6.0, 1, [])


def test_an_attempt_gets_no_more_time_than_is_left() -> None:
    _, sends, _ = _drive(tried(CALL, Retry(deadline=2.0), 10.0), [Reply(200, {}, b"")])
    assert 1.5 < sends[0].timeout <= 2.0


def test_so_many_attempts_and_no_more() -> None:
    error, sends, _ = _drive(tried(CALL, Retry(attempts=3), 1.0), [_LOST] * 3)
    assert (error.attempts, len(sends)) == (3, 3)


@pytest.mark.parametrize(
    ("outcomes", "maybe"),
    [
        ([_problem(503, "overloaded")], False),
        ([_problem(503, "log-unavailable")], False),
        ([_problem(503, "outcome-unknown")], True),
        ([_problem(500, "internal")], True),
        ([Reply(503, {"content-type": "text/html"}, b"<h1>nginx</h1>")], True),
        ([Reply(502, {}, b"")], True),
        ([_problem(429)], False),
        ([Failure(httpx.ConnectError("refused"), sent=False)], False),
        ([_LOST], True),
        # What one attempt left open, no later one closes.
        ([_LOST, _problem(401)], True),
        ([_LOST, _problem(503, "overloaded")], True),
    ],
)
def test_an_error_says_whether_the_message_may_have_been_accepted(
    outcomes: list[Outcome], maybe: bool
) -> None:
    retry = Retry(attempts=len(outcomes))
    error, _, _ = _drive(tried(CALL, retry, 1.0), list(outcomes))
    assert isinstance(error, CrossfadeError)
    assert error.maybe_accepted is maybe


def test_retry_after_in_seconds_as_a_date_and_as_nonsense() -> None:
    assert retry_after({"retry-after": "120"}) == 120.0
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 28.0 < (retry_after({"retry-after": later}) or 0) <= 30.0
    # The server's clock is a year ahead: what counts is the difference in its own answer.
    there = datetime.now(UTC) + timedelta(days=365)
    headers = {
        "date": format_datetime(there, usegmt=True),
        "retry-after": format_datetime(there + timedelta(seconds=4), usegmt=True),
    }
    assert retry_after(headers) == 4.0
    past = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    assert retry_after({"retry-after": past}) == 0.0
    for nonsense in ("", "soon", "-1", "1.5", "9" * 400, "Fri, 99 Foo 2026"):
        wait = retry_after({"retry-after": nonsense})
        assert wait is None or wait >= 0.0


@pytest.mark.parametrize("bad", [{"deadline": 0}, {"attempts": 0}, {"first_pause": -1}])
def test_figures_that_can_not_be_meant_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"give|seconds"):
        Retry(**bad)


# Batches.


def _results(*statuses: int, name: str = "log-unavailable", **headers: str) -> Reply:
    ack = {"messageId": "m", "state": "pending", "acceptedAt": "t", "idempotentHit": False,
           "correlationId": "c"}  # fmt: skip
    problem = {"type": f"/problems/{name}", "title": "T", "detail": "D"}
    items = [{"status": status, **(ack if status < 300 else problem)} for status in statuses]
    return Reply(207, headers, json.dumps(items).encode())


def _batch(count: int, retry: Retry = PATIENT, limits: BatchLimits | None = None) -> Any:
    messages = [NewMessage("c", "s", str(n)) for n in range(count)]
    return sent(messages, limits or BatchLimits(), retry, 1.0, {})


def _contents(send: Send) -> list[str]:
    return [item["content"] for item in json.loads(send.call.body or b"")]


def test_only_what_was_refused_for_the_moment_is_sent_again() -> None:
    busy = _results(202, 503, 422, 503, **{"retry-after": "2"})
    results, sends, pauses = _drive(_batch(4), [busy, _results(202, 200)])
    assert [_contents(send) for send in sends] == [["0", "1", "2", "3"], ["1", "3"]]
    assert [type(result.ack) is Ack for result in results] == [True, True, False, True]
    assert results[2].error.status == 422
    assert 2.0 <= pauses[0] <= 2.2


def test_keys_stay_the_same_on_every_attempt() -> None:
    _, sends, _ = _drive(_batch(2), [_LOST, _results(503, 503), _LOST, _results(200, 200)])
    bodies = {send.call.body for send in sends}
    assert (len(sends), len(bodies)) == (4, 1)


def test_nothing_is_sent_after_messages_that_could_not_be() -> None:
    retry = Retry(attempts=1)
    outcomes: list[Outcome] = [_results(202, 503)]
    results, sends, _ = _drive(_batch(5, retry, BatchLimits(items=2)), outcomes)
    assert len(sends) == 1
    kinds = [type(result.error) for result in results]
    assert kinds == [type(None), UnavailableError, NotSentError, NotSentError, NotSentError]
    assert results[2].error.__cause__ is results[1].error
    assert results[2].error.remedy


def test_an_error_of_one_message_does_not_hold_up_those_of_later_requests() -> None:
    outcomes: list[Outcome] = [_results(202, 422), _results(403, 202), _results(202)]
    results, sends, _ = _drive(_batch(5, limits=BatchLimits(items=2)), outcomes)
    assert len(sends) == 3
    assert [result.ack is not None for result in results] == [True, False, False, True, True]


def test_an_item_that_may_be_accepted_stays_so() -> None:
    retry = Retry(attempts=2)
    first = _results(202, 503, name="outcome-unknown")
    results, _, _ = _drive(_batch(2, retry), [first, _results(503)])
    assert results[1].error.maybe_accepted
    results, _, _ = _drive(_batch(2, retry), [first, Failure(httpx.ConnectError("x"), sent=False)])
    assert results[1].error.maybe_accepted
    assert results[1].error.attempts == 2
    assert not isinstance(results[1].error, OutcomeUnknownError)


def test_a_lost_answer_counts_for_each_message_of_its_request() -> None:
    retry = Retry(attempts=3)
    outcomes: list[Outcome] = [_LOST, _results(202, 503), _results(503), _results(202)]
    results, sends, _ = _drive(_batch(2, retry), outcomes)
    assert len(sends) == 3
    error = results[1].error
    assert (error.attempts, error.maybe_accepted) == (3, True)


def test_a_proxy_that_takes_less_than_the_service_is_given_less() -> None:
    proxy = Reply(413, {"content-type": "text/html"}, b"<html>413</html>")
    outcomes: list[Outcome] = [proxy, _results(202, 202), proxy, _results(202), proxy]
    results, sends, _ = _drive(_batch(4), outcomes)
    assert [len(_contents(send)) for send in sends] == [4, 2, 2, 1, 1]
    assert [result.ack is not None for result in results] == [True, True, True, False]


def test_a_lost_answer_counts_although_the_request_is_split_afterwards() -> None:
    outcomes: list[Outcome] = [_LOST, Reply(413, {}, b""), _problem(401)]
    results, sends, _ = _drive(_batch(2), outcomes)
    assert [len(_contents(send)) for send in sends] == [2, 2, 1]
    assert isinstance(results[1].error, NotSentError)
    assert [result.error.maybe_accepted for result in results] == [True, True]


def test_an_answer_that_counts_wrong_is_no_answer() -> None:
    results, sends, _ = _drive(_batch(3), [_results(202, 202)])
    assert len(sends) == 1
    assert all(result.error and result.error.maybe_accepted for result in results)


def test_an_answer_that_is_not_the_services_counts_its_requests() -> None:
    foreign = Reply(202, {}, b"<html>")
    messages = [NewMessage(conversation_id="c", sender_id="s", content=f"{n}") for n in range(2)]
    operations = Operations(PATIENT, 1.0, BatchLimits())
    error, _, _ = _drive(operations.send(messages[0], None, None), [_problem(503), foreign])
    assert (type(error), error.attempts) == (UnexpectedAnswerError, 2)
    refused = {"type": "/problems/log-unavailable", "title": "T", "status": 503}
    again = Reply(207, {}, json.dumps([refused, refused]).encode())
    outcomes = [_problem(503), again, foreign]
    found, _, _ = _drive(operations.send_batch(messages, None, None), outcomes)
    assert {(type(result.error), result.error.attempts) for result in found} == {
        (UnexpectedAnswerError, 3)
    }


def test_a_content_that_is_not_the_services_is_an_error() -> None:
    right = sha256(b"content").hexdigest()
    for etag in (f'"{right}"', f'W/"{right}"'):
        assert content_of(Reply(200, {"etag": etag}, b"content")) == b"content"
    assert content_of(Reply(200, {"etag": '"a store\'s"'}, b"c", redirected=True)) == b"c"
    page = {"content-type": "text/html"}
    for headers in (page, page | {"etag": '"5f-1"'}, page | {"etag": f'"{right}"'}):
        with pytest.raises(UnexpectedAnswerError):
            content_of(Reply(200, headers, b"<h1>Log in</h1>"))

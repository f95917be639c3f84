"""Tests of the checker: it finds and names each kind of damage that is done to a good history."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from lab.harness.anomaly import What, report
from lab.harness.checker import check
from lab.harness.final import Final, FinalRow, Letter
from lab.harness.history import ClientAttempt, ClientHistory, Outcome, RequestKind
from transport.contract import Reason

replace = msgspec.structs.replace


def attempt(n: int, *, sent: float | None = None, **changes: object) -> ClientAttempt:
    """Return message ``n`` of a conversation, sent at ``n``, acknowledged half a second later."""
    at = float(n) if sent is None else sent
    made = ClientAttempt(
        key=f"key-{n}",
        conversation="c",
        content=f"content-{n}",
        sent=at,
        ended=at + 0.5,
        outcome=Outcome.OK,
        status=202,
        message_id=f"id-{n}",
        hit=False,
    )
    return replace(made, **changes)


def row(n: int, **changes: object) -> FinalRow:
    made = FinalRow(message_id=f"id-{n}", key=f"key-{n}", conversation="c", content=f"content-{n}")
    return replace(made, **changes)


def failed(n: int, status: int | None = None) -> ClientAttempt:
    return attempt(n, outcome=Outcome.FAILED, status=status, message_id=None, hit=None)


def unknown(n: int) -> ClientAttempt:
    return attempt(n, outcome=Outcome.UNKNOWN, status=None, message_id=None, hit=None)


def found(
    attempts: Sequence[ClientAttempt], rows: Sequence[FinalRow], **rest: object
) -> list[What]:
    history = ClientHistory(attempts)
    history.planted = rest.pop("planted", {})  # type: ignore[assignment]
    return [a.what for a in check(history, Final(rows=rows, **rest))]  # type: ignore[arg-type]


GOOD = [attempt(n) for n in range(5)]
ROWS = [row(n) for n in range(5)]


def test_a_good_history_has_no_anomaly() -> None:
    assert found(GOOD, ROWS) == []


def test_an_unknown_answer_may_have_its_row_or_not() -> None:
    history = [*GOOD, unknown(5)]
    assert found(history, ROWS) == []
    assert found(history, [*ROWS, row(5)]) == []


def test_an_acknowledged_message_without_a_row_is_lost() -> None:
    assert found(GOOD, [*ROWS[:2], *ROWS[3:]]) == [What.LOST]


def test_a_repeat_that_was_acknowledged_is_lost_as_well() -> None:
    history = [*GOOD, unknown(5), attempt(5, sent=9.0, hit=True)]
    assert found(history, ROWS) == [What.LOST]


def test_a_second_row_for_a_key_is_doubled() -> None:
    assert found(GOOD, [*ROWS, row(4, message_id="id-4b")]) == [What.DOUBLED, What.ID_CHANGED]


def test_a_body_stored_under_another_key_is_doubled() -> None:
    again = row(2, key="key-x", message_id="id-x")
    assert What.DOUBLED in found(GOOD, [*ROWS, again])


def test_a_message_before_one_acknowledged_before_it_was_sent_is_reordered() -> None:
    swapped = [ROWS[0], ROWS[2], ROWS[1], *ROWS[3:]]
    assert found(GOOD, swapped) == [What.REORDERED]


def test_a_reorder_is_seen_across_other_rows() -> None:
    moved = [ROWS[4], *ROWS[:4]]
    assert found(GOOD, moved) == [What.REORDERED] * 4


def test_messages_whose_requests_overlapped_may_stand_either_way() -> None:
    overlapping = [attempt(0), attempt(1, sent=0.4)]
    assert found(overlapping, [row(1), row(0)]) == []


def test_conversations_have_no_order_between_them() -> None:
    apart = [attempt(0), attempt(1, conversation="d")]
    assert found(apart, [row(1, conversation="d"), row(0)]) == []


def test_an_unacknowledged_message_binds_nobody() -> None:
    assert found([unknown(0), attempt(1)], [row(1), row(0)]) == []


def test_a_message_counts_as_sent_when_its_first_attempt_was() -> None:
    """Its first attempt has no known outcome, overlapped the other message, and may be the row."""
    first = replace(unknown(1), sent=0.2)
    again = attempt(1, sent=2.0, hit=True)
    assert found([attempt(0), first, again], [row(1), row(0)]) == []


def test_a_row_that_nobody_sent_is_a_phantom() -> None:
    assert found(GOOD, [*ROWS, row(9)]) == [What.PHANTOM]


def test_a_row_of_a_message_that_was_refused_is_a_phantom() -> None:
    assert found([*GOOD, failed(5)], [*ROWS, row(5)]) == [What.PHANTOM]


def test_a_row_with_other_contents_is_altered() -> None:
    assert What.ALTERED in found(GOOD, [*ROWS[:4], row(4, content="other")])


def test_two_ids_for_a_key_are_seen_in_the_answers_alone() -> None:
    again = attempt(4, sent=8.0, message_id="id-other", hit=True)
    assert found([*GOOD, again], ROWS) == [What.ID_CHANGED]


def test_a_second_body_acknowledged_and_gone_is_lost() -> None:
    other = attempt(4, sent=8.0, content="content-4b")
    assert found([*GOOD, other], ROWS) == [What.CONFLICT_LOST]


def test_a_second_body_may_be_refused_or_dead_lettered() -> None:
    refused = replace(failed(4, 422), sent=8.0, content="content-4b")
    assert found([*GOOD, refused], ROWS) == []
    raced = attempt(4, sent=4.1, content="content-4b")
    letter = Letter(
        message_id="id-4",
        reason=Reason.IDEMPOTENCY_CONFLICT,
        body=b'{"content":"content-4b"}',
    )
    assert found([*GOOD, raced], ROWS, letters=[letter]) == []


def test_bodies_that_raced_and_were_both_left_unanswered_may_conflict_too() -> None:
    """No answer has the id of either message; it is known from the row."""
    raced = [unknown(4), replace(unknown(4), sent=4.1, content="content-4b")]
    letter = Letter(message_id="id-4", reason=Reason.IDEMPOTENCY_CONFLICT, body=b"content-4b")
    assert found([*GOOD[:4], *raced], ROWS, letters=[letter]) == []


def test_a_conflict_without_a_row_is_a_loss() -> None:
    raced = attempt(4, sent=4.1, content="content-4b")
    letter = Letter(message_id="id-4", reason=Reason.IDEMPOTENCY_CONFLICT, body=b"content-4b")
    assert found([*GOOD, raced], ROWS[:4], letters=[letter]) == [What.LOST]


def test_a_refused_body_in_the_table_is_a_phantom() -> None:
    refused = replace(failed(4, 422), sent=8.0, content="content-4b")
    kinds = found([*GOOD, refused], [*ROWS[:4], row(4, content="content-4b")])
    assert What.PHANTOM in kinds
    assert What.CONFLICT_LOST in kinds


def test_a_good_message_among_the_dead_letters_is_seen() -> None:
    letter = Letter(message_id="id-4", reason=Reason.REJECTED, body=b"content-4")
    assert found(GOOD, ROWS[:4], letters=[letter]) == [What.DEAD_LETTERED]


def test_a_conflict_needs_two_bodies() -> None:
    letter = Letter(message_id="id-4", reason=Reason.IDEMPOTENCY_CONFLICT, body=b"content-4")
    assert found(GOOD, ROWS, letters=[letter]) == [What.DEAD_LETTERED]


def test_planted_poison_must_be_a_dead_letter_for_its_own_reason() -> None:
    planted = {"bad": Reason.UNDECODABLE}
    assert found(GOOD, ROWS, planted=planted) == [What.POISON_VANISHED]
    other = Letter(message_id="bad", reason=Reason.REJECTED, body=b"")
    assert found(GOOD, ROWS, planted=planted, letters=[other]) == [
        What.DEAD_LETTERED,
        What.POISON_VANISHED,
    ]
    right = Letter(message_id="bad", reason=Reason.UNDECODABLE, body=b"")
    assert found(GOOD, ROWS, planted=planted, letters=[right]) == []


@pytest.mark.parametrize(
    ("status", "retry_after", "kind"),
    [(500, None, What.SERVER_ERROR), (503, None, What.SERVER_ERROR), (503, "1", None),
     (422, None, What.REFUSED), (400, None, What.REFUSED)],
)  # fmt: skip
def test_answers_that_no_good_request_gets(
    status: int, retry_after: str | None, kind: What | None
) -> None:
    outcome = Outcome.FAILED if status < 500 else Outcome.UNKNOWN
    bad = replace(unknown(5), status=status, retry_after=retry_after, outcome=outcome)
    assert found([*GOOD, bad], ROWS) == ([kind] if kind else [])


def test_a_first_message_is_no_repeat() -> None:
    assert found([*GOOD[:4], attempt(4, hit=True)], ROWS) == [What.FALSE_HIT]
    assert found([*GOOD[:4], unknown(4), attempt(4, sent=9.0, hit=True)], ROWS) == []


def test_a_reader_of_pages_must_have_seen_what_is_there_in_its_order() -> None:
    ids = [f"id-{n}" for n in range(5)]
    assert found(GOOD, ROWS, pages={"c": ids}) == []
    assert found(GOOD, ROWS, pages={"c": ids[1:]}) == [What.PAGE_DIFFERS]
    assert found(GOOD, ROWS, pages={"c": ids[::-1]}) == [What.PAGE_DIFFERS]
    assert found(GOOD, ROWS, pages={"c": [*ids, "id-9"]}) == [What.PAGE_DIFFERS]


def test_receipts_are_judged_too() -> None:
    receipt = replace(attempt(7), kind=RequestKind.RECEIPT, key="id-4/read/u", conversation="c")
    assert found([*GOOD, receipt], ROWS) == [What.LOST]
    assert found([*GOOD, receipt], ROWS, receipts=["id-4/read/u"]) == []
    assert found(GOOD, ROWS, receipts=["id-4/read/u"]) == [What.PHANTOM]


def test_the_report_names_what_it_found() -> None:
    history = ClientHistory(GOOD)
    text = report(check(history, Final(rows=[*ROWS[:3], ROWS[4], row(4, message_id="id-4b")])))
    for name in ("LOST", "DOUBLED", "ID_CHANGED", "key-3", "id-4b"):
        assert name in text

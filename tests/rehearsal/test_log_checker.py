"""The judge of the logs is judged: each kind of damage to a good pair of logs is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import pytest

from lab.harness.anomaly import What
from lab.harness.final import FinalRow
from lab.harness.history import ClientAttempt, ClientHistory, Outcome
from lab.rehearsal.log_checker import asked_of, check_logs
from lab.rehearsal.logs import LogEntry
from lab.rehearsal.report import PROMISES

replace = msgspec.structs.replace

SYNC = 2  # both logs are asked, redis first


def attempt(n: int, **changes: object) -> ClientAttempt:
    """Message ``n``, sent at ``n`` to an ingress on phase 2, acknowledged half a second later."""
    made = ClientAttempt(
        key=f"key-{n}", conversation="c", content=f"content-{n}", sent=float(n), ended=n + 0.5,
        outcome=Outcome.OK, status=202, message_id=f"id-{n}", hit=False, phase=SYNC,
    )  # fmt: skip
    return replace(made, **changes)


def entry(n: int, **changes: object) -> LogEntry:
    made = LogEntry(
        partition=3, place=n, offset=f"{n}-0", message_id=f"id-{n}", content=f"content-{n}",
        digest=b"%d" % n, appended_at=float(n),
    )  # fmt: skip
    return replace(made, **changes)


def copy(n: int, **changes: object) -> LogEntry:
    return entry(n, **{"offset": f"{n}", "mirror_of": f"redis:{n}-0", **changes})


def placed(entries: Sequence[LogEntry]) -> list[LogEntry]:
    """Return the entries as they stand when a log holds them in this order."""
    return [replace(entry, place=at) for at, entry in enumerate(entries)]


def found(
    attempts: Sequence[ClientAttempt] | None = None,
    redis: Sequence[LogEntry] | None = None,
    kafka: Sequence[LogEntry] | None = None,
    rows: Sequence[FinalRow] = (),
) -> list[What]:
    logs: Mapping[str, Mapping[int, Sequence[LogEntry]]] = {
        "redis": {3: placed([entry(n) for n in range(4)] if redis is None else redis)},
        "kafka": {3: placed([copy(n) for n in range(4)] if kafka is None else kafka)},
    }
    history = ClientHistory([attempt(n) for n in range(4)] if attempts is None else attempts)
    return [a.what for a in check_logs(history, logs, rows)]


def test_two_good_logs_have_no_anomaly() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("phase", "logs"),
    [(0, "redis"), (1, "redis"), (2, "redis kafka"), (3, "redis kafka"), (4, "kafka redis"),
     (5, "kafka"), (None, "")],
)  # fmt: skip
def test_an_acknowledgement_asks_for_the_logs_of_its_phase(phase: int | None, logs: str) -> None:
    assert asked_of(phase) == tuple(logs.split())


def test_a_synchronous_acknowledgement_without_the_copy_is_seen() -> None:
    assert found(kafka=[copy(0), copy(1), copy(3)]) == [What.NOT_IN_LOG]


def test_an_asynchronous_one_may_lack_it() -> None:
    attempts = [*(attempt(n) for n in range(3)), attempt(3, phase=1)]
    assert found(attempts, kafka=[copy(n) for n in range(3)]) == []


def test_a_message_that_is_not_in_the_primary_is_seen() -> None:
    attempts = [attempt(n, phase=0) for n in range(4)]
    assert found(attempts, redis=[entry(n) for n in range(3)], kafka=[]) == [What.NOT_IN_LOG]


def test_a_repeat_that_was_answered_from_its_row_need_not_be_in_any_log() -> None:
    attempts = [*(attempt(n) for n in range(4)), attempt(4, hit=True)]
    assert found(attempts) == []


def test_a_log_that_remembers_keeps_one_body_of_a_key() -> None:
    """The other body is a dead letter of the log that is read; here it must be the key that is."""
    other = attempt(2, sent=2.1, content="content-2b")
    second = entry(2, content="content-2b", offset="2-1")
    both = [entry(0), entry(1), entry(2), second, entry(3)]
    attempts = [*(attempt(n) for n in range(4)), other]
    assert found(attempts, redis=both) == []
    assert found(attempts, redis=both, kafka=[copy(n) for n in (0, 1, 3)]) == [What.NOT_IN_LOG] * 2


def test_the_other_body_of_a_key_may_have_had_no_answer() -> None:
    """Two processes with other primaries each append a body first; each log remembers its own."""
    unanswered = attempt(
        2, sent=2.1, content="content-2b", outcome=Outcome.UNKNOWN, status=None, message_id=None
    )
    theirs = [copy(0), copy(1), copy(2, content="content-2b"), copy(3)]
    attempts = [*(attempt(n) for n in range(4)), unanswered]
    assert found(attempts, kafka=theirs) == []
    assert found([attempt(n) for n in range(4)], kafka=theirs) == [What.NOT_IN_LOG]


def test_another_order_in_one_log_is_seen() -> None:
    swapped = [copy(0), copy(2), copy(1), copy(3)]
    assert found(kafka=swapped) == [What.LOG_REORDERED]


def test_overlapping_requests_may_stand_either_way() -> None:
    attempts = [attempt(0), attempt(1, ended=2.2), attempt(2), attempt(3)]
    assert found(attempts, kafka=[copy(0), copy(2), copy(1), copy(3)]) == []


def test_copies_of_an_asynchronous_phase_bind_nobody() -> None:
    attempts = [attempt(0), attempt(1, phase=1), attempt(2, phase=1), attempt(3)]
    assert found(attempts, kafka=[copy(0), copy(2), copy(1), copy(3)]) == []


def test_a_message_stands_where_it_stands_first() -> None:
    """A retry or a repair appends it once more, later: no harm."""
    again = [*(copy(n) for n in range(4)), copy(1, offset="9")]
    assert found(kafka=again) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda: copy(2, mirror_of="redis:77-0"),
        lambda: copy(2, mirror_of="redis:1-0"),
        lambda: copy(2, digest=b"other bytes"),
    ],
    ids=["of-nothing", "of-another", "of-other-bytes"],
)
def test_a_copy_that_is_none_is_seen(damage: Callable[[], LogEntry]) -> None:
    assert found(kafka=[copy(0), copy(1), damage(), copy(3)]) == [What.BAD_COPY]


def test_a_row_must_come_from_the_record_that_it_names() -> None:
    row = FinalRow(
        message_id="id-1", key="key-1", conversation="c", content="content-1",
        transport="redis", partition=3, offset="1-0",
    )  # fmt: skip
    assert found(rows=[row]) == []
    assert found(rows=[replace(row, offset="2-0")]) == [What.PHANTOM]
    assert found(rows=[replace(row, offset="99-0")]) == [What.PHANTOM]
    assert found(rows=[replace(row, transport="direct", offset="")]) == []


def test_every_anomaly_counts_against_a_promise() -> None:
    counted = [what for kinds in PROMISES.values() for what in kinds]
    assert sorted(counted) == sorted(What)


def test_a_copy_in_another_partition_names_its_originals() -> None:
    moved = [copy(n, partition=7, mirror_partition=3) for n in range(4)]
    assert found(kafka=moved) == []
    assert found(kafka=[copy(n, partition=7) for n in range(4)]) == [What.BAD_COPY] * 4


def test_a_conversation_in_two_partitions_of_a_log_is_seen() -> None:
    kafka = [*(copy(n) for n in range(3)), copy(3, partition=7, mirror_partition=3)]
    assert found(kafka=kafka) == [What.TWO_HOMES]

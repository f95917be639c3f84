"""Health in sentences: the cause is named, and what to do; unknown is never taken for well."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ingress.console.health.sentences import Reported, sentences
from ingress.console.views import (
    Database,
    LogView,
    PartitionView,
    ProcessView,
    Sentence,
)
from otel.losses import Loss
from persistence.database.outage import Paused
from persistence.fleet.append_outage import AppendOutage
from persistence.fleet.log_choice import FIRST_PAIR, choices
from persistence.fleet.log_identities import AnotherLog
from persistence.fleet.missing_copies import MissingCopies
from persistence.reads.overview import Letters

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
UP = Database(up=True, error=None)


def partition(number: int, **changes: Any) -> PartitionView:
    idle: dict[str, Any] = {
        "partition": number, "lag": 0, "oldest_age": 0.0, "in_rate": 0.0,
        "out_rate": 0.0, "owner": "w1", "lost": 0, "stalled_seconds": 0.0,
    }  # fmt: skip
    return PartitionView(**(idle | changes))


def log(*partitions: PartitionView, **changes: Any) -> LogView:
    lags = [part.lag for part in partitions]
    usual: dict[str, Any] = {
        "name": "redis", "roles": ["primary", "consumed"], "error": None,
        "lag": None if None in lags else sum(lag or 0 for lag in lags), "in_rate": 0.0,
        "out_rate": 0.0, "dead_letters_unread": 0, "partitions": list(partitions),
    }  # fmt: skip
    return LogView(**(usual | changes))


def process(member: str = "w1", **changes: Any) -> ProcessView:
    usual: dict[str, Any] = {
        "member": member, "role": "worker", "host": "host1", "pid": 7, "version": "1", "phase": 0,
        "settings": "redis", "owned": {}, "paused": [], "started_at": "2026-11-25T11:00:00Z",
        "silent_seconds": 1.0, "live": True, "shadow": None, "followers": None,
    }  # fmt: skip
    return ProcessView(**(usual | changes))


def said(*logs: LogView, database: Database = UP, **more: Any) -> list[Sentence]:
    processes = more.get("processes", [process()])
    return sentences(
        logs,
        database,
        processes,
        more.get("letters"),
        reported=more.get("reported", Reported()),
        now=NOW,
    )


def test_all_well_is_one_calm_sentence() -> None:
    (only,) = said(log(partition(0), partition(1)))
    assert (only.level, only.text) == ("ok", "Everything that redis has is persisted.")


@pytest.mark.parametrize(("phase", "level"), [(1, "warning"), (2, "alarm"), (3, "alarm")])
def test_copies_that_the_shadow_is_missing_are_named(phase: int, level: str) -> None:
    """In sync mode the shadow is a mirror, which is to have every acknowledged message."""
    choice = choices(FIRST_PAIR)[phase]
    (found,) = said(log(partition(0)), reported=Reported(missing=MissingCopies(choice, 79, [0, 1])))
    assert found.level == level
    assert found.text == "kafka is missing 79 messages that redis has (partitions 0-1)."
    assert "crossfade migrate backfill" in (found.next or "")
    (calm,) = said(log(partition(0)), reported=Reported(missing=MissingCopies(choice, 0, [])))
    assert calm.level == "ok"


def test_a_log_that_was_made_anew_is_an_alarm() -> None:
    (alarm,) = said(
        log(partition(0)),
        reported=Reported(another_logs={"redis": AnotherLog(["w1"], everywhere=True)}),
    )
    assert alarm.level == "alarm"
    assert "redis is another log than before" in alarm.text
    assert alarm.next is not None
    assert "crossfade migrate forget-log redis" in alarm.next


def test_a_process_that_writes_another_log_under_the_same_name_is_an_alarm() -> None:
    (alarm,) = said(
        log(partition(0)),
        reported=Reported(another_logs={"redis": AnotherLog(["w2"], everywhere=False)}),
    )
    assert alarm.level == "alarm"
    assert "redis is another log for w2 than for the other processes" in alarm.text


def test_settings_that_somebody_altered_on_a_log_are_an_alarm() -> None:
    line = "topic msg: cleanup.policy is compact, wanted delete"
    (alarm, *_) = said(log(partition(0), altered=(line,)))
    assert alarm.level == "alarm"
    assert line in alarm.text
    assert alarm.next is not None
    assert "Alter them back" in alarm.next


def test_a_second_primary_is_an_alarm() -> None:
    line = "two primaries: the sentinels name a:1, and b:1 reports this role too"
    (alarm, *_) = said(log(partition(0), error="no answer", primaries=(line,)))
    assert alarm.level == "alarm"
    assert line in alarm.text
    assert alarm.next is not None
    assert "RUNBOOKS.md" in alarm.next


def test_a_partition_that_does_not_move_is_told_with_what_its_worker_lost() -> None:
    lost = Paused(dependency="postgresql", since="2026-11-25T11:59:20Z", error="refused")
    first = said(
        log(partition(6), partition(7, lag=3, stalled_seconds=12.0, oldest_age=40.0)),
        processes=[process(paused=[lost])],
    )[0]
    assert first.level == "alarm"
    assert first.text == (
        "Partition 7 of redis is not moving: its worker lost PostgreSQL 40 s ago (refused). "
        "3 records wait, for 12 s now."
    )
    assert first.next is not None
    assert "Bring PostgreSQL back" in first.next


def test_a_partition_that_is_blocked_is_told_apart_from_the_others_of_its_worker() -> None:
    why = "partition 3 of topic msg.stream has a damaged batch at offset 7; let another lead it"
    told = Paused(dependency="partition 3 of redis", since="2026-11-25T11:59:20Z", error=why)
    stuck = {"lag": 1, "stalled_seconds": 12.0, "oldest_age": 40.0}
    first, second, *_ = said(
        log(partition(3, **stuck), partition(4, **stuck)), processes=[process(paused=[told])]
    )
    assert first.text.startswith("Partition 3 of redis is not moving: it has been blocked for 40 s")
    assert first.next == f"{why}."
    assert "its worker w1 is alive" in second.text


def test_a_log_that_only_we_can_not_use_is_not_called_down() -> None:
    """Its settings were altered, so that nothing opens it anew; or the network to it is ours."""
    silent = log(partition(0), error="replication factor is 2, wanted 3")
    reads = process(owned={"redis": [0]})
    (alarm,) = [each for each in said(silent, processes=[reads]) if each.level == "alarm"]
    assert "can't be used from here: replication factor is 2, wanted 3. Processes" in alarm.text
    assert "read it all the same: w1." in alarm.text
    assert "503" not in alarm.text
    waits = [Paused("redis", "2026-11-25T11:59:20Z", "refused")]
    for other in (process(owned={"redis": [0]}, paused=waits), process(owned={})):
        told = [each.text for each in said(silent, processes=[other]) if each.level == "alarm"]
        assert any("POSTs are answered 503" in text for text in told)
    shadow = log(partition(0), error="refused", roles=["shadow"])
    assert any("It is the shadow" in each.text for each in said(shadow, processes=[reads]))


def test_a_log_that_workers_wait_for_is_told_in_place_of_starting_one() -> None:
    waits = [Paused("redis", "2026-01-01T00:00:20Z", "it can't be read")]
    stuck = partition(0, owner=None, lag=1, stalled_seconds=9.0, oldest_age=9.0)
    idle = partition(1, owner=None)
    for processes, remedy in (([process(paused=waits)], "Do what"), ([process()], "Start a")):
        alarm, *others = said(log(stuck, idle), processes=processes)
        assert ("w1 waits for redis: it can't be read" in alarm.text) == (remedy == "Do what")
        assert alarm.next.startswith(remedy)
        (free,) = [each for each in others if each.text.startswith("No live worker owns")]
        assert ("Start a worker" in free.next) == (remedy == "Start a")


def test_a_partition_whose_worker_died_has_no_worker() -> None:
    dead = process("w2", live=False, silent_seconds=30.0)
    told = said(log(partition(0), partition(1, owner="w2")), processes=[process(), dead])
    (free,) = [each for each in told if each.text.startswith("No live worker owns partition 1 of")]
    assert "another one takes over within 10 s" in (free.next or "")
    silent = said(log(partition(0, owner=None)), database=Database(up=False, error="x"))
    assert not [each for each in silent if each.text.startswith("No live worker")], "it is unknown"


def test_partitions_with_one_cause_are_told_together_and_others_apart() -> None:
    stuck = {"lag": 1, "stalled_seconds": 9.0, "oldest_age": 9.0}
    alarms = [
        finding.text
        for finding in said(
            log(
                partition(0, **stuck), partition(1, **stuck), partition(2, **stuck, owner=None),
                partition(4, **stuck), partition(5, **stuck, owner="w2"),
            ),
            processes=[process(), process("w2", live=False, silent_seconds=30.0)],
        )
        if finding.level == "alarm"
    ]  # fmt: skip
    assert len(alarms) == 3
    assert alarms[0].startswith("Partitions 0-1, 4 of redis are not moving: its worker w1 is alive")
    assert "Partition 2 of redis is not moving: no worker owns it" in alarms[1]
    assert "has not been heard of for 30 s" in alarms[2]


def test_all_processes_that_are_silent_at_once_are_not_called_dead() -> None:
    """A full disk takes none of their heartbeats, and to forget one would be wrong."""
    silent = [process(name, live=False, silent_seconds=30.0) for name in ("w1", "w2")]
    (alarm,) = [finding for finding in said(log(), processes=silent) if finding.level == "alarm"]
    assert "None of 2 processes has been heard of for 30 s" in alarm.text
    assert "its disk is full" in alarm.text
    assert "forget" not in (alarm.next or "")


def test_what_is_unknown_is_never_well() -> None:
    levels = {finding.level for finding in said(log(partition(0, lag=None, stalled_seconds=None)))}
    assert levels == {"warning"}
    silent = said(log(partition(0), error="connection refused"))
    assert [finding.level for finding in silent] == ["alarm"]
    assert "POSTs are answered 503" in silent[0].text
    shadow = said(log(partition(0), error="gone", roles=["shadow"], name="kafka"))
    assert [finding.level for finding in shadow] == ["warning"]
    stuck = log(partition(0, lag=2, stalled_seconds=12.0))
    cause = said(stuck, database=Database(up=False, error="x"), processes=None)[1].text
    assert "is not moving: PostgreSQL takes no rows. 2 records wait, for 12 s now" in cause
    down = said(log(partition(0)), database=Database(up=False, error="x"), processes=None)
    assert "Messages are accepted all the same" in down[0].text


def test_loss_lag_and_dead_letters_are_said() -> None:
    (loss, *_) = said(log(partition(0, lost=5), loss=Loss("redis", 5, 60.0)))
    assert loss.text.startswith("5 records left redis unread")
    behind = log(partition(0, lag=5000), in_rate=900.0, out_rate=300.0)
    assert (
        "falls behind: 900 records a second come in and 300 are persisted" in said(behind)[0].text
    )
    ahead = log(partition(0, lag=5000), in_rate=100.0, out_rate=600.0)
    assert any("all are persisted in 10 s" in finding.text for finding in said(ahead))
    letters = Letters(pending=2, by_reason={"rejected": 2}, oldest="2026-11-25T09:00:00Z")
    notice = said(log(partition(0)), letters=letters)[-1]
    assert notice.text == ("2 dead letters wait for a decision (2 rejected), the oldest for 3 h.")


def test_who_waits_for_a_server_is_told_with_the_command_that_says_why() -> None:
    """It may answer all the while, and refuse the work: a full disk, a right that is missing."""
    full = Paused("postgresql", "2026-11-25T11:59:00Z", "No space left on device")
    told = said(log(partition(3)), processes=[process(paused=[full])])
    (warning,) = [sentence for sentence in told if sentence.level == "warning"]
    assert "for PostgreSQL" in warning.text
    assert warning.text.endswith("No space left on device.")
    assert "`crossfade doctor`" in (warning.next or "")


def test_what_a_failover_lost_and_was_rescued_is_told_with_how_to_lose_none() -> None:
    calm, told = said(log(partition(0), rescued=50))
    assert (calm.level, told.level) == ("ok", "notice")
    assert told.text.startswith("Failovers of redis lost 50 records in the last day: all were put")
    assert told.next is not None
    assert "REDIS_WAIT_REPLICAS" in told.next


@pytest.mark.parametrize(
    ("loss", "level", "fact", "ends"),
    [
        (Loss("redis", 53, 720.0, 20), "alarm", "20 were put back, 33 are gone.", "an hour after"),
        (Loss("redis", 49, 60.0, 49), "notice", "49 were put back, none is gone.", ""),
        (Loss("redis", 1, 7200.0), "notice", "none was put back, 1 is gone.", ""),
        (Loss("kafka", 2, None), "alarm", "at an unknown time: none was put back, 2 are", "stays"),
        (Loss("redis", 53, 9.0, 53, is_uncounted=True), "alarm", "More may be gone", "an hour"),
    ],
)
def test_one_sentence_says_what_was_lost_put_back_and_is_gone(
    loss: Loss, level: str, fact: str, ends: str
) -> None:
    told = [it for it in said(log(partition(0), loss=loss, rescued=78)) if it.level != "ok"]
    (sentence,) = told  # and none reports the 78 as well
    assert sentence.level == level
    assert fact in sentence.text
    assert ends in (sentence.next or "")


def test_a_log_that_slows_us_down_is_told_with_the_quota_to_raise() -> None:
    told = said(log(partition(0)), reported=Reported(throttled={"kafka": [0.4, 9.2]}))
    (warning,) = [sentence for sentence in told if sentence.level == "warning"]
    assert warning.text == (
        "kafka slows down 2 processes, as a quota is used up: the last wait was 9 s. POSTs that "
        "can't wait so long are answered 503."
    )
    assert warning.next is not None
    assert "producer_byte_rate and request_percentage" in warning.next


def refused(**changes: Any) -> AppendOutage:
    usual = {"since": "2026-11-25T11:57:00Z", "last": "2026-11-25T11:59:58Z"}
    return AppendOutage(
        **({"log": "redis", "error": "Redis is full (maxmemory)"} | usual | changes)
    )


def test_a_primary_that_takes_no_appends_is_an_alarm_with_what_clients_get() -> None:
    told, *others = said(
        log(partition(0)),
        reported=Reported(
            append_outages=[refused(), refused(since="2026-11-25T11:58:00Z", error="gone")]
        ),
    )
    assert not others, "the calm sentence is not said beside it"
    assert told.level == "alarm"
    assert told.text == (
        "redis refuses messages of 2 processes, for 3 min now: Redis is full (maxmemory). "
        "POSTs are answered 503, and clients retry with the same key."
    )
    assert told.next is not None
    assert "`crossfade doctor`" in told.next


def test_a_primary_that_was_not_tried_since_is_a_warning() -> None:
    told, *others = said(
        log(partition(0)), reported=Reported(append_outages=[refused(last="2026-11-25T11:58:00Z")])
    )
    assert not others
    assert told.level == "warning"
    assert "refused the last message of 1 process, 2 min ago: Redis is full" in told.text
    assert "unknown whether it takes messages now" in told.text
    assert told.next is not None
    assert "/readyz" in told.next


def test_the_clock_of_a_process_does_not_make_its_refused_messages_old() -> None:
    told, *_ = said(
        log(partition(0)),
        reported=Reported(append_outages=[refused(last="2026-11-25T11:58:00Z", untried=1.5)]),
    )
    assert told.level == "alarm"
    assert "POSTs are answered 503" in told.text
    later = [refused(untried=61.0)]
    told, *_ = said(log(partition(0)), reported=Reported(append_outages=later))
    assert "refused the last message of 1 process, 61 s ago" in told.text


def test_a_primary_that_is_down_is_told_once() -> None:
    waits = Paused("redis", "2026-11-25T11:59:00Z", "refused")
    (told,) = said(
        log(partition(0), error="refused"),
        processes=[process(paused=[waits])],
        reported=Reported(append_outages=[refused()]),
    )
    assert "can't be used" in told.text
    store = Paused("payload store", "2026-11-25T11:59:00Z", "hung")
    both = [process(paused=[waits, store])]
    (_, other) = said(log(partition(0), error="refused"), processes=both)
    assert other.text == "w1 waits for payload store, for 60 s now: hung."


@pytest.mark.parametrize(
    ("mode", "level", "effect"),
    [
        ("sync", "alarm", "POSTs are answered 503"),
        ("async", "warning", "what it misses is counted"),
    ],
)
@pytest.mark.parametrize("answers", [True, False])
def test_a_shadow_without_copies_is_as_grave_as_its_mode(mode, level, effect, answers) -> None:
    """Where it answers it is full, say: its readers see nothing of that."""
    shadow = {"name": "kafka", "mode": mode, "breaker": "open", "error": "it is full"}
    kafka = log(name="kafka", roles=["shadow"], error=None if answers else "refused")
    told, *_ = said(log(partition(0)), kafka, processes=[process(shadow=shadow)])
    assert told.level == level
    assert effect in told.text
    assert ("it is full" in told.text) is answers
    well = process(shadow=shadow | {"breaker": "closed", "error": ""})
    assert [it.level for it in said(log(partition(0)), processes=[well])] == ["ok"]


def test_a_file_of_old_rows_that_is_never_finished_is_told() -> None:
    waits = Database(up=True, error=None, archive_waits=3 * 3600.0)
    told, *_ = said(log(partition(0)), database=waits)
    assert told.level == "warning"
    assert told.text == (
        "A file of old rows was begun, and has not been finished for 3 h: nothing is lost, but "
        "the table grows."
    )
    assert told.next == "Run `crossfade rows archive`, which says what ROWS_ARCHIVE_URL lacks."
    begun = Database(up=True, error=None, archive_waits=60.0)
    assert [it.level for it in said(log(partition(0)), database=begun)] == ["ok"]

"""The report: figures of a small history, and a page that stands on its own."""

from __future__ import annotations

import re

import msgspec
import pytest

from lab.harness.anomaly import Anomaly, What
from lab.harness.final import Final, FinalRow
from lab.harness.history import ClientAttempt, ClientHistory, Outcome
from lab.rehearsal.figures import first_tries, posts
from lab.rehearsal.logs import LogEntry
from lab.rehearsal.options import Options
from lab.rehearsal.page import render
from lab.rehearsal.parity_watch import Parity
from lab.rehearsal.report import RehearsalReport, make_report, take_replay
from lab.rehearsal.rows import row_delays
from lab.rehearsal.samples import Lag
from lab.rehearsal.timeline import FaultMark, GateMark, RehearsalTimeline, Waited
from lab.specification.replay import Refusal, Replayed


def attempt(timeline: RehearsalTimeline, n: int, at: float, **changes: object) -> ClientAttempt:
    made = ClientAttempt(
        key=f"k{n}", conversation="c", content=f"content-{n}", sent=timeline.zero + at,
        ended=timeline.zero + at + 0.02, outcome=Outcome.OK, status=202, message_id=f"id-{n}",
        hit=False, phase=0, via="ingress-1",
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def report(*anomalies: Anomaly, stopped: str | None = None) -> RehearsalReport:
    """Two phases of ten seconds, one message a second, one of them refused."""
    timeline = RehearsalTimeline()
    timeline.enter(0).rolled = 0.0
    timeline.bands[0].begun, timeline.bands[0].ended = 0.0, 10.0
    second = timeline.enter(1)
    second.begun, second.rolled, second.ended = 10.0, 13.0, 20.0
    timeline.mark("ingress-1", "up", 0)
    timeline.mark("worker-1", "up", 0)
    timeline.faults.append(
        FaultMark(victim="worker-1", way="kill", phase=1, rolling=False, begun=15.0, healed=16.0)
    )
    gate = {"name": "processes", "verdict": "green", "reason": "all <2> run it"}
    timeline.gates.append(GateMark(frm=0, to=1, begun=9.0, passed=10.0, gates=[gate]))
    timeline.gates[0].waited.append(Waited("parity", 3.2, "unknown: nothing was <sent>"))
    attempts = [attempt(timeline, n, n + 0.5) for n in range(20)]
    attempts[12] = attempt(timeline, 12, 12.5, outcome=Outcome.UNKNOWN, status=503)
    entries = [
        LogEntry(3, n, f"{n}-0", f"id-{n}", f"content-{n}", b"", float(n))
        for n in range(20)
        if n != 12
    ]
    lead = timeline.clock()[0]
    rows = [
        FinalRow(
            message_id=f"id-{n}", key=f"k{n}", conversation="c", content=f"content-{n}",
            committed_at=lead + attempts[n].sent + (0.9 if n == 14 else 0.1),
        )
        for n in range(20)
        if n != 12
    ]  # fmt: skip
    return make_report(
        options=Options(seed=7, faults=True),
        timeline=timeline,
        history=ClientHistory(attempts),
        final=Final(rows=rows),
        logs={"redis": {3: entries}, "kafka": {3: entries[10:]}},
        lags=[Lag(1.0, {"redis": 4}, Parity(0, 7)), Lag(2.0, {"redis": None})],
        anomalies=anomalies,
        stopped=stopped,
    )


def test_figures_are_of_the_phase_in_which_a_request_was_sent() -> None:
    made = report()
    assert [(phase.posts, phase.ok) for phase in made.phases] == [(10, 10), (10, 9)]
    assert made.phases[1].availability == 0.9
    assert (made.phases[1].restarting.posts, made.phases[1].restarting.ok) == (3, 2)
    assert (made.phases[1].settled.posts, made.phases[1].settled.ok) == (7, 7)
    assert made.phases[1].faults == 1
    assert (made.phases[1].first_try, made.overall.first_try) == (0.9, 0.95)
    assert made.phases[0].p50_ms == pytest.approx(20.0)


def test_what_was_sent_before_the_walk_is_in_no_figure() -> None:
    timeline = RehearsalTimeline()
    band = timeline.enter(0)
    band.begun, band.rolled, band.ended = 5.0, 5.0, 10.0
    made = make_report(
        options=Options(),
        timeline=timeline,
        history=ClientHistory([attempt(timeline, n, n) for n in range(10)]),
        final=Final(rows=[]),
        logs={},
        lags=[],
        anomalies=[],
        stopped=None,
    )
    assert (made.overall.posts, made.phases[0].posts, sum(made.series.ok)) == (5, 5, 5)
    assert made.totals.messages == 10


def test_series_say_where_messages_stand_and_what_is_not_known() -> None:
    series = report().series
    assert series.ok == [0 if n == 12 else 1 for n in range(20)]
    assert (sum(series.where["old"]), sum(series.where["both"])) == (10, 9)
    assert series.lag["redis"][:4] == [None, 4, None, None]
    assert series.parity["differing"][:3] == [None, 0, None]
    assert series.parity["waiting"][1] == 7


def test_a_request_counts_once_as_tried_however_often_it_is_repeated() -> None:
    timeline = RehearsalTimeline()
    tries = [attempt(timeline, 1, n, outcome=Outcome.UNKNOWN, status=503) for n in range(3)]
    history = ClientHistory([*tries, attempt(timeline, 1, 4.0), attempt(timeline, 2, 5.0)])
    made = posts(history.attempts, first_tries(history))
    assert (made.availability, made.first_try) == (0.4, 0.5)


def test_nothing_sent_has_no_availability() -> None:
    assert posts([], frozenset()).availability is None


def test_a_refusal_of_another_body_for_a_key_is_a_right_answer() -> None:
    refused = attempt(RehearsalTimeline(), 1, 1.0, outcome=Outcome.FAILED, status=422)
    assert posts([refused], frozenset()).availability == 1


def test_rows_are_as_late_as_from_when_their_message_was_due() -> None:
    made = report()
    assert (made.rows.rows, made.phases[0].rows.rows, made.phases[1].rows.rows) == (19, 10, 9)
    assert made.phases[0].rows.max_ms == pytest.approx(100, abs=5)
    assert made.phases[1].rows.max_ms == pytest.approx(900, abs=5)
    assert made.rows.p50_ms == pytest.approx(100, abs=5)
    assert "900" in render(made)


def test_a_row_counts_from_the_first_try_and_only_if_it_was_acknowledged() -> None:
    timeline = RehearsalTimeline()
    tries = [
        attempt(timeline, 1, 2.0, due=timeline.zero + 1.0, outcome=Outcome.UNKNOWN, status=503),
        attempt(timeline, 1, 3.0),
        attempt(timeline, 2, 2.0, outcome=Outcome.UNKNOWN, status=503),
    ]
    rows = [
        FinalRow(message_id="", key=key, conversation="c", content="", committed_at=at)
        for key, at in (("k1", timeline.zero + 4.0), ("k2", timeline.zero + 9.0), ("k3", 0.0))
    ]
    rows.append(msgspec.structs.replace(rows[0], committed_at=None))
    found = row_delays(ClientHistory(tries), rows, lead=0.0)
    assert [round(delay.took, 6) for delay in found] == [3.0]
    assert found[0].sent == tries[0].sent


def test_a_violation_fails_the_report_and_is_on_the_page() -> None:
    made = report(Anomaly(What.LOST, "k<4>", "acknowledged"))
    assert not made.passed
    assert made.verdict["lost"] == 1
    page = render(made)
    assert "REHEARSAL FAILED" in page
    assert "k&lt;4&gt;" in page
    assert "1 lost" in page


def test_a_gate_that_stayed_red_fails_it_too() -> None:
    made = report(stopped="parity is red")
    assert not made.passed
    assert "parity is red" in render(made)


def test_the_page_says_what_became_of_the_replay() -> None:
    made = report()
    assert "Not replayed against the specification: the replay did not end." in render(made)
    replayed = Replayed(conversations=6, pieces=8, messages=900, events=4425, steps=14, refused=[])
    take_replay(made, replayed)
    said = " ".join(render(made).split())
    assert "6 conversations replayed against the specification: all allowed (4,425 events)." in said
    refusal = Refusal(conversation="c<1>", after=["Sent"], stuck=["Acknowledged"])
    take_replay(made, msgspec.structs.replace(replayed, refused=[refusal]))
    assert "c&lt;1&gt;</code> after Sent: Acknowledged" in render(made)


def test_the_page_stands_on_its_own() -> None:
    page = render(report())
    assert "REHEARSAL PASSED" in page
    assert not re.search(r"""(src|href)=|url\(|@import|https?://""", page)
    assert "all &lt;2&gt; run it" in page
    assert 'title="unknown: nothing was &lt;sent&gt;">parity 3 s<' in page
    assert page.count("<figure>") == page.count("</figure>") == 6
    assert 'class="p1"' in page  # what the second phase is drawn in


def test_the_report_survives_json() -> None:
    made = report()
    assert msgspec.json.decode(msgspec.json.encode(made), type=RehearsalReport) == made

"""The report of a record, whole or not: its verdict in words, its page, its exit status."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from lab.soak.files import save
from lab.soak.page.markdown import markdown
from lab.soak.page.render import render
from lab.soak.record import RecordError, read_record
from lab.soak.report import SoakReport, make_report
from tests.soak.made_records import write_record


def reported(path: Path, **made: object) -> SoakReport:
    write_record(path, **made)  # type: ignore[arg-type]
    return make_report(read_record(path))


def test_a_sound_and_flat_soak_passes(tmp_path: Path) -> None:
    report = reported(tmp_path / "soak.jsonl")
    assert report.passed is True
    assert report.sentence == "nothing lost, doubled or reordered; none of 8 series grows"
    assert (report.rounds, report.messages, int(report.warm_up)) == (20, 360_000, 1200)


def test_a_leak_fails_it_and_is_named(tmp_path: Path) -> None:
    report = reported(tmp_path / "soak.jsonl", memory=lambda at: 90 + at / 60)
    assert (report.sound, report.flat, report.passed) == (True, False, False)
    assert "memory/worker-1 grows" in report.sentence
    assert "GROWS" in markdown(report)


def test_a_lost_message_fails_it(tmp_path: Path) -> None:
    report = reported(tmp_path / "soak.jsonl", lost=2)
    assert (report.sound, report.passed) == (False, False)
    assert report.sentence.startswith("2 lost; ")
    assert "key&lt;1&gt;" in render(report)


def test_a_short_one_can_not_tell(tmp_path: Path) -> None:
    report = reported(tmp_path / "soak.jsonl", hours=0.2)
    assert (report.sound, report.flat, report.passed) == (True, None, None)
    assert "too short to tell" in report.sentence


@pytest.mark.parametrize("memory", [
    lambda at: 100.0 if at < 0.8 * 3600 else 100 + (at - 0.8 * 3600) / 2,
    lambda at: 100.0 if at < 0.8 * 3600 else 600.0,
], ids=["a leak", "a step"])  # fmt: skip
def test_what_begins_late_is_seen(tmp_path: Path, memory: object) -> None:
    report = reported(tmp_path / "soak.jsonl", memory=memory)
    assert (report.flat, report.passed) == (False, False)
    assert [judgement.series for judgement in report.growing] == ["memory/worker-1"]


def test_a_soak_that_acknowledged_too_little_fails(tmp_path: Path) -> None:
    report = reported(tmp_path / "soak.jsonl", messages=lambda _: 8_000)
    assert report.sentence == (
        "nothing lost, doubled or reordered; only 160,000 of 360,000 messages were acknowledged; "
        "none of 8 series grows"
    )
    assert report.passed is False
    report = reported(tmp_path / "soak.jsonl", messages=lambda number: 18_000 * (number != 6))
    assert "no message was acknowledged in round 7; " in report.sentence
    assert report.passed is False
    report = reported(tmp_path / "soak.jsonl", messages=lambda _: 0)
    assert "only 0 of 360,000" in report.sentence
    assert "in rounds 1, 2, 3, 4, 5, ...;" in report.sentence
    assert report.passed is False


@pytest.mark.parametrize("series", ["lag/redis", "memory/worker-1", "connections/PostgreSQL"])
def test_what_can_not_be_read_is_not_flat(tmp_path: Path, series: str) -> None:
    report = reported(
        tmp_path / "soak.jsonl", unseen=lambda name, at: name == series and at > 48 * 60
    )
    assert (report.sound, report.flat, report.passed) == (True, None, None)
    assert report.unseen == [series]
    assert report.sentence.endswith(f"; not seen for a part of the run: {series}")


def test_what_a_fault_hides_for_moments_is_seen(tmp_path: Path) -> None:
    report = reported(tmp_path / "soak.jsonl", unseen=lambda name, at: name[0] == "l" and at % 30)
    assert report.unseen == ["lag/redis"], "a third of the samples has it"
    report = reported(
        tmp_path / "soak.jsonl", unseen=lambda name, at: name[0] == "l" and not at % 30
    )
    assert report.passed is True


def test_a_leak_is_told_whatever_is_not_seen(tmp_path: Path) -> None:
    report = reported(
        tmp_path / "soak.jsonl", memory=lambda at: 90 + at / 60,
        unseen=lambda name, _: name == "lag/redis",
    )  # fmt: skip
    assert (report.flat, report.passed, report.unseen) == (False, False, ["lag/redis"])


def test_what_was_not_judged_is_not_said_to_be_whole(tmp_path: Path) -> None:
    report = reported(tmp_path / "soak.jsonl", judged=3, why="interrupted")
    assert report.sound is True
    assert report.sentence.startswith(
        "nothing lost, doubled or reordered in the 3 of 20 rounds that were judged; "
    )
    report = reported(tmp_path / "soak.jsonl", judged=3, ended=False)
    assert "reordered in the 3 rounds that were judged; " in report.sentence
    report = reported(tmp_path / "soak.jsonl", judged=0, why="interrupted")
    assert (report.sound, report.passed) == (None, False)
    assert report.sentence.startswith("no round was judged: ")
    assert "nothing lost" not in render(report)


@pytest.mark.parametrize(("made", "why"), [
    ({"why": "interrupted"}, "interrupted"), ({"ended": False}, "its process was killed"),
])  # fmt: skip
def test_one_that_ended_early_has_its_report(tmp_path: Path, made: object, why: str) -> None:
    assert isinstance(made, dict)
    report = reported(tmp_path / "soak.jsonl", **made)
    assert report.why == why
    assert report.passed is False
    assert report.rounds == 20
    assert why in render(report)


def test_a_series_that_began_after_all_that_is_judged_has_no_chart(tmp_path: Path) -> None:
    report = reported(
        tmp_path / "soak.jsonl",
        judged=3,
        why="ingress-1 is not running",
        unseen=lambda series, at: series.startswith("kept/") and at < 2_000,
    )
    assert "kept/tombstones" not in report.points
    assert render(report).count("<figure>") == 7


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "soak.jsonl"
    write_record(path, hours=0.5)
    whole = read_record(path)
    path.write_bytes(path.read_bytes()[:-10])
    cut = read_record(path)
    assert (whole.ended is None, cut.ended is None) == (False, True)
    assert len(cut.samples) == len(whole.samples)


def test_another_file_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "soak.jsonl"
    path.write_text('{"type":"history"}\n')
    with pytest.raises(RecordError, match="line 1"):
        read_record(path)


def test_the_page_stands_on_its_own(tmp_path: Path) -> None:
    page = render(reported(tmp_path / "soak.jsonl"))
    assert "SOAK PASSED" in page
    assert not re.search(r"""(src|href)=|url\(|@import|https?://""", page)
    assert page.count("<figure>") == page.count("</figure>") == 8
    assert page.count("<path") == 8


def test_what_is_saved_can_be_read_again(tmp_path: Path) -> None:
    report = reported(tmp_path / "soak.jsonl")
    page = save(tmp_path, report)
    assert {file.name for file in page.parent.iterdir()} == {
        "report.html", "report.json", "report.md", "soak.jsonl",
    }  # fmt: skip
    text = (tmp_path / "report.json").read_bytes()
    assert msgspec.json.decode(text, type=SoakReport) == report

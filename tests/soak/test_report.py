"""The report of a record, whole or not: its verdict in words, its page, its exit status."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from compose.soak.files import save
from compose.soak.page.markdown import markdown
from compose.soak.page.render import render
from compose.soak.record import RecordError, read_record
from compose.soak.report import SoakReport, make_report
from tests.soak.made_records import write_record


def reported(path: Path, **made: object) -> SoakReport:
    write_record(path, **made)  # type: ignore[arg-type]
    return make_report(read_record(path))


def test_a_sound_and_flat_soak_passes(tmp_path: Path) -> None:
    report = reported(tmp_path / "soak.jsonl")
    assert report.passed is True
    assert report.sentence == "nothing lost, doubled or reordered; none of 5 series grows"
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
    assert page.count("<figure>") == page.count("</figure>") == 5
    assert page.count("<path") == 5


def test_what_is_saved_can_be_read_again(tmp_path: Path) -> None:
    report = reported(tmp_path / "soak.jsonl")
    page = save(tmp_path, report)
    assert {file.name for file in page.parent.iterdir()} == {
        "report.html", "report.json", "report.md", "soak.jsonl",
    }  # fmt: skip
    text = (tmp_path / "report.json").read_bytes()
    assert msgspec.json.decode(text, type=SoakReport) == report

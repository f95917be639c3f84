"""What is reported as lost is written in pages."""

from __future__ import annotations

from transport.contract import Envelope
from transport.redis.rescue.recent_appends import RecentAppend
from transport.redis.rescue.report import RescueReport, in_order, page_of, pages, parse_reports


def _lost(offset: str, *, size: int = 10, partition: int = 0) -> RecentAppend:
    envelope = Envelope("id", partition, "key", b"x" * size, {})
    return RecentAppend(offset, envelope, remember=True)


def test_no_page_is_large_and_none_is_left_out() -> None:
    lost = [_lost(f"{n}-0", size=200_000) for n in range(40)]
    lost += [_lost(f"{n}-1") for n in range(40, 3_000)]
    written = list(pages(lost))
    assert len(written) > 8
    assert all(len(page) < 1_500_000 for page in written)
    assert [it for page in written for it in page_of(page)] == lost


def test_a_report_has_the_first_of_each_partition() -> None:
    lost = in_order([_lost("10-0"), _lost("9-2", partition=1), _lost("9-1"), _lost("8-0")])
    report = RescueReport.read(RescueReport.of(lost, 3).packed())
    assert report == RescueReport(3, {0: "8-0", 1: "9-2"})


def test_a_report_that_another_leader_removed_is_left_out() -> None:
    report = RescueReport(1, {0: "8-0"})
    found, unreadable = parse_reports(["here", "gone", "odd"], [report.packed(), None, b"\x93\x01"])
    assert found == {"here": report}
    assert unreadable == ["odd"]

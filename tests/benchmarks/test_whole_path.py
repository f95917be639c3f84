"""What ``make bench`` says of the whole path, from a measurement to the page that is published."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from lab.bench import pages, report
from lab.bench.figure import Compared, Point
from lab.bench.stand import stand
from lab.bench.whole_path.contenders import CONTENDERS
from lab.bench.whole_path.measure import measure
from lab.bench.whole_path.offered import Offered
from lab.bench.whole_path.turns import there_and_back

_RATE = 200.0
_PATIENCE = 60.0
_CAPACITY = (Path(__file__).parents[2] / "docs" / "capacity.md").read_text()


@pytest.mark.timeout(180)
async def test_a_measurement_counts_every_row_from_when_it_was_due(tmp_path: Path) -> None:
    async with stand(tmp_path) as servers:
        # The kernel counts in hundredths of a second. The log takes less than that for 200 single
        # appends and for 600 in batches, PostgreSQL for 600 rows.
        closed = await measure(
            servers, CONTENDERS["crossfade"], Offered(seconds=_PATIENCE, requests=3000)
        )
        usual = CONTENDERS["fastapi"]
        open_loop = await measure(
            servers, usual, Offered(rate=_RATE, seconds=3.0, connections=300, partitions=3)
        )
        # More clients at once than redis-py's pool has connections by default.
        burst = await measure(
            servers, usual, Offered(seconds=_PATIENCE, requests=3000, connections=300)
        )
        assert ", allocator " in servers.versions()["log"]
    for point in (closed, open_loop, burst):
        assert point.refused == 0
        assert point.rows_per_second > 0
        assert 0 < point.row_ms[0] <= point.row_ms[1] <= point.row_ms[2]
        assert 0 < point.post_ms[0] <= point.post_ms[1] <= point.post_ms[2]
        assert set(point.cpu_us) == {"service", "log", "postgres"}
        assert all(cpu > 0 for cpu in point.cpu_us.values())
    assert (closed.rate, open_loop.rate) == (None, _RATE)
    assert open_loop.load == "3 partitions, 300 connections, 200/s"


def test_loads_are_measured_there_and_back() -> None:
    order = list(there_and_back("abc", rounds=4))
    assert "".join(order) == "abccbaabccba"
    places = {load: sum(n for n, at in enumerate(order) if at == load) for load in "abc"}
    assert len(set(places.values())) == 1


def test_a_result_becomes_a_page_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [_point(rate, ms) for rate, ms in ((1000.0, 2.0), (1000.0, 4.0), (4000.0, 40.0))]
    ratio = Compared(
        name="whole path", unit="rows/s", ours=[30.0], baseline_name="go", baseline=[20.0], target=1
    )
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    servers = {"log": "valkey 9, jemalloc-5.3.0", "postgres": "postgres 18", "fsync": "always"}
    capacity = tmp_path / "capacity.md"
    capacity.write_text(_CAPACITY.replace("| PostgreSQL | ", "| PostgreSQL | 9"))
    kept = report.save([*points, ratio], transport="redis", quick=True, servers=servers)
    pages.main([str(kept)], docs=tmp_path)
    page = (tmp_path / "figures.md").read_text()
    assert "| 256 connections, 1,000/s | crossfade | 900 | 3.0 / 6.0 / 12.0 |" in page
    assert "| whole path | 30 rows/s | go: 20 | 1.50 | >= 1 |" in page
    assert "jemalloc" in page
    picture = (tmp_path / "images" / "latency.svg").read_text()
    assert picture.count('stroke-width="2"') == 4
    assert "row p99" in picture
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)" fill="#[c1]', picture))
    assert len(heights) == 4
    assert all(below - above >= 14 for above, below in pairwise(heights)), "labels touch"
    assert capacity.read_text() == _CAPACITY, "the costs that are committed stand in it"


def _point(rate: float, ms: float) -> Point:
    return Point(
        name="crossfade",
        load=f"256 connections, {rate:,.0f}/s",
        rate=rate,
        posts_per_second=1000.0,
        rows_per_second=900.0,
        refused=0,
        post_ms=[ms, ms * 2, ms * 4],
        row_ms=[ms * 2, ms * 4, ms * 8],
        cpu_us={"service": 60.0},
        generator_cpu=0.1,
    )

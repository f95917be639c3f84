"""``crossfade capacity``: a model of measured costs, and the page that shows it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from compose.capacity.costs import Cost, Costs
from compose.capacity.model import capacity, ceiling
from compose.cli import application

_COSTS = Costs(
    measured_at="2026-01-01",
    machine="some",
    log="valkey",
    postgres="postgres",
    parts={
        "ingress": Cost(20, 10),
        "worker": Cost(10, 0),
        "log": Cost(10, 0),
        "postgres": Cost(30, 0),
    },
)


def _run(*arguments: str) -> str:
    ended = CliRunner().invoke(application("capacity"), ["capacity", *arguments])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def test_a_part_needs_its_cost_times_the_rate():
    answer = capacity(_COSTS, 30_000, 1000, 0.5)
    assert answer.parts["ingress"].cores == pytest.approx(0.9)  # 30 us each, with 1 kB
    assert answer.parts["ingress"].processes == 2  # each half busy
    assert answer.parts["worker"].processes == 1
    assert answer.parts["log"].processes is None
    assert answer.cores == pytest.approx((0.9 + 0.3 + 0.3 + 0.9) / 0.5)
    assert answer.log_is_enough
    assert not capacity(_COSTS, 60_000, 1000, 0.5).log_is_enough


@pytest.mark.parametrize(
    ("cores", "rate", "limit"), [(1, 12_500, "cores"), (4, 50_000, "cores"), (16, 100_000, "log")]
)
def test_a_machine_is_full_when_its_cores_are_or_the_one_of_the_log(cores, rate, limit):
    found = ceiling(_COSTS, cores, 1000, 1.0)
    assert (found.messages_per_second, found.limit) == (rate, limit)


def test_the_page_shows_what_the_command_says():
    page = (Path(__file__).parents[2] / "docs" / "capacity.md").read_text()
    for line in _run("--rate", "5000", "--bytes", "400").splitlines():
        assert line.rstrip() in page


def test_json_has_the_needs_the_machines_and_where_the_costs_are_from():
    told = msgspec.json.decode(_run("--rate", "100", "--json"))
    assert set(told) == {"needs", "machines", "costs"}
    assert [machine["cores"] for machine in told["machines"]] == [2, 4, 8, 16]

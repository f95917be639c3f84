"""The alerts say what they should, in every place where an operator meets them."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.monitoring.rules import ALERTS, PROMETHEUS, ROOT, alerts, hurried, rules

GUIDE = {
    "QueuePartitionLagHigh": ("5m", "warning", "> 1000"),
    "QueueDLQRateHigh": ("5m", "critical", "> 10"),
    "ConsumerProcessingErrors": ("5m", "warning", "> 1"),
}
TESTS = sorted((PROMETHEUS / "tests").glob("*.test.yml"))


def _run(program: str, *arguments: str) -> None:
    done = subprocess.run(
        [program, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_guides_three_alerts_are_as_the_guide_has_them() -> None:
    ours = alerts()
    for name, (waits, severity, threshold) in GUIDE.items():
        rule = ours[name]
        assert (rule["for"], rule["labels"]["severity"]) == (waits, severity)
        assert rule["expr"].endswith(threshold)


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_what_it_means_and_where_to_look(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"]["severity"] in {"warning", "critical"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert len(notes["summary"]) < 120
    base, _, anchor = notes["runbook_url"].partition("#")
    assert base == "{{ $externalLabels.runbooks }}"
    assert anchor in _sections()
    uid = notes["dashboard_url"].removeprefix("{{ $externalLabels.dashboards }}/")
    assert (PROMETHEUS.parent / "grafana" / "dashboards" / f"{uid}.json").exists()


def _sections() -> dict[str, str]:
    """Return the sections of RUNBOOKS.md by the anchor that a Markdown viewer gives each."""
    text = (ROOT / "RUNBOOKS.md").read_text("utf-8")
    parts = re.split(r"(?m)^#{2,3} (.+)$", text)[1:]
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-"): body
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
    }


@pytest.mark.parametrize("name", alerts())
def test_a_runbook_has_symptoms_a_check_and_a_remedy(name: str) -> None:
    anchor = alerts()[name]["annotations"]["runbook_url"].partition("#")[2]
    body = _sections()[anchor]
    for part in ("**Symptoms.**", "**Check.**", "**Remedy.**"):
        assert part in body, f"RUNBOOKS.md, {anchor}: no {part}"


@pytest.mark.parametrize("name", alerts())
def test_an_alert_is_in_the_page_s_table_with_how_urgent_it_is_and_its_wait(name: str) -> None:
    rule = alerts()[name]
    anchor = rule["annotations"]["runbook_url"].partition("#")[2]
    named = f"| [{name}](../RUNBOOKS.md#{anchor}) ({rule['labels']['severity']}) |"
    rows = (ROOT / "docs" / "monitoring.md").read_text("utf-8").splitlines()
    (row,) = [row for row in rows if row.startswith(named)]
    assert row.endswith(f" | {rule.get('for', '-')} |")


def test_the_windows_of_an_objective_differ_in_nothing_but_the_window() -> None:
    shapes: dict[str, set[str]] = {}
    for rule in rules():
        if "record" in rule:
            name, _, window = rule["record"].rpartition("rate")
            shapes.setdefault(name, set()).add(rule["expr"].replace(f"[{window}]", "[*]"))
    assert len(shapes) == 2
    assert [len(shape) for shape in shapes.values()] == [1, 1]


def test_every_alert_is_seen_to_fire_and_then_to_clear() -> None:
    """In the unit tests that promtool runs below."""
    fires: dict[str, float] = {}
    clears: dict[str, float] = {}
    for path in TESTS:
        for case in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for question in case.get("promql_expr_test", ()):
                match = re.fullmatch(
                    r'count\(ALERTS\{alertname="(\w+)",alertstate="firing"\}\)', question["expr"]
                )
                if match:
                    seen = fires if question["exp_samples"] else clears
                    seen.setdefault(match[1], _minutes(question["eval_time"]))
    assert set(fires) == set(clears) == set(alerts())
    assert [name for name in fires if fires[name] >= clears[name]] == []


def _minutes(text: str) -> float:
    units = {"d": 1440, "h": 60, "m": 1}
    return sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+)([dhm])", text))


def test_promtool_finds_no_fault(promtool: str) -> None:
    _run(promtool, "check", "rules", "--lint=all", "--lint-fatal", *map(str, ALERTS))
    for name in ("prometheus.yml", "prometheus.host.yml"):
        _run(promtool, "check", "config", "--lint=all", "--lint-fatal", name)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_promtools_unit_tests_pass(promtool: str, path: Any) -> None:
    _run(promtool, "test", "rules", str(path))


def test_rules_in_a_hurry_are_the_same_rules() -> None:
    """What the live tests run differs from what is committed in its times alone."""
    numbers = re.compile(r"\b\d+[smhd]?\b")
    for path in ALERTS:
        committed = yaml.safe_load(path.read_text("utf-8"))
        short = yaml.safe_load(hurried(path.read_text("utf-8")))
        for before, after in zip(committed["groups"], short["groups"], strict=True):
            for was, is_now in zip(before["rules"], after["rules"], strict=True):
                assert numbers.sub("#", was["expr"]) == numbers.sub("#", is_now["expr"])
                assert {**was, "expr": "", "for": "", "keep_firing_for": ""} == {
                    **is_now, "expr": "", "for": "", "keep_firing_for": "",
                }  # fmt: skip
    rule = yaml.safe_load(hurried((PROMETHEUS / "alerts/phase3-queue.yml").read_text("utf-8")))
    lag, stalled = rule["groups"][0]["rules"][0], rule["groups"][1]["rules"][2]
    assert (lag["expr"].endswith("> 1000"), lag["for"]) == (True, "10s")
    assert (stalled["expr"].endswith("> 4"), stalled["for"]) == (True, "4s")

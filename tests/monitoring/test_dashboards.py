"""Dashboards that can be trusted to show what their titles say, without a Grafana to open them in.

What Grafana's own dashboard linter asks for, asked here.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from compose.dashboards.__main__ import ALL, FOLDER, text
from tests.monitoring.dashboards import boards, concrete, panels, queries
from tests.monitoring.promql import FROM_PROMETHEUS, faults, known, selected
from tests.monitoring.rules import ROOT, alerts, rules

_UNITS = {
    "short", "s", "mps", "reqps", "percentunit", "bytes", "none", "dateTimeFromNow",
}  # fmt: skip
_RECORDED = {rule["record"] for rule in rules() if "record" in rule}
PANELS = [pytest.param(uid, panel, id=f"{uid}: {panel['title']}") for uid, panel in panels()]
RULES = [pytest.param(rule, id=rule.get("alert") or rule["record"]) for rule in rules()]
QUERIES = [pytest.param(expr, id=where) for where, expr in queries()]


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.uid)
def test_the_json_is_what_the_panels_make(one) -> None:
    """If not: ``make pages``."""
    assert (FOLDER / f"{one.uid}.json").read_text("utf-8") == text(one)


def test_the_guides_dashboard_has_its_name_its_panels_and_their_thresholds() -> None:
    board = boards()["crossfade-queue"]
    assert board["title"] == "Phase 3: Durable Delivery - Queue Monitoring"
    steps = {
        panel["title"]: [
            step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        ]
        for panel in board["panels"]
        if panel["type"] != "row"
    }
    guide = {
        "Enqueue Rate": [None],
        "Dequeue Rate": [None],
        "Partition Lag": [None, 100, 500, 1000],
        "Processing Duration": [None, 0.1],
        "DLQ Rate": [None, 0.001, 10],
        "Idempotent Hit Rate": [None, 0.03, 0.1],
    }
    assert dict(list(steps.items())[:6]) == guide


def _bounds(panel: dict[str, Any]) -> list[float | None]:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    return [step["value"] for step in steps]


@pytest.mark.parametrize("uid", boards())
def test_a_dashboard_is_whole(uid: str) -> None:
    board = boards()[uid]
    assert board["uid"] == uid
    assert board["title"]
    assert board["description"]
    ids = [panel["id"] for panel in board["panels"]]
    titles = [panel["title"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert len(set(titles)) == len(titles)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another"
        taken |= cells


@pytest.mark.parametrize(("uid", "panel"), PANELS)
def test_a_panel_says_what_it_shows_in_which_unit_from_a_chosen_source(uid, panel) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in _UNITS
    names = {variable["name"] for variable in boards()[uid]["templating"]["list"]}
    for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
        assert source["uid"].removeprefix("${").removesuffix("}") in names
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references) > 0
    bounds = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]]
    assert bounds == sorted(bounds)
    if len(panel["targets"]) > 1:
        assert all(target["legendFormat"] != "__auto" for target in panel["targets"])


@pytest.mark.parametrize("expr", QUERIES)
def test_a_query_asks_for_what_there_is(expr: str) -> None:
    assert faults(concrete(expr), known(), recorded=_RECORDED) == []
    assert set(re.findall(r"\$\w+", expr)) <= {"$job", "$__rate_interval"}
    for selector in selected(concrete(expr)):
        ours = selector.name not in FROM_PROMETHEUS | _RECORDED or selector.name == "up"
        assert ("job" in selector.matched) is ours, f"{selector.name} is not of the chosen job"


@pytest.mark.parametrize(
    "rule", list(rules()), ids=lambda rule: rule.get("alert", rule.get("record"))
)
def test_a_rule_asks_for_what_there_is(rule) -> None:
    assert faults(rule["expr"], known(), recorded=_RECORDED) == []


def test_the_judge_sees_what_is_wrong() -> None:
    """Or the tests above would prove nothing."""
    wrong = {
        "stream_partition_lagg": ["no process serves stream_partition_lagg"],
        "sum(stream_enqueue_total)": ["stream_enqueue_total is a counter: take its rate()"],
        "rate(stream_partition_lag[5m])": [
            "stream_partition_lag is no counter: rate() of it means nothing"
        ],
        "sum by (topic) (stream_partition_lag)": ["stream_partition_lag has no label topic"],
        'stream_partition_lag{part="1"}': ["stream_partition_lag has no label part"],
    }
    assert {expr: faults(expr, known(), recorded=set()) for expr in wrong} == wrong


def test_every_alert_about_a_metric_has_that_metric_on_its_dashboard() -> None:
    shown: dict[str, set[str]] = {}
    for where, expr in queries():
        uid = where.partition(":")[0]
        shown.setdefault(uid, set()).update(selector.name for selector in selected(concrete(expr)))
    missing = []
    for name, rule in alerts().items():
        uid = rule["annotations"]["dashboard_url"].rpartition("/")[2]
        wanted = {selector.name for selector in selected(rule["expr"])}
        if not wanted & shown[uid]:
            missing.append(name)
    assert missing == []


def test_grafana_is_given_the_dashboards_and_both_data_sources() -> None:
    folder = FOLDER.parent / "provisioning"
    sources = yaml.safe_load((folder / "datasources/crossfade.yml").read_text())["datasources"]
    kinds = {source["uid"]: source for source in sources}
    assert {source["type"] for source in sources} == {"prometheus", "jaeger"}
    (link,) = kinds["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert link["name"] == "trace_id"
    assert kinds[link["datasourceUid"]]["type"] == "jaeger"
    (provider,) = yaml.safe_load((folder / "dashboards/crossfade.yml").read_text())["providers"]
    services = yaml.safe_load((ROOT / "compose/docker/compose.yml").read_text())["services"]
    volumes = services["grafana"]["volumes"]
    mounts = dict(mount.split(":")[:2] for mount in volumes if mount[0] == ".")
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    for source in sources:
        host = re.fullmatch(r"http://(\w+):\d+", source["url"])
        assert host
        assert host[1] in services

"""The container files, brought up as they stand: one story, told in order.

It begins with nothing and ends with nothing. The tests build on each other; ``make containers``
runs them all.
"""

from __future__ import annotations

import asyncio
import json
import tarfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from tests.containers.load import posting
from tests.containers.stack import LEFT_OUT, ROOT, Stack
from tests.support.eventually import eventually

pytestmark = pytest.mark.containers

Record = Callable[[str, object], None]
_IDS = "SELECT id FROM messages"


@pytest.mark.parametrize("builder", ["classic", "BuildKit"])
def test_only_the_project_goes_to_the_builder(stack: Stack, builder: str, tmp_path: Path):
    """An image of nothing but the context: no message, no environment, no history."""
    recipe = tmp_path / "Dockerfile"
    recipe.write_text('FROM scratch\nCOPY . /\nCMD ["none"]\n')
    kit = {"DOCKER_BUILDKIT": "0" if builder == "classic" else "1"}
    name = f"crossfade-context-{builder.lower()}"
    built = stack.engine.docker("build", "--tag", name, "--file", str(recipe), str(ROOT), env=kit)
    assert built.returncode == 0, built.stderr
    (created,) = stack.engine.docker("create", name).stdout.split()
    exported = tmp_path / "context.tar"
    stack.engine.docker("export", "--output", str(exported), created)
    stack.engine.docker("rm", created)
    stack.engine.docker("rmi", name)
    with tarfile.open(exported) as context:
        found = {
            getmember.name.partition("/")[0]
            for getmember in context.getmembers()
            if getmember.isfile()
        }
    ours = {path.parent.name for path in ROOT.glob("*/py.typed")}
    engines_own = {".dockerenv", "dev", "etc", "proc", "sys"}
    files = {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    assert found - engines_own == ours | files


def test_the_image_runs_as_nobody_and_can_install_nothing(stack: Stack, record_property: Record):
    (image,) = json.loads(stack.engine.docker("image", "inspect", "crossfade").stdout)
    base = json.loads(stack.engine.docker("image", "inspect", "python:3.13-slim").stdout)
    ours = image["Size"] - (base[0]["Size"] if base else 0)
    record_property("image, without its base", f"{ours / 1e6:.0f} MB")
    assert ours < 160e6
    asked = "import os, importlib.util as u; print(os.getuid(), u.find_spec('pip') is None)"
    said = stack.engine.docker(
        "run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL",
        "--security-opt=no-new-privileges", "crossfade", "python", "-c", asked,
    )  # fmt: skip
    assert said.stdout.split() == ["10001", "True"], said.stderr


async def test_everything_comes_up(stack: Stack, record_property: Record):
    began = time.monotonic()
    await asyncio.to_thread(stack.up)
    await stack.ready()
    record_property("until it is ready", f"{time.monotonic() - began:.1f} s")
    if LEFT_OUT:
        record_property("left out", " ".join(sorted(LEFT_OUT)))


async def test_the_guides_curl_is_accepted_once_and_becomes_one_row(stack: Stack):
    status, first = stack.guides_curl()
    assert (status, first["state"], first["idempotentHit"]) == (202, "pending", False)
    await _rows(stack, {first["messageId"]})
    status, again = stack.guides_curl()
    assert (status, again["idempotentHit"]) == (200, True)
    assert again["messageId"] == first["messageId"]
    query = "SELECT count(*) FROM messages WHERE content = 'Hello, Phase 3!'"
    assert stack.rows(query) == ["1"]


async def test_a_message_leads_to_its_trace(stack: Stack, record_property: Record):
    _, answer = stack.guides_curl()
    message = await stack.get(f"{stack.api}/api/messages/{answer['messageId']}")
    assert message["traceUrl"] == f"{stack.traces}/trace/{message['traceId']}"

    async def spans() -> set[str]:
        try:
            found = await stack.get(f"{stack.traces}/api/traces/{message['traceId']}")
        except AssertionError:
            return set()
        return {span["operationName"].split()[0] for span in found["data"][0]["spans"]}

    async def whole() -> bool:
        return {"POST", "INSERT"} <= await spans()

    await eventually(whole)
    record_property("spans named", len(await spans()))


async def test_prometheus_sees_every_replica_and_keeps_its_samples_on_its_volume(stack: Stack):
    await eventually(lambda: _targets(stack, 1))
    await asyncio.to_thread(stack.up, "--scale", "worker=2")
    await eventually(lambda: _targets(stack, 3))
    rules = await stack.get(f"{stack.prometheus}/api/v1/rules")
    assert sum(len(group["rules"]) for group in rules["data"]["groups"]) > 40
    kept = stack.compose("exec", "-T", "prometheus", "ls", "/prometheus").split()
    assert "wal" in kept


async def test_workers_share_the_partitions(stack: Stack):
    async with posting(stack.api, "scaled") as acknowledged:
        await eventually(lambda: len(acknowledged) > 100)
    await _rows(stack, acknowledged)
    processed = 'sum by (instance) (stream_consumer_processed_total{status="persisted"}) > 0'
    await eventually(lambda: _count(stack, processed, 3))


async def test_a_stop_under_load_is_an_orderly_one_and_loses_nothing(
    stack: Stack, record_property: Record
):
    async with posting(stack.api, "stopped") as acknowledged:
        await eventually(lambda: len(acknowledged) > 100)
        before = len(acknowledged)
        took = await _timed(stack.compose, "stop", "app")
        record_property("stop of the app", f"{took:.1f} s")
        assert stack.container("app")["State"]["ExitCode"] == 0
        assert not [line for line in stack.events("app") if line["level"] == "error"]
        await asyncio.to_thread(stack.up, "--scale", "worker=2")
        await eventually(lambda: len(acknowledged) > before + 50)
    await _rows(stack, acknowledged)


async def test_sigkill_of_everything_of_ours_under_load_loses_nothing(stack: Stack):
    async with posting(stack.api, "killed") as acknowledged:
        await eventually(lambda: len(acknowledged) > 100)
        before = len(acknowledged)
        await asyncio.to_thread(stack.compose, "kill", "--signal", "KILL", "app", "worker")
        await asyncio.to_thread(stack.up, "--scale", "worker=2")
        await eventually(lambda: len(acknowledged) > before + 50)
    await _rows(stack, acknowledged)


async def test_what_takes_traces_is_stopped_last(stack: Stack, record_property: Record):
    await asyncio.to_thread(stack.up, "--scale", "worker=0")
    await stack.ready()
    record_property("stop of everything", f"{await _timed(stack.compose, 'stop'):.1f} s")
    ended = {name: stack.container(name)["State"] for name in ("app", "traces")}
    at = {name: datetime.fromisoformat(state["FinishedAt"]) for name, state in ended.items()}
    assert at["app"] < at["traces"]
    assert ended["app"]["ExitCode"] == 0


async def test_a_stop_without_what_takes_traces_is_no_longer_and_no_failure(
    stack: Stack, record_property: Record
):
    await asyncio.to_thread(stack.up)
    await stack.ready()
    await asyncio.to_thread(stack.compose, "stop", "traces")
    _, answer = stack.guides_curl()
    assert answer["idempotentHit"]
    await asyncio.to_thread(stack.compose, "stop", "app")
    lines = stack.events("app")
    asked = [line["timestamp"] for line in lines if line["event"] == "Stopping"][-1]
    took = _seconds(
        asked, stack.container("app")["State"]["FinishedAt"]
    )  # without the engine's part
    record_property("of the process", f"{took:.1f} s")
    assert took < 4
    (told,) = [line for line in lines if line["event"] == "The last spans were not delivered"]
    assert told["level"] == "warning"
    assert not [line for line in lines if line["level"] == "error"]


async def test_down_and_up_keep_the_rows(stack: Stack, record_property: Record):
    before = stack.rows(_IDS)
    record_property("rows", len(before))
    record_property("down", f"{await _timed(stack.down):.1f} s")
    await asyncio.to_thread(stack.up)
    await stack.ready()
    assert sorted(stack.rows(_IDS)) == sorted(before)
    status, _ = stack.guides_curl()
    assert status == 200


async def test_kafka_without_its_profile_is_one_line_that_names_the_remedy(
    stack: Stack, record_property: Record
):
    await asyncio.to_thread(stack.down, "--volumes")
    stack.settings["TRANSPORT"] = "kafka"
    began = time.monotonic()
    await asyncio.to_thread(stack.up)

    async def alive() -> bool:
        return await stack.status("/healthz") == 200

    await eventually(alive)
    record_property("until health answers", f"{time.monotonic() - began:.1f} s")
    assert await stack.status("/readyz") == 503
    await eventually(lambda: "--profile kafka" in stack.logs("app"))
    said = stack.logs("app")
    assert "never retrieved" not in said
    assert "Unable connect" not in said


async def test_kafka_with_its_profile_is_found_by_what_was_waiting_for_it(
    stack: Stack, record_property: Record
):
    began = time.monotonic()
    await asyncio.to_thread(stack.up, profile="kafka")
    await stack.ready()
    record_property("until it is ready", f"{time.monotonic() - began:.1f} s")
    status, first = stack.guides_curl()
    assert status == 202
    await _rows(stack, {first["messageId"]})
    status, again = stack.guides_curl()
    assert (status, again["messageId"]) == (200, first["messageId"])


async def test_kafkas_health_check_costs_next_to_nothing(stack: Stack):
    checks = stack.container("kafka")["State"]["Health"]["Log"]
    took = sorted(
        _seconds(check["Start"], check["End"]) for check in checks if check["ExitCode"] == 0
    )
    assert took
    assert took[0] < 1


async def test_kafka_loses_nothing_when_everything_of_ours_is_killed(stack: Stack):
    async with posting(stack.api, "kafka") as acknowledged:
        await eventually(lambda: len(acknowledged) > 100)
        before = len(acknowledged)
        await asyncio.to_thread(stack.compose, "kill", "--signal", "KILL", "app")
        await asyncio.to_thread(stack.up, profile="kafka")
        await eventually(lambda: len(acknowledged) > before + 50)
    await _rows(stack, acknowledged)


async def test_down_with_its_volumes_leaves_nothing(stack: Stack):
    await asyncio.to_thread(stack.down, "--volumes")
    only = ("--filter", "label=com.docker.compose.project=crossfade-tests", "--quiet")
    for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
        assert stack.engine.docker(*kind, *only).stdout == ""


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


async def _timed(work: Callable[..., object], *arguments: str) -> float:
    began = time.monotonic()
    await asyncio.to_thread(work, *arguments)
    return time.monotonic() - began


async def _rows(stack: Stack, acknowledged: set[str]) -> None:
    """Return once each acknowledged message is a row; none is there twice."""

    async def all_there() -> bool:
        return acknowledged <= set(await asyncio.to_thread(stack.rows, _IDS))

    await eventually(all_there)
    query = "SELECT count(*) - count(DISTINCT idempotency_key) FROM messages"
    assert stack.rows(query) == ["0"]


async def _targets(stack: Stack, count: int) -> bool:
    found = (await stack.get(f"{stack.prometheus}/api/v1/targets"))["data"]["activeTargets"]
    ours = [target["health"] for target in found if target["labels"]["job"] == "crossfade"]
    return ours == ["up"] * count


async def _count(stack: Stack, query: str, count: int) -> bool:
    return len(await _query(stack, query)) == count


async def _query(stack: Stack, query: str) -> list[object]:
    address = httpx.URL(f"{stack.prometheus}/api/v1/query", params={"query": query})
    return (await stack.get(str(address)))["data"]["result"]

"""Processes that are spared never end, and a part that ended by itself is told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.harness.anomaly import What
from lab.rehearsal.deaths import DeathWatch
from lab.rehearsal.part import Part
from lab.rehearsal.timeline import RehearsalTimeline
from lab.soak.options import SoakOptions
from lab.soak.record import SoakRecorder
from lab.soak.soak import Soak
from lab.soak.targets import spared, victims, ways


class Server:
    """Runs where it is told that it does."""

    name = "worker-1"

    def __init__(self) -> None:
        self.pid: int | None = None

    @property
    def running(self) -> bool:
        return self.pid is not None

    async def start(self) -> None:
        self.pid = 1

    async def stop(self) -> None:
        self.pid = None

    async def kill(self) -> None:
        self.pid = None

    async def suspend(self) -> None: ...

    async def resume(self) -> None: ...


def parts_of(folder: Path, ingresses: int, workers: int) -> list[Part]:
    options = SoakOptions(ingresses=ingresses, workers=workers)
    with SoakRecorder(folder / "soak.jsonl") as recorder:
        return Soak(folder / "data", options, recorder, lambda _: None).stage.parts


@pytest.mark.parametrize("way", ["kill", "restart", "suspend"])
@pytest.mark.parametrize(("ingresses", "workers"), [(1, 0), (1, 1), (2, 1), (1, 2), (3, 2)])
def test_the_spared_ones_are_never_ended(
    tmp_path: Path, ingresses: int, workers: int, way: str
) -> None:
    parts = parts_of(tmp_path, ingresses, workers)
    assert spared(parts) == ["ingress-1", "worker-1"][: 1 + (workers > 0)]
    for kind in {part.kind for part in parts}:
        names = [part.name for part in victims(parts, kind, way)]
        assert (way in ways(parts, kind)) == bool(names), "each card of the deck has its victim"
        if way == "suspend":
            assert names == [part.name for part in parts if part.kind == kind]
        else:
            assert not set(names) & set(spared(parts))
    assert "kill" in ways(parts, "postgres")


@pytest.mark.parametrize("way", ["kill", "suspend", "restart"])
async def test_an_end_that_a_fault_covers_is_told_of_once(way: str) -> None:
    server = Server()
    part = Part(server, "worker", RehearsalTimeline())
    await part.start()
    deaths = DeathWatch([part])
    async with part.hurt(way, None):
        assert deaths.look() == []
    assert deaths.look() == [], "a fault did it"
    server.pid = None
    async with part.hurt(way, None):
        pass
    (death,) = deaths.look()
    assert (death.what, death.where) == (What.STUCK, "worker-1")
    assert deaths.look() == []


async def test_an_end_that_a_restart_covers_is_told_of() -> None:
    server = Server()
    part = Part(server, "worker", RehearsalTimeline())
    await part.start()
    deaths = DeathWatch([part])
    await part.stop()
    await part.start()
    assert deaths.look() == []
    server.pid = None
    await part.stop()
    await part.start()
    assert [death.where for death in deaths.look()] == ["worker-1"]


async def test_an_end_is_told_of_at_the_next_look() -> None:
    server = Server()
    part = Part(server, "worker", RehearsalTimeline())
    await part.start()
    deaths = DeathWatch([part])
    server.pid = None
    assert [death.where for death in deaths.look()] == ["worker-1"]
    assert deaths.look() == []

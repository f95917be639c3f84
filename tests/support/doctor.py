"""Runs ``crossfade doctor`` as a command of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.forked_commands import ForkedCommands
from transport.settings import TransportSettings

__all__ = ["Doctor", "examined", "kafka_variables"]


async def examined(
    folder: Path, *arguments: str, settings: dict[str, str]
) -> tuple[int, dict[str, Any]]:
    """Return the exit status, and each observation by what it is of, as ``log redis, rights``."""
    ran = await ForkedCommands(folder).run("doctor", "--json", *arguments, settings=settings)
    assert b"Traceback" not in ran.errors
    return ran.status, {f"{each['of']}, {each['what']}": each for each in json.loads(ran.output)}


class Doctor:
    """Runs the command with settings that lead to one Redis and one database."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._folder = folder
        self.settings = {"STREAM_PARTITIONS": "2", **settings}

    async def examine(self, *arguments: str, **changes: str) -> tuple[int, dict[str, Any]]:
        """See ``examined``."""
        return await examined(self._folder, *arguments, settings=self.settings | changes)

    async def table(self) -> str:
        """Return what it prints for people."""
        ran = await ForkedCommands(self._folder).run("doctor", settings=self.settings)
        return ran.output.decode()


def kafka_variables(settings: TransportSettings) -> dict[str, str]:
    """Return the variables that lead to this log on Kafka."""
    return {
        "TRANSPORT": "kafka",
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "KAFKA_TOPIC": settings.kafka_topic,
        "KAFKA_DLQ_TOPIC": settings.kafka_dlq_topic,
        "STREAM_PARTITIONS": str(settings.stream_partitions),
    }

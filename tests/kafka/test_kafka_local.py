"""The local Kafka itself: its data kept, gone with its owner, and clear when it can't run."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from compose.local import class_archive, kafka_jars
from compose.local.server import ServerError
from tests.support.eventually import eventually
from tests.support.kafka import fresh_settings, require_kafka, run_kafka
from transport.conformance.envelopes import contents, message
from transport.contract import Topic
from transport.kafka import KafkaTransport

_OWNER = """
import asyncio, sys
from pathlib import Path
from compose.local.kafka import KafkaServer

async def main():
    server = KafkaServer(Path(sys.argv[1]))
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def _has_archive() -> list[str]:
    return class_archive.use(kafka_jars.find_java(), kafka_jars.kafka_jars())


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    async with run_kafka(tmp_path) as server:
        settings = fresh_settings(server.bootstrap)
        async with KafkaTransport(settings) as transport:
            await transport.publish([message("kept", partition=0, of=transport)])
        address = server.bootstrap
        await eventually(_has_archive)  # another process may still be making it
        await server.restart()
        assert server.bootstrap == address
        mapped = {part.path for part in psutil.Process(server.pid).memory_maps()}
        assert any(path.endswith(".jsa") and "classes-" in path for path in mapped)
        async with KafkaTransport(settings) as transport:
            assert contents(await transport.read(Topic.MESSAGES, 0)) == ["kept"]


async def test_it_does_not_outlive_its_owner(tmp_path: Path) -> None:
    await require_kafka()
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _OWNER, str(tmp_path / "data"), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    pid = int(await asyncio.wait_for(owner.stdout.readline(), 240))
    assert psutil.pid_exists(pid)
    os.kill(owner.pid, signal.SIGKILL)
    await owner.wait()
    await eventually(lambda: not psutil.pid_exists(pid))


def test_without_java_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(kafka_jars, "_JAVA_PLACES", ())
    with pytest.raises(ServerError, match="install a JDK and put 'java' on the PATH"):
        kafka_jars.find_java()


def test_a_java_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(kafka_jars, "_JAVA_PLACES", ())
    with pytest.raises(ServerError, match="passed over: it is Java 11"):
        kafka_jars.find_java()


def test_without_maven_and_without_jars_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ServerError, match="install Maven"):
        kafka_jars.kafka_jars()


def test_a_maven_that_fails_says_why_and_leaves_nothing_half_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho 'Could not transfer artifact'\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ServerError, match="Could not transfer artifact"):
        kafka_jars.kafka_jars()
    assert not (kafka_jars.cache_dir() / f"kafka-{kafka_jars.KAFKA_VERSION}" / "jars").exists()

"""A real Apache Kafka on loopback (KRaft, no ZooKeeper, no Docker)."""

from __future__ import annotations

import asyncio
import base64
import os
import struct
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from compose.local import class_archive
from compose.local.kafka_jars import Java, find_java, kafka_jars
from compose.local.language import in_english
from compose.local.os_errors import explained_by
from compose.local.ports import free_port
from compose.local.server import LocalServer, ServerError

__all__ = ["KafkaServer", "ListenerSecurity", "new_id"]

# For a laptop: few threads and small buffers (the cleaner alone would take 128 MB), failures
# detected in seconds, groups formed at once, and no topics created automatically.
_SMALL = {
    "auto.create.topics.enable": "false",
    "background.threads": "2",
    "broker.heartbeat.interval.ms": "300",
    "broker.session.timeout.ms": "1500",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    # How often an idle controller appends an entry, by which monitors see that it lives. Nothing
    # monitors it here, and elections, heartbeats and commits don't need these entries. At the
    # default of two per second they took a quarter of an idle node's CPU time.
    "metadata.max.idle.interval.ms": "5000",
    "log.cleaner.dedupe.buffer.size": "2097152",
    "num.io.threads": "4",
    "num.network.threads": "2",
    "offsets.topic.num.partitions": "4",
    "replica.lag.time.max.ms": "3000",
    "share.coordinator.state.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
}
_LONE_NODE = {
    # fsync before every acknowledgement: no replica would survive a power cut.
    "log.flush.interval.messages": "1",
    # No other node could take over, so a late heartbeat should not fence this one: on a busy
    # machine it lost all its leaders again and again. The cost: a node that was killed can
    # register again only after this time.
    "broker.session.timeout.ms": "5000",
}

# Optimized for a quick start and little memory: such a JVM spends most of its time starting.
_QUICK = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xms64m")
# The options of Kafka's own start script: code is fast after a minute of load, once compiled.
_THOROUGH = ("-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")
_JVM = (
    "-Xss512k", "-Xshare:auto",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)  # fmt: skip

# A Metadata request, version 2 (the first with a cluster id), for no topic; framed, no client id.
_METADATA = struct.pack(">ihhihi", 14, 3, 2, 1, -1, 0)
_PATIENCE = 2.0  # seconds for one answer while starting
_WRITTEN_WITHIN = 120.0  # seconds for a JVM to write its class archive and exit
_LONGEST_ANSWER = 1 << 20


class ListenerSecurity(Protocol):
    """Authentication and encryption of a client listener."""

    @property
    def protocol(self) -> str:
        """The security protocol, as Kafka names it."""

    def broker(self, folder: Path, java: Java) -> dict[str, str]:
        """Return the broker's properties; make in ``folder`` what they name."""

    def format_arguments(self) -> list[str]:
        """Return further arguments for the storage tool."""


class _Plaintext:
    protocol = "PLAINTEXT"

    def broker(self, _folder: Path, _java: Java) -> dict[str, str]:
        return {}

    def format_arguments(self) -> list[str]:
        return []


class KafkaServer(LocalServer):
    """One Kafka node, broker and controller in one, with its data in ``data_dir``.

    Each object has a random name, which the broker reports to clients as its rack. It identifies
    this server among others that may get its port, even one on a copy of its data, which has the
    same cluster id.

    Args:
        data_dir: The data; formatted at the first start.
        port: The port that the server must have.
        near: The preferred port; if it is taken, the server gets another.
        advertised_port: The port that clients are told to use, for a proxy in between.
        security: Authentication and encryption of the client listener; by default none.
        config: Adds to or replaces the defaults.
        jvm: Further options of the JVM.
        classes: Folders with further classes that the configuration names.
        heap_mb: The JVM's heap, in MB.
        thorough: Use the JVM options of a long-lived broker: slow to start, fast once warm.
        node_id: The node's id in the cluster.
        cluster_id: The cluster's id; by default a new one.
        voters: Controller port by node id, where the cluster has several.
    """

    # A start takes a few seconds on an idle machine; most of a minute was seen on a busy one.
    ready_within = 240.0

    def __init__(  # noqa: PLR0913 - options, of which each server sets few
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        near: int | None = None,
        advertised_port: int | None = None,
        security: ListenerSecurity | None = None,
        config: Mapping[str, str] | None = None,
        jvm: Sequence[str] = (),
        classes: Sequence[Path] = (),
        heap_mb: int = 256,
        thorough: bool = False,
        node_id: int = 1,
        cluster_id: str | None = None,
        voters: Mapping[int, int] | None = None,
    ) -> None:
        self.node_id = node_id
        self._given_voters = dict(voters or {})
        super().__init__(f"kafka-{node_id}" if voters else "kafka", data_dir, port=port, near=near)
        self._port_is_fixed |= voters is not None
        self.security = security or _Plaintext()
        self._advertised = advertised_port
        self._nonce = new_id()
        self._cluster_id = cluster_id or new_id()
        self._config = dict(config or {})
        self._jvm = tuple(jvm)
        self._classes = tuple(classes)
        self._heap_mb = heap_mb
        self._thorough = thorough
        self._archives: list[str] | None = None

    @property
    def bootstrap(self) -> str:
        """Addresses for a client's ``bootstrap.servers``."""
        return f"{self.host}:{self._advertised or self.port}"

    @property
    def rack(self) -> str:
        """The rack that the broker reports to clients: the random name of this object."""
        return self._nonce

    @property
    def internal(self) -> str:
        """Address of the listener for other brokers, without authentication or TLS."""
        return f"{self.host}:{self._internal_port}"

    async def start(self) -> None:
        """Start the node; return once it takes requests. See ``LocalServer.start``."""
        if self._archives is None:
            await self._archive_classes()
        await super().start()

    async def _archive_classes(self) -> None:
        """Start and stop a broker in a temporary folder to make the archive, once per machine."""
        java, jars = await asyncio.to_thread(find_java), await asyncio.to_thread(kafka_jars)
        # If Kafka can't start on this machine, the start of the requested broker reports why.
        with suppress(ServerError), class_archive.making(java, jars) as options:
            if options is not None:
                with tempfile.TemporaryDirectory(prefix="crossfade-classes-") as folder:
                    broker = KafkaServer(Path(folder) / "data")
                    broker._archives, broker._grace = options, _WRITTEN_WITHIN
                    async with broker:
                        pass

    async def initialize(self) -> None:
        """Make and format the data folder, without starting the server."""
        await asyncio.to_thread(self._prepare)

    def _command(self) -> list[str]:
        return [
            str(self._java.path), *(_THOROUGH if self._thorough else _QUICK), *_JVM,
            *self._jvm, *self._sharing(), f"-Xmx{self._heap_mb}m",
            "-cp", os.pathsep.join([f"{self._jars}/*", *map(str, self._classes)]),
            "kafka.Kafka", str(self._properties_path),
        ]  # fmt: skip

    def _sharing(self) -> list[str]:
        return self._archives or class_archive.use(self._java, self._jars)

    @property
    def _properties_path(self) -> Path:
        return self.data_dir / "server.properties"

    def _choose_ports(self, port: int | None) -> None:
        super()._choose_ports(port)
        self._internal_port = free_port()
        self._controller_port = self._given_voters.get(self.node_id) or free_port()

    @property
    def _voters(self) -> dict[int, int]:
        return self._given_voters or {self.node_id: self._controller_port}

    def _prepare(self) -> None:
        self._java, self._jars = find_java(), kafka_jars()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir.chmod(0o700)  # the properties may hold a listener's passwords
        properties = self._properties() | self.security.broker(self.data_dir, self._java)
        lines = (f"{key}={value}\n" for key, value in sorted(properties.items()))
        self._properties_path.write_text("".join(lines))
        if not (self.data_dir / "log" / "meta.properties").exists():
            self._format()

    def _properties(self) -> dict[str, str]:
        replicas = str(min(3, len(self._voters)))
        in_sync = str(max(1, len(self._voters) - 1))
        listeners = {
            "CLIENT": self.port,
            "INTERNAL": self._internal_port,
            "CONTROLLER": self._controller_port,
        }
        fixed = {
            "process.roles": "broker,controller",
            "node.id": str(self.node_id),
            "broker.rack": self.rack,
            "controller.quorum.voters": ",".join(
                f"{node}@{self.host}:{port}" for node, port in self._voters.items()
            ),
            "listeners": ",".join(
                f"{name}://{self.host}:{port}" for name, port in listeners.items()
            ),
            "advertised.listeners": f"CLIENT://{self.bootstrap},"
            f"INTERNAL://{self.host}:{self._internal_port}",
            "listener.security.protocol.map": f"CLIENT:{self.security.protocol},"
            "INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
            "log.dirs": str(self.data_dir / "log"),
        }
        replicated = {
            "offsets.topic.replication.factor": replicas,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
        }
        alone = _LONE_NODE if len(self._voters) == 1 else {}
        return {**_SMALL, **alone, **replicated, **self._config, **fixed}

    def _format(self) -> None:
        result = subprocess.run(
            [
                self._java.path, *_QUICK, *_JVM,
                *class_archive.use(self._java, self._jars), "-cp", f"{self._jars}/*",
                "kafka.tools.StorageTool", "format",
                f"--cluster-id={self._cluster_id}", "--config", self._properties_path,
                *self.security.format_arguments(),
            ],
            env=in_english(os.environ),
            capture_output=True, text=True, check=False, timeout=self.ready_within,
        )  # fmt: skip
        if result.returncode != 0:
            said = (result.stdout + result.stderr).strip()
            if told := explained_by(said, self.data_dir):
                raise ServerError(f"Kafka could not format {self.data_dir}: {told}")
            raise ServerError(f"Kafka could not format {self.data_dir}:\n{said}")

    async def _is_ready(self) -> bool:
        """Return whether this node answers at its ports, and is registered.

        A broker answers before the controller has registered it, so this node must be among the
        brokers of its Metadata response. A listener that needs a password or TLS is not asked.
        """
        ports = [self._internal_port]
        if self.security.protocol == _Plaintext.protocol:
            ports.append(self.port)
        for port in ports:
            if (self.node_id, self._nonce) not in await _brokers_at(self.host, port):
                return False
        return True


async def _brokers_at(host: str, port: int) -> set[tuple[int, str]]:
    """Return id and rack of the brokers that a server lists; empty if it is not a Kafka."""
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(_METADATA)
                size, _correlation = struct.unpack(">ii", await reader.readexactly(8))
                return _brokers(await reader.readexactly(min(size, _LONGEST_ANSWER) - 4))
            finally:
                writer.close()
    except (OSError, ValueError, TimeoutError, EOFError, struct.error):
        return set()


def _brokers(body: bytes) -> set[tuple[int, str]]:
    """Return id and rack of the brokers in the body of a Metadata response, version 2."""
    (count,) = struct.unpack_from(">i", body)
    at, found = 4, set()
    for _ in range(count):
        node, host_length = struct.unpack_from(">ih", body, at)
        at += 6 + host_length + 4
        (rack_length,) = struct.unpack_from(">h", body, at)
        at += 2
        rack = body[at : at + max(0, rack_length)].decode()
        at += max(0, rack_length)
        found.add((node, rack))
    return found


def new_id() -> str:
    """Return a random id in the form of Kafka's own."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")

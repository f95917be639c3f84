"""The connector: makes connected clients, and finds out why one can't connect."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError

from transport.certificates import Certificate
from transport.errors import ConfigurationError, TransportError, TransportUnavailable
from transport.host_lookup import look_up
from transport.kafka.client import (
    broken_writes,
    client_log,
    connecting,
    ended_connections,
    errors,
    fixed_arrays,
    idle_fetches,
    node_outages,
    parsing,
    topic_creation,
)
from transport.kafka.client.errors import translate
from transport.kafka.client.looks import LOOK_MS, look_when_due
from transport.kafka.connection import password_file
from transport.kafka.connection.closing import (
    discard_admin,
    discard_client,
    discard_consumer,
    discard_producer,
    start,
)
from transport.kafka.connection.security import OPTIONS, security_options
from transport.kafka.producer.producer import Producer
from transport.kafka.producer.throttled import Throttled
from transport.kafka.tokens import handshake
from transport.settings import TransportSettings
from transport.tls_files import certificates_of
from transport.tls_refusals import is_out_of_date

__all__ = ["Connector"]

parsing.install()
fixed_arrays.install()
idle_fetches.install()
handshake.install()
password_file.install()
client_log.install()
ended_connections.install()
node_outages.install()
broken_writes.install()
topic_creation.install()
errors.install()
connecting.install()

_METADATA_MAX_AGE_MS = 30_000  # after which an idle client knows of leaders that moved
_CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}  # their numbers in batches
_COMMITTED, _UNCOMMITTED = "read_committed", "read_uncommitted"
_FETCH_BYTES = 1024 * 1024  # per partition and answer


class _FetchingClient(AIOKafkaClient):  # type: ignore[misc] # aiokafka is not typed
    """A client without the parts that aiokafka builds on it."""

    def __init__(self, topics: list[str], **options: Any) -> None:
        super().__init__(**options)
        self._wanted = topics

    async def start(self) -> None:
        """Connect, and find the leaders of the topics."""
        await self.bootstrap()
        await self.set_topics(self._wanted)


class Connector:
    """Makes clients for one log's settings."""

    def __init__(self, settings: TransportSettings) -> None:
        self.timeout = settings.kafka_timeout_ms / 1000
        self.servers = settings.kafka_bootstrap_servers
        self.rack = settings.kafka_client_rack
        self._settings = settings
        self._options = self._common(settings)
        self.throttled = Throttled()

    async def admin(self) -> AIOKafkaAdminClient:
        """Return a connected client for topics and groups.

        Raises:
            ConfigurationError: Kafka refuses the connection because of a setting.
            TransportUnavailable: Kafka can't be reached.
        """
        client = AIOKafkaAdminClient(**self._options, **self._requests(self.timeout))
        await self._started(client, discard_admin)
        return client

    async def producer(
        self, topics: Iterable[str], on_broken: Callable[[Producer, str], None]
    ) -> Producer:
        """Return a started idempotent producer, which knows the leaders of ``topics``.

        It appends in order, once, and to all in-sync replicas.

        Raises:
            ConfigurationError: Kafka refuses the connection because of a setting.
            TopicMissing: a topic does not exist.
            TransportUnavailable: Kafka can't be reached.
        """
        # Shorter than our own timeout, so that there is time left after a leader died in silence.
        requests = self._requests(self.timeout * 0.8)
        producer = Producer(
            AIOKafkaClient(**self._options, **requests),
            compression=_CODECS[self._settings.kafka_compression],
            milliseconds=requests["request_timeout_ms"],
            on_broken=on_broken,
            throttled=self.throttled,
        )
        await self._started(producer, discard_producer)
        try:
            await producer.find(*topics)
        except BaseException as error:
            await discard_producer(producer)
            if not isinstance(error, Exception):
                raise
            raise translate(error, starting=True) from error
        return producer

    async def reader(
        self, *, fetch_bytes: int = _FETCH_BYTES, committed: bool = True
    ) -> AIOKafkaConsumer:
        """Return a started consumer that belongs to no group.

        It fetches up to ``fetch_bytes`` per partition at a time, or one batch if that is larger.
        With ``committed`` it skips records of aborted transactions, and for it a partition ends
        where the oldest open transaction begins.
        """
        client = AIOKafkaConsumer(
            **self._options,
            **self._requests(self.timeout),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level=_COMMITTED if committed else _UNCOMMITTED,
            max_partition_fetch_bytes=fetch_bytes,
            fetch_max_wait_ms=50,
            consumer_timeout_ms=LOOK_MS,
            client_rack=self._settings.kafka_client_rack,  # KIP-392
        )
        look_when_due(client)
        await self._started(client, discard_consumer)
        return client

    async def fetching(self, topics: Iterable[str]) -> AIOKafkaClient:
        """Return a connected client for fetches, which looks for the leaders of ``topics``.

        Raises:
            ConfigurationError: Kafka refuses the connection because of a setting.
            TransportUnavailable: Kafka can't be reached.
        """
        client = _FetchingClient(list(topics), **self._options, **self._requests(self.timeout))
        await self._started(client, discard_client)
        return client

    async def certificates(self, nodes: Iterable[tuple[str, int]]) -> list[Certificate]:
        """Return the certificates that these nodes show, and our own; empty without TLS.

        A node that can't be reached is left out.
        """
        context: ssl.SSLContext | None = self._options["ssl_context"]
        if context is not None:
            await asyncio.gather(*(self._greet(host, port) for host, port in nodes))
        return certificates_of(context, own="KAFKA_SSL_CERTFILE")

    async def _greet(self, host: str, port: int) -> None:
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            await (await self._connection(host, port)).close()

    async def _connection(self, host: str, port: int) -> Any:
        """Return a plain connection to one node. Raises aiokafka's error, or the system's."""
        options = {k: v for k, v in self._options.items() if k in {"client_id", *OPTIONS}}
        return await create_conn(host, port, **options, **self._requests(self.timeout))

    def _common(self, settings: TransportSettings) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.servers,
            "client_id": "crossfade",
            "metadata_max_age_ms": _METADATA_MAX_AGE_MS,
            **security_options(settings),
        }

    @staticmethod
    def _requests(seconds: float) -> dict[str, int]:
        return {"request_timeout_ms": round(seconds * 1000)}

    async def _started(self, client: Any, discard: Callable[[Any], Awaitable[None]]) -> None:
        try:
            await start(client, within=self.timeout)
        except BaseException as error:
            await discard(client)
            # Any error has a reason: aiokafka raises TypeError for an answer that is not Kafka's.
            if isinstance(error, TransportError) or not isinstance(error, Exception):
                raise
            reason = await self._reason(error)
            raise reason from reason.__cause__ or error

    async def _reason(self, error: BaseException) -> TransportError:
        """Find out why no client could start. aiokafka hides the reason, so connect once more."""
        if not isinstance(error, KafkaConnectionError | TimeoutError):
            return translate(error, starting=True)
        # If a plain connection works, the listener may speak another protocol.
        found = self._explained(error, self.servers)
        for host, port, _family in collect_hosts(self.servers):
            unknown = await self._unknown(host, port)
            if unknown is not None:
                found = unknown
                continue
            try:
                connection = await self._connection(host, port)
            except Exception as cause:  # noqa: BLE001 - aiokafka may raise any
                found = self._explained(cause, f"{host}:{port}")
                if isinstance(found, ConfigurationError):
                    break
            else:
                with contextlib.suppress(KafkaError, OSError):
                    await connection.close()
        return found

    async def _unknown(self, host: str, port: int) -> TransportUnavailable | None:
        """Return the error if ``host`` has no address, else ``None``."""
        try:
            async with asyncio.timeout(self.timeout):
                await look_up(host, port)
        except socket.gaierror as error:
            why = error.strerror or "unknown"
        except TimeoutError:
            why = f"no name server answered within {self.timeout:g} s"
        else:
            return None
        return TransportUnavailable(
            f"there is no host {host!r} ({why}): check KAFKA_BOOTSTRAP_SERVERS={self.servers}, and "
            "that Kafka runs there (in containers: --profile kafka starts it)"
        )

    def _explained(self, cause: BaseException, address: str) -> TransportError:
        if isinstance(cause, ssl.SSLCertVerificationError):
            kind = TransportUnavailable if is_out_of_date(cause) else ConfigurationError
            return kind(f"{address}: {translate(cause)}")
        if isinstance(cause, ssl.SSLError):
            return ConfigurationError(
                f"{address} does not speak TLS, or no version of it that we support ({cause}): "
                "check KAFKA_SECURITY_PROTOCOL"
            )
        if isinstance(cause.__cause__, ConfigurationError):  # no token could be obtained
            return cause.__cause__
        told = translate(cause, starting=True)
        if isinstance(told, TransportUnavailable):
            protocol = self._settings.kafka_security_protocol
            if "SSL" in protocol and isinstance(cause, KafkaConnectionError):
                # With TLS 1.3 the client learns only after the handshake that its certificate was
                # refused.
                told = TransportUnavailable(
                    "it closed the connection: if it asks clients for a certificate, check "
                    f"KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE ({cause})"
                )
            told = TransportUnavailable(f"{address}, KAFKA_SECURITY_PROTOCOL={protocol}: {told}")
            told.__cause__ = cause
        return told

"""The transport's settings, from the environment. Names are the deployment guide's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator

from transport.environment_settings import EnvironmentSettings
from transport.errors import ConfigurationError
from transport.host_ports import host, servers
from transport.log_name import MOST_PARTITIONS, LogName
from transport.redis_url import RedisUrl
from transport.secret_file import must_hold_secret

__all__ = ["ADDRESSES", "TransportSettings"]

ADDRESSES = {
    "redis": ("redis_host", "redis_port", "redis_stream_db"),
    "kafka": ("kafka_bootstrap_servers",),
}
"""The settings with the address of logs, by their kind."""

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,240}")
Port = Annotated[int, Field(ge=1, le=65535)]


class TransportSettings(EnvironmentSettings):
    """The settings of the logs: their kinds, their addresses, their readers."""

    transport: str = "redis"
    """The primary log: ``redis``, ``kafka``, ``memory``, or a transport of a third party; then
    ``@32`` if it has 32 partitions and not ``STREAM_PARTITIONS``. ``redis`` and ``redis@32`` are
    two logs, with streams of their own."""
    consume_from: str | None = None
    """The log that the workers read; the primary if unset."""
    transport_shadow: str | None = None
    """A second log that also gets every message; none if unset."""
    other_logs: str | None = None
    """More logs, separated by commas: logs that a migration goes to or came from. Their own
    settings may then be there already, or still, while no other setting names these logs."""
    transport_shadow_mode: Literal["async", "sync"] = "async"
    """``async``: messages are copied after the acknowledgement, which is not delayed. ``sync``:
    both logs have the message before it is acknowledged."""
    transport_shadow_timeout_ms: Annotated[int, Field(ge=50, le=120_000)] = 5000
    """The time limit of one append to the shadow; after it the outcome is unknown."""
    transport_shadow_queue_records: Annotated[int, Field(ge=1, le=1_000_000)] = 5000
    """The most copies of one partition that wait for the shadow; more are dropped and counted."""
    transport_shadow_queue_bytes: Annotated[int, Field(ge=1 << 20)] = 64 << 20
    """The most bytes of copies, of all partitions together, that wait for the shadow."""
    transport_shadow_flush_ms: Annotated[int, Field(ge=0, le=120_000)] = 3000
    """At shutdown, the time to go on sending waiting copies."""
    transport_shadow_settle_ms: Annotated[int, Field(ge=0, le=600_000)] = 10_000
    """The time that a copy may take to arrive before parity, and its gate, report it missing."""

    redis_url: SecretStr | None = None
    """The address of Redis in one line, instead of REDIS_HOST and REDIS_PORT:
    ``redis://user:password@host:6379/1``, ``rediss://`` for TLS, ``redis://host1,host2/0`` for a
    cluster, by any of its servers, or ``redis+sentinel://host1,host2:26379/name`` for the primary
    that sentinels name (``rediss`` for TLS with all of them). Parts that it leaves out come from
    their own settings."""
    redis_host: str = "localhost"
    """The host of Redis: a name or an address."""
    redis_port: Port = 6379
    """Its port."""
    redis_username: str | None = None
    """The ACL user; the user ``default`` if unset. See docs/redis.md for the rights that it
    needs."""
    redis_password: SecretStr | None = None
    """Its password."""
    redis_password_file: str | None = None
    """A file with the password, in place of ``REDIS_PASSWORD``. It is read for each new connection,
    so it may be replaced at any time."""
    redis_stream_db: Annotated[int, Field(ge=0)] = 1
    """The number of the database with the streams. A cluster of Redis has only database 0."""
    redis_tls: bool = False
    """Whether to connect with TLS."""
    redis_tls_ca_file: str | None = None
    """PEM file of the authorities to trust; the system's if unset."""
    redis_tls_cert_file: str | None = None
    """PEM file of our certificate, for a server that asks its clients for one."""
    redis_tls_key_file: str | None = None
    """PEM file of that certificate's key; if unset, the key is in REDIS_TLS_CERT_FILE."""
    redis_sentinel_username: str | None = None
    """The ACL user at the sentinels, if they have one of their own."""
    redis_sentinel_password: SecretStr | None = None
    """The sentinels' own password. The passwords in REDIS_URL and REDIS_PASSWORD are the
    server's."""
    redis_sentinel_password_file: str | None = None
    """A file with the sentinels' own password, read for each new connection."""
    redis_wait_replicas: Annotated[int, Field(ge=0, le=64)] = 0
    """The number of replicas that must confirm an append before it is acknowledged (``WAIT``). If
    fewer do within half of REDIS_TIMEOUT_MS, its outcome is unknown, and clients retry."""
    redis_pool_size: Annotated[int, Field(ge=4, le=1024)] = 64
    """The most connections of this process to Redis, or to each primary of a cluster. Each owned
    partition may use one."""
    redis_timeout_ms: Annotated[int, Field(ge=50, le=600_000)] = 5000
    """The time to wait for a reply. After it the connection is closed, and the outcome unknown."""
    redis_rescue_seconds: Annotated[float, Field(ge=0, le=60)] = 10.0
    """The time for which this process keeps its own appends, up to 32 MB. If a failover loses
    acknowledged messages, they are appended again from there, in their order, before new ones. 0:
    none are kept."""

    kafka_bootstrap_servers: str = "localhost:9092"
    """Brokers to ask for the others, separated by commas: ``host:port,host:port``. Name more than
    one, so that a start does not depend on one broker."""
    kafka_topic: str = "msg.stream"
    """The topic of messages and receipts. It is created if it is missing."""
    kafka_dlq_topic: str = "msg.dlq"
    """The topic of dead letters. It is created if it is missing."""
    kafka_group_prefix: str | None = None
    """The prefix of our groups' names, as in ``team-a.persistence-workers``. Set it if two
    installations share a cluster, or if our rights are for a prefix. After a change of the prefix
    the workers read the log again from its beginning, which makes no row twice."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Whether to encrypt (``SSL``), to log in (``SASL``), or both. A log-in needs
    KAFKA_SASL_MECHANISM."""
    kafka_sasl_mechanism: (
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None
    ) = None
    """How to log in: ``PLAIN``, ``SCRAM-SHA-256``, ``SCRAM-SHA-512``, or ``OAUTHBEARER`` with
    KAFKA_OAUTH_PROVIDER."""
    kafka_sasl_username: str | None = None
    """The user, for ``PLAIN`` and SCRAM."""
    kafka_sasl_password: SecretStr | None = None
    """The user's password."""
    kafka_sasl_password_file: str | None = None
    """A file with the password, in place of ``KAFKA_SASL_PASSWORD``. It is read for each new
    connection, so it may be replaced at any time."""
    kafka_oauth_provider: str | None = None
    """The provider of tokens for ``OAUTHBEARER``: ``oidc`` (a token endpoint), ``file``,
    ``aws-msk-iam``, or a provider of a third party."""
    kafka_oauth_token_url: str | None = None
    """``oidc``: the token endpoint, which takes a client id and a secret."""
    kafka_oauth_client_id: str | None = None
    """``oidc``: the client id."""
    kafka_oauth_client_secret: SecretStr | None = None
    """``oidc``: the secret of the client id."""
    kafka_oauth_scope: str | None = None
    """``oidc``: the scope of the token, if the endpoint asks for one."""
    kafka_oauth_token_file: str | None = None
    """``file``: the file with the token, which another program renews."""
    kafka_oauth_extensions: str | None = None
    """Pairs to send with a token, separated by commas, such as ``logicalCluster=lkc-1``."""
    kafka_aws_region: str | None = None
    """``aws-msk-iam``: the cluster's region. Credentials come from the usual chain of AWS."""
    kafka_ssl_cafile: str | None = None
    """PEM file of the authorities to trust; the system's if unset."""
    kafka_ssl_certfile: str | None = None
    """PEM file of our own certificate and its chain, for brokers that ask for one."""
    kafka_ssl_keyfile: str | None = None
    """PEM file of that certificate's key; if unset, the key is in KAFKA_SSL_CERTFILE."""
    kafka_ssl_keyfile_password: SecretStr | None = None
    """The password of the key, if the key is encrypted."""
    kafka_client_rack: str | None = None
    """The rack of this process, such as its availability zone. It reads from a replica there, if
    the brokers have a ``replica.selector.class``."""
    kafka_replication_factor: Annotated[int, Field(ge=1)] = 1
    """The replicas of each partition of a topic that is created. Set 3 where there are three
    brokers."""
    kafka_min_insync_replicas: Annotated[int, Field(ge=1)] | None = None
    """The replicas that must have an append before it is acknowledged; if unset, all but one (at
    least 1)."""
    kafka_retention_ms: Annotated[int, Field(ge=-1)] = 7 * 24 * 3600 * 1000
    """The time that Kafka keeps a record, read or not; -1 keeps it for ever."""
    kafka_timeout_ms: Annotated[int, Field(ge=500, le=120_000)] = 5000
    """The time that Kafka may take to acknowledge; after it the outcome is unknown."""
    kafka_compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    """The codec of batches. It saves network and disk, and costs processor time on both sides."""

    stream_partitions: Annotated[int, Field(ge=1, le=MOST_PARTITIONS)] = 16
    """The number of partitions of a log whose name doesn't state it. It can't be changed once
    messages exist."""
    stream_poll_interval_ms: Annotated[int, Field(ge=10, le=60_000)] = 5000
    """The longest wait of an idle worker. New records wake it at once, so this adds no latency."""
    stream_retention_seconds: Annotated[int, Field(ge=0)] = 300
    """Redis: the time that a record stays once it is a row. Others always stay."""
    stream_retention_records: Annotated[int, Field(ge=0)] = 10_000
    """Redis: the most records with a row that stay in a partition, whatever their age."""
    idempotency_ttl_seconds: Annotated[int, Field(ge=1)] = 300
    """The least time that the log remembers a key. It is only a cache: PostgreSQL decides."""

    _labelled: Mapping[str, TransportSettings] = PrivateAttr(default_factory=dict)

    def with_labels(self, labelled: Mapping[str, TransportSettings]) -> Self:
        """Return these settings with those of labelled logs, by label."""
        made = self.model_copy()
        made._labelled = labelled  # noqa: SLF001 - of this class
        return made

    @property
    def labelled(self) -> Mapping[str, TransportSettings]:
        """The settings of labelled logs, by label."""
        return self._labelled

    @property
    def redis(self) -> RedisUrl:
        """The address of Redis, from ``REDIS_URL`` and the settings of each part."""
        secret = self.redis_password
        own = RedisUrl(
            servers=((self.redis_host, self.redis_port),),
            tls=self.redis_tls,
            database=self.redis_stream_db,
            username=self.redis_username,
            password=secret.get_secret_value() if secret else None,
        )
        if self.redis_url is None:
            return own
        return RedisUrl.parse(self.redis_url.get_secret_value()).over(own)

    def address_fields(self, kind: str) -> tuple[str, ...]:
        """Return the settings with the address of logs of ``kind``; empty if there are none."""
        if kind == "redis" and self.redis_url:
            return ("redis_url",)
        return ADDRESSES.get(kind, ())

    def place(self, kind: str) -> tuple[object, ...]:
        """Return the address of logs of ``kind`` as a tuple to compare; empty if unknown."""
        if kind == "redis":
            redis = self.redis
            return (*sorted(redis.servers), redis.master, redis.database)
        return tuple(getattr(self, field) for field in ADDRESSES.get(kind, ()))

    @property
    def consumed(self) -> str:
        """The name of the log that workers read."""
        return self.consume_from or self.transport

    @property
    def others(self) -> list[str]:
        """The names in ``OTHER_LOGS``."""
        return [name.strip() for name in (self.other_logs or "").split(",") if name.strip()]

    @property
    def logs(self) -> set[str]:
        """The names of all logs that are written or read."""
        return {self.transport, self.consumed, self.transport_shadow or self.transport}

    @property
    def kinds(self) -> set[str]:
        """The kinds of the logs without a label that are written or read."""
        names = map(LogName.parse, self.logs)
        return {name.kind for name in names if name.label is None}

    def of(self, name: LogName) -> TransportSettings:
        """Return the settings of one log.

        Raises:
            ConfigurationError: its label has no settings.
        """
        own = self if name.label is None else self._labelled.get(name.label)
        if own is None:
            address = ADDRESSES.get(name.kind)
            remedy = f"set {f'LOG_{name.label}_{address[0]}'.upper()}, or " if address else ""
            raise ConfigurationError(
                f"{name} is to have settings of its own, and there is none: {remedy}leave the "
                "label out"
            )
        count = name.partitions or self.stream_partitions
        return own.model_copy(update={"stream_partitions": count})

    @property
    def token_extensions(self) -> dict[str, str]:
        """The pairs in ``KAFKA_OAUTH_EXTENSIONS``."""
        pairs = (self.kafka_oauth_extensions or "").split(",")
        parts = (pair.partition("=") for pair in pairs if pair.strip())
        return {name.strip(): value.strip() for name, _, value in parts}

    @field_validator("redis_host")
    @classmethod
    def _redis_host_is_one(cls, value: str) -> str:
        return host(value)

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _kafka_servers_are_some(cls, value: str) -> str:
        return servers(value)

    @field_validator("kafka_topic", "kafka_dlq_topic")
    @classmethod
    def _topic_is_a_name(cls, value: str) -> str:
        # Kafka's rule, less the room for a number of partitions after the name.
        if not _TOPIC.fullmatch(value) or value in {".", ".."}:
            raise ValueError("a topic's name is of a-z, A-Z, 0-9, '.', '_' and '-', 240 at most")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_url_is_one(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None or not url.get_secret_value():
            return None
        RedisUrl.parse(url.get_secret_value())
        return url

    @model_validator(mode="after")
    def _passwords_are_there(self) -> Self:
        for field, other in (
            ("redis_password_file", self.redis.password),
            ("redis_sentinel_password_file", self.redis_sentinel_password),
            ("kafka_sasl_password_file", self.kafka_sasl_password),
        ):
            if path := getattr(self, field):
                must_hold_secret(path, field.upper(), is_given=bool(other))
        return self

    @model_validator(mode="after")
    def _redis_tls_is_whole(self) -> Self:
        files = ("redis_tls_ca_file", "redis_tls_cert_file", "redis_tls_key_file")
        given = [name.upper() for name in files if getattr(self, name)]
        if given and not self.redis.tls:
            raise ValueError(
                f"{given[0]} is for TLS, which is off: set REDIS_TLS=true or a REDIS_URL that "
                "begins with rediss, or unset it"
            )
        if self.redis_tls_key_file and not self.redis_tls_cert_file:
            raise ValueError(
                "REDIS_TLS_KEY_FILE needs REDIS_TLS_CERT_FILE, the certificate that it is for"
            )
        return self

    @model_validator(mode="after")
    def _replicas_are_enough(self) -> Self:
        needed, there = self.kafka_min_insync_replicas or 1, self.kafka_replication_factor
        if needed > there:
            raise ValueError(
                f"KAFKA_MIN_INSYNC_REPLICAS={needed} is more than "
                f"KAFKA_REPLICATION_FACTOR={there}: no append would ever be accepted; set both "
                "before the topics are made, such as 2 and 3"
            )
        return self

    @model_validator(mode="after")
    def _topics_are_two(self) -> Self:
        if self.kafka_topic == self.kafka_dlq_topic:
            raise ValueError(
                f"KAFKA_DLQ_TOPIC={self.kafka_dlq_topic} is also KAFKA_TOPIC: give dead letters a "
                "topic of their own, or they come back as messages"
            )
        return self

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> Self:
        if not self.kafka_security_protocol.startswith("SASL"):
            return self
        if self.kafka_sasl_mechanism == "OAUTHBEARER":
            needed: dict[str, object] = {"KAFKA_OAUTH_PROVIDER": self.kafka_oauth_provider}
        else:
            needed = {
                "KAFKA_SASL_MECHANISM": self.kafka_sasl_mechanism,
                "KAFKA_SASL_USERNAME": self.kafka_sasl_username,
                "KAFKA_SASL_PASSWORD": self.kafka_sasl_password or self.kafka_sasl_password_file,
            }
        if not all(needed.values()):
            *others, last = needed
            names = f"{', '.join(others)} and {last}" if others else last
            mechanism = f" with {self.kafka_sasl_mechanism}" if not others else ""
            raise ValueError(
                f"KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}{mechanism} needs {names}"
            )
        return self

    @model_validator(mode="after")
    def _extensions_are_pairs(self) -> Self:
        # RFC 7628, 3.1: names are letters; "auth" is the token's own.
        for name, value in self.token_extensions.items():
            if not (name.isascii() and name.isalpha()) or name == "auth" or not value:
                raise ValueError(
                    f"KAFKA_OAUTH_EXTENSIONS has {name!r}: give pairs such as "
                    "logicalCluster=lkc-1,identityPoolId=pool-2"
                )
        return self
